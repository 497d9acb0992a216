"""Learning-rate schedules: the rate of an update as a function of how far a run has come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ..checks import Ranges, check_number, check_options, check_size, check_weight, is_number
from ..errors import UnrolledError, brief, listed, suggest

_RANGES: Ranges = (
    dict.fromkeys(("decay", "factor"), ("above 0 and at most 1", lambda v: 0 < v <= 1))
    | dict.fromkeys(("warmup", "patience"), ("a whole number, 0 or more", lambda v: v >= 0 and v == int(v)))
    | {"after": ("0 or more", lambda v: v >= 0), "every": ("above 0", lambda v: v > 0)}
    | {"floor": ("from 0 to 1", lambda v: 0 <= v <= 1)}
    | {"total": ("a whole number, 1 or more", lambda v: v >= 1 and v == int(v))}
)


class Schedule:
    """A learning rate as a function of how far a run has come; constant, unless it says otherwise.

    Parameters
    ----------
    base_rate : float
        Rate at the start.
    **options
        Those of the schedule (see `defaults`).
    """

    name: ClassVar[str] = "constant"
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, base_rate: float, **options: float) -> None:
        self.base = check_weight("learning rate", base_rate)
        self.options = check_options(f"the {self.name} schedule", self.defaults, options, _RANGES)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value:g}" for name, value in self.options.items())
        return f"{type(self).__name__}(base_rate={self.base:g}{options})"

    def rate(self, step: int, epoch: float, time: float = 0.0) -> float:
        """Return the learning rate of an update.

        Parameters
        ----------
        step : int
            Number of the update; the first is 0.
        epoch : float
            Epochs done.
        time : float
            Share of the time of the run that is used, where it has a limit.

        Raises
        ------
        UnrolledError
            If one is no number, or negative.
        """
        return self._rate(check_size("step", step, 0), check_weight("epoch", epoch), check_weight("time", time))

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""

    def state_dict(self) -> dict[str, float | None]:
        """Return what the schedule remembers, as JSON-able numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Restore `state_dict`'s numbers."""
        if not isinstance(state, Mapping):
            raise UnrolledError(f"the state is a {type(state).__name__}; expected a dictionary, as state_dict gives it")
        if state.keys() != self.state_dict().keys():
            raise UnrolledError(
                f"the state holds {listed(state) or 'nothing'}; "
                f"the {self.name} schedule's holds {', '.join(sorted(self.state_dict())) or 'nothing'}"
            )


class Exponential(Schedule):
    """rate = base decay^n: decayed at the end of every epoch from number `after` on (char-rnn: 0.97 from the 10th).

    As char-rnn decays at the end of whole epochs only, the first one has the full rate, even with after=0.
    """

    name = "exponential"
    defaults: ClassVar = {"decay": 0.97, "after": 10}

    def _rate(self, step: int, epoch: float, time: float) -> float:
        first = max(1, math.ceil(self.options["after"]))
        return self.base * float(self.options["decay"] ** max(0, math.floor(epoch) - first + 1))


class Step(Schedule):
    """rate = base factor^n, n the times that `every` epochs are done."""

    name = "step"
    defaults: ClassVar = {"every": 5, "factor": 0.5}

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base * float(self.options["factor"] ** (epoch // self.options["every"]))


class Cosine(Schedule):
    """Linear warm-up over `warmup` steps, then half a cosine down to `floor` x base at step `total`.

    The arc is that of Loshchilov & Hutter 2017 (SGDR) without restarts. `total` has to be given. Where `warmup` is not
    below it, all is warm-up. Of a run with a time limit, the larger of the shares of steps and of time is what is done.

    Examples
    --------
    >>> schedule = make_schedule("cosine", 0.1, total=100)
    >>> [round(schedule.rate(step, 0, time), 6) for step, time in [(50, 0), (50, 0.25), (2, 0.5), (2, 1.1)]]
    [0.05, 0.05, 0.05, 0.0]
    """

    name = "cosine"
    defaults: ClassVar = {"warmup": 0, "total": 0, "floor": 0.0}

    def __init__(self, base_rate: float, **options: float) -> None:
        super().__init__(base_rate, **options)
        if not self.options["total"]:
            raise UnrolledError("the cosine schedule needs total, the number of steps it runs over")

    def _rate(self, step: int, epoch: float, time: float) -> float:
        warmup, total, floor = self.options["warmup"], self.options["total"], self.options["floor"]
        if step < warmup:
            return self.base * (step + 1) / warmup
        done = min(1.0, max(time, (step - warmup) / max(1, total - warmup)))
        return self.base * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


class Plateau(Schedule):
    """Multiply the rate by `factor` when the loss has not fallen for more than `patience` evaluations.

    Examples
    --------
    >>> schedule = make_schedule("plateau", 0.1, factor=0.5, patience=1)
    >>> for loss in (2.0, 2.1, 2.2):
    ...     schedule.observe(loss)
    >>> schedule.rate(300, 1.5), schedule.state_dict()
    (0.05, {'best': 2.0, 'bad': 0, 'scale': 0.5})
    """

    name = "plateau"
    defaults: ClassVar = {"factor": 0.5, "patience": 0}

    def __init__(self, base_rate: float, **options: float) -> None:
        super().__init__(base_rate, **options)
        self.best, self.bad, self.scale = math.inf, 0, 1.0

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base * self.scale

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""
        if not is_number(loss) and not isinstance(loss, (float, np.floating)):  # these may be infinite, or no number
            raise UnrolledError(f"the loss is {brief(loss)}; expected a number")
        if loss < self.best:
            self.best, self.bad = float(loss), 0
            return
        self.bad += 1
        if self.bad > self.options["patience"]:
            self.bad, self.scale = 0, self.scale * self.options["factor"]

    def state_dict(self) -> dict[str, float | None]:
        """Return the best loss (None before the first), evaluations since, and scale."""
        return {"best": self.best if math.isfinite(self.best) else None, "bad": self.bad, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Restore `state_dict`'s numbers."""
        super().load_state_dict(state)
        best, bad, scale = state["best"], state["bad"], state["scale"]
        of = "of the plateau schedule's state"
        best = math.inf if best is None else check_number(f"best {of}", best)
        self.best, self.bad, self.scale = best, check_size(f"bad {of}", bad, 0), check_weight(f"scale {of}", scale)


SCHEDULES: dict[str, type[Schedule]] = {s.name: s for s in (Schedule, Exponential, Step, Cosine, Plateau)}


def make_schedule(name: str, base_rate: float, **options: float) -> Schedule:
    """Return the schedule of that name.

    Examples
    --------
    >>> schedule = make_schedule("exponential", 2e-3, decay=0.97, after=10)
    >>> schedule.rate(0, 9.9), round(schedule.rate(0, 10), 6)
    (0.002, 0.00194)
    """
    if not isinstance(name, str) or name not in SCHEDULES:
        raise UnrolledError(suggest("schedule", name, list(SCHEDULES)))
    return SCHEDULES[name](base_rate, **options)
