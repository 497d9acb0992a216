"""Errors planted in every cell, of the kinds that people make: each is caught, and named with both numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled import cells
from unrolled.gradcheck.derivatives import derivatives, dropped_case

I, H = 4, 5
CELLS = {name: cell for name, cell in cells.CELLS.items() if all(stage.backward for stage in cell.stages)}
"""Those whose backward functions people wrote."""
EVERY_CELL = pytest.mark.parametrize("name", CELLS)


def with_backward(cell, stage, wrong):
    """The same cell with `wrong` around the backward function of one stage."""
    stages = list(cell.stages)
    stages[stage] = replace(stages[stage], backward=wrong(stages[stage].backward))
    return replace(cell, stages=tuple(stages))


def proven(cell, net=None, steps=7):
    """The derivatives along random directions, two for each gate's rows: what fails, with its detail."""
    net = net or ur.Recurrent(cell, I, H, dtype="float64", backend="reference")
    return ur.gradcheck.check_derivatives(net, steps=steps).failed


def assert_caught(failed, part=""):
    """Something fails, and says the parameter, the part of it and both numbers, which differ."""
    details = [p.detail for p in failed if p.name == "complex step"]
    assert details
    for detail in details:
        named = re.fullmatch(r"[a-z][\w.]*(?:, [\w ]+)?: backward (\S+), complex step (\S+)", detail)
        ours, theirs = map(float, named.groups())
        assert ours != theirs
    assert any(part in detail for detail in details)


def edit_block(half, n, change):
    """Change one block of `ax` or `ah` (of both, where they are one)."""

    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            new = {h: tuple(change(a) if i == n else a for i, a in enumerate(getattr(b, h))) for h in ("ax", "ah")}
            if b.ah is b.ax:
                return b._replace(ax=new["ax"], ah=new["ax"])
            return b._replace(**{half: new[half]})

        return backward

    return wrong


CHANGES = [
    pytest.param(np.negative, id="sign"),
    pytest.param(lambda a: 0 * a, id="missing"),
    pytest.param(lambda a: (1 + 1e-6) * a, id="a millionth", marks=pytest.mark.slow),
]
SPLIT = ("gru_reset_after", "gru_layer_norm")
"""Cells that tell the input's half of a pre-activation from the recurrent half; in the others both are one."""


def blocks():
    """Every block that a backward function gives: cell, stage, half, number, and what the proof has to name."""
    for name, cell in CELLS.items():
        for s, stage in enumerate(cell.stages):
            for n, row in enumerate(stage.rows):
                if stage.inputs:
                    yield name, s, "ax", n, f"bias_ih_l0, rows of {row}"
                if name in SPLIT or not stage.inputs:
                    yield name, s, "ah", n, f"bias_hh_l0, rows of {row}"
            if not stage.product:
                yield name, s, "ah", 0, f"bias_{stage.operand[0]}_l0"


@pytest.mark.parametrize(("name", "stage", "half", "n", "part"), list(blocks()))
@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_sign_a_missing_and_a_wrong_term_are_named_by_gate_and_parameter(name, stage, half, n, part, change):
    failed = proven(with_backward(CELLS[name], stage, edit_block(half, n, change)), steps=1)
    assert_caught(failed)
    kind, _, row = part.partition(", ")
    details = [p.detail for p in failed if p.subject.startswith(kind)]
    assert any(row in detail for detail in details)


def slots():
    """Every part of the state, of earlier values and of per-unit parameters whose gradient is not simply 0."""
    rng = np.random.default_rng(0)
    for name, cell in CELLS.items():
        for s in range(len(cell.stages)):
            seen = {}

            def spy(right, seen=seen):
                def backward(*args, **kw):
                    b = right(*args, **kw)
                    seen["b"] = b
                    return b

                return backward

            net = ur.Recurrent(with_backward(cell, s, spy), I, H, dtype="float64", backend="reference")
            y, _, tape = net.forward(rng.normal(size=(3, 2, I)))
            net.backward(tape, rng.normal(size=y.shape))
            for field in ("state", "values", "params"):
                given = getattr(seen["b"], field)
                for n, part in enumerate(given or ()):
                    if np.any(part):
                        yield name, s, field, n, type(given)._fields[n]


@pytest.mark.parametrize(("name", "stage", "field", "n", "label"), list(slots()))
@pytest.mark.parametrize("change", [np.negative, lambda a: 0 * a], ids=["sign", "missing"])
def test_a_carry_a_value_or_a_peephole_that_is_wrong_or_forgotten_is_caught(name, stage, field, n, label, change):
    def wrong(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            given = getattr(b, field)
            return b._replace(**{field: type(given)(*(change(a) if i == n else a for i, a in enumerate(given)))})

        return backward

    part = {"state": f"state.{label}", "params": f"{CELLS[name].params_name}_l0, the weight of {label}"}.get(field, "")
    assert_caught(proven(with_backward(CELLS[name], stage, wrong)), part)


def tampered(cell, change):
    """A layer whose backward pass sees a changed tape."""

    class Tampered(ur.Recurrent):
        def backward(self, tape, dy, dstate=None):
            return super().backward(replace(tape, scans=tuple(map(change, tape.scans))), dy, dstate)

    return Tampered(cell, H, H, dtype="float64", backend="reference")


@EVERY_CELL
def test_a_wrong_time_index_is_caught(name):
    """Every state one step late: the new one where the old one belongs."""

    def late(tape):
        return replace(tape, states=type(tape.states)(*(np.concatenate([f[1:], f[-1:]]) for f in tape.states)))

    assert_caught(proven(None, tampered(CELLS[name], late)))


@EVERY_CELL
def test_gradients_of_the_inputs_in_the_order_they_were_worked_out_are_caught(name):
    """The last step's first, as the backward pass comes to it: right at every layer but those below."""

    class Reversed(ur.Recurrent):
        def backward(self, tape, dy, dstate=None):
            dx, ds, grads = super().backward(tape, dy, dstate)
            return dx[::-1], ds, grads

    failed = proven(None, Reversed(CELLS[name], I, H, dtype="float64", backend="reference"))
    assert {p.subject.split(",")[0] for p in failed} == {"x"}
    assert_caught(failed, "x: ")


@EVERY_CELL
def test_a_transposed_weight_is_caught(name):
    """Each block of the recurrent weight (of the input's, where there is none), which shapes don't tell apart."""
    cell = CELLS[name]
    weight = "weight_hh" if cell.operand_width else "weight_ih"

    def transposed(tape):
        w = tape.w[weight]
        parts = w.reshape(w.shape[0] // H, H, w.shape[1] // H, H)
        return replace(tape, w={**tape.w, weight: parts.transpose(0, 3, 2, 1).reshape(w.shape)})

    assert_caught(proven(None, tampered(cell, transposed)), "x" if weight == "weight_ih" else "state.h")


@EVERY_CELL
def test_a_product_s_gradient_that_is_transposed_is_caught(name):
    class Transposed(ur.Recurrent):
        def backward(self, tape, dy, dstate=None):
            dx, ds, grads = super().backward(tape, dy, dstate)
            g = grads["weight_ih_l0"]
            return dx, ds, grads | {"weight_ih_l0": np.concatenate([b.T for b in np.split(g, len(g) // H)])}

    net = Transposed(CELLS[name], H, H, dtype="float64", backend="reference")
    assert_caught(proven(None, net), "weight_ih_l0, rows of ")


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if "c" in cell.state_fields])
def test_swapped_h_and_c_are_caught(name):
    cell = CELLS[name]

    def swapped(right):
        return lambda d, k, s, new, **kw: right(d._replace(h=d.c, c=d.h), k, s, new, **kw)

    assert_caught(proven(with_backward(cell, len(cell.stages) - 1, swapped)), "state.c")

    def exchanged(right):
        def backward(*args, **kw):
            b = right(*args, **kw)
            return b._replace(state=b.state._replace(h=b.state.c, c=b.state.h))

        return backward

    carries = {s for cell_name, s, field, _, label in slots() if (cell_name, field, label) == (name, "state", "c")}
    assert carries
    for n in carries:
        assert_caught(proven(with_backward(cell, n, exchanged)), "state.")


DROPPED = [name for name, cell in CELLS.items() if cell.candidate]


def without_m(right):
    """A backward that forgets that recurrent dropout has multiplied the candidate."""
    return lambda *args, **kw: right(*args, **{name: a for name, a in kw.items() if name != "m"})


def taking_m(cell, wrong):
    """The cell with a planted error in the backward function of the stage that holds the candidate."""
    n = next(n for n, stage in enumerate(cell.stages) if cell.candidate in stage.rows)
    return with_backward(cell, n, wrong)


@pytest.mark.parametrize("name", DROPPED)
def test_a_forgotten_mask_of_the_candidate_is_caught(name):
    net = ur.Recurrent(taking_m(CELLS[name], without_m), I, H, bias=True, dtype="float64", backend="reference")
    case = dropped_case(net, np.random.default_rng(0))
    failed = [p for p in derivatives(case, name, np.random.default_rng(0), full=False) if p.verdict == "failed"]
    assert_caught(failed, "weight_ih, rows of ")


def test_a_forgotten_mask_is_caught_by_check_cell_where_candidates_are_dropped_and_by_the_derived_backward():
    failed = ur.check_cell(taking_m(CELLS["lstm"], without_m)).failed
    assert {p.subject.split(", ", 1)[-1] for p in failed} == {"lstm, dropped candidates", "backward of stage 0 of lstm"}


def test_what_is_right_is_not_caught():
    assert all(not proven(cell) for cell in CELLS.values())
