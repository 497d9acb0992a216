"""Schemas of files, as data: kinds, ranges and lengths of JSON's values, checked at one place before any is used.

A checksum finds accidents. Whoever writes a file on purpose writes a checksum that is right; so nothing that a file
says is used before it went through one of these.

Examples
--------
>>> point = entries({"name": text(), "at": each(whole(most=9), exactly=2), "weight": maybe(number(0))})
>>> point("point", {"name": "a", "at": [3, 4], "weight": None})
{'name': 'a', 'at': [3, 4], 'weight': None}
>>> point("point", {"name": "a", "at": [3, 4.5], "weight": 1})
Traceback (most recent call last):
    ...
unrolled.errors.UnrolledError: point.at[1] is 4.5; expected a whole number from 0 to 9
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from .checks import is_number
from .errors import UnrolledError, brief

Kind = Callable[[str, Any], Any]
"""Takes a value and what it is called; returns the value, or says what is wrong with it."""

LARGEST = 2**53
"""Largest whole number where no other is named: what any JSON reader keeps exactly."""


def whole(least: int = 0, most: int = LARGEST) -> Kind:
    """Return the kind of whole numbers in a range."""
    return _kind(f"a whole number from {least:,} to {most:,}", lambda v: type(v) is int and least <= v <= most)


def number(least: float = -math.inf, most: float = math.inf) -> Kind:
    """Return the kind of finite numbers in a range, as floats."""
    above = f", {least:g} or more" if math.isfinite(least) else ""
    words = "a finite number" + (f" from {least:g} to {most:g}" if above and math.isfinite(most) else above)
    fits = _kind(words, lambda v: type(v) in (int, float) and is_number(v) and least <= v <= most)
    return lambda name, value: float(fits(name, value))


def text(most: int = LARGEST) -> Kind:
    """Return the kind of texts of bounded length."""
    words = "a text" + (f" of at most {most:,} characters" if most < LARGEST else "")
    return _kind(words, lambda v: isinstance(v, str) and len(v) <= most)


def flag() -> Kind:
    """Return the kind of truth values."""
    return _kind("true or false", lambda v: isinstance(v, bool))


def one_of(values: Collection[Any]) -> Kind:
    """Return the kind of a few values: texts, or whole numbers."""
    words = f"one of {', '.join(map(repr, dict.fromkeys(values)))}"
    return _kind(words, lambda v: type(v) in (str, int) and v in values)


def maybe(kind: Kind) -> Kind:
    """Return a kind that may also be nothing (null)."""
    return lambda name, value: None if value is None else kind(name, value)


def either(first: Kind, second: Kind) -> Kind:
    """Return the kind of values that are of one kind or of another, which says what is wrong with others.

    Examples
    --------
    >>> yes_or_some = either(flag(), whole(most=9))
    >>> yes_or_some("many", True), yes_or_some("many", 3)
    (True, 3)
    """

    def take(name: str, value: Any) -> Any:
        try:
            return first(name, value)
        except UnrolledError:
            return second(name, value)

    return take


def each(kind: Kind, exactly: int | None = None, most: int = LARGEST) -> Kind:
    """Return the kind of lists whose items are all of a kind, and whose length is bounded."""
    words = "a list" + (f" of {exactly}" if exactly is not None else f" of at most {most:,}" if most < LARGEST else "")
    fits = _kind(words, lambda v: isinstance(v, list) and (len(v) <= most if exactly is None else len(v) == exactly))
    return lambda name, value: [kind(f"{name}[{k}]", item) for k, item in enumerate(fits(name, value))]


def entries(kinds: Mapping[str, Kind], optional: Collection[str] = ()) -> Kind:
    """Return the kind of objects that have exactly these entries, some of which may be missing.

    Entries are called by the object's name and their own; those of a whole file, which has the name "", by their own.
    """

    def take(name: str, value: Any) -> dict[str, Any]:
        for key in objects(name, value):
            if key not in kinds:
                raise UnrolledError(f"{name or 'the description'} has an unknown entry, {brief(key)}")
        for key in kinds:
            if key not in value and key not in optional:
                raise UnrolledError(f"{name or 'the description'} has no entry {key}")
        return {key: kinds[key](f"{name}.{key}" if name else key, value[key]) for key in value}

    return take


def named(kind: Kind) -> Kind:
    """Return the kind of objects of any names whose values are all of a kind.

    Examples
    --------
    >>> named(number(0))("metrics", {"accuracy": 1})
    {'accuracy': 1.0}
    """
    return lambda name, value: {key: kind(f"{name}.{brief(key)}", v) for key, v in objects(name, value).items()}


def _kind(words: str, fits: Callable[[Any], bool]) -> Kind:
    def take(name: str, value: Any) -> Any:
        if not fits(value):
            raise UnrolledError(f"{name} is {brief(value)}; expected {words}")
        return value

    return take


objects: Kind = _kind("an object with entries", lambda v: isinstance(v, dict))
"""The kind of objects whose entries are checked elsewhere."""
