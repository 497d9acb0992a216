"""Our language models as ONNX graphs, for the benchmarks beside onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from unrolled.interop.onnx import to_onnx
from unrolled.nn.network import Network


def session(network: Network, threads: int, *, loss: bool, int8: bool = False) -> onnxruntime.InferenceSession:
    """Return a session: tokens (T, B), states h0, c0 (L, B, H) -> logits (T, B, V) or the mean loss, new states.

    int8: onnxruntime's dynamic quantization of the weights, activations being quantized as they come.
    """
    model = graph(network, loss=loss)
    if int8:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            quantize_dynamic(model, path, weight_type=QuantType.QInt8, op_types_to_quantize=["LSTM", "MatMul"])
            model = onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def graph(network: Network, *, loss: bool) -> onnx.ModelProto:
    """Return the graph of a session."""
    spec, weights, nodes = network.spec, [], []

    def constant(name: str, value: Any) -> str:
        weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    nodes.append(helper.make_node("Gather", [constant("E", network.params["embedding.weight"]), "x"], ["x0"]))
    states: dict[str, list[str]] = {"h": [], "c": []}
    for l in range(spec.num_layers):
        layer = to_onnx(network.recurrent, l)
        names = [constant(f"{name}{l}", layer.tensors[name]) for name in "WRB"]
        for s in "hc":
            constant(f"at{l}{s}", np.array([l]))
            nodes.append(helper.make_node("Gather", [f"{s}0", f"at{l}{s}"], [f"{s}0_{l}"], axis=0))
            states[s].append(f"{s}n_{l}")
        outputs = [f"y{l}", f"hn_{l}", f"cn_{l}"]
        inputs = [f"x{l}", *names, "", f"h0_{l}", f"c0_{l}"]
        nodes.append(helper.make_node(layer.operator, inputs, outputs, **layer.attributes))
        nodes.append(helper.make_node("Squeeze", [f"y{l}", constant(f"one{l}", np.array([1]))], [f"x{l + 1}"]))
    for s in "hc":
        nodes.append(helper.make_node("Concat", states[s], [f"{s}n"], axis=0))
    decoder = [constant("D", network.params["decoder.weight"].T), constant("d", network.params["decoder.bias"])]
    nodes.append(helper.make_node("MatMul", [f"x{spec.num_layers}", decoder[0]], ["product"]))
    nodes.append(helper.make_node("Add", ["product", decoder[1]], ["logits"]))
    info = helper.make_tensor_value_info
    state_shape = [spec.num_layers, "B", spec.hidden_size]
    inputs = [info("x", TensorProto.INT64, ["T", "B"])]
    inputs += [info(f"{s}0", TensorProto.FLOAT, state_shape) for s in "hc"]
    if loss:
        inputs.append(info("y", TensorProto.INT64, ["N"]))
        constant("flat", np.array([-1, spec.vocabulary_size]))
        nodes.append(helper.make_node("Reshape", ["logits", "flat"], ["rows"]))
        nodes.append(helper.make_node("SoftmaxCrossEntropyLoss", ["rows", "y"], ["loss"]))
        outputs = [info("loss", TensorProto.FLOAT, [])]
    else:
        outputs = [info("logits", TensorProto.FLOAT, ["T", "B", spec.vocabulary_size])]
    outputs += [info(f"{s}n", TensorProto.FLOAT, state_shape) for s in "hc"]
    made = helper.make_graph(nodes, "language_model", inputs, outputs, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
