"""Sizes and tolerances of the proofs, with their reasons."""

from typing import Any

import numpy as np

from ..checks import ROUNDED

T, B, I, H = 7, 3, 4, 5
"""Sizes of the full proofs: small, above one, all different."""

STEP = 1e-30
EXACT = 1e-12
"""Tolerance in float64, relative to a gradient's largest entry: some hundred roundings of 1e-16 on sums of some hundred
products, with two orders to spare; a wrong term is larger by ten orders."""
STEP_CENTRAL = 6e-6
CENTRAL = 1e-7
"""Tolerance of central differences, relative to a gradient's norm. With the step eps^(1/3) = 6e-6, curvature costs
step^2 = 4e-11 and cancellation 1e-16 / step = 2e-11 of values some ten times the gradient; two orders to spare."""
ROUNDINGS = 4
"""Tolerance of a projection, in roundings of the network's precision: this many for each step of each layer, adding up
like a random walk, times the problem's own sensitivity to one rounding of every parameter."""
DRAWS = 5
"""How often that sensitivity is drawn where rows are normalised; the largest counts. Five numbers that happen to be
nearly equal are divided by their small deviation, which makes few directions steep (gradients of an `lstm_layer_norm`
were up to 37,000 roundings off where an `lstm`'s were 24), and a single draw may miss them. Over 400 networks a cell,
errors were up to 18 times what one draw told, in laws 15 times, but at most 1.8 times the largest of five, well within
`ROUNDINGS`."""

REORDERED = 64
"""Tolerance of laws that only change the order of sums, in roundings of the network's precision relative to the largest
entry: sums of some hundred products, passed on through seven steps; one to four are typical."""


def spacing(dtype: Any) -> float:
    """Return one rounding of a precision: the space between 1 and the next number, which is that of its products.

    Of bfloat16 it is that of what products multiply, 8 significant bits, whatever more bits the sums keep.

    Examples
    --------
    >>> spacing("bfloat16"), spacing("float32")
    (0.0078125, 1.1920928955078125e-07)
    """
    return 2.0**-7 if str(dtype) == ROUNDED else float(np.finfo(dtype).eps)
