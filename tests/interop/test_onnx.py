"""Layers as ONNX's operators: by ONNX's equations written out here, by onnxruntime's numbers, and back again."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.interop.onnx import FORMS, Node, Reverse, from_onnx, to_onnx

T, B, I, H = 7, 3, 4, 5
EVERY_FORM = pytest.mark.parametrize("cell", FORMS)
BOTH = pytest.mark.parametrize("bidirectional", [False, True])


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def operator(node, x, h, c):
    """ONNX's equations, as its specification of RNN, LSTM and GRU (opset 14) has them; Y as (T, D, B, H)."""
    outputs = []
    for d in range(len(node.tensors["W"])):
        W, R = node.tensors["W"][d], node.tensors["R"][d]
        Wb, Rb = np.split(node.tensors.get("B", np.zeros((d + 1, 2 * len(W))))[d], 2)
        Pi, Po, Pf = np.split(node.tensors.get("P", np.zeros((d + 1, 3 * H)))[d], 3)
        Ht, Ct, Y = h[d], c[d], []
        for Xt in x[::-1] if d else x:
            X, P = Xt @ W.T + Wb, Ht @ R.T + Rb
            if node.operator == "RNN":
                f = {"Tanh": np.tanh, "Relu": lambda a: np.maximum(a, 0)}[node.attributes["activations"][d]]
                Ht = f(X + P)
            elif node.operator == "LSTM":
                i, o, f, g = np.split(X + P, 4, axis=1)
                i, f = sigmoid(i + Pi * Ct), sigmoid(f + Pf * Ct)
                Ct = f * Ct + i * np.tanh(g)
                Ht = sigmoid(o + Po * Ct) * np.tanh(Ct)
            else:
                z, r = sigmoid(X + P)[:, :H], sigmoid(X + P)[:, H : 2 * H]
                before = (r * Ht) @ R[2 * H :].T + Rb[2 * H :]
                n = np.tanh(X[:, 2 * H :] + (r * P[:, 2 * H :] if node.attributes["linear_before_reset"] else before))
                Ht = (1 - z) * n + z * Ht
            Y.append(Ht)
        outputs.append(Y[::-1] if d else Y)
    return np.swapaxes(outputs, 0, 1)


def numbers(net, dtype="float64"):
    """Inputs and states; c only matters to LSTMs."""
    rng = np.random.default_rng(0)
    shapes = (T, B, I), (net.directions, B, H), (net.directions, B, H)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def merged(Y):
    """ONNX's Y (T, D, B, H) -> ours (T, B, D H)."""
    return np.concatenate(np.split(Y, Y.shape[1], axis=1), axis=-1)[:, 0]


def layer(cell, **options):
    return ur.Recurrent(cell, I, H, rng=np.random.default_rng(1), **options)


def test_a_bfloat16_layer_is_its_float32_parameters():
    net = layer("lstm", dtype="bfloat16")
    plain = layer("lstm", dtype="float32")
    plain.load_params(net.params)
    ours, theirs = to_onnx(net).tensors, to_onnx(plain).tensors
    assert {name: a.dtype for name, a in ours.items()} == dict.fromkeys("WRB", np.float32)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor)


@EVERY_FORM
@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_what_onnx_s_equations_say_and_comes_back_as_it_was(cell, bidirectional, bias):
    net = layer(cell, bias=bias, bidirectional=bidirectional, dtype="float64")
    node, (x, h, c) = to_onnx(net), numbers(net)
    y, _ = net(x, (h, c) if "c" in net.cell.state_fields else h)
    np.testing.assert_allclose(merged(operator(node, x, h, c)), y, rtol=0, atol=1e-14)  # some dozen roundings
    again = from_onnx(node, dtype="float64")
    assert (again.cell.name, again.directions, again.bias) == (cell, net.directions, bias)
    assert list(again.params) == list(net.params)
    for name, p in net.params.items():
        np.testing.assert_array_equal(again.params[name], p)
    for name, a in to_onnx(again).tensors.items():
        np.testing.assert_array_equal(a, node.tensors[name])


@EVERY_FORM
@BOTH
def test_a_layer_gives_onnxruntime_s_numbers(cell, bidirectional):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    net = layer(cell, bidirectional=bidirectional)
    node, given = to_onnx(net), dict(zip(("x", "h", "c"), numbers(net, "float32"), strict=True))
    if node.operator != "LSTM":
        del given["c"]
    names = ["x", "W", "R", "B", "", "h"] + ["c"] * ("c" in given) + ["P"] * ("P" in node.tensors)
    made = onnx.helper.make_node(node.operator, names, ["Y"], **node.attributes)
    info = [onnx.helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, a.shape) for k, a in given.items()]
    shape = (T, net.directions, B, H)
    graph = onnx.helper.make_graph(
        [made],
        "layer",
        info,
        [onnx.helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(a, name) for name, a in node.tensors.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (Y,) = session.run(None, given)
    y, _ = net(given["x"], (given["h"], given["c"]) if "c" in given else given["h"])
    np.testing.assert_allclose(merged(Y), y, rtol=0, atol=2e-6)  # float32, their approximate exponentials too
    stored = model.graph.node[0]  # and from a file: attributes as onnx reads them, strings as bytes
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in stored.attribute}
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    again = from_onnx(Node(stored.op_type, attributes, tensors))
    for name, p in net.params.items():
        np.testing.assert_array_equal(again.params[name], p)


def test_the_orders_of_gates_peepholes_and_biases():
    """Each row is its gate's name, so that an order is read off."""
    net = ur.LSTM(1, 1, cell="lstm_peephole")
    i, f, g, o = range(1, 5)
    biases = [[i, f, g, o], [10 * i, 10 * f, 10 * g, 10 * o]]
    named = {"weight_ih_l0": np.c_[biases[0]], "weight_hh_l0": np.c_[biases[1]], "bias_ih_l0": biases[0]}
    net.load_params(named | {"bias_hh_l0": biases[1], "weight_peephole_l0": np.c_[[i, f, o]]})
    tensors = to_onnx(net).tensors
    assert tensors["W"][0, :, 0].tolist() == [i, o, f, g]
    assert tensors["R"][0, :, 0].tolist() == [10 * i, 10 * o, 10 * f, 10 * g]
    assert tensors["B"][0].tolist() == [i, o, f, g, 10 * i, 10 * o, 10 * f, 10 * g]
    assert tensors["P"][0].tolist() == [i, o, f]
    gru = ur.GRU(1, 1)
    r, z, n = range(1, 4)
    gru.load_params(gru.params | {"bias_ih_l0": [r, z, n]})
    assert to_onnx(gru).tensors["B"][0, :3].tolist() == [z, r, n]


def test_layers_of_a_stack_one_by_one():
    net = ur.LSTM(I, (6, 5), bidirectional=True, dtype="float64")
    x = numbers(net)[0]
    first, second = (from_onnx(to_onnx(net, n), dtype="float64") for n in range(2))
    np.testing.assert_array_equal(second(first(x)[0])[0], net(x)[0])
    assert to_onnx(net, 1).attributes["hidden_size"] == 5


def test_what_a_node_leaves_out_is_onnx_s_default():
    tensors = to_onnx(ur.LSTM(I, H)).tensors
    assert from_onnx(Node("LSTM", {}, tensors)).cell.name == "lstm"
    assert from_onnx(Node("RNN", {}, to_onnx(ur.RNN(I, H)).tensors)).cell.name == "rnn_tanh"
    assert from_onnx(Node("GRU", {}, to_onnx(ur.GRU(I, H)).tensors)).cell.name == "gru_reset_before"
    zeros = {"input_forget": 0, "layout": 0, "clip": 0.0}
    assert from_onnx(Node("LSTM", zeros, tensors)).cell.name == "lstm"


TENSORS = to_onnx(ur.LSTM(I, H)).tensors
REFUSED = {
    r"^no layer here computes LSTM with input_forget = 1$": ("LSTM", {"input_forget": 1}, TENSORS),
    r"^no layer here computes LSTM with direction = 'backward'$": ("LSTM", {"direction": b"backward"}, TENSORS),
    r"^no layer here computes LSTM with activation_alpha = \[0\.1\]$": (
        "LSTM",
        {"activation_alpha": np.array([0.1])},
        TENSORS,
    ),
    r"^layout is 2; it must be 0, \(T, B, I\), or 1, \(B, T, I\)$": ("LSTM", {"layout": 2}, TENSORS),
    r"^no cell here computes GRU with activations by default, linear_before_reset = 2; ": (
        "GRU",
        {"linear_before_reset": 2},
        TENSORS,
    ),
    r"^no cell here computes LSTM with activations 3; there are": ("LSTM", {"activations": 3}, TENSORS),
    r"^no cell here computes LSTM with activations \['Sigmoid', .*\]; there are": (
        "LSTM",
        {"activations": 2 * ["Sigmoid", "Tanh", "Tanh"]},  # of two directions
        TENSORS,
    ),
    r"^sequence_lens are no weights; leave them out, and call the layer with them as lengths$": (
        "LSTM",
        {},
        TENSORS | {"sequence_lens": [3, 7]},
    ),
    r"^initial_h differs from row to row; leave it out, and call the layer with it$": (
        "LSTM",
        {},
        TENSORS | {"initial_h": np.arange(10.0).reshape(1, 2, 5)},
    ),
    r"^initial_c has shape \(1, 2, 4\); expected \(D, B, H\) with D, H = 1, 5$": (
        "LSTM",
        {},
        TENSORS | {"initial_c": np.zeros((1, 2, 4))},
    ),
    r"^initial_h has shape \(1, 2, 5\); expected \(B, D, H\) with D, H = 1, 5$": (
        "LSTM",
        {"layout": 1},
        TENSORS | {"initial_h": np.zeros((1, 2, 5))},
    ),
    r"^expected Node\(operator, attributes, tensors\), a str and two dictionaries; got Node\(str, NoneType, ": (
        "LSTM",
        None,
        TENSORS,
    ),
    r"^no layer here computes LSTM with clip = 3\.0$": ("LSTM", {"clip": 3.0}, TENSORS),
    r"^no cell here computes LSTM with activations \['Relu', 'Tanh', 'Tanh'\]; there are rnn_tanh, ": (
        "LSTM",
        {"activations": ["Relu", "Tanh", "Tanh"]},
        TENSORS,
    ),
    r"^no cell here computes GRU with activations by default and P; there are": ("GRU", {}, TENSORS | {"P": [1.0]}),
    r"^no cell here computes Gemm with activations by default; ": ("Gemm", {}, TENSORS),
    r"^the node lacks R; it has W, B$": ("LSTM", {}, {k: TENSORS[k] for k in "WB"}),
    r"^the node lacks W; it has no tensors$": ("LSTM", {}, {}),
    r"^B has shape \(20,\); expected \(1, 40\) for LSTM with H = 5$": (
        "LSTM",
        {},
        TENSORS | {"B": np.ones(20)},
    ),
    r"^W has shape \(1, 20, 4\); expected \(2, 20, 4\) for LSTM": ("LSTM", {"direction": "bidirectional"}, TENSORS),
    r"^the node has X; expected only W, R, B, P$": ("LSTM", {}, TENSORS | {"X": [1.0]}),
    r"^hidden_size is 6, but R has 5 columns$": ("LSTM", {"hidden_size": 6}, TENSORS),
    r"^R has shape \(\); expected \(D, G H, H\)$": ("LSTM", {}, TENSORS | {"R": 3.0}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_node_that_no_cell_computes_is_refused(message):
    with pytest.raises(ur.UnrolledError, match=message):
        from_onnx(Node(*REFUSED[message]))


NOT_IN_ONNX = {
    r"^ONNX has no operator for the cell mgu; it has rnn_tanh, rn": lambda: to_onnx(ur.Recurrent("mgu", I, H)),
    r"^ONNX's LSTM has no projection; proj_size must be 0$": lambda: to_onnx(ur.LSTM(I, H, proj_size=3)),
    r"^ONNX has no zoneout, which mixes old and new at inference too; zoneout is 0\.5$": lambda: to_onnx(
        ur.LSTM(I, H, zoneout=0.5)
    ),
    r"^ONNX has no zoneout, .*; zoneout_cell is 0\.25$": lambda: to_onnx(ur.LSTM(I, H, zoneout_cell=0.25)),
    r"^ONNX's operators add no input to their output; residual layer 1 needs an Add$": lambda: to_onnx(
        ur.LSTM(I, H, 2, residual=True), 1
    ),
    r"^ONNX wants the initial state, which is learned here, for each row: say batch=1$": lambda: to_onnx(
        ur.GRU(I, H, learn_state=True)
    ),
    r"^batch is 3, but only a learned initial state needs it; leave it out$": lambda: to_onnx(ur.GRU(I, H), batch=3),
    r"^batch is 0; it must be a whole number, 1 or more$": lambda: to_onnx(ur.GRU(I, H, learn_state=True), batch=0),
    r"^layer is 2; this network has the layers 0 to 1$": lambda: to_onnx(ur.LSTM(I, H, 2), 2),
    r"^layer is '0'; it must be a whole number, 0 or more$": lambda: to_onnx(ur.LSTM(I, H, 2), "0"),
    r"^an operator of ONNX is made from a Recurrent, such as network\.recurrent; got a Network$": lambda: to_onnx(
        ur.Network(ur.Spec(vocabulary_size=4, hidden_size=5, num_layers=1))
    ),
}


@pytest.mark.parametrize("message", NOT_IN_ONNX)
def test_what_onnx_can_t_carry_is_refused_by_its_name(message):
    with pytest.raises(ur.UnrolledError, match=message):
        NOT_IN_ONNX[message]()


def test_what_does_nothing_at_inference_is_left_out():
    drops = {name: 0.5 for name in ("dropout", "locked_dropout", "recurrent_dropout", "weight_drop")}
    net = ur.LSTM(I, H, 2, rng=np.random.default_rng(1), residual=True, dtype="float64", **drops)
    x = numbers(net)[0]
    first, second = (
        from_onnx(to_onnx(net, 0), dtype="float64"),
        ur.LSTM(H, H, rng=np.random.default_rng(1), dtype="float64"),
    )
    second.load_params({name: net.params[name.replace("l0", "l1")] for name in second.params})
    y = first(x)[0]
    np.testing.assert_array_equal(second(y)[0] + y, net(x)[0])  # layer 0 has no residual to lose


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_after"])
def test_a_learned_initial_state_is_an_input_of_the_operator(cell, batch_first):
    net = layer(cell, bidirectional=True, learn_state=True, dtype="float64", batch_first=batch_first)
    rng = np.random.default_rng(2)
    net.load_params({name: rng.normal(size=p.shape) for name, p in net.params.items()})
    node = to_onnx(net, batch=B)
    names = {"initial_h", "initial_c"} if cell == "lstm" else {"initial_h"}
    assert node.tensors.keys() - {"W", "R", "B"} == names
    states = [node.tensors.get(name, np.zeros((2, B, H))) for name in ("initial_h", "initial_c")]
    assert states[0].shape == ((B, 2, H) if batch_first else (2, B, H))
    h, c = (s.swapaxes(0, 1) if batch_first and s.shape[0] == B else s for s in states)
    x = numbers(net)[0]
    y = net(x.swapaxes(0, 1) if batch_first else x)[0]
    want = merged(operator(node, x, h, c))
    np.testing.assert_allclose(y.swapaxes(0, 1) if batch_first else y, want, rtol=0, atol=1e-14)  # dozens of roundings
    again = from_onnx(node, dtype="float64")
    assert (again.learn_state, again.batch_first) == (True, batch_first)
    for name, p in net.params.items():
        np.testing.assert_array_equal(again.params[name], p)


def test_an_initial_state_with_one_field_left_out_is_zero_there():
    net = from_onnx(Node("LSTM", {}, TENSORS | {"initial_h": np.full((1, B, H), 0.5)}))
    assert (net.params["initial_h_l0"] == 0.5).all()
    assert not net.params["initial_c_l0"].any()


def onnx_s_cases():
    """The node tests of RNN, LSTM and GRU that the package onnx makes; none where it is not installed."""
    try:
        from onnx.backend.test.case.node import _NodeTestCases, gru, lstm, rnn
    except ImportError:
        return []
    own = {kind.export_defaults.__module__ for kind in (gru.GRU, lstm.LSTM, rnn.RNN)}
    assert len(own) == 3
    return [case for case in _NodeTestCases if case.model.graph.node[0].op_type in ("RNN", "LSTM", "GRU")]


CASES = onnx_s_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_onnx_s_own_node_tests(case):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    (node,), ((inputs, outputs),) = case.model.graph.node, case.data_sets
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given = dict(zip([name for name in node.input if name], inputs, strict=True))
    net = from_onnx(Node(node.op_type, attributes, {k: given[k] for k in ("W", "R", "B", "P") if k in given}))
    layout = attributes.get("layout", 0)
    state = [given[name] for name in ("initial_h", "initial_c") if name in given]
    y, final = net(given["X"], state or None, given.get("sequence_lens"))
    D = net.directions
    Y = np.stack(np.split(y, D, axis=2), axis=2 if layout else 1)  # (B, T, D, H), or (T, D, B, H)
    found = {"Y": Y} | dict(zip(("Y_h", "Y_c"), (f.swapaxes(0, 1) if layout else f for f in final), strict=False))
    names = [name for name in node.output if name]
    assert names
    for name, want in zip(names, outputs, strict=True):
        np.testing.assert_allclose(found[name], want, rtol=case.rtol, atol=case.atol)  # onnx's own tolerances


def test_all_eighteen_of_onnx_s_node_tests_are_there():
    pytest.importorskip("onnx", minversion="1.23", reason="an onnx is not installed, or one that has fewer")
    kinds = [case.model.graph.node[0].op_type for case in CASES]
    assert min(kinds.count(kind) for kind in ("GRU", "LSTM", "RNN")) == 6


@EVERY_FORM
def test_a_reverse_layer_is_the_reverse_half_of_one_that_goes_both_ways(cell):
    """Outputs, states and every gradient, with rows of unequal lengths and padding that is no number."""
    both, rng = layer(cell, bidirectional=True, dtype="float64"), np.random.default_rng(3)
    node = to_onnx(both)
    functions = node.attributes["activations"]
    attributes = node.attributes | {"direction": b"reverse", "activations": functions[: len(functions) // 2]}
    reverse = from_onnx(Node(node.operator, attributes, {k: a[1:] for k, a in node.tensors.items()}), dtype="float64")
    assert isinstance(reverse, Reverse)
    x, lengths = rng.normal(size=(T, B, I)), [7, 4, 0]
    x[np.arange(T)[:, None] >= lengths] = np.nan
    state = [rng.normal(size=(2, B, H)) for _ in both.cell.state_fields]
    y, last, tape = reverse.forward(x, [s[1:] for s in state], lengths)
    y2, last2, tape2 = both.forward(x, state, lengths)
    np.testing.assert_array_equal(y, y2[:, :, H:])
    np.testing.assert_array_equal(y, reverse(x, [s[1:] for s in state], lengths)[0])
    dy, dlast = rng.normal(size=(T, B, H)), [rng.normal(size=(1, B, H)) for _ in state]
    dx, dstate, grads = reverse.backward(tape, dy, dlast)
    padded = np.concatenate([np.zeros_like(dy), dy], axis=2)
    dx2, dstate2, grads2 = both.backward(tape2, padded, [np.concatenate([0 * d, d]) for d in dlast])
    np.testing.assert_array_equal(dx, dx2)
    for got, want in zip((*last, *dstate), (*last2, *dstate2), strict=True):
        np.testing.assert_array_equal(got[0], want[1])
    for name, g in grads.items():
        np.testing.assert_array_equal(g, grads2[name + "_reverse"])
    for got, want in zip((*tape.gates[0], *tape.states[0]), (*tape2.gates[1], *tape2.states[1]), strict=True):
        np.testing.assert_array_equal(got, want)


def test_reverse_layers_on_layers_with_the_batch_first_come_back_as_they_were():
    net = Reverse("lstm", I, (6, H), batch_first=True, dtype="float64", rng=np.random.default_rng(1))
    x = np.random.default_rng(0).normal(size=(B, T, I))
    nodes = [to_onnx(net, n) for n in range(2)]
    assert [(n.attributes["direction"], n.attributes["layout"]) for n in nodes] == [("reverse", 1)] * 2
    first, second = (from_onnx(node, dtype="float64") for node in nodes)
    np.testing.assert_array_equal(second(first(x)[0])[0], net(x)[0])
    y, _, tape = net.forward(x)
    dx, _, grads = net.backward(tape, np.ones_like(y))
    assert (dx.shape, grads.keys()) == (x.shape, net.params.keys())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["numbers", "symbols"])
def test_a_reverse_layer_takes_one_sequence_and_holes_in_it_too(batch_first, kind):
    net = Reverse("gru_reset_after", I, H, batch_first=batch_first, dtype="float64", rng=np.random.default_rng(1))
    forward = ur.GRU(I, H, dtype="float64")
    forward.load_params(net.params)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(T, I)) if kind == "numbers" else rng.integers(0, I, T)
    live, dy = rng.random(T) < 0.6, rng.normal(size=(T, H))
    y, (h,), tape = net.forward(x, live=live)
    y2, (h2,), tape2 = forward.forward(x[::-1], live=live[::-1])
    np.testing.assert_array_equal(y, y2[::-1])
    np.testing.assert_array_equal(h, h2)
    dx, _, grads = net.backward(tape, dy)
    dx2, _, grads2 = forward.backward(tape2, dy[::-1])
    np.testing.assert_array_equal(dx, dx2 if dx2 is None else dx2[::-1])
    for name, g in grads.items():
        np.testing.assert_array_equal(g, grads2[name])
    first = (lambda a: a[None]) if batch_first else (lambda a: a[:, None])
    np.testing.assert_array_equal(net(first(x), live=first(live))[0], first(y))


REVERSE_REFUSES = {
    r"^bidirectional layers read both ways already; a reverse one has one direction$": lambda net: Reverse(
        "lstm", I, H, bidirectional=True
    ),
    r"^a reverse layer has no step: it needs the whole sequence$": lambda net: net.step(np.ones((B, I))),
    r"^starts are of layers that read forwards; give each document a row of its own$": lambda net: net(
        np.ones((T, B, I)), starts=np.ones((T, B), bool)
    ),
    r"^the tape is a StackTape; expected the one that this layer's forward gave$": lambda net: net.backward(
        ur.LSTM(I, H).forward(np.ones((T, B, I)))[2], np.ones((T, B, H))
    ),
    r"^layer 0: x has 3 features, weight_ih_l0 takes 4$": lambda net: net(np.ones((T, B, 3))),
    r"^dy has shape \(7, 5\); expected \(T, B, D H\) = \(7, 3, 5\)$": lambda net: net.backward(
        net.forward(np.ones((T, B, I)))[2], np.ones((T, H))
    ),
}


@pytest.mark.parametrize("message", REVERSE_REFUSES)
def test_a_reverse_layer_says_what_is_wrong(message):
    with pytest.raises(ur.UnrolledError, match=message):
        REVERSE_REFUSES[message](Reverse("lstm", I, H))


def test_a_stack_is_no_operator():
    with pytest.raises(ur.UnrolledError, match=r"^an operator of ONNX is one layer; name one of the 2: layer=0$"):
        to_onnx(ur.LSTM(I, H, 2))


@pytest.mark.parametrize("dy", [1.0, [1.0], np.ones(3)])
def test_a_reverse_layer_says_which_gradient_has_too_few_axes(dy):
    net = Reverse("lstm", I, H)
    tape = net.forward(np.zeros((5, 2, I)))[2]
    with pytest.raises(
        ur.UnrolledError, match=r"^dy has shape \(.*\); expected an array of floats with 2 axes or more$"
    ):
        net.backward(tape, dy)


def test_whole_numbers_are_a_gradient_like_any_other():
    """One sequence, which integers of two axes are not: they would be a batch of symbols."""
    net = Reverse("lstm", I, H, batch_first=True, dtype="float64", rng=np.random.default_rng(1))
    tape = net.forward(np.random.default_rng(2).normal(size=(5, I)))[2]
    dy = np.arange(5 * H).reshape(5, H)
    np.testing.assert_array_equal(net.backward(tape, dy)[0], net.backward(tape, dy.astype(float))[0])
