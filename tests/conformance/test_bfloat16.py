"""Products that round what they multiply (dtype="bfloat16"): the engine against the reference."""

import numpy as np
import pytest
from against_reference import ALL, masks, problem

from unrolled import backends
from unrolled.reference import layers as reference
from unrolled.reference import scan

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from unrolled.backends.cpu import _engine, layers  # noqa: E402

FLIP = 2.0**-8
"""Of the largest number: sums in another order may put an operand on the other side of the middle between two bfloat16,
which moves it, and what is summed of it, by so much."""
NEAR = 1e-5
"""The same of most numbers, which no such operand reaches: some hundred roundings of float32. Without the rule the
middle one is more than 10 times as far off (below)."""
FORMS = [(name, False) for name in _engine.instruction_sets()]
FORMS += [("avx512", True)] if "avx512" in _engine.instruction_sets() and _engine.multiplies_pairs() else []


@pytest.fixture(params=FORMS, ids=lambda form: form[0] + ", pairs" * form[1])
def form(request):
    """An instruction set, with or without products of pairs."""
    before, pairs = _engine.instruction_set(), _engine.multiplies_pairs()
    _engine.select(request.param[0])
    _engine.multiply_pairs(request.param[1])
    yield request.param
    _engine.select(before)
    _engine.multiply_pairs(pairs)


def results(of, cell, w, x, s, dy, ds, m, *, rounds=True):
    y, new, tape = of.forward(cell, w, x, s, m, rounds=rounds)
    dx, before, grads = of.backward(tape, dy, ds)
    return [y, *new, *before, *(grads[name] for name in sorted(grads)), *([] if dx is None else [dx])]


def errors(got, want):
    return np.concatenate(
        [np.abs(a - b, dtype="f8").ravel() / max(1, np.abs(b).max()) for a, b in zip(got, want, strict=True)]
    )


SIZES = {  # T, B, I, H: odd depths of every sum, rows that tiles part, one row, a unit more than a vector
    "masks": (7, 3, 4, 5),
    "tokens": (5, 4, 3, 17),
    "rows": (9, 7, 7, 33),
    "one row": (6, 1, 19, 40),
}


@pytest.mark.parametrize("cell", ALL.values(), ids=ALL)
@pytest.mark.parametrize("size", SIZES)
def test_every_cell(cell, size):
    T, B, I, H = SIZES[size]
    w, x, s, dy, ds = problem(cell, "float32", T, B, I, H)
    if size == "tokens":
        x = np.random.default_rng(1).integers(0, I, (T, B))
    m = scan.ScanMasks(**masks(cell, "live_keep" if size == "masks" else "none", T, B, H))
    want = results(scan, cell, w, x, s, dy, ds, m)
    found = []
    for threads in (1, 3):
        backends.set_threads(threads)
        found.append(results(kernels, cell, w, x, s, dy, ds, m))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    off = errors(found[0], want)
    assert off.max() <= 4 * FLIP
    assert np.median(off) <= NEAR


@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "gru_reset_before", "rnn_tanh", "slstm", "cfc_backbone"])
def test_every_instruction_set(form, name):
    cell, m = ALL[name], scan.ScanMasks()
    given = problem(cell, "float32", 40, 9, 21, 37, scale=0.5)  # several spans of an odd number of rows
    want = results(scan, cell, *given, m)
    found = []
    for threads in (1, 2):
        backends.set_threads(threads)
        found.append(results(kernels, cell, *given, m))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    off = errors(found[0], want)
    assert off.max() <= 4 * FLIP
    assert np.median(off) <= NEAR
    assert np.median(errors(results(kernels, cell, *given, m, rounds=False), want)) > 10 * NEAR


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 1, 1), (7, 16, 17), (33, 2101, 5), (303, 41, 97), (601, 21, 513)]
)
def test_linear(form, rows, inputs, outputs):
    """What is multiplied is given here, so that nothing but the order of sums differs: a rounding or two a term."""
    rng = np.random.default_rng(rows)
    weight, bias = (rng.standard_normal(shape).astype("f4") for shape in ((outputs, inputs), outputs))
    x = rng.standard_normal((rows, inputs + 3)).astype("f4")[:, :inputs]
    dy = rng.standard_normal((rows, 2 * outputs)).astype("f4")[:, ::2]
    want = [
        reference.linear(weight, bias, x, rounds=True),
        *reference.linear_backward(weight, x, dy, rounds=True),
    ]
    for threads in (1, 2):
        backends.set_threads(threads)
        got = [layers.linear(weight, bias, x, rounds=True), *layers.linear_backward(weight, x, dy, rounds=True)]
        for a, b, depth in zip(got, want, (inputs, outputs, rows, rows), strict=True):
            assert errors([a], [b]).max() <= 8 * 2.0**-24 * (depth + 8)
