"""Surroundings of the recurrence: initial weights, dropout, embedding and linear layers, each with its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..checks import (
    Array,
    as_array,
    as_dtype,
    as_floats,
    check_dims,
    check_fraction,
    check_indices,
    check_memory,
    check_rng,
    check_shape,
    check_size,
    check_weight,
)
from ..errors import UnrolledError
from .operands import operand as read
from .products import scatter_add


def uniform(rng: np.random.Generator, shape: tuple[int, ...], bound: float, dtype: str) -> Array:
    """Draw U(-bound, bound); in float64 first, so that both dtypes start from the same numbers."""
    bound = check_weight("bound", bound)
    draws: Array = check_rng(rng).uniform(-bound, bound, check_dims("shape", shape))
    return draws.astype(as_dtype(dtype, ("float32", "float64")))


def draw_mask(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> Array:
    """Draw a bool mask, True (keep) with probability 1 - rate."""
    shape = check_dims("shape", shape)
    check_memory(math.prod(shape), "float32", "drawing a mask of {} entries")
    return check_rng(rng).random(shape, np.float32) >= check_fraction("rate", rate)


def dropout(x: Array, mask: Array, rate: float) -> Array:
    """x / (1 - rate) where the mask keeps, else 0 (inverted dropout, Srivastava et al. 2014); its own gradient.

    Examples
    --------
    >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), 0.5)
    array([2., 0.])
    """
    x, mask, rate = as_floats("x", x), as_array("mask", mask), check_fraction("rate", rate)
    if mask.dtype != bool:
        raise UnrolledError(f"mask has dtype {mask.dtype}; expected bools, True where x is kept")
    if mask.shape != x.shape and not _fits(mask.shape, x.shape):
        raise UnrolledError(f"mask has shape {mask.shape}, x {x.shape}; expected the same, or 1 where a mask is shared")
    return np.asarray(np.where(mask, x / x.dtype.type(1 - rate), x.dtype.type(0)))


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array can be broadcast to a shape, and not that one to it."""
    return len(shape) <= len(whole) and all(n in (1, m) for n, m in zip(shape[::-1], whole[::-1], strict=False))


def embed(weight: Array, tokens: Array) -> Array:
    """Rows of weight (V, E) picked by tokens (T, B), whole numbers below V -> (T, B, E).

    Examples
    --------
    >>> embed(np.ones((5, 2)), [[-1, 4]])
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: tokens run from -1 to 4; they must be at least 0 and below 5
    """
    weight = _matrix(weight)
    return np.asarray(np.take(weight, check_indices("tokens", tokens, len(weight)), axis=0))


def embed_backward(tokens: Array, dx: Array, size: int) -> Array:
    """Gradient (V, E) of the weight, V = `size`: rows of dx (T, B, E) summed by token."""
    tokens, dx = check_tokens(tokens, dx, size)
    return scatter_add(tokens.ravel(), _flat(dx), size)


def check_tokens(tokens: Any, dx: Any, size: int) -> tuple[Array, Array]:
    """Return tokens (...) and the gradient of their rows (..., E) as arrays, or say what is wrong with them."""
    tokens, dx = check_indices("tokens", tokens, check_size("size", size)), as_floats("dx", dx, 1)
    check_shape("dx", dx, (*tokens.shape, dx.shape[-1]), f"tokens of shape {tokens.shape}")
    return tokens, dx


def _matrix(weight: Any) -> Array:
    matrix = as_floats("weight", weight)
    if matrix.ndim != 2:
        raise UnrolledError(f"weight has shape {matrix.shape}; expected a matrix")
    return matrix


def _flat(a: Array) -> Array:
    """(..., N) as (rows, N), which NumPy can't tell by itself where N is 0."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def check_linear(weight: Any, bias: Any, x: Any) -> tuple[Array, Array | None, Array]:
    """Return what a linear layer takes as arrays, or say what does not fit."""
    weight, x = _matrix(weight), as_floats("x", x, 1)
    check_shape("x", x, (*x.shape[:-1], weight.shape[1]), f"a weight of shape {weight.shape}")
    if bias is None:
        return weight, None, x
    bias = as_floats("bias", bias)
    check_shape("bias", bias, (len(weight),), f"a weight of shape {weight.shape}")
    return weight, bias, x


def check_gradient(dy: Any, weight: Array, x: Array) -> Array:
    """Return the gradient of a linear layer's outputs as an array, or say that it does not fit."""
    gradient = as_floats("dy", dy, 1)
    check_shape(
        "dy", gradient, (*x.shape[:-1], len(weight)), f"x of shape {x.shape} and a weight of shape {weight.shape}"
    )
    return gradient


def linear(weight: Array, bias: Array | None, x: Array, *, rounds: bool = False) -> Array:
    """x W^T + b: (..., H) -> (..., V); `rounds` as in `scan.forward`."""
    weight, bias, x = check_linear(weight, bias, x)
    y = read(_flat(x), rounds) @ read(weight, rounds).T
    out: Array = (y if bias is None else y + bias).reshape(*x.shape[:-1], len(weight))
    return out


def linear_backward(weight: Array, x: Array, dy: Array, *, rounds: bool = False) -> tuple[Array, Array, Array]:
    """Gradients of x (..., H), the weight (V, H) and the bias (V,)."""
    weight, _, x = check_linear(weight, None, x)
    dy = check_gradient(dy, weight, x)
    flat = _flat(dy)
    left = read(flat, rounds)
    dx, dweight = (left @ read(weight, rounds)).reshape(x.shape), left.T @ read(_flat(x), rounds)
    return dx, dweight, np.asarray(flat.sum(axis=0))
