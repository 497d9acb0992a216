"""Losses of classes, one of V or several of K at once, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...checks import Array, as_array, as_floats, check_fraction, check_indices, check_shape
from ...errors import UnrolledError
from .weighing import mean_of, weighed


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis, safe for any finite logits.

    Examples
    --------
    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    logits = as_floats("logits", logits, 1)
    if not logits.shape[-1]:
        raise UnrolledError(f"logits have shape {logits.shape}; expected one symbol or more")
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def check_targets(logits: Any, targets: Any) -> tuple[Array, Array]:
    """Return logits (..., V) and targets (...) as arrays, or say what is wrong with them.

    There is no target that means "ignore": NumPy would take -1 as the last symbol.

    Raises
    ------
    UnrolledError
        If targets are no whole numbers, there are none, one is not below V, or shapes do not fit.

    Examples
    --------
    >>> check_targets(np.zeros((1, 2, 4)), [[0, -100]])
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: targets run from -100 to 0; they must be at least 0 and below 4
    """
    logits = as_floats("logits", logits, 1)
    targets = check_indices("targets", targets, logits.shape[-1])
    check_shape("targets", targets, logits.shape[:-1], f"logits of shape {logits.shape}")
    if not targets.size:
        raise UnrolledError(f"targets have shape {targets.shape}; a mean needs 1 or more")
    return logits, targets


def weighted(
    run: Callable[..., tuple[Any, Array]], logits: Any, targets: Any, weights: Any, **how: Any
) -> tuple[Any, Array]:
    """Mean cross-entropy over the sum of weights, from a function `run` of the plain mean.

    The rows whose weight is above 0 are gathered, and `run` sees no other. Where these weights differ, each row's
    gradient is scaled, and the loss is taken once more in NumPy.
    """
    logits, targets = as_floats("logits", logits, 1), as_array("targets", targets)
    check_shape("targets", targets, logits.shape[:-1], f"logits of shape {logits.shape}")
    chosen, shares = weighed(weights, targets.shape)
    size, d = logits.shape[-1], np.zeros(logits.shape, logits.dtype)
    rows, wanted = logits.reshape(-1, size)[chosen], targets.ravel()[chosen]
    even = (shares == shares[0]).all()
    loss, drows = run(rows, wanted, overwrite=even, **how)
    if not even:
        nats = -np.take_along_axis(log_softmax(rows), wanted[:, None], axis=-1)[:, 0]
        loss = (nats * shares).sum()
        drows = drows * (len(shares) * shares).astype(drows.real.dtype)[:, None]
    d.reshape(-1, size)[chosen] = drows
    return loss if np.iscomplexobj(loss) else float(loss), d


def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    gradient: bool = True,
    overwrite: bool = False,
    smoothing: float = 0.0,
    weights: Array | None = None,
) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats, fused with its gradient (softmax - one-hot) / N.

    With `smoothing` the gradient is that of the cross-entropy with smoothed targets, (1 - smoothing) one-hot +
    smoothing / V; the loss stays that of the targets themselves, so that it can be set beside every other one.

    Parameters
    ----------
    logits : (T, B, V)
    targets : (T, B) integers below V
    gradient : bool
        Without it only the loss is worked out, and `dlogits` holds nothing.
    overwrite : bool
        Whether the gradient may take the place of the logits, where they can be written to; the native engine then
        needs no memory for it.
    smoothing : float
        Share of the target's probability that is spread over all V symbols (Szegedy et al. 2016, section 7).
    weights : (T, B), optional
        What each target counts, 0 or more. Targets and logits of weight 0 (padding) are left out, whatever they are.

    Returns
    -------
    loss : float
        Mean over the N = T B targets, or over the sum of their weights, summed in float64.
    dlogits : (T, B, V)

    Raises
    ------
    UnrolledError
        As `check_targets`, or if `smoothing` is not in [0, 1).

    Examples
    --------
    >>> loss, dlogits = cross_entropy(np.zeros((1, 2, 4)), np.array([[0, 3]]))
    >>> round(loss, 4), dlogits[0, 0]
    (1.3863, array([-0.375,  0.125,  0.125,  0.125]))
    """
    if weights is not None:
        return weighted(cross_entropy, logits, targets, weights, gradient=gradient, smoothing=smoothing)
    logits, targets = check_targets(logits, targets)
    smoothing, count = check_fraction("smoothing", smoothing), targets.size
    logits = np.ascontiguousarray(logits)  # so that the gradient has C's order, and its rows can be written through
    d = np.exp(logits - logits.max(axis=-1, keepdims=True))
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)
    total = d.sum(axis=-1, keepdims=True)
    nats = np.log(total) + (logits.max(axis=-1, keepdims=True) - picked)
    # Complex logits (the derivative proofs) have a complex loss; sums of real ones are taken in float64.
    loss = nats.sum(dtype=np.result_type(nats.dtype, np.float64)) / count
    d /= total * count
    flat = d.reshape(-1, d.shape[-1])
    if smoothing:
        d -= smoothing / (count * d.shape[-1])
    flat[np.arange(count), targets.ravel()] -= flat.dtype.type((1 - smoothing) / count)
    return loss if np.iscomplexobj(loss) else float(loss), d


def confidence(logits: Array, targets: Array, weights: Array | None = None) -> Any:
    """Mean over targets y of z_y - mean(z), z being the logits; with weights, over their sum.

    Label smoothing adds `smoothing` times this to the cross-entropy: (1 - s) (log Z - z_y) + s (log Z - mean(z)).

    Examples
    --------
    >>> float(confidence(np.array([[[4.0, 0.0]]]), np.array([[0]])))
    2.0
    """
    if weights is not None:
        chosen, shares = weighed(weights, np.shape(targets))
        logits, targets = np.reshape(logits, (-1, np.shape(logits)[-1]))[chosen], np.ravel(targets)[chosen]
    logits, targets = check_targets(logits, targets)
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    each = picked - logits.mean(axis=-1)
    return each.mean() if weights is None else (each * shares).sum()


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-z)), safe for any finite logits z.

    Examples
    --------
    >>> sigmoid(np.array([-1e3, 0.0, 1e3])).tolist()
    [0.0, 0.5, 1.0]
    """
    z = as_floats("logits", logits)
    small = np.exp(np.where(z.real > 0, -z, z))
    return np.asarray(np.where(z.real > 0, 1, small) / (1 + small))


def bernoulli(logits: Any, targets: Any, *, gradient: bool = True, weights: Any | None = None) -> tuple[float, Array]:
    """Mean cross-entropy of yes-or-no labels in nats, of logits z: log(1 + exp(z)) - y z, and its gradient.

    It is max(z, 0) - y z + log(1 + exp(-|z|)), which overflows nowhere; the gradient is sigmoid(z) - y. Labels are on
    their own: any number of a row's K may be on. K times this is the loss a row, as it is given for piano rolls
    (Boulanger-Lewandowski, Bengio & Vincent 2012).

    Parameters
    ----------
    logits : (..., K)
    targets : (..., K), or (...) where K is 1
        0 or 1, or the probability of a 1; NaN where a label is not known: it counts nothing.
    gradient : bool
        Without it the gradient is not worked out, and holds zeros.
    weights : (...) or (..., K), optional
        What each row, or each label, counts, 0 or more. What has weight 0 (padding) is left out, whatever it is.

    Returns
    -------
    loss : float
        Mean over all labels, or over the sum of their weights, summed in float64.
    dlogits : (..., K)

    Raises
    ------
    UnrolledError
        If shapes don't fit, a label that counts is not from 0 to 1, or none counts.

    Examples
    --------
    >>> loss, dlogits = bernoulli(np.array([[0.0, 1e3]]), np.array([[True, True]]))
    >>> round(loss, 4), dlogits.tolist()
    (0.3466, [[-0.25, 0.0]])
    """

    def each(z: Array, y: Array) -> tuple[Array, Array]:
        if not ((y >= 0) & (y <= 1)).all():
            raise UnrolledError(f"targets run from {y.min():.9g} to {y.max():.9g}; labels are from 0 to 1")
        z, yes = z[:, 0], y.astype(z.real.dtype)
        above = z.real > 0
        value = np.where(above, z, 0) - yes * z + np.log1p(np.exp(np.where(above, -z, z)))
        return value, (sigmoid(z) - yes)[:, None]

    labels = as_array("targets", targets)
    labels = labels.astype(np.float32) if labels.dtype.kind == "b" else labels
    return mean_of(each, logits, labels, weights, gradient=gradient)
