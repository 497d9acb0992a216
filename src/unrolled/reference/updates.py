"""The update of parameters by a rule, and what clipping needs, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..checks import Array
from ..rules import Rule

PART = 1 << 14
"""Numbers that are worked on at a time, about: what is in between then stays in the cache."""


def update(
    rule: Rule,
    params: Sequence[Array],
    grads: Sequence[Array],
    moments: Sequence[Sequence[Array]],
    constants: Sequence[float],
    decay: float,
) -> None:
    """Make one step of a rule on parameters and their moments, in place.

    Parameters
    ----------
    rule : Rule
    params, grads : sequence of arrays
        Gradients have the parameters' shapes, and are not changed.
    moments : sequence of sequences of arrays
        For each moment of the rule, one array a parameter.
    constants : sequence of float
        Of the rule, in its order.
    decay : float
        decay p is added to g first.

    Examples
    --------
    >>> from unrolled.rules import MOMENTUM
    >>> p, v = np.array([1.0, -2.0]), np.zeros(2)
    >>> update(MOMENTUM, [p], [np.array([0.5, 0.5])], [[v]], [0.1, 0.9, 1.0], 0.0)
    >>> p, v
    (array([ 0.95, -2.05]), array([0.5, 0.5]))
    """
    for n, whole in enumerate(params):
        for part in _parts(whole):
            p, held = whole[part], [moment[n][part] for moment in moments]
            g = grads[n][part].astype(p.dtype, copy=False)
            if decay:
                g = p * decay + g
            p[...], moved = rule.step(p, g, held, constants)
            for m, new in zip(held, moved, strict=True):
                m[...] = new


def _parts(a: Array) -> Iterator[Any]:
    """Yield indices that cut an array along its first axis into parts of about `PART` numbers."""
    if a.size <= PART:
        yield ...
        return
    rows = max(1, PART * len(a) // a.size)
    yield from (slice(start, start + rows) for start in range(0, len(a), rows))


def norm(arrays: Iterable[Array]) -> float:
    """Euclidean norm of all numbers of these arrays together, summed in float64 in their order.

    Examples
    --------
    >>> norm([np.array([3.0]), np.array([4.0])])
    5.0
    """
    with np.errstate(over="ignore"):  # an infinite norm says it
        return math.sqrt(sum(_sum_of_squares(a.ravel("K")) for a in arrays))


def _sum_of_squares(flat: Array) -> float:
    """Sum of the squares in float64 of (N,): halves are added as NumPy itself does, without a copy of the whole."""
    if len(flat) <= PART:
        return float(np.square(flat, dtype=np.float64).sum())
    half = len(flat) // 16 * 8
    return _sum_of_squares(flat[:half]) + _sum_of_squares(flat[half:])


def scale(arrays: Iterable[Array], factor: float) -> None:
    """Multiply arrays in place.

    Examples
    --------
    >>> a = np.array([3.0, 4.0])
    >>> scale([a], 0.5)
    >>> a
    array([1.5, 2. ])
    """
    for a in arrays:
        a *= factor
