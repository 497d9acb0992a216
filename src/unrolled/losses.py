"""Losses and their gradients."""

from __future__ import annotations

import numpy as np

from .scan import Array


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
    logits: Array, targets: Array, *, gradient: bool = True, overwrite: bool = False
) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats, fused with its gradient (softmax - one-hot) / N.

    Parameters
    ----------
    logits : (T, B, V)
    targets : (T, B) integers below V
    gradient : bool
        Without it only the loss is worked out, and `dlogits` holds nothing.
    overwrite : bool
        Whether the gradient may take the place of the logits; the native engine then needs no memory for it.

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
    flat[np.arange(count), targets.ravel()] -= flat.dtype.type(1 / count)
    return loss if np.iscomplexobj(loss) else float(loss), d
