"""The interpreter beside the reference, on cells that use all of the contract, each with every option that it takes."""

from dataclasses import replace

import numpy as np
import pytest
from against_reference import compare, masks, problem
from grown_cells import CELLS, GROWN, HEADS, SINGLE

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS as CATALOGUE
from unrolled.codegen import cpp
from unrolled.gradcheck.contract import contract
from unrolled.models.sampling import TokenSampler
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec
from unrolled.reference import scan

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from unrolled.backends.cpu import sampler  # noqa: E402

T, B = 6, 3


def given(cell, dtype, inputs, hidden, kind, *, proj=0, B=B):
    """A problem, with tokens and times where the kind says so."""
    w, x, s, dy, ds = problem(cell, dtype, T, B, inputs, hidden, proj=proj, bias="bare" not in kind)
    chosen = masks(cell, kind, T, B, hidden, proj)
    rng = np.random.default_rng(3)
    if "tokens" in kind:
        x = rng.integers(0, inputs, (T, B))
    if "dt" in kind:
        chosen["dt"] = rng.uniform(0.1, 2, (T, B))
    return (w, x, s, dy, ds), chosen


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["none", "live_keep_drop_dt", "live_mix_dt_tokens", "bare_tokens"])
@pytest.mark.parametrize(("inputs", "hidden"), [(4, 19), (17, 17)])
def test_the_whole_contract(name, dtype, kind, inputs, hidden):
    cell = CELLS[name]
    if not cell.candidate:
        kind = kind.replace("drop", "")
    arrays, chosen = given(cell, dtype, inputs, hidden, kind)
    compare(cell, *arrays, **chosen)


@pytest.mark.parametrize("kind", ["none", "live_keep_drop_dt", "live_mix_dt_tokens"])
def test_a_projected_state(kind):
    arrays, chosen = given(SINGLE, "float64", 4, 19, kind, proj=5)
    compare(SINGLE, *arrays, **chosen)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("rows", [2, 7])  # few rows: threads share the units
def test_threads_give_the_same_bits(name, rows):
    cell = CELLS[name]
    kind = "live_keep_dt" + "_drop" * bool(cell.candidate)
    (w, x, s, dy, ds), chosen = given(cell, "float32", 40, 70, kind, B=rows)
    chosen = {what: m.astype("f4") if what in ("drop", "dt") else m for what, m in chosen.items()}
    results = []
    for threads in (1, 2, 3) * 3:
        backends.set_threads(threads)
        y, final, tape = kernels.forward(cell, w, x, s, scan.ScanMasks(**chosen))
        dx, initial, grads = kernels.backward(tape, dy, ds)
        results.append([y, dx, *final, *initial, *tape.gates, *grads.values()])
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_heads_of_many_sizes():
    """Blocks that end at a vector, within one, and a last head that has no unit at all."""
    for heads, hidden in ((2, 64), (4, 9), (5, 33), (3, 16), (7, 8)):
        cell = replace(HEADS, heads=heads)
        compare(cell, *problem(cell, "float64", T, B, 4, hidden))
    whole = replace(CATALOGUE["lstm"], name="lstm_heads", heads=4)
    compare(whole, *problem(whole, "float32", 9, 8, 5, 256))


def test_other_settings_are_another_cell():
    other = GROWN.with_settings(rate=0.2, squash="relu")
    arrays, chosen = given(GROWN, "float64", 4, 5, "dt")
    first, second = (kernels.forward(cell, *arrays[:3], scan.ScanMasks(**chosen))[0] for cell in (GROWN, other))
    assert np.abs(first - second).max() > 0.01
    compare(other, *arrays, **chosen)


def test_a_value_of_another_width_is_no_number_of_a_unit():
    first, second, last = GROWN.stages
    wrong = replace(second, forward=lambda ax, ah, s, k, p, c, x, m=1: second.forward(ax, ah, s, k, p, c, k.z, m=m))
    why = backends.reason(replace(GROWN, stages=(first, wrong, last)))
    assert "another width" in why
    with pytest.raises(ur.Unsupported):
        ur.Recurrent(replace(GROWN, stages=(first, wrong, last)), 4, 5, backend="cpu")


@pytest.mark.parametrize("name", CELLS)
def test_they_keep_the_contract_and_kernels_have_no_room_for_them(name):
    assert contract(CELLS[name], np.random.default_rng(0)).passed
    with pytest.raises(ur.Unsupported, match="no room for it"):
        cpp.emit_cell(CELLS[name])
    assert not kernels.has_kernel(CELLS[name])
    assert backends.reason(CELLS[name]) is None


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize(("embedding", "length"), [(0, 9), (33, 9), (33, 2), (5, 9)])  # 2: the embedding is not folded
def test_they_are_drawn_in_the_engine_too(name, embedding, length):
    """As `test_cells_without_kernels_are_drawn_in_the_engine_too`; x itself is the embedding, or another layer's h."""
    spec = Spec(33 if embedding == 0 else 70, CELLS[name], embedding, 33, 2, dtype="float64")
    plain, u = Network(spec, backend="reference", rng=0), np.random.default_rng(2).random(12)
    engine = Network(spec, backend="cpu", rng=0).sampler(plain.zero_state(1), length)
    assert isinstance(engine, sampler.Sampler)
    assert engine.sample(1, u, 1.0) == TokenSampler(plain, plain.zero_state(1), 9).sample(1, u, 1.0)
