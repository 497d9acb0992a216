"""The engine's arrays: from its own pool of memory, which serves every step anew, and padded to whole vectors."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np

from ...cells import Cell
from ...checks import Array
from ...reference import scan
from . import _engine

DTYPES = {np.dtype(np.float32): "32", np.dtype(np.float64): "64"}
"""The dtypes that the engine computes in, and how its functions' names end."""
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@cache
def of_dtype(name: str, dtype: Any) -> Any:
    """Return the engine's function or class of that name for a dtype.

    Examples
    --------
    >>> of_dtype("linear", "float32") is _engine.linear32
    True
    """
    return getattr(_engine, name + DTYPES[np.dtype(dtype)])


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array whose numbers are not set.

    Examples
    --------
    >>> empty((2, 3), "float32").shape
    (2, 3)
    """
    a: Array = of_dtype("empty", dtype)(shape)
    return a


def zeros(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of zeros.

    Examples
    --------
    >>> zeros((2,), "float64")
    array([0., 0.])
    """
    a = empty(shape, dtype)
    a.fill(0)
    return a


def vector_width(dtype: Any) -> int:
    """Numbers of a dtype in one vector.

    Examples
    --------
    >>> vector_width("float32") == 2 * vector_width("float64")
    True
    """
    return int(_engine.vector_bytes()) // int(np.dtype(dtype).itemsize)


def padded_width(n: int, dtype: Any) -> int:
    """Round n up to whole vectors.

    Examples
    --------
    >>> padded_width(5, "float32") % vector_width("float32")
    0
    """
    width = vector_width(dtype)
    return -(-n // width) * width


def contiguous(a: Array, dtype: Any) -> Array:
    """Return an array in C order, of that dtype, aligned: itself where it is so.

    Examples
    --------
    >>> apart = np.frombuffer(bytes(9), np.uint8)[1:].view("float64")  # may begin anywhere
    >>> bool(contiguous(apart, "float64").flags.aligned)
    True
    """
    if a.dtype == dtype and a.flags.carray:
        return a
    found = np.ascontiguousarray(a, dtype)
    return found if found.flags.aligned else found.copy()


def matrix(a: Array, dtype: Any) -> Array:
    """(..., N) as a matrix (rows, N) of that dtype whose rows are contiguous: a view where that is possible.

    Examples
    --------
    >>> matrix(np.zeros((2, 3, 4))[:, :, :2], "float64").shape
    (6, 2)
    """
    flat = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
    if flat.dtype == dtype and flat.strides[1] == flat.itemsize and flat.flags.aligned:
        return flat
    return contiguous(flat, dtype)


def bytes_of(mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Return a mask as contiguous bytes of that shape.

    Examples
    --------
    >>> bytes_of(np.array([True, False]), (2, 3))
    array([[1, 1, 1],
           [0, 0, 0]], dtype=uint8)
    """
    if mask is None:
        return None
    if mask.ndim < len(shape):
        mask = mask[..., None]
    return np.ascontiguousarray(np.broadcast_to(mask, shape)).view(np.uint8)


def runs(*arrays: Array | None) -> bool:
    """Whether all these arrays (None aside) have one and the same dtype, and the engine has kernels for it."""
    dtypes = {getattr(a, "dtype", None) for a in arrays if a is not None}  # a list has none
    return len(dtypes) == 1 and dtypes <= DTYPES.keys()


def weights(cell: Cell, w: scan.Params, dtype: Any) -> dict[str, Array | None]:
    """Return the parameters under the engine's names, contiguous."""
    read = {name: contiguous(w[name], dtype) if name in w else None for name in WEIGHTS}
    read["params"] = contiguous(w[cell.params_name], dtype) if cell.params_name in w else None
    return read
