"""The native backend of `unrolled.reference.updates`: one call for all arrays, where they are whole and of one kind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...checks import Array
from ...reference import updates
from ...rules import Rule
from .arrays import contiguous, of_dtype, runs


def update(
    rule: Rule,
    params: Sequence[Array],
    grads: Sequence[Array],
    moments: Sequence[Sequence[Array]],
    constants: Sequence[float],
    decay: float,
) -> None:
    """Make one step of a rule in place, as `updates.update`: to the same bits, but for denormals, which are 0 here.

    Examples
    --------
    >>> p = np.array([1.0, -2.0])
    >>> from unrolled.rules import SGD
    >>> update(SGD, [p], [np.array([0.5, 0.5])], [], [0.1], 0.0)
    >>> p
    array([ 0.95, -2.05])
    """
    if not (runs(*params, *grads) and all(map(_whole, (params, *moments)))):
        updates.update(rule, params, grads, moments, constants, decay)
        return
    given = [contiguous(g, g.dtype) for g in grads]
    of_dtype("update", params[0].dtype)(
        rule.name, list(params), given, [list(m) for m in moments], list(constants), decay
    )


def norm(arrays: Sequence[Array]) -> float:
    """Euclidean norm of all numbers, as `updates.norm`: summed in float64, in an order of its own.

    Examples
    --------
    >>> norm([np.array([3.0]), np.array([4.0])])
    5.0
    """
    if not runs(*arrays):
        return updates.norm(arrays)
    whole = [contiguous(a, a.dtype) for a in arrays]
    return math.sqrt(of_dtype("sum_of_squares", whole[0].dtype)(whole))


def scale(arrays: Sequence[Array], factor: float) -> None:
    """Multiply arrays in place, as `updates.scale`.

    Examples
    --------
    >>> a = np.array([3.0, 4.0])
    >>> scale([a], 0.5)
    >>> a
    array([1.5, 2. ])
    """
    if not (runs(*arrays) and _whole(arrays)):
        updates.scale(arrays, factor)
        return
    of_dtype("scale", arrays[0].dtype)(list(arrays), factor)


def _whole(arrays: Sequence[Array]) -> bool:
    """Whether the engine can change these arrays where they are."""
    return all(a.flags.carray for a in arrays)
