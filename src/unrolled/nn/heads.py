"""Heads: which rows of a stack's outputs are shown, and what is lost on them; forward beside backward, as in a cell.

Letters: T steps, B rows of the batch, H hidden units, K outputs.

A row whose sequence is over has outputs 0 there, and a stack passes over any gradient of them; so a selection need not
ask which steps are padding, but for their number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Backend
from ..checks import Array, as_numbers, check_size
from ..errors import UnrolledError, brief
from .inputs import known, steps_within
from .spec import Spec


class Head(NamedTuple):
    """The part behind a stack: a selection of rows, a decoder's width, a loss. Plain data, as a cell is.

    Examples
    --------
    >>> tagger = LANGUAGE._replace(outputs=5)  # a tag of five at every step
    >>> regression = Head(last_step, last_step_backward, squared_error, outputs=1)
    >>> regression.select(np.arange(12.0).reshape(3, 2, 2), np.array([3, 1])).tolist()
    [[8.0, 9.0], [2.0, 3.0]]
    """

    select: Callable[[Array, Array | None], Array]
    """Outputs (T, B, H) and lengths (B,), or None -> the rows that are shown, (T, B, H) or (B, H)."""
    select_backward: Callable[[Array, int, Array | None], Array]
    """Their gradient, T and lengths -> the gradient of the outputs."""
    loss: Callable[..., tuple[float, Array]]
    """Backend, outputs (..., K), targets, weights (...), or None -> mean over the weights' sum, and the gradient."""
    outputs: int = 0
    """K; 0: as many as there are symbols."""

    @property
    def stepwise(self) -> bool:
        """Whether every step is shown, and has a target of its own."""
        return self.select is every_step

    @property
    def title(self) -> str:
        """Its selection, outputs and loss, in words."""
        size = self.outputs or "V"
        return f"{self.select.__name__}, {size} outputs, {self.loss.__name__}"


def every_step(y: Array, lengths: Array | None) -> Array:
    """Return y (T, B, H)."""
    return y


def every_step_backward(drows: Array, steps: int, lengths: Array | None) -> Array:
    """Return the gradient as it is."""
    return drows


def last_step(y: Array, lengths: Array | None) -> Array:
    """Return the last step of each row, (B, H); zeros where a row has none."""
    _check_steps(len(y))
    if lengths is None:
        return np.asarray(y[-1])
    shown: Array = y[lengths.astype(int) - 1, np.arange(len(lengths))]  # of length 0: the end, whose outputs are 0
    return shown


def last_step_backward(drows: Array, steps: int, lengths: Array | None) -> Array:
    """drows (B, H) -> dy (T, B, H)."""
    dy = np.zeros((steps, *drows.shape), drows.dtype)
    dy[-1 if lengths is None else lengths.astype(int) - 1, np.arange(len(drows))] = drows
    return dy


def mean_of_steps(y: Array, lengths: Array | None) -> Array:
    """Return the mean over each row's steps, (B, H); zeros where a row has none."""
    _check_steps(len(y))
    return np.asarray(y.sum(axis=0) / _counts(len(y), lengths, y))


def mean_of_steps_backward(drows: Array, steps: int, lengths: Array | None) -> Array:
    """drows (B, H) -> dy (T, B, H)."""
    return np.repeat((drows / _counts(steps, lengths, drows))[None], steps, axis=0)


def _counts(steps: int, lengths: Array | None, like: Array) -> Any:
    """Steps of each row, (B, 1), at least 1."""
    if lengths is None:
        return like.real.dtype.type(steps)
    return np.maximum(lengths, 1)[:, None].astype(like.real.dtype)


def _check_steps(steps: int) -> None:
    if not steps:
        raise UnrolledError("x has no steps; a head that shows one row of each sequence needs 1 or more")


def cross_entropy(
    backend: Backend, outputs: Array, targets: Any, weights: Any = None, **how: Any
) -> tuple[float, Array]:
    """Mean softmax cross-entropy of classes, as `unrolled.reference.losses.cross_entropy`."""
    return backend.cross_entropy(outputs, targets, weights=weights, **how)


def squared_error(
    backend: Backend, outputs: Array, targets: Any, weights: Any = None, *, gradient: bool = True, **_: Any
) -> tuple[float, Array]:
    """Mean squared error of numbers, as `unrolled.reference.losses.squared_error`."""
    return backend.squared_error(outputs, targets, weights=weights, gradient=gradient)


def check_head(head: Any, spec: Spec) -> Head:
    """Return a head, or say what is wrong with it in a network of this kind."""
    if not isinstance(head, Head):
        raise UnrolledError(f"head is {brief(head)}; expected a Head, such as unrolled.nn.heads.LANGUAGE")
    for name in ("select", "select_backward", "loss"):
        if not callable(getattr(head, name)):
            raise UnrolledError(f"{name} of the head is {brief(getattr(head, name))}; expected a function")
    outputs = check_size("outputs", head.outputs, least=0) or spec.vocabulary_size
    if spec.tied and outputs != spec.vocabulary_size:
        raise UnrolledError(f"tied weights give an output a symbol, {spec.vocabulary_size}; the head has {outputs}")
    if spec.label_smoothing and head.loss is not cross_entropy:
        raise UnrolledError("label_smoothing is of classes; the head's loss is another one than cross_entropy")
    return head


def take_targets(y: Any, head: Head, outputs: Array, weights: Any, lengths: Array | None) -> tuple[Any, Array | None]:
    """Check targets; one of another shape would be broadcast, and give the loss of something else.

    Return them with the weights: those of steps behind a row's end are 0. (What is weighed is selected first, and
    checked by the loss.)
    """
    if weights is not None:
        weights = as_numbers("weights", weights)
        if weights.shape != outputs.shape[:-1]:
            raise UnrolledError(f"weights has shape {weights.shape}; expected {outputs.shape[:-1]}")
    if head.stepwise and lengths is not None:
        live = steps_within(lengths, len(outputs))
        weights = live if weights is None else np.where(live, weights, 0)
    if weights is not None or not head.stepwise or head.loss is not cross_entropy:
        return y, weights
    targets = known("targets", as_numbers("targets", y), outputs.shape[-1])
    if targets.shape != outputs.shape[:2] or not targets.size:
        raise UnrolledError(f"y has shape {targets.shape}, x {outputs.shape[:2]}; expected the same, not empty")
    return targets, None


LANGUAGE = Head(every_step, every_step_backward, cross_entropy)
"""The next symbol at every step."""
