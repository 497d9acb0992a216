"""The interpreter: cells that have kernels of their own, on it; what only it does; what it refuses."""

import inspect
import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from against_reference import ALL, compare, every_cell, every_dtype, masks, problem
from own_cell import OWN

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.ops import tanh
from unrolled.gradcheck import catalogue
from unrolled.reference import scan

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from unrolled.backends.cpu import interpreter, layout, lowering  # noqa: E402
from unrolled.backends.cpu.bytecode import OPERATIONS, Field, Numbering, assemble  # noqa: E402
from unrolled.codegen.cpp import EMITTED  # noqa: E402
from unrolled.codegen.graph import Graph  # noqa: E402

with_dropout = [cell for cell in ALL.values() if cell.candidate]
projected = [cell for cell in CELLS.values() if "projection" not in catalogue.refused(cell)]


@pytest.mark.parametrize("cell", [CELLS[name] for name in EMITTED], ids=EMITTED)
@every_dtype
@pytest.mark.parametrize("mask", ["none", "live_keep"])
def test_cells_that_have_a_kernel(cell, dtype, mask):
    T, B, I, H = 6, 5, 3, 37
    compare(cell, *problem(cell, dtype, T, B, I, H), engine=interpreter, **masks(cell, mask, T, B, H))


@every_cell
@every_dtype
@pytest.mark.parametrize("mask", ["mix", "live_mix"])
def test_zoneouts_mixture(cell, dtype, mask):
    T, B, I, H = 6, 3, 4, 19
    compare(cell, *problem(cell, dtype, T, B, I, H), **masks(cell, mask, T, B, H))


@pytest.mark.parametrize("cell", with_dropout, ids=lambda cell: cell.name)
@every_dtype
@pytest.mark.parametrize("mask", ["drop", "live_keep_drop", "mix_drop"])
def test_recurrent_dropout(cell, dtype, mask):
    T, B, I, H = 6, 3, 4, 19
    compare(cell, *problem(cell, dtype, T, B, I, H), **masks(cell, mask, T, B, H))


@pytest.mark.parametrize("cell", projected, ids=lambda cell: cell.name)
@every_dtype
@pytest.mark.parametrize(("H", "P"), [(19, 3), (40, 17), (64, 32)])
@pytest.mark.parametrize("mask", ["none", "live_keep", "live_mix_drop"])
def test_a_projected_state(cell, dtype, H, P, mask):
    T, B, I = 6, 3, 4
    compare(cell, *problem(cell, dtype, T, B, I, H, proj=P), **masks(cell, mask, T, B, H, proj=P))


def test_a_cell_that_reads_its_h_element_by_element_cannot_be_projected():
    with pytest.raises(ur.Unsupported, match="reads a projected h element by element"):
        lowering.plans(CELLS["gru_reset_after"], layout.Options(bias=True, proj=True))


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_of_the_library_runs_on_the_engine(name):
    assert backends.reason(CELLS[name]) is None
    net = ur.Recurrent(name, 4, 5, backend="cpu")
    assert net.backend == "cpu"
    tape = net.forward(np.ones((3, 2, 4)))[2]
    assert isinstance(tape.scans[0], kernels.EngineTape if name in EMITTED else interpreter.ProgramTape)


@pytest.mark.parametrize("name", ["gates", "keep", "new", "d"])
def test_parameters_may_have_the_name_of_what_a_scan_keeps(name):
    T, B, I, H = 6, 3, 4, 19
    cell = replace(CELLS["lstm_peephole"], name="odd", params_name=name)
    compare(cell, *problem(cell, "float64", T, B, I, H), engine=interpreter, **masks(cell, "live_keep", T, B, H))


def test_a_cell_of_ones_own_runs_on_the_engine():
    options = {
        "num_layers": 2,
        "bidirectional": True,
        "recurrent_dropout": 0.3,
        "zoneout": 0.2,
        "dtype": "float64",
        "rng": 0,
    }
    ours = ur.Recurrent(OWN, 4, 5, backend="cpu", **options)
    theirs = ur.Recurrent(OWN, 4, 5, backend="reference", **options)
    x, lengths = np.random.default_rng(0).standard_normal((7, 3, 4)), [7, 0, 4]
    drawn = ours.draw_masks(7, 3, np.random.default_rng(1))
    (y1, _, tape1), (y2, _, tape2) = (net.forward(x, lengths=lengths, masks=drawn) for net in (ours, theirs))
    np.testing.assert_allclose(y1, y2, rtol=0, atol=1e-14)  # some hundred roundings
    grads1, grads2 = ours.backward(tape1, y1)[2], theirs.backward(tape2, y2)[2]
    for name in grads2:
        np.testing.assert_allclose(grads1[name], grads2[name], rtol=0, atol=1e-13, err_msg=name)
    np.testing.assert_allclose(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(("batch", "proj"), [(7, 0), (7, 33), (2, 33)])
def test_threads_give_the_same_bits_with_every_mask(batch, proj):
    """Two rows share their units, seven do not."""
    cell = CELLS["lstm_layer_norm"]
    w, x, s, dy, ds = problem(cell, "float32", 9, batch, 40, 150, proj=proj)
    chosen = masks(cell, "live_keep_drop", 9, batch, 150, proj)
    chosen["drop"] = chosen["drop"].astype("float32")
    results = []
    for threads in (1, 2, 3, 8) * 8:  # threads that write over each other's numbers do so in some runs only
        backends.set_threads(threads)
        y, final, tape = kernels.forward(cell, w, x, s, scan.ScanMasks(**chosen))
        dx, initial, grads = kernels.backward(tape, dy, ds)
        results.append([y, dx, *final, *initial, *tape.gates, *tape.proposed, *grads.values()])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def streams(cell):
    return all(stage.operand is None for stage in cell.stages)


@pytest.mark.parametrize("cell", [cell for cell in ALL.values() if streams(cell)], ids=lambda cell: cell.name)
@pytest.mark.parametrize(("batch", "mask"), [(1, "none"), (3, "live_keep"), (7, "live")])
def test_spans_of_steps_where_none_waits_for_another_product(cell, batch, mask, monkeypatch):
    """Nine steps, some at a time, the last span a shorter one; tiles along the rows and along the steps."""
    monkeypatch.setattr(interpreter, "SPAN_BYTES", 0)
    monkeypatch.setattr(interpreter, "SPAN_ROWS", 4 * batch)
    T, I, H = 9, 20, 37
    given, chosen = problem(cell, "float32", T, batch, I, H), masks(cell, mask, T, batch, H)
    results = []
    for threads in (1, 2, 3):
        backends.set_threads(threads)
        compare(cell, *given, engine=interpreter, **chosen)
        w, x, s, dy, ds = given
        y, _, tape = interpreter.forward(cell, w, x, s, scan.ScanMasks(**chosen))
        dx, initial, grads = interpreter.backward(tape, dy, ds)
        results.append([y, dx, *initial, *grads.values()])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    tokens = np.random.default_rng(1).integers(0, I, (T, batch))
    compare(cell, w, tokens, s, dy, ds, engine=interpreter, **chosen)


def compare_some():
    for name in ("rnn_relu", "lstm_use_gate", "lstm_no_input_gate"):
        compare(CELLS[name], *problem(CELLS[name], "float64", 4, 3, 2, 5), engine=interpreter)


@pytest.mark.parametrize(
    ("operation", "other"), [("fma", "fms"), ("sigmoid", "tanh"), ("mul", "add"), ("copy", "neg"), ("greater", "less")]
)
def test_a_planted_error_is_found(operation, other, monkeypatch):
    """An operation in another's place makes some cell differ from the reference."""
    monkeypatch.setitem(OPERATIONS, operation, OPERATIONS[other])
    lowering.plans.cache_clear()
    try:
        with pytest.raises(AssertionError, match=" > "):
            compare_some()
    finally:
        lowering.plans.cache_clear()


class State(NamedTuple):
    h: object


class Gates(NamedTuple):
    g: object


def cell_of(function):
    """A cell whose state is a function of its pre-activation."""

    def forward(ax, ah, s):
        g = function(ax[0] + ah[0])
        return State(g), Gates(g)

    def backward(d, k, s, new):
        da = (d.h,)
        return Back(da, da, State(0))

    return Cell("odd", State, Gates, (Stage(("g",), forward, backward),), "none")


REFUSED = {
    "the engine has no operation for numpy.sin (__call__); there are + - * /": np.sin,
    "the engine has no operation for numpy.sort; there are + - * /": np.sort,
    "the engine has no operation for numpy.matmul (__call__)": lambda a: a @ np.ones((5, 5)),
    "the engine has no operation for numpy.power (__call__)": lambda a: a**2,
    "the engine has no operation for numpy.absolute (__call__)": abs,
    "asks for .shape, but it sees one unit's number at a time": lambda a: a * np.ones(a.shape),
    "asks for .sum, but it sees one unit's number at a time": lambda a: a / a.sum(),
    "asks for .T, but it sees one unit's number at a time": lambda a: a.T,
    "takes a part of one unit's number, [0]": lambda a: a[0],
    "takes a part of one unit's number, [slice(None, None, None)]": lambda a: a[:],
    "takes a part of one unit's number, [0]; there are": lambda a: sum(a),
    "asks for len, but it sees one unit's number at a time": len,
    "asks whether a value is true": lambda a: a if a > 0 else 0,
    "calculates with a comparison": lambda a: a * (a > 0),
    "a function's result is a comparison": lambda a: a > 0,
    "the engine has no operation for numpy.add (__call__, out=)": lambda a: a.__iadd__(1),
    "gives numpy.where no comparison": lambda a: np.where(a, a, 0),
    "which is neither a symbol nor a number": lambda a: a + np.ones(5),
    "its functions raised ZeroDivisionError: division by zero": lambda a: a + 1 / 0,
    "makes a Python number of one unit's (float, the module math)": lambda a: __import__("math").tanh(a),
    "makes a Python number of one unit's (float, the module math); there": lambda a: [0, 1][a],
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_the_interpreter_lacks_is_named(message):
    cell = cell_of(REFUSED[message])
    why = backends.reason(cell)
    assert why.startswith("the engine cannot run the cell 'odd': ")
    assert message in why
    with pytest.warns(ur.UnrolledWarning) as told:
        assert ur.Recurrent(cell, 4, 5).backend == "reference"
    assert str(told[0].message) == f"{why}. NumPy runs it instead, which is slower; backend='reference' asks for that."
    assert told[0].filename == __file__
    with pytest.raises(
        ur.Unsupported, match=r"the engine cannot run the cell 'odd'.*Use backend='auto' or 'reference'"
    ):
        ur.Recurrent(cell, 4, 5, backend="cpu")


@pytest.mark.parametrize(
    "backward", [lambda *_: None, lambda d, *_: Back((d.h, d.h), (d.h,), State(0)), lambda d, *_: Back((), (), (0, 0))]
)
def test_a_result_that_the_scan_does_not_take_is_left_to_check_cell(backward):
    cell = cell_of(np.tanh)
    why = backends.reason(replace(cell, stages=(replace(cell.stages[0], backward=backward),)))
    assert why == (
        "the engine cannot run the cell 'odd': its functions do not give what the scan takes; "
        "unrolled.check_cell says which, and what it is"
    )


def calls_for_an_absolute(a):
    return tanh(a) * abs(a)


def test_the_line_of_the_users_file_is_named():
    """That of the operation, not of the library's own frames around it."""
    line = inspect.getsourcelines(calls_for_an_absolute)[1] + 1
    assert backends.reason(cell_of(calls_for_an_absolute)).endswith(f" ({__file__}, line {line})")
    sizes = NamedTuple("sizes", [("h", object), *((f"s{n}", object) for n in range(149))])
    stage = replace(
        cell_of(np.tanh).stages[0],
        forward=lambda ax, ah, s: (sizes(*[ax[0] + f for f in s]), Gates(ah[0])),
        backward=lambda d, k, s, new: Back((d[0],), (d[0],), sizes(*d)),
    )
    large = replace(cell_of(np.tanh), state=sizes, stages=(stage,))
    assert backends.reason(large).endswith("fields, the interpreter has 256")  # no line of theirs is to blame


@pytest.mark.parametrize("make", [ur.Recurrent, ur.LSTM, ur.GRU])
def test_the_warning_stands_at_the_users_line_and_the_reference_gives_none(make):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):  # once a line
            cell = {"cell": cell_of(np.sin)}
            make(input_size=4, hidden_size=5, **cell)
        make(input_size=4, hidden_size=5, backend="reference", **cell)
    assert [(w.category, w.filename) for w in told] == [(ur.UnrolledWarning, __file__)]
    ur.check_cell(cell_of(np.sin))


def test_a_refused_cell_runs_on_the_reference():
    with pytest.warns(ur.UnrolledWarning, match="the engine has no operation for numpy.sin"):
        net = ur.Recurrent(cell_of(np.sin), 4, 5, rng=0)
    y, _, tape = net.forward(np.ones((3, 2, 4)))
    assert isinstance(tape.scans[0], scan.Tape)
    assert np.array_equal(y, ur.Recurrent(cell_of(np.sin), 4, 5, backend="reference", rng=0)(np.ones((3, 2, 4)))[0])


def test_a_cell_too_large_is_refused():
    states = NamedTuple("states", [("h", object), *((f"s{n}", object) for n in range(149))])
    cell = cell_of(np.tanh)
    stage = replace(
        cell.stages[0],
        forward=lambda ax, ah, s: (states(*[ax[0] + f for f in s]), Gates(ah[0])),
        backward=lambda d, k, s, new: Back((d[0],), (d[0],), states(*d)),
    )
    assert "fields, the interpreter has 256" in backends.reason(replace(cell, state=states, stages=(stage,)))


def test_a_long_function_reuses_registers():
    """A chain of a thousand operations needs few of them."""
    graph = Graph()
    x = y = graph.input(Field("ax"))
    for n in range(1000):
        y = np.tanh(y) - (2 + n % 2) * x
    numbering = Numbering([Field("ax"), Field("new")])
    written = assemble(graph, [(Field("new"), y.node)], numbering)
    assert written.registers == 3  # 2 x, 3 x, and the chain's own
    assert len(written.code) == 2002


def test_names_of_operations_are_those_of_the_engine():
    assert OPERATIONS["fma"] != OPERATIONS["fms"]
    assert {"copy", "select", "log", "less"} <= OPERATIONS.keys()


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (3, 0), (0, 0)])
@pytest.mark.parametrize("name", ["lstm_use_gate", "lstm_layer_norm", "gru_layer_norm", "lstm_full_gate_recurrence"])
def test_without_steps_or_rows_every_gradient_is_0(name, steps, batch):
    net = ur.Recurrent(name, 3, 5, backend="cpu")
    y, _, tape = net.forward(np.zeros((steps, batch, 3)))
    dx, dstate, grads = net.backward(tape, np.zeros((steps, batch, 5)))
    assert (y.shape, dx.shape, dstate.h.shape) == ((steps, batch, 5), (steps, batch, 3), (1, batch, 5))
    assert [field.shape for field in tape.gates[0]] == [(steps, batch, 5)] * len(tape.gates[0])
    assert all(not g.any() for g in grads.values())
