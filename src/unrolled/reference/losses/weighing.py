"""What each target counts: shares of the sum of weights, and the selection of what counts at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...checks import Array, as_floats, as_numbers, check_shape
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


def mean_of(
    each: Callable[[Array, Array], tuple[Array, Array]],
    outputs: Any,
    targets: Any,
    weights: Any,
    *,
    gradient: bool,
    inner: int = 1,
) -> tuple[Any, Array]:
    """Return the mean of a loss over the numbers that there are, and its gradient.

    Each target has `inner` outputs, next to each other: `each` takes those (n, inner) and targets (n,), and returns
    losses (n,) and their gradients (n, inner).

    Parameters
    ----------
    outputs : (..., K inner)
    targets : (..., K), or (...) where K is 1; NaN: not known, which counts nothing
    weights : (...) of rows, (..., K) of numbers, or None: what each counts, 0 or more
    gradient : bool
        Without it the gradient is not worked out, and holds zeros.

    Raises
    ------
    UnrolledError
        If shapes don't fit, or nothing is left that counts.
    """
    z, y = as_floats("outputs", outputs, 1), as_floats("targets", targets)
    rows, size = z.shape[:-1], z.shape[-1] // inner
    if size * inner != z.shape[-1]:
        raise UnrolledError(f"outputs have shape {z.shape}; expected {inner} a target, one behind the other")
    shape = (*rows, size)
    y = y[..., None] if size == 1 and y.shape == rows else y
    check_shape("targets", y, shape, f"outputs of shape {z.shape}")
    if not z.size:
        raise UnrolledError(f"targets have shape {y.shape}; a mean needs 1 or more")
    w = np.ones(rows) if weights is None else as_numbers("weights", weights)
    w = np.broadcast_to(w[..., None], shape) if w.shape == rows else w
    known = ~np.isnan(y)
    if not known.any():
        raise UnrolledError("targets are all NaN; a mean needs 1 or more that is known")
    chosen, shares = weighed(w if known.all() else np.where(known, w, 0), shape)
    value, slope = each(z.reshape(-1, inner)[chosen], y.ravel()[chosen])
    loss, d = (value * shares).sum(), np.zeros(z.shape, z.dtype)
    if gradient:
        d.reshape(-1, inner)[chosen] = slope * shares[:, None]
    return (loss if np.iscomplexobj(loss) else float(loss)), d
