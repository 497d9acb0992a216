"""What a run was trained on, read again from its files: a model holds no text."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..cells import Cell
from ..data.batches import Lanes
from ..data.text import Reading, Vocabulary, encode, read
from ..declared import options
from ..errors import UnrolledError
from ..training import checkpoints
from ..training.configuration import read_toml
from ..training.run_folder import CONFIG
from ..training.trainer import CHECKPOINT, LAST, MODEL
from . import files
from .base import Prepared
from .options import Options


def documents_of_run(path: str | os.PathLike[str], vocabulary: Vocabulary, cell: str | Cell | None = None) -> set[str]:
    """Return the documents of one line each in the files of a run, as its model would write them.

    Parameters
    ----------
    path : path
        The run's folder, or a model in it.
    vocabulary : Vocabulary
        The model's.
    cell : Cell or str, optional
        The run's cell, where it is a user's own.

    Raises
    ------
    UnrolledError
        If they can't be known: there is no run beside the model, its text was no file, or is not there any more, or
        another one.
    """
    file = files.model_file(path)
    config = file.parent / CONFIG
    if not config.is_file():
        raise UnrolledError(f"{config} is not there, which says what the model was trained on")
    values = read_toml(config, Options, Reading)
    if not values.get("files"):
        raise UnrolledError(f"what {config.parent} was trained on was no file")
    if "-" in values["files"]:
        raise UnrolledError(f"what {config.parent} was trained on came through a pipe")
    if is_of_run(file):
        run_again(file.parent, cell)  # which refuses another text than the run's
    how = {name: values[name] for name in options(Reading) if name in values}
    text = vocabulary.decode(encode(read(values["files"], vocabulary.level, **how), vocabulary).tokens)
    return {line.rstrip() for line in text.split("\n")} - {""}


def is_of_run(file: Path) -> bool:
    """Whether a model's file is a run's, in its folder."""
    return file.name in (MODEL, LAST) and os.path.exists(file.parent / CHECKPOINT)


def run_again(folder: Path, cell: str | Cell | None = None) -> tuple[Prepared, checkpoints.Reopened]:
    """Return a run with its data read once more, which must be the same, and its checkpoint."""
    kind = files.kind_named(checkpoints.kind_of(folder))
    before = checkpoints.reopen(folder, kind, cell)
    return kind.model._again(None, before.options, folder, "auto", before), before


def training_part(file: Path, vocabulary: Vocabulary, cell: str | Cell | None = None) -> Lanes:
    """Return what a language model's run trained on, read again.

    Raises
    ------
    UnrolledError
        If it can't be known: there is no run beside the model, or its text is not there any more, or another one.
    """
    if not is_of_run(file):
        model = "the built-in model" if files.is_built_in(file) else file
        raise UnrolledError(f"{model} has no run beside it whose text could be counted")
    prepared, before = run_again(file.parent, cell)
    if replace(before.codec["vocabulary"], documents=False) != replace(vocabulary, documents=False):
        raise UnrolledError(f"{file} has another vocabulary than the run beside it")
    assert isinstance(prepared.train, Lanes)
    return prepared.train
