"""`unrolled check my_cell.py:NAME`: the derived backward in print, and what is wrong with its line."""

import re
from dataclasses import replace

import numpy as np
import pytest

from unrolled.cli import cli
from unrolled.cli.own_cell import load_cell
from unrolled.gradcheck.derived import derived

SOURCE = """from typing import Any, NamedTuple

import numpy as np

from unrolled.cells import Cell, Stage
from unrolled.cells.ops import sigmoid, tanh


class State(NamedTuple):
    h: Any
    c: Any


class Gates(NamedTuple):
    f: Any
    n: Any


def forward(ax, ah, s, m=1):
    f = sigmoid(ax[0] + ah[0])
    n = tanh(ax[1] + ah[1])
    c = f * s.c + (1 - f) * (m * n)
    return State(h=tanh(c), c=c), Gates(f, n)


CELL = Cell("mine", State, Gates, (Stage(("f", "n"), forward),), candidate="n")
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Write a file with some lines changed, and check its cell."""
    monkeypatch.chdir(tmp_path)
    for options in ("STACK", "LANGUAGE", "HEADS"):  # what is proven of the cell itself is enough here
        monkeypatch.setattr(f"unrolled.gradcheck.suite.{options}", {})

    def check(changes, *arguments):
        lines = SOURCE.splitlines()
        for number, text in changes.items():
            lines[number - 1] = text
        (tmp_path / "my_cell.py").write_text("\n".join(lines))
        status = cli.main(["check", "my_cell.py:CELL", *arguments], standalone_mode=False)
        return status, capsys.readouterr().out

    return check


def test_the_printed_backward_is_one_that_can_be_written_into_the_file(run, tmp_path):
    status, text = run({}, "--show-backward")
    assert status == 0
    lines = text.splitlines()
    assert "    d_c = d.c + d.h * (1 - new.h * new.h)" in lines
    assert "    d_f = (d_c * s.c - d_c * (m * k.n)) * k.f * (1 - k.f)" in lines
    made = "Cell('written', State, Gates, (Stage(('f', 'n'), forward, backward),), candidate='n')"
    (tmp_path / "written.py").write_text(f"{SOURCE}\n\n{text}\n\nWRITTEN = {made}\n")
    cell = load_cell("written.py:WRITTEN")
    [proof] = derived(cell, np.random.default_rng(0))
    assert proof.value < 1e-15
    own = cell.stages[0].backward
    wrong = replace(cell.stages[0], backward=lambda *a, **kw: own(*a, **kw)._replace(ax=(0, 0)))
    [proof] = derived(replace(cell, stages=(wrong,)), np.random.default_rng(0))
    assert re.match(r"backward of stage 0, gradient of ax of row [fn]: yours 0, derived -?\d", proof.detail)


@pytest.mark.parametrize(
    ("line", "text", "said"),
    [
        (21, "    n = np.sinh(ax[1] + ah[1])", "numpy.sinh"),
        (21, "    n = ax[1] if ah[1] > 0 else ah[1]", "instead of if"),
        (21, "    n = tanh(ax[1] + ah[1].sum())", "asks for .sum, but it sees one unit's number at a time"),
        (21, "    n = tanh(ax[1] + ah[1] @ s.h)", "numpy.matmul"),
        (23, "    return State(h=tanh(c), c=c), Gates(f, n), n", "gives 3 values; expected two, (State, Gates)"),
        (22, "    c = f * s.c", "row n is read by nothing; take it out of rows"),
        (22, "    c = f + (1 - f) * n", "the state's c is read by no later step"),
        (21, "    n = tanh(ax[1])", "ah[1] of row n is read by nothing; move it to a stage with operand=None"),
    ],
)
def test_an_error_names_the_line_of_the_users_file(run, line, text, said):
    status, out = run({line: text, 26: 'CELL = Cell("mine", State, Gates, (Stage(("f", "n"), forward),))'}, "--quick")
    assert status == 1
    [told] = [each for each in out.splitlines() if said in each and not each.startswith("unsupported")]
    named = line if line == 21 and "is read" not in said else 19
    assert re.search(rf"my_cell\.py, line {named}\)", told), told
