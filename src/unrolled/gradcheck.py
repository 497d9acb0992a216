"""The proofs, as functions anyone can call: `check_cell` for a cell, `check_network` for a network.

1. *Complex step* (Squire & Trapp 1998): f'(x) v = Im f(x + i h v) / h, without the cancellation of finite differences,
   so h can be 1e-30 and the derivative is exact to rounding. Cells use nothing but analytic functions and selections;
   a selection is exact too, unless a unit sits right on its kink.
3. *Random projection*: at real sizes and in the network's own precision, <gradient, v> for random v.
4. *Laws* that hold for any recurrence: linearity, no gradient from none, chunks and steps equal the whole, rows of a
   batch do not touch each other, masked steps do nothing, arguments are not changed.

(Proof 2, PyTorch's numbers, 5, every backend against the reference, and 6, golden values, are tests of this project.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cells import Cell
from .errors import UnrolledError
from .network import Network
from .recurrent import Recurrent
from .scan import Array

STEP = 1e-30
EXACT = 1e-12
"""Tolerance in float64, relative to a gradient's largest entry: some hundred roundings of 1e-16 on sums of some hundred
products, with two orders to spare; a wrong term is larger by ten orders."""
SINGLE = 2e-5
"""Tolerance in float32, relative to the gradient's norm: T = 20 steps, each with a sum of 64 products of error 6e-8."""


@dataclass(frozen=True)
class Proof:
    """One checked statement: `error` is at most `tolerance` where it holds."""

    name: str
    subject: str
    error: float
    tolerance: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether it holds; an error that is not a number does not."""
        return bool(self.error <= self.tolerance)

    def __str__(self) -> str:
        verdict = "passed" if self.passed else "FAILED"
        text = f"{verdict}  {self.name:<18} {self.subject:<34} error {self.error:.1e} of {self.tolerance:.0e}"
        return text if self.passed else f"{text}\n        {self.detail}"


@dataclass(frozen=True)
class Report:
    """Proofs, in the order they were made; `print` it for a table."""

    proofs: tuple[Proof, ...]

    @property
    def failed(self) -> tuple[Proof, ...]:
        """The proofs that do not hold."""
        return tuple(proof for proof in self.proofs if not proof.passed)

    @property
    def passed(self) -> bool:
        """Whether all hold."""
        return not self.failed

    def raise_if_failed(self) -> None:
        """Raise an UnrolledError that names every failed proof, if there is one."""
        if self.failed:
            raise UnrolledError("\n".join(map(str, self.failed)))

    def __add__(self, other: Report) -> Report:
        return Report(self.proofs + other.proofs)

    def __str__(self) -> str:
        lines = [*map(str, self.proofs), f"{len(self.proofs) - len(self.failed)} passed, {len(self.failed)} failed"]
        return "\n".join(lines)


def check_cell(cell: str | Cell, *, seed: int = 0) -> Report:
    """Prove a cell: every derivative by complex step at one layer, with and without bias and masks, and the laws.

    Parameters
    ----------
    cell : str or Cell
        A name, or a cell of your own.
    seed : int
        Of the random sizes' contents.

    Returns
    -------
    Report

    Examples
    --------
    >>> import unrolled as ur
    >>> ur.check_cell("lstm").passed
    True
    """
    report = Report(())
    for bias in (True, False):
        net = Recurrent(cell, 4, 5, bias=bias, dtype="float64", backend="reference")
        report += _prove_recurrent(net, np.random.default_rng(seed), f"bias={bias}", full=True)
    return report


def check_network(net: Recurrent | Network, *, seed: int = 0) -> Report:
    """Prove a network as it is: its layers, options, parameters, precision and backend.

    Derivatives of a float64 copy are compared with complex steps, along random directions; the network itself is
    compared at T = 20, B = 8 through random projections; a recurrent stack also has to obey the laws.

    Examples
    --------
    >>> import unrolled as ur
    >>> print(str(ur.check_network(ur.GRU(4, 5, num_layers=2, bidirectional=True))).splitlines()[-1])
    60 passed, 0 failed
    """
    rng = np.random.default_rng(seed)
    wide = {name: p.astype(np.float64) for name, p in net.params.items()}
    if isinstance(net, Network):
        return Report(tuple(_prove_loss(net, wide, rng)))
    twin = net.with_params(wide, "reference")
    report = _prove_recurrent(twin, rng, f"{net.num_layers} layers", full=False)
    return report + Report(tuple(_project(net, twin, rng)))


@dataclass(frozen=True)
class _Case:
    """A scalar function of named arrays, and its gradient as the network computes it."""

    inputs: dict[str, Array]
    value: Callable[[Mapping[str, Array]], Any]
    gradient: Mapping[str, Array]
    where: Callable[[str, tuple[int, ...]], str]


def _recurrent_case(net: Recurrent, x: Array, state: Any, lengths: Array | None, rng: np.random.Generator) -> _Case:
    """The value is a random projection of outputs and final state."""
    steps, batch = x.shape[:2][:: -1 if net.batch_first else 1]
    masks = net.draw_masks(steps, batch, rng)
    y, new, tape = net.forward(x, state, lengths, masks=masks)
    cy = np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)
    cs = type(new)(*(rng.standard_normal(f.shape).astype(y.dtype) for f in new))
    dx, dstate, grads = net.backward(tape, cy, cs)
    fields = [f"state.{name}" for name in state._fields]

    def value(inputs: Mapping[str, Array]) -> Any:
        moved = net.with_params({name: inputs[name] for name in net.params}, "reference")
        s = type(state)(*(inputs[name] for name in fields))
        y, new, _ = moved.forward(inputs["x"], s, lengths, masks=masks)
        return (cy * y).sum() + sum((c * f).sum() for c, f in zip(cs, new, strict=True))

    def where(name: str, index: tuple[int, ...]) -> str:
        if name.startswith(("weight_ih", "weight_hh", "bias")):
            return f"{name}{list(index)}, a row of {net.cell.rows[index[0] // net.hidden_size]}"
        if net.cell.params is not None and name.startswith(net.cell.params_name):
            return f"{name}{list(index)}, the weight of {net.cell.params._fields[index[0]]}"  # type: ignore[attr-defined]
        return f"{name}{list(index)}"

    assert dx is not None
    inputs = net.params | {"x": x} | dict(zip(fields, state, strict=True))
    gradient = grads | {"x": dx} | dict(zip(fields, dstate, strict=True))
    return _Case(inputs, value, gradient, where)


def _complex_step(case: _Case, label: str, rng: np.random.Generator, full: bool) -> Iterator[Proof]:
    """Proof 1: every entry, or four random directions an array."""
    for name, array in case.inputs.items():
        g = case.gradient[name]
        scale = max(float(np.abs(g).max(initial=0)), 1e-3)
        worst, detail = 0.0, ""
        if g.shape != array.shape:
            yield Proof("complex step", f"{name}, {label}", np.inf, EXACT, f"shape {g.shape}, expected {array.shape}")
            continue
        for n in range(array.size if full else 4):
            index = np.unravel_index(n, array.shape) if full else ()
            direction: Array = np.zeros(array.shape)
            if not full:
                direction = np.asarray(rng.standard_normal(array.shape)) / np.sqrt(array.size)
            if full:
                direction[index] = 1
            slope = case.value(case.inputs | {name: array + 1j * STEP * direction}).imag / STEP
            ours = float((g * direction).sum())
            error = abs(ours - slope) / scale
            if not error <= worst:
                at = case.where(name, tuple(map(int, index))) if full else f"{name}, along a random direction"
                worst, detail = error, f"{at}: backward {ours:.6g}, complex step {slope:.6g}"
        yield Proof("complex step", f"{name}, {label}", worst, EXACT, detail)


def _random_inputs(net: Recurrent, steps: int, batch: int, rng: np.random.Generator) -> tuple[Array, Any]:
    shape = (batch, steps, net.input_size) if net.batch_first else (steps, batch, net.input_size)
    state = type(net.zero_state(1))(*(rng.standard_normal(f.shape).astype(f.dtype) for f in net.zero_state(batch)))
    return rng.standard_normal(shape).astype(net.dtype), state


def _prove_recurrent(net: Recurrent, rng: np.random.Generator, label: str, full: bool) -> Report:
    proofs: list[Proof] = []
    for lengths in (None, np.array([5, 0, 7])):
        x, state = _random_inputs(net, 7, 3, rng)
        case = _recurrent_case(net, x, state, lengths, rng)
        masked = label if lengths is None else f"{label}, lengths"
        proofs += _complex_step(case, masked, rng, full)
    return Report((*proofs, *_laws(net, rng, label)))


def _difference(a: Any, b: Any) -> float:
    """Largest difference between two arrays, or two tuples of arrays."""
    pairs = zip(a, b, strict=True) if isinstance(a, tuple) else ((a, b),)
    return max(float(np.abs(np.asarray(p) - np.asarray(q)).max(initial=0)) for p, q in pairs)


def _laws(net: Recurrent, rng: np.random.Generator, label: str) -> Iterator[Proof]:
    """Proof 4; sizes are small and values near 1, so errors are absolute."""
    time, row = (1, 0) if net.batch_first else (0, 1)
    steps, batch, cut = 7, 3, 4
    x, state = _random_inputs(net, steps, batch, rng)
    masks = net.draw_masks(steps, batch, rng)
    before = [a.copy() for a in (x, *state, *net.params.values())]
    y, new, tape = net.forward(x, state, masks=masks)
    dy, dnew = rng.standard_normal(y.shape), type(new)(*(rng.standard_normal(f.shape) for f in new))
    back = net.backward(tape, dy, dnew)
    flat = (back[0], *back[1], *back[2].values())

    zero = net.backward(tape, 0 * dy)
    error = max(float(np.abs(a).max()) for a in (zero[0], *zero[1], *zero[2].values()) if a is not None)
    yield Proof("dy = 0", f"all gradients are 0, {label}", error, 0.0)
    twice = net.backward(tape, 2 * dy, type(dnew)(*(2 * f for f in dnew)))
    error = _difference((twice[0], *twice[1], *twice[2].values()), tuple(2 * a for a in flat if a is not None))
    yield Proof("linear in dy", f"2 dy gives 2 gradients, {label}", error, EXACT * 100)

    if not net.bidirectional:
        parts = [masks and tuple(m[s] for m in masks) for s in (slice(cut), slice(cut, None))]
        x1, x2 = np.split(x, [cut], axis=time)
        y1, middle, tape1 = net.forward(x1, state, masks=parts[0])
        y2, last, tape2 = net.forward(x2, middle, masks=parts[1])
        error = max(_difference(np.concatenate([y1, y2], axis=time), y), _difference(tuple(last), tuple(new)))
        yield Proof("chunks", f"two forward equal one, {label}", error, EXACT)
        dy1, dy2 = np.split(dy, [cut], axis=time)
        b2 = net.backward(tape2, dy2, dnew)
        b1 = net.backward(tape1, dy1, b2[1])
        summed = tuple(b1[2][name] + b2[2][name] for name in back[2])
        error = _difference((np.concatenate([b1[0], b2[0]], axis=time), *b1[1], *summed), flat)
        yield Proof("chunks", f"two backward equal one, {label}", error, EXACT * 100)
        whole, final = net(x, state)
        s, outputs = state, []
        for t in range(steps):
            out, s = net.step(x.take(t, axis=time), s)
            outputs.append(out)
        error = max(_difference(np.stack(outputs, axis=time), whole), _difference(tuple(s), tuple(final)))
        yield Proof("steps", f"T steps equal one call, {label}", error, EXACT)

    order = np.array([2, 0, 1])
    shuffled = net.forward(
        x.take(order, axis=row),
        type(state)(*(f[:, order] for f in state)),
        masks=masks and tuple(m[:, order] for m in masks),
    )
    error = max(_difference(shuffled[0], y.take(order, axis=row)), _difference(shuffled[1][0], new[0][:, order]))
    yield Proof("rows", f"permuting rows permutes results, {label}", error, EXACT)

    lengths = np.array([5, 0, 7])
    results = []
    for padding in (0.0, np.nan):
        padded = x.copy()
        for b, length in enumerate(lengths):
            padded.swapaxes(0, time)[length:, b] = padding
        y, end, tape = net.forward(padded, state, lengths, masks=masks)
        dx, dstate, grads = net.backward(tape, dy, dnew)
        results.append((y, *end, dx, *dstate, *grads.values()))
    yield Proof("masked steps", f"NaN in the padding changes nothing, {label}", _difference(*results), 0.0)
    error = max(_difference(f[:, 1], g[:, 1]) for f, g in zip(end, state, strict=True))
    yield Proof("masked steps", f"length 0 keeps the state, {label}", error, 0.0)
    error = _difference(tuple(before), (x, *state, *net.params.values()))
    yield Proof("arguments", f"forward and backward change none, {label}", error, 0.0)


def _project(net: Recurrent, twin: Recurrent, rng: np.random.Generator) -> Iterator[Proof]:
    """Proof 3: the network in its own precision and on its own backend against its float64 twin."""
    x, state = _random_inputs(net, 20, 8, rng)
    seed = int(rng.integers(2**31))
    ours = _recurrent_case(net, x, state, None, np.random.default_rng(seed))
    wide = type(state)(*(f.astype(np.float64) for f in state))
    exact = _recurrent_case(twin, x.astype(np.float64), wide, None, np.random.default_rng(seed))
    yield from _projections(ours.gradient, exact.inputs, exact.value, rng, net.dtype)


def _projections(
    gradient: Mapping[str, Array],
    inputs: dict[str, Array],
    value: Callable[[Mapping[str, Array]], Any],
    rng: np.random.Generator,
    dtype: str,
) -> Iterator[Proof]:
    tolerance = SINGLE if dtype == "float32" else EXACT * 10
    for name, array in inputs.items():
        v = rng.standard_normal(array.shape)
        slope = value(inputs | {name: array + 1j * STEP * v}).imag / STEP
        ours = float((gradient[name].astype(np.float64) * v).sum())
        error = abs(ours - slope) / max(float(np.linalg.norm(gradient[name])), 1e-3)
        detail = f"{name}, along a random direction: backward {ours:.6g}, complex step {slope:.6g}"
        yield Proof("projection", f"{name}, {dtype}", error, tolerance, detail)


def _prove_loss(net: Network, wide: dict[str, Array], rng: np.random.Generator) -> Iterator[Proof]:
    """Proofs 1 and 3 of the loss of a language network with respect to every parameter."""
    x, y = rng.integers(0, net.spec.vocabulary_size, (2, 20, 8))
    masks = net.draw_masks(20, 8, rng)
    exact = net.with_params(wide, "reference")

    def value(params: Mapping[str, Array]) -> Any:
        return exact.with_params(params).loss(x, y, masks=masks)[0]

    for dtype, params, backend in (("float64", wide, "reference"), (net.spec.dtype, net.params, None)):
        gradient = net.with_params(params, backend).loss_and_gradients(x, y, masks=masks)[1]
        yield from _projections(gradient, wide, value, rng, dtype)
