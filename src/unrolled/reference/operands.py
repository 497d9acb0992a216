"""What products multiply: numbers as they are, or (`dtype="bfloat16"`) rounded to bfloat16.

The rule, defined here once: a product of a and b is the float32 sum of round(a) round(b), both rounded to the nearest
bfloat16, to even between two. It holds for every product of matrices, forward and backward. All else is float32 as it
is: sums of rows, elementwise functions, and what integers pick, which is copied.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..cells.cell import WEIGHT_X
from ..checks import Array

_READING = ("weight_ih", WEIGHT_X)
_MATRICES = (*_READING, "weight_hh", "weight_hr")


def upper_half(a: Array) -> Array:
    """Return float32 numbers as bfloat16, by its bits (uint16): rounded to the nearest, to even between two.

    Half of what is cut off is added before it is, less one below an even number. A NaN stays one.
    """
    a = np.ascontiguousarray(a, np.float32)
    bits = a.view(np.uint32)
    with np.errstate(over="ignore"):
        near = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    return np.where(np.isnan(a), (bits >> np.uint32(16)) | np.uint32(0x40), near).astype(np.uint16)


def operand(a: Array, rounds: bool) -> Array:
    """Return what a product multiplies where `a` stands: `a`, or its numbers rounded, in float32.

    Examples
    --------
    >>> operand(np.float32([1.001, 1.004, 3e38]), rounds=True).tolist()
    [1.0, 1.0078125, 3.00405527047391e+38]
    """
    return (upper_half(a).astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(a.shape) if rounds else a


def matrices(w: Mapping[str, Array], tokens: bool, rounds: bool) -> Mapping[str, Array]:
    """Return a layer's parameters with its matrices as products have them; `tokens` pick columns, which are copied."""
    read = [name for name in _MATRICES if name in w and not (tokens and name in _READING)]
    return {**w, **{name: operand(w[name], rounds) for name in read}} if rounds else w
