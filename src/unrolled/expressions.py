"""Regular expressions that know whether a text may still become a match; Python's syntax, a character at a time.

An expression is a graph of nodes. Its partial derivatives by a character c are expressions that match what may follow c
(Antimirov 1996); those of all orders are never more than its length. So a text's state is a set of nodes, from each of
which a match can be reached. The empty set is the state of a text that can't become one.

    d_c(class) = {empty} if c is in it        d_c(x y) = d_c(x) y + d_c(y) if x may be empty
    d_c(x | y) = d_c(x) + d_c(y)              d_c(x*) = d_c(x) x*
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from .errors import UnrolledError, brief

State = frozenset[int]
Ranges = tuple[tuple[int, int], ...]
"""Code points, from the first of each pair to its last; sorted, and apart from each other."""

LAST = sys.maxunicode
MOST = 1000
"""Repetitions at most, where a number is given."""
MOST_EMPTY = 50
"""Repetitions at most of what may be empty."""
DEEPEST = 50
"""Groups within groups."""
MOST_NODES, MOST_STATES = 100_000, 2_000_000
"""Parts of an expression with its derivatives, and members of these together, at most: some seconds, some 200 MB."""

_KNOWN: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda character: character.isalnum() or character == "_",
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_DIGITS = {"x": 2, "u": 4, "U": 8}


class Expression:
    r"""A regular expression, matched against a whole text.

    Python's syntax: characters, `.`, classes, `\d \w \s` and their opposites (of all of Unicode), groups, `|`, and
    the repetitions `* + ? {m} {m,n}`. Looking ahead or back, flags and references to groups are refused.

    Attributes
    ----------
    start : frozenset
        The state of a text of no characters.

    Raises
    ------
    UnrolledError
        For what is no such expression.

    Examples
    --------
    >>> year = Expression(r"(19|20)\d{2}")
    >>> state = year.after(year.start, "18")
    >>> len(state), year.whole(year.after(year.start, "1984")), year.whole(year.after(year.start, "198"))
    (0, True, False)
    """

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str) or not pattern:
            raise UnrolledError(f"allow is {brief(pattern)}; it must be a regular expression, such as '[a-z ]*'")
        self._nodes: list[tuple[Any, ...]] = []
        self._known: dict[tuple[Any, ...], int] = {}
        self._after: dict[tuple[State, str], State] = {}
        self._derivatives: dict[tuple[int, int], State] = {}
        self._firsts: dict[int, Ranges] = {}
        self._pattern, self._members = pattern, 0
        self.empty = self._node("empty")
        try:
            self.start: State = frozenset([_Parser(pattern, self).all()])
        except RecursionError:
            raise self._too_large() from None

    # --- texts ---

    def after(self, state: State, text: str) -> State:
        """Return the state behind a text that goes on from a state; no nodes where it fits no match."""
        for character in text:
            known = self._after.get((state, character))
            if known is None:
                try:
                    known = frozenset().union(*(self._derived(node, ord(character)) for node in state))
                except RecursionError:
                    raise self._too_large() from None
                self._after[state, character] = self._counted(known)
            state = known
        return state

    def whole(self, state: State) -> bool:
        """Return whether the text so far is a match."""
        return any(self._may_be_empty(node) for node in state)

    def goes_on(self, state: State, low: int, high: int) -> bool:
        """Return whether a character with a code point from `low` to `high` may come next."""
        try:
            return any(first <= high and last >= low for node in state for first, last in self._first(node))
        except RecursionError:
            raise self._too_large() from None

    def _counted(self, found: State) -> State:
        """Return what is kept, if it is not too much by now."""
        self._members += len(found)
        if self._members > MOST_STATES:
            raise self._too_large()
        return found

    def _too_large(self) -> UnrolledError:
        return UnrolledError(
            f"allow is {brief(self._pattern)}, which takes too much: fewer repetitions within others do"
        )

    def _derived(self, node: int, point: int) -> State:
        """Return the derivatives of a node, which are found once: a part may be in many others."""
        found = self._derivatives.get((node, point))
        if found is None:
            found = self._derivatives[node, point] = self._derived_anew(node, point)
        return found

    def _derived_anew(self, node: int, point: int) -> State:
        kind, *parts = self._nodes[node]
        if kind == "class":
            return frozenset([self.empty] if _holds(parts[0], point) else [])
        if kind == "or":
            return self._counted(self._derived(parts[0], point) | self._derived(parts[1], point))
        if kind == "then":
            chain, end = self._chain(node, lambda part: (part, point) in self._derivatives)
            found = self._derived(end, point) if end is not None else frozenset()
            for part in reversed(chain):  # from the end, so that nothing is found twice
                _, first, second, _ = self._nodes[part]
                found |= {self.then(rest, second) for rest in self._derived(first, point)}
                self._derivatives[part, point] = self._counted(found)
            return found
        if kind == "star":
            return self._counted(frozenset(self.then(rest, node) for rest in self._derived(parts[0], point)))
        return frozenset()

    def _first(self, node: int) -> Ranges:
        """Return the characters that what a node matches may begin with."""
        found = self._firsts.get(node)
        if found is None:
            found = self._firsts[node] = self._first_anew(node)
        return found

    def _first_anew(self, node: int) -> Ranges:
        kind, *parts = self._nodes[node]
        if kind == "class":
            ranges: Ranges = parts[0]
            return ranges
        if kind == "or":
            return _joined(self._first(parts[0]) + self._first(parts[1]))
        if kind == "then":
            chain, end = self._chain(node, self._firsts.__contains__)
            ranges = self._first(end) if end is not None else ()
            for part in reversed(chain):
                ranges = self._firsts.setdefault(part, _joined(ranges + self._first(self._nodes[part][1])))
            return ranges
        return self._first(parts[0]) if kind == "star" else ()

    def _chain(self, node: int, known: Callable[[int], bool]) -> tuple[list[int], int | None]:
        """Return a sequence's node and those of its later parts, up to the first that is not empty, and what follows.

        A list, since sequences are longer than calls may be deep. It ends before a node of which all is known; None
        follows where the last part can't be empty.
        """
        chain: list[int] = []
        while self._nodes[node][0] == "then" and not known(node):
            chain.append(node)
            _, first, second, _ = self._nodes[node]
            if not self._may_be_empty(first):
                return chain, None
            node = second
        return chain, node

    def _may_be_empty(self, node: int) -> bool:
        kind, *parts = self._nodes[node]
        if kind in ("or", "then"):
            return bool(parts[2])
        return kind in ("empty", "star")

    # --- making one ---

    def _node(self, *description: Any) -> int:
        """Return the node that is described so; one for all that are alike."""
        if description not in self._known:
            if len(self._nodes) >= MOST_NODES:
                raise self._too_large()
            self._known[description] = len(self._nodes)
            self._nodes.append(description)
        return self._known[description]

    def one_of(self, ranges: Ranges) -> int:
        """Return what matches one character of these."""
        return self._node("class", ranges)

    def then(self, first: int, second: int) -> int:
        """Return what matches the one, and behind it the other."""
        if self.empty in (first, second):
            return second if first == self.empty else first
        return self._node("then", first, second, self._may_be_empty(first) and self._may_be_empty(second))

    def either(self, first: int, second: int) -> int:
        """Return what matches the one or the other."""
        if first == second:
            return first
        return self._node("or", first, second, self._may_be_empty(first) or self._may_be_empty(second))

    def repeated(self, node: int, least: int, most: int | None) -> int:
        """Return what matches this from `least` to `most` times, or without an end."""
        if node == self.empty:
            return node
        tail = self._node("star", node) if most is None else self.empty
        for _ in range((most or least) - least):
            tail = self.either(self.then(node, tail), self.empty)
        for _ in range(least):
            tail = self.then(node, tail)
        return tail


class _Parser:
    """Reads a pattern from left to right."""

    def __init__(self, pattern: str, made: Expression) -> None:
        self.pattern, self.made, self.at, self.depth = pattern, made, 0, 0

    def all(self) -> int:
        """Read the whole pattern."""
        node = self.alternatives()
        if self.at < len(self.pattern):
            raise self.wrong("closes no group")
        return node

    def wrong(self, what: str, at: int | None = None) -> UnrolledError:
        """Return what is wrong with the character at a place, that of the next one by default."""
        at = self.at if at is None else at
        shown = repr(self.pattern[at : at + 1]) if at < len(self.pattern) else "its end"
        return UnrolledError(f"allow is {brief(self.pattern)}: {shown} at character {at + 1} {what}")

    def next(self) -> str:
        """Return the next character, none at the end."""
        return self.pattern[self.at : self.at + 1]

    def take(self, text: str) -> bool:
        """Go on behind a text, if it is what comes next."""
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def alternatives(self) -> int:
        """Read up to the end of a group."""
        nodes = [self.sequence()]
        while self.take("|"):
            nodes.append(self.sequence())
        while len(nodes) > 1:  # in pairs of pairs, which are not as deep as they are many
            pairs = zip(nodes[::2], nodes[1::2], strict=False)
            nodes = [self.made.either(*pair) for pair in pairs] + nodes[len(nodes) & ~1 :]
        return nodes[0]

    def sequence(self) -> int:
        """Read what stands one after the other."""
        parts = []
        while self.next() and self.next() not in "|)":
            parts.append(self.counted(self.atom()))
        node = self.made.empty
        for part in reversed(parts):
            node = self.made.then(part, node)
        return node

    def counted(self, node: int) -> int:
        """Read how often something may come, if that is said."""
        begin = self.at
        counts = self.counts()
        if counts is None:
            return node
        least, most = counts
        limit = MOST_EMPTY if self.made._may_be_empty(node) else MOST
        if max(least, most or 0) > limit or (most is not None and most < least):
            raise self.wrong(f"begins a repetition that is too large, or none; {limit:,} at most of this", begin)
        if self.next() and self.next() in "*+{":
            raise self.wrong("repeats a repetition")
        self.take("?")  # the shortest first: the same texts
        return self.made.repeated(node, least, most)

    def counts(self) -> tuple[int, int | None] | None:
        """Read the least and the most of a repetition; None where there is none."""
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(sign):
                return counts
        if not self.take("{"):
            return None
        inside, brace, _ = self.pattern[self.at :].partition("}")
        least, comma, most = inside.partition(",")
        numbers = [least or "0", most or "0"] if comma else [least]
        if not brace or inside == "," or not all(number.isascii() and number.isdigit() for number in numbers):
            raise self.wrong(r"begins no repetition such as {2} or {1,3}; \{ is the character", self.at - 1)
        self.at += len(inside) + 1
        if any(len(number) > 6 for number in numbers):
            raise self.wrong("ends a repetition that is too large", self.at - 1)
        return int(least or 0), int(most) if most else None if comma else int(least)

    def atom(self) -> int:
        """Read a character, a class or a group."""
        begin, character = self.at, self.next()
        if character in "*+?{":
            raise self.wrong(f"repeats nothing; \\{character} is the character")
        if character in "^$":
            raise self.wrong(f"is not needed, the whole text is matched; \\{character} is the character")
        self.at += 1
        if character == "(":
            return self.group(begin)
        if character == "[":
            return self.made.one_of(self.set(begin))
        if character == ".":
            return self.made.one_of(_opposite(((10, 10),)))
        return self.made.one_of(self.escape() if character == "\\" else _only(character))

    def group(self, begin: int) -> int:
        """Read what is in parentheses."""
        if self.next() == "?" and not self.take("?:"):
            raise self.wrong("begins what is no plain group; ( and (?: are", begin)
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong(f"begins a group within {DEEPEST} others", begin)
        node = self.alternatives()
        if not self.take(")"):
            raise self.wrong("begins a group that is not closed", begin)
        self.depth -= 1
        return node

    def set(self, begin: int) -> Ranges:
        """Read a class of characters."""
        negated, ranges = self.take("^"), list[tuple[int, int]]()
        first = True
        while first or not self.take("]"):
            first, low = False, self.member(begin)
            if self.next() == "-" and self.pattern[self.at + 1 : self.at + 2] not in ("]", ""):
                at, _ = self.at, self.take("-")
                high = self.member(begin)
                if any(part[0][0] != part[-1][1] for part in (low, high)) or low[0][0] > high[0][0]:
                    raise self.wrong("is between no two characters of which the first comes first", at)
                low = ((low[0][0], high[0][0]),)
            ranges += low
        found = _opposite(_joined(ranges)) if negated else _joined(ranges)
        if not found:
            raise self.wrong("begins a class that no character is in", begin)
        return found

    def member(self, begin: int) -> Ranges:
        """Read a character of a class."""
        character = self.next()
        if not character:
            raise self.wrong("begins a class that is not closed", begin)
        self.at += 1
        return self.escape() if character == "\\" else _only(character)

    def escape(self) -> Ranges:
        r"""Read what stands behind a backslash."""
        begin, name = self.at - 1, self.next()
        self.at += 1
        if name.lower() in _KNOWN and name:
            ranges = _ranges(name.lower())
            return ranges if name.islower() else _opposite(ranges)
        if name in _DIGITS:
            digits = self.pattern[self.at : self.at + _DIGITS[name]]
            self.at += len(digits)
            if len(digits) == _DIGITS[name] and not digits.strip("0123456789abcdefABCDEF") and int(digits, 16) <= LAST:
                return _only(chr(int(digits, 16)))
        elif name in _ESCAPES:
            return _only(_ESCAPES[name])
        elif name and not (name.isascii() and name.isalnum()):
            return _only(name)
        raise self.wrong("begins nothing that is known here", begin)


def _only(character: str) -> Ranges:
    return ((ord(character), ord(character)),)


def _holds(ranges: Ranges, point: int) -> bool:
    """Whether a code point is in one of the ranges."""
    place = bisect_right(ranges, (point, LAST + 1)) - 1
    return place >= 0 and point <= ranges[place][1]


def _joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges sorted and apart."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return tuple(found)


def _opposite(ranges: Ranges) -> Ranges:
    """Return all other code points."""
    lows = [0, *(high + 1 for _, high in ranges)]
    highs = [*(low - 1 for low, _ in ranges), LAST]
    return tuple((low, high) for low, high in zip(lows, highs, strict=True) if low <= high)


@cache
def _ranges(name: str) -> Ranges:
    """Return the characters of a class that has a name."""
    is_one = _KNOWN[name]
    return _joined((point, point) for point in range(LAST + 1) if is_one(chr(point)))
