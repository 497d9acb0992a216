"""A gradient from function values alone: slow, and nobody's derivation, so that every rung can be checked with it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..checks import Array, as_numbers, check_number
from .given import check

STENCIL = {-2: 1, -1: -8, 1: 8, 2: -1}


def numerical_gradient(f: Callable[[Array], Any], x: Any, step: float = 1e-3) -> Array:
    """Gradient of f at x by five points: df/dx = (f(x-2s) - 8 f(x-s) + 8 f(x+s) - f(x+2s)) / 12 s, entry by entry.

    The error of the equation is s^4 / 30 times the fifth derivative, that of rounding about 1e-16 f / s (Abramowitz &
    Stegun 1964, section 25.3): with s = 1e-3 both are about 1e-13.

    Parameters
    ----------
    f : function of an array of x's shape, whose value is a number; for a layer, the sum of its output times `dout`
    x : array of real numbers of any shape, or nested lists of them; not changed
    step : s

    Returns
    -------
    array of x's shape, float64

    Examples
    --------
    >>> numerical_gradient(lambda x: (x**3).sum(), [1.0, 2.0]).round(9)
    array([ 3., 12.])
    """
    check((step := check_number("step", step)) > 0, "step", step, "above 0")
    given = as_numbers("x", x)
    check(given.dtype.kind != "c", "x", given.dtype, "real numbers")
    x = given.astype(np.float64)
    d: Array = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        was = x[at]
        for n, weight in STENCIL.items():
            x[at] = was + n * step
            d[at] += weight * f(x) / (12 * step)
        x[at] = was
    return d
