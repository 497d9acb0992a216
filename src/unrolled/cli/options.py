"""Flags: written from what is declared of options, in the groups of a help page; and those that no run keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import declared
from ..errors import UnrolledError, brief, printable, suggest
from ..models import files
from ..models.tasks import LANGUAGE, options_of
from ..training import configuration
from ..training import run_folder as run
from ..training.checkpoints import Kind
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
            command = _flag(known[name], group, _help(known[name]))(command)
        return command

    return decorate


def flags_of_kinds(*, ahead: Sequence[str] = ()) -> Callable[[F], F]:
    """The options of all kinds of models, each once; the help says where kinds mean or begin with something else."""
    fields: dict[str, dict[str, Field[Any]]] = {}
    for task, kind in files.kinds().items():
        for name, field in options_of(kind).items():
            fields.setdefault(name, {})[task] = field
    order = sorted(fields, key=lambda name: ahead.index(name) if name in ahead else len(ahead))

    def decorate(command: F) -> F:
        for name in reversed(order):
            command = _flag_of_kinds(fields[name])(command)
        return command

    return decorate


def _flag_of_kinds(fields: Mapping[str, Field[Any]]) -> Callable[[F], F]:
    """Return what declares an option, which some kinds of models have, by their tasks, as a flag."""
    first = next(iter(fields.values()))
    usual, said = declared.about(first).help, [declared.about(first).help]
    if LANGUAGE not in fields and len(files.KINDS) > 1:
        said = [f"{', '.join(fields)}: {usual}"]
    said += [f"{task}: {theirs.help}" for task, f in fields.items() if (theirs := declared.about(f)).help != usual]
    begins = {task: _default(field) for task, field in fields.items()}
    others = [f"{task} {begin or 'none'}" for task, begin in begins.items() if begin != _default(first)]
    defaults = "; ".join([_default(first)] * bool(_default(first)) + others)
    on = any(field.default is True for field in fields.values())
    return _flag(first, None, " ".join(said) + (f"  [default: {defaults}]" if defaults else ""), off=on)


def _help(field: Field[Any]) -> str:
    return declared.about(field).help + (f"  [default: {_default(field)}]" if _default(field) else "")


def _default(field: Field[Any]) -> str:
    """Return what an option is where it is not given, as a help page has it; nothing of a flag that is off."""
    if field.default in (None, ""):
        return declared.about(field).unset
    if isinstance(field.default, bool):
        return "on" if field.default else ""
    return str(field.default)


def _flag(field: Field[Any], group: str | None, help: str, *, off: bool = False) -> Callable[[F], F]:
    """Return what declares a flag; one that is `off` where a kind of model begins with it on has a --no- too."""
    about, name = declared.about(field), "--" + field.name.replace("_", "-")
    kind = str(field.type).removesuffix(" | None")
    more: dict[str, Any] = {"type": TYPES.get(kind, Widths())}
    if kind == "bool":
        more = {"is_flag": True}
        name += f"/--no-{name[2:]}" if field.default or off else ""
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


def configured(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Let the values of a configuration stand in for the defaults."""
    if path is not None:
        ctx.default_map = {name: value for name, value in read_options(path)[1].items() if value != []}
    return path


def read_options(path: Path) -> tuple[Kind, dict[str, Any]]:
    """Read a configuration: the kind of model that it is for, and options."""
    task, known = configuration.read_task(path), files.kinds()
    if task is not None and task not in known:
        raise UnrolledError(f"{path}: {suggest('task', task, list(known))}")
    kind = known[task or LANGUAGE]
    return kind, configuration.read_toml(path, kind.options, *([kind.reading] if kind.reading else []))


def flag_of(name: str) -> str:
    """Return the flag of an option as it stands on the command line."""
    ctx = click.get_current_context()
    param = next(param for param in ctx.command.params if param.name == name)
    off = param.secondary_opts and ctx.params[name] is False
    return (param.secondary_opts if off else param.opts)[0]


def check_out(out: Path, *read: str | os.PathLike[str]) -> None:
    """Refuse to write over what is read, or over a run's files."""
    there, whole = os.path.exists(out), out.resolve()
    same = [path for path in read if there and whole.is_relative_to(Path(path).resolve())]  # a folder's files too
    if same or (out.name in run.FILES and len(run.holds(out.parent)) > 1):
        what = "is read here" if same else "is a file of a run"
        raise UnrolledError(f"--out would write over {printable(str(out))}, which {what}; choose another name")


def given(ctx: click.Context) -> set[str]:
    """Names of what stands on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}
