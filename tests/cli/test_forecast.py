"""Series at the command line: trained on, forecast, scored, drawn, and refused in one line."""

import json
from pathlib import Path

import numpy as np
import pytest

from unrolled.cli import main

SMALL = ["--hidden-size", "6", "--epochs", "1", "--batch-size", "8", "--sample-length", "8"]
ROWS = [
    f"{day},{a:.2f},{b:.2f}"
    for day, a, b in zip(
        np.datetime64("2024-01-01") + np.arange(90),
        20 + 4 * np.sin(np.arange(90) * 2 * np.pi / 7),
        np.arange(90) / 3,
        strict=True,
    )
]


@pytest.fixture
def said(capfd, tmp_path, monkeypatch):
    """Run a command in an empty folder: its exit status, what it printed, and what on standard error."""
    monkeypatch.chdir(tmp_path)
    Path("load.csv").write_text("\n".join(["day,load,heat", *ROWS]) + "\n")

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    return run


def test_a_series_is_trained_on_forecast_scored_described_and_gone_on_with(said):
    status, out, err = said("train", "load.csv", "--task", "forecast", "--target", "load", "--horizon", 7, *SMALL)
    assert status == 0, err
    for line in ("1 column: load", "a step is 1 day, a season 7 steps", "to beat", "coverage"):
        assert line in out + err
    assert said("predict", "runs/load", "load.csv", "-o", "next.csv")[0] == 0
    written = Path("next.csv").read_text().splitlines()
    assert written[0] == "day,series,forecast,low_80,high_80,low_95,high_95"
    assert [line.split(",")[0] for line in written[1:]] == [f"2024-03-{day:02}" for day in range(31, 32)] + [
        f"2024-04-{day:02}" for day in range(1, 7)
    ]
    figures = json.loads(said("score", "runs/load", "load.csv", "--json")[1])
    assert figures["windows"] == 90 - 28 - 7 + 1
    assert "last season (7)" in said("score", "runs/load", "load.csv")[1]
    assert "7 steps of 1 day from 28, direct" in said("info", "runs/load")[1]
    assert said("train", "--config", "runs/load/config.toml", "--out", "again")[0] == 0
    assert Path("again/model.safetensors").read_bytes() == Path("runs/load/model.safetensors").read_bytes()
    line = said("plot", "runs/load")[1]
    assert line.startswith("runs/load  ")
    assert "nats" not in line
    assert "mae" in said("compare", "runs/load", "again")[1]
    assert said("train", "--resume", "again", "--epochs", 2)[0] == 0


def test_forecasts_are_drawn(said):
    pytest.importorskip("matplotlib")
    said("train", "load.csv", "--targets", "all", "--horizon", 7, "--out", "run", *SMALL)
    assert said("plot", "run", "--on", "load.csv", "--out", "load.png")[0] == 0
    assert Path("load.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("change", "how", "message"),
    [
        ((), ["--target", "lod"], "load.csv: no column is called 'lod'; did you mean 'load'?"),
        ((), [], "load.csv: name what to forecast with --target: load, heat, or all"),
        ((), ["--target", "load", "--horizon", 80], "load has 90 steps, with 80 held out to validate and 80 to test"),
        (("2024-01-30,", "2024-01-29,"), ["--target", "load"], "line 31, 'day': the time stands there twice"),
        (("2024-01-30,", "2023-01-30,"), ["--target", "load"], "line 31, 'day': the time is before that of the row"),
        (("2024-01-30,", "2024-01-30,x"), ["--target", "load"], "line 31: 'load' is 'x"),
        (("2024-01-30,", "2024-01-30T05,"), ["--target", "load"], "line 31: the time lies beside the steps of 1 day"),
    ],
)
def test_what_will_not_do_is_said_in_one_line_and_nothing_is_left(said, change, how, message):
    if change:
        Path("load.csv").write_text(Path("load.csv").read_text().replace(*change))
    status, out, err = said("train", "load.csv", "--task", "forecast", *how, *SMALL)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("runs").exists()
