"""The proofs hold for every cell and option, and they catch what is wrong."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.ops import tanh


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_proven(cell):
    ur.check_cell(cell).raise_if_failed()


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_every_stack_is_proven(cell, bias, num_layers):
    ur.check_network(ur.Recurrent(cell, 4, 5, num_layers, bias=bias)).raise_if_failed()


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True, "num_layers": 2},
        {"dropout": 0.3, "num_layers": 3},
        {"batch_first": True, "dropout": 0.2, "num_layers": 2},
        {"batch_first": True, "bidirectional": True},
        {"dtype": "float64"},
        {"hidden_size": 64},
    ],
)
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_every_option_is_proven(cell, options):
    ur.check_network(ur.Recurrent(cell, 4, **({"hidden_size": 5} | options))).raise_if_failed()


@pytest.mark.parametrize("embedding_size", [0, 4, 20])
def test_a_language_network_is_proven(embedding_size):
    spec = ur.Spec(11, embedding_size=embedding_size, hidden_size=5, dropout=0.2)
    report = ur.check_network(ur.Network(spec))
    report.raise_if_failed()
    assert len(report.proofs) == 2 * len(ur.Network(spec).params)


@pytest.mark.parametrize("cell", CELLS)
def test_central_differences_agree(cell):
    """An independent numerical derivative, which needs no complex arithmetic (and no analytic functions)."""
    net = ur.Recurrent(cell, 4, 5, 2, dtype="float64", rng=np.random.default_rng(4))
    rng = np.random.default_rng(0)
    x, dy, eps = rng.normal(size=(7, 3, 4)), rng.normal(size=(7, 3, 5)), 1e-6
    _, _, tape = net.forward(x)
    grads = net.backward(tape, dy)[2]
    for name, p in net.params.items():
        v = rng.normal(size=p.shape)
        high, low = ((net.with_params(net.params | {name: p + s * eps * v})(x)[0] * dy).sum() for s in (1, -1))
        # eps^2 = 1e-12 of curvature, and 1e-16 / eps = 1e-10 of cancellation in values of about 10
        assert (grads[name] * v).sum() == pytest.approx((high - low) / (2 * eps), rel=1e-6, abs=1e-8)


class State(NamedTuple):
    h: object


class Gates(NamedTuple):
    pass


def mine_forward(ax, ah, s):
    return State(h=0.5 * s.h + tanh(ax[0] + ah[0])), Gates()


def mine_backward(d, k, s, new):
    n = new.h - 0.5 * s.h
    da = (d.h * (1 - n * n),)
    return Back(da, da, State(h=0.5 * d.h))


MINE = Cell("leaky", State, Gates, (Stage(("n",), mine_forward, mine_backward),), "a cell of one's own")


def test_a_users_own_cell_is_proven_and_trains():
    ur.check_cell(MINE).raise_if_failed()
    ur.check_network(ur.Recurrent(MINE, 4, 5, 2)).raise_if_failed()


def with_backward(cell, wrong):
    """The same cell with another backward function of its last stage."""
    stages = (*cell.stages[:-1], replace(cell.stages[-1], backward=wrong(cell.stages[-1].backward)))
    return replace(cell, stages=stages)


def flip(n):
    """Wrong sign of row block n."""

    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            ax = tuple(-a if i == n else a for i, a in enumerate(b.ax))
            return b._replace(ax=ax, ah=ax if b.ah is b.ax else b.ah)

        return backward

    return wrong


def no_carry(right):
    """The part of the old state's gradient that does not pass through the product is forgotten."""

    def backward(*args, **kw):
        b = right(*args, **kw)
        return b._replace(state=type(b.state)(*(0 for _ in b.state)))

    return backward


def wrong_time(right):
    """The old state where the new one belongs."""
    return lambda d, k, s, new, **kw: right(d, k, new, new, **kw)


def swapped(right):
    """The gradients of h and c change places."""
    return lambda d, k, s, new, **kw: right(type(d)(h=d.c, c=d.h), k, s, new, **kw)


@pytest.mark.parametrize(("cell", "n"), [(c, n) for c in CELLS for n in range(len(CELLS[c].stages[-1].rows))])
def test_a_wrong_sign_is_named_by_gate_and_parameter_with_both_numbers(cell, n):
    row = CELLS[cell].stages[-1].rows[n]
    failed = ur.check_cell(with_backward(CELLS[cell], flip(n))).failed
    first = next(p for p in failed if p.subject.startswith("weight_ih_l0"))
    assert f"a row of {row}: backward " in first.detail
    assert ", complex step " in first.detail


@pytest.mark.parametrize("cell", [c for c in CELLS if not c.startswith("rnn")])
def test_a_forgotten_carry_is_caught(cell):
    assert ur.check_cell(with_backward(CELLS[cell], no_carry)).failed


@pytest.mark.parametrize("cell", [c for c in CELLS if not c.startswith("rnn")])
def test_a_wrong_time_index_is_caught(cell):
    assert ur.check_cell(with_backward(CELLS[cell], wrong_time)).failed


@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole"])
def test_swapped_h_and_c_are_caught(cell):
    assert ur.check_cell(with_backward(CELLS[cell], swapped)).failed


def test_tanh_of_the_cell_in_place_of_the_candidate_is_caught():
    """The classical mistake of the input gate's gradient."""

    def wrong(right):
        return lambda d, k, s, new: right(d, k._replace(g=np.tanh(new.c)), s, new)

    assert ur.check_cell(with_backward(CELLS["lstm"], wrong)).failed


def test_a_transposed_weight_is_caught(monkeypatch):
    net = ur.RNN(4, 5, dtype="float64")
    right = net.backward

    def backward(tape, dy, dstate=None):
        dx, ds, grads = right(tape, dy, dstate)
        return dx, ds, grads | {"weight_hh_l0": grads["weight_hh_l0"].T}

    wrong = ur.RNN(4, 5, dtype="float64")
    monkeypatch.setattr(ur.RNN, "backward", lambda self, *args: backward(*args))
    assert "weight_hh_l0" in {p.subject.split(",")[0] for p in ur.check_network(wrong).failed}


def test_a_report_reads_well_and_raises():
    report = ur.check_cell(with_backward(CELLS["lstm"], flip(1)))
    assert (
        str(report).splitlines()[-1] == f"{len(report.proofs) - len(report.failed)} passed, {len(report.failed)} failed"
    )
    assert not report.passed
    with pytest.raises(ur.UnrolledError, match=r"FAILED  complex step +weight_ih_l0, bias=True"):
        report.raise_if_failed()
