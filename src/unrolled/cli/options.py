"""Flags: written from what is declared of options, in the groups of a help page; and those that no run keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import declared
from ..errors import UnrolledError, brief, check_path, printable
from .help import GroupedOption
from .own_cell import OwnCell

F = TypeVar("F", bound=Callable[..., Any])
TYPES: dict[str, Any] = {"int": int, "float": float, "str": str, "str | Cell": OwnCell()}


def option(group: str, *names: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    """An option in a group; its default is shown."""
    shown = kwargs.get("default") not in (None, "")
    return click.option(*names, cls=GroupedOption, group=group, help=help, show_default=shown, **kwargs)


def cell_option(help: str = "The model's cell, where it is your own.") -> Callable[[F], F]:
    """The option of a command that loads a model: the cell that the model's file names and does not hold."""
    return option("Options", "--cell", type=OwnCell(), metavar="FILE.py:NAME", help=help)


def weights_option() -> Callable[[F], F]:
    """The option of a command that runs a model: the form of its weights."""
    said = "Round them to bfloat16, or to int8 with a scale a row. [default: as the file has them]"
    return option("Options", "--weights", metavar="FORM", help=said)


def flags(cls: type, *, ahead: Sequence[str] = (), group: str | None = None) -> Callable[[F], F]:
    """The options that a class declares, as flags in the order of their declaration.

    Parameters
    ----------
    cls : type
    ahead : list of str, optional
        Options that stand before the others.
    group : str, optional
        Where all of them stand in the help, instead of each where it is declared.
    """
    known = declared.options(cls)
    order = sorted(known, key=lambda name: ahead.index(name) if name in ahead else len(ahead))

    def decorate(command: F) -> F:
        for name in reversed(order):
            command = flag(known[name], group, _help(known[name]))(command)
        return command

    return decorate


def _help(field: Field[Any]) -> str:
    return declared.about(field).help + (f"  [default: {default_of(field)}]" if default_of(field) else "")


def default_of(field: Field[Any]) -> str:
    """Return what an option is where it is not given, as a help page has it; nothing of a flag that is off."""
    if field.default in (None, "", ()):
        return declared.about(field).unset
    if isinstance(field.default, bool):
        return "on" if field.default else ""
    return str(field.default)


def flag(field: Field[Any], group: str | None, help: str, *, off: bool = False) -> Callable[[F], F]:
    """Return what declares a flag; one that is `off` where a kind of model begins with it on has a --no- too."""
    about, name = declared.about(field), "--" + field.name.replace("_", "-")
    kind = str(field.type).removesuffix(" | None")
    more: dict[str, Any] = {"type": TYPES.get(kind, Widths())}
    if kind == "bool":
        more = {"is_flag": True}
        name += f"/--no-{name[2:]}" if field.default or off else ""
    if kind == "tuple[str, ...]":
        more = {"type": str, "multiple": True}
    if about.bare:
        more |= {"bare": about.bare, "check": about.check}
    more |= {"cls": GroupedOption, "group": group or about.group}
    return click.option(name, *about.also, help=help, default=field.default, **more)


class Widths(click.ParamType):  # type: ignore[type-arg]
    """A width, or one a layer with commas between."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        """Return an int, or a tuple of them."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{brief(value)} is no whole number, nor several with commas between", param, ctx)
        return widths if len(widths) > 1 else widths[0]


def flag_of(name: str) -> str:
    """Return the flag of an option as it stands on the command line."""
    ctx = click.get_current_context()
    param = next(param for param in ctx.command.params if param.name == name)
    off = param.secondary_opts and ctx.params[name] is False
    return (param.secondary_opts if off else param.opts)[0]


def check_out(out: Path, *read: str | os.PathLike[str], flag: str = "--out") -> None:
    """Refuse to write over what is read, or over a run's files."""
    from ..training import run_folder as run

    try:
        there, whole = os.path.exists(out), out.resolve()
    except (OSError, RuntimeError):  # of a loop of links, in Python before 3.13
        raise UnrolledError(f"{flag} is {printable(str(out))}, which is a link that leads nowhere") from None
    same = [path for path in read if there and whole.is_relative_to(Path(path).resolve())]  # a folder's files too
    if same or (out.name in run.FILES and len(run.holds(out.parent)) > 1):
        what = "is read here" if same else "is a file of a run"
        raise UnrolledError(f"{flag} would write over {printable(str(out))}, which {what}; choose another name")


def sources(files: Sequence[str]) -> list[Path] | None:
    """Return files to read as paths, None where none is named; an empty name is no name of this folder."""
    named = [check_path("a file to read", file) for file in files]
    return [Path(file if file == "-" or str(Path(file)) != "-" else os.path.abspath(file)) for file in named] or None


def given(ctx: click.Context) -> set[str]:
    """Names of what stands on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
