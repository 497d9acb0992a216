"""Losses and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import Array


def log_softmax(logits: Array) -> Array:
    """Logarithm of the softmax over the last axis, safe for any finite logits.

    Examples
    --------
    >>> log_softmax(np.array([0.0, 0.0])).round(4)
    array([-0.6931, -0.6931])
    """
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def cross_entropy(
    logits: Array, targets: Array, *, gradient: bool = True, overwrite: bool = False, smoothing: float = 0.0
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
        Whether the gradient may take the place of the logits; the native engine then needs no memory for it.
    smoothing : float
        Share of the target's probability that is spread over all V symbols (Szegedy et al. 2016, section 7).

    Returns
    -------
    loss : float
        Mean over the N = T B targets, summed in float64.
    dlogits : (T, B, V)

    Examples
    --------
    >>> loss, dlogits = cross_entropy(np.zeros((1, 2, 4)), np.array([[0, 3]]))
    >>> round(loss, 4), dlogits[0, 0]
    (1.3863, array([-0.375,  0.125,  0.125,  0.125]))
    """
    count = targets.size
    d = np.exp(logits - logits.max(axis=-1, keepdims=True))
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)
    total = d.sum(axis=-1, keepdims=True)
    nats = np.log(total) + logits.max(axis=-1, keepdims=True) - picked
    # Complex logits (the derivative proofs) have a complex loss; sums of real ones are taken in float64.
    loss = nats.sum(dtype=np.result_type(nats.dtype, np.float64)) / count
    d /= total * count
    flat = d.reshape(-1, d.shape[-1])
    if smoothing:
        d -= smoothing / (count * d.shape[-1])
    flat[np.arange(count), targets.ravel()] -= flat.dtype.type((1 - smoothing) / count)
    return loss if np.iscomplexobj(loss) else float(loss), d


def confidence(logits: Array, targets: Array) -> Any:
    """Mean over targets y of z_y - mean(z), z being the logits.

    Label smoothing adds `smoothing` times this to the cross-entropy: (1 - s) (log Z - z_y) + s (log Z - mean(z)).

    Examples
    --------
    >>> float(confidence(np.array([[[4.0, 0.0]]]), np.array([[0]])))
    2.0
    """
    picked = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return (picked - logits.mean(axis=-1)).mean()


def activation_penalty(y: Array) -> tuple[Any, Array]:
    """Mean square of outputs y (T, B, H) and its gradient: what AR weighs (Merity, McCann & Socher 2017).

    Examples
    --------
    >>> value, dy = activation_penalty(np.array([[[3.0, -1.0]]]))
    >>> float(value), dy.tolist()
    (5.0, [[[3.0, -1.0]]])
    """
    return (y * y).mean(), y * (2 / y.size)


def temporal_penalty(y: Array, starts: Array | None = None) -> tuple[Any, Array]:
    """Mean square of y[t + 1] - y[t], y being (T, B, H), and its gradient: what TAR weighs (the same paper).

    A single step has no difference: 0. Nor has a document's first step one to what was before: `starts` (T, B), bool.

    Examples
    --------
    >>> value, dy = temporal_penalty(np.array([[[1.0]], [[3.0]], [[3.0]]]))
    >>> float(value), dy.ravel().tolist()
    (2.0, [-2.0, 2.0, 0.0])
    """
    change, size = np.diff(y, axis=0), y[1:].size
    if starts is not None:
        size -= int(starts[1:].sum()) * y.shape[-1]
        change = np.where(starts[1:, :, None], y.dtype.type(0), change)
    slope, dy = change * (2 / max(1, size)), np.zeros_like(y)
    dy[:-1] -= slope
    dy[1:] += slope
    return (change * change).sum() / max(1, size), dy
