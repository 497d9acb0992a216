"""Update rules: each one is one pure function of a parameter, its gradient and its moments, as a cell's functions are.

A rule's text runs on arrays (`unrolled.reference.updates`); on symbols it gives the engine's kernels (see
`unrolled.codegen`). So it has + - * / and numpy.sqrt, and what changes from step to step only is worked out before: its
constants. Letters: p parameter, g gradient; m, v, s, u moments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


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
