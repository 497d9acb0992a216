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

from ..cells import Cell, CellName
from ..errors import UnrolledError, brief, check_path, suggest
from ..storage import read_file


class OwnCell(click.ParamType):  # type: ignore[type-arg]
    """A cell's name; or `my_cell.py:NAME`, which becomes a name that has its cell with it."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        own = isinstance(value, str) and not isinstance(value, CellName) and is_file(value)
        return CellName(load_cell(value), value) if own else value


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
    path, _, name = ("", "", text) if text.endswith(".py") else text.rpartition(":")
    path, name = (path, name) if path else (text, "")
    path = check_path("the file of a cell", path)
    try:
        source = read_file(Path(path), "file of a cell").decode()
    except UnicodeDecodeError:
        raise UnrolledError(f"{path} is no Python: it is not UTF-8 text") from None
    held = vars(_run(path, source))
    known = [key for key, value in held.items() if isinstance(value, Cell)]
    if not name:
        raise UnrolledError(f"{brief(text)} names no cell; write {path}:{known[0] if known else 'NAME'}")
    if name not in held:
        raise UnrolledError(f"{path}: {suggest('cell', name, known)}")
    found = held[name]
    if not isinstance(found, Cell):
        raise UnrolledError(f"{path}, line {_line_of(name, source)}: {name} is {brief(found)}; expected a Cell")
    return found


def _run(path: str, source: str) -> ModuleType:
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
            exec(compile(source, module.__file__, "exec"), vars(module))
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno and error.filename == module.__file__ else ""
        raise UnrolledError(f"{path}{line}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((f", line {f.lineno}" for f in reversed(frames) if f.filename == module.__file__), "")
        said = str(error) if isinstance(error, UnrolledError) else f"{type(error).__name__}: {error}"
        raise UnrolledError(f"{path}{line}: {said}") from None
    return module


@contextmanager
def _beside(path: str) -> Iterator[None]:
    """Let a file import what stands beside it, as Python does where it is run."""
    folder = os.path.dirname(path)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _line_of(name: str, source: str) -> int:
    """Return the last line that gives a name its value; 1 where none is seen to."""
    lines = [1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            lines.append(node.lineno)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store):
            lines.append(node.lineno)
    return max(lines)
