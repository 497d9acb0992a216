"""A layer's weights as ONNX's operators RNN, LSTM and GRU hold them, and back, without the package onnx.

ONNX stacks both directions in one tensor, has its own orders of gates (i o f g; z r n) and peepholes (i o f), and puts
the two biases side by side: with D directions and G gates, W is (D, G H, I), R (D, G H, H), B (D, 2 G H), P (D, 3 H).
Its equations are those of our cells. What is no tensor of an operator's weights is an attribute (`layout = 1` is
`batch_first`; the direction `reverse` is a `Reverse`), an input (a learned initial state) or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS, Cell
from ..checks import Array, array_dtype, as_numbers, check_size
from ..errors import UnrolledError, brief, listed, one_line
from ..nn.recurrent import Recurrent
from .reverse import Reverse


class Node(NamedTuple):
    """An operator of ONNX with its weights: what `onnx.helper.make_node` and an initializer each are made of."""

    operator: str
    """RNN, LSTM or GRU."""
    attributes: dict[str, Any]
    tensors: dict[str, Array]
    """W and R; B unless there are no biases; P if there are peepholes; initial_h and initial_c if they are learned."""


@dataclass(frozen=True)
class _Form:
    """A cell in ONNX's terms."""

    operator: str
    rows: tuple[str, ...]
    """Our rows in ONNX's order."""
    activations: tuple[str, ...]
    peepholes: tuple[str, ...] = ()
    linear_before_reset: int | None = None


_LSTM, _GRU = ("Sigmoid", "Tanh", "Tanh"), ("Sigmoid", "Tanh")
SUFFIXES = ("", "_reverse")
"""Of a layer's two directions, in PyTorch's names."""
INITIAL = {"initial_h": "h", "initial_c": "c"}
"""ONNX's inputs of initial states, and our fields."""
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


def to_onnx(net: Recurrent, layer: int | None = None, *, batch: int | None = None) -> Node:
    """Return one layer of a stack, all its directions, as an operator of ONNX: what it computes at inference.

    Dropout of every kind does nothing at inference, so it is left out. ONNX has no rounding of what is multiplied: the
    tensors of a bfloat16 network are its float32 parameters. `batch_first` becomes `layout = 1`, which not every
    runtime has (onnxruntime's CPU has not): without the attribute the same node reads x with time first.

    Parameters
    ----------
    net : Recurrent
        Its cell must be one of `FORMS`.
    layer : int
        Which layer, counted from 0; may be left out where there is one.
    batch : int
        Rows of the batch, where the initial state is learned (`learn_state`): ONNX wants it for each row.

    Returns
    -------
    Node
        `attributes` are those that ONNX needs; h and c are (D, B, H) in both, Y is (T, D, B, H) in ONNX. With
        `layout = 1` they are (B, D, H) and (B, T, D, H) there.

    Raises
    ------
    UnrolledError
        If the stack has no such layer, or anything that ONNX can't carry: another cell, `proj_size`, `zoneout`,
        `residual`, a learned state without `batch`.

    Examples
    --------
    >>> import unrolled as ur
    >>> node = to_onnx(ur.LSTM(4, 5, cell="lstm_peephole", bidirectional=True))
    >>> node.operator, node.attributes["direction"]
    ('LSTM', 'bidirectional')
    >>> {name: a.shape for name, a in node.tensors.items()}
    {'W': (2, 20, 4), 'R': (2, 20, 5), 'B': (2, 40), 'P': (2, 15)}
    """
    layer = _layer_of(net, layer)
    _refuse(net, layer, batch)
    cell = net.cell
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
    if net.learn_state and batch is not None:
        axis = 0 if net.batch_first else 1
        net.states.check_memory(batch, array_dtype(net.dtype))
        for name, field in INITIAL.items():
            if field in cell.state_fields:
                one = np.stack([net.params[f"initial_{field}{d}"] for d in directions])
                tensors[name] = np.repeat(np.expand_dims(one, axis), batch, axis)
    single = "reverse" if isinstance(net, Reverse) else "forward"
    attributes: dict[str, Any] = {
        "hidden_size": net.hidden_sizes[layer],
        "direction": "bidirectional" if net.bidirectional else single,
        "activations": list(form.activations) * net.directions,
    }
    if net.batch_first:
        attributes["layout"] = 1
    if form.linear_before_reset is not None:
        attributes["linear_before_reset"] = form.linear_before_reset
    return Node(form.operator, attributes, tensors)


def _layer_of(net: Any, layer: Any) -> int:
    """Return which layer of a stack is meant, or say what is none."""
    if not isinstance(net, Recurrent):
        got = type(net).__name__
        raise UnrolledError(f"an operator of ONNX is made from a Recurrent, such as network.recurrent; got a {got}")
    if layer is None and net.num_layers > 1:
        raise UnrolledError(f"an operator of ONNX is one layer; name one of the {net.num_layers}: layer=0")
    which = check_size("layer", 0 if layer is None else layer, least=0)
    if which >= net.num_layers:
        raise UnrolledError(f"layer is {brief(layer)}; this network has the layers 0 to {net.num_layers - 1}")
    return which


def _refuse(net: Recurrent, layer: int, batch: Any) -> None:
    """Refuse, by its name, what changes a layer's numbers at inference and has no place in ONNX."""
    cell = net.cell
    if cell != CELLS.get(cell.name) or cell.name not in FORMS:
        raise UnrolledError(f"ONNX has no operator for the cell {cell.name}; it has {', '.join(FORMS)}")
    if net.proj_size:
        raise UnrolledError("ONNX's LSTM has no projection; proj_size must be 0")
    for name in ("zoneout", "zoneout_cell"):
        if rate := getattr(net, name):
            raise UnrolledError(f"ONNX has no zoneout, which mixes old and new at inference too; {name} is {rate}")
    if net.residual and layer:
        raise UnrolledError(f"ONNX's operators add no input to their output; residual layer {layer} needs an Add")
    if net.learn_state and batch is None:
        raise UnrolledError("ONNX wants the initial state, which is learned here, for each row: say batch=1")
    if batch is not None:
        check_size("batch", batch)
        if not net.learn_state:
            raise UnrolledError(f"batch is {brief(batch)}, but only a learned initial state needs it; leave it out")


def from_onnx(node: Node, *, dtype: str = "float32") -> Recurrent:
    """Return a layer that computes what an operator of ONNX does.

    Parameters
    ----------
    node : Node
        Attributes may be left out as in ONNX; strings may be bytes, as `onnx.helper.get_attribute_value` gives them.
        An input `sequence_lens` is what the layer is called with as `lengths`; so are initial states, but for those
        among the tensors, which must be the same in all rows and become learned ones.
    dtype : str
        Of the layer.

    Returns
    -------
    Recurrent
        One layer, of one or two directions; a `Reverse` for the direction `reverse`; `batch_first` for `layout = 1`,
        where states stay (D, B, H).

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
    operator, attributes, tensors = _read(node)
    name, layout = _cell_of(operator, attributes, tensors), _layout(attributes)
    direction = attributes.get("direction", "forward")
    cell, form, directions = CELLS[name], FORMS[name], 2 if direction == "bidirectional" else 1
    initial = {field: tensors.pop(key) for key, field in INITIAL.items() if key in tensors}
    inputs, hidden = _sizes(operator, form, directions, tensors)
    if attributes.get("hidden_size", hidden) != hidden:
        raise UnrolledError(f"hidden_size is {brief(attributes['hidden_size'])}, but R has {hidden} columns")
    options: dict[str, Any] = {"bias": "B" in tensors, "batch_first": bool(layout), "learn_state": bool(initial)}
    if direction == "reverse":
        net: Recurrent = Reverse(cell, inputs, hidden, dtype=dtype, rng=0, **options)
    else:
        net = Recurrent(cell, inputs, hidden, bidirectional=directions == 2, dtype=dtype, rng=0, **options)
    states = _initial(initial, cell, (directions, hidden), layout)
    params: dict[str, Array] = {}
    for d, suffix in enumerate(SUFFIXES[:directions]):
        local = {"weight_ih": tensors["W"][d], "weight_hh": tensors["R"][d]}
        if net.bias:
            local["bias_ih"], local["bias_hh"] = np.split(tensors["B"][d], 2)
        params |= {f"{key}_l0{suffix}": _reorder(a, form.rows, cell.rows) for key, a in local.items()}
        params |= {f"initial_{field}_l0{suffix}": a[d] for field, a in states.items()}
        if form.peepholes:
            rows = tensors["P"][d].reshape(-1, hidden)
            params[f"{cell.params_name}_l0{suffix}"] = _reorder(rows, form.peepholes, _peepholes(cell))
    net.load_params(params)
    return net


def _peepholes(cell: Cell) -> tuple[str, ...]:
    """The rows of a cell's peepholes, in our order."""
    return cell.param_fields


def _plain(name: object, value: Any) -> Any:
    """Return an attribute's value with its strings, which `onnx.helper.get_attribute_value` gives as bytes."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(name, v) for v in value]
    if isinstance(value, bytes) and value.isascii():  # as all of ONNX's names are
        return value.decode()
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise UnrolledError(
        f"attribute {listed([name])} holds {brief(value)}; expected numbers and names, or lists of them"
    )


def _read(node: Any) -> tuple[str, dict[str, Any], dict[str, Array]]:
    """Return a node's operator, attributes and tensors, or say what is none."""
    operator, attributes, tensors = (getattr(node, name, None) for name in Node._fields)
    if not isinstance(operator, str) or not isinstance(attributes, Mapping) or not isinstance(tensors, Mapping):
        got = f"got {type(node).__name__}({type(operator).__name__}, {type(attributes).__name__}, "
        raise UnrolledError(f"expected Node(operator, attributes, tensors), a str and two dictionaries; {got}...)")
    return (
        operator,
        {listed([key]): _plain(key, value) for key, value in attributes.items()},
        {(key := listed([name])): as_numbers(key, a) for name, a in tensors.items()},
    )


def _layout(attributes: Mapping[str, Any]) -> int:
    """Return 0 where time comes first, 1 where the batch does."""
    layout = attributes.get("layout", 0)
    if layout not in (0, 1):
        raise UnrolledError(f"layout is {brief(layout)}; it must be 0, (T, B, I), or 1, (B, T, I)")
    return int(layout)


def _initial(given: dict[str, Array], cell: Cell, sizes: tuple[int, int], layout: int) -> dict[str, Array]:
    """Return initial states (D, H) of every field from those for each row, which must be alike; one left out is 0."""
    found = {}
    for field, a in given.items():
        a = a.swapaxes(0, 1) if layout and a.ndim == 3 else a
        order = "(B, D, H)" if layout else "(D, B, H)"
        if field not in cell.state_fields:
            raise UnrolledError(f"the node has initial_{field}; the state of {cell.name} is h alone")
        if a.ndim != 3 or not a.shape[1] or (a.shape[0], a.shape[2]) != sizes:
            raise UnrolledError(
                f"initial_{field} has shape {given[field].shape}; expected {order} with D, H = {sizes[0]}, {sizes[1]}"
            )
        if (a != a[:, :1]).any():
            raise UnrolledError(f"initial_{field} differs from row to row; leave it out, and call the layer with it")
        found[field] = a[:, 0]
    fields = cell.state_fields if given else ()
    return {field: found.get(field, np.zeros(sizes)) for field in fields}


def _cell_of(operator: str, attributes: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Name the cell that computes what an operator does; refuse what none of ours does."""
    known = {"hidden_size", "direction", "activations", "layout", *["linear_before_reset"] * (operator == "GRU")}
    odd = {key: value for key, value in attributes.items() if key not in known and value}  # all other defaults are 0
    if attributes.get("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        odd["direction"] = attributes["direction"]
    if odd:
        said = ", ".join(f"{key} = {brief(value)}" for key, value in odd.items())
        raise UnrolledError(f"no layer here computes {listed([operator])} with {one_line(said)}")
    if "sequence_lens" in tensors:
        raise UnrolledError("sequence_lens are no weights; leave them out, and call the layer with them as lengths")
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    given, before = attributes.get("activations"), attributes.get("linear_before_reset", 0)
    for name, form in FORMS.items():
        default = ("Tanh",) if operator == "RNN" else form.activations
        wanted = [a.lower() for a in form.activations * directions]  # ONNX's names are in any case
        got = [str(a).lower() for a in (given if isinstance(given, list) and given else default * directions)]
        fits = form.linear_before_reset in (None, before) and bool(form.peepholes) == ("P" in tensors)
        if form.operator == operator and fits and got == wanted and (isinstance(given, list) or not given):
            return name
    said = f"activations {brief(given) if given else 'by default'}{' and P' * ('P' in tensors)}"
    said += f", linear_before_reset = {brief(before)}" if before not in (0, 1) else ""
    raise UnrolledError(f"no cell here computes {listed([operator])} with {said}; there are {', '.join(FORMS)}")


def _sizes(operator: str, form: _Form, directions: int, tensors: Mapping[str, Array]) -> tuple[int, int]:
    """Return I and H, after checking that all tensors agree."""
    for name, size in (("W", "I"), ("R", "H")):
        if name not in tensors:
            raise UnrolledError(f"the node lacks {name}; it has {listed(tensors) or 'no tensors'}")
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
