"""Stacks of layers: PyTorch's numbers, names and initial weights, and clear errors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.checks import are_indices

sys.path.insert(0, str(Path(__file__).parents[1] / "oracle"))
from recurrent_problem import CASES, IN_FULL, LENGTHS, B, H, I, T, numbers, read, summary

# Of an array's largest entry: sums of at most T B = 18 products of 3 layers, some hundred roundings of 1e-16.
TOLERANCE = 1e-13


def ours(case, backend="reference"):
    cell, layers, bias, both, lengths = read(case)
    net = ur.Recurrent(cell, I, H, layers, bias=bias, bidirectional=both, dtype="float64", backend=backend)
    n = numbers(case, net.shapes())
    net.load_params({name: n[name] for name in net.params})
    fields = net.cell.state_fields
    y, final, tape = net.forward(n["x"], tuple(n[f] for f in fields), LENGTHS if lengths else None)
    dx, dstate, grads = net.backward(tape, n["dy"], tuple(n["d" + f] for f in fields))
    results = {"y": y, "d_x": dx} | grads
    for name, f, df in zip(fields, final, dstate, strict=True):
        results |= {f"final_{name}": f, f"d_{name}": df}
    return results


@pytest.fixture(scope="module")
def oracle():
    with np.load(Path(__file__).parents[1] / "oracle" / "recurrent.npz") as file:
        return dict(zip(file["names"].tolist(), np.split(file["values"], file["ends"][:-1]), strict=True))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_outputs_states_and_gradients_equal_the_committed_numbers_of_pytorch(case, backend, oracle):
    results = ours(case, backend)
    assert {f"{case}:{name}" for name in results} == {key for key in oracle if key.startswith(case + ":")}
    for name, a in results.items():
        # A projection of N entries has the error of all N.
        scale = np.abs(a).max() * (1 if case in IN_FULL else a.size)
        got, expected = summary(case, a), oracle[f"{case}:{name}"]
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_outputs_states_and_gradients_equal_the_installed_pytorch(case):
    pytest.importorskip("torch", reason="torch is not installed; the committed numbers are compared instead")
    from make_recurrent import run

    theirs = run(case)
    results = ours(case)
    assert results.keys() == theirs.keys()
    for name, a in results.items():
        scale = np.abs(theirs[name]).max()
        np.testing.assert_allclose(a, theirs[name], rtol=0, atol=TOLERANCE * scale, err_msg=name)


def test_a_moved_or_wrong_entry_changes_the_summary():
    a = np.random.default_rng(0).normal(size=(4, 5, 6))
    case = CASES[0]
    assert case not in IN_FULL
    moved, wrong = a.copy(), a.copy()
    moved[1, 2, [2, 3]] = a[1, 2, [3, 2]]
    wrong[3, 1, 2] += 1e-9
    for other in (moved, wrong, a[::-1], a.transpose(0, 2, 1)):
        assert np.abs(summary(case, other)[:3] - summary(case, a)[:3]).max() > TOLERANCE * np.abs(a).max() * a.size


def test_parameters_are_named_and_ordered_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for mine, theirs in ((ur.LSTM, torch.nn.LSTM), (ur.GRU, torch.nn.GRU), (ur.RNN, torch.nn.RNN)):
        for options in ({"num_layers": 3}, {"num_layers": 2, "bidirectional": True}, {"bias": False}):
            expected = {name: tuple(p.shape) for name, p in theirs(I, H, **options).state_dict().items()}
            assert {name: p.shape for name, p in mine(I, H, **options).params.items()} == expected
            assert list(mine(I, H, **options).params) == list(expected)


GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "recurrent.json").read_text())


@pytest.mark.parametrize("name", GOLDEN)
def test_names_shapes_and_first_weights_are_the_golden_ones(name):
    """What is in people's files stays loadable, and a seed gives the network that it gave."""
    golden = GOLDEN[name]
    net = ur.Recurrent(**golden["options"], rng=np.random.default_rng(7))
    assert [[k, list(p.shape)] for k, p in net.params.items()] == golden["parameters"]
    last = [float(p.flat[-1]) for p in net.params.values()]
    assert last == pytest.approx(golden["last entries"], rel=1e-6)  # an orthogonal block is another one in its last bit


def test_every_cell_has_golden_names():
    assert {golden["options"]["cell"] for golden in GOLDEN.values()} == CELLS.keys()


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
    a = ur.Recurrent(cell, I, H, 2, dtype="float64", rng=1)
    b = ur.Recurrent(cell, I, H, 2, dtype="float64", rng=1, batch_first=True)
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
    assert {name: m.shape for name, m in masks.items()} == dict.fromkeys(("dropout_l0", "dropout_l1"), (T, B, H))
    np.testing.assert_array_equal(net.forward(x, masks=masks)[0], y)
    np.testing.assert_array_equal(tape.scans[1].x, np.where(masks["dropout_l0"], tape.states[0].h / 0.6, 0))
    np.testing.assert_array_equal(net.forward(x, masks={})[0], net(x)[0])
    assert not np.array_equal(y, net(x)[0])


X, Y = np.zeros((T, B, I)), np.zeros((T, B, H))


def first(net):
    """The same network, batch first."""
    return ur.LSTM(net.input_size, net.hidden_size, net.num_layers, batch_first=True)


def backward(net, dy):
    return net.backward(net.forward(X)[2], dy)


def with_param(net, value, name="bias_hh_l1"):
    return net.load_params(net.params | {name: value})


def test_an_error_in_the_last_parameter_leaves_the_first_as_it_was():
    net = ur.LSTM(I, H, 2)
    before = {name: p.copy() for name, p in net.params.items()}
    last = list(net.params)[-1]
    for wrong in (np.full(20, "a"), np.full(20, None), np.full(20, 1j), [[1], [2, 3]], np.zeros(21), None):
        with pytest.raises(ur.UnrolledError, match=f"^{last} "):
            net.load_params({name: 0 * p for name, p in net.params.items()} | {last: wrong})
        assert list(net.params) == list(before)
        for name, p in before.items():
            np.testing.assert_array_equal(net.params[name], p)


def test_loaded_parameters_are_copies_in_the_networks_precision_and_order():
    net = ur.GRU(I, H)
    source = {name: np.asfortranarray(p.astype("float64")) for name, p in net.params.items()}
    source["bias_ih_l0"] = source["bias_ih_l0"].tolist()
    net.load_params(source)
    for name, p in net.params.items():
        assert p.dtype == np.float32
        assert p.flags.c_contiguous
        assert p is not source[name]
        np.testing.assert_array_equal(p, np.asarray(source[name], "float32"))


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_anything_may_stand_behind_the_end_of_a_row_of_tokens(backend, batch_first):
    net = ur.LSTM(I, H, dtype="float64", backend=backend, batch_first=batch_first)
    tokens = np.random.default_rng(0).integers(0, I, (T, B))
    padded = np.where(np.arange(T)[:, None] < LENGTHS, tokens, -1)
    dy = np.random.default_rng(1).normal(size=(T, B, H))
    results = []
    for x in (tokens, padded):
        y, state, tape = net.forward(x.T if batch_first else x, None, LENGTHS)
        _, dstate, grads = net.backward(tape, dy.swapaxes(0, 1) if batch_first else dy)
        results.append([y, *state, *dstate, *grads.values()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ur.UnrolledError, match=r"^x has indices from -1 to "):
        net(padded.T if batch_first else padded)


@pytest.mark.parametrize(("steps", "batch"), [(0, B), (T, 0)])
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_empty_sequences_and_batches_pass_through(backend, steps, batch):
    net = ur.LSTM(I, H, 2, bidirectional=True, backend=backend)
    state = net.cell.state(*np.random.default_rng(0).normal(size=(2, 4, batch, H)).astype("float32"))
    y, new, tape = net.forward(np.zeros((steps, batch, I)), state)
    dx, dstate, grads = net.backward(tape, np.zeros((steps, batch, 2 * H)), state)
    assert (y.shape, dx.shape) == ((steps, batch, 2 * H), (steps, batch, I))
    for a, b, c in zip(state, new, dstate, strict=True):
        np.testing.assert_array_equal(b, a)
        np.testing.assert_array_equal(c, a)
    assert all((grads[name] == 0).all() and grads[name].shape == p.shape for name, p in net.params.items())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_step_is_a_call_of_one_step(cell, batch_first):
    net = ur.Recurrent(cell, I, H, 2, dtype="float64", batch_first=batch_first)
    rng = np.random.default_rng(0)
    x, state = rng.normal(size=(B, I)), tuple(rng.normal(size=(2, B, H)) for _ in net.zero_state(B))
    whole, final = net(x[:, None] if batch_first else x[None], state)
    y, new = net.step(x, state)
    assert y.shape == (B, H)
    np.testing.assert_array_equal(y, whole[:, 0] if batch_first else whole[0])
    for a, b in zip(new, final, strict=True):
        np.testing.assert_array_equal(a, b)
    token, _ = net.step(np.array([2, 0, 3]), state)
    one_hot, _ = net.step(np.eye(I)[[2, 0, 3]], state)
    np.testing.assert_allclose(token, one_hot, rtol=0, atol=1e-15)  # one rounding of a sum of exact zeros


def test_any_number_type_will_do_for_sizes_rates_and_dtypes():
    net = ur.LSTM(np.int64(4), np.int32(5), dropout=np.float32(0.25), dtype=np.float64)
    assert (net.input_size, net.hidden_size, net.dropout, net.dtype) == (4, 5, 0.25, "float64")
    assert ur.LSTM(4, 5, dtype=np.dtype("float32")).params["bias_ih_l0"].dtype == np.float32
    for x in (np.ones((2, 3, 4), "float16"), np.ones((2, 3, 4)).tolist(), np.ones((2, 3, 4), bool)):
        np.testing.assert_array_equal(net(x)[0], net(np.ones((2, 3, 4)))[0])


ERRORS = {
    r"^x is None; expected an array of numbers$": lambda n: n(None),
    r"^x has dtype <U1; expected an array of numbers$": lambda n: n(np.full((6, 3, 4), "a")),
    r"^x has dtype object; expected an array of numbers$": lambda n: n(np.full((6, 3, 4), None)),
    r"^x has rows of unequal length; expected an array of numbers$": lambda n: n([[1.0, 2.0], [1.0]]),
    r"^integer x has shape \(6, 3, 4\); expected \(T, B\) indices of one-hot inputs$": lambda n: n(X.astype(int)),
    r"^integer x has shape \(6, 3, 4\); expected \(B, T\) indices": lambda n: first(n)(X.astype(int)),
    r"^x has shape \(6,\); expected \(B, T, I\), or \(T, I\) without a batch$": lambda n: first(n)(X[:, 0, 0]),
    r"^x has indices from -1 to 3; they must be at least 0 and below 4$": lambda n: n(np.array([[3, -1]])),
    r"^layer 0: x has 3 features, weight_ih_l0 takes 4$": lambda n: n.step(np.zeros(3)),
    r"^state must be \(h, c\), as lstm has it": lambda n: n(X, {"h": 1, "c": 2}),
    r"^state must be \(h,\), as gru_reset_after has it$": lambda n: ur.GRU(4, 5)(X, (np.zeros((1, 3, 5)),) * 2),
    r"^state\.h has shape \(1, 6, 5\); expected \(L\*D, B, H\) = \(1, 3, 5\)$": lambda n: ur.GRU(4, 5)(
        X, np.zeros((1, 6, 5))
    ),
    r"^state\.h has shape \(2, 3, 5\); expected \(L\*D, B, H\) = \(4, 3, 5\)$": lambda n: ur.GRU(
        4, 5, 2, bidirectional=True
    )(X, np.zeros((2, 3, 5))),
    r"^state\.c has dtype object; expected an array of numbers$": lambda n: n(
        X, (np.zeros((2, 3, 5)), np.full((2, 3, 5), None))
    ),
    r"^dstate must be \(h, c\), as lstm has it$": lambda n: n.backward(n.forward(X)[2], Y, np.zeros((2, 3, 5))),
    r"^dstate\.h has shape \(2, 6, 5\); expected \(L\*D, B, H\) = \(2, 3, 5\)$": lambda n: n.backward(
        n.forward(X)[2], Y, (np.zeros((2, 6, 5)),) * 2
    ),
    r"^lengths must be 3 whole numbers, one a row of the batch; got array\(\[1\., 2\., 3\.\]\)$": lambda n: n(
        X, None, [1.0, 2.0, 3.0]
    ),
    r"^lengths must lie between 0 and T = 6; got -1 to 2$": lambda n: n(X, None, [-1, 2, 0]),
    r"^lengths must be 6 whole numbers, one a row": lambda n: first(n)(X, None, [1, 2, 3]),
    r"^dy and dstate are None; expected the gradient of the outputs, of the state, or of both$": lambda n: backward(
        n, None
    ),
    r"^dy has shape \(3, 6, 5\); expected \(B, T, D H\) = \(6, 3, 5\)$": lambda n: backward(first(n), Y.swapaxes(0, 1)),
    r"^dy has shape \(6, 3, 5\); expected \(T, B, D H\) = \(6, 3, 10\)$": lambda n: backward(
        ur.LSTM(4, 5, bidirectional=True), Y
    ),
    r"^the tape is another network's: its num_layers is 2, this network's is 1$": lambda n: ur.LSTM(4, 5).backward(
        n.forward(X)[2], Y
    ),
    r"^masks are list; expected \{\}, as draw_masks gives them$": lambda n: n.forward(X, masks=[Y > 0]),
    r"^masks are \{'dropout_l0': \(3, 5\)\}; expected \{'dropout_l0': \(6, 3, 5\)\}, as draw_masks": lambda n: ur.LSTM(
        I, H, 2, dropout=0.5
    ).forward(X, masks={"dropout_l0": Y[0] > 0}),
    r"^rng is '3'; expected a numpy Generator, such as numpy\.random\.default_rng\(seed\), or a seed$": lambda n: (
        n.forward(X, rng="3")
    ),
    r"^rng is -4; expected a numpy Generator": lambda n: ur.LSTM(4, 5, rng=-4),
    r"^the parameters do not fit this network; missing: bias_hh_l0, bias_hh_l1, ": lambda n: n.load_params({}),
    r"^bias_hh_l1 has dtype <U1; expected an array of numbers$": lambda n: with_param(n, np.full(20, "a")),
    r"^bias_hh_l1 holds complex numbers; this network takes float32$": lambda n: with_param(n, np.full(20, 1j)),
    r"^bias_hh_l1 has rows of unequal length; expected an array of numbers$": lambda n: with_param(n, [[1], [1, 2]]),
    r"^bias_hh_l1 has shape \(1, 20\); this network takes \(20,\)$": lambda n: with_param(n, np.zeros((1, 20))),
    r"^no cell is called None\. Known: rnn_tanh, ": lambda n: ur.Recurrent(None, 4, 5),
    r"^no cell is called \['lstm'\]": lambda n: ur.Recurrent(["lstm"], 4, 5),
    r"^ur\.RNN takes the cells rnn_tanh, rnn_relu; for lstm use ur\.Recurrent$": lambda n: ur.RNN(4, 5, cell="lstm"),
    r"^input_size is 0; it must be a whole number, 1 or more$": lambda n: ur.LSTM(0, 5),
    r"^input_size is '4'; it must be a whole number": lambda n: ur.LSTM("4", 5),
    r"^num_layers is -1; it must be a whole number, 1 or more$": lambda n: ur.LSTM(4, 5, -1),
    r"^hidden_size is True; it must be a whole number, 1 or more$": lambda n: ur.LSTM(4, True),
    r"^dropout is nan; it must be at least 0 and below 1$": lambda n: ur.LSTM(4, 5, dropout=float("nan")),
    r"^dropout is '0\.5'; it must be at least 0": lambda n: ur.LSTM(4, 5, dropout="0.5"),
    r"^dropout is -0\.1; it must be at least 0 and below 1$": lambda n: ur.LSTM(4, 5, dropout=-0.1),
    r"^no dtype is called 'int32'": lambda n: ur.LSTM(4, 5, dtype=np.int32),
    r"^x has shape \(\); expected \(T, B, I\), or \(T, I\) without a batch$": lambda n: n(3.0),
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
    r"^dy has shape \(6, 3, 4\); expected \(T, B, D H\) = \(6, 3, 5\)$": lambda n: n.backward(
        n.forward(np.zeros((6, 3, 4)))[2], np.zeros((6, 3, 4))
    ),
    r"^the parameters do not fit this network; missing: bias_ih_l1; unknown: bias_l1$": lambda n: n.load_params(
        {("bias_l1" if k == "bias_ih_l1" else k): v for k, v in n.params.items()}
    ),
    r"^weight_hh_l1 has shape \(5, 20\); this network takes \(20, 5\)$": lambda n: n.load_params(
        n.params | {"weight_hh_l1": np.zeros((5, 20))}
    ),
    r"^no cell is called 'lstn'; did you mean 'lstm'\? Known: rnn_tanh, ": lambda n: ur.Recurrent("lstn", 4, 5),
    r"^ur\.LSTM takes the cells lstm, lstm_peephole, .*; for gru_reset_after use ur\.Recurrent$": lambda n: ur.LSTM(
        4, 5, cell="gru_reset_after"
    ),
    r"^hidden_size is 2\.5; it must be a whole number, 1 or more$": lambda n: ur.LSTM(4, 2.5),
    r"^dropout is 1; it must be at least 0 and below 1$": lambda n: ur.LSTM(4, 5, dropout=1),
    r"^no dtype is called 'float16'; did you mean 'bfloat16'\?": lambda n: ur.LSTM(4, 5, dtype="float16"),
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


@pytest.mark.parametrize("dtype", ["<i8", ">i8", "i1", "u1", ">u2", "i4"])
def test_indices_of_any_integers(dtype):
    """0 to size - 1, in either byte order; a negative number is none, whatever it is as an unsigned one."""
    for size in (3, 100, 300):
        most = min(size - 1, np.iinfo(dtype).max)
        assert are_indices(np.array([[0, most]], dtype), size)
        assert are_indices(np.array([0, most, 0, most], dtype)[::2], size)
        if np.dtype(dtype).kind == "i":
            assert not are_indices(np.array([most, -1], dtype), size)
        if size <= np.iinfo(dtype).max:
            assert not are_indices(np.array([0, size], dtype), size)
    assert are_indices(np.zeros(0, dtype), 3)


def test_nonlinearity_is_pytorchs_name_of_the_cell():
    assert [ur.RNN(4, 5, nonlinearity=kind).cell.name for kind in ("tanh", "relu")] == ["rnn_tanh", "rnn_relu"]
    with pytest.raises(ur.UnrolledError, match=r"^no nonlinearity is called 'rleu'; did you mean 'relu'"):
        ur.RNN(4, 5, nonlinearity="rleu")
    with pytest.raises(ur.UnrolledError, match=r"^nonlinearity is 'tanh', cell is 'rnn_relu'; leave one out$"):
        ur.RNN(4, 5, nonlinearity="tanh", cell="rnn_relu")


def test_a_rate_that_drops_nothing_is_warned_of_once():
    net = ur.LSTM(I, H, 2, dropout=0.5)
    with pytest.warns(
        ur.UnrolledWarning, match=r"^dropout is 0\.5, and nothing is dropped: forward was given neither rng"
    ):
        net.forward(X)
    net.forward(X)
    with pytest.warns(ur.UnrolledWarning, match=r"^weight_drop is 0\.5, and nothing is dropped: forward was given"):
        ur.GRU(I, H, weight_drop=0.5).forward(X)
    with pytest.warns(
        ur.UnrolledWarning, match=r"^dropout is 0\.5, .*: it acts between layers, and this network has one"
    ):
        ur.LSTM(I, H, dropout=0.5).forward(X, rng=0)
    for quiet in (ur.LSTM(I, H, 2, dropout=0.5), ur.LSTM(I, H, 2, zoneout=0.5)):
        quiet(X)
        quiet.forward(X, rng=np.random.default_rng(0))
        quiet.forward(X, masks={})
    ur.LSTM(I, H, zoneout=0.5).forward(X)  # mixes the old and the new


@pytest.mark.parametrize("make", [ur.LSTM, ur.GRU, ur.RNN, lambda *a, **k: ur.Recurrent("lstm", *a, **k)])
def test_an_unknown_keyword_is_named_with_its_neighbour(make):
    with pytest.raises(ur.UnrolledError, match=r"^no option is called 'dropot'; did you mean 'dropout'\? Known: "):
        make(4, 5, dropot=0.5)


def test_dtypes_go_by_every_name_that_they_have():
    for name in ("f4", "<f4", "single", "float32", np.float32, np.dtype("f4"), "torch.float32"):
        assert ur.LSTM(4, 5, dtype=name).params["bias_hh_l0"].dtype == np.float32
        assert ur.Spec(7, dtype=name).to_json()["dtype"] == "float32"
    for name in ("f8", "double", "float", float, np.float64, "torch.float64"):
        assert ur.LSTM(4, 5, dtype=name).params["bias_hh_l0"].dtype == np.float64
    for name in (None, int, "half", "f2", "i4", "x", ["f4"], 3):
        with pytest.raises(ur.UnrolledError, match=r"^no dtype is called .* Known: float32, float64, bfloat16$"):
            ur.LSTM(4, 5, dtype=name)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert ur.LSTM(4, 5, dtype=torch.float64).dtype == "float64"
    assert ur.LSTM(4, 5, dtype=torch.bfloat16).dtype == "bfloat16"
    with pytest.raises(ur.UnrolledError, match=r"^no dtype is called 'float16'"):
        ur.LSTM(4, 5, dtype=torch.float16)


def test_bfloat16_is_read_and_what_wants_gradients_is_refused():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net, x = ur.LSTM(I, H), torch.ones(T, B, I) / 3
    half = x.bfloat16()
    np.testing.assert_array_equal(net(half)[0], net(half.float())[0])
    net.load_params({name: torch.tensor(p).bfloat16() for name, p in net.params.items()})
    with pytest.raises(ur.UnrolledError, match=r"^x is a Tensor that can't be made an array: Can't call numpy\(\) on"):
        net(x.clone().requires_grad_())
    with pytest.raises(ur.UnrolledError, match=r"^state\.h is a Tensor that can't be made an array"):
        net(x, (torch.zeros(1, B, H, requires_grad=True),) * 2)
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    np.testing.assert_array_equal(net(x.numpy().astype(ml_dtypes.bfloat16))[0], net(half.float())[0])


MASKED = np.ma.masked_array(np.ones((T, B), bool), np.eye(T, B, dtype=bool))
BAD = {
    "x has masked entries; fill them": lambda n: n(np.ma.masked_array(X, X == 0)),
    "x has masked entries; fill them, or": lambda n: n(list(np.ma.masked_array(X, X == 0))),
    "x has masked entries": lambda n: n.step(np.ma.masked_array(X[0], X[0] == 0)),
    "lengths has masked entries": lambda n: n(X, lengths=np.ma.masked_array([1, 2, 3], [0, 1, 0])),
    "starts has masked entries": lambda n: n(X, starts=MASKED),
    "live has masked entries": lambda n: n(X, live=MASKED),
    "state.h has masked entries": lambda n: n(X, (np.ma.masked_array(np.ones((1, B, H)), True),) * 2),
    "dy has masked entries": lambda n: n.backward(n.forward(X)[2], np.ma.masked_array(Y, Y == 0)),
    "bias_hh_l0 has masked entries": lambda n: n.params.update(
        bias_hh_l0=np.ma.masked_array(np.ones(20), np.arange(20) < 3)
    ),
    "x holds complex numbers; this network takes float32$": lambda n: n(X + 0j),
    "state.h holds complex numbers; this network takes": lambda n: n(X, (np.ones((1, B, H)) * 1j,) * 2),
    "dy holds complex numbers; this network takes": lambda n: n.backward(n.forward(X)[2], Y * 1j),
    "state.c has rows of unequal length; expected": lambda n: n(X, (np.ones((1, B, H)), [[1], [1, 2]])),
    "dstate.h has rows of unequal length": lambda n: n.backward(n.forward(X)[2], Y, ([[1], [1, 2]],) * 2),
    "lengths and live both say which steps there are; leave one out$": lambda n: n(
        X, lengths=[1, 2, 3], live=X[..., 0] > 0
    ),
    r"live is float64 of shape \(6, 3\); expected bool \(T, B\) = \(6, 3\): whether a step is there$": lambda n: n(
        X, live=X[..., 0]
    ),
    "mask zoneout_h_l0 is float64; expected bool, as draw_masks gives it$": lambda n: ur.LSTM(
        I, H, zoneout=0.5, backend=n.backend
    ).forward(X, masks={"zoneout_h_l0": Y}),
    r"state.h has shape \(1, 1, 5\); expected \(L\*D, H\) = \(1, 5\)$": lambda n: n(X[:, 0], (np.ones((1, 1, H)),) * 2),
    r"dy has shape \(6, 1, 5\); expected \(T, D H\) = \(6, 5\)$": lambda n: n.backward(n.forward(X[:, 0])[2], Y[:, :1]),
    "batch is -1; it must be a whole number, 0 or more$": lambda n: ur.GRU(I, H, learn_state=True).initial_state(-1),
    "steps is 2.5; it must be a whole number, 0 or more$": lambda n: n.draw_masks(2.5, 3, 1),
    "forget_bias is nan; it must be a number from -1,000 to 1,000$": lambda n: ur.LSTM(I, H, forget_bias=np.nan),
    r"forget_bias is 1e\+308; it must be a number from -1,000 to 1,000$": lambda n: ur.LSTM(I, H, forget_bias=1e308),
    "forget_bias is 'a'; it must be a number from -1,000 to 1,000$": lambda n: ur.LSTM(I, H, forget_bias="a"),
    r"no init is called \['a'\]": lambda n: ur.LSTM(I, H, init=["a"]),
    "weight_hh_l0 holds values that are not finite$": lambda n: n.load_params(
        n.params | {"weight_hh_l0": np.full((20, 5), np.inf)}
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_both_backends_refuse_alike(message):
    said = []
    for backend in ("reference", "auto"):
        with pytest.raises(ur.UnrolledError, match=f"^{message}") as error:
            BAD[message](ur.LSTM(I, H, backend=backend))
        said.append(str(error.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]


def test_four_thousand_layers_are_built_in_linear_time(few_lines):
    with few_lines(4000 * 1000):  # a walk over all widths a layer takes millions more
        ur.RNN(1, 1, 4000)
