"""A layer's weights as ONNX's operators RNN, LSTM and GRU hold them, and back, without the package onnx.

ONNX stacks both directions in one tensor, has its own orders of gates (i o f g; z r n) and peepholes (i o f), and puts
the two biases side by side: with D directions and G gates, W is (D, G H, I), R (D, G H, H), B (D, 2 G H), P (D, 3 H).
Its equations are those of our cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS, Cell
from ..checks import Array, as_numbers
from ..errors import UnrolledError
from ..recurrent import Recurrent


class Node(NamedTuple):
    """An operator of ONNX with its weights: what `onnx.helper.make_node` and an initializer each are made of."""

    operator: str
    """RNN, LSTM or GRU."""
    attributes: dict[str, Any]
    tensors: dict[str, Array]
    """W and R; B unless there are no biases; P if there are peepholes."""


@dataclass(frozen=True)
class _Form:
    """What a cell is in ONNX."""

    operator: str
    rows: tuple[str, ...]
    """Our rows in ONNX's order."""
    activations: tuple[str, ...]
    peepholes: tuple[str, ...] = ()
    linear_before_reset: int | None = None


_LSTM, _GRU = ("Sigmoid", "Tanh", "Tanh"), ("Sigmoid", "Tanh")
SUFFIXES = ("", "_reverse")
"""Of a layer's two directions, in PyTorch's names."""
FORMS = {
    "rnn_tanh": _Form("RNN", ("h",), ("Tanh",)),
    "rnn_relu": _Form("RNN", ("h",), ("Relu",)),
    "lstm": _Form("LSTM", ("i", "o", "f", "g"), _LSTM),
    "lstm_peephole": _Form("LSTM", ("i", "o", "f", "g"), _LSTM, ("i", "o", "f")),
    "gru_reset_after": _Form("GRU", ("z", "r", "n"), _GRU, linear_before_reset=1),
    "gru_reset_before": _Form("GRU", ("z", "r", "n"), _GRU, linear_before_reset=0),
}
"""The cells that ONNX has."""


def _reorder(a: Array, have: tuple[str, ...], want: tuple[str, ...]) -> Array:
    """Equal blocks of the first axis in another order.

    Examples
    --------
    >>> _reorder(np.array([1, 2, 3]), ("i", "f", "o"), ("i", "o", "f"))
    array([1, 3, 2])
    """
    blocks = dict(zip(have, np.split(a, len(have)), strict=True))
    return np.concatenate([blocks[name] for name in want])


def to_onnx(net: Recurrent, layer: int | None = None) -> Node:
    """Return one layer of a stack, all its directions, as an operator of ONNX.

    Parameters
    ----------
    net : Recurrent
        Its cell must be one of `FORMS`.
    layer : int
        Which layer, counted from 0; may be left out where there is one.

    Returns
    -------
    Node
        `attributes` are those that ONNX needs; h and c are (D, B, H) in both, Y is (T, D, B, H) in ONNX.

    Raises
    ------
    UnrolledError
        If ONNX has no such cell, no projection, or the stack no such layer.

    Examples
    --------
    >>> import unrolled as ur
    >>> node = to_onnx(ur.LSTM(4, 5, cell="lstm_peephole", bidirectional=True))
    >>> node.operator, node.attributes["direction"]
    ('LSTM', 'bidirectional')
    >>> {name: a.shape for name, a in node.tensors.items()}
    {'W': (2, 20, 4), 'R': (2, 20, 5), 'B': (2, 40), 'P': (2, 15)}
    """
    cell = net.cell
    if cell is not CELLS.get(cell.name) or cell.name not in FORMS:
        raise UnrolledError(f"ONNX has no operator for the cell {cell.name}; it has {', '.join(FORMS)}")
    if net.proj_size:
        raise UnrolledError("ONNX's LSTM has no projection; proj_size must be 0")
    if layer is None and net.num_layers > 1:
        raise UnrolledError(f"an operator of ONNX is one layer; name one of the {net.num_layers}: layer=0")
    layer = layer or 0
    if not 0 <= layer < net.num_layers:
        raise UnrolledError(f"layer is {layer}; this network has the layers 0 to {net.num_layers - 1}")
    form, directions = FORMS[cell.name], [f"_l{layer}{suffix}" for suffix in SUFFIXES[: net.directions]]

    def stacked(*names: str) -> Array:
        """(D, ...): each direction's parameters, their rows in ONNX's order, one after the other."""
        return np.stack(
            [np.concatenate([_reorder(net.params[n + d], cell.rows, form.rows) for n in names]) for d in directions]
        )

    tensors = {"W": stacked("weight_ih"), "R": stacked("weight_hh")}
    if net.bias:
        tensors["B"] = stacked("bias_ih", "bias_hh")
    if form.peepholes:
        rows = (net.params[cell.params_name + d] for d in directions)
        tensors["P"] = np.stack([_reorder(p, _peepholes(cell), form.peepholes).ravel() for p in rows])
    attributes: dict[str, Any] = {
        "hidden_size": net.hidden_sizes[layer],
        "direction": "bidirectional" if net.bidirectional else "forward",
        "activations": list(form.activations) * net.directions,
    }
    if form.linear_before_reset is not None:
        attributes["linear_before_reset"] = form.linear_before_reset
    return Node(form.operator, attributes, tensors)


def from_onnx(node: Node, *, dtype: str = "float32") -> Recurrent:
    """Return a layer that computes what an operator of ONNX does.

    Parameters
    ----------
    node : Node
        Attributes may be left out as in ONNX; strings may be bytes, as `onnx.helper.get_attribute_value` gives them.
    dtype : str
        Of the layer.

    Returns
    -------
    Recurrent
        One layer, of one or two directions.

    Raises
    ------
    UnrolledError
        If no cell of ours computes the same, or if tensors are missing or do not fit each other.

    Examples
    --------
    >>> import unrolled as ur
    >>> gru = ur.GRU(4, 5)
    >>> again = from_onnx(to_onnx(gru))
    >>> again.cell.name, all((again.params[name] == p).all() for name, p in gru.params.items())
    ('gru_reset_after', True)
    """
    operator, attributes = node.operator, {key: _text(value) for key, value in node.attributes.items()}
    tensors = {name: as_numbers(name, a) for name, a in node.tensors.items()}
    name = _cell_of(operator, attributes, tensors)
    cell, form, directions = CELLS[name], FORMS[name], 2 if attributes.get("direction") == "bidirectional" else 1
    inputs, hidden = _sizes(operator, form, directions, tensors)
    if attributes.get("hidden_size", hidden) != hidden:
        raise UnrolledError(f"hidden_size is {attributes['hidden_size']}, but R has {hidden} columns")
    net = Recurrent(cell, inputs, hidden, bias="B" in tensors, bidirectional=directions == 2, dtype=dtype)
    params: dict[str, Array] = {}
    for d, suffix in enumerate(SUFFIXES[:directions]):
        local = {"weight_ih": tensors["W"][d], "weight_hh": tensors["R"][d]}
        if net.bias:
            local["bias_ih"], local["bias_hh"] = np.split(tensors["B"][d], 2)
        params |= {f"{key}_l0{suffix}": _reorder(a, form.rows, cell.rows) for key, a in local.items()}
        if form.peepholes:
            rows = tensors["P"][d].reshape(-1, hidden)
            params[f"{cell.params_name}_l0{suffix}"] = _reorder(rows, form.peepholes, _peepholes(cell))
    net.load_params(params)
    return net


def _peepholes(cell: Cell) -> tuple[str, ...]:
    """The rows of a cell's peepholes, in our order."""
    return tuple(cell.params._fields)  # type: ignore[union-attr]


def _text(value: Any) -> Any:
    """Strings of an attribute, which `onnx.helper.get_attribute_value` gives as bytes."""
    if isinstance(value, (list, tuple)):
        return [_text(v) for v in value]
    return value.decode() if isinstance(value, bytes) else value


def _cell_of(operator: str, attributes: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Name the cell that computes what an operator does; refuse what none of ours does."""
    known = {"hidden_size", "direction", "activations", "linear_before_reset"}
    odd = {key: value for key, value in attributes.items() if key not in known and value}  # all other defaults are 0
    if attributes.get("direction", "forward") not in ("forward", "bidirectional"):
        odd["direction"] = attributes["direction"]
    if odd:
        said = ", ".join(f"{key} = {value!r}" for key, value in odd.items())
        raise UnrolledError(f"no layer here computes {operator} with {said}")
    for name, form in FORMS.items():
        given = attributes.get("activations") or (["Tanh"] if operator == "RNN" else list(form.activations))
        if (
            form.operator == operator
            and form.linear_before_reset in (None, attributes.get("linear_before_reset", 0))
            and bool(form.peepholes) == ("P" in tensors)
            and given in (list(form.activations), 2 * list(form.activations))
        ):
            return name
    said = f"activations {attributes.get('activations', 'by default')}{' and P' * ('P' in tensors)}"
    raise UnrolledError(f"no cell here computes {operator} with {said}; there are {', '.join(FORMS)}")


def _sizes(operator: str, form: _Form, directions: int, tensors: Mapping[str, Array]) -> tuple[int, int]:
    """Return I and H, after checking that all tensors agree."""
    for name, size in (("W", "I"), ("R", "H")):
        if name not in tensors:
            raise UnrolledError(f"the node lacks {name}; it has {', '.join(tensors) or 'no tensors'}")
        if tensors[name].ndim != 3:
            raise UnrolledError(f"{name} has shape {tensors[name].shape}; expected (D, G H, {size})")
    inputs, hidden = tensors["W"].shape[2], tensors["R"].shape[2]
    rows = len(form.rows) * hidden
    shapes: dict[str, tuple[int, ...]] = {"W": (directions, rows, inputs), "R": (directions, rows, hidden)}
    shapes |= {"B": (directions, 2 * rows), "P": (directions, len(form.peepholes) * hidden)}
    for name, a in tensors.items():
        if name not in shapes:
            raise UnrolledError(f"the node has {name}; expected only {', '.join(shapes)}")
        if a.shape != shapes[name]:
            raise UnrolledError(f"{name} has shape {a.shape}; expected {shapes[name]} for {operator} with H = {hidden}")
    return inputs, hidden
