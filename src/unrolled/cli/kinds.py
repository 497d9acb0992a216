"""Flags of all kinds of models together, and configurations of any: what `train` and `compare` alone wait for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

from .. import declared
from ..errors import UnrolledError, check_path, suggest
from ..models import files
from ..models.tasks import LANGUAGE, options_of
from ..training import configuration
from ..training.checkpoints import Kind
from .options import F, default_of, flag

Begins = Callable[[str, str, str], str]
"""Of a task, an option's name and its default as a help page has it -> what the option is where it is not given."""


def flags_of_kinds(*, begins: Begins, ahead: Sequence[str] = (), without: Collection[str] = ()) -> Callable[[F], F]:
    """The options of all kinds of models, each once; the help says where kinds mean or begin with something else."""
    fields: dict[str, dict[str, Field[Any]]] = {}
    for task, kind in files.kinds().items():
        for name, field in options_of(kind).items():
            if name not in without:
                fields.setdefault(name, {})[task] = field
    order = sorted(fields, key=lambda name: ahead.index(name) if name in ahead else len(ahead))

    def decorate(command: F) -> F:
        for name in reversed(order):
            command = _flag_of_kinds(fields[name], begins)(command)
        return command

    return decorate


def _flag_of_kinds(fields: Mapping[str, Field[Any]], begins: Begins) -> Callable[[F], F]:
    """Return what declares an option, which some kinds of models have, by their tasks, as a flag."""
    first = next(iter(fields.values()))
    usual, said = declared.about(first).help, [declared.about(first).help]
    if LANGUAGE not in fields and len(files.KINDS) > 1:
        said = [f"{', '.join(fields)}: {usual}"]
    said += [f"{task}: {theirs.help}" for task, f in fields.items() if (theirs := declared.about(f)).help != usual]
    begin = {task: begins(task, field.name, default_of(field)) for task, field in fields.items()}
    usual, alike = next(iter(begin.values())), len({default_of(field) for field in fields.values()}) == 1
    others = [f"{task} {theirs or 'none'}" for task, theirs in begin.items() if theirs != usual and not alike]
    defaults = "; ".join([usual] * bool(usual) + others)
    on = any(field.default is True or begin[task] != default_of(field) for task, field in fields.items())
    return flag(first, None, " ".join(said) + (f"  [default: {defaults}]" if defaults else ""), off=on)


def configured(ctx: click.Context, param: click.Parameter, path: str | None) -> Path | None:
    """Let the values of a configuration stand in for the defaults, and its task for the one that is meant."""
    if path is None:
        return None
    file = Path(check_path("--config", path))
    kind, options = read_options(file)
    ctx.default_map = {name: value for name, value in options.items() if value != []}
    ctx.meta["task"] = kind.task
    return file


def read_options(path: Path) -> tuple[Kind, dict[str, Any]]:
    """Read a configuration: the kind of model that it is for, and options."""
    task, known = configuration.read_task(path), files.kinds()
    if task is not None and task not in known:
        raise UnrolledError(f"{path}: {suggest('task', task, list(known))}")
    kind = known[task or LANGUAGE]
    return kind, configuration.read_toml(path, kind.options, *([kind.reading] if kind.reading else []))
