"""Data cut into parts to train on, to validate and to test: a text at places, examples with labels by chance."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import is_number
from ..errors import UnrolledError, brief
from .batches import Tokens, as_tokens
from .text.files import walk

Rows = NDArray[np.int64]


def split(
    tokens: Sequence[int] | NDArray[Any], val_fraction: float, test_fraction: float = 0.0
) -> tuple[Tokens, Tokens, Tokens]:
    """Cut tokens (N,) into (train, val, test): contiguous views in this order, val and test rounded to whole tokens.

    Raises
    ------
    UnrolledError
        If a fraction is negative or not a number, or the two leave nothing to train on.

    Examples
    --------
    >>> [part.tolist() for part in split([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0.2, 0.1)]
    [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9]]
    """
    ids = as_tokens(tokens)
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not is_number(fraction) or not 0 <= float(fraction) < 1:
            option = f"--{name.replace('_', '-')}"
            raise UnrolledError(f"{name} is {brief(fraction)}; it must be at least 0 and below 1 ({option})")
    if val_fraction + test_fraction >= 1:
        raise UnrolledError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to train on; "
            "their sum must be below 1"
        )
    val, test = round(len(ids) * val_fraction), round(len(ids) * test_fraction)
    train = len(ids) - val - test
    return ids[:train], ids[train : train + val], ids[train + val :]


def stratified(labels: Sequence[Any], share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the numbers of rows to keep and of a share held out, drawn so that both have all classes alike.

    Examples
    --------
    >>> kept, held = stratified([0] * 6 + [1] * 3, 1 / 3, np.random.default_rng(0))
    >>> len(kept), np.array([0] * 6 + [1] * 3)[held].tolist()
    (6, [0, 0, 1])
    """
    order = _by_class(labels, rng)
    marks = np.floor(np.arange(len(order) + 1) * share + 0.5)
    held = np.diff(marks) > 0
    return np.sort(order[~held]), np.sort(order[held])


def stratified_folds(labels: Sequence[Any], folds: int, rng: np.random.Generator) -> Rows:
    """Return the number of the fold of each row, (N,), drawn so that all folds have all classes alike.

    Examples
    --------
    >>> stratified_folds([0, 0, 0, 1, 1, 1], 3, np.random.default_rng(0)).tolist()
    [1, 2, 0, 0, 2, 1]
    """
    order = _by_class(labels, rng)
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order)) % folds
    return found


def _by_class(labels: Sequence[Any], rng: np.random.Generator) -> Rows:
    """Return the numbers of rows, class by class, each class in an order that is drawn."""
    _, classes = np.unique([str(label) for label in labels], return_inverse=True)
    order = rng.permutation(len(classes))
    return order[np.argsort(classes[order], kind="stable")]


USES = {"train": "train", "val": "validate", "test": "test"}
"""What each part of the data is there for."""


def files_in(folder: str) -> list[str]:
    """Return the files of a folder that texts are read from."""
    return walk(folder, Counter())


def check_apart(
    paths: Mapping[str, Sequence[str | os.PathLike[str]]], inside: Callable[[str], list[str]] = files_in
) -> None:
    """Refuse files of which two parts of the data are read: what was trained on says nothing of what is new.

    Parameters
    ----------
    paths : dict
        Files and folders, by the parts of `USES`.
    inside : function
        Returns the files that are read of a folder.

    Raises
    ------
    UnrolledError
        If a file is named twice, or is read of a folder too; a link leads to the same file.
    """
    seen: dict[tuple[int, int] | str, tuple[str, str]] = {}
    for part, some in paths.items():
        for path in (str(path) for path in some):
            for file in (path, *inside(path)) if os.path.isdir(path) else (path,):
                use, place = f"{USES[part]} on" + ("" if file == path else f" with the folder {path}"), _identity(file)
                named, before = seen.get(place, (None, ""))
                if named is None:
                    seen[place] = path, use
                elif named != path or file == path:  # and no link within one folder
                    raise UnrolledError(f"{file} is given to {before} and again to {use}; give each file once")


def _identity(path: str) -> tuple[int, int] | str:
    """Return what two names of one file have in common; their place where the file system doesn't say."""
    if path == "-":  # standard input
        return path
    place = os.path.realpath(path)
    try:
        found = os.stat(place)
    except OSError:  # no file, which is said where it is read
        return place
    return (found.st_dev, found.st_ino) if found.st_ino else place
