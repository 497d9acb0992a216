"""What stands around the recurrence: initial weights, dropout, embedding and linear layers, each with its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import Array
from .scan import scatter_add


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float, dtype: str) -> Array:
    """Draw U(-bound, bound); in float64 first, so that both dtypes start from the same numbers."""
    draws: Array = rng.uniform(-bound, bound, shape)
    return draws.astype(dtype)


def draw_mask(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> Array:
    """Draw a bool mask, True (keep) with probability 1 - rate."""
    return rng.random(shape, np.float32) >= rate


def dropout(x: Array, mask: Array, rate: float) -> Array:
    """x / (1 - rate) where the mask keeps, else 0 (inverted dropout, Srivastava et al. 2014); its own gradient.

    Examples
    --------
    >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), 0.5)
    array([2., 0.])
    """
    return np.asarray(np.where(mask, x / x.dtype.type(1 - rate), x.dtype.type(0)))


def embed(weight: Array, tokens: Array) -> Array:
    """Rows of weight (V, E) picked by tokens (T, B) -> (T, B, E)."""
    return np.asarray(np.take(weight, tokens, axis=0))


def embed_backward(tokens: Array, dx: Array, size: int) -> Array:
    """Gradient (V, E) of the weight: rows of dx summed by token."""
    return scatter_add(tokens.ravel(), dx.reshape(-1, dx.shape[-1]), size)


def linear(weight: Array, bias: Array | None, x: Array) -> Array:
    """x W^T + b: (..., H) -> (..., V)."""
    y = x.reshape(-1, x.shape[-1]) @ weight.T
    return (y if bias is None else y + bias).reshape(*x.shape[:-1], len(weight))


def linear_backward(weight: Array, x: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients of x (..., H), the weight (V, H) and the bias (V,)."""
    flat: Any = dy.reshape(-1, dy.shape[-1])
    return (flat @ weight).reshape(x.shape), flat.T @ x.reshape(-1, x.shape[-1]), flat.sum(axis=0)
