"""Activations by name, for cells that leave the choice open: elementwise functions of the operations in `ops`."""

from collections.abc import Callable
from typing import Any

from .ops import exp, log, maximum, sigmoid, tanh, where

Value = Any


def identity(x: Value) -> Value:
    """x itself."""
    return 1 * x


def relu(x: Value) -> Value:
    """max(x, 0), written as a selection so that a NaN stays one."""
    return where(x <= 0, 0, x)


def leaky_relu(x: Value) -> Value:
    """x, or 0.01 x below 0 (Maas et al. 2013)."""
    return where(x <= 0, 0.01 * x, x)


def elu(x: Value) -> Value:
    """x, or exp(x) - 1 below 0 (Clevert et al. 2016)."""
    return where(x <= 0, exp(where(x <= 0, x, 0)) - 1, x)


def softplus(x: Value) -> Value:
    """log(1 + exp(x)), without overflow."""
    return maximum(x, 0) + log(1 + exp(-maximum(x, -x)))


def log_sigmoid(x: Value) -> Value:
    """log(1 / (1 + exp(-x))), without overflow."""
    return -softplus(-x)


def silu(x: Value) -> Value:
    """x sigmoid(x) (Elfwing et al. 2018)."""
    return x * sigmoid(x)


def softsign(x: Value) -> Value:
    """x / (1 + |x|) (Bergstra et al. 2009)."""
    return x / (1 + maximum(x, -x))


def positive(x: Value) -> Value:
    """x + 1/2, or sigmoid(x) below 0: above 0 everywhere (Feng et al. 2024)."""
    return where(x >= 0, x + 0.5, sigmoid(x))


def hard_sigmoid(x: Value) -> Value:
    """min(max(x / 6 + 1 / 2, 0), 1), as in PyTorch and Keras 3."""
    a = x / 6 + 0.5
    return where(a <= 0, 0, where(a >= 1, 1, a))


def hard_tanh(x: Value) -> Value:
    """min(max(x, -1), 1)."""
    return where(x <= -1, -1, where(x >= 1, 1, x))


def lecun_tanh(x: Value) -> Value:
    """1.7159 tanh(2 x / 3) (LeCun et al. 1998)."""
    return 1.7159 * tanh(x * (2 / 3))


ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "identity": identity,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "softplus": softplus,
    "log_sigmoid": log_sigmoid,
    "silu": silu,
    "softsign": softsign,
    "positive": positive,
    "hard_sigmoid": hard_sigmoid,
    "hard_tanh": hard_tanh,
    "lecun_tanh": lecun_tanh,
}
"""What a cell's settings may name."""
