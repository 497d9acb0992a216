"""Initialisers that papers name, `(rng, shape) -> array`, for the field `initial` of cells."""

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Initializer = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def uniform(bound: float) -> Initializer:
    """Return the rule U(-bound, bound).

    Examples
    --------
    >>> bool(abs(uniform(0.5)(np.random.default_rng(0), (2, 300))).max() < 0.5)
    True
    """
    return lambda rng, shape: rng.uniform(-bound, bound, shape)


def fan_in(variance: float) -> Initializer:
    """Return the rule of a uniform weight (rows, columns) of this variance over columns; PyTorch's `Linear` has 1 / 3.

    Examples
    --------
    >>> w = fan_in(0.5)(np.random.default_rng(0), (300, 8))
    >>> bool(abs(8 * w.var() - 0.5) < 0.05)
    True
    """
    return lambda rng, shape: uniform(sqrt(3 * variance / shape[-1]))(rng, shape)


def glorot(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw U(-b, b) with b = sqrt(6 / (rows + columns)) (Glorot & Bengio 2010, equation 16)."""
    return uniform(sqrt(6 / sum(shape)))(rng, shape)


def orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Draw rows or columns, the fewer of the two, orthonormal; of uniform (Haar) direction (Saxe et al. 2014).

    Examples
    --------
    >>> q = orthogonal(np.random.default_rng(0), (3, 5))
    >>> np.allclose(q @ q.T, np.eye(3))
    True
    """
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    q = q * np.sign(np.diag(r))  # the signs that QR chose are not uniform
    return q if shape[0] >= shape[1] else q.T


def normal(variance: float) -> Initializer:
    """Return the rule N(0, variance / columns) of a weight (rows, columns); LeCun et al. 1998 have 1.

    Examples
    --------
    >>> w = normal(2)(np.random.default_rng(0), (300, 8))
    >>> bool(abs(8 * w.var() - 2) < 0.2)
    True
    """
    return lambda rng, shape: rng.normal(0, sqrt(variance / shape[-1]), shape)


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return zeros."""
    return np.zeros(shape)


LINEAR = fan_in(1 / 3)
"""U(-1 / sqrt(I), 1 / sqrt(I)): what papers whose programs are written with PyTorch's `Linear` begin with."""
