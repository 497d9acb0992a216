"""What a cell has to be is said when it is made, in one line, before any backend sees it."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, Back, Cell, Stage


class State(NamedTuple):
    h: object


class Gates(NamedTuple):
    n: object


class Own(NamedTuple):
    u: object


def forward(ax, ah, s, m=1):
    n = np.tanh(ax[0] + ah[0])
    return State(m * n), Gates(n)


def backward(d, k, s, new, m=1):
    da = (d.h * m * (1 - k.n * k.n),)
    return Back(da, da, State(0))


STAGE = Stage(("n",), forward, backward)
MINE = Cell("mine", State, Gates, (STAGE,), "none", candidate="n")
GRU, NORM, MGU = CELLS["gru_reset_before"], CELLS["lstm_layer_norm"], CELLS["mgu"]


def test_a_cell_that_keeps_the_contract_is_made():
    ur.check_cell(MINE).raise_if_failed()


def of(cell, n=0, **change):
    """The same cell with another entry in one of its stages."""
    return lambda: replace(cell, stages=(*cell.stages[:n], replace(cell.stages[n], **change), *cell.stages[n + 1 :]))


class Wrong(NamedTuple):
    c: object


class Settings(NamedTuple):
    scale: object


@dataclass
class Unhashed:
    def __call__(self, *args):
        raise AssertionError("never called")


@dataclass(frozen=True)
class Unsigned:
    @property
    def __signature__(self):
        raise RuntimeError("no")

    def __call__(self, *args):
        raise AssertionError("never called")


BROKEN = {
    "cell '': name is ''; expected a text": lambda: replace(MINE, name=""),
    "cell 7: name is 7; expected a text": lambda: replace(MINE, name=7),
    "state is (c); it must be a named tuple that begins with h, the output": lambda: replace(MINE, state=Wrong),
    "state is <class 'tuple'>; it must be a named tuple that begins with h, the output": lambda: replace(
        MINE, state=tuple
    ),
    "state is State(h=1); it must be a named tuple that begins": lambda: replace(MINE, state=State(1)),
    "gates is None; it must be a named tuple, without fields where the tape keeps none": lambda: replace(
        MINE, gates=None
    ),
    "stages is (); expected a tuple of one Stage or more": lambda: replace(MINE, stages=()),
    "stages is [Stage(": lambda: replace(MINE, stages=[STAGE]),
    "stages is Stage(": lambda: replace(MINE, stages=STAGE),
    "stage 0: rows is 'n'; expected a tuple of names, such as ('n',)": of(MINE, rows="n"),
    "stage 0: rows is ['n']; expected a tuple of names": of(MINE, rows=["n"]),
    "stage 0 (rows n): operand is 'h'; expected a tuple of names, such as ('h',), or None for no product": of(
        MINE, operand="h"
    ),
    "stage 0: rows is ('my row',); expected a tuple of names": of(MINE, rows=("my row",)),
    "stage 0: rows is ('for',); expected a tuple of names": of(MINE, rows=("for",)),
    "stage 0: rows is ('a\\nb',); expected a tuple of names": of(MINE, rows=("a\nb",)),
    "stage 0 (rows n): operand is ('h h',); expected a tuple of names": of(MINE, operand=("h h",)),
    "stage 0 (rows n): biases is ('ih', 'ih'); expected a tuple of 'ih', 'hh', both or none": of(
        MINE, biases=("ih", "ih")
    ),
    "stage 0 (rows n): keeps is 3; expected a named tuple, or None": of(MINE, keeps=3),
    "stage 0 (rows n): forward is Unhashed(), which has no hash": of(MINE, forward=Unhashed()),
    "stage 0 (rows n): backward is Unsigned(), whose signature can't be read (RuntimeError: no)": of(
        MINE, backward=Unsigned()
    ),
    "prepare is Unhashed(), which has no hash": lambda: replace(CELLS["indrnn"], prepare=Unhashed()),
    "the initialiser of weight_ih is Unhashed(), which has no hash": lambda: replace(
        MINE, initial={"weight_ih": Unhashed()}
    ),
    "initial names ''; it has weight_ih, weight_hh, bias_ih, bias_hh": lambda: replace(MINE, initial={"": np.zeros}),
    "initial names bias_ih.; bias_ih has n": lambda: replace(MINE, initial={"bias_ih.": np.zeros}),
    "setting scale is a number of 16,610 bits; expected a finite number": lambda: replace(
        MINE, settings=Settings(10**5000)
    ),
    "stage 0 (rows n): operand is (); expected a tuple of names": of(MINE, operand=()),
    "stage 0 (rows n): operand q is unknown; it can be one of h": of(MINE, operand=("q",)),
    "stage 1 (rows n): operand rh must be a field of the gates, for the tape to keep it": lambda: replace(
        GRU, gates=Gates
    ),
    "stage 0 (rows n): norm is [1]; expected a tuple of whole numbers, () for none": of(MINE, norm=[1]),
    "stage 0 (rows n): norm is (0, 1); expected a tuple of whole numbers": of(MINE, norm=(0, 1)),
    "stage 0 (rows r, z, n): norm=(2,) names 2 blocks of 3": of(CELLS["gru_layer_norm"], norm=(2,)),
    "stage 0 (rows h): norm=(1,) names 1 blocks of 0": of(CELLS["indrnn"], norm=(1,)),
    "some of its stages that see x are normalised, others are not": of(MGU, norm=(1,)),
    "stage 1 (rows ): a stage without a product normalises one operand: rows=(), operand=(name,), norm=(1,)": of(
        NORM, 1, norm=()
    ),
    "stage 0 (rows n): a stage without a product normalises one operand": of(MINE, product=False),
    "stage 0 (rows ): it has no rows, so there is no product: write operand=None": of(MINE, rows=()),
    "stage 0 (rows ): it has no rows, so it sees no x: write inputs=False": of(MINE, rows=(), operand=None),
    "stage 1 (rows ): it has no rows, so it sees no x: write inputs=False": of(NORM, 1, inputs=True),
    "no stage sees x; at least one has rows and inputs=True": of(MINE, inputs=False),
    "rows are (f, f); each needs a name of its own": of(MGU, 1, rows=("f",)),
    "candidate is 'q'; it must be one of its rows, n": lambda: replace(MINE, candidate="q"),
    "candidate is 'n'; it must be one of its rows, h": lambda: replace(CELLS["indrnn"], candidate="n"),
    "params is <class 'tuple'>; expected a named tuple of one weight a unit or more": lambda: replace(
        CELLS["indrnn"], params=tuple
    ),
    "params_name is ''; the parameter needs a name, such as 'weight_own'": lambda: replace(
        CELLS["indrnn"], params_name=""
    ),
    "params_name is 'my weight'; the parameter needs a name": lambda: replace(CELLS["indrnn"], params_name="my weight"),
    "params_name is 'weight_own', but there are no params": lambda: replace(MINE, params_name="weight_own"),
    "weight_ih would name two parameters; give one of them another name": lambda: replace(
        CELLS["indrnn"], params_name="weight_ih"
    ),
    "bias_hh would name two parameters": lambda: replace(CELLS["indrnn"], params_name="bias_hh"),
    "weight_hr would name two parameters": lambda: replace(CELLS["indrnn"], params_name="weight_hr"),
    "initial_h would name two parameters": lambda: replace(CELLS["indrnn"], params_name="initial_h"),
    "stage 0 (rows n): forward is None; expected a function": of(MINE, forward=None),
    "stage 0 (rows n): forward takes (ax, ah, s); expected (ax, ah, s, m=1): "
    "m is what recurrent dropout multiplies n with": of(MINE, forward=lambda ax, ah, s: None),
    "stage 0 (rows n): forward takes (ax, ah, s, m); expected (ax, ah, s, m=1)": of(
        MINE, forward=lambda ax, ah, s, m: None
    ),
    "stage 0 (rows n): backward takes (d, k, s, new); expected (d, k, s, new, m=1): "
    "m is what recurrent dropout multiplies n with": of(MINE, backward=lambda d, k, s, new: None),
    "stage 0 (rows n): backward takes (d, k); expected (d, k, s, new, m=1)": of(MINE, backward=lambda d, k: None),
    "stage 0 (rows h): forward takes (ax, ah, s); expected (ax, ah, s, p)": of(
        CELLS["indrnn"], forward=lambda ax, ah, s: None
    ),
    "stage 1 (rows n): forward takes (ax, ah, s, m=1); expected (ax, ah, s, k, m=1)": of(GRU, 1, forward=forward),
    "stage 0 (rows n): forward takes (ax, ah, s, other, m=1); expected (ax, ah, s, m=1)": of(
        MINE, forward=lambda ax, ah, s, other, m=1: None
    ),
}


@pytest.mark.parametrize("said", BROKEN)
def test_a_cell_that_could_not_run_is_not_made(said):
    with pytest.raises(ur.UnrolledError) as error:
        BROKEN[said]()
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("cell ")
    assert said in text


def test_functions_may_take_more_by_default():
    def roomy(ax, ah, s, m=1, *, slope=2.0, **more):
        return forward(ax, ah, s, m)

    ur.check_cell(of(MINE, forward=roomy)()).raise_if_failed()


def test_a_stage_holds_pythons_own_numbers():
    plain, given = (Stage(("n",), forward, width=w, product=p) for w, p in ((2, True), (np.int64(2), np.bool_(True))))
    assert given == plain
    assert type(given.width) is int
    assert given.product is True
    assert type(Stage(("n",), forward, width=np.float32(0.5)).width) is float


def test_a_setting_may_be_a_whole_number_beyond_64_bits():
    scaled = Stage(("n",), lambda ax, ah, s, c: (State(ax[0] + ah[0] / c.scale), Gates(ax[0])))
    x = np.ones((2, 3, 4))
    big, near = (
        ur.Recurrent(Cell("big", State, Gates, (scaled,), settings=Settings(scale)), 4, 5, rng=1)(x)[0]
        for scale in (2**65, 2.0**65)
    )
    np.testing.assert_array_equal(big, near)


@pytest.mark.parametrize("name", ["mlstm", " lstm", "x.py:Y", "a" * 101])
def test_a_registered_name_is_one_that_options_can_say(name):
    with pytest.raises(ur.UnrolledError, match=f"^[^\n]*{name[:9]}"):
        ur.cells.register(replace(MINE, name=name))


BACKWARDS = {
    "TypeError": lambda d, k, s, new, m=1: Back((None,), (None,), None),
    "AttributeError": lambda d, k, s, new, m=1: None,
    "ValueError": lambda d, k, s, new, m=1: Back((np.ones(2),), (np.ones(2),), State(0)),
    "ZeroDivisionError": lambda d, k, s, new, m=1: 1 / 0,
}


@pytest.mark.parametrize("kind", BACKWARDS)
def test_a_backward_that_was_never_checked_is_named(kind):
    net = ur.Recurrent(of(MINE, backward=BACKWARDS[kind])(), 4, 5, backend="reference")
    y, _, tape = net.forward(np.ones((2, 3, 4)))
    with pytest.raises(ur.UnrolledError) as error:
        net.backward(tape, y)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("cell 'mine': backward of stage 0 (rows n) (")
    assert f" can't be used: {kind}: " in text
    assert text.endswith("; unrolled.check_cell tells what is wrong")


NO_PRODUCT = Stage(("n",), forward, backward, operand=None)


class Kept(NamedTuple):
    n: object


def halved_backward(d, k):
    da = (d.h * (1 - k.n * k.n),)
    return Back(da, da, State(0), Kept(0.5 * d.h))


SHAPES = {
    "a first stage of state alone": Cell(
        "plain",
        State,
        Gates,
        (
            Stage(
                (),
                lambda ax, ah, s: Kept(s.h),
                lambda d, k, s, new: Back((), (), State(d.n)),
                operand=None,
                inputs=False,
            ),
            Stage(
                ("a",),
                lambda ax, ah, s, k: (State(np.tanh(ax[0] + ah[0]) + 0.5 * k.n), Gates(np.tanh(ax[0] + ah[0]))),
                lambda d, k, s, new: halved_backward(d, k),
            ),
        ),
        "none",
    ),
    "no product": replace(MINE, stages=(NO_PRODUCT,)),
    "an operand twice": replace(MINE, stages=(replace(STAGE, operand=("h", "h")),)),
}


@pytest.mark.parametrize("cell", SHAPES.values(), ids=SHAPES)
def test_what_the_contract_allows_runs_on_every_backend(cell):
    ur.check_cell(cell).raise_if_failed()
    x = np.random.default_rng(0).normal(size=(7, 3, 4))
    nets = [ur.Recurrent(cell, 4, 5, 2, dtype="float64", backend=name, rng=1) for name in ("auto", "reference")]
    (y1, _, tape1), (y2, _, tape2) = (net.forward(x) for net in nets)
    np.testing.assert_allclose(y1, y2, rtol=0, atol=1e-14)  # some hundred roundings
    ours, theirs = nets[0].backward(tape1, y1)[2], nets[1].backward(tape2, y2)[2]
    for name, g in theirs.items():
        np.testing.assert_allclose(ours[name], g, rtol=0, atol=1e-13, err_msg=name)
