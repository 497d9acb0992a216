"""A tape is its own: nothing that a caller does after forward changes a gradient, and no other network takes it."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, Back, Cell, Stage

T, B, I, H = 6, 3, 4, 5
BACKENDS = pytest.mark.parametrize("backend", ["reference", "auto"])


def arrays(results):
    dx, dstate, grads = results
    return [a for a in (dx, *dstate, *grads.values()) if a is not None]


@BACKENDS
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "dropout": 0.3, "zoneout": 0.2}], ids=["plain", "masks"])
@pytest.mark.parametrize("tokens", [False, True], ids=["x", "tokens"])
def test_nothing_that_a_caller_holds_can_change_the_gradients_of_a_pass(cell, backend, options, tokens):
    rng = np.random.default_rng(1)
    net = ur.Recurrent(cell, I, H, dtype="float64", backend=backend, rng=rng, **options)
    x = rng.integers(0, I, (T, B)) if tokens else rng.normal(size=(T, B, I))
    state = net.cell.state(*(rng.normal(size=f.shape) for f in net.zero_state(B)))
    masks = net.draw_masks(T, B, rng) or {}
    live, starts = rng.random((T, B)) < 0.8, rng.random((T, B)) < 0.2
    held = [x, *state, *masks.values(), live, starts]
    for given in ({"live": live}, {"live": live, "starts": starts}, {}):
        copies = [a.copy() for a in held]
        y, new, tape = net.forward(x, state, masks=masks, **given)
        dy = rng.normal(size=y.shape)
        before = [a.copy() for a in arrays(net.backward(tape, dy))]
        params = {name: p.copy() for name, p in net.params.items()}
        for a in (*held, y, *new, *net.params.values()):
            a[...] = 0
        for a, b in zip(arrays(net.backward(tape, dy)), before, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(held, copies, strict=True):
            a[...] = b
        net.load_params(params)


@BACKENDS
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_tape_shows_can_not_be_written_to(cell, backend):
    net = ur.Recurrent(cell, I, H, 2, backend=backend)
    tape = net.forward(np.ones((T, B, I)))[2]
    shown = [f for part in (*tape.states, *tape.gates) for f in part]
    shown += [a for one in tape.scans for a in (one.x, one.y)]
    assert shown
    for a in shown:
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0


@BACKENDS
@pytest.mark.parametrize("options", [{"embedding_size": 0}, {"embedding_size": 4}, {"hidden_size": 4, "tied": True}])
def test_a_networks_tape_is_its_own_too(backend, options):
    rng = np.random.default_rng(2)
    spec = ur.Spec(7, **({"embedding_size": 4, "hidden_size": 5, "dropout": 0.3, "tar": 0.4} | options), num_layers=1)
    net = ur.Network(spec, backend=backend, rng=rng)
    tokens, starts = rng.integers(0, 7, (T, B)), rng.random((T, B)) < 0.2
    masks = net.draw_masks(T, B, rng)
    logits, state, tape = net.forward(tokens, masks=masks, starts=starts)
    dlogits = rng.normal(size=logits.shape).astype("float32")
    dstate, grads = net.backward(tape, dlogits, penalties=True)
    for a in (tokens, starts, logits, *state, *masks.values(), *net.params.values()):
        a[...] = 0
    again, others = net.backward(tape, dlogits, penalties=True)
    for a, b in zip((*dstate, *grads.values()), (*again, *others.values()), strict=True):
        np.testing.assert_array_equal(a, b)
    for a in (tape.raw, tape.output):
        with pytest.raises(ValueError, match="read-only"):
            a[...] = 0


OTHERS = {
    "cell is lstm_peephole, this network's is lstm": {"cell": "lstm_peephole"},
    "input_size is 9, this network's is 4": {"input_size": 9},
    "hidden_size is 7, this network's is 5": {"hidden_size": 7},
    "num_layers is 1, this network's is 2": {"num_layers": 1},
    "bias is False, this network's is True": {"bias": False},
    "batch_first is True, this network's is False": {"batch_first": True},
    "bidirectional is True, this network's is False": {"bidirectional": True},
    "proj_size is 3, this network's is 0": {"proj_size": 3},
    "residual is True, this network's is False": {"residual": True},
    "learn_state is True, this network's is False": {"learn_state": True},
    "dropout is 0.2, this network's is 0.0": {"dropout": 0.2},
    "zoneout_cell is 0.2, this network's is 0.0": {"zoneout_cell": 0.2},
    "dtype is float64, this network's is float32": {"dtype": "float64"},
}


@BACKENDS
@pytest.mark.parametrize("message", OTHERS)
def test_another_networks_tape_is_refused(message, backend):
    mine = {"cell": "lstm", "input_size": I, "hidden_size": H, "num_layers": 2, "backend": backend}
    other = ur.Recurrent(**(mine | OTHERS[message]))
    y, _, tape = other.forward(np.ones((T, B, other.input_size)), rng=3)
    with pytest.raises(ur.UnrolledError, match=f"^the tape is another network's: its {message}$"):
        ur.Recurrent(**mine).backward(tape, y)


@BACKENDS
def test_any_cells_tape_is_refused_by_every_other_cell(backend):
    nets = {name: ur.Recurrent(name, I, H, backend=backend) for name in CELLS}
    tapes = {name: net.forward(np.ones((T, B, I)))[2] for name, net in nets.items()}
    for name, net in nets.items():
        for other, tape in tapes.items():
            if name != other:
                with pytest.raises(ur.UnrolledError, match=f"its cell is {other}, this network's is {name}$"):
                    net.backward(tape, np.ones((T, B, H)))


def test_a_tape_of_a_network_that_is_alike_gives_the_gradients_of_its_own_pass():
    a, b = ur.GRU(I, H, rng=1), ur.GRU(I, H, rng=2)
    y, _, tape = a.forward(np.ones((T, B, I)))
    for p, q in zip(arrays(a.backward(tape, y)), arrays(b.backward(tape, y)), strict=True):
        np.testing.assert_array_equal(p, q)


def test_what_is_no_tape_is_said():
    lstm, net = ur.LSTM(I, H), ur.Network(ur.Spec(7))
    tape = net.forward(np.ones((T, B), int))[2]
    for call in (lambda: lstm.backward(None, 1), lambda: lstm.backward(tape, 1)):
        with pytest.raises(
            ur.UnrolledError, match=r"^the tape is a \w+; expected the StackTape that forward returned$"
        ):
            call()
    with pytest.raises(ur.UnrolledError, match=r"^the tape is a StackTape; expected the NetworkTape that"):
        net.backward(tape.recurrent, 1)
    with pytest.raises(
        ur.UnrolledError, match=r"^the tape is another network's: its hidden_size is 128, this netw.* 5$"
    ):
        ur.Network(ur.Spec(7, hidden_size=5)).backward(tape, 1)


@BACKENDS
@pytest.mark.parametrize("cell", ["lstm", "lstm_layer_norm", "lstm_peephole"])
@pytest.mark.parametrize("given", ["rng", "masks", "starts"])
@pytest.mark.parametrize("rates", [{}, {"zoneout": 0.2}, {"recurrent_dropout": 0.3, "weight_drop": 0.2}], ids=str)
def test_what_a_tape_keeps_for_itself_can_not_be_changed(cell, backend, given, rates):
    rng = np.random.default_rng(3)
    net = ur.Recurrent(cell, I, H, 2, backend=backend, dropout=0.3, rng=rng, **rates)
    starts, live = rng.random((T, B)) < 0.3, rng.random((T, B)) < 0.8
    drawn = {"rng": 1} if given == "rng" else {"masks": net.draw_masks(T, B, 1)}
    tape = net.forward(np.ones((T, B, I)), live=live, starts=starts if given == "starts" else None, **drawn)[2]
    kept = [*tape.masks.values(), *(vars(tape.packing).values() if tape.packing else ())]
    dictionaries = [tape.masks, tape.made_by]
    for one in tape.scans:
        weights = one.weights if hasattr(one, "weights") else one.w
        dictionaries.append(weights)
        kept += [*weights.values(), one.live, getattr(one, "drop", None), *(one.keep or ())]
        kept += [a for pair in getattr(one, "norms", {}).values() for a in pair if isinstance(one.norms, dict)]
    for named in dictionaries:
        for change in (named.clear, named.popitem, lambda d=named: d.update(a=1), lambda d=named: d.pop("cell", 0)):
            with pytest.raises(ur.UnrolledError, match=r"^what a tape holds can't be changed; copy it"):
                change()
    arrays = [a for a in kept if isinstance(a, np.ndarray)]
    assert len(arrays) > 6
    assert not [a.shape for a in arrays if a.flags.writeable]
    net.backward(tape, np.ones((T, B, H)))
    if tape.packing is None:
        net.forward(np.ones((T, B, I)), live=live, masks=tape.masks)  # the same masks once more


@BACKENDS
@pytest.mark.parametrize("width", [0, 4])
def test_what_a_networks_tape_keeps_can_not_be_changed(backend, width):
    net = ur.Network(ur.Spec(7, embedding_size=width, hidden_size=H, dropout=0.3, num_layers=1), backend=backend)
    tokens = np.zeros((T, B), int)
    tape = net.forward(tokens, masks=net.draw_masks(T, B, 1), starts=tokens > 0)[2]
    assert not [a.shape for a in (*tape.params.values(), tape.read.tokens, tape.starts) if a.flags.writeable]
    for named in (tape.masks, tape.made_by, tape.params):
        with pytest.raises(ur.UnrolledError, match="can't be"):
            named.clear()
    assert net.params["decoder.bias"].flags.writeable


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_cells_function_may_give_one_number_for_all_units(backend):
    """As the engine takes it: the reference raised."""

    class State(NamedTuple):
        h: object

    class Gates(NamedTuple):
        a: object

    def forward(ax, ah, s):
        return State(ax[0]), Gates(1.0)

    def backward(d, k, s, new):
        return Back((d.h,), (0.0,), State(0))

    cell = Cell("plain", State, Gates, (Stage(("h",), forward, backward),), "none")
    x = np.random.default_rng(4).normal(size=(T, B, I))
    net = ur.Recurrent(cell, I, H, backend=backend, dtype="float64", rng=5)
    y, _, tape = net.forward(x)
    dx, dstate, grads = net.backward(tape, np.ones_like(y))
    np.testing.assert_allclose(dx, np.ones_like(y) @ net.params["weight_ih_l0"], rtol=1e-13)
    assert not dstate.h.any()
    assert not grads["weight_hh_l0"].any()
    assert (tape.gates[0].a == 1).all()
    ones = replace(cell, name="ones", stages=(Stage(("h",), lambda ax, ah, s: (State(1.0), Gates(2.0)), backward),))
    y, state = ur.Recurrent(ones, I, H, backend=backend)(x)
    assert (y == 1).all()
    assert (state.h == 1).all()


@pytest.mark.parametrize("passes", [0, 1])
def test_the_same_network_in_another_precision_has_tapes_of_its_own(passes):
    """Also where the first one has made a tape before, and so knows what its tapes say of it."""
    net, x = ur.LSTM(4, 5, rng=0), np.ones((7, 3, 4))
    for _ in range(passes):
        net.forward(x)
    wide = net.with_params({name: p.astype(np.float64) for name, p in net.params.items()}, "reference")
    y, _, tape = wide.forward(x)
    assert wide.backward(tape, y)[0].dtype == np.float64
    with pytest.raises(
        ur.UnrolledError, match=r"^the tape is another network's: its dtype is float64, this network's is float32$"
    ):
        net.backward(tape, y)
