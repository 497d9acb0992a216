"""Weights of fewer bits in the engine's sampler beside the same numbers in float32: bfloat16 to the bit, int8 close."""

import numpy as np
import pytest
from grown_cells import GROWN
from own_cell import OWN

from unrolled import UnrolledError, backends
from unrolled.cells import CELLS
from unrolled.codegen.cpp import EMITTED
from unrolled.models import streams
from unrolled.nn import rounding
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec

pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
from unrolled.backends.cpu import _engine

H, V = 149, 301  # odd depths, and so many products that threads share them
INT8 = 1e-3
"""Of a chance: a gate is a sum of 149 activations to 1 / 65534 of the largest, times weights of 0.1, some 2e-5 off;
steps and layers multiply that."""
FORMS = ("float32", "bfloat16", "int8")


def network(cell, form, embedding=33, **options):
    """A network of two layers whose weights were rounded to a form."""
    net = Network(Spec(V, cell, embedding, H, 2, **options), backend="cpu", rng=0)
    for p in net.params.values():
        p *= 1.5  # less even probabilities
    net.load_params(rounding.rounded(net.params, form))
    return net


def drawn(net, form, threads=1, length=9):
    """Tokens drawn one at a time and together, and to 2^-40 the chance that the last is one of the first half."""
    backends.set_threads(threads)
    net.weights = form
    state, u = net.zero_state(1), np.random.default_rng(1).random(7)
    sampler, low, high = net.sampler(state, length), 0.0, 1.0

    def last(number):
        sampler.start(state)
        first = sampler.sample(1, u[:1], 1.0)
        return first + sampler.sample(first[0], [*u[1:], number], 1.0)

    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if last(middle)[-1] < V // 2 else (low, middle)
    return last(0.3), low


def compare(net, form, isas, **how):
    """Draw with the small form and with float32, on each instruction set, with one thread and two."""
    best, found = _engine.instruction_set(), []
    try:
        for isa in isas:
            _engine.select(isa)
            whole, *small = (drawn(net, kind, n, **how) for kind, n in [("float32", 1), (form, 1), (form, 2)])
            assert small[0] == small[1]
            assert small[0][0] == whole[0]
            if form == "bfloat16":
                assert small[0] == whole
            else:
                assert 0 < abs(small[0][1] - whole[1]) < INT8
            found.append(whole[1])
    finally:
        _engine.select(best)
    assert max(found) - min(found) < 1e-5


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("cell", EMITTED)
def test_every_cell_with_kernels(cell, form):
    compare(network(cell, form), form, [_engine.instruction_set()])


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize(
    "cell", ["lstm", OWN, GROWN, CELLS["gru_layer_norm"], CELLS["sru"]], ids=lambda cell: getattr(cell, "name", cell)
)
def test_every_instruction_set_and_cells_without_kernels(cell, form):
    """The embedding is read as it is: fewer tokens than symbols are likely, so that it is not folded."""
    compare(network(cell, form), form, _engine.instruction_sets(), length=1)


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize("options", [{"embedding": 0}, {"embedding": H, "tied": True}])
def test_one_hot_and_tied_weights(options, form):
    compare(network("gru_reset_before", form, **options), form, [_engine.instruction_set()])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("length", [2, 20])  # so that the embedding is looked up, and folded
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", OWN], ids=lambda cell: getattr(cell, "name", cell))
def test_many_texts_are_each_what_it_is_alone(cell, form, length):
    """More of them than the engine has rows, some of which end before others."""
    net = network(cell, form)
    net.params["decoder.bias"][7] = 3.5  # the end of a text
    net.weights, state, first = form, net.zero_state(1), np.arange(streams.ROWS + 9) % V

    def texts(numbers):
        rngs = [np.random.default_rng(n) for n in numbers]
        return list(streams.streams(net, state, first[numbers], length, 1.0, rngs, end=7))

    alone = [texts([n])[0] for n in range(len(first))]
    assert len({len(text) for text in alone}) > 1
    for threads in (1, 2):
        backends.set_threads(threads)
        for count in (2, 3, len(first)):
            assert texts(range(count)) == alone[:count]


@pytest.mark.parametrize("form", FORMS[1:])
def test_weights_that_the_form_does_not_hold_are_drawn_from_as_they_are(form):
    net = network("lstm", form)
    net.params["recurrent.weight_hh_l1"][3, 5] += 1e-4
    assert drawn(net, form) == drawn(net, "float32")


def test_float64_has_no_small_form():
    net = network("lstm", "float32", dtype="float64")
    net.load_params(rounding.unpacked(rounding.packed(net.params, "bfloat16"), "bfloat16"))
    with pytest.raises(UnrolledError, match="weights='bfloat16' are of float32 models; this one is float64"):
        drawn(net, "bfloat16")


def test_an_activation_that_is_not_finite_is_refused():
    net = network("rnn_relu", "int8")
    state = net.zero_state(1)._replace(h=np.full((2, 1, H), np.inf, np.float32))
    net.weights = "int8"
    with pytest.raises(UnrolledError, match="finite"):
        net.sampler(state, 9).sample(1, np.array([0.5]), 1.0)
