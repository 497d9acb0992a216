"""The proofs, as functions anyone can call: `check_cell` for a cell, `check_network` for a network.

- *Contract*: a cell's functions take and give what the scan expects, and change no argument.
- *Complex step* (Squire & Trapp 1998): f'(x) v = Im f(x + i h v) / h, without the cancellation of finite differences,
  so h can be 1e-30 and the derivative is exact to rounding. NumPy orders complex numbers by their real part first, so
  `where` and `maximum` take the branch of the real number: exact too, unless a unit sits right on its kink.
- *Central differences*, which need no complex arithmetic and know nothing of analytic functions.
- *Projection*: at real sizes, in the network's own precision and on its own backend, <gradient, v> for random v.
- *Laws* that hold for any recurrence: linear in dy, nothing from nothing, chunks and steps equal the whole, rows of a
  batch do not touch each other, masked steps do nothing, the same again, arguments are not changed.

(PyTorch's numbers, every backend against the reference and golden values are tests of this project.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Self, cast

import numpy as np

from . import scan
from .cells import Back, Cell, Stage
from .errors import UnrolledError
from .recurrent import Recurrent, find_cell
from .scan import Array

T, B, I, H = 7, 3, 4, 5
"""Sizes of the full proofs: small, above one, all different."""

STEP = 1e-30
EXACT = 1e-12
"""Tolerance in float64, relative to a gradient's largest entry: some hundred roundings of 1e-16 on sums of some hundred
products, with two orders to spare; a wrong term is larger by ten orders."""
STEP_CENTRAL = 6e-6
CENTRAL = 1e-7
"""Tolerance of central differences, relative to a gradient's norm. With the step eps^(1/3) = 6e-6, curvature costs
step^2 = 4e-11 and cancellation 1e-16 / step = 2e-11 of values some ten times the gradient; two orders to spare."""
ROUNDINGS = 4
"""Tolerance of a projection, in roundings of the network's precision: this many for each step of each layer, adding up
like a random walk, times the problem's own sensitivity to one rounding of every parameter."""

REORDERED = 64
"""Tolerance of laws that only change the order of sums, in roundings of the network's precision relative to the largest
entry: sums of some hundred products, passed on through seven steps; one to four are typical."""

Verdict = Literal["passed", "failed", "unsupported"]


@dataclass(frozen=True)
class Proof:
    """One checked statement: it holds if `value`, a measured error, is at most `tolerance`."""

    name: str
    subject: str
    value: float
    tolerance: float
    verdict: Verdict
    detail: str = ""
    """What differs where, with both numbers; or why there is no verdict."""

    @property
    def passed(self) -> bool:
        """Whether it was tried and holds."""
        return self.verdict == "passed"

    def __str__(self) -> str:
        said = self.verdict.upper() if self.verdict == "failed" else self.verdict
        text = f"{said:<11}  {self.name:<19}  {self.subject:<48}"
        if self.verdict == "unsupported":
            return f"{text}  {self.detail}"
        text += f"  error {self.value:.1e} of {self.tolerance:.0e}"
        return text if self.passed else f"{text}\n             {self.detail}"


def _proof(name: str, subject: str, value: float, tolerance: float, detail: str = "") -> Proof:
    """Pass or fail by the measured error; an error that is not a number fails."""
    holds = bool(value <= tolerance)
    return Proof(name, subject, float(value), tolerance, "passed" if holds else "failed", "" if holds else detail)


def _unsupported(name: str, subject: str, why: str) -> Proof:
    return Proof(name, subject, float("nan"), 0.0, "unsupported", why)


@dataclass(frozen=True)
class Report(Sequence[Proof]):
    """Proofs, in the order they were made; `print` it for a table."""

    proofs: tuple[Proof, ...] = ()

    @property
    def failed(self) -> tuple[Proof, ...]:
        """The proofs that do not hold."""
        return tuple(proof for proof in self.proofs if proof.verdict == "failed")

    @property
    def unsupported(self) -> tuple[Proof, ...]:
        """The proofs that could not be tried; each says why in its `detail`."""
        return tuple(proof for proof in self.proofs if proof.verdict == "unsupported")

    @property
    def passed(self) -> bool:
        """Whether there are proofs and none failed."""
        return any(proof.passed for proof in self.proofs) and not self.failed

    def raise_if_failed(self) -> Self:
        """Return the report, or raise an UnrolledError that names every failed proof."""
        if self.failed:
            raise UnrolledError("\n".join(map(str, self.failed)))
        return self

    def __getitem__(self, index: Any) -> Any:
        return self.proofs[index]

    def __len__(self) -> int:
        return len(self.proofs)

    def __str__(self) -> str:
        counts = [sum(proof.verdict == verdict for proof in self) for verdict in ("passed", "failed", "unsupported")]
        last = "{} passed, {} failed, {} unsupported".format(*counts)
        return "\n".join([*map(str, self.proofs), last])


class LossNetwork(Protocol):
    """What `check_network` needs of a network that maps tokens to a loss; `unrolled.Network` is one."""

    params: dict[str, Array]
    spec: Any
    """Anything with `vocabulary_size`."""

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


def check_cell(cell: str | Cell, *, seed: int = 0) -> Report:
    """Prove a cell: its contract, every derivative at one layer, with and without bias, and the laws.

    One step comes first: what is wrong at a gate is wrong there alone, and named. Then seven steps, entry by entry.
    Rows of different lengths and kept units (zoneout) are tried along random directions, two for each gate's rows.

    Parameters
    ----------
    cell : str or Cell
        A name, or a cell of your own.
    seed : int
        Of the random contents.

    Returns
    -------
    Report
        If the contract is broken, the report ends there.

    Raises
    ------
    UnrolledError
        If no cell has that name.

    Examples
    --------
    >>> import unrolled as ur
    >>> report = ur.check_cell("lstm")
    >>> report.passed
    True
    >>> report[1].name, report[1].subject, report[1].value < 1e-12
    ('complex step', 'weight_ih_l0, lstm, one step', True)
    """
    cell = find_cell(cell)
    contract = _contract(cell, np.random.default_rng(seed))
    proofs = [contract]
    if contract.passed:
        one = Recurrent(cell, I, H, dtype="float64", backend="reference")
        proofs += check_derivatives(one, steps=1, seed=seed).proofs
        for bias in (True, False):
            net = Recurrent(cell, I, H, bias=bias, dtype="float64", backend="reference")
            rng, label = np.random.default_rng(seed), f"{cell.name}, bias={bias}"
            proofs += _prove_recurrent(net, rng, label, full=True)
            proofs += _laws(net, rng, label)
        case = _kept_case(net, np.random.default_rng(seed))
        proofs += _derivatives(case, f"{cell.name}, kept units", np.random.default_rng(seed), full=False)
    return Report(tuple(proofs))


def check_network(net: Recurrent | LossNetwork, *, seed: int = 0) -> Report:
    """Prove a network as it is: its layers, options, parameters, precision and backend.

    Derivatives of a float64 copy are compared with complex steps along random directions, two for each gate's rows. The
    network itself, in its own precision and on its own backend, has to agree at T = 20, B = 8 through random
    projections, and to obey the laws. For a language network the value is its loss; its recurrent stack is proven by
    itself as well.

    Parameters
    ----------
    net : Recurrent, Network, or anything that is a LossNetwork
        It is not changed.
    seed : int
        Of the random inputs.

    Returns
    -------
    Report

    Examples
    --------
    >>> import unrolled as ur
    >>> report = ur.check_network(ur.GRU(4, 5, num_layers=2, bidirectional=True))
    >>> print(str(report).splitlines()[-1])
    100 passed, 0 failed, 2 unsupported
    >>> print(report.unsupported[0].detail)
    the reverse direction needs the whole sequence
    """
    rng = np.random.default_rng(seed)
    wide = {name: p.astype(np.float64) for name, p in net.params.items()}
    twin = net.with_params(wide, "reference")
    if isinstance(net, Recurrent):
        assert isinstance(twin, Recurrent)
        derivatives = _prove_recurrent(twin, rng, f"{net.cell.name}, L={net.num_layers}", full=False)
        return Report((*derivatives, *_project(net, twin, rng), *_laws(net, rng, f"{net.cell.name}, {net.dtype}")))
    proofs = [*_prove_loss(net, cast(LossNetwork, twin), rng)]
    stack = getattr(net, "recurrent", None)
    if isinstance(stack, Recurrent):
        proofs += check_network(stack, seed=seed).proofs
    return Report(tuple(proofs))


def check_derivatives(net: Recurrent, *, steps: int = T, seed: int = 0) -> Report:
    """Compare every gradient of a stack with complex steps and central differences along random directions, in float64.

    Parameters
    ----------
    net : Recurrent
        Its derivatives are tried with two random directions for each gate's rows; `check_network` does more.
    steps : int
        T. With a single step an error stays at the gate it was made at; with more, earlier steps see it too.
    seed : int
        Of the random inputs.

    Returns
    -------
    Report

    Examples
    --------
    >>> import unrolled as ur
    >>> print(str(check_derivatives(ur.LSTM(4, 5))).splitlines()[-1])
    14 passed, 0 failed, 0 unsupported
    """
    twin = net.with_params({name: p.astype(np.float64) for name, p in net.params.items()}, "reference")
    rng = np.random.default_rng(seed)
    x, state = _random_inputs(twin, steps, B, rng)
    label = f"{net.cell.name}{', one step' * (steps == 1)}"
    return Report(tuple(_derivatives(_recurrent_case(twin, x, state, None, rng), label, rng, full=False)))


# The contract of a cell


class _BrokenError(Exception):
    """A cell does not keep its contract; the message says where and how."""


def _contract(cell: Cell, rng: np.random.Generator) -> Proof:
    """Call every stage once by hand, on arrays (B, H), as the scan does."""
    subject = f"stages of {cell.name}"
    try:
        _call_stages(cell, rng)
    except _BrokenError as broken:
        return Proof("contract", subject, 1.0, 0.0, "failed", str(broken))
    return _proof("contract", subject, 0.0, 0.0)


def _names(kind: type | None) -> tuple[str, ...]:
    return getattr(kind, "_fields", ())


def _call(function: Callable[..., Any], what: str, *args: Any, **kw: Any) -> Any:
    """Call a stage's function; it must neither raise nor change an argument."""
    arrays = _arrays((args, tuple(kw.values())))
    before = [a.copy() for a in arrays]
    try:
        with np.errstate(over="ignore"):
            result = function(*args, **kw)
    except Exception as error:
        raise _BrokenError(f"{what} raised {type(error).__name__}: {error}") from error
    if any(not np.array_equal(a, b) for a, b in zip(arrays, before, strict=True)):
        raise _BrokenError(f"{what} changed one of its arguments; write `dc = dc + ...`, not `dc += ...`")
    return result


def _arrays(tree: Any) -> list[Array]:
    """Every array in nested tuples."""
    if isinstance(tree, tuple):
        return [a for branch in tree for a in _arrays(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def _expect(what: str, got: Any, fields: Sequence[str], *, zero: bool = False) -> None:
    """`got` must be a tuple of one (B, H) array a field; where `zero`, a plain 0 will do."""
    if not isinstance(got, tuple):
        raise _BrokenError(f"{what} is {got!r}; expected ({', '.join(fields)})")
    names = _names(type(got)) or tuple(fields)
    if len(got) != len(fields) or names != tuple(fields):
        said = f"({', '.join(names)})" if _names(type(got)) else f"{len(got)} values"
        raise _BrokenError(f"{what} is {said}; expected ({', '.join(fields)})")
    for name, value in zip(fields, got, strict=True):
        if np.shape(value) != (B, H) and not (zero and np.shape(value) == ()):
            raise _BrokenError(f"{what}.{name} has shape {np.shape(value)}; expected an array (B, H) = {(B, H)}")


def _call_stages(cell: Cell, rng: np.random.Generator) -> None:
    def draw(count: int) -> list[Array]:
        return [rng.standard_normal((B, H)) for _ in range(count)]

    state = _names(cell.state)
    if not state or state[0] != "h":
        raise _BrokenError(f"state is ({', '.join(state)}); it must be a named tuple that begins with h, the output")
    extra = {} if cell.params is None else {"p": cell.params(*rng.standard_normal((len(_names(cell.params)), H)))}
    s, values, kinds = cell.state(*draw(len(state))), None, []
    for n, stage in enumerate(cell.stages):
        what = _stage_name(stage, n)
        for name in stage.operand or ():
            known = (*state, *(_names(type(values)) if n else ()))
            if name not in known:
                raise _BrokenError(f"{what}: operand {name} is unknown; it can be one of {', '.join(known)}")
            if stage.product and name not in state and name not in _names(cell.gates):
                raise _BrokenError(f"{what}: operand {name} must be a field of the gates, for the tape to keep it")
        ax, ah = tuple(draw(len(stage.rows) * stage.inputs)), tuple(draw(stage.blocks))
        values = _call(stage.forward, f"{what}: forward", ax, ah, s, **({"k": values} if n else {}), **extra)
        if stage is not cell.stages[-1]:
            _expect(f"{what}: forward's result", values, _names(type(values)) or ("a named tuple",))
            kinds.append(type(values))
    if not isinstance(values, tuple) or len(values) != 2:
        raise _BrokenError(f"{what}: forward gave {type(values).__name__}; the last stage gives (State, Gates)")
    new, k = values
    _expect(f"{what}: forward's state", new, state)
    _expect(f"{what}: forward's gates", k, _names(cell.gates))
    d: Any = cell.state(*draw(len(state)))
    for n in reversed(range(len(cell.stages))):
        stage = cell.stages[n]
        what = f"{_stage_name(stage, n)}: backward"
        b = _call(stage.backward, what, d, k, s, new, **extra)
        if not isinstance(b, Back):
            raise _BrokenError(f"{what} gave {type(b).__name__}; expected Back(ax, ah, state, values, params)")
        _expect(f"{what}'s ax", b.ax, stage.rows if stage.inputs else ())
        _expect(f"{what}'s ah", b.ah, stage.rows if stage.product else stage.operand or ())
        _expect(f"{what}'s state", b.state, state, zero=True)
        if n:
            _expect(f"{what}'s values", b.values, _names(kinds[n - 1]), zero=True)
            d = kinds[n - 1](*draw(len(b.values)))
        if cell.params is not None and b.params is not None:
            _expect(f"{what}'s params", b.params, _names(cell.params))


def _stage_name(stage: Stage, n: int) -> str:
    return f"stage {n} (rows {', '.join(stage.rows)})"


# Derivatives


@dataclass(frozen=True)
class _Case:
    """A scalar function of named arrays, and its gradient as the network computes it."""

    inputs: dict[str, Array]
    value: Callable[[Mapping[str, Array]], Any]
    gradient: Mapping[str, Array]
    cell: Cell | None
    directions: int = 1

    def parts(self, name: str) -> list[tuple[str, slice]]:
        """Name the parts of an array along its first axis: a gate's rows, a peephole, a layer's state."""
        local, count = name.removeprefix("recurrent."), len(self.inputs[name])
        labels = [""]
        if local.startswith("state.") and self.inputs[name].ndim == 3:
            labels = [f", layer {n // self.directions}{', reverse' * (n % self.directions)}" for n in range(count)]
        elif self.cell is not None and self.cell.params is not None and local.startswith(self.cell.params_name):
            labels = [f", the weight of {field}" for field in _names(self.cell.params)]
        elif self.cell is not None and local.startswith(("weight_ih", "bias_ih", "gain_ih")):
            labels = [f", rows of {row}" for row in self.cell.input_rows]
        elif self.cell is not None and local.startswith(("weight_hh", "bias_hh", "gain_hh")):
            labels = [f", rows of {row}" for row in self.cell.rows]
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


def _state(fields: Sequence[str], kind: Any, inputs: Mapping[str, Array]) -> Any:
    return kind(*(inputs[f"state.{name}"] for name in fields))


def _weigh(weights: tuple[Array, ...], results: Sequence[Array]) -> Any:
    """One number from several arrays."""
    return sum((w * r).sum() for w, r in zip(weights, results, strict=True))


def _draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
    """Draw N(0, 1), rounded to float32 so that every precision gets the same numbers."""
    return np.asarray(rng.standard_normal(shape)).astype(np.float32).astype(dtype)


def _recurrent_case(net: Recurrent, x: Array, state: Any, lengths: Array | None, rng: np.random.Generator) -> _Case:
    """The value is a random projection of outputs and final state."""
    steps, batch = x.shape[:2][:: -1 if net.batch_first else 1]
    masks = net.draw_masks(steps, batch, rng)
    y, new, tape = net.forward(x, state, lengths, masks=masks)
    cy, *cs = (_draw(rng, a.shape, y.dtype) for a in (y, *new))
    dx, dstate, grads = net.backward(tape, cy, tuple(cs))
    names = state._fields

    def value(inputs: Mapping[str, Array]) -> Any:
        moved = net.with_params({name: inputs[name] for name in net.params}, "reference")
        y, new, _ = moved.forward(inputs["x"], _state(names, type(state), inputs), lengths, masks=masks)
        return _weigh((cy, *cs), (y, *new))

    fields = [f"state.{name}" for name in names]
    inputs = net.params | {"x": x} | dict(zip(fields, state, strict=True))
    gradient = grads | ({} if dx is None else {"x": dx}) | dict(zip(fields, dstate, strict=True))
    return _Case(inputs, value, gradient, net.cell, net.directions)


def _kept_case(net: Recurrent, rng: np.random.Generator) -> _Case:
    """One layer in which units keep their old values at random (zoneout) and rows end at different times."""
    cell = net.cell
    w = {name.removesuffix("_l0"): p for name, p in net.params.items()}
    x, s = _draw(rng, (T, B, I)), cell.state(*(_draw(rng, (B, H)) for _ in _names(cell.state)))
    kept = cell.state(*(rng.random((T, B, H)) < 0.3 for _ in s))
    live = np.arange(T)[:, None] < np.array([5, 0, 7])
    y, new, tape = scan.forward(cell, w, x, s, live=live, keep=kept)
    cy, *cs = (_draw(rng, a.shape) for a in (y, *new))
    dx, ds, grads = scan.backward(cast(scan.Tape, tape), cy, cell.state(*cs))
    fields = [f"state.{name}" for name in s._fields]

    def value(inputs: Mapping[str, Array]) -> Any:
        moved = {name: inputs[name] for name in w}
        state = _state(s._fields, cell.state, inputs)
        y, new, _ = scan.forward(cell, moved, inputs["x"], state, live=live, keep=kept)
        return _weigh((cy, *cs), (y, *new))

    inputs = w | {"x": x} | dict(zip(fields, s, strict=True))
    return _Case(inputs, value, grads | {"x": cast(Array, dx)} | dict(zip(fields, ds, strict=True)), cell)


def _derivatives(case: _Case, label: str, rng: np.random.Generator, full: bool) -> Iterator[Proof]:
    """Every array's gradient against complex steps, and against central differences."""
    floor = 1e-3 * max(float(np.abs(g).max(initial=0)) for g in case.gradient.values())
    for name, array in case.inputs.items():
        subject, misfit = f"{name}, {label}", _misfit(case.gradient.get(name), array)
        if misfit:
            yield Proof("complex step", subject, np.inf, EXACT, "failed", f"{name}: {misfit}")
            continue
        central, measured = _central(case, name, subject, floor, rng)
        yield _complex_step(case, name, subject, floor, rng, full, measured if central.passed else None)
        yield central


def _misfit(gradient: Array | None, array: Array) -> str:
    """Say how a gradient does not fit its array; nothing if it does."""
    if gradient is None:
        return "backward gave no gradient"
    return "" if gradient.shape == array.shape else f"backward gave shape {gradient.shape}, expected {array.shape}"


def _complex_step(
    case: _Case,
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
                return _unsupported("complex step", subject, f"{why}; central differences agree")
    except (TypeError, np.exceptions.ComplexWarning) as error:
        return _unsupported("complex step", subject, f"forward takes no complex numbers: {error}")
    return _proof("complex step", subject, worst, EXACT, detail)


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
    case: _Case, name: str, subject: str, floor: float, rng: np.random.Generator
) -> tuple[Proof, tuple[Array, float]]:
    """Try up to three random directions: a unit that crosses its kink spoils one, a wrong gradient is wrong in all."""
    array, g = case.inputs[name], case.gradient[name]
    scale = max(float(np.linalg.norm(g)), floor, np.finfo(np.float64).tiny)
    for _ in range(3):
        direction: Array = np.asarray(rng.standard_normal(array.shape))
        direction /= float(np.linalg.norm(direction))
        slope, ours = case.difference(name, direction), float((g * direction).sum())
        error = abs(ours - slope) / scale
        if error <= CENTRAL:
            break
    detail = f"{name}, along a random direction: backward {ours:.9g}, central difference {slope:.9g}"
    return _proof("central differences", subject, error, CENTRAL, detail), (direction, slope)


def _random_inputs(net: Recurrent, steps: int, batch: int, rng: np.random.Generator) -> tuple[Array, Any]:
    shape = (batch, steps, net.input_size) if net.batch_first else (steps, batch, net.input_size)
    state = type(net.zero_state(1))(*(_draw(rng, f.shape, f.dtype) for f in net.zero_state(batch)))
    return _draw(rng, shape, net.dtype), state


def _prove_recurrent(net: Recurrent, rng: np.random.Generator, label: str, full: bool) -> Iterator[Proof]:
    for lengths in (None, np.array([5, 0, 7])):
        x, state = _random_inputs(net, T, B, rng)
        case = _recurrent_case(net, x, state, lengths, rng)
        if lengths is None:
            yield from _derivatives(case, label, rng, full)
        else:
            yield from _derivatives(case, f"{label}, lengths", rng, full=False)


# Laws

Arrays = dict[str, Array]


@dataclass(frozen=True)
class _Run:
    """One forward and backward pass: what goes in; calling it gives every array that comes out, by name."""

    net: Recurrent
    x: Array
    state: tuple[Array, ...]
    dy: Array
    dnew: tuple[Array, ...]
    masks: tuple[Array, ...] | None = None
    lengths: Array | None = None

    def __call__(self) -> Arrays:
        y, new, tape = self.net.forward(self.x, self.state, self.lengths, masks=self.masks)
        dx, dstate, grads = self.net.backward(tape, self.dy, self.dnew)
        ours = _outputs(y, new) | {"dx": np.full(self.x.shape, np.nan) if dx is None else dx}
        ours |= {f"dstate.{name}": g for name, g in zip(new._fields, dstate, strict=True)}
        return ours | {f"d{name}": g for name, g in grads.items()}

    @property
    def axes(self) -> tuple[int, int]:
        """Axes of time and of rows in x, y, dx, dy."""
        return (1, 0) if self.net.batch_first else (0, 1)

    def inputs(self) -> Arrays:
        """Every array that the pass is given."""
        given = [self.x, *self.state, self.dy, *self.dnew, *(self.masks or ())]
        lengths = {} if self.lengths is None else {"lengths": self.lengths}
        return {f"argument {n}": a for n, a in enumerate(given)} | lengths | self.net.params

    def rows(self, rows: Sequence[int]) -> _Run:
        """Return the same pass on these rows of the batch."""
        x, dy = (a.take(rows, axis=self.axes[1]) for a in (self.x, self.dy))
        state, dnew = (tuple(f[:, rows] for f in fields) for fields in (self.state, self.dnew))
        masks = self.masks and tuple(m[:, rows] for m in self.masks)
        lengths = None if self.lengths is None else self.lengths[rows]
        return replace(self, x=x, dy=dy, state=state, dnew=dnew, masks=masks, lengths=lengths)

    def steps(self, first: int, end: int) -> _Run:
        """Return the same pass on these steps."""
        x, dy = (a.take(range(first, end), axis=self.axes[0]) for a in (self.x, self.dy))
        return replace(self, x=x, dy=dy, masks=self.masks and tuple(m[first:end] for m in self.masks))


def _outputs(y: Array | None, state: Any) -> Arrays:
    return ({} if y is None else {"y": y}) | {f"state.{name}": f for name, f in zip(state._fields, state, strict=True)}


def _is_gradient(name: str) -> bool:
    return name.startswith("d")


def _law(name: str, subject: str, ours: Arrays, theirs: Arrays, tolerance: float) -> Proof:
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
    return _proof(name, subject, worst, tolerance, detail)


def _near(net: Recurrent) -> float:
    return REORDERED * float(np.finfo(net.dtype).eps)


def _laws(net: Recurrent, rng: np.random.Generator, label: str) -> Iterator[Proof]:
    """What holds for any recurrence, in its own precision and on its own backend; a tolerance of 0 means to the bit."""
    near = _near(net)
    x, state = _random_inputs(net, T, B, rng)
    new = net(x, state)
    dy, *dnew = (_draw(rng, a.shape) for a in (new[0], *new[1]))
    run = _Run(net, x, tuple(state), dy, tuple(dnew), net.draw_masks(T, B, rng))
    masked = replace(run, lengths=np.array([5, 0, 7]))
    before = {name: a.copy() for name, a in masked.inputs().items()}
    whole = run()

    zero = {name: a for name, a in _scaled(run, 0)().items() if _is_gradient(name)}
    expected = {name: np.zeros_like(a) for name, a in zero.items()}
    yield _law("dy = 0", f"all gradients are 0, {label}", zero, expected, 0.0)
    other = replace(run, dy=_draw(rng, dy.shape), dnew=tuple(_draw(rng, f.shape) for f in dnew))
    mixed = replace(run, dy=2 * dy - other.dy, dnew=tuple(2 * a - b for a, b in zip(dnew, other.dnew, strict=True)))
    alone = other()
    expected = {name: 2 * a - alone[name] for name, a in whole.items()}
    yield _law("linear in dy", f"of 2 a - b, {label}", mixed(), expected, near)
    yield _law("the same again", f"a second pass gives the same bits, {label}", run(), whole, 0.0)
    plain = _outputs(*net.forward(x, state)[:2])
    yield _law("inference", f"a call equals forward without masks, {label}", _outputs(*net(x, state)), plain, near)
    if net.bidirectional:
        why = "the reverse direction needs the whole sequence"
        yield _unsupported("chunks", f"two equal one, {label}", why)
        yield _unsupported("steps", f"T steps equal one call, {label}", why)
    else:
        yield _law("chunks", f"two equal one, {label}", _in_chunks(run, 4), whole, near)
        yield _law("steps", f"T steps equal one call, {label}", _in_steps(run), plain, near)
    yield _rows_apart(run, whole, label)
    yield from _masked_steps(masked, label)
    yield _law("arguments", f"forward and backward change none, {label}", masked.inputs(), before, 0.0)


def _scaled(run: _Run, factor: float) -> _Run:
    return replace(run, dy=factor * run.dy, dnew=tuple(factor * f for f in run.dnew))


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
    return _law("rows", f"permuting and parting rows does so to results, {label}", ours, theirs, _near(run.net))


def _in_chunks(run: _Run, cut: int) -> Arrays:
    """Two passes: the state is handed on, its gradient handed back, dropout masks are shared."""
    first, second = run.steps(0, cut), run.steps(cut, T)
    y1, middle, tape1 = run.net.forward(first.x, first.state, masks=first.masks)
    y2, last, tape2 = run.net.forward(second.x, middle, masks=second.masks)
    dx2, dmiddle, grads2 = run.net.backward(tape2, second.dy, run.dnew)
    dx1, dstate, grads1 = run.net.backward(tape1, first.dy, dmiddle)
    parts = [np.full(r.x.shape, np.nan) if dx is None else dx for r, dx in ((first, dx1), (second, dx2))]
    joined = {"dx": np.concatenate(parts, axis=run.axes[0])}
    joined |= {f"dstate.{name}": g for name, g in zip(last._fields, dstate, strict=True)}
    joined |= {f"d{name}": grads1[name] + grads2[name] for name in grads1}
    return _outputs(np.concatenate([y1, y2], axis=run.axes[0]), last) | joined


def _in_steps(run: _Run) -> Arrays:
    time, state, outputs = run.axes[0], run.net.zero_state(B)._make(run.state), []
    for t in range(T):
        y, state = run.net.step(run.x.take(t, axis=time), state)
        outputs.append(y)
    return _outputs(np.stack(outputs, axis=time), state)


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
        yield _law("masked steps", f"{padding} in the padding changes nothing, {label}", ours, whole, 0.0)

    names = run.net.zero_state(1)._fields
    ours = {f"{name} behind row {b}": whole[name].swapaxes(0, time)[at, b] for name in ("y", "dx") for at, b in behind}
    theirs = {name: 0 * a for name, a in ours.items()}
    for name, s, d in zip(names, run.state, run.dnew, strict=True):  # row 1 has no steps at all
        ours |= {f"{key}.{name}, length 0": whole[f"{key}.{name}"][:, 1] for key in ("state", "dstate")}
        theirs |= {f"state.{name}, length 0": s[:, 1], f"dstate.{name}, length 0": d[:, 1]}
    yield _law("masked steps", f"y and dx are 0, the state passes through, {label}", ours, theirs, 0.0)

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
    yield _law("masked steps", f"each row equals its own steps alone, {label}", ours, theirs, _near(run.net))


# Real sizes, own precision


def _project(net: Recurrent, twin: Recurrent, rng: np.random.Generator) -> Iterator[Proof]:
    """The network in its own precision and on its own backend against its float64 twin."""
    x, state = _random_inputs(net, 20, 8, rng)
    seed = int(rng.integers(2**31))
    wide = type(state)(*(f.astype(np.float64) for f in state))

    def case(network: Recurrent, x: Array, state: Any) -> _Case:
        return _recurrent_case(network, x, state, None, np.random.default_rng(seed))

    ours, exact = case(net, x, state), case(twin, x.astype(np.float64), wide)
    eps = float(np.finfo(net.dtype).eps)
    moved = case(twin.with_params(_round(twin.params, eps, rng)), x.astype(np.float64), wide)
    yield from _projections(ours, exact, moved.gradient, eps, net.num_layers, f"{net.cell.name}, {net.dtype}", rng)


def _round(params: Mapping[str, Array], eps: float, rng: np.random.Generator) -> dict[str, Array]:
    """Every parameter one rounding off."""
    return {name: p * (1 + eps * rng.choice([-0.5, 0.5], p.shape)) for name, p in params.items()}


def _projections(
    ours: _Case,
    exact: _Case,
    moved: Mapping[str, Array],
    eps: float,
    layers: int,
    label: str,
    rng: np.random.Generator,
) -> Iterator[Proof]:
    floor = 1e-3 * max(float(np.linalg.norm(g)) for g in exact.gradient.values())
    for name, array in exact.inputs.items():
        misfit = _misfit(ours.gradient.get(name), array) or _misfit(exact.gradient.get(name), array)
        if misfit:
            yield Proof("projection", f"{name}, {label}", np.inf, eps, "failed", f"{name}: {misfit}")
            continue
        g = exact.gradient[name]
        scale = max(float(np.linalg.norm(g)), floor, np.finfo(np.float64).tiny)
        sensitivity = max(1.0, float(np.linalg.norm(moved[name] - g)) / (scale * eps))
        tolerance = ROUNDINGS * float(np.sqrt(20 * layers)) * eps * sensitivity
        v: Array = np.asarray(rng.standard_normal(array.shape))
        subject, slope = f"{name}, {label}", exact.slope(name, v)
        got = float((ours.gradient[name].astype(np.float64) * v).sum())
        detail = f"{name}, along a random direction: backward {got:.9g}, complex step {slope:.9g}"
        yield _proof("projection", subject, abs(got - slope) / scale, tolerance, detail)


def _prove_loss(net: LossNetwork, twin: LossNetwork, rng: np.random.Generator) -> Iterator[Proof]:
    """The loss of a network of tokens with respect to every parameter, in float64 and in its own precision."""
    stack = getattr(net, "recurrent", None)
    cell = getattr(stack, "cell", None)
    layers = len(net.zero_state(1)[0])
    for steps, batch in ((T, B), (20, 8)):
        x, y = rng.integers(0, net.spec.vocabulary_size, (2, steps, batch))
        masks = net.draw_masks(steps, batch, rng)
        zero = twin.zero_state(batch)
        state = type(zero)(*(_draw(rng, f.shape) for f in zero))

        def value(
            params: Mapping[str, Array], x: Array = x, y: Array = y, state: Any = state, masks: Any = masks
        ) -> Any:
            return twin.with_params(params).loss(x, y, state, masks=masks)[0]

        grads = twin.loss_and_gradients(x, y, state, masks=masks)[1]
        exact = _Case(twin.params, value, grads, cell)
        if (steps, batch) == (T, B):
            yield from _derivatives(exact, "loss", rng, full=False)
            yield from _loss_laws(twin, x, y, state, masks)
            continue
        dtype = np.result_type(*net.params.values())
        eps = float(np.finfo(dtype).eps)
        own = net.loss_and_gradients(x, y, type(zero)(*(f.astype(dtype) for f in state)), masks=masks)[1]
        moved = twin.with_params(_round(twin.params, eps, rng)).loss_and_gradients(x, y, state, masks=masks)[1]
        ours = _Case(net.params, value, own, cell)
        yield from _projections(ours, exact, moved, eps, layers, f"loss, {dtype}", rng)


def _loss_laws(net: LossNetwork, x: Array, y: Array, state: Any, masks: Any) -> Iterator[Proof]:
    """What holds for a loss that is a mean over all targets."""

    def run(rows: Sequence[int]) -> Arrays:
        s = type(state)(*(f[:, rows] for f in state))
        part = masks and tuple(m[:, rows] for m in masks)
        loss, grads, final = net.loss_and_gradients(x[:, rows], y[:, rows], s, masks=part)
        return {"loss": np.array(loss)} | _outputs(None, final) | {f"d{name}": g for name, g in grads.items()}

    given = [x, y, *state, *(masks or ())]
    inputs = {f"argument {n}": a for n, a in enumerate(given)} | net.params
    before = {name: a.copy() for name, a in inputs.items()}
    whole = run([0, 1, 2])
    yield _law("the same again", "a second pass gives the same bits, loss", run([0, 1, 2]), whole, 0.0)
    order, ours, theirs = [2, 0, 1], {}, {}
    first, second = run(order[:2]), run(order[2:])
    for name, a in whole.items():
        if name.startswith("state."):
            ours[name], theirs[name] = np.concatenate([first[name], second[name]], axis=1), a[:, order]
        else:
            ours[name], theirs[name] = (2 * first[name] + second[name]) / 3, a
    yield _law("rows", "permuting and parting rows does so to results, loss", ours, theirs, EXACT)
    cut, total, s = 4, 0.0, state
    for part in (slice(cut), slice(cut, None)):
        nats, s = net.loss(x[part], y[part], s, masks=masks and tuple(m[part] for m in masks))
        total += nats * len(x[part]) / len(x)
    ours = {"loss": np.array(total)} | _outputs(None, s)
    yield _law("chunks", "two forward equal one, loss", ours, {name: whole[name] for name in ours}, EXACT)
    yield _law("arguments", "loss and gradients change none, loss", inputs, before, 0.0)
