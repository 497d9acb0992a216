"""Update rules, and what clipping needs: each rule is one pure function of a parameter, its gradient and its moments.

A rule's text is run here on arrays; on symbols it gives the engine's kernels (see `unrolled.codegen`). So it has
+ - * / and numpy.sqrt, and what changes from step to step only is worked out before: its constants.
Letters: p parameter, g gradient; m, v, s, u moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array

PART = 1 << 14
"""Numbers that are worked on at a time, about: what is in between then stays in the cache."""


class Rule(NamedTuple):
    """An update rule: step(p, g, moments, constants) -> p, moments; and the names of the moments and the constants."""

    name: str
    step: Callable[[Any, Any, Sequence[Any], Sequence[Any]], tuple[Any, Sequence[Any]]]
    moments: tuple[str, ...]
    constants: tuple[str, ...]


def sgd(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """p <- p - rate g."""
    (rate,) = constants
    return p - g * rate, ()


def momentum(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """v <- momentum v + new g; p <- p - rate v."""
    (v,), (rate, keep, new) = moments, constants
    v = v * keep + g * new
    return p - v * rate, (v,)


def nesterov(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """v <- momentum v + g; p <- p - rate (momentum v + g)."""
    (v,), (rate, keep) = moments, constants
    v = v * keep + g
    return p - (v * keep + g) * rate, (v,)


def adagrad(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """s <- s + g^2; p <- p - rate g / (sqrt(s) + eps)."""
    (s,), (rate, eps) = moments, constants
    s = s + g * g
    return p - g / (np.sqrt(s) + eps) * rate, (s,)


def rmsprop(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """s <- alpha s + (1 - alpha) g^2; p <- p - rate g / (sqrt(s) + eps)."""
    (s,), (rate, eps, alpha, new) = moments, constants
    s = s * alpha + g * g * new
    return p - g / (np.sqrt(s) + eps) * rate, (s,)


def adadelta(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """s <- rho s + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(s + eps); u <- rho u + (1 - rho) d^2; p <- p - rate d."""
    (s, u), (rate, eps, rho, new) = moments, constants
    s = s * rho + g * g * new
    d = np.sqrt(u + eps) / np.sqrt(s + eps) * g
    u = u * rho + d * d * new
    return p - d * rate, (s, u)


def adam(p: Any, g: Any, moments: Sequence[Any], constants: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- kept p - rate m / (sqrt(v) / root + eps).

    `rate` and `root` hold the corrections 1 - b1^t and sqrt(1 - b2^t); `kept` is 1, but for AdamW.
    """
    (m, v), (rate, eps, b1, new1, b2, new2, root, kept) = moments, constants
    m = m * b1 + g * new1
    v = v * b2 + g * g * new2
    return p * kept - m / (np.sqrt(v) / root + eps) * rate, (m, v)


SGD = Rule("sgd", sgd, (), ("rate",))
MOMENTUM = Rule("momentum", momentum, ("velocity",), ("rate", "momentum", "new"))
NESTEROV = Rule("nesterov", nesterov, ("velocity",), ("rate", "momentum"))
ADAGRAD = Rule("adagrad", adagrad, ("square_sum",), ("rate", "eps"))
RMSPROP = Rule("rmsprop", rmsprop, ("square_average",), ("rate", "eps", "alpha", "new"))
ADADELTA = Rule("adadelta", adadelta, ("square_average", "delta_average"), ("rate", "eps", "rho", "new"))
ADAM = Rule("adam", adam, ("m", "v"), ("rate", "eps", "beta1", "new1", "beta2", "new2", "root", "kept"))
RULES = (SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADADELTA, ADAM)


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
