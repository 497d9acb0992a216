"""A user's own cell in files: what a file says of it, and which cell is meant where the file is read.

A file has a cell's name, the hash of what it computes, and its parameters' names and shapes; never its code. Whoever
loads the file brings the cell, and is told where that is missing or another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from ..cells import OWN, Cell, CellName, find_cell, fingerprint, name_of
from ..cells.name import LONGEST
from ..errors import UnrolledError, brief
from ..schema import each, entries, named, text, whole
from .spec import Spec

T = TypeVar("T")

ENTRY = "cell"
"""Name of what files say of a cell that is a user's own; others have none."""
STACKS = ("recurrent.", "characters.recurrent.")


class Written(NamedTuple):
    """What a file says of a user's own cell."""

    name: str
    sha256: str
    parameters: dict[str, tuple[int, ...]]

    def __str__(self) -> str:
        return f"{brief(self.name)} (a user's own, hash {self.sha256[:12]})"


_WRITTEN = entries({"name": text(LONGEST), "sha256": text(64), "parameters": named(each(whole(1), most=2))})


def entry(spec: Spec) -> dict[str, Any]:
    """Return what a file of this network says of its cell beside the description; nothing where it is a built-in.

    Raises
    ------
    UnrolledError
        If the cell can't be told by what it computes.
    """
    if not isinstance(spec.cell, CellName):
        return {}
    shapes = {name: list(shape) for name, shape in of_stacks(spec.shapes()).items()}
    return {ENTRY: {"name": str(spec.cell), "sha256": fingerprint(find_cell(spec.cell)), "parameters": shapes}}


def is_absent(spec: Spec) -> bool:
    """Whether the cell of a description is not here."""
    return isinstance(spec.cell, CellName) and spec.cell.cell is None


def of_stacks(named: Mapping[str, T]) -> dict[str, T]:
    """Return what is said of parameters that a cell's layers have, out of what is said of all."""
    return {name: said for name, said in named.items() if name.startswith(STACKS)}


def read_entry(value: Any) -> Written:
    """Return what a file says of its cell, checked."""
    said = _WRITTEN(ENTRY, value)
    return Written(said["name"], said["sha256"], {name: tuple(shape) for name, shape in said["parameters"].items()})


def meant(content: dict[str, Any], described: Mapping[str, Any], cell: str | Cell | None) -> dict[str, Any]:
    """Take the entry of the cell out of a file's content; return the description with the cell that is meant.

    Parameters
    ----------
    content : dict
        Of the file; its entry is taken out.
    described : dict
        What has the cell's name: the network's description, or a run's options.
    cell : str or Cell, optional
        What the caller hands in.

    Raises
    ------
    UnrolledError
        If another cell is handed in than the file's. (Where none is, whoever looks for it is told.)
    """
    name = described.get("cell")
    if ENTRY not in content:
        if cell is not None and name_of(cell) != name:
            raise UnrolledError(
                f"its cell is {brief(name)}, a built-in, not {brief(name_of(cell))}; leave the cell out"
            )
        return dict(described)
    written = read_entry(content.pop(ENTRY))
    if written.name != name:
        raise UnrolledError(f"it tells of the cell {brief(written.name)}, its description of {brief(name)}")
    found = OWN.get(written.name) if cell is None else find_cell(cell)
    if found is None:
        return dict(described) | {"cell": CellName.absent(written.name, _missing(written))}
    if found.name != written.name or fingerprint(found) != written.sha256:
        its = f"{brief(found.name)} (hash {fingerprint(found)[:12]})"
        what = "computes something else" if found.name == written.name else "is another one"
        raise UnrolledError(f"its cell is {written}; {its} {what}: hand in the one that it was trained with")
    return dict(described) | {"cell": name_of(found if cell is None else cell)}


def _missing(written: Written) -> str:
    """Return what is said where the cell is not here."""
    return (
        f"its cell is {written}, and a file holds no code: hand the cell in, as --cell FILE.py:NAME on the command "
        f"line, as load(path, cell=...) in Python, or registered there before (unrolled.cells.register)"
    )
