"""The scan itself: masks of single units, steps that do not exist, empty sequences, saturated gates."""

import numpy as np
import pytest

from unrolled.cells import CELLS
from unrolled.reference import products, scan

T, B, I, H = 7, 3, 4, 5


EVERY_CELL = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)


def problem(cell, seed=0, bias=True, dtype="float64"):
    rng = np.random.default_rng(seed)
    w = {name: rng.normal(size=shape).astype(dtype) for name, shape in cell.shapes(I, H, bias=bias).items()}
    s = cell.state(*(rng.normal(size=(B, H)).astype(dtype) for _ in cell.state_fields))
    return w, rng.normal(size=(T, B, I)).astype(dtype), s, rng


def random_masks(cell, which, rng):
    """`live` as any pattern of steps, not only lengths; `keep` for single units."""
    kw = {}
    if which in ("live", "both"):
        kw["live"] = rng.random((T, B)) < 0.7
    if which in ("keep", "both"):
        kw["keep"] = cell.state(*(rng.random((T, B, H)) < 0.3 for _ in cell.state_fields))
    return kw


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("which", ["no masks", "keep", "live", "both"])
@EVERY_CELL
def test_gradients_equal_the_complex_step(cell, which, bias):
    w, x, s, rng = problem(cell, bias=bias)
    kw = random_masks(cell, which, rng)
    y, final, tape = scan.forward(cell, w, x, s, scan.ScanMasks(**kw))
    cy, cs = rng.normal(size=y.shape), [rng.normal(size=f.shape) for f in final]
    dx, ds, grads = scan.backward(tape, cy, cell.state(*cs))
    assert grads.keys() == w.keys()
    inputs = w | {"x": x} | {f"s.{n}": f for n, f in zip(s._fields, s, strict=True)}
    ours = grads | {"x": dx} | {f"s.{n}": f for n, f in zip(s._fields, ds, strict=True)}
    for name, array in inputs.items():
        for _ in range(3):
            v = rng.normal(size=array.shape)
            a = inputs | {name: array + 1e-30j * v}
            y, final, _ = scan.forward(
                cell, {k: a[k] for k in w}, a["x"], cell.state(*(a[f"s.{n}"] for n in s._fields)), scan.ScanMasks(**kw)
            )
            slope = ((cy * y).sum() + sum((c * f).sum() for c, f in zip(cs, final, strict=True))).imag / 1e-30
            scale = np.linalg.norm(ours[name]) or 1  # of an output that no step reads there is no gradient
            # Sums of up to 300 products in float64, and directions of length up to 20: some hundred roundings of 1e-16
            assert abs((ours[name] * v).sum() - slope) / scale < 1e-12, name


@EVERY_CELL
def test_a_mask_of_rows_is_a_mask_of_all_their_units(cell):
    w, x, s, rng = problem(cell)
    rows = rng.random((T, B)) < 0.4
    dy, ds = rng.normal(size=(T, B, H)), cell.state(*(rng.normal(size=(B, H)) for _ in s))
    results = []
    for mask in (rows, np.broadcast_to(rows[..., None], (T, B, H))):
        keep = cell.state(*([mask] + [None] * (len(s) - 1)))  # only h; other fields run on
        y, final, tape = scan.forward(cell, w, x, s, scan.ScanMasks(keep=keep))
        dx, ds0, grads = scan.backward(tape, dy, ds)
        results.append([y, *final, dx, *ds0, *grads.values()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@EVERY_CELL
@pytest.mark.parametrize("which", ["keep", "live"])
def test_a_mask_of_everything_hands_gradients_through_unchanged(cell, which):
    w, x, s, rng = problem(cell)
    every = np.ones((T, B, H), bool)
    kw = {"keep": cell.state(*(every for _ in s))} if which == "keep" else {"live": np.zeros((T, B), bool)}
    y, final, tape = scan.forward(cell, w, np.full_like(x, np.nan) if which == "live" else x, s, scan.ScanMasks(**kw))
    dy, ds = rng.normal(size=y.shape), cell.state(*(rng.normal(size=f.shape) for f in s))
    dx, ds0, grads = scan.backward(tape, dy, ds)
    for a in (dx, *grads.values()):
        np.testing.assert_array_equal(a, 0)
    for name, before, after, d, d0 in zip(s._fields, s, final, ds, ds0, strict=True):
        np.testing.assert_array_equal(after, before)
        passed = d + dy.sum(axis=0) if which == "keep" and name == "h" else d
        np.testing.assert_allclose(d0, passed, rtol=0, atol=1e-14)  # eight terms near 1


@pytest.mark.parametrize(("steps", "batch"), [(0, B), (T, 0), (0, 0)])
@EVERY_CELL
def test_no_steps_and_no_rows_are_fine(cell, steps, batch):
    w, _, _, rng = problem(cell)
    s = cell.state(*(rng.normal(size=(batch, H)) for _ in cell.state_fields))
    ds = cell.state(*(rng.normal(size=(batch, H)) for _ in s))
    for x in (np.zeros((steps, batch, I)), np.zeros((steps, batch), int)):
        y, final, tape = scan.forward(cell, w, x, s)
        assert y.shape == (steps, batch, H)
        assert all(gate.shape == (steps, batch, H) for gate in tape.gates)
        np.testing.assert_array_equal(scan.forward(cell, w, x, s, record=False)[1].h, final.h)
        dx, ds0, grads = scan.backward(tape, np.zeros((steps, batch, H)), ds)
        assert dx is None or dx.shape == x.shape
        for a, b in zip((*final, *(() if steps else ds0)), (*s, *(() if steps else ds)), strict=True):
            np.testing.assert_array_equal(a, b)
        assert {name: g.shape for name, g in grads.items()} == {name: p.shape for name, p in w.items()}
        assert all((g == 0).all() for g in grads.values())


@EVERY_CELL
def test_float32_stays_float32(cell):
    w, x, s, rng = problem(cell, dtype="float32")
    y, final, tape = scan.forward(cell, w, x, s, scan.ScanMasks(**random_masks(cell, "both", rng)))
    dx, ds, grads = scan.backward(tape, np.ones_like(y), s)
    arrays = (y, *final, *tape.states, *tape.gates, *tape.proposed, dx, *ds, *grads.values())
    assert {a.dtype for a in arrays} == {np.dtype("float32")}


@EVERY_CELL
def test_arguments_stay_as_they_are(cell):
    w, x, s, rng = problem(cell)
    kw = random_masks(cell, "both", rng)
    dy, ds = rng.normal(size=(T, B, H)), cell.state(*(rng.normal(size=(B, H)) for _ in s))
    given = [x, dy, kw["live"], *s, *ds, *kw["keep"], *w.values()]
    before = [a.copy() for a in given]
    for a in given:
        a.flags.writeable = False
    tape = scan.forward(cell, w, x, s, scan.ScanMasks(**kw))[2]
    scan.backward(tape, dy, ds)
    scan.backward(tape, dy, ds)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


@EVERY_CELL
def test_kept_units_keep_and_others_do_not_notice(cell):
    w, x, s, _ = problem(cell)
    nothing = cell.state(*(np.zeros((T, B, H), bool) for _ in s))
    everything = cell.state(*(np.ones((T, B, H), bool) for _ in s))
    plain = scan.forward(cell, w, x, s)
    np.testing.assert_array_equal(scan.forward(cell, w, x, s, scan.ScanMasks(keep=nothing))[0], plain[0])
    y, final, _ = scan.forward(cell, w, x, s, scan.ScanMasks(keep=everything))
    np.testing.assert_array_equal(y, np.broadcast_to(s.h, y.shape))
    np.testing.assert_array_equal(final[-1], s[-1])


@EVERY_CELL
def test_without_a_tape_the_numbers_are_the_same(cell):
    w, x, s, rng = problem(cell)
    live = rng.random((T, B)) < 0.7
    y, final, tape = scan.forward(cell, w, x, s, scan.ScanMasks(live))
    z, other, none = scan.forward(cell, w, x, s, scan.ScanMasks(live), record=False)
    assert none is None
    np.testing.assert_array_equal(y, z)
    for a, b, c in zip(final, other, tape.state, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    np.testing.assert_array_equal(y[~live], 0)


UNBOUNDED = {
    *("rnn_relu", "indrnn", "lstm_no_output_activation", "lru", "rg_lru"),
    *("min_gru", "min_lstm", "sru", "ligru", "ligru_layer_norm", "hgrn", "qrnn_ifo", "qrnn_ifo_w2"),
}
"""Cells whose candidate is no activation between -1 and 1, or that add it to all of the old state."""


@pytest.mark.parametrize("cell", CELLS.values(), ids=lambda c: c.name)
def test_saturated_gates_have_finite_values_and_gradients(cell):
    w, x, s, _ = problem(cell)
    y, _, tape = scan.forward(cell, w, 1e4 * x, s)
    largest = max(1, *(np.abs(f).max() for f in s))  # h stays a mixture of values in [-1, 1] and the old state
    assert cell.name in UNBOUNDED or np.abs(y).max() <= largest
    dx, ds, grads = scan.backward(tape, np.ones_like(y), cell.state(*(np.zeros_like(f) for f in s)))
    assert all(np.isfinite(a).all() for a in (dx, *ds, *grads.values()))


def test_scatter_add_sums_repeated_rows():
    rng = np.random.default_rng(0)
    index, rows = rng.integers(0, 6, 40), rng.normal(size=(40, 3))
    expected = np.zeros((9, 3))
    np.add.at(expected, index, rows)
    np.testing.assert_allclose(products.scatter_add(index, rows, 9), expected, rtol=0, atol=1e-14)  # sums up to 6
