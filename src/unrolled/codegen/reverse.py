"""The gradient of what was traced, as more nodes of the same graph (reverse mode), and the fewest values it needs kept.

Nodes are walked from the last to the first; each hands its gradient on to its arguments by one rule an operation.
Since equal operations are one node, what the gradient computes as the function did it shares with it. A value that
was not selected gets its gradient by selection as well, and as late as possible: whatever a branch that was not taken
would give, infinities and NaN too, goes no further. (Griewank & Walther 2008, *Evaluating derivatives*.)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import takewhile
from math import inf
from typing import Any, NamedTuple

import numpy as np

from .graph import LEAVES, MASKS, Graph, Symbol

Key = tuple[Any, ...]
CHEAP = frozenset({"add", "sub", "mul", "neg", "select", "maximum", "abs", *MASKS})
"""Operations that are computed again, wherever what they read is kept."""


class _Term(NamedTuple):
    """One part of a node's gradient: a symbol with its sign, of use where every guard (mask, side) holds."""

    symbol: Symbol
    negative: bool = False
    guards: tuple[tuple[int, bool], ...] = ()


def gradients(
    graph: Graph, seeds: Iterable[tuple[int, Symbol]], wanted: Sequence[int], of: dict[int, int] | None = None
) -> list[Any]:
    """Return the gradients of `wanted` inputs: symbols, or 0 where there is none; seeds are those of the outputs.

    `of` is filled with the nodes that are gradients, each with the node that it is the gradient of.

    Examples
    --------
    >>> graph = Graph()
    >>> x, d = graph.input("x"), graph.input("d")
    >>> [g] = gradients(graph, [(np.tanh(x).node, d)], [x.node])
    >>> list(graph.nodes)[3:]  # d (1 - y y)
    [('mul', 2, 2), ('number', 1.0), ('sub', 4, 3), ('mul', 1, 5)]
    """
    keys = list(graph.nodes)
    depends = _depending(keys, wanted)
    terms: dict[int, list[_Term]] = defaultdict(list)
    of = {} if of is None else of
    for node, d in seeds:
        terms[node].append(_Term(d))
    for node in range(len(keys) - 1, -1, -1):
        if terms[node] and node in depends and keys[node][0] not in LEAVES:
            shared = _prefix([term.guards for term in terms[node]])
            parts = [term._replace(guards=term.guards[len(shared) :]) for term in terms[node]]
            whole = _total(graph, parts)
            of.setdefault(whole.symbol.node, node)
            for arg, term in _handed_back(graph, keys, node, whole.symbol):
                negative = term.negative != whole.negative
                terms[arg].append(_Term(term.symbol, negative, shared + term.guards))
    return [_signed(_total(graph, terms[node])) if terms[node] else 0 for node in wanted]


def _depending(keys: Sequence[Key], inputs: Iterable[int]) -> set[int]:
    """Return the nodes that depend on inputs, other than by a comparison."""
    found = set(inputs)
    for node, (op, *args) in enumerate(keys):
        if op not in (*LEAVES, *MASKS) and not found.isdisjoint(args):
            found.add(node)
    return found


def _prefix(guards: Sequence[tuple[tuple[int, bool], ...]]) -> tuple[tuple[int, bool], ...]:
    """Return the guards that all begin with."""
    same = takewhile(lambda column: len(set(column)) == 1, zip(*guards, strict=False))
    return tuple(column[0] for column in same)


def _total(graph: Graph, terms: Sequence[_Term]) -> _Term:
    """Return the sum of terms; those of both sides of a mask become one selection."""
    plain = [term for term in terms if not term.guards]
    for mask in dict.fromkeys(term.guards[0][0] for term in terms if term.guards):
        sides: list[Any] = []
        for side in (True, False):
            inner = [t._replace(guards=t.guards[1:]) for t in terms if t.guards[:1] == ((mask, side),)]
            sides.append(_signed(_total(graph, inner)) if inner else 0)
        plain.append(_Term(graph.select(mask, *map(graph.number, sides))))
    plus, minus = (
        [symbol if count == 1 else count * symbol for symbol, count in _counted(graph, plain, negative=negative)]
        for negative in (False, True)
    )
    total, *more = plus or minus
    for symbol in more:
        total = total + symbol
    for symbol in minus if plus else ():
        total = total - symbol
    return _Term(total, negative=not plus)


def _counted(graph: Graph, terms: Iterable[_Term], *, negative: bool) -> list[tuple[Symbol, int]]:
    """Return the symbols of terms with that sign, each with how often it is there."""
    counts = Counter(term.symbol.node for term in terms if term.negative == negative)
    return [(Symbol(graph, node), count) for node, count in counts.items()]


def _signed(term: _Term) -> Symbol:
    return -term.symbol if term.negative else term.symbol


def _handed_back(graph: Graph, keys: Sequence[Key], node: int, d: Symbol) -> Iterator[tuple[int, _Term]]:
    """Yield the gradient of each argument of a node, whose own is d."""
    op, *nodes = keys[node]
    y, args = Symbol(graph, node), [Symbol(graph, n) for n in nodes]
    if op == "select":
        mask, taken, other = nodes
        mask = _rectified(graph, keys, node)
        yield taken, _Term(d, guards=((mask, True),))
        yield other, _Term(d, guards=((mask, False),))
    elif op == "maximum":
        a, b = nodes
        if keys[a][0] == "number":
            a, b = b, a
        # of a number and a variable, the result tells which was larger; a tie is the number's, as in where(a > 0, a, 0)
        mask = (Symbol(graph, node if keys[b][0] == "number" else a) > Symbol(graph, b)).node
        yield a, _Term(d, guards=((mask, True),))
        yield b, _Term(d, guards=((mask, False),))
    elif op == "abs":
        mask = (args[0] < 0).node
        yield nodes[0], _Term(d, guards=((mask, False),))
        yield nodes[0], _Term(d, negative=True, guards=((mask, True),))
    elif op == "div" and keys[nodes[0]] == ("number", 1.0):  # (1 / b)' = -y y, without another division
        yield nodes[1], _Term(d * y * y, negative=True)
    elif op == "div":
        quotient = d / args[1]
        yield nodes[0], _Term(quotient)
        yield nodes[1], _Term(quotient * y, negative=True)
    else:
        for arg, (symbol, negative) in zip(nodes, RULES[op](d, y, *args), strict=True):
            yield arg, _Term(symbol, negative)


RULES: dict[str, Callable[..., tuple[tuple[Symbol, bool], ...]]] = {
    "add": lambda d, y, a, b: ((d, False), (d, False)),
    "sub": lambda d, y, a, b: ((d, False), (d, True)),
    "mul": lambda d, y, a, b: ((d * b, False), (d * a, False)),
    "neg": lambda d, y, a: ((d, True),),
    "exp": lambda d, y, a: ((d * y, False),),
    "log": lambda d, y, a: ((d / a, False),),
    "tanh": lambda d, y, a: ((d * (1 - y * y), False),),
    "sigmoid": lambda d, y, a: ((d * y * (1 - y), False),),
    "sqrt": lambda d, y, a: ((0.5 * d / y, False),),
    "log1p": lambda d, y, a: ((d / (1 + a), False),),
    "sin": lambda d, y, a: ((d * np.cos(a), False),),
    "cos": lambda d, y, a: ((d * np.sin(a), True),),
}
"""Operation -> the gradient of each argument, and whether it is negative, from that of the result y."""

_STRICT = {">": False, "<": False, "<=": True, ">=": True}
"""Comparison -> the side that a tie is on."""


def _rectified(graph: Graph, keys: Sequence[Key], node: int) -> int:
    """Return the mask of a selection; that of a > 0 is y > 0 where y = where(a > 0, a, 0), for y is what there will be.

    So it is wherever the two that are compared are those that are selected from, and a tie selects the number.
    """
    mask: int
    mask, taken, other = keys[node][1:]
    op, left, right = keys[mask]
    sides = {left: keys[left][0] == "number", right: keys[right][0] == "number"}
    if {taken, other} != {left, right} or sorted(sides.values()) != [False, True] or op not in _STRICT:
        return mask
    at_tie = taken if _STRICT[op] else other
    if not sides[at_tie]:
        return mask
    return graph.symbol(op, *(n if sides[n] else node for n in (left, right))).node


def kept(graph: Graph, outputs: Iterable[int], there: Collection[int], given: Collection[int]) -> list[int]:
    """Return the fewest nodes to keep, so that outputs follow from them and from what is there.

    Cheap operations are computed again, and one that is not on top of them: a tanh costs as much as to write and to
    read its value. Comparisons are never kept.

    Parameters
    ----------
    graph : Graph
    outputs : nodes of gradients
    there : nodes whose values will be there; numbers are
    given : inputs that come only later, the gradients; what depends on them cannot be kept, and is computed

    Notes
    -----
    Needed values that are neither cheap nor follow from what is there are sources, what the gradients read is the sink:
    the fewest nodes without which no path leads from the ones to the others are a minimum cut; of several, the one
    nearest to the sources. Of those, what follows from the others is not kept after all.

    Examples
    --------
    >>> graph = Graph()
    >>> ax, ah, d = map(graph.input, ("ax", "ah", "d"))
    >>> y = np.tanh(ax + ah)
    >>> [g, _] = gradients(graph, [(y.node, d)], [ax.node, ah.node])
    >>> [list(graph.nodes)[node] for node in kept(graph, [g.node], [], [d.node])]
    [('tanh', 3)]
    """
    keys = list(graph.nodes)
    late, follows = _late(keys, given), _following(keys, there)
    into: dict[int, list[int]] = defaultdict(list)
    sources, sinks, seen = set[int](), set[int](), set[int]()
    waiting = list(outputs)
    sinks.update(node for node in waiting if node not in late)
    while waiting:
        node = waiting.pop()
        if node in seen or node in follows or node in given:
            continue
        seen.add(node)
        op, *args = keys[node]
        if node in late:
            sinks.update(arg for arg in args if arg not in late)
        elif op not in CHEAP:
            sources.add(node)
            continue
        else:
            for arg in args:
                into[arg].append(node)
        waiting += args
    fewest = _fewest(into, sources, sinks & seen, [node for node in seen if keys[node][0] not in MASKS])
    left = set(fewest)
    held, readers, steps = {*there, *fewest}, _readers(keys), _following(keys, {*there, *fewest})
    for node in sorted(fewest, reverse=True):
        if _spared(keys, readers, steps, held, node, fewest):
            left.remove(node)
            held.remove(node)
    return sorted(left)


def _following(keys: Sequence[Key], there: Collection[int]) -> dict[int, int]:
    """Return the nodes that follow from those that are there, each with how many costly operations that takes: 0, 1."""
    steps = dict.fromkeys(there, 0)
    for node, key in enumerate(keys):
        if node not in steps and (count := _steps(key, steps)) is not None:
            steps[node] = count
    return steps


def _steps(key: Key, steps: Mapping[int, int]) -> int | None:
    """Return how many costly operations a node takes; None if it does not follow, or by more than one."""
    op, *args = key
    if op in LEAVES:
        return 0 if op == "number" else None
    if any(arg not in steps for arg in args):
        return None
    count = max(steps[arg] for arg in args) + (op not in CHEAP)
    return count if count < 2 else None


def _readers(keys: Sequence[Key]) -> Mapping[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for node, (op, *args) in enumerate(keys):
        for arg in args if op not in LEAVES else ():
            found[arg].append(node)
    return found


def _spared(
    keys: Sequence[Key],
    readers: Mapping[int, Sequence[int]],
    steps: dict[int, int],
    there: Collection[int],
    node: int,
    needed: Collection[int],
) -> bool:
    """Return whether all needed nodes follow without one of those there; `steps` is brought up to date then."""
    before: dict[int, int | None] = {}
    waiting = [node]
    while waiting:
        at = heappop(waiting)
        count = _steps(keys[at], steps)
        if count is None and at in needed:
            for changed, old in before.items():
                _put(steps, changed, old)
            return False
        if count != steps.get(at):
            before.setdefault(at, steps.get(at))
            _put(steps, at, count)
            for reader in readers.get(at, ()):
                if reader not in there:
                    heappush(waiting, reader)
    return True


def _put(steps: dict[int, int], node: int, count: int | None) -> None:
    if count is None:
        steps.pop(node, None)
    else:
        steps[node] = count


def _late(keys: Sequence[Key], given: Collection[int]) -> set[int]:
    """Return the nodes that depend on what is given later."""
    found = set(given)
    for node, (op, *args) in enumerate(keys):
        if op not in LEAVES and not found.isdisjoint(args):
            found.add(node)
    return found


def _fewest(
    into: Mapping[int, Sequence[int]], sources: Collection[int], sinks: Collection[int], those: Collection[int]
) -> set[int]:
    """Return the fewest of those nodes that every path from a source to a sink goes through (Ford & Fulkerson 1956).

    A node is an arc from its entry (node, 0) to its exit (node, 1), which has room for one path if it is one of those;
    `into` has the nodes that read a node.
    """
    nodes = {*sources, *sinks, *into, *(reader for readers in into.values() for reader in readers)}
    room: dict[Any, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    for node in sorted(nodes):
        room[node, 0][node, 1] = 1 if node in those else inf
        room[node, 1].update({(reader, 0): inf for reader in into.get(node, ())})
        room["start"].update({(node, 0): inf} if node in sources else {})
        room[node, 1].update({"end": inf} if node in sinks else {})
    while True:
        came: dict[Any, Any] = {"start": None}
        waiting = list(came)
        while waiting and "end" not in came:
            at = waiting.pop()
            for to in [to for to, free in room[at].items() if free and to not in came]:
                came[to] = at
                waiting.append(to)
        if "end" not in came:
            return {node for node in nodes if (node, 0) in came and (node, 1) not in came}
        at = "end"
        while (before := came[at]) is not None:
            room[before][at] -= 1
            room[at][before] += 1
            at = before
