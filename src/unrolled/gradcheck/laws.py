"""The laws of any recurrence, in its own precision and on its own backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..checks import Array, array_dtype
from ..nn.masks import Masks, part_masks
from ..nn.recurrent import Recurrent
from .derivatives import draw, like_state, named_state, random_inputs, rounded
from .report import Proof, proof, unsupported
from .sizes import REORDERED, ROUNDINGS, B, T, spacing

Arrays = dict[str, Array]


@dataclass(frozen=True)
class _Run:
    """One forward and backward pass: what goes in; calling it gives every array that comes out, by name."""

    net: Recurrent
    x: Array
    state: Any
    dy: Array
    dnew: Any
    masks: Masks | None = None
    lengths: Array | None = None
    near: float = 0.0
    """Tolerance where only the order of sums differs."""

    def __call__(self) -> Arrays:
        y, new, tape = self.net.forward(self.x, self.state, self.lengths, masks=self.masks)
        dx, dstate, grads = self.net.backward(tape, self.dy, self.dnew)
        ours = outputs(y, new) | {"dx": np.full(self.x.shape, np.nan) if dx is None else dx}
        ours |= named_state(dstate, "dstate")
        return ours | {f"d{name}": g for name, g in grads.items()}

    @property
    def axes(self) -> tuple[int, int]:
        """Axes of time and of rows in x, y, dx, dy."""
        return (1, 0) if self.net.batch_first else (0, 1)

    def inputs(self) -> Arrays:
        """Every array that the pass is given."""
        lengths = {} if self.lengths is None else {"lengths": self.lengths}
        masks = {f"mask {name}": m for name, m in (self.masks or {}).items()}
        states = named_state(self.state) | named_state(self.dnew, "dstate")
        return {"x": self.x, "dy": self.dy} | states | masks | lengths | self.net.params

    def rows(self, rows: Sequence[int]) -> _Run:
        """Return the same pass on these rows of the batch."""
        x, dy = (a.take(rows, axis=self.axes[1]) for a in (self.x, self.dy))
        state, dnew = (changed(fields, lambda f: f[:, rows]) for fields in (self.state, self.dnew))
        masks = part_masks(self.masks, rows=rows)
        lengths = None if self.lengths is None else self.lengths[rows]
        return replace(self, x=x, dy=dy, state=state, dnew=dnew, masks=masks, lengths=lengths)

    def steps(self, first: int, end: int) -> _Run:
        """Return the same pass on these steps."""
        x, dy = (a.take(range(first, end), axis=self.axes[0]) for a in (self.x, self.dy))
        return replace(self, x=x, dy=dy, masks=part_masks(self.masks, slice(first, end)))


def changed(state: Any, change: Callable[[Array], Array]) -> Any:
    """Return a state with every array changed."""
    return like_state(state, [change(f) for f in named_state(state).values()])


def outputs(y: Array | None, state: Any) -> Arrays:
    """By name, whatever a pass gives."""
    return ({} if y is None else {"y": y}) | named_state(state)


def is_gradient(name: str) -> bool:
    """Whether an array is of the backward pass."""
    return name.startswith("d")


def law(name: str, subject: str, ours: Arrays, theirs: Arrays, tolerance: float) -> Proof:
    """Compare all arrays, relative to the largest entry (or 1); what is not a number is as wrong as can be."""
    worst, detail = 0.0, ""
    size = max(1.0, *(float(np.abs(b).max(initial=0)) for b in theirs.values()))
    for key, b in theirs.items():
        a = ours[key]
        if a.shape != b.shape:
            return Proof(name, subject, np.inf, tolerance, "failed", f"{key} has shape {a.shape}, expected {b.shape}")
        with np.errstate(invalid="ignore"):
            error = np.abs(a.astype(np.float64) - b)
        error = np.where(np.isnan(error), np.inf, error) / size
        if error.max(initial=0) > worst:
            at = tuple(map(int, np.unravel_index(error.argmax(), error.shape)))
            worst, detail = float(error[at]), f"{key}{list(at)} is {a[at]:.6g}, expected {b[at]:.6g}"
    return proof(name, subject, worst, tolerance, detail)


def _tolerance(run: _Run, rng: np.random.Generator) -> float:
    """How far sums in another order may lead away; normalised rows can be so steep that it has to be measured."""
    eps = spacing(run.net.dtype)
    if not run.net.cell.normalised:
        return REORDERED * eps
    copies = replace(run, dy=run.dy.copy(), dnew=changed(run.dnew, np.copy))
    whole, dtype = copies(), array_dtype(run.net.dtype)
    changes = []
    for params in rounded(run.net, 2 * eps, rng):
        net = run.net.with_params({name: p.astype(dtype) for name, p in params.items()})
        changes.append(law("", "", replace(copies, net=net)(), whole, 0.0).value)
    return max(REORDERED * eps, ROUNDINGS * max(changes))


def laws(net: Recurrent, rng: np.random.Generator, label: str) -> Iterator[Proof]:
    """Yield the laws of any recurrence, in its own precision, on its own backend; a tolerance of 0 means to the bit."""
    x, state = random_inputs(net, T, B, rng)
    new = net(x, state)
    dy, dnew = draw(rng, new[0].shape), changed(new[1], lambda f: draw(rng, f.shape))
    run = _Run(net, x, state, dy, dnew, net.draw_masks(T, B, rng) or {})
    masked = replace(run, lengths=np.array([5, 0, 7]))
    before = {name: a.copy() for name, a in masked.inputs().items()}
    masked = replace(masked, near=_tolerance(masked, rng))
    near = _tolerance(run, rng)
    run = replace(run, near=near)
    whole = run()

    zero = {name: a for name, a in _scaled(run, 0)().items() if is_gradient(name)}
    expected = {name: np.zeros_like(a) for name, a in zero.items()}
    yield law("dy = 0", f"all gradients are 0, {label}", zero, expected, 0.0)
    other = replace(run, dy=draw(rng, dy.shape), dnew=changed(dnew, lambda f: draw(rng, f.shape)))
    both = zip(named_state(dnew).values(), named_state(other.dnew).values(), strict=True)
    mixed = replace(run, dy=2 * dy - other.dy, dnew=like_state(dnew, [2 * a - b for a, b in both]))
    alone = other()
    expected = {name: 2 * a - alone[name] for name, a in whole.items()}
    yield law("linear in dy", f"of 2 a - b, {label}", mixed(), expected, near)
    yield law("the same again", f"a second pass gives the same bits, {label}", run(), whole, 0.0)
    plain = outputs(*net.forward(x, state, masks={})[:2])
    yield law("inference", f"a call equals forward without masks, {label}", outputs(*net(x, state)), plain, near)
    if net.bidirectional:
        why = "the reverse direction needs the whole sequence"
        yield unsupported("chunks", f"two equal one, {label}", why)
        yield unsupported("steps", f"T steps equal one call, {label}", why)
    else:
        yield law("chunks", f"two equal one, {label}", _in_chunks(run, 4), whole, near)
        yield law("steps", f"T steps equal one call, {label}", _in_steps(run), plain, near)
    yield _rows_apart(run, whole, label)
    yield from _masked_steps(masked, label)
    yield law("arguments", f"forward and backward change none, {label}", masked.inputs(), before, 0.0)


def _scaled(run: _Run, factor: float) -> _Run:
    return replace(run, dy=factor * run.dy, dnew=changed(run.dnew, lambda f: factor * f))


def _rows_apart(run: _Run, whole: Arrays, label: str) -> Proof:
    """Rows do not touch each other: in another order and in two batches they give the same."""
    order, ours, theirs = [2, 0, 1], {}, {}
    first, second = run.rows(order[:2])(), run.rows(order[2:])()
    for name, a in whole.items():
        axis = run.axes[1] if name in ("y", "dx") else 1
        if name in ("y", "dx") or name.startswith(("state.", "dstate.")):
            ours[name], theirs[name] = np.concatenate([first[name], second[name]], axis), a.take(order, axis)
        else:  # gradients of parameters are sums over rows
            ours[name], theirs[name] = first[name] + second[name], a
    return law("rows", f"permuting and parting rows does so to results, {label}", ours, theirs, run.near)


def _in_chunks(run: _Run, cut: int) -> Arrays:
    """Two passes: the state is handed on, its gradient handed back, dropout masks are shared."""
    first, second = run.steps(0, cut), run.steps(cut, T)
    y1, middle, tape1 = run.net.forward(first.x, first.state, masks=first.masks)
    y2, last, tape2 = run.net.forward(second.x, middle, masks=second.masks)
    dx2, dmiddle, grads2 = run.net.backward(tape2, second.dy, run.dnew)
    dx1, dstate, grads1 = run.net.backward(tape1, first.dy, dmiddle)
    parts = [np.full(r.x.shape, np.nan) if dx is None else dx for r, dx in ((first, dx1), (second, dx2))]
    joined = {"dx": np.concatenate(parts, axis=run.axes[0])}
    joined |= named_state(dstate, "dstate")
    joined |= {f"d{name}": grads1[name] + grads2[name] for name in grads1}
    return outputs(np.concatenate([y1, y2], axis=run.axes[0]), last) | joined


def _in_steps(run: _Run) -> Arrays:
    time, state, steps = run.axes[0], run.state, []
    for t in range(T):
        y, state = run.net.step(run.x.take(t, axis=time), state)
        steps.append(y)
    return outputs(np.stack(steps, axis=time), state)


def _masked_steps(run: _Run, label: str) -> Iterator[Proof]:
    """Steps behind a row's length: whatever the padding holds, they change neither state nor gradient."""
    assert run.lengths is not None
    time, _ = run.axes
    whole = run()
    behind = [(slice(length, None), b) for b, length in enumerate(run.lengths)]
    for padding in (np.nan, np.inf):
        padded = replace(run, x=run.x.copy(), dy=run.dy.copy())
        for place in behind:
            padded.x.swapaxes(0, time)[place] = padded.dy.swapaxes(0, time)[place] = padding
        with np.errstate(all="ignore"):  # what a wrong network computes of it is told by the proof
            ours = padded()
        yield law("masked steps", f"{padding} in the padding changes nothing, {label}", ours, whole, 0.0)

    ours = {f"{name} behind row {b}": whole[name].swapaxes(0, time)[at, b] for name in ("y", "dx") for at, b in behind}
    theirs = {name: 0 * a for name, a in ours.items()}
    for name, f in (named_state(run.state) | named_state(run.dnew, "dstate")).items():  # row 1 has no steps at all
        ours[f"{name}, length 0"], theirs[f"{name}, length 0"] = whole[name][:, 1], f[:, 1]
    yield law("masked steps", f"y and dx are 0, the state passes through, {label}", ours, theirs, 0.0)

    ours, theirs = {}, {}
    for b, length in enumerate(run.lengths):
        if not length:
            continue
        alone = replace(run.rows([b]), lengths=None).steps(0, length)()
        for name, a in alone.items():
            if name in ("y", "dx"):
                ours[f"{name} of row {b}"] = whole[name].take([b], axis=1 - time).take(range(length), axis=time)
            elif name.startswith(("state.", "dstate.")):
                ours[f"{name} of row {b}"] = whole[name][:, [b]]
            else:
                ours[name], a = whole[name], theirs.get(name, 0) + a
            theirs[name if name in ours else f"{name} of row {b}"] = a
    yield law("masked steps", f"each row equals its own steps alone, {label}", ours, theirs, run.near)
