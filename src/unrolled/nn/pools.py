"""What a head shows of a stack's outputs: every step, or one row of each sequence; forward beside backward.

Letters: T steps, B rows of the batch, H the stack's outputs, both directions together.

Each takes outputs y (T, B, H), lengths (B,) or None, the network's parameters and the stack's directions. A row whose
sequence is over has outputs 0 there, and a stack passes over any gradient of them; so a sum need not ask which steps
are padding, but for their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array
from ..errors import UnrolledError
from .inputs import steps_within

Params = Mapping[str, Array]
Shapes = dict[str, tuple[int, ...]]
NOTHING: Params = {}
QUERY = "head.query"


def every_step(y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1) -> Array:
    """Return y (T, B, H)."""
    return y


def every_step_backward(
    drows: Array, y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1
) -> tuple[Array, Params]:
    """Return the gradient as it is."""
    return drows, NOTHING


def last_step(y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1) -> Array:
    """Return each row's last step, (B, H), zeros where it has none; of a second direction, which ends there, its first.

    Examples
    --------
    >>> y = np.arange(12.0).reshape(3, 2, 2)
    >>> last_step(y, np.array([3, 1])).tolist(), last_step(y, np.array([3, 1]), directions=2).tolist()
    ([[8.0, 9.0], [2.0, 3.0]], [[8.0, 1.0], [2.0, 3.0]])
    """
    check_steps(y)
    shown: Array = y[_ends(lengths), np.arange(y.shape[1])]
    if directions == 2:
        shown[:, shown.shape[1] // 2 :] = y[0, :, shown.shape[1] // 2 :]
    return shown


def last_step_backward(
    drows: Array, y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1
) -> tuple[Array, Params]:
    """drows (B, H) -> dy (T, B, H)."""
    dy, width = np.zeros(y.shape, drows.dtype), drows.shape[1] // directions
    dy[_ends(lengths), np.arange(len(drows)), :width] = drows[:, :width]
    dy[0, :, width:] = drows[:, width:]
    return dy, NOTHING


def _ends(lengths: Array | None) -> Any:
    """Last steps; of a row of length 0 the last of all, whose outputs are 0."""
    return -1 if lengths is None else lengths.astype(int) - 1


def mean_of_steps(y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1) -> Array:
    """Return the mean over each row's steps, (B, H); zeros where a row has none."""
    check_steps(y)
    return np.asarray(y.sum(axis=0) / _counts(y, lengths))


def mean_of_steps_backward(
    drows: Array, y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1
) -> tuple[Array, Params]:
    """drows (B, H) -> dy (T, B, H)."""
    return np.repeat((drows / _counts(y, lengths))[None], len(y), axis=0), NOTHING


def _counts(y: Array, lengths: Array | None) -> Any:
    """Steps of each row, (B, 1), at least 1."""
    kind = y.real.dtype
    return kind.type(len(y)) if lengths is None else np.maximum(lengths, 1)[:, None].astype(kind)


def max_of_steps(y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1) -> Array:
    """Return the largest output of each unit over a row's steps, (B, H); zeros where a row has none.

    Examples
    --------
    >>> max_of_steps(np.array([[[-2.0, 4.0]], [[-1.0, 3.0]], [[0.0, 0.0]]]), np.array([2])).tolist()
    [[-1.0, 4.0]]
    """
    check_steps(y)
    return np.asarray(np.take_along_axis(y, _largest(y, lengths), axis=0)[0])


def max_of_steps_backward(
    drows: Array, y: Array, lengths: Array | None, params: Params = NOTHING, directions: int = 1
) -> tuple[Array, Params]:
    """drows (B, H) -> dy (T, B, H): all to the first of the largest."""
    dy = np.zeros(y.shape, drows.dtype)
    np.put_along_axis(dy, _largest(y, lengths), drows[None], axis=0)
    return dy, NOTHING


def _largest(y: Array, lengths: Array | None) -> Array:
    """Steps (1, B, H) of the largest outputs, the first of several; complex ones (the proofs) by their real part."""
    live = True if lengths is None else steps_within(lengths, len(y))[..., None]
    return np.asarray(np.where(live, y.real, -np.inf).argmax(axis=0)[None])


def attention(y: Array, lengths: Array | None, params: Params, directions: int = 1) -> Array:
    """Return the mean over each row's steps by weights a, (B, H), zeros where a row has none.

    a = softmax over the row's steps of q . y, with one trained query q (H,) for all rows: the dot score of Luong, Pham
    & Manning 2015 (section 3.1), asked by a vector of the network's own as in Yang et al. 2016 (equation 9).

    Examples
    --------
    >>> y = np.array([[[3.0, 1.0]], [[5.0, 2.0]], [[0.0, 0.0]]])
    >>> attention(y, np.array([2]), {"head.query": np.array([0.0, np.log(3)])}).tolist()
    [[4.5, 1.75]]
    """
    check_steps(y)
    return np.asarray((_attention(y, lengths, params)[..., None] * y).sum(axis=0))


def attention_backward(
    drows: Array, y: Array, lengths: Array | None, params: Params, directions: int = 1
) -> tuple[Array, Params]:
    """drows (B, H) -> dy (T, B, H), and the gradient of the query (H,)."""
    a, q = _attention(y, lengths, params), params[QUERY]
    apart = y - (a[..., None] * y).sum(axis=0)  # what all steps share cancels exactly
    dscores = a * (apart * drows).sum(axis=-1)
    dy = a[..., None] * drows + dscores[..., None] * q
    return dy, {QUERY: np.tensordot(dscores, apart, axes=2)}


def _attention(y: Array, lengths: Array | None, params: Params) -> Array:
    """Weights of steps (T, B); zeros of a row without steps."""
    scores = y @ params[QUERY]
    live = np.ones(scores.shape, bool) if lengths is None else steps_within(lengths, len(y))
    most = np.where(live, scores.real, -np.inf).max(axis=0, initial=np.finfo(scores.real.dtype).min)
    a = np.exp(np.where(live, scores - most, -np.inf))
    return np.asarray(a / np.where(live.any(axis=0), a.sum(axis=0), a.dtype.type(1)))


def check_steps(y: Array) -> None:
    """Refuse outputs without a step, of which no row can be shown."""
    if not len(y):
        raise UnrolledError("x has no steps; a head that shows one row of each sequence needs 1 or more")


def none_of_its_own(width: int, outputs: int) -> Shapes:
    """Return no parameters."""
    return {}


def query_shape(width: int, outputs: int) -> Shapes:
    """Return the parameter of attention."""
    return {QUERY: (width,)}


class Pool(NamedTuple):
    """One row of each sequence: how it is made of the stack's outputs, its gradient, and parameters of its own."""

    select: Callable[..., Array]
    select_backward: Callable[..., tuple[Array, Params]]
    shapes: Callable[[int, int], Shapes] = none_of_its_own


POOLS = {
    "last": Pool(last_step, last_step_backward),
    "mean": Pool(mean_of_steps, mean_of_steps_backward),
    "max": Pool(max_of_steps, max_of_steps_backward),
    "attention": Pool(attention, attention_backward, query_shape),
}
EVERY = Pool(every_step, every_step_backward)
