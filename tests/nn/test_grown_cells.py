"""Layers of cells that use all of the contract: x itself, time, settings, other widths, heads, initialisers."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.ops import sigmoid, tanh
from unrolled.cells.settings import parse_settings
from unrolled.gradcheck import sizes
from unrolled.gradcheck.derivatives import kept_case

T, B, I, H = 7, 2, 3, 5


class State(NamedTuple):
    h: Any
    c: Any
    before: Any


class Gates(NamedTuple):
    a: Any
    i: Any


class Wide(NamedTuple):
    b: Any


class Settings(NamedTuple):
    scale: float = 0.5
    activation: str = "tanh"


class Own(NamedTuple):
    u: Any


def wide(ax, ah, s, c):
    b = tanh(ax[0])
    return Wide(b), Wide(b)


def wide_backward(d, k, s, new, kept, c):
    return Back((d.b * (1 - kept.b * kept.b),), (), None)


def memory(ax, ah, s, k, p, c, x, dt):
    i = sigmoid(ax[0] + ah[0] + p.u * s.before)
    new = s.c * (1 - i) + i * x * c.scale + ah[1] * dt
    return State(h=c.activation(new), c=new, before=x), Gates(ah[1], i)


def memory_backward(d, k, s, new, p, c, x, dt):
    dc = d.c + d.h * (1 - new.h * new.h)
    di = dc * (x * c.scale - s.c) * k.i * (1 - k.i)
    state = State(h=0, c=dc * (1 - k.i), before=di * p.u)
    return Back((di, 0 * di), (di, dc * dt), state, Wide(0), Own(di * s.before), dc * k.i * c.scale + d.before)


GROWN = Cell(
    "grown",
    State,
    Gates,
    (
        Stage(("b",), wide, wide_backward, operand=None, biases=("ih",), width=1.6, keeps=Wide),
        Stage(("i", "a"), memory, memory_backward, operand=("b",)),
    ),
    params=Own,
    params_name="weight_own",
    settings=Settings(),
    initial={"weight_own.u": lambda rng, shape: np.full(shape, 0.3), "bias_ih.i": lambda rng, shape: np.ones(shape)},
)
HEADS = replace(CELLS["lstm"], name="heads", heads=2)


def test_every_gradient_of_a_cell_that_uses_all_of_the_contract_is_proven():
    for cell in (GROWN, HEADS):
        report = ur.check_cell(cell)
        assert report.passed, report.failed


def test_parameters_have_the_shapes_that_stages_ask_for():
    assert GROWN.shapes(I, H) == {
        "weight_ih": (8 + 10, I),
        "weight_hh": (10, 8),
        "bias_ih": (18,),
        "bias_hh": (10,),
        "weight_x": (H, I),
        "weight_own": (1, H),
    }
    assert "weight_x" not in GROWN.shapes(H, H)
    assert HEADS.shapes(I, H)["weight_hh"] == (4 * H, 3)


def test_initialisers_of_a_cells_own_hold_where_no_rule_is_named_and_those_of_units_always():
    for init, ones in (("pytorch", True), ("glorot", False)):
        net = ur.Recurrent(GROWN, I, H, init=init, backend="reference", rng=0)
        assert (net.params["weight_own_l0"] == np.float32(0.3)).all()
        assert (net.params["bias_ih_l0"][8:13] == 1).all() is np.bool_(ones)


def test_tokens_are_one_hot_vectors_to_functions_that_see_x_too():
    for size in (I, H):
        net = ur.Recurrent(GROWN, size, H, backend="reference", dtype="float64", rng=0)
        tokens = np.random.default_rng(1).integers(0, size, (T, B))
        y, _, tape = net.forward(tokens)
        z, _, other = net.forward(np.eye(size)[tokens])
        np.testing.assert_allclose(y, z, rtol=0, atol=1e-15)  # the same sums
        grads, expected = (net.backward(t, np.ones_like(y))[2] for t in (tape, other))
        for name, g in expected.items():
            np.testing.assert_allclose(grads[name], g, rtol=0, atol=1e-13)  # in another order


def test_time_is_one_where_nobody_says_and_padding_of_it_changes_nothing():
    net = ur.Recurrent(GROWN, I, H, backend="reference", dtype="float64", rng=0)
    rng = np.random.default_rng(2)
    x, spans, lengths = rng.standard_normal((T, B, I)), rng.uniform(0.5, 2, (T, B)), np.array([T, 4])
    np.testing.assert_array_equal(net(x)[0], net(x, timespans=np.ones((T, B)))[0])
    y, _ = net(x, lengths=lengths, timespans=spans)
    spans[4:, 1] = np.nan
    np.testing.assert_array_equal(net(x, lengths=lengths, timespans=spans)[0], y)
    steps = None
    for t in range(4):
        out, steps = net.step(x[t], steps, timespans=spans[t])
        np.testing.assert_allclose(out, y[t], rtol=0, atol=1e-15)
    both = ur.Recurrent(GROWN, I, H, bidirectional=True, backend="reference", dtype="float64", rng=0)
    alone = ur.Recurrent(GROWN, I, H, backend="reference", dtype="float64", rng=0)
    alone.params.update({name: both.params[f"{name}_reverse"] for name in alone.params})
    behind = np.concatenate([spans[1:4, :1], np.ones((1, 1))])[::-1]
    backwards = alone(x[3::-1, :1], timespans=behind)[0][::-1]
    np.testing.assert_allclose(both(x[:4, :1], timespans=spans[:4, :1])[0][..., H:], backwards, rtol=0, atol=1e-15)


def test_settings_change_what_a_cell_computes_and_travel_as_text():
    net = ur.Recurrent(GROWN, I, H, cell_settings="scale=2,activation=relu", backend="reference", rng=0)
    assert net.cell.settings == Settings(2.0, "relu")
    assert (net(np.ones((T, B, I)))[0] >= 0).all()
    assert parse_settings("a=1_0,b=\u0663,c=-.5e1") == {"a": "1_0", "b": "\u0663", "c": -5.0}
    assert parse_settings(" scale = 2 , activation=relu ") == {"scale": 2.0, "activation": "relu"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ur.LSTM(I, H)(np.ones((T, B, I)), timespans=np.ones((T, B))), "lstm does not see time"),
        (lambda: ur.Recurrent(GROWN, I, H)(np.ones((T, B, I)), timespans=np.ones(T)), r"expected numbers \(T, B\)"),
        (lambda: ur.Recurrent(GROWN, I, H)(np.ones((T, B, I)), timespans=-np.ones((T, B))), "0 or more"),
        (lambda: ur.LSTM(I, H, cell_settings="dt=1"), "'lstm' has no setting 'dt'"),
        (lambda: ur.Recurrent(GROWN, I, H, cell_settings="scale=relu"), "expected a number"),
        (lambda: ur.Recurrent(GROWN, I, H, cell_settings="activation=tanj"), "did you mean 'tanh'"),
        (lambda: ur.Recurrent(GROWN, I, H, cell_settings="scale=1,scale=2"), "names 'scale' twice"),
        (lambda: replace(GROWN, heads=0), "heads is 0"),
        (lambda: replace(GROWN, initial={"bias_ih.z": np.ones}), "bias_ih has b, i, a"),
        (lambda: replace(GROWN, stages=GROWN.stages[:1]), "a stage of another width is none of"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(make, said):
    with pytest.raises(ur.UnrolledError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def leave(rng, shape):
    raise SystemExit(3)


WRONG = {
    "gave nan in float32": lambda rng, shape: np.full(shape, np.nan),
    "gave inf in float32": lambda rng, shape: 1e300,
    "gave a ndarray of complex128": lambda rng, shape: np.ones(shape) * 1j,
    "gave a MaskedArray of float64": lambda rng, shape: np.ma.zeros(shape),
    "gave shape (3,)": lambda rng, shape: np.ones(3),
    "gave None": lambda rng, shape: None,
    "gave 'abc'": lambda rng, shape: "abc",
    "raised ZeroDivisionError: division by zero": lambda rng, shape: 1 / 0,
    "raised TypeError": lambda: 0,
    "raised SystemExit: 3": leave,
}


@pytest.mark.parametrize("said", WRONG)
def test_an_initialiser_that_makes_no_weights_is_named(said):
    cell = replace(CELLS["rnn_tanh"], name="mine", initial={"weight_ih.h": WRONG[said]})
    with pytest.raises(ur.UnrolledError) as error:
        ur.Recurrent(cell, I, H)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("cell 'mine': the initialiser of weight_ih.h (")
    assert said in text
    assert text.endswith("expected finite real numbers of shape (5, 3), or one number for all of them")


def test_an_initialiser_may_give_one_number_for_all():
    initial = {"weight_own": lambda rng, shape: 0.25, "bias_ih.h": lambda rng, shape: 2}
    params = ur.Recurrent(replace(CELLS["indrnn"], name="mine", initial=initial), I, H).params
    np.testing.assert_array_equal(params["weight_own_l0"], np.full((1, H), 0.25))
    np.testing.assert_array_equal(params["bias_ih_l0"], np.full(H, 2.0))


def test_a_parameter_that_a_narrow_stage_alone_owns_is_proved_by_its_rows():
    def narrow(ax, ah, s):
        return Wide(tanh(ax[0] + ah[0]))

    def last(ax, ah, s, k):
        new = tanh(ax[0] + ah[0])
        return s._replace(h=new), Gates(new, new)

    stages = (Stage(("b",), narrow, width=0.4), Stage(("g",), last, operand=("b",), biases=("ih",)))
    net = ur.Recurrent(Cell("narrow", State, Gates, stages), sizes.I, sizes.H, dtype="float64")
    case = kept_case(net, np.random.default_rng(0))
    assert case.parts("bias_hh") == [(", rows of b", slice(0, 2))]
    assert case.parts("bias_ih") == [(", rows of b", slice(0, 2)), (", rows of g", slice(2, 2 + sizes.H))]


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_number_is_no_batch_of_timespans(batch_first):
    with pytest.raises(
        ur.UnrolledError, match=r"timespans are float64 of shape \(1,\); expected numbers \(T, B\) = \(1, 2\)"
    ):
        ur.Recurrent("cfc", I, H, batch_first=batch_first).step(np.ones((B, I)), timespans=0.5)
