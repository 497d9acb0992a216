"""The same weights, one rung up: each function takes a model and makes one of the next rung that gives its numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UnrolledError
from ..nn.network import Network
from ..nn.spec import Spec
from .given import check
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
    check(isinstance(model, LSTM_RNN), "the model", model, "an LSTM_RNN")
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
    check(isinstance(stack, Stack), "the stack", stack, "a Stack")
    check(len(stack.layers) == 1, "the number of layers", len(stack.layers), "1, as on rung 2")
    (layer,), V = stack.layers, stack.output.out_dim
    check(layer.in_dim == V, "in_dim", layer.in_dim, f"the number of symbols predicted, {V}, to embed them")
    cell = "lstm" if isinstance(layer, LSTMLayer) else "vanilla"
    model = RNN(V, idx_to_char, V, layer.h_dim, cell)
    given = {"E": np.eye(V)} | {name: w for params in stack.params for name, w in params.items()}
    if extra := given.keys() - model.params.keys():
        raise UnrolledError(f"rung 2 has no {', '.join(sorted(extra))}; it takes a layer without peepholes or Use gate")
    for name, w in model.params.items():
        w[...] = given[name]
    return model


def library_names(params: Grads | Sequence[Grads]) -> Grads:
    """Parameters or gradients of rung 1 (a list, one dictionary a layer) or of rung 2, under the library's names."""
    layers = [params] if isinstance(params, dict) else params
    fits = isinstance(layers, (list, tuple)) and all(isinstance(own, dict) for own in layers)
    check(fits, "params", params, "a dictionary, or a list of them, one a layer")
    if extra := sorted({name for own in layers for name in own} - NAMES.keys()):
        raise UnrolledError(f"the library has no name for {', '.join(extra)}; a Use gate is its cell lstm_use_gate")
    return {NAMES[name].format(n): w for n, layer in enumerate(layers) for name, w in layer.items()}


def network_of(model: Stack | RNN, backend: str = "auto", dtype: str = "float64") -> Network:
    """Rung 1 or 2 -> rung 3, the library, on the reference or on the engine.

    Examples
    --------
    >>> net = network_of(RNN(9, "abcdefghi", input_dim=4, hidden_dim=5), "reference")
    >>> net.spec.embedding_size, net.spec.hidden_size, net.params["recurrent.bias_hh_l0"].any()
    (4, 5, np.False_)
    """
    check(isinstance(model, (Stack, RNN)), "the model", model, "a Stack or an RNN")
    given = library_names(model.params)
    V, _ = given["decoder.weight"].shape
    widths = [w.shape[1] for name, w in given.items() if "weight_hh" in name]
    kinds = {given[f"recurrent.weight_ih_l{n}"].shape[0] // H for n, H in enumerate(widths)}
    check(len(kinds) == 1, "the layers", sorted(kinds), "all LSTMs or all vanilla: a stack of the library has one cell")
    cell = "lstm" if kinds == {4} else "rnn_tanh"
    if any("weight_peephole" in name for name in given):
        cell = "lstm_peephole"
    width = given["embedding.weight"].shape[1] if "embedding.weight" in given else 0
    hidden = widths[0] if len(set(widths)) == 1 else tuple(widths)
    net = Network(Spec(V, cell, width, hidden, len(widths), dtype=dtype), backend=backend, rng=0)
    net.load_params({name: given.get(name, np.zeros_like(p)) for name, p in net.params.items()})
    return net
