"""The only functions that cells use besides `+ - * /`.

They are NumPy's own, so the same text of a cell runs on real arrays (the reference), on complex arrays (an exact
derivative check) and on symbols that answer NumPy's protocols (the kernel emitter).
"""

from typing import Any

from numpy import exp, log, maximum, sqrt, tanh, where

Value = Any

__all__ = ["exp", "log", "maximum", "sigmoid", "sqrt", "tanh", "where"]


def sigmoid(x: Value) -> Value:
    """1 / (1 + exp(-x)): accurate to the last bits at both ends (exp may overflow to inf, which gives 0).

    Examples
    --------
    >>> sigmoid(0.0)
    np.float64(0.5)
    """
    return 1 / (1 + exp(-x))
