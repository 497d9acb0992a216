"""The same weights, one rung up: each function takes a model and makes one of the next rung that gives its numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..network import Network, Spec
from .layers import Grads, LSTMLayer, OutputLayer, Stack
from .plain import LSTM_RNN
from .solver import RNN

NAMES = {
    "E": "embedding.weight",
    "Wx": "recurrent.weight_ih_l{}",
    "Wh": "recurrent.weight_hh_l{}",
    "b": "recurrent.bias_ih_l{}",
    "P": "recurrent.weight_peephole_l{}",
    "Wy": "decoder.weight",
    "by": "decoder.bias",
}
"""The rungs' letters, and PyTorch's names. PyTorch adds two biases, the rungs have their sum: `bias_hh` stays 0."""


def stack_of(model: LSTM_RNN) -> Stack:
    """Rung 0 -> rung 1: lists become arrays, and the bias of one row a vector."""
    rng = np.random.default_rng(0)
    stack = Stack([LSTMLayer(model.in_dim, model.h_dim, rng)], OutputLayer(model.h_dim, model.out_dim, rng))
    for params in stack.params:
        for name, w in params.items():
            w[...] = np.reshape(getattr(model, name), w.shape)
    return stack


def rnn_of(stack: Stack, idx_to_char: Any) -> RNN:
    """Rung 1 with one layer -> rung 2, whose embedding of one-hot rows does nothing at first.

    Rung 2 also learns that embedding. To stay equal to rung 1 over updates, leave it as it is.
    """
    (layer,), V = stack.layers, len(idx_to_char)
    cell = "lstm" if isinstance(layer, LSTMLayer) else "vanilla"
    model = RNN(V, idx_to_char, V, layer.h_dim, cell)
    given = {"E": np.eye(V)} | {name: w for params in stack.params for name, w in params.items()}
    for name, w in model.params.items():
        w[...] = given[name]
    return model


def library_names(params: Grads | Sequence[Grads]) -> Grads:
    """Parameters or gradients of rung 1 (a list, one dictionary a layer) or of rung 2, under the library's names."""
    layers = [params] if isinstance(params, dict) else params
    return {NAMES[name].format(n): w for n, layer in enumerate(layers) for name, w in layer.items()}


def network_of(model: Stack | RNN, backend: str = "auto", dtype: str = "float64") -> Network:
    """Rung 1 or 2 -> rung 3, the library, on the reference or on the engine.

    Examples
    --------
    >>> net = network_of(RNN(9, "abcdefghi", input_dim=4, hidden_dim=5), "reference")
    >>> net.spec.embedding_size, net.spec.hidden_size, net.params["recurrent.bias_hh_l0"].any()
    (4, 5, np.False_)
    """
    given = library_names(model.params)
    V, H = given["decoder.weight"].shape
    wide = given["recurrent.weight_ih_l0"].shape[0] > H
    cell = "lstm_peephole" if "recurrent.weight_peephole_l0" in given else "lstm" if wide else "rnn_tanh"
    width = given["embedding.weight"].shape[1] if "embedding.weight" in given else 0
    layers = sum("weight_hh" in name for name in given)
    net = Network(Spec(V, cell, width, H, layers, dtype=dtype), backend=backend)
    net.load_params({name: given.get(name, np.zeros_like(p)) for name, p in net.params.items()})
    return net
