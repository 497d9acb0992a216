"""Losses of numbers, and their gradients."""

from __future__ import annotations

import numpy as np

from ...checks import Array, as_floats, check_shape
from ...errors import UnrolledError
from .weighing import weighed


def squared_error(
    outputs: Array, targets: Array, *, gradient: bool = True, weights: Array | None = None
) -> tuple[float, Array]:
    """Mean of (outputs - targets)², and its gradient.

    Parameters
    ----------
    outputs : (..., K)
    targets : (..., K), or (...) where K is 1
    gradient : bool
        Without it the gradient is not worked out, and holds zeros.
    weights : (...), optional
        What each row counts, 0 or more. Rows of weight 0 (padding) are left out, whatever is in them.

    Returns
    -------
    loss : float
        Mean over all numbers, summed in float64; with weights, over the sum of the rows' weights.
    doutputs : (..., K)

    Examples
    --------
    >>> loss, doutputs = squared_error(np.array([[3.0], [5.0]]), [1, 0], weights=[1, 0])
    >>> loss, doutputs.tolist()
    (4.0, [[4.0], [0.0]])
    """
    outputs, wanted = as_floats("outputs", outputs, 1), as_floats("targets", targets)
    size, rows = outputs.shape[-1], outputs.shape[:-1]
    wanted = wanted[..., None] if size == 1 and wanted.shape == rows else wanted
    check_shape("targets", wanted, outputs.shape, f"outputs of shape {outputs.shape}")
    if not outputs.size:
        raise UnrolledError(f"targets have shape {wanted.shape}; a mean needs 1 or more")
    chosen, shares = weighed(np.ones(rows) if weights is None else weights, rows)
    shares = (shares / size)[:, None]
    error = outputs.reshape(-1, size)[chosen] - wanted.reshape(-1, size)[chosen]
    loss, d = (error * error * shares).sum(), np.zeros(outputs.shape, outputs.dtype)
    if gradient:
        d.reshape(-1, size)[chosen] = 2 * error * shares
    return loss if np.iscomplexobj(loss) else float(loss), d
