"""The proofs hold for every cell, stack and option, and they catch what is wrong."""

import re
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled import gradcheck
from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.ops import tanh
from unrolled.gradcheck import catalogue
from unrolled.gradcheck.suite import check_all

SPEC = {"embedding_size": 4, "hidden_size": 5, "dropout": 0.2}


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_proven(cell):
    report = ur.check_cell(cell).raise_if_failed()
    assert not report.unsupported
    arrays = {  # parameters, x and the fields of the state
        bias: len(CELLS[cell].shapes(4, 5, bias=bias)) + 1 + len(CELLS[cell].state_fields) for bias in (True, False)
    }
    # The contract; hand-written backward functions, against derived ones; what is read; two derivatives of one step;
    # of seven, whole and with lengths; of kept units, and of dropped candidates; twelve laws.
    masked = 1 + bool(CELLS[cell].candidate)
    derivatives = arrays[True] + 2 * (arrays[True] + arrays[False]) + masked * arrays[False]
    written = sum(stage.backward is not None for stage in CELLS[cell].stages)
    assert len(report) == 1 + written + 1 + 2 * derivatives + 2 * 12


# Two cells stand for all by default: per-unit parameters and two fields of state; two stages.
MOST = [c if c in ("lstm_peephole", "gru_reset_before") else pytest.param(c, marks=pytest.mark.slow) for c in CELLS]


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", MOST)
def test_every_stack_is_proven(cell, bias, num_layers):
    ur.check_network(ur.Recurrent(cell, 4, 5, num_layers, bias=bias)).raise_if_failed()


OPTIONS = {
    "both directions": {"bidirectional": True, "num_layers": 2},
    "dropout": {"dropout": 0.3, "num_layers": 3},
    "batch first": {"batch_first": True, "dropout": 0.2, "num_layers": 2},
    "batch first, both directions": {"batch_first": True, "bidirectional": True},
    "float64": {"dtype": "float64"},
    "bfloat16": {"dtype": "bfloat16"},
    "64 units": {"hidden_size": 64},
    "no bias, both directions, dropout": {"bias": False, "bidirectional": True, "dropout": 0.4, "num_layers": 3},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("cell", MOST)
def test_every_option_is_proven(cell, options):
    net = ur.Recurrent(cell, 4, **({"hidden_size": 5} | OPTIONS[options]))
    report = ur.check_network(net).raise_if_failed()
    why = {proof.detail for proof in report.unsupported}
    assert why == ({"the reverse direction needs the whole sequence"} if net.bidirectional else set())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (3, 4, 5))])
@pytest.mark.parametrize("cell", CELLS)
def test_the_proofs_do_not_depend_on_luck(cell, seed):
    rng = np.random.default_rng(seed)
    ur.check_cell(cell, seed=seed).raise_if_failed()
    steep = ur.Recurrent(cell, 4, 16, 2, dropout=0.2, rng=rng)
    factor = 1 if cell == "ligru" else 2.5  # as sensitive as a trained network; rectified, not normalised: to 1e3
    steep.load_params({name: factor * p for name, p in steep.params.items()})
    ur.check_network(steep, seed=seed).raise_if_failed()


def test_a_network_s_weights_may_be_trained_and_its_units_saturated():
    net = ur.LSTM(4, 16, 2)
    net.load_params({name: 20 * p for name, p in net.params.items()})
    ur.check_network(net).raise_if_failed()


@pytest.mark.parametrize("embedding_size", [0, 4, 20])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_a_language_network_is_proven(cell, embedding_size):
    net = ur.Network(ur.Spec(11, cell, **(SPEC | {"embedding_size": embedding_size})))
    report = ur.check_network(net).raise_if_failed()
    for name in net.params:
        subjects = [(p.name, p.subject) for p in report if p.subject.startswith(f"{name}, loss")]
        assert subjects == [
            ("complex step", f"{name}, loss"),
            ("central differences", f"{name}, loss"),
            ("projection", f"{name}, loss, float32"),
        ]


# A cell of one's own


class State(NamedTuple):
    h: object


class Gates(NamedTuple):
    n: object


def mine_forward(ax, ah, s):
    n = tanh(ax[0] + ah[0])
    return State(h=0.5 * s.h + n), Gates(n)


def mine_backward(d, k, s, new):
    da = (d.h * (1 - k.n * k.n),)
    return Back(da, da, State(h=0.5 * d.h))


MINE = Cell("leaky", State, Gates, (Stage(("n",), mine_forward, mine_backward),), "a cell of one's own")


def test_a_users_own_cell_is_proven_and_stacks():
    ur.check_cell(MINE).raise_if_failed()
    ur.check_network(ur.Recurrent(MINE, 4, 5, 2, bidirectional=True)).raise_if_failed()


def one_stage(forward, backward):
    return replace(MINE, stages=(Stage(("n",), forward, backward),))


def test_a_cell_with_a_kink_is_proven():
    def forward(ax, ah, s):
        n = np.maximum(ax[0] + ah[0], 0.1 * s.h)
        return State(h=n), Gates(n)

    def backward(d, k, s, new):
        up = new.h > 0.1 * s.h
        da = (np.where(up, d.h, 0),)
        return Back(da, da, State(h=np.where(up, 0, 0.1 * d.h)))

    report = ur.check_cell(one_stage(forward, backward)).raise_if_failed()
    assert not report.unsupported


def absolute(ax, ah, s):
    n = np.abs(ax[0] + ah[0])
    return State(h=n), Gates(n * np.sign(ax[0] + ah[0]))


def real_only(ax, ah, s):
    n = np.logaddexp(ax[0] + ah[0], 0)
    return State(h=n), Gates(1 - np.exp(-n))


@pytest.mark.parametrize(
    ("forward", "why"),
    [
        (absolute, "forward is not analytic, so complex steps prove nothing (abs, sign, conj?); central differences"),
        (real_only, "forward takes no complex numbers: ufunc 'logaddexp' not supported for the input types"),
    ],
)
def test_a_cell_without_complex_numbers_is_proven_by_central_differences(forward, why):
    def backward(d, k, s, new):
        da = (d.h * (np.sign(k.n) if forward is absolute else k.n),)
        return Back(da, da, State(h=0))

    report = ur.check_cell(one_stage(forward, backward)).raise_if_failed()
    assert {p.name for p in report.unsupported} == {"complex step", "derived backward"}
    assert all(p.detail.startswith(why) for p in report.unsupported if p.subject.startswith("weight"))
    assert str(report).splitlines()[-1].endswith(f", 0 failed, {len(report.unsupported)} unsupported")
    halved = ur.check_cell(one_stage(forward, lambda *a: scale_ax(backward(*a), 0.999)))
    assert {p.name for p in halved.failed} >= {"central differences"}


def scale_ax(b, factor):
    ax = tuple(factor * a for a in b.ax)
    return b._replace(ax=ax, ah=ax)


# The contract


def with_backward(cell, wrong, n=-1):
    """The same cell with another backward function of one stage."""
    stages = list(cell.stages)
    stages[n] = replace(stages[n], backward=wrong(stages[n].backward))
    return replace(cell, stages=tuple(stages))


def in_place(d, k, s, new):
    dh = d.h
    dh *= 1 - k.n * k.n
    return Back((dh,), (dh,), State(h=0.5 * dh))


class Wrong(NamedTuple):
    c: object


PLACE = r" \((?P<file>.*\.py), line (?P<line>\d+)\)"
MIXES = "mixes units or rows of the batch; it must be elementwise: no product, sum or if"


def dropped(forward, backward):
    """The same cell with a candidate that can be dropped."""
    return replace(MINE, stages=(Stage(("n",), forward, backward),), candidate="n")


BROKEN = {
    "stage 0 (rows n): backward changed one of its arguments; write `dc = dc + ...`, not `dc += ...`": one_stage(
        mine_forward, in_place
    ),
    "stage 0 (rows n): backward raised AttributeError: 'Gates' object has no attribute 'f'": one_stage(
        mine_forward, lambda d, k, s, new: k.f
    ),
    "stage 0 (rows n): backward gave tuple; expected Back(ax, ah, state, values, params)": one_stage(
        mine_forward, lambda d, k, s, new: ((d.h,), (d.h,))
    ),
    "stage 0 (rows n): backward's ax is 2 values; expected (n)": one_stage(
        mine_forward, lambda d, k, s, new: Back((d.h, d.h), (d.h, d.h), State(0))
    ),
    "stage 0 (rows n): backward's ax.n has shape (); expected an array (B, H) = (3, 5)": one_stage(
        mine_forward, lambda d, k, s, new: Back((0,), (0,), State(0))
    ),
    "stage 0 (rows n): backward's state is (c); expected (h)": one_stage(
        mine_forward, lambda d, k, s, new: Back((d.h,), (d.h,), Wrong(0))
    ),
    "stage 0 (rows n): forward gave State; the last stage gives (State, Gates)": one_stage(
        lambda ax, ah, s: s, mine_backward
    ),
    "stage 0 (rows n): forward's state is (n); expected (h)": one_stage(
        lambda ax, ah, s: (Gates(ax[0]), Gates(ax[0])), mine_backward
    ),
    "stage 0 (rows n): forward's gates.n has shape (5,); expected an array (B, H) = (3, 5)": one_stage(
        lambda ax, ah, s: (State(ax[0]), Gates(ax[0][0])), mine_backward
    ),
    "stage 1 (rows n): operand n is unknown; it can be one of h, r, z, rh": replace(
        CELLS["gru_reset_before"],
        stages=(CELLS["gru_reset_before"].stages[0], replace(CELLS["gru_reset_before"].stages[1], operand=("n",))),
    ),
    f"stage 0 (rows n): forward {MIXES}": one_stage(
        lambda ax, ah, s: (State(tanh(ax[0] @ np.ones((5, 5)))), Gates(ax[0])), mine_backward
    ),
    f"stage 0 (rows n): backward {MIXES}": one_stage(
        mine_forward, lambda d, k, s, new: Back((d.h - d.h.mean(axis=0),), (d.h,), State(0))
    ),
    "stage 0 (rows n): forward raised ValueError: The truth value of an array with more than one element is "
    "ambiguous. Use a.any() or a.all()": one_stage(
        lambda ax, ah, s: (State(ax[0] if ax[0] > 0 else 0 * ax[0]), Gates(ax[0])), mine_backward
    ),
    "stage 0 (rows n): forward gave list; the last stage gives (State, Gates)": dropped(
        lambda ax, ah, s, m=1: [State(m * ax[0]), Gates(ax[0])], lambda d, k, s, new, m=1: mine_backward(d, k, s, new)
    ),
    "stage 0 (rows n): forward makes nothing of m, which multiplies the candidate n": dropped(
        lambda ax, ah, s, m=1: mine_forward(ax, ah, s), lambda d, k, s, new, m=1: mine_backward(d, k, s, new)
    ),
    "stage 0 (rows n): forward without m is not that with m = 1; write m=1 as its default": dropped(
        lambda ax, ah, s, m=2: (State(m * ax[0]), Gates(ax[0])), lambda d, k, s, new, m=1: mine_backward(d, k, s, new)
    ),
    "stage 1 (rows n): backward's values is None; expected (r, z, rh)": with_backward(
        CELLS["gru_reset_before"], lambda right: lambda *args, **kw: right(*args, **kw)._replace(values=None)
    ),
    "stage 0 (rows i, f, g, o): backward's params is 2 values; expected (i, f, o)": with_backward(
        CELLS["lstm_peephole"], lambda right: lambda *args, **kw: right(*args, **kw)._replace(params=(0, 0))
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_cell_that_breaks_the_contract_is_told_where(message):
    report = ur.check_cell(BROKEN[message])
    [proof] = report.failed
    assert re.fullmatch(re.escape(message) + PLACE, proof.detail)
    assert str(report).splitlines()[-1] == "0 passed, 1 failed, 0 unsupported"


IFS = {
    "any": lambda a: a if (a > 5).any() else tanh(a),
    "the largest": lambda a: tanh(a) if a.max() < 5 else a,
    "one unit": lambda a: tanh(a) if a[0, 0] > 0 else a,
    "a sum": lambda a: np.where(a.sum() > 0, a, tanh(a)),
    "an order": lambda a: np.sort(a, axis=-1),
    "a neighbour": lambda a: tanh(np.roll(a, 1, axis=-1)),
    "a running sum": lambda a: tanh(np.cumsum(a, axis=0)),
}


@pytest.mark.parametrize("function", IFS.values(), ids=IFS)
def test_a_decision_for_all_units_at_once_is_not_elementwise(function):
    report = ur.check_cell(one_stage(lambda ax, ah, s: (State(function(ax[0])), Gates(ax[0])), mine_backward))
    [proof] = report.failed
    assert re.fullmatch(re.escape(f"stage 0 (rows n): forward {MIXES}") + PLACE, proof.detail)


# Planted errors


def edit_row(n, change):
    """Change the gradient of row block n, in both halves."""

    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            ax, ah = (tuple(change(a) if i == n else a for i, a in enumerate(half)) for half in (b.ax, b.ah))
            return b._replace(ax=ax, ah=ax if b.ah is b.ax else ah)

        return backward

    return wrong


def names_of(report, name="complex step"):
    """Parameters that a kind of proof has found wrong."""
    return {p.subject.split(",")[0] for p in report.failed if p.name == name}


def test_a_failure_prints_both_numbers():
    report = ur.check_cell(with_backward(CELLS["rnn_tanh"], edit_row(0, np.negative)))
    failed = next(p for p in report.failed if p.name == "complex step")
    assert failed.subject == "weight_ih_l0, rnn_tanh, one step"
    name, numbers = failed.detail.split(": backward ")
    ours, theirs = map(float, numbers.split(", complex step "))
    assert name == "weight_ih_l0, rows of h"
    assert ours != 0
    assert abs(ours - theirs) / max(abs(ours), abs(theirs)) > 0.01
    with pytest.raises(ur.UnrolledError, match=r"\nFAILED +complex step +weight_ih_l0, rnn_tanh, one step +error "):
        report.raise_if_failed()


def test_tanh_of_the_cell_in_place_of_the_candidate_is_caught():
    """The classical mistake of the input gate's gradient."""

    def wrong(right):
        return lambda d, k, s, new, **kw: right(d, k._replace(g=np.tanh(new.c)), s, new, **kw)

    assert "weight_ih_l0" in names_of(ur.check_cell(with_backward(CELLS["lstm"], wrong)))


def test_the_forgotten_reset_gate_of_the_recurrent_half_is_caught():
    """In `gru_reset_after` only weight_hh and bias_hh are wrong then, at the last step: x stays right there."""

    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            return b._replace(ah=b.ax)

        return backward

    report = ur.check_cell(with_backward(CELLS["gru_reset_after"], wrong))
    bias = next(p for p in report.failed if p.subject.startswith("bias_hh_l0") and p.name == "complex step")
    assert ", rows of n: " in bias.detail


@pytest.mark.parametrize("n", range(3))
def test_a_wrong_peephole_is_named(n):
    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            return b._replace(params=type(b.params)(*(-a if i == n else a for i, a in enumerate(b.params))))

        return backward

    report = ur.check_cell(with_backward(CELLS["lstm_peephole"], wrong))
    assert names_of(report) == {"weight_peephole_l0", "weight_peephole"}  # "weight_peephole": with kept units
    field = CELLS["lstm_peephole"].param_fields[n]
    assert all(f", the weight of {field}: backward " in p.detail for p in report.failed if p.name == "complex step")


# Wrong stacks: a Recurrent whose backward is tampered with


def tampered(change, cell="lstm", **options):
    """A stack whose gradients go through `change(dx, dstate, grads, tape)`."""

    class Tampered(ur.Recurrent):
        def backward(self, tape, dy, dstate=None):
            return change(*super().backward(tape, dy, dstate), tape)

    return Tampered(cell, 4, 5, **options)


def edit_gradient(name, edit):
    return lambda dx, ds, grads, tape: (dx, ds, grads | {name: edit(grads[name])})


STACKS = {
    "a transposed weight": (edit_gradient("weight_hh_l0", np.transpose), {"cell": "rnn_tanh"}, {"weight_hh_l0"}),
    "a bias left out": (edit_gradient("bias_hh_l1", np.zeros_like), {"num_layers": 2}, {"bias_hh_l1"}),
    "a mean for a sum": (edit_gradient("weight_ih_l0", lambda g: g / 3), {}, {"weight_ih_l0"}),
    "a wrong shape": (edit_gradient("weight_ih_l0", lambda g: g.T), {}, {"weight_ih_l0"}),
    "dx reversed in time": (lambda dx, ds, g, tape: (dx[::-1], ds, g), {}, {"x"}),
    "dx of the first step": (lambda dx, ds, g, tape: (np.r_[0 * dx[:1], dx[1:]], ds, g), {}, {"x"}),
    "dstate in the wrong order": (
        lambda dx, ds, g, tape: (dx, type(ds)(*(f[::-1] for f in ds)), g),
        {"num_layers": 2},
        {"state.h", "state.c"},
    ),
    "no gradient of x": (lambda dx, ds, g, tape: (None, ds, g), {}, {"x"}),
    "a parameter forgotten": (
        lambda dx, ds, g, tape: (dx, ds, {name: a for name, a in g.items() if name != "bias_hh_l0"}),
        {},
        {"bias_hh_l0"},
    ),
    "directions exchanged": (
        lambda dx, ds, g, tape: (dx, ds, g | {"weight_hh_l0": g["weight_hh_l0_reverse"]}),
        {"bidirectional": True},
        {"weight_hh_l0"},
    ),
}


@pytest.mark.parametrize("fault", STACKS)
def test_a_wrong_stack_is_caught_and_the_parameter_named(fault):
    change, options, names = STACKS[fault]
    report = ur.check_network(tampered(change, **options))
    assert names_of(report) == names


def test_an_error_of_float32_alone_is_caught_by_the_projection():
    def change(dx, ds, grads, tape):
        g = grads["weight_hh_l0"]
        return dx, ds, grads | ({"weight_hh_l0": g * np.float32(1.0001)} if g.dtype == np.float32 else {})

    failed = ur.check_network(tampered(change)).failed
    assert [(p.name, p.subject) for p in failed] == [("projection", "weight_hh_l0, lstm, float32")]


class Careless(ur.Recurrent):
    """A stack with a fault in its forward pass, which the gradients of the fault itself agree with."""

    fault = ""

    def _run(self, x, state=None, lengths=None, *rest, record, **options):
        if self.fault == "padding" and lengths is not None:
            lengths = [max(n, 1) for n in lengths]
        if self.fault == "rows" and not np.issubdtype(np.asarray(x).dtype, np.integer):
            x = x + 0.01 * np.mean(x, axis=0 if self.batch_first else 1, keepdims=True).real
        y, new, tape = super()._run(x, state, lengths, *rest, record=record, **options)
        if self.fault == "inference" and not record:
            y = 1.001 * y
        if self.fault == "state":
            new = type(new)(*(f * 1.001 for f in new))
        return y, new, tape


@pytest.mark.parametrize(
    ("fault", "law"),
    [("padding", "masked steps"), ("rows", "rows"), ("inference", "inference"), ("state", "chunks")],
)
def test_a_stack_that_breaks_a_law_is_caught(fault, law):
    net = Careless("lstm", 4, 5)
    net.fault = fault
    assert law in {p.name for p in ur.check_network(net).failed}


def test_gradients_that_the_padding_poisons_are_caught():
    """As a product of a zero gradient with a NaN in the padding would: outputs are right, gradients are not."""

    class Poisoned(ur.Recurrent):
        def forward(self, x, *args, **kw):
            self.poison = 0 * np.real(x).sum()
            return super().forward(x, *args, **kw)

        def backward(self, tape, dy, dstate=None):
            dx, ds, grads = super().backward(tape, dy, dstate)
            return dx, ds, grads | {"weight_ih_l0": grads["weight_ih_l0"] + self.poison}

    with np.errstate(invalid="ignore"):
        failed = ur.check_network(Poisoned("lstm", 4, 5)).failed
    assert [p.name for p in failed] == ["masked steps", "masked steps"]
    assert failed[0].detail.startswith("dweight_ih_l0[0, 0] is nan, expected ")


def test_changed_arguments_are_caught():
    class Messy(ur.Recurrent):
        def backward(self, tape, dy, dstate=None):
            results = super().backward(tape, dy, dstate)
            if not np.isnan(dy).any():
                dy *= -1
            return results

    assert "arguments" in {p.name for p in ur.check_network(Messy("lstm", 4, 5, dtype="float64")).failed}


@pytest.mark.parametrize("name", ["embedding.weight", "recurrent.weight_hh_l1", "decoder.bias"])
def test_a_wrong_language_network_is_caught(name):
    class Wrong(ur.Network):
        def loss_and_gradients(self, x, y, state=None, *, masks=None):
            loss, grads, new = super().loss_and_gradients(x, y, state, masks=masks)
            return loss, grads | {name: 1.001 * grads[name]}, new

    report = ur.check_network(Wrong(ur.Spec(11, **SPEC)))
    assert names_of(report) == names_of(report, "projection") == {name}


def test_a_network_of_ones_own_needs_only_the_protocol():
    """Counts of the token before, no recurrence at all: an N-gram with a softmax."""

    class Bigram:
        spec = ur.Spec(11)

        def __init__(self, table):
            self.params = {"table": table}

        def with_params(self, params, backend=None):
            return Bigram(params["table"])

        def zero_state(self, batch):
            return State(h=np.zeros((1, batch, 5)))

        def draw_masks(self, steps, batch, rng):
            return None

        def loss(self, x, y, state=None, *, masks=None):
            loss, _, state = self.loss_and_gradients(x, y, state)
            return loss, state

        def loss_and_gradients(self, x, y, state=None, *, masks=None):
            from unrolled.reference.layers import embed_backward
            from unrolled.reference.losses import cross_entropy

            loss, d = cross_entropy(self.params["table"][x], y)
            return loss, {"table": embed_backward(x, d, 11)}, state

    table = np.random.default_rng(0).normal(size=(11, 11)).astype(np.float32)
    report = ur.check_network(Bigram(table)).raise_if_failed()
    assert {p.subject for p in report if p.name == "projection"} == {"table, loss, float32"}


# Reports


def test_a_report_is_a_frozen_list_that_reads_well():
    good = gradcheck.Proof("complex step", "x", 1e-16, 1e-12, "passed")
    bad = gradcheck.Proof("rows", "permuted", 0.5, 1e-12, "failed", "y[0] is 1, expected 2")
    none = gradcheck.Proof("steps", "one by one", float("nan"), 0.0, "unsupported", "no steps")
    report = gradcheck.Report((good, bad, none))
    assert list(report) == [good, bad, none]
    assert (report.failed, report.unsupported, report.passed) == ((bad,), (none,), False)
    assert gradcheck.Report((good, none)).passed
    assert not gradcheck.Report((none,)).passed  # unsupported is never a pass
    assert not gradcheck.Report().passed
    lines = str(report).splitlines()
    assert lines[0].split() == ["passed", "complex", "step", "x", "error", "1.0e-16", "of", "1e-12"]
    assert lines[1].split() == ["FAILED", "rows", "permuted", "error", "5.0e-01", "of", "1e-12"]
    assert lines[2].strip() == "y[0] is 1, expected 2"
    assert lines[3].split() == ["unsupported", "steps", "one", "by", "one", "no", "steps"]
    assert lines[4] == "1 passed, 1 failed, 1 unsupported"
    with pytest.raises(AttributeError):
        report.proofs = ()
    assert ur.check_cell("rnn_tanh", seed=3) == ur.check_cell("rnn_tanh", seed=3)


def test_an_error_that_is_not_a_number_fails():
    def nothing(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            return scale_ax(b, np.nan)

        return backward

    report = ur.check_cell(with_backward(CELLS["lstm"], nothing))
    assert {"weight_ih_l0", "weight_hh_l0"} <= names_of(report)


def test_an_unknown_cell_is_named():
    with pytest.raises(ur.UnrolledError, match=r"^no cell is called 'lstn'; did you mean 'lstm'\?"):
        ur.check_cell("lstn")


class Half:
    """A network that has some of what is asked for."""

    params: dict = {}  # noqa: RUF012

    def with_params(self, params, backend=None):
        return self


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ur.check_cell("lstm", seed=-1), "seed is -1; it must be a whole number, 0 or more"),
        (lambda: ur.check_cell("lstm", seed=0.5), "seed is 0.5; it must be a whole number, 0 or more"),
        (lambda: ur.check_cell(None), "no cell is called None"),
        (lambda: ur.check_cell(ur.GRU(4, 5)), "no cell is called GRU("),
        (lambda: ur.check_network(ur.GRU(4, 5), seed="1"), "seed is '1'; it must be a whole number, 0 or more"),
        (lambda: ur.check_network("lstm"), "net is 'lstm'; expected a Recurrent, a Network, or another LossNetwork"),
        (
            lambda: ur.check_network(ur.LSTM),
            "net is <class 'unrolled.nn.layers.LSTM'>; expected a Recurrent, a Network",
        ),
        (lambda: ur.check_network(CELLS["lstm"]), "net is Cell(name='lstm', "),
        (
            lambda: ur.check_network(Half()),
            "which is no LossNetwork: it lacks spec, zero_state, draw_masks, loss, loss_and_gradients",
        ),
        (
            lambda: gradcheck.check_derivatives(ur.Network(ur.Spec(5))),
            "expected a Recurrent (check_network takes other networks)",
        ),
        (
            lambda: gradcheck.check_derivatives(ur.GRU(4, 5), steps=0),
            "steps is 0; it must be a whole number, 1 or more",
        ),
        (lambda: gradcheck.check_derivatives(ur.GRU(4, 5), seed=None), "seed is None; it must be a whole number"),
        (lambda: next(check_all("lstm", seed=-1)), "seed is -1; it must be a whole number, 0 or more"),
        (lambda: next(check_all("lstn")), "no cell is called 'lstn'; did you mean 'lstm'?"),
    ],
)
def test_what_is_no_network_or_seed_is_said_in_a_line(call, said):
    with pytest.raises(ur.UnrolledError) as error:
        call()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_seed_may_be_numpys():
    one = ur.check_cell("rnn_tanh", seed=np.int64(3))
    assert one == ur.check_cell("rnn_tanh", seed=3)


def test_the_network_is_not_changed():
    net = ur.GRU(4, 5, 2, dropout=0.3)
    before = {name: p.copy() for name, p in net.params.items()}
    ur.check_network(net)
    assert net.params.keys() == before.keys()
    assert all((net.params[name] == p).all() for name, p in before.items())
    assert (net.dtype, net.backend) == ("float32", ur.GRU(4, 5).backend)


@pytest.mark.parametrize("rate", ["dropout", "locked_dropout"])
def test_one_layer_with_dropout_is_proven_without_a_warning(rate):
    """There is nothing to drop between the layers of one; a language model drops after its only layer too."""
    assert ur.check_network(ur.GRU(3, 4, **{rate: 0.3}, rng=1)).passed
    spec = ur.Spec(7, hidden_size=4, num_layers=1, embedding_size=3, **{rate: 0.3})
    assert ur.check_network(ur.Network(spec, rng=1)).passed


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", catalogue.HEADS)
@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_head_is_proven(name, both, backend):
    spec = ur.Spec(vocabulary_size=7, embedding_size=4, hidden_size=5, num_layers=2, dropout=0.3, bidirectional=both)
    report = ur.check_network(ur.Network(spec, head=catalogue.HEADS[name], backend=backend, rng=2))
    assert report.passed, str(report)
    assert len(report.proofs) > 20
