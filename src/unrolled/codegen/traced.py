"""The stages of a cell, traced: what each computes, its gradient, and what of that the tape has or has to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..cells import Back, Cell, Stage
from ..cells.contract import defined_at, field_names, stage_name
from ..errors import Unsupported, brief
from .evaluate import Key, Straight
from .graph import LEAVES, Graph, Symbol
from .prepare import params_type
from .reverse import gradients, kept
from .trace import symbols, tracing


@dataclass(frozen=True)
class Derived:
    """One stage, traced.

    Attributes
    ----------
    graph : what its functions compute; inputs are named by `Key`
    result : what its forward function gives: named tuples of symbols and numbers
    back : the gradients, a Back of symbols and zeros; they read what d has
    there : nodes that the tape has: old and new state, gates, parameters, masks; each with its key there
    keeps : nodes that it has to keep, each by the name of its field
    operands : the names among them that are kept as operands of the next stage
    of : nodes that are gradients, each with the node that it is the gradient of
    """

    graph: Graph
    result: Any
    back: Back
    there: Mapping[int, Key]
    keeps: Mapping[str, int]
    operands: tuple[str, ...]
    of: Mapping[int, int]


@lru_cache(maxsize=512)
def derivation(cell: Cell) -> tuple[Derived, ...]:
    """Trace the stages of a cell, and derive the gradient of each.

    Raises
    ------
    Unsupported
        If a function can't be traced; the message says why, and at which line.
    """
    params = params_type(cell)
    traces: list[_Trace] = []
    for n, stage in enumerate(cell.stages):
        earlier = type(traces[-1].result) if n else None
        traces.append(_trace(cell, n, earlier, params if stage.width == 1 else None))
    backs = [_back(cell, trace) for trace in traces]
    known = _known(cell, traces)
    return tuple(_with_tape(cell, n, *parts) for n, parts in enumerate(zip(traces, backs, known, strict=True)))


@dataclass(frozen=True)
class _Trace:
    """A stage's forward function run on symbols, with the types of the earlier values and of `p=`."""

    graph: Graph
    result: Any
    last: bool
    earlier: type[Any] | None
    params: type[Any] | None


def _trace(cell: Cell, n: int, earlier: type[Any] | None, params: type[Any] | None) -> _Trace:
    """Run a stage's forward function on symbols, twice: what it computes must not depend on earlier calls."""
    _check_operands(cell, n, earlier)
    trace, again = (_traced_once(cell, n, earlier, params) for _ in range(2))
    if _computed(trace) != _computed(again):
        where = defined_at(cell.stages[n].forward)
        what = f"cell {brief(cell.name)}: {stage_name(cell.stages[n], n)}: forward"
        raise Unsupported(f"{what} gives another result at the second call; it must give the same at each{where}")
    return trace


def _computed(trace: _Trace) -> str:
    """Return all that a stage computes, as a text: so that NaN is itself."""
    return repr((trace.graph.keys, type(trace.result).__name__, [trace.graph.number(v) for v in flat(trace.result)]))


def _check_operands(cell: Cell, n: int, earlier: type[Any] | None) -> None:
    """Refuse an operand that neither the state has nor the stage before hands on."""
    stage, known = cell.stages[n], (*cell.state_fields, *_fields(earlier))
    for name in stage.operand or ():
        if name not in known:
            what = f"cell {brief(cell.name)}: {stage_name(stage, n)}: operand {brief(name)}"
            raise Unsupported(f"{what} is unknown; it can be one of {', '.join(known)}{defined_at(stage.forward)}")


def _traced_once(cell: Cell, n: int, earlier: type[Any] | None, params: type[Any] | None) -> _Trace:
    stage, graph = cell.stages[n], Graph()
    ax, ah = (
        tuple(graph.input((name, i)) for i in range(count))
        for name, count in (("ax", len(stage.rows) * stage.inputs), ("ah", stage.blocks))
    )
    s = symbols(graph, cell.state, "s") if stage.width == 1 else None
    given = {} if earlier is None else {"k": symbols(graph, earlier, "values")}
    given |= {} if params is None else {"p": symbols(graph, params, "p")}
    given |= {} if cell.settings is None else {"c": cell.constants}
    given |= {"m": graph.input(("m",))} if cell.candidate and cell.candidate in stage.rows else {}
    given |= {name: graph.input((name,)) for name in sorted(stage.sees)}
    what, last = f"{stage_name(stage, n)}: forward", n + 1 == len(cell.stages)
    with tracing(cell, what, stage.forward):
        result = stage.forward(ax, ah, s, **given)
    wrong = _wrong(cell, result, last=last)
    if wrong:
        raise Unsupported(f"cell {brief(cell.name)}: {what} {wrong}{defined_at(stage.forward)}")
    with tracing(cell, what, stage.forward):
        for value in flat(result):
            graph.number(value)
    return _Trace(graph, result, last, earlier, params)


def _wrong(cell: Cell, result: Any, *, last: bool) -> str:
    """Return what is wrong with what a stage's forward function gave; nothing if nothing is."""
    if not last:
        return "" if field_names(type(result)) else f"gives {brief(result)}; expected a named tuple of values"
    if type(result) is not tuple or len(result) != 2:
        return f"gives {_count(result)}; expected two, (State, Gates)"
    for name, got, kind in zip(("state", "gates"), result, (cell.state, cell.gates), strict=True):
        fields = field_names(type(got))
        if not isinstance(got, tuple) or len(got) != len(kind._fields) or fields not in (None, kind._fields):
            said = f"{type(got).__name__}({', '.join(fields)})" if fields else _count(got)
            return f"gives as {name} {said}; expected {kind.__name__}({', '.join(kind._fields)})"
    return ""


def _count(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else f"a {type(value).__name__}"


def flat(tree: Any) -> list[Any]:
    """Return the leaves of nested tuples."""
    return [leaf for branch in tree for leaf in flat(branch)] if isinstance(tree, tuple) else [tree]


def _back(cell: Cell, trace: _Trace) -> tuple[Back, dict[int, int]]:
    """Derive a stage's gradient: symbols that read ("d", field) beside what the function read; and what each is of."""
    graph, last = trace.graph, trace.last
    names = cell.state_fields if last else trace.result._fields
    seeds = [
        (value.node, graph.input(("d", name)))
        for name, value in zip(names, trace.result[0] if last else trace.result, strict=True)
        if isinstance(value, Symbol)
    ]
    keys = [key for key in _inputs(graph) if key[0] not in ("m", "dt", "d")]
    of: dict[int, int] = {}
    found = dict(zip(keys, gradients(graph, seeds, [graph.input(key).node for key in keys], of), strict=True))

    def part(group: str, kind: type[Any] | None) -> Any:
        return None if kind is None else kind(*(found.get((group, name), 0) for name in kind._fields))

    ax, ah = (tuple(d for key, d in found.items() if key[0] == half) for half in ("ax", "ah"))
    same = [graph.number(d) for d in ax] == [graph.number(d) for d in ah]  # they occur as a sum alone
    params = part("p", trace.params)
    params = params if any(isinstance(d, Symbol) for d in params or ()) else None
    state, values, x = part("s", cell.state), part("values", trace.earlier), found.get(("x",))
    return Back(ax, ax if same else ah, state, values, params, x), of


def _fields(kind: type[Any] | None) -> tuple[str, ...]:
    return () if kind is None else tuple(kind._fields)


def _inputs(graph: Graph) -> list[Key]:
    return [key[1] for key in graph.nodes if key[0] == "input"]


def _known(cell: Cell, traces: Sequence[_Trace]) -> list[dict[int, Key]]:
    """Return the nodes of each stage that its backward function is given, with their keys there.

    All stages are run once more, one after the other, as one graph: what a later stage calls by another name, or hands
    on to the gates and to the new state, is the same node there.
    """
    whole, given = Graph(), dict[Key, Symbol]()
    found: list[list[int]] = []
    for n, trace in enumerate(traces):
        graph, result = trace.graph, trace.result
        apart = {key: (n, *key) for key in _inputs(graph) if key[0] in ("ax", "ah", "d")}
        given = {key: whole.input(apart.get(key, key)) for key in _inputs(graph)} | given
        found.append([whole.number(value) for value in Straight(graph, range(len(graph.nodes)))(given)])
        if n + 1 < len(traces):
            names = zip(type(result)._fields, map(graph.number, result), strict=True)
            given = {("values", name): Symbol(whole, found[n][node]) for name, node in names}
    graph, (new, gates) = traces[-1].graph, traces[-1].result
    nodes = {("new", name): found[-1][graph.number(v)] for name, v in zip(cell.state_fields, new, strict=True)}
    nodes |= {("k", name): found[-1][graph.number(v)] for name, v in zip(cell.gate_fields, gates, strict=True)}
    nodes |= {key: whole.input(key).node for key in _inputs(whole) if key[0] in ("s", "p", "m", "x", "dt")}
    keys = list(whole.nodes)
    known = {node: key for key, node in nodes.items() if keys[node][0] != "number"}

    def there(n: int, graph: Graph) -> dict[int, Key]:
        away = {"m", "x", "dt"} - {key[0] for key in _inputs(graph)}
        return {i: known[node] for i, node in enumerate(found[n]) if node in known and known[node][0] not in away}

    return [there(n, trace.graph) for n, trace in enumerate(traces)]


def _with_tape(
    cell: Cell, n: int, trace: _Trace, gradient: tuple[Back, dict[int, int]], there: dict[int, Key]
) -> Derived:
    """Choose what the tape keeps of a stage: operands of the next one that no gate is, and what its gradient needs."""
    graph, result, (back, of) = trace.graph, trace.result, gradient
    later = [name for stage in cell.stages[n + 1 : n + 2] if stage.product for name in stage.operand or ()]
    keeps = {
        name: graph.number(getattr(result, name))
        for name in later
        if name not in (*cell.state_fields, *cell.gate_fields)
    }
    operands = tuple(keeps)
    there = there | {node: ("kept", name) for name, node in keeps.items() if node not in there}
    needed = [leaf.node for leaf in flat(back) if isinstance(leaf, Symbol)]
    late = [graph.input(key).node for key in _inputs(graph) if key[0] == "d"]
    for node in kept(graph, needed, there, late):
        name = _name(cell.stages[n], graph, result, there, node)
        while name in keeps:
            name += "_"
        keeps[name] = node
        there[node] = "kept", name
    return Derived(graph, result, back, there, keeps, operands, of)


def _name(stage: Stage, graph: Graph, result: Any, there: Mapping[int, Key], node: int) -> str:
    """Return a name for what is kept: a value's own; or the operation's, with what it is of: `tanh_c`, `sigmoid_f`."""
    keys = list(graph.nodes)
    fields: tuple[str, ...] = getattr(type(result), "_fields", ())
    own = {graph.number(value): name for name, value in zip(fields, result, strict=False)}
    op, *args = keys[node]
    if node in own:
        return own[node]
    if op == "input":
        group, part = args[0]
        return str(part) if group == "values" else f"{group}_{_row(stage, part)}"
    if len(args) == 1 and args[0] in there:
        return f"{op}_{there[args[0]][-1]}"
    blocks, waiting = set[int](), [node]
    while waiting:
        key = keys[waiting.pop()]
        blocks.update(key[1][1:] if key[0] == "input" and key[1][0] in ("ax", "ah") else ())
        waiting += key[1:] if key[0] not in LEAVES else ()
    what = "a" if op in ("add", "sub") else op
    return f"{what}_{_row(stage, blocks.pop()) if len(blocks) == 1 else node}"


def _row(stage: Stage, block: int) -> str:
    """Return the name of a block's row, or of the operand that stands for it."""
    names = stage.rows if stage.product else stage.operand or ()
    return names[block]
