"""What smaller weights cost: a model's figures on the same data before it is rounded and after."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..cells import Cell
from ..data.text import read
from ..errors import UnrolledError
from ..training.trainer import Metrics
from . import files
from .base import load
from .language_data import as_learnt
from .language_model import LanguageModel
from .trained_on import is_of_run, run_again


class Cost(NamedTuple):
    """A rounded model, and what rounding did to its figures.

    Attributes
    ----------
    model : the rounded one
    before, after : dict
        Figures by name.
    judged : str
        Which of them decides: a loss.
    data : str
        What they are of.
    read : list of str
        The files that were read for them; of a run those that it trains and tests on too.
    """

    model: Any
    before: Metrics
    after: Metrics
    judged: str
    data: str
    read: Sequence[str]

    @property
    def rise(self) -> float:
        """By what share of the loss before that after is higher."""
        before, after = self.before[self.judged], self.after[self.judged]
        return (after - before) / (abs(before) or math.ulp(0.0)) if after != before else 0.0

    def check(self, limit: float) -> None:
        """Refuse a loss that rises by more than this share.

        Raises
        ------
        UnrolledError
            With the loss before and after.
        """
        if not self.rise <= limit:
            form = self.model.network.weights
            less = ", --weights bfloat16 loses less" if form == "int8" else ""
            raise UnrolledError(
                f"{form} raises the {self.judged} of {self.data} by {100 * self.rise:.3g}%, from "
                f"{self.before[self.judged]:.6g} to {self.after[self.judged]:.6g}, more than {100 * limit:g}%: "
                f"nothing is written; --limit allows more{less}"
            )


def quantized(
    path: str | os.PathLike[str],
    weights: str,
    paths: Sequence[str] = (),
    *,
    cell: str | Cell | None = None,
    **how: Any,
) -> Cost:
    """Return a model with smaller weights, and what that costs on files, or on what its run validates on.

    Parameters
    ----------
    path : path
        A float32 model, or the folder of its run.
    weights : str
        "bfloat16" or "int8".
    paths : list of str
        Files, as `unrolled score` takes them; none: the part that the run held out to validate.
    cell : Cell or str, optional
        As in `load`.
    **how
        As `unrolled.data.text.read` takes it, of a language model's files; lines that it learnt as documents are read
        so.

    Raises
    ------
    UnrolledError
        If the model or the data can't be read, the model can't be rounded, or there is nothing to score it on.
    """
    if weights == "float32":
        raise UnrolledError("weights of float32 are no smaller; choose bfloat16 or int8")
    model = load(path, cell=cell)
    if model.network.weights != "float32":
        raise UnrolledError(f"{path}: its weights are {model.network.weights} already")
    small = load(path, cell=cell, weights=weights)
    if "-" in paths:
        raise UnrolledError("the data is read twice, before and after rounding, which a pipe is not: name a file")
    if not paths:
        folder, prepared, read_again = _run(files.model_file(path), cell)
        before, after = (
            prepared.facts.model.with_params(one.network.params).evaluate(prepared.val) for one in (model, small)
        )
        return Cost(small, before, after, "loss", f"the validation part of {folder}", read_again)
    if isinstance(model, LanguageModel):
        corpus = read(paths, model.vocabulary.level, **(as_learnt(model.vocabulary) | how))
        before, after = ({"loss": one.score(corpus).nats} for one in (model, small))
    else:
        before, after = (_numbers(one.scored(list(paths)).figures) for one in (model, small))
    data = paths[0] if len(paths) == 1 else f"{len(paths)} files"
    return Cost(small, before, after, "loss" if "loss" in before else "mse", data, paths)


def _numbers(figures: Mapping[str, Any]) -> Metrics:
    """Return the figures that say how good a model is, without counts and tables."""
    return {name: value for name, value in figures.items() if isinstance(value, float) and name != "windows"}


def _run(file: Path, cell: str | Cell | None) -> tuple[Path, Any, list[str]]:
    """Return the folder of a model's run, that run with its data read once more, and the files of that."""
    folder = file.parent
    if not is_of_run(file):
        raise UnrolledError(
            f"there is no run beside {file} to validate as; name the data: unrolled quantize MODEL FILE"
        )
    prepared, before = run_again(folder, cell)
    if prepared.val is None:
        raise UnrolledError(f"{folder} held nothing out to validate; name the data: unrolled quantize MODEL FILE")
    return folder, prepared, [path for part in ("files", "val", "test") for path in before.source[part]]
