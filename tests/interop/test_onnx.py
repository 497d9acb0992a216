"""Layers as ONNX's operators: by ONNX's equations written out here, by onnxruntime's numbers, and back again."""

import re

import numpy as np
import pytest

import unrolled as ur
from unrolled.interop.onnx import FORMS, Node, from_onnx, to_onnx

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


@EVERY_FORM
@BOTH
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_is_what_onnx_s_equations_say_and_comes_back_as_it_was(cell, bidirectional, bias):
    net = layer(cell, bias=bias, bidirectional=bidirectional, dtype="float64")
    node, (x, h, c) = to_onnx(net), numbers(net)
    y, _ = net(x, (h, c) if "c" in net.cell.state._fields else h)
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
    r"^no layer here computes LSTM with direction = 'reverse'$": ("LSTM", {"direction": "reverse"}, TENSORS),
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


def test_a_layer_that_onnx_has_not_is_refused():
    with pytest.raises(ur.UnrolledError, match=re.escape("ONNX has no operator for the cell mgu; it has rnn_tanh, rn")):
        to_onnx(ur.Recurrent("mgu", I, H))
    with pytest.raises(ur.UnrolledError, match=r"^ONNX's LSTM has no projection; proj_size must be 0$"):
        to_onnx(ur.LSTM(I, H, proj_size=3))
    with pytest.raises(ur.UnrolledError, match=r"^layer is 2; this network has the layers 0 to 1$"):
        to_onnx(ur.LSTM(I, H, 2), 2)


def test_a_stack_is_no_operator():
    with pytest.raises(ur.UnrolledError, match=r"^an operator of ONNX is one layer; name one of the 2: layer=0$"):
        to_onnx(ur.LSTM(I, H, 2))
