"""The engine around the recurrence, against its references: linear layers, loss, clipping, update rules, drawing."""

import numpy as np
import pytest

pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
from unrolled import backends
from unrolled.backends.cpu import _engine, layers
from unrolled.cells import CELLS
from unrolled.codegen.cpp import EMITTED
from unrolled.models import sampling as sample
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec
from unrolled.reference import layers as reference_layers
from unrolled.reference import losses
from unrolled.training.clipping import clip_by_norm, global_norm
from unrolled.training.optimizers import OPTIMIZERS, make_optimizer

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
EPS = {"float32": 6e-8, "float64": 1.2e-16}  # half a unit of the last place of 1


def close(got, want, depth, dtype):
    """As near as sums of `depth` products in another order can be: each rounding moves the sum by half a unit."""
    assert got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=scale * 4 * EPS[dtype] * (depth + 8))


@every_dtype
@pytest.mark.parametrize(("T", "B", "E", "V"), [(1, 1, 1, 1), (7, 3, 5, 4), (40, 30, 21, 300), (0, 3, 5, 4)])
def test_embed_backward(dtype, T, B, E, V):
    """Tokens that come again and again, rows that lie apart; 0 for tokens that do not occur; any number of threads."""
    rng = np.random.default_rng(T)
    tokens, dx = rng.integers(0, V, (T, B)), rng.standard_normal((T, B, E + 3)).astype(dtype)[..., :E]
    want = reference_layers.embed_backward(tokens, dx.astype("f8"), V)
    for n in (1, 2, 3):
        backends.set_threads(n)
        got = layers.embed_backward(tokens, dx, V)
        close(got, want, T * B, dtype)
        np.testing.assert_array_equal(got[np.setdiff1d(np.arange(V), tokens)], 0)


SIZES = [(1, 1, 1), (3, 5, 2), (7, 16, 17), (50, 33, 65), (300, 40, 96), (600, 21, 500), (430, 19, 530)]
"""Rows, inputs, outputs; the last are wide and high enough for several pieces, whose columns are copied."""


@every_dtype
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SIZES)
def test_linear(rows, inputs, outputs, dtype):
    rng = np.random.default_rng(rows)
    weight, bias = rng.standard_normal((outputs, inputs)).astype(dtype), rng.standard_normal(outputs).astype(dtype)
    wide = rng.standard_normal((rows, inputs + 3)).astype(dtype)
    x, dy = wide[:, :inputs], rng.standard_normal((rows, 2 * outputs)).astype(dtype)[:, ::2]  # views
    close(layers.linear(weight, bias, x), reference_layers.linear(weight, bias, x), inputs, dtype)
    close(layers.linear(weight, None, x), reference_layers.linear(weight, None, x), inputs, dtype)
    got, want = layers.linear_backward(weight, x, dy), reference_layers.linear_backward(weight, x, dy)
    for g, w, depth in zip(got, want, (outputs, rows, rows), strict=True):
        close(g, w, depth, dtype)


@every_dtype
@pytest.mark.parametrize(("steps", "batch", "size"), [(1, 1, 2), (3, 2, 16), (5, 7, 65), (2, 3, 1000)])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(steps, batch, size, smoothing, dtype):
    rng = np.random.default_rng(size)
    logits = (rng.standard_normal((steps, batch, size)) * 5).astype(dtype)
    targets = rng.integers(0, size, (steps, batch))
    before = logits.copy()
    loss, d = layers.cross_entropy(logits, targets, smoothing=smoothing)
    want, dwant = losses.cross_entropy(logits, targets, smoothing=smoothing)
    assert loss == pytest.approx(want, rel=20 * EPS[dtype])  # a mean of logarithms
    close(d * targets.size, dwant * targets.size, size, dtype)
    assert np.array_equal(logits, before)
    assert layers.cross_entropy(logits, targets, gradient=False)[0] == loss
    again, dagain = layers.cross_entropy(logits, targets, overwrite=True, smoothing=smoothing)
    assert again == loss
    assert np.array_equal(dagain, d)


@every_dtype
def test_cross_entropy_of_huge_and_of_unreal_logits(dtype):
    logits = np.array([[[1e4, 0, -1e4], [-3e4, -3e4, -3e4]]], dtype)
    loss, d = layers.cross_entropy(logits, np.array([[1, 2]]))
    assert loss == pytest.approx((1e4 + np.log(3)) / 2, rel=1e-7)
    assert np.isfinite(d).all()
    logits[0, 0, 2] = np.nan
    assert np.isnan(layers.cross_entropy(logits, np.array([[1, 2]]))[0])


@every_dtype
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_update_rules_to_the_bit(rule, dtype):
    rng = np.random.default_rng(5)
    shapes = {"a": (3, 7), "b": (17,), "c": (90, 200)}
    start = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    ours, theirs = ({name: p.copy() for name, p in start.items()} for _ in range(2))
    native = make_optimizer(rule, ours, weight_decay=0.1)
    numpy = make_optimizer(rule, theirs, backend="reference", weight_decay=0.1)
    for step in range(4):
        grads = {name: rng.standard_normal(p.shape).astype(dtype) for name, p in start.items()}
        native.update(grads, 0.01 * (step + 1))
        numpy.update(grads, 0.01 * (step + 1))
    for name in shapes:
        assert np.array_equal(ours[name], theirs[name]), name
        for slot in native.slots:
            assert np.array_equal(native.slots[slot][name], numpy.slots[slot][name]), (slot, name)


@every_dtype
def test_clipping(dtype):
    rng = np.random.default_rng(6)
    grads = {"a": rng.standard_normal((30, 1000)).astype(dtype), "b": rng.standard_normal(3).astype(dtype)}
    same = {name: g.copy() for name, g in grads.items()}
    want = global_norm(same, "reference")
    assert global_norm(grads) == pytest.approx(want, rel=1e-13)  # summed in float64, in another order
    assert clip_by_norm(grads, 2.0) == pytest.approx(clip_by_norm(same, 2.0, "reference"), rel=1e-13)
    for name, g in grads.items():
        np.testing.assert_allclose(g, same[name], rtol=4 * EPS[dtype])


@every_dtype
def test_threads_give_the_same_bits(dtype):
    rng = np.random.default_rng(7)
    net = Network(Spec(70, "lstm", 21, 37, 2, dtype=dtype))
    x, y = rng.integers(0, 70, (2, 33, 13))
    found = []
    for n in (1, 2, 3, 8):
        backends.set_threads(n)
        loss, grads, _ = net.loss_and_gradients(x, y)
        norm = clip_by_norm(grads, 0.1)
        params = {name: p.copy() for name, p in net.params.items()}
        make_optimizer("adam", params).update(grads, 1e-2)
        found.append([np.array([loss, norm]), *grads.values(), *params.values()])
    for other in found[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("isa", _engine.instruction_sets())
def test_loss_and_gradients_on_every_instruction_set(isa):
    best = _engine.instruction_set()
    net = Network(Spec(70, "lstm", 21, 37, 2), rng=0)
    x, y = np.random.default_rng(8).integers(0, 70, (2, 9, 13))
    want, wanted, _ = Network(Spec(70, "lstm", 21, 37, 2), backend="reference", rng=0).loss_and_gradients(x, y)
    try:
        _engine.select(isa)
        loss, grads, _ = net.loss_and_gradients(x, y)
        drawn = list(sample.tokens(net, x[:, 0], 20, 0.8, np.random.default_rng(9)))
    finally:
        _engine.select(best)
    assert loss == pytest.approx(want, rel=1e-6)  # some tens of float32 roundings
    for name, g in grads.items():
        close(g, wanted[name], 200, "float32")
    assert drawn == list(sample.tokens(net, x[:, 0], 20, 0.8, np.random.default_rng(9)))


@pytest.mark.parametrize(("vocabulary", "embedding"), [(20, 11), (500, 11), (20, 0)])
def test_folding_the_embedding_changes_nothing(vocabulary, embedding):
    """Fewer symbols than tokens: Wih E^T is worked out first. Both ways are the same sums, in float64 to 1e-13."""
    spec = Spec(vocabulary, "lstm", embedding, 13, 2, dtype="float64")
    net, plain = Network(spec, rng=0), Network(spec, backend="reference", rng=0)
    x, y = np.random.default_rng(10).integers(0, vocabulary, (2, 6, 7))
    parts = [plain.loss_and_gradients(x[:, b : b + 1], y[:, b : b + 1]) for b in range(7)]  # 6 tokens: not folded
    loss, grads, _ = net.loss_and_gradients(x, y)  # 42 tokens
    assert loss == pytest.approx(np.mean([p[0] for p in parts]), rel=1e-13)
    for name, g in grads.items():
        np.testing.assert_allclose(g, np.mean([p[1][name] for p in parts], axis=0), rtol=0, atol=1e-13)


@every_dtype
@pytest.mark.parametrize("cell", ["lstm", "lstm_peephole", "gru_reset_after", "gru_reset_before", "rnn_relu"])
@pytest.mark.parametrize(("vocabulary", "embedding", "layers_"), [(37, 0, 1), (37, 11, 2), (3000, 11, 2)])
def test_drawing_is_the_reference_s(cell, dtype, vocabulary, embedding, layers_):
    """The same tokens for the same random numbers, one or three threads, whatever the number drawn a call."""
    spec = Spec(vocabulary, cell, embedding, 45, layers_, dtype=dtype)
    net, plain = Network(spec, rng=0), Network(spec, backend="reference", rng=0)
    for p in net.params.values():
        p *= 2  # less even probabilities
    plain.load_params(net.params)
    prompt = np.array([3, 5, 8])
    for temperature in (0, 0.3, 1.0):
        want = list(sample.tokens(plain, prompt, 40, temperature, np.random.default_rng(1)))
        for n in (1, 3):
            backends.set_threads(n)
            got = sample.tokens(net, prompt, 40, temperature, np.random.default_rng(1))
            assert list(got) == want


@pytest.mark.parametrize("cell", [name for name in CELLS if name not in EMITTED])
def test_cells_without_kernels_are_drawn_in_the_engine_too(cell):
    """One-hot and embedded, layers that read each other, one or two threads: the reference's tokens."""
    for embedding in (0, 3):
        spec = Spec(70, cell, embedding, 33, 2, dtype="float64")
        plain, found = Network(spec, backend="reference", rng=0), []
        u = np.random.default_rng(2).random(25)
        for n in (1, 2):
            backends.set_threads(n)
            engine = Network(spec, backend="cpu", rng=0).sampler(plain.zero_state(1), 9)
            found.append(engine.sample(1, u[:9], 1.0) + engine.sample(2, u[9:], 0.5))
        slow = sample.TokenSampler(plain, plain.zero_state(1), 9)
        assert found == [slow.sample(1, u[:9], 1.0) + slow.sample(2, u[9:], 0.5)] * 2


def test_drawing_ends_at_the_ends():
    """u near 1 takes the last symbol that has any probability; a symbol without any is never taken."""
    net = Network(Spec(67, "lstm", 0, 5, 1))
    net.params["decoder.weight"][...] = 0
    net.params["decoder.bias"][...] = -1e30
    net.params["decoder.bias"][[2, 40]] = 0
    sampler = net.sampler(net.zero_state(1), 4)
    assert sampler.sample(1, np.array([0.0, 0.4999, 0.5001, 1 - 2**-53]), 1.0) == [2, 2, 40, 40]
