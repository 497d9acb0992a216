"""A derived backward function: against hand-written ones, complex steps, and what it may keep."""

import inspect
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.lstm import Gates as LstmGates
from unrolled.cells.lstm import State as LstmState
from unrolled.cells.lstm import lstm_forward
from unrolled.cells.ops import exp, log, maximum, sigmoid, sqrt, tanh, where
from unrolled.cells.rnn import Gates, State
from unrolled.codegen.cpp import emit_cell
from unrolled.codegen.derive import complete, prepared, prepared_backward
from unrolled.codegen.readable import readable
from unrolled.errors import Unsupported

B, H = 3, 5
EXACT = 1e-12
"""Some hundred roundings of 1e-16, with two orders to spare."""


HAND_WRITTEN = [name for name, cell in CELLS.items() if all(stage.backward for stage in cell.stages)]


def bare(cell: Cell) -> Cell:
    """A cell without its backward functions."""
    return replace(cell, stages=tuple(replace(stage, backward=None) for stage in cell.stages))


class Draws:
    """Arguments of the functions of a cell, drawn at random; complex ones where asked."""

    def __init__(self, cell: Cell, *, imaginary: bool = False, seed: int = 0) -> None:
        self.rng, self.imaginary, self.cell = np.random.default_rng(seed), imaginary, cell
        self.s = cell.state(*(self() for _ in cell.state_fields))
        self.p = {} if cell.params is None else {"p": cell.params(*(self()[0] for _ in cell.param_fields))}

    def __call__(self, units: int = H) -> Any:
        a = self.rng.standard_normal((B, units))
        return a + 1j * self.rng.standard_normal((B, units)) if self.imaginary else a

    def of(self, stage: Stage) -> tuple[Any, Any, Any, dict[str, Any]]:
        """What a stage's forward function takes."""
        units = stage.units(H)
        ax = tuple(self(units) for _ in range(len(stage.rows) * stage.inputs))
        ah = tuple(self(units) for _ in range(stage.blocks))
        given = {} if stage.width != 1 else dict(self.p)
        given |= {} if self.cell.settings is None else {"c": self.cell.constants}
        given |= {"m": self()} if self.cell.candidate in stage.rows else {}
        given |= {"x": self()} if "x" in stage.sees else {}
        given |= {"dt": self()[:, :1]} if "dt" in stage.sees else {}
        return ax, ah, self.s if stage.width == 1 else None, given


def split(stage: Stage, result: Any) -> tuple[Any, dict[str, Any]]:
    return (result[0], {"kept": result[1]}) if stage.keeps else (result, {})


def printed(cell: Cell) -> Cell:
    """A cell with the backward functions that are printed, run as text in the module of its forward functions."""
    text = readable(cell)
    names = dict(vars(import_module(cell.stages[0].forward.__module__)))
    before = dict(names)
    exec(text, names)
    made = [value for name, value in names.items() if name.endswith("_backward") and value is not before.get(name)]
    assert max(map(len, text.splitlines())) <= 100
    return replace(cell, stages=tuple(replace(s, backward=f) for s, f in zip(cell.stages, made, strict=True)))


@pytest.mark.parametrize("imaginary", [False, True])
@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_derived_backward_is_the_hand_written_one_on_real_and_complex_arrays(name: str, imaginary: bool) -> None:
    compare(CELLS[name], complete(bare(CELLS[name])), imaginary=imaginary)


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_printed_backward_is_the_hand_written_one(name: str) -> None:
    compare(CELLS[name], printed(CELLS[name]))


def compare(cell: Cell, own: Cell, *, imaginary: bool = False) -> None:
    """Compare the functions of two cells; every result of forward to the bit."""
    draw = Draws(cell, imaginary=imaginary)
    values, ran = None, []
    for n, (stage, derived) in enumerate(zip(cell.stages, own.stages, strict=True)):
        *args, given = draw.of(stage)
        earlier = {"k": values} if n else {}
        result, kept = split(derived, derived.forward(*args, **given, **earlier))
        values = stage.forward(*args, **given, **earlier)
        last = n + 1 == len(cell.stages)
        for a, b in zip(sum(values, ()) if last else values, sum(result, ()) if last else result, strict=True):
            assert np.array_equal(a, b)  # the same bits
        ran.append((given, kept))
    new, k = values
    d = cell.state(*(draw() for _ in new))
    for n in reversed(range(len(cell.stages))):
        given, kept = ran[n]
        theirs = cell.stages[n].backward(d, k, draw.s, new, **given)
        ours = own.stages[n].backward(d, k, draw.s, new, **given, **kept)
        assert ours.ah is ours.ax or theirs.ah is not theirs.ax
        for part, ours_of in zip(theirs, ours, strict=True):
            for a, b in zip(part or (), ours_of or [0] * len(part or ()), strict=True):
                assert np.abs(a - b).max() <= EXACT * max(np.abs(a).max(), 1e-3)
        operand = cell.stages[n].operand or ()
        fields = zip(theirs.values._fields if n else (), theirs.values or (), strict=True)
        d = type(theirs.values)(*(f + draw() * (name in operand) for name, f in fields)) if n else d


class Angle(NamedTuple):
    nu: Any
    theta: Any


class Turned(NamedTuple):
    re: Any
    im: Any


class Wave(NamedTuple):
    h: Any
    re: Any
    im: Any


class Settings(NamedTuple):
    dt: float = 0.1
    activation: str = "softplus"


class Pair(NamedTuple):
    a: Any
    b: Any


class One(NamedTuple):
    r: Any


def seen(ax: Any, ah: Any, s: State, c: Settings, x: Any, dt: Any, m: Any = 1) -> Any:
    a = ax[0] + ah[0]
    g = where(a > 0, a, exp(a) - 1)
    return State(s.h + c.dt * dt * (c.activation(m * g + x) / (1 + s.h * s.h))), Gates()


def turn(p: Angle) -> Turned:
    r = exp(-exp(p.nu))
    return Turned(r * np.cos(p.theta), r * np.sin(p.theta) * np.abs(p.nu))


def waves(ax: Any, ah: Any, s: Wave, p: Turned) -> Any:
    re, im = p.re * s.re - p.im * s.im + ax[0], p.re * s.im + p.im * s.re + ax[1]
    return Wave(sqrt(1 + re * re + im * im), re, im), Gates()


def wide(ax: Any, ah: Any, s: None) -> One:
    a = ax[0] + ah[0]
    return One(a * sigmoid(a))


def after_wide(ax: Any, ah: Any, s: State, k: One) -> Any:
    return State(maximum(ax[0] + ah[0], -maximum(-s.h, 0.3)) / (2 + log(1 + s.h * s.h))), Gates()


def first(ax: Any, ah: Any, s: State, p: Angle) -> Pair:
    return Pair(tanh(ax[0] + ah[0]) * p.nu, s.h / (1.5 + sigmoid(ax[1])))


def second(ax: Any, ah: Any, s: State, k: Pair, p: Angle) -> One:
    return One(where(k.a > ah[0], k.b * k.b, 2 * k.a))


def third(ax: Any, ah: Any, s: State, k: One, p: Angle) -> Any:
    z = sigmoid(ax[0] + ah[0])
    return State((1 - z) * s.h + z * tanh(k.r * p.theta + ax[1])), Gates()


def gateless(ax: Any, ah: Any, s: LstmState, m: Any = 1) -> Any:
    return lstm_forward(ax, ah, s, m)[0], Gates()


OWN = {
    "x, dt, settings": Cell(
        "seen", State, Gates, (Stage(("g",), seen, biases=("ih",)),), settings=Settings(), candidate="g"
    ),
    "prepare": Cell(
        "waves",
        Wave,
        Gates,
        (Stage(("r", "i"), waves, operand=None, biases=("ih",)),),
        params=Angle,
        params_name="weight_own",
        prepare=turn,
    ),
    "another width": Cell(
        "wide", State, Gates, (Stage(("w",), wide, width=2), Stage(("g",), after_wide, operand=("r",)))
    ),
    "three stages": Cell(
        "three",
        State,
        Gates,
        (
            Stage(("a", "b"), first),
            Stage(("c",), second, operand=("a",), inputs=False),
            Stage(("z", "n"), third, operand=("r",)),
        ),
        params=Angle,
        params_name="weight_own",
    ),
    "an LSTM without gates": Cell(
        "gateless", LstmState, Gates, (Stage(("i", "f", "g", "o"), gateless),), candidate="g"
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_derived_backward_is_exact_by_complex_steps_of_every_input(name: str) -> None:
    user = OWN[name]
    cell, draw = complete(user), Draws(user, seed=1)
    w = {user.params_name: np.array(draw.p["p"])} if draw.p else {}
    arguments = [draw.of(stage) for stage in user.stages]
    rng = np.random.default_rng(2)
    seeds = [[rng.standard_normal((B, stage.units(H))) for _ in range(9)] for stage in cell.stages]

    def run(moved: dict[Any, Any]) -> tuple[Any, list[dict[str, Any]]]:
        """The new state and gates, and what is kept; a stage adds seeds times its values to the loss."""
        p = [row for key, own in w.items() for row in prepared(user, {key: moved.get("p", own)})[key]]
        s = user.state(*(moved.get(("s", i), f) for i, f in enumerate(draw.s)))
        values, kepts, loss = None, [], 0
        for n, (stage, (ax, ah, _, given)) in enumerate(zip(cell.stages, arguments, strict=True)):
            ax = tuple(moved.get(("ax", n, i), a) for i, a in enumerate(ax))
            ah = tuple(moved.get(("ah", n, i), a) for i, a in enumerate(ah))
            given = given | ({"x": moved[("x", n)]} if ("x", n) in moved else {}) | ({"k": values} if n else {})
            given |= {"p": cell.params(*p)} if "p" in given else {}
            values, kept = split(stage, stage.forward(ax, ah, s if stage.width == 1 else None, **given))
            kepts.append(kept)
            for seed, value in zip(seeds[n], values[0] if n + 1 == len(cell.stages) else values, strict=False):
                loss = loss + (seed * value).sum()
        return loss, values, kepts

    _, (new, k), kepts = run({})
    found: dict[Any, Any] = {("s", i): 0 for i in range(len(new))}
    p = prepared(user, w)[user.params_name] if w else ()
    d_p, d = 0, cell.state(*seeds[-1][: len(new)])
    for n in reversed(range(len(cell.stages))):
        stage, (_, _, s, given) = cell.stages[n], arguments[n]
        given = given | ({"p": cell.params(*p)} if "p" in given else {})
        b = stage.backward(d, k, s, new if s else None, **given, **kepts[n])
        assert isinstance(b, Back)
        found |= {(half, n, i): a for half in ("ax", "ah") for i, a in enumerate(getattr(b, half))}
        found |= {("s", i): found["s", i] + a for i, a in enumerate(b.state)}
        found |= {("x", n): b.x} if "x" in stage.sees else {}
        own = b.params or [0] * len(p)
        d_p = d_p + np.array([np.broadcast_to(a, (B, H)).sum(axis=0) for a in own])
        d = type(b.values)(*(seed + a for seed, a in zip(seeds[n - 1], b.values, strict=False))) if n else d
    if w:
        found["p"] = prepared_backward(user, w, {user.params_name: d_p})[user.params_name]

    def of(key: Any) -> Any:
        if key == "p":
            return w[user.params_name]
        if key[0] == "s":
            return draw.s[key[1]]
        return arguments[key[1]][3]["x"] if key[0] == "x" else arguments[key[1]][("ax", "ah").index(key[0])][key[2]]

    for key, gradient in found.items():
        for _ in range(2):
            direction = rng.standard_normal(of(key).shape)
            slope = run({key: of(key) + 1e-30j * direction})[0].imag * 1e30
            ours = (np.broadcast_to(gradient, direction.shape) * direction).sum()
            assert abs(slope - ours) <= EXACT * max(1, abs(slope)), key


def test_the_tape_keeps_the_fewest_fields() -> None:
    kept = {
        name: [stage.keeps and stage.keeps._fields for stage in complete(cell).stages] for name, cell in OWN.items()
    }
    assert kept == {
        "x, dt, settings": [("a_g", "exp_a_g", "div_g")],  # tanh and the like of what is there are computed again
        "prepare": [None],  # all that it reads is in the state
        "another width": [("r", "a_w"), ("a_g",)],  # r, the operand, under its own name
        "three stages": [("a", "tanh_a", "sigmoid_b"), ("r", "ah_c", "a", "b"), ("r", "sigmoid_z", "tanh_n")],
        "an LSTM without gates": [("sigmoid_i", "sigmoid_f", "sigmoid_o", "tanh_g")],
    }
    assert not any(s.keeps for name in HAND_WRITTEN for s in complete(bare(CELLS[name])).stages)  # their gates do


def test_a_selection_hands_on_nothing_of_the_other_side() -> None:
    """exp(1000) is infinite, and 0 times that would be NaN."""

    def elu(ax: Any, ah: Any, s: State) -> Any:
        return State(where(ax[0] > 0, ax[0], exp(ax[0]) - 1) + 0 * ah[0]), Gates()

    stage = complete(Cell("elu", State, Gates, (Stage(("h",), elu),))).stages[0]
    ax = (np.array([[1000.0, -1.0, 0.0]]),)
    with np.errstate(over="ignore"):
        (new, k), kept = stage.forward(ax, (np.zeros((1, 3)),), State(np.zeros((1, 3))))
        b = stage.backward(State(np.ones((1, 3))), k, State(np.zeros((1, 3))), new, kept=kept)
    assert b.ax[0].tolist() == [[1.0, np.exp(-1.0), 1.0]]


def test_a_hand_written_stage_beside_a_derived_one_keeps_its_own() -> None:
    gru = CELLS["gru_reset_before"]
    gates, candidate = gru.stages
    for stages in ((gates, replace(candidate, backward=None)), (replace(gates, backward=None), candidate)):
        mixed = complete(replace(gru, stages=stages))
        own = [stage.backward is not None for stage in stages]
        assert [a is b for a, b in zip(mixed.stages, stages, strict=True)] == own
        assert all(stage.backward for stage in mixed.stages)
    lone = replace(
        gru, gates=Gates, stages=(gates, Stage(("n",), lambda ax, ah, s, k, m=1: (s, Gates()), None, ("rh",)))
    )
    stage = complete(lone).stages[0]  # an operand that no gate has is kept, though backward is the user's
    assert stage.keeps._fields == ("rh",)
    assert list(inspect.signature(stage.backward).parameters) == ["d", "k", "s", "new", "kept"]


def test_derived_functions_run_in_any_precision() -> None:
    stage = complete(OWN["an LSTM without gates"]).stages[0]
    draw = [np.ones((B, H), np.float32)] * 4
    (new, k), kept = stage.forward(draw, draw, LstmState(*draw[:2]))
    b = stage.backward(LstmState(*draw[:2]), k, LstmState(*draw[:2]), new, kept=kept)
    assert {a.dtype for a in (*new, *kept, *b.ax, b.state.c)} == {np.dtype(np.float32)}


def test_what_cannot_be_traced_is_told_with_its_line() -> None:
    def sinh(ax: Any, ah: Any, s: State) -> Any:
        a = ax[0]
        return State(np.sinh(a)), Gates()

    def branch(ax: Any, ah: Any, s: State) -> Any:
        return State(ax[0] if s.h > 0 else ah[0]), Gates()

    def three(ax: Any, ah: Any, s: State) -> Any:
        return s, Gates(), ax[0]

    def short(ax: Any, ah: Any, s: LstmState) -> Any:
        return (s.h,), LstmGates(*(ax[0],) * 4)

    for function, at, said in (
        (sinh, 2, "numpy.sinh"),
        (branch, 1, "instead of if"),
        (three, 0, "gives 3 values; expected two, (State, Gates)"),
        (short, 0, "gives as state 1 values; expected State(h, c)"),
    ):
        kinds = (LstmState, LstmGates) if function is short else (State, Gates)
        cell = Cell("mine", *kinds, (Stage(("h",), function),))
        with pytest.raises(Unsupported) as raised:
            complete(cell)
        message = str(raised.value)
        assert said in message
        assert message.endswith(f"({__file__}, line {function.__code__.co_firstlineno + at})")
        assert "\n" not in message


def test_a_derived_backward_is_emitted_as_a_kernel_where_the_gates_are_all_it_needs() -> None:
    for name in ("lstm_peephole", "gru_reset_before", "gru_reset_after"):
        text = emit_cell(bare(CELLS[name]))
        assert text.count("dax[") == emit_cell(CELLS[name]).count("dax[") > 0
        assert ("SPLIT = true" in text) == ("SPLIT = true" in emit_cell(CELLS[name]))
    with pytest.raises(Unsupported, match="whose backward needs more than the gates"):
        emit_cell(OWN["an LSTM without gates"])
