"""The loss of a network, whatever its head: its gradient, and what holds for a mean over all targets."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

import numpy as np

from ..checks import Array
from ..nn.heads import LANGUAGE, sequence_loss
from ..nn.masks import part_masks
from ..nn.network import Network
from .derivatives import Case, derivatives, draw, like_state, named_state, projections, rounded
from .laws import Arrays, changed, law, outputs
from .report import Proof
from .sizes import EXACT, B, T, spacing


class LossNetwork(Protocol):
    """A network that maps tokens to a loss, as `check_network` needs it; `unrolled.Network` is one.

    Where the gradients are not the loss's own (penalties), a method `objective` with the arguments of `loss` gives what
    they are the gradients of.
    """

    params: dict[str, Array]
    spec: Any
    """Anything with `vocabulary_size`."""
    # Where it has a `head` (`unrolled.nn.heads.Head`), targets are the head's; else the next symbol of every step.

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, complex ones too."""

    def zero_state(self, batch: int) -> Any:
        """State of zeros."""

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator) -> Any:
        """Dropout masks of one pass, or None."""

    def loss(self, x: Any, y: Any, state: Any = None, *, masks: Any = None) -> tuple[Any, Any]:
        """Mean loss of tokens (T, B), complex if the parameters are, and the final state."""

    def loss_and_gradients(self, x: Any, y: Any, state: Any = None, *, masks: Any = None) -> tuple[Any, Any, Any]:
        """As `loss`, with the gradient of every parameter in between."""


def prove_loss(net: LossNetwork, twin: LossNetwork, rng: np.random.Generator) -> Iterator[Proof]:
    """The loss of a network of tokens with respect to every parameter, in float64 and in its own precision."""
    stack = getattr(net, "recurrent", None)
    cell = getattr(stack, "cell", None)
    layers, hidden = getattr(stack, "num_layers", 1), getattr(stack, "hidden_sizes", ())
    for steps, batch in ((T, B), (20, 8)):
        x = _tokens(net, steps, batch, rng)
        y = _targets(net, steps, batch, rng)
        masks = net.draw_masks(steps, batch, rng)
        zero = twin.zero_state(batch)
        state: Any = like_state(zero, [draw(rng, f.shape) for f in named_state(zero).values()])
        if getattr(stack, "learn_state", False):
            state = None  # the network's own, which has a gradient then

        def value(
            params: Mapping[str, Array], x: Array = x, y: Array = y, state: Any = state, masks: Any = masks
        ) -> Any:
            moved = twin.with_params(params)
            return getattr(moved, "objective", moved.loss)(x, y, state, masks=masks)[0]

        grads = twin.loss_and_gradients(x, y, state, masks=masks)[1]
        exact = Case(twin.params, value, grads, cell, hidden=hidden)
        if (steps, batch) == (T, B):
            yield from derivatives(exact, "loss", rng, full=False)
            yield from _loss_laws(twin, x, y, state, masks)
            takes = inspect.signature(twin.loss_and_gradients).parameters
            # (the penalties count padded steps too)
            if isinstance(twin, Network) and "lengths" in takes and not (twin.spec.ar or twin.spec.tar):
                yield _padding(twin, x, y, state, masks)
            continue
        dtype = np.result_type(*net.params.values())
        eps = spacing(getattr(stack, "dtype", dtype))
        start = None if state is None else like_state(state, [f.astype(dtype) for f in named_state(state).values()])
        own = net.loss_and_gradients(x, y, start, masks=masks)[1]
        near = [twin.with_params(params) for params in rounded(twin, eps, rng)]
        moved = [other.loss_and_gradients(x, y, state, masks=masks)[1] for other in near]
        ours = Case(net.params, value, own, cell, hidden=hidden)
        yield from projections(ours, exact, moved, eps, layers, f"loss, {getattr(stack, 'dtype', dtype)}", rng)


def _tokens(net: LossNetwork, steps: int, batch: int, rng: np.random.Generator) -> Array:
    """Draw what a network reads: tokens, or words with spellings of 0 to 6 characters."""
    x = rng.integers(0, net.spec.vocabulary_size, (steps, batch))
    characters = getattr(net.spec, "characters", 0)
    if not characters:
        return x
    spelled = rng.integers(1, characters + 1, (steps, batch, 6)) * (
        np.arange(6) < rng.integers(0, 7, x.shape)[..., None]
    )
    return np.concatenate([x[..., None], spelled], axis=-1)


def _targets(net: LossNetwork, steps: int, batch: int, rng: np.random.Generator) -> Array:
    """Draw targets for the head of a network."""
    head = getattr(net, "head", LANGUAGE)
    rows = (steps, batch) if head.stepwise else (batch,)
    if getattr(head, "numbers", 0):
        return rng.random((*rows, head.numbers))  # labels too: probabilities
    return rng.integers(0, head.classes or head.outputs or net.spec.vocabulary_size, rows)


def _loss_laws(net: LossNetwork, x: Array, y: Array, state: Any, masks: Any) -> Iterator[Proof]:
    """Yield proofs of what holds for a loss that is a mean over all targets."""
    head = getattr(net, "head", LANGUAGE)
    stepwise = head.stepwise
    whole_rows = head.loss is sequence_loss or getattr(getattr(net, "recurrent", None), "bidirectional", False)

    def run(rows: Sequence[int]) -> Arrays:
        s = None if state is None else changed(state, lambda f: f[:, rows])
        part = part_masks(masks, rows=rows)
        loss, grads, final = net.loss_and_gradients(x[:, rows], y[:, rows] if stepwise else y[rows], s, masks=part)
        return {"loss": np.array(loss)} | outputs(None, final) | {f"d{name}": g for name, g in grads.items()}

    states = {} if state is None else named_state(state)
    inputs = {"x": x, "y": y} | states | {f"mask {name}": m for name, m in (masks or {}).items()} | net.params
    before = {name: a.copy() for name, a in inputs.items()}
    whole = run([0, 1, 2])
    yield law("the same again", "a second pass gives the same bits, loss", run([0, 1, 2]), whole, 0.0)
    order, ours, theirs = [2, 0, 1], {}, {}
    first, second = run(order[:2]), run(order[2:])
    for name, a in whole.items():
        if name.startswith("state."):
            ours[name], theirs[name] = np.concatenate([first[name], second[name]], axis=1), a[:, order]
        else:
            ours[name], theirs[name] = (2 * first[name] + second[name]) / 3, a
    yield law("rows", "permuting and parting rows does so to results, loss", ours, theirs, EXACT)
    if stepwise and not whole_rows:
        cut, total, s = 4, 0.0, state
        for part in (slice(cut), slice(cut, None)):
            nats, s = net.loss(x[part], y[part], s, masks=part_masks(masks, part))
            total += nats * len(x[part]) / len(x)
        ours = {"loss": np.array(total)} | outputs(None, s)
        yield law("chunks", "two forward equal one, loss", ours, {name: whole[name] for name in ours}, EXACT)
    yield law("arguments", "loss and gradients change none, loss", inputs, before, 0.0)


def _rows(field: Array, rows: slice) -> Array:
    return field[:, rows]


def _padding(net: Network, x: Array, y: Array, state: Any, masks: Any) -> Proof:
    """Rows of unequal lengths lose what each by itself does, whatever stands behind their ends."""
    lengths, steps = np.array([T, 2, 4]), np.arange(T)[:, None]
    behind = steps >= lengths
    odd_x, odd_y = x.copy(), y.copy()
    odd_x[behind] = -1
    if net.head.stepwise:
        odd_y[behind] = np.nan if y.dtype.kind == "f" else -1
    value, grads, _ = net.loss_and_gradients(odd_x, odd_y, state, masks=masks, lengths=lengths)
    shares = lengths / lengths.sum() if net.head.stepwise else np.full(B, 1 / B)
    theirs = {"loss": np.array(value)} | {f"d{name}": g for name, g in grads.items()}
    ours = {name: np.zeros_like(a) for name, a in theirs.items()}
    for row, (length, share) in enumerate(zip(lengths, shares, strict=True)):
        rows, live = slice(row, row + 1), slice(length)
        target = y[live, rows] if net.head.stepwise else y[rows]
        begin = None if state is None else changed(state, partial(_rows, rows=rows))
        alone, more, _ = net.loss_and_gradients(x[live, rows], target, begin, masks=part_masks(masks, live, rows))
        for name, a in ({"loss": np.array(alone)} | {f"d{name}": g for name, g in more.items()}).items():
            ours[name] = ours[name] + share * a
    return law("padding", "rows of unequal lengths lose what each does by itself, loss", ours, theirs, EXACT)
