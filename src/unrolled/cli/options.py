"""Flags: written from what is declared of options, in the groups of a help page; and those that no run keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import declared
from ..errors import brief
from .help import GroupedOption

F = TypeVar("F", bound=Callable[..., Any])
TYPES = {"int": int, "float": float, "str": str}


def option(group: str, *names: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    """An option in a group; its default is shown."""
    shown = kwargs.get("default") not in (None, "")
    return click.option(*names, cls=GroupedOption, group=group, help=help, show_default=shown, **kwargs)


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
            command = _flag(known[name], group)(command)
        return command

    return decorate


def _flag(field: Field[Any], group: str | None) -> Callable[[F], F]:
    about, name = declared.about(field), "--" + field.name.replace("_", "-")
    help = about.help + (f" [default: {about.unset}]" if about.unset else "")
    kind = str(field.type).removesuffix(" | None")
    more: dict[str, Any] = {"type": TYPES.get(kind, Widths())}
    if kind == "bool":
        more = {"is_flag": True}
        name += f"/--no-{name[2:]}" if field.default else ""
    if about.bare:
        more |= {"bare": about.bare, "check": about.check}
    return option(group or about.group, name, *about.also, help=help, default=field.default, **more)


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


def configured(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Let the values of a configuration stand in for the defaults."""
    if path is not None:
        from ..models.options import Options
        from ..training.configuration import read_toml

        ctx.default_map = {name: value for name, value in read_toml(path, Options).items() if value != []}
    return path


def given(ctx: click.Context) -> set[str]:
    """Names of what stands on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
