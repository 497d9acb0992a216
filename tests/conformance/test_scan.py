"""Proof 5: the native engine against the reference, every output, state, tape field and gradient."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from against_reference import ALL, compare, every_cell, every_dtype, masks, problem

from unrolled import backends
from unrolled.cells import CELLS

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from unrolled.backends.cpu import _engine  # noqa: E402

KERNELS = [cell for cell in ALL.values() if backends.has_kernel(cell)]


@every_cell
@every_dtype
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("mask", ["none", "live", "keep", "live_keep"])
def test_options(cell, dtype, bias, mask):
    T, B, I, H = 7, 3, 4, 5
    w, x, s, dy, ds = problem(cell, dtype, T, B, I, H, bias=bias)
    compare(cell, w, x, s, dy, ds, **masks(cell, mask, T, B, H))


@every_cell
@every_dtype
@pytest.mark.parametrize("H", [1, 5, 8, 16, 17, 33, 64, 100])
def test_units(cell, dtype, H):
    compare(cell, *problem(cell, dtype, 5, 4, 3, H), **masks(cell, "live_keep" if H % 2 else "none", 5, 4, H))


@every_cell
@every_dtype
@pytest.mark.parametrize("B", range(1, 14))
def test_batches(cell, dtype, B):
    compare(cell, *problem(cell, dtype, 4, B, 7, 19))


@every_cell
@pytest.mark.parametrize(("T", "I"), [(1, 1), (1, 16), (2, 15), (3, 17), (70, 2), (300, 5)])
def test_lengths(cell, T, I):
    compare(cell, *problem(cell, "float64", T, 2, I, 6))


@pytest.mark.parametrize("cell", KERNELS, ids=lambda cell: cell.name)
@every_dtype
@pytest.mark.parametrize(("T", "B"), [(200, 9), (700, 2)])
def test_spans(cell, dtype, T, B):
    """So many rows that the kernels take the steps in several spans, the last one a part: dense inputs and tokens."""
    I, H = 5, 40
    w, x, s, dy, ds = problem(cell, dtype, T, B, I, H, scale=0.3)  # contractions, over hundreds of steps
    tokens = np.random.default_rng(1).integers(0, I, (T, B))
    compare(cell, w, x, s, dy, ds, **masks(cell, "live_keep", T, B, H))
    for given in (x, tokens):
        compare(cell, w, given, s, dy, ds)
        results = []
        for threads in (1, 3):
            backends.set_threads(threads)
            y, final, tape = kernels.forward(cell, w, given, s)
            dx, initial, grads = kernels.backward(tape, dy, ds)
            results.append([y, *final, *initial, *grads.values(), *([] if dx is None else [dx])])
        assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


@every_cell
def test_no_steps(cell):
    """A sequence of no steps passes state and gradient through."""
    w, x, s, dy, ds = problem(cell, "float32", 0, 2, 3, 6)
    y, final, tape = kernels.forward(cell, w, x, s)
    dx, initial, grads = kernels.backward(tape, dy, ds)
    assert y.shape == (0, 2, 6)
    assert dx.shape == (0, 2, 3)
    assert all(np.array_equal(a, b) for a, b in zip(final, s, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(initial, ds, strict=True))
    assert not any(np.any(g) for g in grads.values())


@every_cell
@every_dtype
def test_integers(cell, dtype):
    for T, I in ((6, 5), (6, 40)):  # fewer columns than steps x rows, and more
        w, _, s, dy, ds = problem(cell, dtype, T, 3, I, 18)
        x = np.random.default_rng(1).integers(0, I, (T, 3))
        compare(cell, w, x, s, dy, ds)
        compare(cell, w, x.astype(np.uint8), s, dy, ds, **masks(cell, "live_keep", T, 3, 18))


@every_cell
@every_dtype
def test_views(cell, dtype):
    """Views of any kind give the very bits that copies give."""
    T, B, I, H = 6, 4, 5, 18
    w, x, s, dy, ds = problem(cell, dtype, T, B, I, H)
    strange = {
        "transposed": lambda a: np.asfortranarray(a),
        "reversed": lambda a: np.ascontiguousarray(a[::-1])[::-1],
        "spaced": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        "swapped": lambda a: np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1),
        "inside": lambda a: np.pad(a, [(0, 0)] * (a.ndim - 1) + [(3, 4)])[..., 3:-4],
        "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    }
    y1, s1, tape1 = kernels.forward(cell, w, x, s)
    dx1, ds1, grads1 = kernels.backward(tape1, dy, ds)
    for name, view in strange.items():
        y, final, tape = kernels.forward(
            cell, {k: view(v) for k, v in w.items()}, view(x), type(s)(*(view(f) for f in s))
        )
        dx, initial, grads = kernels.backward(tape, view(dy), type(s)(*(view(f) for f in ds)))
        assert np.array_equal(y, y1), name
        assert np.array_equal(dx, dx1), name
        assert all(np.array_equal(a, b) for a, b in zip(final, s1, strict=True)), name
        assert all(np.array_equal(a, b) for a, b in zip(initial, ds1, strict=True)), name
        assert all(np.array_equal(grads[k], grads1[k]) for k in grads1), name


@every_cell
@every_dtype
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 30, 3000])
def test_extremes(cell, dtype, scale):
    """Saturated gates and tiny pre-activations."""
    w, x, s, dy, ds = problem(cell, dtype, 5, 3, 4, 17, scale=scale)
    if cell.name == "rnn_relu" and scale > 1:
        w["weight_hh"] /= w["weight_hh"].dtype.type(scale)  # no gate holds it: it would overflow
    if cell.name == "lru":
        w["weight_recurrence"] /= w["weight_recurrence"].dtype.type(scale)  # logarithms: exp of thousands is inf
    if scale > 1:  # a rounding of a pre-activation of thousands moves a gate that is not quite shut
        compare(cell, w, x, s, dy, ds, factor=50 * scale)
    else:
        compare(cell, w, x, s, dy, ds)


@every_cell
@every_dtype
def test_denormals(cell, dtype):
    """Denormal numbers count as 0; nothing else changes, and the caller's own arithmetic keeps them."""
    w, x, s, dy, ds = problem(cell, dtype, 5, 3, 4, 17)
    tiny = np.finfo(dtype).smallest_subnormal
    s = type(s)(*(np.full_like(f, 3 * tiny) for f in s))
    compare(cell, w, x * 0 + tiny, s, dy, ds)
    assert np.full(3, tiny, dtype).sum() > 0


@every_cell
def test_zero_gradient(cell):
    w, x, s, dy, ds = problem(cell, "float32", 5, 3, 4, 17)
    _, _, tape = kernels.forward(cell, w, x, s)
    dx, initial, grads = kernels.backward(tape, 0 * dy, type(s)(*(0 * f for f in ds)))
    assert not any(np.any(a) for a in (dx, *initial, *grads.values()))


@every_cell
@every_dtype
@pytest.mark.parametrize("B", [1, 3, 13])
def test_threads_give_the_same_bits(cell, dtype, B):
    T, I, H = 9, 20, 150
    w, x, s, dy, ds = problem(cell, dtype, T, B, I, H)
    results = []
    for threads in (1, 2, 3, 8, 2):
        backends.set_threads(threads)
        y, final, tape = kernels.forward(cell, w, x, s)
        backends.set_threads(threads)  # threads that slept in forward would leave backward to one of them
        dx, initial, grads = kernels.backward(tape, dy, ds)
        results.append([y, dx, *final, *initial, *tape.gates, *grads.values()])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_threads_that_sleep_for_one_another_leave_short_steps_to_one():
    """More threads than processors never spin: all of their waits are sleeps, as on a busy machine."""
    T, B, I, H = 40, 1, 5, 64
    w, x, s, dy, ds = problem(CELLS["lstm"], "float32", T, B, I, H)
    backends.set_threads(1)
    alone = kernels.forward(CELLS["lstm"], w, x, s)[0]
    backends.set_threads(os.cpu_count() + 1)
    for calls in (64, 128, 256):  # each time that nothing has changed, twice as many
        assert _engine.calls_alone() == 0
        np.testing.assert_array_equal(kernels.forward(CELLS["lstm"], w, x, s)[0], alone)  # shared, and asleep
        for left in range(calls, 0, -1):
            assert _engine.calls_alone() == left
            np.testing.assert_array_equal(kernels.forward(CELLS["lstm"], w, x, s)[0], alone)
    kernels.forward(CELLS["lstm"], w, x, s)
    assert _engine.calls_alone() == 512
    w, x, s, dy, ds = problem(CELLS["lstm"], "float32", T, 3, I, H)  # rows are shared: threads meet seldom
    kernels.backward(kernels.forward(CELLS["lstm"], w, x, s)[2], dy, ds)
    assert _engine.calls_alone() == 512
    backends.set_threads(os.cpu_count() + 1)  # whoever sets the number finds out anew
    assert _engine.calls_alone() == 0


def test_auto_falls_back_and_says_why():
    cell = CELLS["lstm"]
    w, x, s, _, _ = problem(cell, "float64", 3, 2, 4, 5)
    w["weight_ih"] = w["weight_ih"] + 1e-20j
    assert "complex128" in backends.reason(cell, "complex128")
    y, _, _ = backends.choose("auto").forward(cell, w, x, s)
    assert y.dtype == np.complex128
    with pytest.raises(backends.Unsupported, match="complex128"):
        backends.choose("cpu").forward(cell, w, x, s)


@pytest.mark.skipif("UNROLLED_ISA" in os.environ, reason="runs once, from the default instruction set")
@pytest.mark.slow
@pytest.mark.parametrize("isa", _engine.instruction_sets()[1:])
def test_instruction_sets(isa):
    """This whole file again on every other instruction set that this machine can run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"UNROLLED_ISA": isa}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_pairs_of_sizes():
    """A seeded walk through sizes around the tiles' edges."""
    rng = np.random.default_rng(3)
    for cell, dtype in itertools.product(ALL.values(), ("float32", "float64")):
        T, B, I, H = (
            int(n) for n in (rng.integers(1, 12), rng.integers(1, 30), rng.integers(1, 70), rng.integers(1, 90))
        )
        compare(cell, *problem(cell, dtype, T, B, I, H))
