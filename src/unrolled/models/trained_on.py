"""The documents that a run was trained on, read again from its files: a model holds no text."""

from __future__ import annotations

import os
from pathlib import Path

from ..data.text import Reading, Vocabulary, encode, read
from ..declared import options
from ..errors import UnrolledError, check_path
from ..training.configuration import read_toml
from ..training.run_folder import CONFIG
from .options import Options


def documents_of_run(path: str | os.PathLike[str], vocabulary: Vocabulary) -> set[str]:
    """Return the documents of one line each in the files of a run, as its model would write them.

    Parameters
    ----------
    path : path
        The run's folder, or a model in it.
    vocabulary : Vocabulary
        The model's.

    Raises
    ------
    UnrolledError
        If they can't be known: there is no run beside the model, its text was no file, or is not there any more.
    """
    given = Path(check_path("the path of a model", path))
    config = (given if given.is_dir() else given.parent) / CONFIG
    if not config.is_file():
        raise UnrolledError(f"{config} is not there, which says what the model was trained on")
    values = read_toml(config, Options, Reading)
    if not values.get("files"):
        raise UnrolledError(f"what {config.parent} was trained on was no file")
    if "-" in values["files"]:
        raise UnrolledError(f"what {config.parent} was trained on came through a pipe")
    how = {name: values[name] for name in options(Reading) if name in values}
    text = vocabulary.decode(encode(read(values["files"], vocabulary.level, **how), vocabulary).tokens)
    return {line.rstrip() for line in text.split("\n")} - {""}
