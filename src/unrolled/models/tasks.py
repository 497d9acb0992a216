"""Which kind of model is meant: seen from files and options, unless it is said."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

from .. import declared
from ..data.text.packed import beginning, plain_name
from ..errors import UnrolledError, brief, suggest
from ..training.checkpoints import Kind
from . import files

LANGUAGE = "language"
"""The task where nothing says another one."""


def kind_for(paths: Sequence[str | os.PathLike[str]], asked: Collection[str] = (), task: str | None = None) -> Kind:
    """Return the kind of model that is meant.

    A task that is named decides; then the endings of files and how they begin; then an option that only one kind has.

    Parameters
    ----------
    paths : list of paths
        What it is to learn from.
    asked : collection of str
        Names of the options that are asked for.
    task : str, optional

    Raises
    ------
    UnrolledError
        If the task is unknown, files are of several kinds, or an option is none of the kind's.

    Examples
    --------
    >>> kind_for(["en_ewt-ud-train.conllu"]).name, kind_for(["book.txt"]).name
    ('tagger', 'language model')
    """
    kinds = files.kinds()
    if task is None:
        task = _of_paths(paths, kinds) or _of_options(asked, kinds) or LANGUAGE
    elif not isinstance(task, str) or task not in kinds:
        raise UnrolledError(suggest("task", task, list(kinds)))
    kind = kinds[task]
    if odd := sorted(set(asked) - options_of(kind).keys()):
        theirs = " and ".join(other for other in kinds if odd[0] in options_of(kinds[other]))
        flag = f"--{odd[0].replace('_', '-')}"
        raise UnrolledError(f"{flag} is an option of {theirs}; this trains {kind.noun} (--task says what is trained)")
    return kind


def options_of(kind: Kind) -> dict[str, Field[Any]]:
    """Return the options of a kind of model, those about reading files too."""
    return (declared.options(kind.reading) if kind.reading else {}) | declared.options(kind.options)


def _of_paths(paths: Sequence[str | os.PathLike[str]], kinds: dict[str, Kind]) -> str | None:
    """Return the task that all files say by their names' endings; None where one says none."""
    found = {}
    for path in [os.fspath(path) for path in paths]:
        ending = Path(plain_name(path)).suffix.lower()
        task = next((task for task, kind in kinds.items() if ending in kind.endings), None)
        found[task or _of_beginning(path, kinds)] = path
    if len(found) > 1:
        (first, one), (second, other) = list(found.items())[:2]
        said = " and ".join(
            f"{brief(path)} is for {'any task' if task is None else task}"
            for task, path in ((first, one), (second, other))
        )
        raise UnrolledError(f"the files are of several kinds: {said}; give those of one kind, or say which (--task)")
    return next(iter(found), None)


def _of_beginning(path: str, kinds: dict[str, Kind]) -> str | None:
    """Return the task that a file says by how it begins; None where it says none, or is no file that can be read."""
    head = beginning(path)
    return next((task for task, kind in kinds.items() if kind.begins and head.startswith(kind.begins.encode())), None)


def _of_options(asked: Collection[str], kinds: dict[str, Kind]) -> str | None:
    """Return the task whose kind alone has an option that is asked for."""
    for name in sorted(asked):
        having = [task for task, kind in kinds.items() if name in options_of(kind)]
        if len(having) == 1:
            return having[0]
    return None
