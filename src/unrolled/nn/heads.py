"""Heads: which rows of a stack's outputs are shown, and what is lost on them; forward beside backward, as in a cell.

Letters: T steps, B rows of the batch, H outputs of the stack, K outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Backend
from ..checks import Array, as_kind, as_numbers, check_choice, check_positive, check_size
from ..errors import UnrolledError, brief
from ..reference import crf as chain
from ..reference import losses
from .inputs import known, steps_within
from .pools import EVERY, POOLS, Params, Pool, Shapes, every_step, none_of_its_own
from .spec import Spec


def as_they_are(outputs: Array, lengths: Array | None = None, params: Params | None = None) -> Array:
    """Return outputs as what is predicted."""
    return outputs


def as_scores(outputs: Array, params: Params) -> Array:
    """Return outputs as logits of the classes."""
    return outputs


class Head(NamedTuple):
    """The part behind a stack: a selection of rows, a decoder's width, a loss. Plain data, as a cell is.

    Its own parameters are the network's, by names that begin with `head.`. They begin at 0.

    Examples
    --------
    >>> tagger = tags(5)  # one of five at every step
    >>> mood = classes(2, pooling="mean")  # one of two of each row
    >>> mood.title
    'mean_of_steps, 2 outputs, cross_entropy'
    """

    select: Callable[..., Array]
    """Outputs y (T, B, H), lengths (B,) or None, params, directions -> the rows that are shown, (T, B, H) or (B, H)."""
    select_backward: Callable[..., tuple[Array, Params]]
    """Their gradient, and what `select` took -> the gradients of y and of its parameters by name."""
    loss: Callable[..., Any]
    """Backend, outputs (..., K), targets, weights (...), or None -> mean over the weights' sum, its gradient, and, of a
    loss with parameters, a dictionary of theirs. By name it is told `params`, and `gradient`, `overwrite` and
    `smoothing`, which it may pass over.
    """
    outputs: int = 0
    """K; 0: as many as there are symbols."""
    predict: Callable[..., Array] = as_they_are
    """Outputs, lengths or None, params -> what is wanted of them: classes (...), numbers."""
    shapes: Callable[[int, int], Shapes] = none_of_its_own
    """H and K -> the parameters of its own, by their names."""
    numbers: int = 0
    """How many numbers, or labels, the targets (..., numbers) are; 0: classes (...)."""
    scores: Callable[[Array, Params], Array] = as_scores
    """Outputs (..., K), params -> logits of the classes, (..., V)."""
    classes: int = 0
    """V, where that is not K."""

    @property
    def stepwise(self) -> bool:
        """Whether every step is shown, and has a target of its own."""
        return self.select is every_step

    @property
    def title(self) -> str:
        """Its selection, outputs and loss, in words."""
        return f"{_name(self.select)}, {self.outputs or 'V'} outputs, {_name(self.loss)}"


def _name(function: Any) -> str:
    """Return what a function is called, with what it is told beforehand."""
    if not isinstance(function, partial):
        return str(getattr(function, "__name__", function))
    return f"{_name(function.func)}({', '.join(f'{name}={value}' for name, value in function.keywords.items())})"


def cross_entropy(
    backend: Backend, outputs: Array, targets: Any, weights: Any = None, *, params: Params | None = None, **how: Any
) -> tuple[float, Array]:
    """Mean softmax cross-entropy of classes, as `unrolled.reference.losses.cross_entropy`."""
    return backend.cross_entropy(outputs, targets, weights=weights, **how)


def loss_of_numbers(
    backend: Backend,
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    kind: str,
    gradient: bool = True,
    params: Params | None = None,
    overwrite: bool = False,
    smoothing: float = 0.0,
    **how: Any,
) -> tuple[Any, Array]:
    """Mean loss of numbers, as that `kind` in `unrolled.reference.losses`; `how` are the loss's own options."""
    loss, d = OF_NUMBERS[kind](outputs, targets, weights=weights, gradient=gradient, **how)
    return loss, d


OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "squared": losses.squared_error,
    "huber": losses.huber,
    "quantile": losses.quantile,
    "gaussian": losses.gaussian,
    "bernoulli": losses.bernoulli,
}


def sequence_loss(
    backend: Backend,
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    params: Params,
    gradient: bool = True,
    **_: Any,
) -> tuple[Any, Array, Params]:
    """Nats a step of whole sequences of tags, as `unrolled.reference.crf.crf`; weights are their steps."""
    lengths = None
    if weights is not None:
        weights = as_numbers("weights", weights)
        live = weights > 0
        lengths = live.sum(axis=0)
        if not (np.unique(weights[live]).size < 2 and (live == steps_within(lengths, len(live))).all()):
            raise UnrolledError("a CRF scores whole sequences; weights must be 1 at a row's steps, and 0 behind them")
    loss, d, grads = chain.crf(outputs, targets, lengths, *_chain(params), gradient=gradient)
    return loss, d, {f"head.{name}": g for name, g in grads.items()}


def crf_shapes(width: int, outputs: int) -> Shapes:
    """Return the parameters of a CRF: scores of a tag after a tag, and of a sequence that begins or ends with one."""
    shapes = (outputs, outputs), (outputs,), (outputs,)
    return {f"head.{name}": shape for name, shape in zip(chain.SCORES, shapes, strict=True)}


def _chain(params: Params) -> list[Array]:
    return [params[f"head.{name}"] for name in chain.SCORES]


def likeliest(outputs: Array, lengths: Array | None = None, params: Params | None = None) -> Array:
    """Return the class (...) of the largest of outputs (..., K)."""
    return np.asarray(outputs.argmax(axis=-1))


def likeliest_sequence(outputs: Array, lengths: Array | None, params: Params) -> Array:
    """Return the likeliest tags of each row, (T, B), all together, as `unrolled.reference.crf.viterbi`."""
    return chain.viterbi(outputs, lengths, *_chain(params))


def class_probabilities(head: Head, outputs: Array, lengths: Array | None, params: Params) -> Array:
    """Return the probability of each class, (..., K), of a head of classes: of a CRF, all other steps left open.

    Examples
    --------
    >>> class_probabilities(tags(2), np.zeros((1, 1, 2)), None, {}).tolist()
    [[[0.5, 0.5]]]
    """
    if head.loss is sequence_loss:
        return chain.marginals(outputs, lengths, *_chain(params))
    return np.exp(losses.log_softmax(outputs))


def tags(size: int, *, crf: bool = False) -> Head:
    """Return the head of a class at every step, one of `size`; with a CRF, of a sequence of classes.

    Examples
    --------
    >>> sorted(tags(5, crf=True).shapes(7, 5))
    ['head.begin', 'head.end', 'head.transitions']
    """
    size = check_size("the number of tags", size)
    if as_kind("crf", crf, "bool"):
        return Head(*EVERY[:2], sequence_loss, size, likeliest_sequence, crf_shapes)
    return Head(*EVERY[:2], cross_entropy, size, likeliest)


def classes(size: int, pooling: str = "last") -> Head:
    """Return the head of one class of each row, one of `size`; `pooling` is "last", "mean", "max" or "attention".

    Examples
    --------
    >>> classes(3, "attention").shapes(7, 3)
    {'head.query': (7,)}
    """
    pool = POOLS[check_choice("pooling", pooling, list(POOLS))]
    return Head(*pool[:2], cross_entropy, check_size("the number of classes", size), likeliest, pool.shapes)


def labels(size: int, *, pooling: str | None = None) -> Head:
    """Return the head of `size` yes-or-no labels at every step (a piano's keys), or with `pooling` of each row.

    Targets are (..., size), 0 or 1; predicted are the probabilities of a 1.

    Examples
    --------
    >>> labels(88).title
    'every_step, 88 outputs, loss_of_numbers(kind=bernoulli)'
    """
    pool, size = _pool(pooling), check_size("the number of labels", size)
    return Head(*pool[:2], partial(loss_of_numbers, kind="bernoulli"), size, probabilities, pool.shapes, size)


def probabilities(outputs: Array, lengths: Array | None = None, params: Params | None = None) -> Array:
    """Return the probability of a 1 of each logit."""
    return losses.sigmoid(outputs)


def numbers(
    size: int,
    loss: str = "squared",
    *,
    pooling: str | None = None,
    quantiles: Sequence[float] = (),
    delta: float = 1.0,
) -> Head:
    """Return the head of `size` numbers at every step, or with `pooling` of each row.

    Parameters
    ----------
    size : int
        K, numbers that are learnt.
    loss : str
        Of `unrolled.reference.losses`: "squared"; "huber"; "quantile", whose outputs are Q quantiles of each number;
        "gaussian", whose outputs are K means, and behind them what `log_scale` makes K logarithms of deviations of.
    pooling : str, optional
        "last", "mean", "max" or "attention".
    quantiles : Q numbers between 0 and 1, rising
        Which, where the loss is "quantile".
    delta : float
        Where squares end, where the loss is "huber".

    Returns
    -------
    Head
        It predicts (..., K) numbers; (..., K, Q) quantiles, sorted, so that none crosses another; or (..., K, 2), the
        mean and standard deviation of each number.

    Examples
    --------
    >>> numbers(3, "quantile", quantiles=(0.1, 0.5, 0.9), pooling="last").outputs, numbers(3, "gaussian").outputs
    (9, 6)
    """
    pool, size = _pool(pooling), check_size("the number of numbers", size)
    kind = check_choice("loss of numbers", loss, [name for name in OF_NUMBERS if name != "bernoulli"])
    how: dict[str, Any] = {"delta": check_positive("delta", delta)} if kind == "huber" else {}
    outputs, predict = size, as_they_are
    if kind == "quantile":
        how = {"quantiles": losses.check_quantiles(quantiles)}
        outputs, predict = size * len(how["quantiles"]), partial(sorted_quantiles, count=len(how["quantiles"]))
    elif kind == "gaussian":
        outputs, predict = 2 * size, mean_and_deviation
    if len(quantiles) and kind != "quantile":
        raise UnrolledError(f"quantiles are of the loss 'quantile'; this one is {kind!r}")
    return Head(*pool[:2], partial(loss_of_numbers, kind=kind, **how), outputs, predict, pool.shapes, size)


def sorted_quantiles(
    outputs: Array, lengths: Array | None = None, params: Params | None = None, *, count: int
) -> Array:
    """Return quantiles (..., K, Q) of outputs (..., K Q), sorted: each was learnt by itself, so they may cross."""
    return np.sort(outputs.reshape(*outputs.shape[:-1], -1, count), axis=-1)


def mean_and_deviation(outputs: Array, lengths: Array | None = None, params: Params | None = None) -> Array:
    """Return means and standard deviations (..., K, 2) of outputs (..., 2 K), which are K means, then K scales."""
    means, scales = np.split(outputs, 2, axis=-1)
    return np.stack([means, np.exp(losses.log_scale(scales))], axis=-1)


def _pool(pooling: str | None) -> Pool:
    """Return what shows every step, or one row of each sequence."""
    return EVERY if pooling is None else POOLS[check_choice("pooling", pooling, list(POOLS))]


def check_head(head: Any, spec: Spec) -> Head:
    """Return a head, or say what is wrong with it in a network of this kind."""
    if not isinstance(head, Head):
        raise UnrolledError(f"head is {brief(head)}; expected a Head, such as unrolled.nn.heads.tags(5)")
    for name in ("select", "select_backward", "loss", "predict", "shapes"):
        if not callable(getattr(head, name)):
            raise UnrolledError(f"{name} of the head is {brief(getattr(head, name))}; expected a function")
    outputs = check_size("outputs", head.outputs, least=0) or spec.vocabulary_size
    if spec.tied and outputs != spec.vocabulary_size:
        raise UnrolledError(f"tied weights give an output a symbol, {spec.vocabulary_size}; the head has {outputs}")
    if spec.label_smoothing and (head.loss is not cross_entropy or spec.softmax != "full"):
        raise UnrolledError("label_smoothing is of classes; the head's loss is another one than cross_entropy")
    return head


def take_targets(y: Any, head: Head, outputs: Array, weights: Any, lengths: Array | None) -> tuple[Any, Array | None]:
    """Check targets; one of another shape would be broadcast, and give the loss of something else.

    Return them with the weights: those of steps behind a row's end are 0. (What is weighed is selected first, and
    checked by the loss.)
    """
    if weights is not None:
        weights = as_numbers("weights", weights)
        each = (*outputs.shape[:-1], head.numbers)  # numbers may have weights of their own
        if weights.shape != outputs.shape[:-1] and not (head.numbers and weights.shape == each):
            raise UnrolledError(f"weights has shape {weights.shape}; expected {outputs.shape[:-1]}")
    if head.stepwise and lengths is not None:
        live = steps_within(lengths, len(outputs))
        live = live if weights is None or weights.ndim == live.ndim else live[..., None]
        weights = live if weights is None else np.where(live, weights, 0)
    if weights is not None or not head.stepwise or head.loss is not cross_entropy:
        return y, weights
    targets = known("targets", as_numbers("targets", y), outputs.shape[-1])
    if targets.shape != outputs.shape[:2] or not targets.size:
        raise UnrolledError(f"y has shape {targets.shape}, x {outputs.shape[:2]}; expected the same, not empty")
    return targets, None


LANGUAGE = Head(*EVERY[:2], cross_entropy, predict=likeliest)
"""The next symbol at every step."""
