"""What a cell has and nothing reads is told, each with the line of the function that could read it."""

from typing import Any, NamedTuple

from unrolled.cells import Cell, Stage
from unrolled.cells.lstm import State as LstmState
from unrolled.cells.rnn import Gates
from unrolled.codegen.unused import unused


class Own(NamedTuple):
    u: Any
    v: Any


class Doubled(NamedTuple):
    u: Any


class Value(NamedTuple):
    r: Any
    shown: Any


def first(ax: Any, ah: Any, s: LstmState, p: Any) -> Value:
    return Value(ax[0] + ah[0] + p.u * s.c, ax[1] + ah[1])  # nothing reads what is shown, and so row j


def second(ax: Any, ah: Any, s: LstmState, k: Value, p: Any, x: Any) -> Any:
    return LstmState(ax[0] + ah[1], 2 * k.r), Gates()


def prepare(p: Own) -> Doubled:
    return Doubled(2 * p.u)


def test_rows_parameters_and_state_that_nothing_reads_are_named() -> None:
    stages = (Stage(("i", "j"), first), Stage(("m", "n"), second, operand=("r",)))
    cell = Cell("mine", LstmState, Gates, stages, params=Own, params_name="weight_own", prepare=prepare)
    lines = [f"({__file__}, line {f.__code__.co_firstlineno})" for f in (first, second, prepare)]
    assert unused(cell) == [
        f"row j is read by nothing; take it out of rows {lines[0]}",
        f"ah[0] of row m is read by nothing; move it to a stage with operand=None, biases=('ih',) {lines[1]}",
        f"ax[1] of row n is read by nothing; move it to a stage with inputs=False {lines[1]}",
        f"weight_own.v is read by nothing; take it out of params {lines[2]}",
        f"x= is asked for and not read; take it out of the parameters {lines[1]}",
    ]

    def forgetful(ax: Any, ah: Any, s: LstmState) -> Any:
        return LstmState(ax[0] + ah[0], 2 * s.h), Gates()

    [said] = unused(Cell("mine", LstmState, Gates, (Stage(("h",), forgetful),)))
    assert said.startswith("the state's c is read by no later step")
