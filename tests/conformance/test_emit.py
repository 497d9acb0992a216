"""The committed kernels are what the cells say, and the writer refuses what it cannot write."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from unrolled.cells import CELLS, Back, Cell, Stage
from unrolled.codegen import cpp
from unrolled.codegen.graph import Graph, instructions
from unrolled.errors import Unsupported

COMMITTED = Path(__file__).parents[2] / "src/unrolled/backends/cpu/csrc/emitted"


@pytest.mark.parametrize(("name", "emit"), [("cells.inc", cpp.emit_cells), ("updates.inc", cpp.emit_updates)])
def test_committed_text_is_fresh(name, emit):
    assert (COMMITTED / name).read_text(encoding="utf-8") == emit(), "run: python -m unrolled.codegen.cpp"


def test_common_subexpressions_are_computed_once():
    text = cpp.emit_cell(CELLS["lstm"])
    forward, backward = text.split("INLINE void backward")
    assert forward.count("tanh(") == 2
    assert backward.count("tanh(") == 1
    assert "fma(" in forward


class State(NamedTuple):
    h: object


class Gates(NamedTuple):
    pass


def cell_of(function):
    def backward(d, k, s, new):
        da = (d.h,)
        return Back(da, da, State(0))

    return Cell(
        "odd", State, Gates, (Stage(("h",), lambda ax, ah, s: (State(function(ax[0])), Gates()), backward),), "none"
    )


def test_a_product_is_fused_into_the_one_sum_that_uses_it():
    graph = Graph()
    x, y = graph.input("x"), graph.input("y")
    once, twice = x * y + x, y * y
    outputs = [once.node, (twice - x).node, (x - twice).node]
    assert [op for _, op, _ in instructions(graph, outputs)] == ["fma", "mul", "sub", "sub"]
    assert [op for _, op, _ in instructions(graph, outputs[:2])] == ["fma", "fms"]
    assert [op for _, op, _ in instructions(graph, outputs[2:])] == ["fnma"]


def test_an_update_is_never_fused():
    text = cpp.emit_updates()
    assert "sqrt(" in text
    assert not {name for name in ("fma", "fms", "fnma") if f"{name}(" in text}


@pytest.mark.parametrize(
    "function",
    [
        np.sin,
        lambda a: np.clip(a, 0, 1),
        lambda a: a + "x",
        lambda a: a if a > 0 else 0,
        lambda a: a * (a > 0),
        lambda a: np.where(a, a, 0),
    ],
)
def test_what_has_no_kernel_is_refused(function):
    with pytest.raises((Unsupported, TypeError), match=r"no operation|neither|unsupported|ufunc|asks|comparison"):
        cpp.emit_cell(cell_of(function))
