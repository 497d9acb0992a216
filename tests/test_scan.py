"""The scan itself: masks of single units, steps that do not exist, empty sequences, saturated gates."""

import numpy as np
import pytest

from unrolled import scan
from unrolled.cells import CELLS

T, B, I, H = 7, 3, 4, 5


def problem(cell, seed=0):
    rng = np.random.default_rng(seed)
    rows = len(cell.rows) * H
    w = {
        "weight_ih": rng.normal(size=(rows, I)),
        "weight_hh": rng.normal(size=(rows, cell.operand_width * H)),
        "bias_ih": rng.normal(size=rows),
        "bias_hh": rng.normal(size=rows),
    }
    if cell.params:
        w[cell.params_name] = rng.normal(size=(len(cell.params._fields), H))
    s = cell.state(*(rng.normal(size=(B, H)) for _ in cell.state._fields))
    return w, rng.normal(size=(T, B, I)), s, rng


@pytest.mark.parametrize("which", ["keep", "live", "both"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_gradients_through_masks_equal_the_complex_step(cell, which):
    w, x, s, rng = problem(cell)
    kw = {}
    if which != "keep":
        kw["live"] = rng.random((T, B)) < 0.7
    if which != "live":
        kw["keep"] = cell.state(*(rng.random((T, B, H)) < 0.3 for _ in s))
    y, final, tape = scan.forward(cell, w, x, s, **kw)
    cy, cs = rng.normal(size=y.shape), [rng.normal(size=f.shape) for f in final]
    dx, ds, grads = scan.backward(tape, cy, cell.state(*cs))
    inputs = w | {"x": x} | {f"s.{n}": f for n, f in zip(s._fields, s, strict=True)}
    ours = grads | {"x": dx} | {f"s.{n}": f for n, f in zip(s._fields, ds, strict=True)}
    for name, array in inputs.items():
        v = rng.normal(size=array.shape)
        a = inputs | {name: array + 1e-30j * v}
        y, final, _ = scan.forward(
            cell, {k: a[k] for k in w}, a["x"], cell.state(*(a[f"s.{n}"] for n in s._fields)), **kw
        )
        slope = ((cy * y).sum() + sum((c * f).sum() for c, f in zip(cs, final, strict=True))).imag / 1e-30
        assert (ours[name] * v).sum() == pytest.approx(slope, rel=1e-11), name  # sums of 300 products


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_kept_units_keep_and_others_do_not_notice(cell):
    w, x, s, _ = problem(cell)
    nothing = cell.state(*(np.zeros((T, B, H), bool) for _ in s))
    everything = cell.state(*(np.ones((T, B, H), bool) for _ in s))
    plain = scan.forward(cell, w, x, s)
    np.testing.assert_array_equal(scan.forward(cell, w, x, s, keep=nothing)[0], plain[0])
    y, final, _ = scan.forward(cell, w, x, s, keep=everything)
    np.testing.assert_array_equal(y, np.broadcast_to(s.h, y.shape))
    np.testing.assert_array_equal(final[-1], s[-1])


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_without_a_tape_the_numbers_are_the_same(cell):
    w, x, s, rng = problem(cell)
    live = rng.random((T, B)) < 0.7
    y, final, tape = scan.forward(cell, w, x, s, live=live)
    z, other, none = scan.forward(cell, w, x, s, live=live, record=False)
    assert none is None
    np.testing.assert_array_equal(y, z)
    for a, b, c in zip(final, other, tape.state, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(y[~live], 0)


@pytest.mark.parametrize(
    "cell", [c for n, c in CELLS.items() if n != "rnn_relu"], ids=[c for c in CELLS if c != "rnn_relu"]
)
def test_saturated_gates_have_finite_values_and_gradients(cell):
    w, x, s, _ = problem(cell)
    y, _, tape = scan.forward(cell, w, 1e4 * x, s)
    assert np.abs(y).max() <= max(1, np.abs(s.h).max())  # h stays a mixture of values in [-1, 1] and the old state
    dx, ds, grads = scan.backward(tape, np.ones_like(y), cell.state(*(np.zeros_like(f) for f in s)))
    assert all(np.isfinite(a).all() for a in (dx, *ds, *grads.values()))


def test_scatter_add_sums_repeated_rows():
    rng = np.random.default_rng(0)
    index, rows = rng.integers(0, 6, 40), rng.normal(size=(40, 3))
    expected = np.zeros((9, 3))
    np.add.at(expected, index, rows)
    np.testing.assert_allclose(scan.scatter_add(index, rows, 9), expected, rtol=0, atol=1e-14)  # sums up to 6
