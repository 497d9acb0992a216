"""`--cell my_cell.py:NAME`: a user's own cell, out of their own file, which is run because they ask for it here.

Nothing else runs a file: no model, no checkpoint and no configuration, whatever they name.
"""

from __future__ import annotations

import ast
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from ..cells import Cell, CellName, name_of
from ..errors import UnrolledError, brief, check_path, one_line, raised, said_by, suggest
from ..storage import read_file


class OwnCell(click.ParamType):  # type: ignore[type-arg]
    """A cell's name; or `my_cell.py:NAME`, which becomes a name that has its cell with it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        own = isinstance(value, str) and not isinstance(value, CellName) and is_file(value)
        return name_of(load_cell(value), value) if own else value


def is_file(text: str) -> bool:
    """Whether a text means a cell in a file.

    Examples
    --------
    >>> is_file("my_cell.py:MUT1"), is_file("my_cell.py"), is_file("lstm")
    (True, True, False)
    """
    return ":" in text or text.endswith(".py")


def load_cell(text: str) -> Cell:
    """Run a user's file and return the cell that is called so in it.

    Parameters
    ----------
    text : str
        "my_cell.py:NAME"

    Raises
    ------
    UnrolledError
        With the file, and the line where there is one: it can't be read, is no Python, raises something, or has no such
        cell.
    """
    path, name = _parted(text)
    path = check_path("the file of a cell", path)
    source = read_file(Path(path), "file of a cell")
    held = vars(_run(path, source))
    known = [key for key, value in held.items() if isinstance(value, Cell)]
    if not known and name not in held:
        raise UnrolledError(f"{path} holds no cell; write {name or 'NAME'} = Cell(...) in it")
    if not name:
        raise UnrolledError(f"{brief(text)} names no cell; write {path}:{known[0] if known else 'NAME'}")
    if name not in held:
        raise UnrolledError(f"{path}: {suggest('cell', name, known)}")
    found = held[name]
    if not isinstance(found, Cell):
        raise UnrolledError(f"{path}, line {_line_of(name, source)}: {name} is {brief(found)}; expected a Cell")
    return found


def files_of(cell: str | None) -> list[str]:
    """Return the file that a cell came from; none, where it was named by its name alone."""
    given = cell.given if isinstance(cell, CellName) else ""
    return [_parted(given)[0]] if is_file(given) else []


def _parted(text: str) -> tuple[str, str]:
    """Return a file and the cell's name in it, "" where none is named."""
    path, _, name = ("", "", text) if text.endswith(".py") else text.rpartition(":")
    return (path, name) if path else (text, "")


def _run(path: str, source: bytes) -> ModuleType:
    """Run a file as an import would, with what stands beside it in reach, and return the module."""
    name = Path(path).stem
    old = sys.modules.get(name)
    if old is not None and getattr(old, "__file__", None) != os.path.abspath(path):
        name = f"{name} of {os.path.abspath(path)}"  # it takes no other module's place
    module = ModuleType(name)
    module.__file__ = os.path.abspath(path)
    try:
        with _beside(module.__file__):
            sys.modules[name] = module  # where named tuples and dataclasses look for themselves
            exec(compile(source, module.__file__, "exec", dont_inherit=True), vars(module))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a file raises, also what asks Python to end
        frames = traceback.extract_tb(error.__traceback__)
        number = next((f.lineno for f in reversed(frames) if f.filename == module.__file__), None)
        said = said_by(error) if isinstance(error, UnrolledError) else raised(error)
        if isinstance(error, SyntaxError) and number is None:  # the file's own
            number, said = error.lineno, one_line(error.msg)
        raise UnrolledError(f"{path}{f', line {number}' if number else ''}: {said}") from None
    return module


@contextmanager
def _beside(path: str) -> Iterator[None]:
    """Let a file import what stands beside it, as Python does where it is run."""
    held, before = sys.path, list(sys.path)
    sys.path.insert(0, os.path.dirname(path))
    try:
        yield
    finally:
        held[:], sys.path = before, held  # also where the file has made another of it


def _line_of(name: str, source: bytes) -> int:
    """Return the last line that gives a name its value; 1 where none is seen to."""
    lines = [1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            lines.append(node.lineno)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            lines.append(node.lineno)
    return max(lines)
