"""What each target counts: shares of the sum of weights, and the selection of what counts at all."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...checks import Array, as_numbers, check_shape
from ...errors import UnrolledError


def weighed(weights: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return which weights (...) are above 0, as indices into the flat array, and the share of each in their sum.

    Whatever stands at an entry of weight 0, NaN too, is left out by selection: nothing is ever multiplied by 0.

    Examples
    --------
    >>> chosen, shares = weighed([[1, 0], [3, 0]], (2, 2))
    >>> chosen.tolist(), shares.tolist()
    ([0, 2], [0.25, 0.75])
    """
    given = as_numbers("weights", weights)
    check_shape("weights", given, shape, f"targets of shape {shape}")
    flat = given.astype(np.float64).ravel() if given.dtype.kind != "c" else given.ravel()
    if given.dtype.kind == "c" or not (np.isfinite(flat).all() and (flat >= 0).all()):
        raise UnrolledError("weights must be finite numbers, 0 or more, one a target")
    if not flat.any():
        raise UnrolledError("weights are all 0; a mean needs 1 target or more")
    chosen = np.flatnonzero(flat)
    return chosen, flat[chosen] / flat.sum()
