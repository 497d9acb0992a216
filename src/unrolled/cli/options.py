"""How options are declared to click: in groups, with the defaults of a run; and those that several verbs have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..errors import brief
from ..options import Options
from .help import GroupedOption

F = TypeVar("F", bound=Callable[..., Any])
DEFAULTS = Options()


def option(group: str, *names: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    """An option in a group; its default is shown, and is that of `Options`."""
    field = next(name for name in names if name.startswith("--"))[2:].replace("-", "_")
    if hasattr(DEFAULTS, field):
        kwargs.setdefault("default", getattr(DEFAULTS, field))
        kwargs.setdefault("type", None if kwargs["default"] is None else type(kwargs["default"]))
    shown = kwargs.get("default") is not None
    return click.option(*names, cls=GroupedOption, group=group, help=help, show_default=shown, **kwargs)


HOW_TO_READ = ("keep_gutenberg", "json_field", "column", "skip_null", "documents")


def how_to_read(group: str) -> Callable[[F], F]:
    """Options of `unrolled.data.text.read`."""
    options = [
        option(group, "--keep-gutenberg", is_flag=True, help="Leave Project Gutenberg's header and footer in."),
        option(group, "--json-field", default="", help="Files are JSON lines; the text is this field of each."),
        option(
            group, "--column", default="", help="Files are tables (CSV, TSV); the text is this column: name or number."
        ),
        option(group, "--skip-null", is_flag=True, help="Leave out lines and rows that have no text there."),
        option(group, "--documents", is_flag=True, help="Start each file, JSON line or row from zero state."),
    ]

    def decorate(command: F) -> F:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


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
        from ..run import read_toml

        ctx.default_map = {name: value for name, value in read_toml(path).items() if value != []}
    return path


def given(ctx: click.Context) -> set[str]:
    """Names of what stands on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
