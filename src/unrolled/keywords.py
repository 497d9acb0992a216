"""Functions that hand keywords on: their signatures say which, so that help and completion know them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

from .errors import UnrolledError, suggest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


ELSEWHERE = {
    "val_file": "val=Path(...)",
    "test_file": "test=Path(...)",
    "threads": "unrolled.backends.set_threads(n)",
}
"""Options of the command line alone, and what stands for them in Python."""


def named(keywords: Iterable[inspect.Parameter]) -> Callable[[F], F]:
    """Show keywords by their names and defaults in the signature of a function that takes them as `**options`.

    Examples
    --------
    >>> @named([keyword("rate", 0.5), keyword("steps", 3)])
    ... def fit(text, **options): ...
    >>> print(inspect.signature(fit))
    (text, *, rate=0.5, steps=3)
    """

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        function.__signature__ = signature.replace(parameters=[*own, *keywords])  # type: ignore[attr-defined]
        return function

    return show


def suggesting(cls: type[T]) -> type[T]:
    """Let a dataclass name the nearest field where it is made with a keyword that it does not have.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @suggesting
    ... @dataclass
    ... class Point:
    ...     left: int = 0
    >>> Point(lift=3)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: no option is called 'lift'; did you mean 'left'? Known: left
    """
    make, known = cls.__init__, list(inspect.signature(cls).parameters)

    @wraps(make)
    def init(self: T, *values: Any, **given: Any) -> None:
        for name in given:
            if name in ELSEWHERE:
                raise UnrolledError(f"no option is called {name!r}; from Python it is {ELSEWHERE[name]}")
            if name not in known:
                raise UnrolledError(suggest("option", name, known))
        make(self, *values, **given)

    cls.__init__ = init  # type: ignore[assignment]
    return cls


def keyword(name: str, default: Any, annotation: Any = inspect.Parameter.empty) -> inspect.Parameter:
    """Return a parameter that is given by its name."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def names_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of what a method takes, by position or by name.

    Examples
    --------
    >>> class Point:
    ...     def move(self, left, *, up=0, **rest): ...
    >>> names_of(Point.move)
    ['left', 'up']
    """
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in [*inspect.signature(function).parameters.values()][1:] if p.kind not in several]


def keywords_of(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a function that are given by their names alone."""
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
