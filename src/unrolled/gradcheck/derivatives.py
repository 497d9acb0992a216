"""Gradients against complex steps, central differences, and random projections at real sizes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ..cells import Cell
from ..cells.cell import ROWED
from ..cells.contract import field_names
from ..checks import Array, array_dtype
from ..nn.recurrent import Recurrent
from ..reference import scan
from .report import Proof, proof, unsupported
from .sizes import CENTRAL, DRAWS, EXACT, ROUNDINGS, STEP, STEP_CENTRAL, B, H, I, T, spacing


@dataclass(frozen=True)
class Case:
    """A scalar function of named arrays, and its gradient as the network computes it."""

    inputs: dict[str, Array]
    value: Callable[[Mapping[str, Array]], Any]
    gradient: Mapping[str, Array]
    cell: Cell | None
    directions: int = 1
    hidden: tuple[int, ...] = (H,)
    """H of each layer."""

    def parts(self, name: str) -> list[tuple[str, slice]]:
        """Name the parts of an array along its first axis: a gate's rows, a peephole, a layer's state."""
        local, count = name.removeprefix("recurrent."), len(self.inputs[name])
        labels = [""]
        if local.startswith("state.") and self.inputs[name].ndim == 3:
            labels = [f", layer {n // self.directions}{', reverse' * (n % self.directions)}" for n in range(count)]
        elif self.cell is not None and self.cell.params is not None and local.startswith(self.cell.params_name):
            labels = [f", the weight of {field}" for field in field_names(self.cell.params) or ()]
        elif self.cell is not None and local.startswith(ROWED):
            parameter = next(name for name in ROWED if local.startswith(name))
            layer = re.match(r"_l(\d+)", local.removeprefix(parameter))
            hidden = self.hidden[int(layer[1]) if layer else 0]
            return [(f", rows of {row}", rows) for row, rows in self.cell.parts(parameter, hidden).items()]
        size = count // len(labels)
        return [(label, slice(n * size, (n + 1) * size)) for n, label in enumerate(labels)]

    def slope(self, name: str, direction: Array) -> float:
        """Complex-step derivative along a direction."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)  # a dropped imaginary part
            moved = self.inputs | {name: self.inputs[name] + 1j * STEP * direction}
            return float(np.imag(self.value(moved))) / STEP

    def difference(self, name: str, direction: Array) -> float:
        """Central difference along a direction."""
        high, low = (
            self.value(self.inputs | {name: self.inputs[name] + sign * STEP_CENTRAL * direction}) for sign in (1, -1)
        )
        return float(high - low) / (2 * STEP_CENTRAL)


def named_state(state: Any, prefix: str = "state") -> dict[str, Array]:
    """Arrays of a State by name, or of a tuple of one State a layer."""
    if hasattr(state, "_fields"):
        return {f"{prefix}.{name}": f for name, f in zip(state._fields, state, strict=True)}
    return {f"{prefix}.{name}_l{n}": f for n, s in enumerate(state) for name, f in zip(s._fields, s, strict=True)}


def like_state(state: Any, arrays: Sequence[Any]) -> Any:
    """Arrays in the order of `named_state`, in the shape of a state."""
    if hasattr(state, "_fields"):
        return type(state)(*arrays)
    size = len(state[0])
    return tuple(type(s)(*arrays[n * size : (n + 1) * size]) for n, s in enumerate(state))


def _weigh(weights: tuple[Array, ...], results: Sequence[Array]) -> Any:
    """One number from several arrays."""
    return sum((w * r).sum() for w, r in zip(weights, results, strict=True))


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    """Draw N(0, 1), rounded to float32 so that every precision gets the same numbers."""
    return np.asarray(rng.standard_normal(shape)).astype(np.float32).astype(dtype)


def recurrent_case(net: Recurrent, x: Array, state: Any, lengths: Array | None, rng: np.random.Generator) -> Case:
    """The value is a random projection of outputs and final state; a trained initial state is used and tried itself."""
    steps, batch = x.shape[:2][:: -1 if net.batch_first else 1]
    masks = net.draw_masks(steps, batch, rng) or {}  # none where one layer has nothing to drop
    given = {} if net.learn_state else named_state(state)
    now = {"masks": masks} | ({"timespans": rng.uniform(0.5, 1.5, x.shape[:2])} if net.cell.sees_time else {})
    y, new, tape = net.forward(x, state if given else None, lengths, **now)
    cy, *cs = (draw(rng, a.shape, y.dtype) for a in (y, *named_state(new).values()))
    dx, dstate, grads = net.backward(tape, cy, like_state(new, cs))

    def value(inputs: Mapping[str, Array]) -> Any:
        moved = net.with_params({name: inputs[name] for name in net.params}, "reference")
        start = like_state(state, [inputs[name] for name in given]) if given else None
        y, new, _ = moved.forward(inputs["x"], start, lengths, **now)
        return _weigh((cy, *cs), (y, *named_state(new).values()))

    gradient = grads | ({} if dx is None else {"x": dx}) | (named_state(dstate) if given else {})
    hidden = getattr(net, "hidden_sizes", ())
    return Case(net.params | {"x": x} | given, value, gradient, net.cell, net.directions, hidden)


def kept_case(net: Recurrent, rng: np.random.Generator) -> Case:
    """One layer in which units keep their old values at random (zoneout) and rows end at different times."""
    cell = net.cell
    kept = cell.state(*(rng.random((T, B, H)) < 0.3 for _ in field_names(cell.state) or ()))
    return _masked_case(net, rng, scan.ScanMasks(np.arange(T)[:, None] < np.array([5, 0, 7]), kept))


def dropped_case(net: Recurrent, rng: np.random.Generator) -> Case:
    """One layer in which candidates are dropped at random (recurrent dropout), the others scaled up."""
    return _masked_case(net, rng, scan.ScanMasks(drop=np.where(rng.random((T, B, H)) < 0.3, 0, 1 / 0.7)))


def _masked_case(net: Recurrent, rng: np.random.Generator, masks: scan.ScanMasks) -> Case:
    """One layer with the scan's own masks."""
    cell = net.cell
    w = {name.removesuffix("_l0"): p for name, p in net.params.items()}
    x, s = draw(rng, (T, B, I)), cell.state(*(draw(rng, (B, H)) for _ in field_names(cell.state) or ()))
    y, new, tape = scan.forward(cell, w, x, s, masks)
    cy, *cs = (draw(rng, a.shape) for a in (y, *new))
    dx, ds, grads = scan.backward(cast(scan.Tape, tape), cy, cell.state(*cs))

    def value(inputs: Mapping[str, Array]) -> Any:
        moved = {name: inputs[name] for name in w}
        state = like_state(s, [inputs[name] for name in named_state(s)])
        y, new, _ = scan.forward(cell, moved, inputs["x"], state, masks)
        return _weigh((cy, *cs), (y, *new))

    return Case(w | {"x": x} | named_state(s), value, grads | {"x": cast(Array, dx)} | named_state(ds), cell)


def derivatives(case: Case, label: str, rng: np.random.Generator, full: bool) -> Iterator[Proof]:
    """Every array's gradient against complex steps, and against central differences."""
    floor = 1e-3 * max(float(np.abs(g).max(initial=0)) for g in case.gradient.values())
    for name, array in case.inputs.items():
        subject, wrong = f"{name}, {label}", misfit(case.gradient.get(name), array)
        if wrong:
            yield Proof("complex step", subject, np.inf, EXACT, "failed", f"{name}: {wrong}")
            continue
        central, measured = _central(case, name, subject, floor, rng)
        yield _complex_step(case, name, subject, floor, rng, full, measured if central.passed else None)
        yield central


def misfit(gradient: Array | None, array: Array) -> str:
    """Return how a gradient does not fit its array; nothing if it does."""
    if gradient is None:
        return "backward gave no gradient"
    return "" if gradient.shape == array.shape else f"backward gave shape {gradient.shape}, expected {array.shape}"


def _complex_step(
    case: Case,
    name: str,
    subject: str,
    floor: float,
    rng: np.random.Generator,
    full: bool,
    measured: tuple[Array, float] | None,
) -> Proof:
    """Every entry, or two random directions a part; `measured` is a direction and its slope, sure to 1e-7."""
    array, g = case.inputs[name], case.gradient[name]
    scale = max(float(np.abs(g).max(initial=0)), floor, np.finfo(np.float64).tiny)
    worst, detail = 0.0, ""
    try:
        for label, rows in case.parts(name):
            for at, direction in _directions(array, rows, rng, full):
                slope = case.slope(name, direction)
                ours = float((g[rows] * direction[rows]).sum())
                error = abs(ours - slope) / scale
                if not error <= worst and not np.isnan(worst):
                    worst, detail = error, f"{name}{at}{label}: backward {ours:.9g}, complex step {slope:.9g}"
        if not worst <= EXACT and measured is not None:
            direction, numeric = measured
            if not abs(case.slope(name, direction) - numeric) <= 100 * CENTRAL * float(np.linalg.norm(g)):
                why = "forward is not analytic, so complex steps prove nothing (abs, sign, conj?)"
                return unsupported("complex step", subject, f"{why}; central differences agree")
    except (TypeError, np.exceptions.ComplexWarning) as error:
        return unsupported("complex step", subject, f"forward takes no complex numbers: {error}")
    return proof("complex step", subject, worst, EXACT, detail)


def _directions(array: Array, rows: slice, rng: np.random.Generator, full: bool) -> Iterator[tuple[str, Array]]:
    """Unit vectors of a part of an array; or two random vectors, of length about 1."""
    part = array[rows]
    for n in range(part.size if full else 2):
        direction = np.zeros(array.shape)
        if full:
            index = tuple(map(int, np.unravel_index(n, part.shape)))
            index = (index[0] + rows.start, *index[1:])
            direction[index] = 1
            yield str(list(index)), direction
        else:
            direction[rows] = rng.standard_normal(part.shape) / np.sqrt(part.size)
            yield "", direction


def _central(
    case: Case, name: str, subject: str, floor: float, rng: np.random.Generator
) -> tuple[Proof, tuple[Array, float]]:
    """Try up to three random directions: a unit that crosses its kink spoils one, a wrong gradient is wrong in all."""
    array, g = case.inputs[name], case.gradient[name]
    lost = abs(float(case.value(case.inputs))) * np.finfo(np.float64).eps / STEP_CENTRAL  # by a rounding of the value
    scale = max(float(np.linalg.norm(g)), floor, lost / CENTRAL, np.finfo(np.float64).tiny)
    for _ in range(3):
        direction: Array = np.asarray(rng.standard_normal(array.shape))
        direction /= float(np.linalg.norm(direction))
        slope, ours = case.difference(name, direction), float((g * direction).sum())
        error = abs(ours - slope) / scale
        if error <= CENTRAL:
            break
    detail = f"{name}, along a random direction: backward {ours:.9g}, central difference {slope:.9g}"
    return proof("central differences", subject, error, CENTRAL, detail), (direction, slope)


def away_from_zero(params: Mapping[str, Array], rng: np.random.Generator) -> dict[str, Array]:
    """Return the parameters, with random numbers in those that are all zeros.

    Biases of zero put a rectifier that sees nothing right on its kink, and states of zero stand where normalised rows
    are steepest: no difference can be taken there. A weight of zeros keeps its gates from seeing anything.
    """

    def drawn(p: Array) -> Array:
        size = p.dtype.type(np.sqrt(p.shape[-1]) if p.ndim > 1 else 1)
        return np.asarray(draw(rng, p.shape, p.dtype) / size)

    return {name: p if p.any() else drawn(p) for name, p in params.items()}


def random_inputs(net: Recurrent, steps: int, batch: int, rng: np.random.Generator) -> tuple[Array, Any]:
    """Inputs and an initial state, N(0, 1)."""
    shape = (batch, steps, net.input_size) if net.batch_first else (steps, batch, net.input_size)
    zero = net.zero_state(batch)
    state = like_state(zero, [draw(rng, f.shape, f.dtype) for f in named_state(zero).values()])
    return draw(rng, shape, array_dtype(net.dtype)), state


def prove_recurrent(net: Recurrent, rng: np.random.Generator, label: str, full: bool) -> Iterator[Proof]:
    """Every gradient, whole and with rows of different lengths."""
    for lengths in (None, np.array([5, 0, 7])):
        x, state = random_inputs(net, T, B, rng)
        case = recurrent_case(net, x, state, lengths, rng)
        if lengths is None:
            yield from derivatives(case, label, rng, full)
        else:
            yield from derivatives(case, f"{label}, lengths", rng, full=False)


def project(net: Recurrent, twin: Recurrent, rng: np.random.Generator) -> Iterator[Proof]:
    """The network in its own precision and on its own backend against its float64 twin."""
    x, state = random_inputs(net, 20, 8, rng)
    seed = int(rng.integers(2**31))
    wide = like_state(state, [f.astype(np.float64) for f in named_state(state).values()])

    def case(network: Recurrent, x: Array, state: Any) -> Case:
        return recurrent_case(network, x, state, None, np.random.default_rng(seed))

    ours, exact = case(net, x, state), case(twin, x.astype(np.float64), wide)
    eps = spacing(net.dtype)
    moved = [case(twin.with_params(params), x.astype(np.float64), wide).gradient for params in rounded(twin, eps, rng)]
    yield from projections(ours, exact, moved, eps, net.num_layers, f"{net.cell.name}, {net.dtype}", rng)


def rounded(net: Any, eps: float, rng: np.random.Generator) -> Iterator[dict[str, Array]]:
    """Draw a network's parameters, every entry one rounding off; several times where rows are normalised."""
    cell = getattr(getattr(net, "recurrent", net), "cell", None)
    for _ in range(DRAWS if cell is not None and cell.normalised else 1):
        yield {name: p * (1 + eps * rng.choice([-0.5, 0.5], p.shape)) for name, p in net.params.items()}


def projections(
    ours: Case,
    exact: Case,
    moved: Sequence[Mapping[str, Array]],
    eps: float,
    layers: int,
    label: str,
    rng: np.random.Generator,
) -> Iterator[Proof]:
    """Compare a network's gradients with those of its float64 twin, by their products with a random vector.

    `moved` are the twin's gradients with every parameter one rounding off.
    """
    floor = 1e-3 * max(float(np.linalg.norm(g)) for g in exact.gradient.values())
    for name, array in exact.inputs.items():
        wrong = misfit(ours.gradient.get(name), array) or misfit(exact.gradient.get(name), array)
        if wrong:
            yield Proof("projection", f"{name}, {label}", np.inf, eps, "failed", f"{name}: {wrong}")
            continue
        g = exact.gradient[name]
        terms = exact.gradient.get(name.replace("bias", "weight"), g)  # a bias's own may cancel; their roundings stay
        scale = max(*(float(np.linalg.norm(a)) for a in (g, terms)), floor, np.finfo(np.float64).tiny)
        sensitivity = max(1.0, *(float(np.linalg.norm(m[name] - g)) / (scale * eps) for m in moved))
        tolerance = ROUNDINGS * float(np.sqrt(20 * layers)) * eps * sensitivity
        v: Array = np.asarray(rng.standard_normal(array.shape))
        subject, slope = f"{name}, {label}", exact.slope(name, v)
        got = float((ours.gradient[name].astype(np.float64) * v).sum())
        detail = f"{name}, along a random direction: backward {got:.9g}, complex step {slope:.9g}"
        yield proof("projection", subject, abs(got - slope) / scale, tolerance, detail)
