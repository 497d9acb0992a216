"""Stacks of layers: PyTorch's numbers, names and initial weights, and clear errors."""

import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS

sys.path.insert(0, str(Path(__file__).parent / "oracle"))
from recurrent_problem import CASES, LENGTHS, B, H, I, T, numbers, read

# Sums of at most T B = 18 products of 3 layers, entries up to 100: some hundred roundings of 1e-16, relative.
TOLERANCE = 1e-12


def ours(case):
    cell, layers, bias, both, lengths = read(case)
    net = ur.Recurrent(cell, I, H, layers, bias=bias, bidirectional=both, dtype="float64", backend="reference")
    n = numbers(case, net.shapes())
    net.load_params({name: n[name] for name in net.params})
    fields = net.cell.state._fields
    y, final, tape = net.forward(n["x"], tuple(n[f] for f in fields), LENGTHS if lengths else None)
    dx, dstate, grads = net.backward(tape, n["dy"], tuple(n["d" + f] for f in fields))
    results = {"y": y, "d_x": dx} | grads
    for name, f, df in zip(fields, final, dstate, strict=True):
        results |= {f"final_{name}": f, f"d_{name}": df}
    return results


def summary(a):
    flat = a.ravel()
    return np.array([flat.sum(), (flat**2).sum(), *flat[np.linspace(0, len(flat) - 1, 4).astype(int)]])


@pytest.fixture(scope="module")
def oracle():
    with np.load(Path(__file__).parent / "oracle" / "recurrent.npz") as file:
        return dict(zip(file["names"].tolist(), file["rows"], strict=True))


@pytest.mark.parametrize("case", CASES)
def test_outputs_states_and_gradients_equal_the_committed_numbers_of_pytorch(case, oracle):
    results = ours(case)
    assert {f"{case}:{name}" for name in results} == {key for key in oracle if key.startswith(case + ":")}
    for name, a in results.items():
        np.testing.assert_allclose(summary(a), oracle[f"{case}:{name}"], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_outputs_states_and_gradients_equal_the_installed_pytorch(case):
    pytest.importorskip("torch", reason="torch is not installed; the committed numbers are compared instead")
    from make_recurrent import run

    theirs = run(case)
    results = ours(case)
    assert results.keys() == theirs.keys()
    for name, a in results.items():
        np.testing.assert_allclose(a, theirs[name], rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)


def test_parameters_are_named_and_ordered_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for mine, theirs in ((ur.LSTM, torch.nn.LSTM), (ur.GRU, torch.nn.GRU), (ur.RNN, torch.nn.RNN)):
        for options in ({"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"bias": False}):
            expected = {name: tuple(p.shape) for name, p in theirs(I, H, **options).state_dict().items()}
            assert {name: p.shape for name, p in mine(I, H, **options).params.items()} == expected
            assert list(mine(I, H, **options).params) == list(expected)


def test_golden_names_and_shapes_of_a_bidirectional_stack():
    assert ur.GRU(I, H, 2, bidirectional=True).shapes() == {
        "weight_ih_l0": (15, 4),
        "weight_hh_l0": (15, 5),
        "bias_ih_l0": (15,),
        "bias_hh_l0": (15,),
        "weight_ih_l0_reverse": (15, 4),
        "weight_hh_l0_reverse": (15, 5),
        "bias_ih_l0_reverse": (15,),
        "bias_hh_l0_reverse": (15,),
        "weight_ih_l1": (15, 10),
        "weight_hh_l1": (15, 5),
        "bias_ih_l1": (15,),
        "bias_hh_l1": (15,),
        "weight_ih_l1_reverse": (15, 10),
        "weight_hh_l1_reverse": (15, 5),
        "bias_ih_l1_reverse": (15,),
        "bias_hh_l1_reverse": (15,),
    }


def test_initial_weights_are_pytorchs_distribution_and_come_from_the_rng():
    lstm = ur.LSTM(30, 50, rng=np.random.default_rng(3))
    bound = 1 / np.sqrt(50)
    for p in lstm.params.values():
        assert np.abs(p).max() <= bound
        # the mean and the variance of U(-b, b), within four standard deviations
        assert abs(p.mean()) < 4 * bound / np.sqrt(3 * p.size)
        assert abs(p.var() - bound**2 / 3) < 4 * bound**2 * np.sqrt(4 / 45 / p.size)
    same, other = (ur.LSTM(30, 50, rng=np.random.default_rng(seed)) for seed in (3, 4))
    np.testing.assert_array_equal(lstm.params["weight_hh_l0"], same.params["weight_hh_l0"])
    assert not np.array_equal(lstm.params["weight_hh_l0"], other.params["weight_hh_l0"])


@pytest.mark.parametrize("cell", CELLS)
def test_batch_first_is_a_transposition(cell):
    rng = np.random.default_rng(0)
    a = ur.Recurrent(cell, I, H, 2, dtype="float64")
    b = ur.Recurrent(cell, I, H, 2, dtype="float64", batch_first=True)
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    ya, sa, ta = a.forward(x, lengths=LENGTHS)
    yb, sb, tb = b.forward(x.swapaxes(0, 1), lengths=LENGTHS)
    np.testing.assert_array_equal(yb, ya.swapaxes(0, 1))
    np.testing.assert_array_equal(sb.h, sa.h)
    ga, gb = a.backward(ta, dy), b.backward(tb, dy.swapaxes(0, 1))
    np.testing.assert_array_equal(gb[0], ga[0].swapaxes(0, 1))
    for name in ga[2]:
        np.testing.assert_array_equal(ga[2][name], gb[2][name])


@pytest.mark.parametrize("cell", CELLS)
def test_integers_stand_for_one_hot_inputs(cell):
    net = ur.Recurrent(cell, I, H, dtype="float64")
    tokens = np.random.default_rng(0).integers(0, I, (T, B))
    dy = np.random.default_rng(1).normal(size=(T, B, H))
    y, _, tape = net.forward(tokens)
    z, _, other = net.forward(np.eye(I)[tokens])
    np.testing.assert_allclose(y, z, rtol=0, atol=1e-15)  # one rounding of a sum of exact zeros
    dx, _, grads = net.backward(tape, dy)
    assert dx is None
    for name, g in net.backward(other, dy)[2].items():
        np.testing.assert_allclose(grads[name], g, rtol=1e-13, atol=1e-15)  # the same sums in another order


def test_the_tape_holds_the_gates_of_every_layer_and_direction():
    lstm = ur.LSTM(I, H, 2, bidirectional=True, dtype="float64")
    rng = np.random.default_rng(0)
    h0, c0 = rng.normal(size=(2, 4, B, H))
    y, state, tape = lstm.forward(rng.normal(size=(T, B, I)), (h0, c0))
    for n, (k, s) in enumerate(zip(tape.gates, tape.states, strict=True)):
        before = np.concatenate([s.c[1:], c0[n][None]]) if n % 2 else np.concatenate([c0[n][None], s.c[:-1]])
        np.testing.assert_allclose(s.c, k.f * before + k.i * k.g, rtol=0, atol=1e-15)
        np.testing.assert_allclose(s.h, k.o * np.tanh(s.c), rtol=0, atol=1e-15)
        np.testing.assert_array_equal(state.h[n], s.h[0 if n % 2 else -1])
    np.testing.assert_array_equal(y, np.concatenate([tape.states[2].h, tape.states[3].h], axis=-1))


def test_state_is_a_state_a_tuple_an_array_or_none():
    rng = np.random.default_rng(0)
    x, h, c = rng.normal(size=(T, B, I)), *rng.normal(size=(2, 2, B, H))
    lstm, gru = ur.LSTM(I, H, 2, dtype="float64"), ur.GRU(I, H, 2, dtype="float64")
    np.testing.assert_array_equal(lstm(x, (h, c))[0], lstm(x, lstm.cell.state(h=h, c=c))[0])
    np.testing.assert_array_equal(gru(x, h)[0], gru(x, (h,))[0])
    np.testing.assert_array_equal(lstm(x)[0], lstm(x, (0 * h, 0 * c))[0])


def test_dropout_is_between_layers_and_comes_from_rng_or_masks():
    net = ur.LSTM(I, H, 3, dropout=0.4, dtype="float64")
    x = np.random.default_rng(0).normal(size=(T, B, I))
    y, _, tape = net.forward(x, rng=np.random.default_rng(5))
    masks = net.draw_masks(T, B, np.random.default_rng(5))
    assert [m.shape for m in masks] == [(T, B, H)] * 2
    np.testing.assert_array_equal(net.forward(x, masks=masks)[0], y)
    np.testing.assert_array_equal(tape.scans[1].x, np.where(masks[0], tape.states[0].h / 0.6, 0))
    np.testing.assert_array_equal(net.forward(x)[0], net(x)[0])  # without rng nothing is dropped
    assert not np.array_equal(y, net(x)[0])


ERRORS = {
    r"^x has shape \(6, 3\); expected \(T, B, I\)$": lambda n: n(np.zeros((6, 3))),
    r"^layer 0: x has 9 features, weight_ih_l0 takes 4$": lambda n: n(np.zeros((6, 3, 9))),
    r"^x has indices from 0 to 4; they must be at least 0 and below 4$": lambda n: n(np.array([[0, 4]])),
    r"^state\.c has shape \(1, 3, 5\); expected \(L\*D, B, H\) = \(2, 3, 5\)$": lambda n: n(
        np.zeros((6, 3, 4)), (np.zeros((2, 3, 5)), np.zeros((1, 3, 5)))
    ),
    r"^state must be \(h, c\), as lstm has it$": lambda n: n(np.zeros((6, 3, 4)), np.zeros((2, 3, 5))),
    r"^lengths must lie between 0 and T = 6; got 1 to 7$": lambda n: n(np.zeros((6, 3, 4)), None, [1, 7, 2]),
    r"^lengths must be 3 whole numbers, one a row of the batch; got array\(\[1, 2\]\)$": lambda n: n(
        np.zeros((6, 3, 4)), None, [1, 2]
    ),
    r"^dy has shape \(6, 3, 4\) \(time first\); expected \(6, 3, 5\)$": lambda n: n.backward(
        n.forward(np.zeros((6, 3, 4)))[2], np.zeros((6, 3, 4))
    ),
    r"^the parameters do not fit this network; missing: bias_ih_l1; unknown: bias_l1$": lambda n: n.load_params(
        {("bias_l1" if k == "bias_ih_l1" else k): v for k, v in n.params.items()}
    ),
    r"^weight_hh_l1 has shape \(5, 20\); this network takes \(20, 5\)$": lambda n: n.load_params(
        n.params | {"weight_hh_l1": np.zeros((5, 20))}
    ),
    r"^no cell is called 'lstn'; did you mean 'lstm'\? Known: rnn_tanh, ": lambda n: ur.Recurrent("lstn", 4, 5),
    r"^ur\.LSTM takes the cells lstm, lstm_peephole; for gru_reset_after use ur\.Recurrent$": lambda n: ur.LSTM(
        4, 5, cell="gru_reset_after"
    ),
    r"^hidden_size is 2\.5; it must be a whole number, 1 or more$": lambda n: ur.LSTM(4, 2.5),
    r"^dropout is 1; it must be at least 0 and below 1$": lambda n: ur.LSTM(4, 5, dropout=1),
    r"^no dtype is called 'float16'; did you mean 'float64'\?": lambda n: ur.LSTM(4, 5, dtype="float16"),
    r"^no backend is called 'gpu'": lambda n: ur.LSTM(4, 5, backend="gpu"),
    r"^a bidirectional network has no step": lambda n: ur.LSTM(4, 5, bidirectional=True).step(np.zeros((3, 4))),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_say_what_is_wrong(message):
    net = ur.LSTM(I, H, 2)
    before = {name: p.copy() for name, p in net.params.items()}
    with pytest.raises(ur.UnrolledError, match=message):
        ERRORS[message](net)
    for name, p in before.items():
        np.testing.assert_array_equal(net.params[name], p)
