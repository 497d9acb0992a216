"""Options that are declared once: fields of a dataclass with what else there is to know of each.

Checks, signatures, the command's flags, a run's configuration and docs/options.md are made of the declarations. (Types
are read as texts: `from __future__ import annotations`.)
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Container, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from typing import Any, TypeVar

from .checks import as_kind
from .errors import UnrolledError, suggest
from .keywords import keyword

Check = Callable[[str, Any], Any]
"""Of an option's name and value -> the value to keep; refuses one that makes no sense, whatever the others are."""
F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
TAB = "    "


@dataclass(frozen=True)
class About:
    """The declaration of an option beside its type and its default.

    Attributes
    ----------
    help : str
        Line of the command's help.
    group : str
        Section of the command's help.
    check : callable, optional
    unset : str
        What a default of None stands for.
    also : tuple of str
        Other names of its flag.
    anew : bool
        Whether a run that goes on may be given it anew: whether its state does not depend on it.
    about : str
        What it does, where a line of help is too short for that.
    source : str
        Where it comes from.
    around : bool
        Whether it is about what stands around a stack of layers.
    bare : str
        What its flag stands for where it is given without a value.
    """

    help: str
    group: str
    check: Check | None = None
    unset: str = ""
    also: tuple[str, ...] = ()
    anew: bool = False
    about: str = ""
    source: str = ""
    around: bool = False
    bare: str = ""


def option(default: Any, help: str, group: str, check: Check | None = None, **more: Any) -> Any:
    """Return a field of a dataclass that declares an option; `more` as `About` has it."""
    return field(default=default, metadata={"about": About(help, group, check, **more)})


def again(cls: type, name: str, default: Any, **more: Any) -> Any:
    """Return a field that declares an option of a class again, with another default, and what else is other."""
    return field(default=default, metadata={"about": replace(about(options(cls)[name]), **more)})


def same(cls: type, name: str, **more: Any) -> Any:
    """Return a field that declares an option of a class again, with the default that it has there, as `again` else."""
    return again(cls, name, options(cls)[name].default, **more)


def about(declared: Field[Any]) -> About:
    """Return what is declared of an option."""
    found: About = declared.metadata["about"]
    return found


def options(cls: type) -> dict[str, Field[Any]]:
    """Return the options that a class declares, by their names, in order.

    Examples
    --------
    >>> @dataclass
    ... class Point(Declared):
    ...     left: int = option(0, "Steps to the left.", "Place")
    >>> [about(declared).help for declared in options(Point).values()]
    ['Steps to the left.']
    """
    return {f.name: f for f in fields(cls) if "about" in f.metadata}


def anew(cls: type) -> tuple[str, ...]:
    """Return the options that a run which goes on may be given anew, by their names, in order."""
    return tuple(name for name, declared in options(cls).items() if about(declared).anew)


def check_option(declared: Field[Any], value: object) -> Any:
    """Return an option's value as Python's own and as its check has it, or say why it can't be one."""
    value, check = as_kind(declared.name, value, str(declared.type)), about(declared).check
    return value if value is None or check is None else check(declared.name, value)


def check_plain(declared: Field[Any], value: object) -> Any:
    """As `check_option`, where an option has a check, by that alone: any kind of value that it takes will do."""
    check = about(declared).check
    if check is None or (value is None and declared.default is None):
        return as_kind(declared.name, value, str(declared.type))
    return check(declared.name, value)


class Declared:
    """A frozen dataclass of options, each checked by itself when it is made."""

    def __post_init__(self) -> None:
        for name, declared in options(type(self)).items():
            object.__setattr__(self, name, check_option(declared, getattr(self, name)))


def one_of(kind: str, known: Sequence[str], hint: str = "") -> Check:
    """Return a check that a name is known."""

    def check(name: str, value: Any) -> Any:
        if value not in known:
            raise UnrolledError(suggest(kind, value, list(known)) + hint)
        return value

    return check


def keywords(cls: type) -> list[inspect.Parameter]:
    """Return the options as a signature shows them."""
    return [keyword(name, declared.default, declared.type) for name, declared in options(cls).items()]


@cache
def _lines(declared: Field[Any]) -> list[str]:
    """Return what a docstring says of an option, in lines."""
    known = about(declared)
    text = (known.about or known.help) + (f" Default: {known.unset}." if known.unset else "")
    return [f"{declared.name} : {declared.type}", *textwrap.wrap(text, 96, initial_indent=TAB, subsequent_indent=TAB)]


def described(cls: type, names: Container[str] | None = None) -> Callable[[F], F]:
    """Describe options in the docstring of a function that takes them, below what it says of `**options`.

    Parameters
    ----------
    cls : type
        Declares them.
    names : list of str, optional
        Those that the function takes; all by default.
    """
    said = [line for name, f in options(cls).items() if names is None or name in names for line in _lines(f)]

    def describe(function: F) -> F:
        head, mark, tail = (function.__doc__ or "").partition("**options\n")
        own, blank, rest = tail.partition("\n\n")
        indent = head[len(head.rstrip(" ")) :] + TAB
        lines = [own, ""] if own.strip() else []
        function.__doc__ = head + mark + "\n".join([*lines, *(indent + line for line in said)]) + blank + rest
        return function

    return describe


def documented(cls: type[T]) -> type[T]:
    """Let a dataclass describe its own options, as `described` does."""
    return described(cls)(cls)
