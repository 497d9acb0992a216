"""The door of stacks and networks: what callers hand in, batch first, time first or without a batch -> time first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..checks import Array, are_indices, array_dtype, as_array, as_numbers, read_only
from ..errors import UnrolledError, brief
from .spec import Spec
from .stack import Stack


class Reader(Protocol):
    """What reads x: a stack of layers."""

    input_size: int
    batch_first: bool

    @property
    def first(self) -> tuple[str, ...]:
        """Names of the weights that read it."""


class Order(NamedTuple):
    """How a caller's arrays lie: (T, B, ...), (B, T, ...) with `batch_first`, or (T, ...) where not `batched`."""

    batch_first: bool
    batched: bool

    def in_time(self, a: Array) -> Array:
        """Return what comes with x as (T, B, ...)."""
        if not self.batched:
            return a[:, None]
        return np.swapaxes(a, 0, 1) if self.batch_first else a

    def as_given(self, a: Array) -> Array:
        """Return (T, B, ...) as x came: the inverse of `in_time`."""
        if not self.batched:
            return a[:, 0]
        return a.swapaxes(0, 1) if self.batch_first else a

    def steps(self, name: str, value: Any) -> Array:
        """Return what comes with x, a number or a bool a step, as (T, B); what has too few or too many axes stays."""
        array = as_array(name, value)
        fits = array.ndim == 1 if not self.batched else array.ndim > 1
        return self.in_time(array) if fits else array

    def expected(self, steps: int, batch: int) -> tuple[str, tuple[int, ...]]:
        """Return the first axes of y, in letters and in numbers."""
        if not self.batched:
            return "T", (steps,)
        return ("B, T", (batch, steps)) if self.batch_first else ("T, B", (steps, batch))


def take_input(x: Any, stack: Reader, cast: Callable[[Any, str], Array], *, own: bool) -> tuple[Array, Order]:
    """Check x, but not yet its indices; return it with time first and a batch, a copy to `own`, and how it lay.

    Indices are always copied: what is checked must be what is used, whatever the caller's other threads do.
    """
    x = as_numbers("x", x)
    is_index = x.dtype.kind in "iu"
    rank = 2 if is_index else 3
    if x.ndim not in (rank, rank - 1):
        letters = "B, T" if stack.batch_first else "T, B"
        if is_index:
            raise UnrolledError(f"integer x has shape {x.shape}; expected ({letters}) indices of one-hot inputs")
        raise UnrolledError(f"x has shape {x.shape}; expected ({letters}, I), or (T, I) without a batch")
    if not is_index:
        if x.shape[-1] != stack.input_size:
            raise UnrolledError(f"layer 0: x has {x.shape[-1]} features, {stack.first[0]} takes {stack.input_size}")
        x = cast(x, "x")
    order = Order(stack.batch_first, x.ndim == rank)
    return order.in_time(x.copy() if own or is_index else x), order


def take_indices(x: Array, live: Array | None, size: int) -> Array:
    """Check indices (T, B) of one-hot inputs; what stands where no step is live is none, and becomes 0."""
    if live is not None:
        x = np.where(live, x, x.dtype.type(0))
    if not are_indices(x, size):
        raise UnrolledError(f"x has indices from {x.min()} to {x.max()}; they must be at least 0 and below {size}")
    return x


def take_tokens(x: Any, lengths: Any, spec: Spec) -> tuple[Array, Array | None]:
    """Return a network's x and lengths (B,), as copies: tokens (T, B), words (T, B, 1 + C), or numbers (T, B, V).

    What is checked must be what is used, whatever the caller's threads do. What stands behind a row's end is no token,
    and becomes 0.
    """
    array = as_numbers("tokens", x)
    numbers = array.ndim == 3 and array.dtype.kind in "fc" and not spec.embedding_size
    if lengths is not None and array.ndim >= 2:
        lengths = read_only(take_lengths(lengths, *array.shape[:2]).copy())
        live = steps_within(lengths, len(array)).reshape(*array.shape[:2], *[1] * (array.ndim - 2))
        array = array if numbers else np.where(live, array, array.dtype.type(0))
    if spec.characters:
        return spelled(array, spec), lengths
    return read_only(array.copy()) if numbers else known("tokens", array, spec.vocabulary_size), lengths


def spelled(array: Array, spec: Spec) -> Array:
    """Return words with their characters (T, B, 1 + C) that a network knows, as a copy."""
    if array.ndim != 3 or array.shape[-1] < 2 or array.dtype.kind not in "iu":
        raise UnrolledError(
            f"words are {array.dtype} of shape {array.shape}; expected integers (T, B, 1 + C): a word, its characters"
        )
    array = read_only(array.copy())
    for name, part, size in (
        ("words", array[..., 0], spec.vocabulary_size),
        ("characters", array[..., 1:], spec.characters + 1),
    ):
        if not are_indices(part, size):
            raise UnrolledError(f"{name} run from {part.min()} to {part.max()}; this network knows 0 to {size - 1}")
    return array


def known(name: str, array: Array, size: int) -> Array:
    """Return whole numbers (T, B) that a network knows, as a copy."""
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise UnrolledError(f"{name} are {array.dtype} of shape {array.shape}; expected integers (T, B)")
    array = read_only(array.copy())
    if not are_indices(array, size):
        raise UnrolledError(f"{name} run from {array.min()} to {array.max()}; this network knows 0 to {size - 1}")
    return array


def take_live(lengths: Any, live: Any, shape: tuple[int, int], order: Order) -> Array | None:
    """Return which steps (T, B) there are; None for all."""
    if live is None:
        return None if lengths is None else steps_within(take_lengths(lengths, *shape), shape[0])
    if lengths is not None:
        raise UnrolledError("lengths and live both say which steps there are; leave one out")
    array = as_array("live", live)
    there = order.steps("live", array)
    if there.shape != shape or there.dtype != bool:
        raise UnrolledError(
            f"live is {array.dtype} of shape {array.shape}; expected bool (T, B) = {shape}: whether a step is there"
        )
    return there.copy()


def take_timespans(value: Any, stack: Stack, live: Array | None, shape: tuple[int, int], order: Order) -> Array | None:
    """Return the time between each step and the one before it, (T, B); None for 1 everywhere."""
    if value is None:
        return None
    if not stack.cell.sees_time:
        raise UnrolledError(f"timespans are given, but {stack.cell.name} does not see time; leave them out")
    array = as_numbers("timespans", value)
    spans = order.steps("timespans", array)
    if spans.shape != shape or spans.dtype.kind == "c":
        raise UnrolledError(f"timespans are {array.dtype} of shape {array.shape}; expected numbers (T, B) = {shape}")
    spans = (spans if live is None else np.where(live, spans, 1)).astype(array_dtype(stack.dtype))
    if not (np.isfinite(spans) & (spans >= 0)).all():
        raise UnrolledError("timespans must be finite and 0 or more: the time since the step before")
    return spans


def take_lengths(lengths: Any, steps: int, batch: int) -> Array:
    """Check the lengths of rows."""
    array = as_array("lengths", lengths)
    array = array.reshape(1) if not array.ndim and batch == 1 else array
    if array.shape != (batch,) or array.dtype.kind not in "iu":
        raise UnrolledError(f"lengths must be {batch} whole numbers, one a row of the batch; got {brief(array)}")
    if array.size and not (array.min() >= 0 and array.max() <= steps):
        raise UnrolledError(f"lengths must lie between 0 and T = {steps}; got {array.min()} to {array.max()}")
    return array


def steps_within(lengths: Array, steps: int) -> Array:
    """(T, B) bool: whether a step is within its row's length."""
    live: Array = np.arange(steps)[:, None] < lengths
    return live
