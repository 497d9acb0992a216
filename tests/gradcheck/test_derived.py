"""A hand-written backward is compared with the derived one, and a wrong one named with both numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.cells.rnn import Gates, State
from unrolled.gradcheck.derived import derived

RNG = np.random.default_rng


HAND_WRITTEN = [name for name, cell in CELLS.items() if all(stage.backward for stage in cell.stages)]


@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_every_hand_written_backward_is_the_derived_one(name: str) -> None:
    proofs = list(derived(CELLS[name], RNG(0)))
    assert len(proofs) == len(CELLS[name].stages)
    assert all(proof.passed for proof in proofs), proofs


def with_wrong(cell: Cell, n: int, change: Any) -> Cell:
    def backward(*args: Any, **given: Any) -> Back:
        return change(cell.stages[n].backward(*args, **given))

    stages = list(cell.stages)
    stages[n] = replace(stages[n], backward=backward)
    return replace(cell, stages=tuple(stages))


def row(factor: float) -> Any:
    """A change of the second row's gradient, in both halves."""

    def change(b: Back) -> Back:
        ax = (b.ax[0], factor * b.ax[1], *b.ax[2:])
        return b._replace(ax=ax, ah=ax)

    return change


def test_a_wrong_backward_is_named_by_row_field_and_parameter_with_both_numbers() -> None:

    def no_peephole(b: Back) -> Back:
        return b._replace(params=b.params._replace(o=0))

    def turned(b: Back) -> Back:
        return b._replace(state=b.state._replace(c=-b.state.c))

    for name, n, change, what in (
        ("lstm", 0, row(1.1), "backward of stage 0, gradient of ax of row f: yours "),
        ("gru_reset_before", 0, row(1.1), "backward of stage 0, gradient of ax of row z: yours "),
        (
            "lstm_peephole",
            0,
            lambda b: b._replace(params=b.params._replace(o=0)),
            "gradient of weight_peephole.o: yours 0,",
        ),
        (
            "lstm",
            0,
            lambda b: b._replace(state=b.state._replace(c=-b.state.c)),
            "gradient of the old state's c: yours ",
        ),
        ("mgu", 1, lambda b: b._replace(values=b.values._replace(f=0)), "gradient of the earlier value f: yours 0,"),
    ):
        failed = [proof for proof in derived(with_wrong(CELLS[name], n, change), RNG(0)) if not proof.passed]
        assert [proof.subject for proof in failed] == [f"backward of stage {n} of {name}"]
        assert what in failed[0].detail
        yours, _, exact = failed[0].detail.partition("yours ")[2].partition(", derived ")
        yours, exact = float(yours), float(exact.split()[0])
        assert abs(yours - exact) > 0.01 * abs(exact) > 0
        assert failed[0].detail.endswith(f"({__file__}, line {with_wrong.__code__.co_firstlineno + 1})")
    assert "; wrong too: ah of row f (" in next(derived(with_wrong(CELLS["lstm"], 0, row(1.1)), RNG(0))).detail


def test_where_forward_cannot_be_traced_there_is_no_verdict() -> None:
    def forward(ax: Any, ah: Any, s: State) -> Any:
        return State(np.sinh(ax[0] + ah[0])), Gates()

    def backward(d: Any, k: Any, s: Any, new: Any) -> Back:
        raise NotImplementedError

    [proof] = derived(Cell("mine", State, Gates, (Stage(("h",), forward, backward),)), RNG(0))
    assert proof.verdict == "unsupported"
    assert "numpy.sinh" in proof.detail
