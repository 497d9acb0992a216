"""What a network's own outputs cost, beside the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checks import Array, as_array, as_floats, check_shape
from ...errors import UnrolledError


def activation_penalty(y: Array) -> tuple[Any, Array]:
    """Mean square of outputs y (T, B, H) and its gradient: what AR weighs (Merity, McCann & Socher 2017).

    Examples
    --------
    >>> value, dy = activation_penalty(np.array([[[3.0, -1.0]]]))
    >>> float(value), dy.tolist()
    (5.0, [[[3.0, -1.0]]])
    """
    y = as_floats("y", y, 3)
    return (y * y).sum() / max(1, y.size), y * (2 / max(1, y.size))


def temporal_penalty(y: Array, starts: Array | None = None) -> tuple[Any, Array]:
    """Mean square of y[t + 1] - y[t], y being (T, B, H), and its gradient: what TAR weighs (the same paper).

    A single step has no difference: 0. Nor has a document's first step one to what was before: `starts` (T, B), bool.

    Examples
    --------
    >>> value, dy = temporal_penalty(np.array([[[1.0]], [[3.0]], [[3.0]]]))
    >>> float(value), dy.ravel().tolist()
    (2.0, [-2.0, 2.0, 0.0])
    """
    y = as_floats("y", y, 3)
    change, size = np.diff(y, axis=0), y[1:].size
    if starts is not None:
        starts = as_array("starts", starts)
        check_shape("starts", starts, y.shape[:2], f"y of shape {y.shape}")
        if starts.dtype != bool:
            raise UnrolledError(f"starts are {starts.dtype}; expected bools, True where a document begins")
        size -= int(starts[1:].sum()) * y.shape[-1]
        change = np.where(starts[1:, :, None], y.dtype.type(0), change)
    slope, dy = change * (2 / max(1, size)), np.zeros_like(y)
    dy[:-1] -= slope
    dy[1:] += slope
    return (change * change).sum() / max(1, size), dy
