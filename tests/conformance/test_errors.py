"""What callers do wrong is said alike on every backend: the same class, the same text."""

import warnings

import numpy as np
import pytest

pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
import unrolled as ur

T, B, I, H, V = 7, 3, 4, 5, 11
X, DY = np.ones((T, B, I), np.float32), np.ones((T, B, H), np.float32)
TOKENS = np.arange(T * B).reshape(T, B) % V


def reshaped(params, name):
    """A parameter whose shape was changed in place, which no assignment sees (and NumPy 2.5 advises against)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        params[name].shape = (-1, 1)


def tape(net):
    return net.forward(X)[2]


STACK = {
    "rank": lambda net: net(X[0, 0]),
    "features": lambda net: net(np.ones((T, B, I + 1))),
    "indices too large": lambda net: net(np.full((T, B), I)),
    "indices below 0": lambda net: net(np.full((T, B), -1)),
    "no numbers": lambda net: net([["a"]]),
    "ragged": lambda net: net([[1.0], [1.0, 2.0]]),
    "state": lambda net: net(X, np.ones((1, B + 1, H))),
    "lengths": lambda net: net(X, None, [T + 1] * B),
    "lengths below 0": lambda net: net(X, None, [-1] * B),
    "too few lengths": lambda net: net(X, None, [1]),
    "masks": lambda net: net.forward(X, masks={"zoneout_h_l0": np.ones((T, B, H), bool)}),
    "dy": lambda net: net.backward(tape(net), DY[:-1]),
    "dy of numbers": lambda net: net.backward(tape(net), "dy"),
    "dstate": lambda net: net.backward(tape(net), DY, np.ones((1, B, H + 1))),
    "no tape": lambda net: net.backward(None, DY),
    "another shape": lambda net: (reshaped(net.params, "weight_hh_l0"), net(X)),
    "another shape of biases": lambda net: (reshaped(net.params, "bias_ih_l0"), net(X)),
    "a step": lambda net: net.step(np.ones((B, I + 1))),
}
LANGUAGE = {
    "tokens": lambda net: net(np.full((T, B), V)),
    "tokens below 0": lambda net: net(np.full((T, B), -1)),
    "tokens of one axis": lambda net: net(TOKENS[0]),
    "no whole numbers": lambda net: net(TOKENS * 1.0),
    "targets": lambda net: net.loss(TOKENS, np.full((T, B), V)),
    "targets of another shape": lambda net: net.loss(TOKENS, TOKENS[:-1]),
    "no targets": lambda net: net.loss(TOKENS[:0], TOKENS[:0]),
    "lists": lambda net: net.loss([1, 2], [1, 2]),
    "logits": lambda net: net.backward(net.forward(TOKENS)[2], np.ones((T, B, V + 1))),
    "decoder": lambda net: (reshaped(net.params, "decoder.weight"), net(TOKENS)),
    "decoder's bias": lambda net: (reshaped(net.params, "decoder.bias"), net(TOKENS)),
    "embedding": lambda net: (reshaped(net.params, "embedding.weight"), net(TOKENS)),
    "a layer": lambda net: (reshaped(net.params, "recurrent.weight_ih_l0"), net(TOKENS)),
    "a state": lambda net: net.loss_and_gradients(TOKENS, TOKENS, np.ones((1, B, H + 2))),
}


def said(make, call, backend):
    """The class and the text of what is raised."""
    net = make(backend)
    with pytest.raises(ur.UnrolledError) as raised:
        call(net)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize("wrong", STACK)
@pytest.mark.parametrize("cell", ["lstm", "gru_layer_norm"])
def test_of_stacks(cell, wrong):
    of = {backend: said(lambda b: ur.Recurrent(cell, I, H, backend=b), STACK[wrong], backend) for backend in BACKENDS}
    assert of["cpu"] == of["reference"]
    assert "\n" not in of["cpu"][1]


@pytest.mark.parametrize("wrong", LANGUAGE)
@pytest.mark.parametrize("cell", ["lstm", "gru_layer_norm"])
def test_of_language_networks(cell, wrong):
    spec = ur.Spec(vocabulary_size=V, cell=cell, embedding_size=3, hidden_size=H, num_layers=1)
    of = {backend: said(lambda b: ur.Network(spec, backend=b), LANGUAGE[wrong], backend) for backend in BACKENDS}
    assert of["cpu"] == of["reference"]
    assert "\n" not in of["cpu"][1]


BACKENDS = ("cpu", "reference")
