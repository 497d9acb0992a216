"""Cross-validation: one run a fold, on all examples but its own, which it is tested on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import storage
from ..checks import Array
from ..data.examples import Labelled
from ..data.split import stratified_folds
from ..errors import Interrupted, UnrolledError, count
from ..training.callbacks import Callback, tell
from ..training.run_folder import FOLDS

Run = Callable[[Path | None, Array, Array], dict[str, float]]
"""Takes the folder of a fold's run and the numbers of the rows to train on and to test on; returns its test figures."""
Say = Callable[[str, str], None]
"""Takes what a line is about, and the line."""


def check_folds(labels: Sequence[Any], folds: int) -> None:
    """Refuse numbers of folds that leave one without examples."""
    if folds == 1 or folds > len(labels):
        raise UnrolledError(f"folds is {folds}; {count(len(labels), 'example')} make 2 to {len(labels):,} folds")


def cross_validate(
    run: Run, labels: Sequence[Any], folds: int, *, seed: int, out: Path | None, say: Say
) -> list[dict[str, float]]:
    """Run every fold that the folder doesn't know yet; return the figures of all.

    Rows are drawn into folds by the seed, so that each fold has all labels alike. A fold's run is in the folder
    `fold-1`, `fold-2`, ... of `out`, their figures in its `folds.json`.

    Examples
    --------
    >>> def run(folder, train, test):
    ...     return {"accuracy": len(test) / len(train)}
    >>> cross_validate(run, "aabb", 2, seed=1, out=None, say=lambda *line: print(*line))
    fold 1 of 2: accuracy 100.00 %
    fold 2 of 2: accuracy 100.00 %
    folds accuracy 100.00 % in the mean, standard deviation 0.00
    [{'accuracy': 1.0}, {'accuracy': 1.0}]
    """
    check_folds(labels, folds)
    numbers = stratified_folds(labels, folds, np.random.default_rng([seed, 2]))
    found = [] if out is None else read_figures(out)[:folds]
    for k, figures in enumerate(found):
        say("fold", f"{k + 1} of {folds}: {shown(figures)} (before)")
    for k in range(len(found), folds):
        try:
            figures = run(
                None if out is None else out / f"fold-{k + 1}",
                np.flatnonzero(numbers != k),
                np.flatnonzero(numbers == k),
            )
        except Interrupted:
            say("stopped", f"in fold {k + 1} of {folds}" + (f"; unrolled train --resume {out} goes on" if out else ""))
            raise
        if found and out is not None and figures.keys() != found[0].keys():
            raise _damaged(out / FOLDS)
        found.append(figures)
        say("fold", f"{k + 1} of {folds}: {shown(figures)}")
        if out is not None:
            write_figures(out, found)
    for line in summary(found):
        say("folds", line)
    return found


def read_figures(out: Path) -> list[dict[str, float]]:
    """Return the figures of the folds that are done."""
    path = out / FOLDS
    if not path.exists():
        return []
    try:
        content = json.loads(storage.read_file(path, "figures"))
        found = [{name: float(value) for name, value in fold.items()} for fold in content["folds"]]
        if any(
            not fold or fold.keys() != found[0].keys() or not all(map(math.isfinite, fold.values())) for fold in found
        ):
            raise ValueError
        return found
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise _damaged(path) from None


def _damaged(path: Path) -> UnrolledError:
    """Return what to say of figures that can't be those of folds."""
    return UnrolledError(f"{path} is damaged; delete it, and the folds are run again")


def summary(folds: Sequence[dict[str, float]]) -> list[str]:
    """Return the mean and the standard deviation of every figure of folds, a line each.

    Examples
    --------
    >>> summary([{"accuracy": 0.75, "loss": 0.5}, {"accuracy": 0.85, "loss": 0.7}])
    ['accuracy 80.00 % in the mean, standard deviation 7.07', 'loss 0.6000 in the mean, standard deviation 0.1414']
    """
    lines = []
    for name in sorted(folds[0], key=lambda name: (name == "loss", name)):
        values = np.array([fold[name] for fold in folds])
        mean, deviation = float(values.mean()), float(values.std(ddof=1))
        spread = f"{deviation:.4f}" if name == "loss" else f"{100 * deviation:.2f}"
        lines.append(f"{_figure(name, mean)} in the mean, standard deviation {spread}")
    return lines


def shown(figures: dict[str, float]) -> str:
    """Return figures in a line."""
    return ", ".join(_figure(name, figures[name]) for name in sorted(figures, key=lambda name: (name == "loss", name)))


def _figure(name: str, value: float) -> str:
    said = name.replace("_", " ").replace("f1", "F1")
    return f"{said} {value:.4f}" if name == "loss" else f"{said} {100 * value:.2f} %"


def write_figures(out: Path, folds: Sequence[dict[str, float]]) -> None:
    """Write the figures of folds, with their mean and standard deviation."""
    values = {name: np.array([fold[name] for fold in folds]) for name in (folds[0] if folds else ())}
    content = {
        "folds": list(folds),
        "mean": {name: float(values[name].mean()) for name in values},
        "standard_deviation": {name: float(values[name].std(ddof=1)) if len(folds) > 1 else 0.0 for name in values},
    }
    storage.write_atomically(out / FOLDS, json.dumps(content, indent=2).encode() + b"\n")


def validated(
    cls: Any,
    examples: Labelled,
    options: Any,
    out: Path | None,
    callbacks: Sequence[Callback],
    backend: str,
) -> list[dict[str, float]]:
    """Cross-validate, with the options of the run itself; return the figures of each fold."""
    asked = asdict(options) | {"folds": 0, "test_fraction": 0.0, "tensorboard": False}

    def run(folder: Path | None, train: Array, test: Array) -> dict[str, float]:
        part, held = examples.part(train), examples.part(test)
        how: Any = {"out": folder, "overwrite": True, "callbacks": (), "verbose": False, "backend": backend}
        model = cls._train(part, None, held, asked, **how)
        assert model.result is not None
        return dict(model.result.test or {})

    def say(label: str, line: str) -> None:
        tell(callbacks, "noted", label, line)

    return cross_validate(run, examples.labels or (), options.folds, seed=options.seed, out=out, say=say)
