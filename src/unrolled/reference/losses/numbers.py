"""Losses of numbers, and their gradients: of one output a number, of several quantiles of it, of its distribution.

Letters: z outputs, y targets, K numbers a row. A target that is NaN is not known, and counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...checks import Array, as_floats, check_positive
from ...errors import UnrolledError, brief
from .weighing import mean_of


def squared_error(
    outputs: Any, targets: Any, *, gradient: bool = True, weights: Any | None = None
) -> tuple[float, Array]:
    """Mean of (z - y)², and its gradient.

    Parameters
    ----------
    outputs : (..., K)
    targets : (..., K), or (...) where K is 1
        NaN where one is not known: it counts nothing.
    gradient : bool
        Without it the gradient is not worked out, and holds zeros.
    weights : (...) or (..., K), optional
        What each row, or each number, counts, 0 or more. What has weight 0 (padding) is left out, whatever it is.

    Returns
    -------
    loss : float
        Mean over all numbers, or over the sum of their weights, summed in float64.
    doutputs : (..., K)

    Examples
    --------
    >>> loss, doutputs = squared_error(np.array([[3.0], [5.0]]), [1, 0], weights=[1, 0])
    >>> loss, doutputs.tolist()
    (4.0, [[4.0], [0.0]])
    """

    def each(z: Array, y: Array) -> tuple[Array, Array]:
        error = z[:, 0] - y
        return error * error, 2 * error[:, None]

    return mean_of(each, outputs, targets, weights, gradient=gradient)


def huber(
    outputs: Any, targets: Any, *, delta: float = 1.0, gradient: bool = True, weights: Any | None = None
) -> tuple[float, Array]:
    """Mean of e² / 2 where |e| <= delta, else delta (|e| - delta / 2), of errors e = z - y (Huber 1964).

    A single wild target pulls with delta at most, whatever its distance.

    Parameters
    ----------
    delta : float
        Where squares end, in the targets' own unit.
    outputs, targets, gradient, weights
        As in `squared_error`.

    Returns
    -------
    loss : float
    doutputs : (..., K)

    Examples
    --------
    >>> loss, doutputs = huber(np.array([[0.5, 9.0]]), np.zeros((1, 2)))
    >>> loss, doutputs.tolist()  # (0.125 + 8.5) / 2
    (4.3125, [[0.25, 0.5]])
    """
    limit = check_positive("delta", delta)

    def each(z: Array, y: Array) -> tuple[Array, Array]:
        error = z[:, 0] - y
        bounded = np.where(error.real > limit, limit, np.where(error.real < -limit, -limit, error))
        return bounded * (error - bounded / 2), bounded[:, None]

    return mean_of(each, outputs, targets, weights, gradient=gradient)


def quantile(
    outputs: Any,
    targets: Any,
    quantiles: Sequence[float] = (0.1, 0.5, 0.9),
    *,
    gradient: bool = True,
    weights: Any | None = None,
) -> tuple[float, Array]:
    """Mean of max(q e, (q - 1) e), of e = y - z for each quantile q: what is least at the quantile itself.

    Koenker & Bassett 1978. A target above its 0.9-quantile costs nine times as much as one as far below it.

    Parameters
    ----------
    outputs : (..., K Q)
        Q quantiles of the first number, then of the next.
    targets : (..., K), or (...) where K is 1
    quantiles : Q numbers between 0 and 1, rising
    gradient, weights
        As in `squared_error`.

    Returns
    -------
    loss : float
        Mean over numbers and quantiles.
    doutputs : (..., K Q)

    Examples
    --------
    >>> loss, doutputs = quantile(np.array([[2.0, 2.0]]), [[3.0]], (0.5, 0.9))
    >>> round(loss, 4), doutputs.round(4).tolist()
    (0.7, [[-0.25, -0.45]])
    """
    q = np.array(check_quantiles(quantiles))

    def each(z: Array, y: Array) -> tuple[Array, Array]:
        error = y[:, None] - z
        slope = np.where(error.real > 0, q, q - 1).astype(z.real.dtype)
        return (slope * error).mean(axis=1), -slope / z.real.dtype.type(len(q))

    return mean_of(each, outputs, targets, weights, gradient=gradient, inner=len(q))


def check_quantiles(quantiles: Any) -> tuple[float, ...]:
    """Return quantiles as floats, or say what is wrong with them.

    Examples
    --------
    >>> check_quantiles([0.9, 0.1])
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: quantiles are [0.9, 0.1]; expected numbers above 0 and below 1, rising
    """
    try:
        found = as_floats("quantiles", quantiles)
    except UnrolledError:
        found = np.zeros(0)
    if found.ndim != 1 or not found.size or found.dtype.kind != "f" or not (np.diff([0, *found, 1]) > 0).all():
        raise UnrolledError(f"quantiles are {brief(quantiles)}; expected numbers above 0 and below 1, rising")
    return tuple(float(q) for q in found)


SPREAD = 7.0
"""Bound of the logarithm of a Gaussian's standard deviation, both ways: from 0.0009 to 1,097 of the targets' unit."""


def log_scale(s: Array) -> Array:
    """Return the logarithm of the standard deviation of outputs s: SPREAD tanh(s / SPREAD), nearly s where |s| < 2.

    A likelihood has no bound: where targets repeat (a pump that stands still), the mean meets them, the deviation falls
    to 0 and the loss to minus infinity. A cut at the bound would have the gradient 0 behind it, from where nothing
    leads back; this has one everywhere, so that complex steps prove it too.
    """
    return np.asarray(SPREAD * np.tanh(s / SPREAD))


def gaussian(outputs: Any, targets: Any, *, gradient: bool = True, weights: Any | None = None) -> tuple[float, Array]:
    """Mean negative log-likelihood in nats: ((y - m) / sigma)² / 2 + log sigma + log(2 pi) / 2 (Nix & Weigend 1994).

    Parameters
    ----------
    outputs : (..., 2 K)
        K means m, then K numbers s; log sigma = `log_scale` (s).
    targets : (..., K), or (...) where K is 1
    gradient, weights
        As in `squared_error`.

    Returns
    -------
    loss : float
    doutputs : (..., 2 K)

    Examples
    --------
    >>> loss, doutputs = gaussian(np.array([[2.0, 0.0]]), [[3.0]])
    >>> round(loss, 4), doutputs.tolist()
    (1.4189, [[-1.0, 0.0]])
    """
    z = as_floats("outputs", outputs, 1)
    rows, size = z.shape[:-1], z.shape[-1] // 2
    if 2 * size != z.shape[-1]:
        raise UnrolledError(f"outputs have shape {z.shape}; expected means, and as many deviations behind them")

    def each(pair: Array, y: Array) -> tuple[Array, Array]:
        log_sigma = log_scale(pair[:, 1])
        error = (pair[:, 0] - y) * np.exp(-log_sigma)
        bent = 1 - (log_sigma / SPREAD) ** 2  # the slope of tanh
        value = error * error / 2 + log_sigma + math.log(2 * math.pi) / 2
        return value, np.stack([error * np.exp(-log_sigma), (1 - error * error) * bent], axis=1)

    pairs = z.reshape(*rows, 2, size).swapaxes(-1, -2).reshape(z.shape)  # each mean beside its deviation
    loss, d = mean_of(each, pairs, targets, weights, gradient=gradient, inner=2)
    return loss, d.reshape(*rows, size, 2).swapaxes(-1, -2).reshape(z.shape)
