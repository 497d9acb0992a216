"""A pickled or copied cell, network, model or tape is the same one: the same bits, by the same kernels."""

import copy
import multiprocessing
import operator
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS

sys.path.insert(0, str(Path(__file__).parent / "conformance"))
from own_cell import OWN

T, B, I, H = 7, 3, 4, 19
COPIES = {"pickle": lambda o: pickle.loads(pickle.dumps(o)), "deepcopy": copy.deepcopy, "copy": copy.copy}
EVERY_COPY = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
MOST = ["lstm", "gru_reset_before", "lstm_use_gate", "lstm_layer_norm", "indrnn"]
"""With kernels of their own and without, one stage and two, normalised, with per-unit parameters."""


@EVERY_COPY
@pytest.mark.parametrize("cell", [*CELLS.values(), OWN], ids=lambda cell: cell.name)
def test_a_cell_that_a_module_holds_stays_itself(cell, copied):
    _ = cell.rows  # what was worked out of it does not count
    assert copied(cell) is cell


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_cell_is_pickled_by_name_in_every_protocol(protocol):
    text = pickle.dumps(CELLS["lstm_no_input_gate"], protocol)
    assert b"lstm_no_input_gate" in text
    assert len(text) < 150
    assert pickle.loads(text) is CELLS["lstm_no_input_gate"]


def test_a_cell_that_no_module_holds_is_pickled_by_its_fields():
    mine = replace(CELLS["lstm"], name="mine")
    assert copy.deepcopy(mine) is mine
    again = pickle.loads(pickle.dumps(mine))
    assert again == mine
    assert again.rows == ("i", "f", "g", "o")


def test_what_has_the_same_functions_has_the_same_kernels():
    """Whatever made it: cells are compared, not told by their place in memory."""
    twin = replace(CELLS["lstm"])
    assert twin is not CELLS["lstm"]
    assert backends.has_kernel(twin) == backends.has_kernel(CELLS["lstm"])
    odd = replace(
        CELLS["lstm"], stages=CELLS["lstm_peephole"].stages, params=CELLS["lstm_peephole"].params, params_name="p"
    )
    assert not backends.has_kernel(odd)


def bits(net, x, *passes):
    """Everything that a network gives, inference and both directions, as bytes."""
    y, state, tape = passes or net.forward(x)
    dx, dstate, grads = net.backward(tape, y + 1)
    return [a.tobytes() for a in (net(x)[0], y, *state, dx, *dstate, *grads.values(), *tape.gates[0], *tape.states[0])]


@EVERY_COPY
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", MOST)
def test_a_copied_stack_gives_the_same_bits(name, backend, copied):
    net = ur.Recurrent(name, I, H, 2, backend=backend, rng=np.random.default_rng(1))
    x = np.random.default_rng(0).normal(size=(T, B, I))
    other = copied(net)
    assert bits(other, x) == bits(net, x)
    assert (other.backend, repr(other)) == (net.backend, repr(net))
    assert type(other.forward(x)[2].scans[0]) is type(net.forward(x)[2].scans[0])


@EVERY_COPY
@pytest.mark.parametrize("options", [{}, {"zoneout": 0.2, "recurrent_dropout": 0.3, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", ["lstm", "lstm_layer_norm"])
def test_a_copied_tape_has_the_same_gradients(name, backend, options, copied):
    net = ur.Recurrent(name, I, H, 2, backend=backend, **options)
    passes = net.forward(np.random.default_rng(0).normal(size=(T, B, I)), rng=np.random.default_rng(1))
    x = np.ones((T, B, I))
    for one in (net, copied(net)):
        assert bits(one, x, passes[0], passes[1], copied(passes[2])) == bits(net, x, *passes)


@EVERY_COPY
def test_a_copied_network_has_one_set_of_parameters_too(copied):
    net = ur.Network(ur.Spec(11, hidden_size=5, embedding_size=4))
    x, y = np.random.default_rng(0).integers(0, 11, (2, T, B))
    other = copied(net)
    for name, p in other.recurrent.params.items():
        assert np.shares_memory(p, other.params[f"recurrent.{name}"])
    ours, theirs = (n.loss_and_gradients(x, y) for n in (net, other))
    assert ours[0] == theirs[0]
    assert all(np.array_equal(ours[1][name], theirs[1][name]) for name in net.params)


TEXT = "the cat sat on the mat. " * 40
SMALL = {"hidden_size": 8, "num_layers": 1, "batch_size": 2, "seq_length": 12, "epochs": 1}


@EVERY_COPY
def test_a_copied_model_draws_the_same_text_by_the_same_kernels(copied):
    model = ur.LanguageModel.train(TEXT, **SMALL)
    other = copied(model)
    drawn = [m.sample("the ", length=50, rng=np.random.default_rng(1)) for m in (model, other)]
    assert drawn[0] == drawn[1]
    assert other.score(TEXT).nats == model.score(TEXT).nats
    samplers = [m.network.sampler(m.network.initial_state(1), 9) for m in (model, other)]
    assert type(samplers[0]) is type(samplers[1])


def test_copies_are_apart():
    """Training the one moves nothing of the other."""
    model = ur.LanguageModel.train(TEXT, **SMALL)
    for copied in (COPIES["pickle"], COPIES["deepcopy"]):
        other = copied(model)
        assert not any(np.shares_memory(p, other.network.params[n]) for n, p in model.network.params.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "lstm_use_gate"])
def test_a_worker_started_anew_gives_the_same_bits(name):
    """Its tape comes back, too. An executor, not a `Pool`: one that waits for a worker that died waits for ever."""
    net, x = ur.Recurrent(name, I, H, 2), np.ones((T, B, I))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        theirs = pool.submit(operator.methodcaller("forward", x), net).result()
    assert bits(net, x, *theirs) == bits(net, x)
