"""dtype="bfloat16": float32 networks whose products round what they multiply, by one rule; trained, saved, resumed."""

import copy
import pickle
from fractions import Fraction

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text.stdlib import default_corpus
from unrolled.errors import UnrolledError
from unrolled.nn.rounding import check_weights
from unrolled.reference import layers, scan
from unrolled.reference.operands import operand
from unrolled.training.clipping import clip_by_norm
from unrolled.training.optimizers import make_optimizer

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 20
SMALL = {"hidden_size": 12, "num_layers": 2, "embedding_size": 5, "batch_size": 3, "seq_length": 20, "epochs": 1}
EPS = 2.0**-24


def test_an_operand_is_the_nearest_number_of_eight_bits_to_even_between_two():
    rng = np.random.default_rng(3)
    a = (rng.standard_normal(500) * 10.0 ** rng.integers(-30, 30, 500)).astype(np.float32)
    a[:4] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 0  # halfway: down, up, down
    got = operand(a, rounds=True)
    assert got[:4].tolist() == [1, 1 + 2.0**-6, -1, 0]
    for x, y in zip(a, got, strict=True):
        unit = 2.0 ** (np.frexp(float(x))[1] - 8)  # of the eighth bit
        assert abs(Fraction(float(y)) - Fraction(float(x))) <= Fraction(unit) / 2
        assert float(y) % unit == 0
    odd = np.array([0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0x7F800000], np.uint32).view(np.float32)
    assert np.isnan(operand(odd, rounds=True)).tolist() == [True, True, True, False]
    assert operand(a, rounds=False) is a


def close(got, want, terms):
    scale = max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * EPS * (terms + 8) * scale)  # a rounding a term


def test_every_product_of_a_layer_multiplies_what_is_rounded():
    """A step of a tanh layer and a decoder, written out in float64 on rounded operands, forward and backward."""
    B, I, H, V = 3, 5, 7, 11
    r = lambda a: operand(np.asarray(a, np.float32), rounds=True).astype("f8")  # noqa: E731
    rng = np.random.default_rng(0)
    net = ur.RNN(I, H, dtype="bfloat16", backend="reference", rng=0)
    x, h = (rng.standard_normal((B, n)).astype("f4") for n in (I, H))
    w = {name.removesuffix("_l0"): p for name, p in net.params.items()}
    y, _, tape = net.forward(x[None], h[None])
    new = np.tanh(r(x) @ r(w["weight_ih"]).T + r(h) @ r(w["weight_hh"]).T + w["bias_ih"] + w["bias_hh"])
    close(y[0], new, I + H)
    decoder, bias = rng.standard_normal((V, H)).astype("f4"), rng.standard_normal(V).astype("f4")
    close(layers.linear(decoder, bias, y, rounds=True)[0], r(y[0]) @ r(decoder).T + bias, H)
    dlogits = rng.standard_normal((1, B, V)).astype("f4")
    dy, ddecoder, dbias = layers.linear_backward(decoder, y, dlogits, rounds=True)
    close(dy[0], r(dlogits[0]) @ r(decoder), V)
    close(ddecoder, r(dlogits[0]).T @ r(y[0]), B)
    close(dbias, dlogits[0].sum(axis=0), B)
    dx, dh, grads = net.backward(tape, dy)
    da = dy[0] * (1 - y[0] * y[0])
    close(dx[0], r(da) @ r(w["weight_ih"]), H)
    close(dh.h[0], r(da) @ r(w["weight_hh"]), H)
    close(grads["weight_ih_l0"], r(da).T @ r(x), B)
    close(grads["weight_hh_l0"], r(da).T @ r(h), B)
    close(grads["bias_hh_l0"], da.sum(axis=0), B)


def test_what_integers_pick_is_copied():
    net = ur.GRU(5, 7, dtype="bfloat16", backend="reference", rng=0)
    w, x = net.layer_params()[0], np.array([[0, 4, 2]])
    exact = scan.forward(net.cell, w, x, net.cell.state(np.zeros((3, 7), "f4")))[0]
    np.testing.assert_array_equal(net(x)[0], exact)  # h = 0: there is no other product


def test_arrays_are_float32_and_copies_round_too():
    net = ur.LSTM(4, 5, 2, dtype="bfloat16", rng=0)
    x = np.random.default_rng(0).standard_normal((7, 3, 4))
    y, state, _ = net.forward(x)
    assert {a.dtype.name for a in (y, *state, *net.params.values())} == {"float32"}
    plain = ur.LSTM(4, 5, 2, rng=0)
    assert all(np.array_equal(p, plain.params[name]) for name, p in net.params.items())
    assert not np.array_equal(y, plain(x)[0])
    for other in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.with_params(net.params)):
        assert other.dtype == "bfloat16"
        np.testing.assert_array_equal(other(x)[0], y)
    wide = net.with_params({name: p.astype("f8") for name, p in net.params.items()})
    assert wide.dtype == "float64"
    np.testing.assert_allclose(wide(x)[0], ur.LSTM(4, 5, 2, rng=0)(x)[0], atol=1e-6)  # nothing rounds there


def test_a_model_is_float32_beside_one_of_float32_and_loads_as_it_was(tmp_path):
    model = ur.LanguageModel.train(TEXT, dtype="bfloat16", out=tmp_path / "run", **SMALL)
    exact = ur.LanguageModel.train(TEXT, **SMALL)
    again = ur.load(tmp_path / "run")
    assert again.network.spec.dtype == again.network.recurrent.dtype == "bfloat16"
    for name, p in model.network.params.items():
        np.testing.assert_array_equal(p, again.network.params[name])
    assert model.score(TEXT).nats == again.score(TEXT).nats
    assert model.score(TEXT).nats == pytest.approx(exact.score(TEXT).nats, rel=1e-2)
    assert model.score(TEXT).nats != exact.score(TEXT).nats
    assert model.sample(length=20, seed=1) == again.sample(length=20, seed=1)


def test_what_does_not_round_refuses():
    with pytest.raises(UnrolledError, match=r"'bfloat16'.*Known: float32, float64"):
        ur.MLSTM(4, 8, dtype="bfloat16")
    with pytest.raises(UnrolledError, match="float32; this one is bfloat16"):
        check_weights("int8", "bfloat16")


@pytest.mark.slow
def test_400_steps_on_text_lose_what_those_of_float32_do():
    text = np.frombuffer(default_corpus(16 * 13_000).text.encode(), np.uint8)
    ids = text.reshape(16, -1).T.astype(np.int64)
    means = {}
    for dtype in ("float32", "bfloat16"):
        spec = ur.Spec(128, embedding_size=24, hidden_size=48, num_layers=1, dtype=dtype)
        net, state, losses = ur.Network(spec, rng=0), None, []
        optimizer = make_optimizer("adam", net.params)
        for at in range(0, 400 * 32, 32):
            loss, grads, state = net.loss_and_gradients(ids[at : at + 32], ids[at + 1 : at + 33], state)
            clip_by_norm(grads, 5.0)
            optimizer.update(grads, 2e-3)
            losses.append(loss)
        means[dtype] = np.mean(losses)
        assert np.mean(losses[-50:]) < 0.7 * losses[0]  # it has learnt
    assert means["bfloat16"] == pytest.approx(means["float32"], rel=2e-3)
    assert means["bfloat16"] != means["float32"]
