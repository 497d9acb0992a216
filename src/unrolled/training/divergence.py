"""The divergence of a run: what has gone wrong with its numbers, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..checks import Array
from ..errors import UnrolledError
from .clipping import first_nonfinite

ROLLBACKS = 3
"""Divergences of a run that lead back to the last good step, each halving the learning rate; one more ends it."""

EXPLODED = 10
"""A loss above this many times that of guessing has diverged: nothing is that hard to predict."""


class Diverged(Exception):
    """The numbers went wrong; the message says where."""


class KeptDiverging(UnrolledError):
    """A run was given up: its numbers went wrong at lower rates too.

    Parameters
    ----------
    why : str
        What went wrong, at which step.
    kept : str
        What is kept of the run, and what to try.
    """

    def __init__(self, why: str, kept: str) -> None:
        super().__init__(f"{why}. {kept}")
        self.why = why


def described(step: int, what: str, loss: float, params: Mapping[str, Array], grads: Mapping[str, Array]) -> Diverged:
    """Return the error that says at which step and in which tensor the numbers went wrong."""
    bad = first_nonfinite(params)
    where = f"{bad} holds values that are not finite" if bad else ""
    if not where and (bad := first_nonfinite(grads)):
        where = f"the gradient of {bad} is not finite"
    if not where and grads:
        norms = {name: float(np.linalg.norm(g)) for name, g in grads.items()}
        largest = max(norms, key=norms.__getitem__)
        where = f"the largest gradient is that of {largest}, norm {norms[largest]:.3g}"
    if not where:
        peaks = {name: float(np.abs(p).max()) for name, p in params.items()}
        largest = max(peaks, key=peaks.__getitem__)
        where = f"the largest parameter, {peaks[largest]:.3g}, is in {largest}"
    said = "is not a number" if math.isnan(loss) else f"exploded to {loss:.4g} nats"
    if math.isfinite(loss) and loss < EXPLODED:
        said = f"is {loss:.4g} nats"
    return Diverged(f"stopped at step {step}: the {what} {said}; {where}")
