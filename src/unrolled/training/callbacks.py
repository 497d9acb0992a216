"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .state import Evaluation


@dataclass(frozen=True)
class Progress:
    """One step's figures: losses in nats a target, the gradient's norm before clipping, times in seconds."""

    step: int
    steps: int
    epoch: float
    loss: float
    rate: float
    gradient_norm: float
    symbols_per_second: float
    seconds: float
    seconds_left: float


@dataclass
class Result:
    """The outcome of a run."""

    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    symbols_per_second: float = 0.0
    interrupted: bool = False
    signal: int | None = None
    """The signal that interrupted it, if it was one."""
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    test: dict[str, float] | None = None
    """Figures of the best model on the test part."""
    yardsticks: dict[str, Any] | None = None
    """What the validation part gives to counts of the training part, and to `xz`: of a language model, where anybody is
    told how its run goes."""

    @property
    def test_loss(self) -> float | None:
        """Loss of the best model on the test part, None without one."""
        return None if self.test is None else self.test["loss"]


@dataclass(frozen=True)
class Facts:
    """Facts known before the first step.

    Attributes
    ----------
    name : str
        What the data is called.
    notes : tuple of str
        What was noticed while it was read.
    unit : str
        What a target is: "character", "word".
    size : str
        How much data there is, in words: "43,100 characters".
    about : tuple of pairs (label, line)
        The data in a few lines.
    model : Model
    options : Options
    plan : str
        How the data is read: "50 lanes x 50 steps".
    out : Path or None
    step : int
        Above 0 where a run goes on.
    use : str
        What to do with a model: the command, with {model} in its file's place.
    task : str
        What the kind of model is asked for by.
    sha256 : str
        Of the data as a network sees it.
    """

    name: str
    notes: tuple[str, ...]
    unit: str
    size: str
    about: tuple[tuple[str, str], ...]
    model: Any
    options: Any
    plan: str
    out: Path | None
    step: int = 0
    use: str = ""
    task: str = "language"
    sha256: str = ""


class Callback:
    """Is told how a run goes; every method may be overridden.

    `stepped`, `evaluated` and `rolled_back` may return True: the run then ends there, as if its steps were over.

    Examples
    --------
    >>> class UntilGood(Callback):
    ...     def evaluated(self, evaluation, best):
    ...         return evaluation.train_loss < 0.1
    """

    def started(self, facts: Facts) -> None:
        """Called once, before the first step."""

    def stepped(self, progress: Progress) -> bool | None:
        """Called after every step."""

    def resumed(self, progress: Progress) -> None:
        """Called once where a run goes on, with the figures of its last step; the gradient's norm is not known."""

    def evaluated(self, evaluation: Evaluation, best: bool) -> bool | None:
        """Called after every validation."""

    def rolled_back(self, why: str, step: int, factor: float) -> bool | None:
        """Called when a divergence led back to an earlier step, at `factor` times the scheduled rate."""

    def sampled(self, text: str) -> None:
        """Called with a line from the model, after a validation."""

    def saved(self, step: int) -> None:
        """Called after every checkpoint: first before the first step, or where a run goes on."""

    def noted(self, label: str, line: str) -> None:
        """Called with what a line is about, and the line: of runs within a run, such as the folds of a validation."""

    def finished(self, result: Result, out: Path | None) -> None:
        """Called once, when the run is over or interrupted and all is saved."""


def tell(callbacks: Sequence[Callback], event: str, *args: Any) -> bool:
    """Tell each of several, in their order: `tell(callbacks, "saved", 7)` calls `callback.saved(7)`.

    Return whether any of them returned True.
    """
    return any([getattr(callback, event)(*args) for callback in callbacks])  # a list: all of them are told
