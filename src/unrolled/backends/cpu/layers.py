"""The native backend around the recurrence: linear layers, softmax cross-entropy, embeddings.

Each function has its reference in `unrolled.reference.layers` or `losses`, and that one's contract.
"""

from __future__ import annotations

import numpy as np

from ...checks import Array, check_fraction
from ...errors import Unsupported
from ...reference import layers
from ...reference.layers import check_gradient, check_linear, check_tokens
from ...reference.losses.classes import check_targets, weighted
from .arrays import contiguous, empty, matrix, of_dtype, padded_width, runs


def _refuse(*arrays: Array | None) -> None:
    """Refuse what the engine does not work on."""
    if not runs(*arrays):
        dtypes = ", ".join(dict.fromkeys(str(a.dtype) for a in arrays if a is not None))
        raise Unsupported(f"cpu works on arrays of one dtype, float32 or float64; got {dtypes}. Use backend='auto'.")


def linear(weight: Array, bias: Array | None, x: Array, *, rounds: bool = False) -> Array:
    """x W^T + b, as `layers.linear`.

    Examples
    --------
    >>> linear(np.ones((3, 2)), np.zeros(3), np.array([[1.0, 2.0]]))
    array([[3., 3., 3.]])
    """
    weight, bias, x = check_linear(weight, bias, x)
    _refuse(weight, bias, x)
    if not (x.size and weight.size):  # nothing to multiply
        return layers.linear(weight, bias, x, rounds=rounds)
    flat = matrix(x, x.dtype)
    y = empty((len(flat), padded_width(len(weight), x.dtype)), x.dtype)
    size = [len(flat), x.shape[-1], len(weight), rounds]
    of_dtype("linear", x.dtype)(
        size, flat, contiguous(weight, x.dtype), None if bias is None else contiguous(bias, x.dtype), y
    )
    return y[:, : len(weight)].reshape(*x.shape[:-1], len(weight))


def linear_backward(weight: Array, x: Array, dy: Array, *, rounds: bool = False) -> tuple[Array, Array, Array]:
    """Gradients of x, the weight and the bias, as `layers.linear_backward`.

    Examples
    --------
    >>> dx, dweight, dbias = linear_backward(np.ones((3, 2)), np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 2.0]]))
    >>> dx, dweight.tolist(), dbias
    (array([[3., 3.]]), [[1.0, 2.0], [0.0, 0.0], [2.0, 4.0]], array([1., 0., 2.]))
    """
    weight, _, x = check_linear(weight, None, x)
    dy = check_gradient(dy, weight, x)
    _refuse(weight, x, dy)
    if not (x.size and weight.size):
        return layers.linear_backward(weight, x, dy, rounds=rounds)
    rows, inputs, outputs = x.size // x.shape[-1], x.shape[-1], len(weight)
    dx = empty((rows, padded_width(inputs, x.dtype)), x.dtype)
    dweight, dbias = empty(weight.shape, x.dtype), empty((outputs,), x.dtype)
    of_dtype("linear_backward", x.dtype)(
        [rows, inputs, outputs, rounds],
        matrix(x, x.dtype),
        contiguous(weight, x.dtype),
        matrix(dy, dy.dtype),
        dx,
        dweight,
        dbias,
    )
    return dx[:, :inputs].reshape(x.shape), dweight, dbias


def embed_backward(tokens: Array, dx: Array, size: int) -> Array:
    """Rows of dx summed by token, as `layers.embed_backward`.

    Examples
    --------
    >>> embed_backward(np.array([[2], [0], [2]]), np.array([[[1.0]], [[2.0]], [[3.0]]]), 3).T
    array([[2., 0., 4.]])
    """
    tokens, dx = check_tokens(tokens, dx, size)
    _refuse(dx)
    table = empty((size, dx.shape[-1]), dx.dtype)
    index = contiguous(tokens.reshape(-1), np.int64)
    of_dtype("embed_backward", dx.dtype)(index, matrix(dx, dx.dtype), table)
    return table


def cross_entropy(
    logits: Array,
    targets: Array,
    *,
    gradient: bool = True,
    overwrite: bool = False,
    smoothing: float = 0.0,
    weights: Array | None = None,
) -> tuple[float, Array]:
    """Mean softmax cross-entropy in nats and its gradient, as `losses.cross_entropy`.

    Examples
    --------
    >>> loss, dlogits = cross_entropy(np.zeros((1, 2, 4)), np.array([[0, 3]]))
    >>> round(loss, 4), dlogits[0, 0]
    (1.3863, array([-0.375,  0.125,  0.125,  0.125]))
    """
    if weights is not None:
        return weighted(cross_entropy, logits, targets, weights, gradient=gradient, smoothing=smoothing)
    logits, targets = check_targets(logits, targets)
    _refuse(logits)
    smoothing = check_fraction("smoothing", smoothing)
    flat = matrix(logits, logits.dtype)
    wanted = contiguous(targets.reshape(-1), np.int64)
    nats = np.empty(len(flat))
    own = overwrite and flat.flags.writeable and np.may_share_memory(flat, logits)
    d = flat if own else empty(flat.shape, logits.dtype)
    of_dtype("cross_entropy", logits.dtype)(flat, wanted, 1 / targets.size, smoothing, nats, d if gradient else None)
    return float(nats.sum()) / targets.size, d.reshape(logits.shape)
