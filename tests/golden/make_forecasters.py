"""Write the forecasters that every later version must read: `python tests/golden/make_forecasters.py`.

As `make_models.py`: run once for a version of the file format; a new option adds files, nothing replaces one.
"""

import json
import sys
from pathlib import Path

import numpy as np

import unrolled as ur

HERE = Path(__file__).parent
FORECASTERS, NUMBERS = HERE / "forecasters", HERE / "forecasters.json"
CASES = {
    "months": {"target": "load"},
    "recurrent quantiles": {"target": "all", "output": "recurrent", "loss": "quantile", "apart": True},
    "known gaussian": {"target": "load", "known": "heat", "loss": "gaussian", "instance": "standard", "stride": 2},
}


def series(ahead=0):
    """Columns of a small table; with rows at its end that have no load."""
    n = np.arange(60)
    months = (np.datetime64("2019-11") + n).astype(str)
    load = [*(40 + n / 4 + 6 * np.cos(n * np.pi / 6))[: 60 - ahead].tolist(), *[None] * ahead]
    return {"month": months.tolist(), "load": load, "heat": (3 + np.sin(n * np.pi / 6)).tolist()}


def numbers(model):
    """What a model forecasts, and the ends of its bands."""
    forecast = model.forecast(series(ahead=4 if model.plan.columns.known else 0))
    ends = [end for both in forecast.bands.values() for end in both]
    return [forecast.values.ravel().tolist(), *(end.ravel().tolist() for end in ends)]


def file_of(name):
    return FORECASTERS / f"{name.replace(' ', '-')}.safetensors"


def main():
    """Write what is not there yet."""
    FORECASTERS.mkdir(exist_ok=True)
    said = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    sizes = {"horizon": 4, "context": 8, "segment": 2, "hidden_size": 3, "epochs": 1, "batch_size": 8, "dropout": 0.0}
    for name, options in CASES.items():
        if not file_of(name).exists():
            ur.Forecaster.train(series(), backend="reference", **sizes, **options).save(file_of(name))
            said[name] = numbers(ur.load(file_of(name), backend="reference"))
    NUMBERS.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
