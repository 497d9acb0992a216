"""A run's configuration as TOML, every option with its value; and reading it again."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from .. import storage
from ..cells import CellName
from ..data.text import recorded
from ..declared import check_option, options
from ..errors import UnrolledError, brief, suggest

PATHS = ("files", "val_file", "test_file")
CELL, TASK = "cell", "task"
"""Key of a configuration that says which kind of model it is for."""


def to_toml(options: Any, files: Sequence[str] = (), text: Mapping[str, Any] | None = None) -> str:
    """Return the configuration of a run, every option with its value; one that is not set is a comment.

    A cell of the user's own is as they named it on the command line, by its name where it was an object.

    A path whose bytes are no UTF-8, which TOML can't hold, is written as a URI: "file:///home/a%FF.txt".

    Examples
    --------
    >>> from unrolled.data.options import SplitOptions
    >>> to_toml(SplitOptions(val_fraction=0.1), ["book.txt"]).splitlines()
    ['files = ["book.txt"]', 'val_fraction = 0.1', 'test_fraction = 0.0']
    """
    values = {"files": list(files)} | dict(text or {}) | asdict(options)
    values |= {name: value.given for name, value in values.items() if isinstance(value, CellName)}
    values |= {name: [_as_uri(path) for path in values[name]] for name in PATHS if name in values}
    return "".join(f"# {name} = (not set)\n" if v is None else f"{name} = {_toml(v)}\n" for name, v in values.items())


def _as_uri(path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(path)).as_uri()
    return path


def _from_uri(path: str) -> str:
    return os.fsdecode(unquote_to_bytes(path.removeprefix("file://"))) if path.startswith("file:///") else path


def _toml(value: object) -> str:
    """A value as TOML writes it; strings, and lists of strings or numbers, are written as in JSON."""
    if isinstance(value, str | list | tuple):
        # TOML takes no lone surrogates and no raw DEL; JSON escapes all of that but DEL.
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def read_toml(path: Path, *kinds: type[Any]) -> dict[str, Any]:
    """Read a configuration of classes of options: names and values, each of a kind that its option takes.

    Raises
    ------
    UnrolledError
        If the file can't be read, is no TOML, or has a key that is unknown or of another kind; names the line.
    """
    text, values = _parsed(path)
    known = {name: declared for kind in reversed(kinds) for name, declared in options(kind).items()}
    for name, value in values.items():
        where = f"{path}, line {_line_of(name, text)}"
        if name == TASK:
            continue
        if name in PATHS:
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise UnrolledError(f"{where}: {name} is {brief(value)}; it must be a list of names")
            values[name] = [_from_uri(item) for item in value]
            continue
        if name not in known:
            raise UnrolledError(f"{where}: {suggest('option', name, [*known, *PATHS, TASK])}")
        try:
            check_option(known[name], value)
        except UnrolledError as error:
            if name != CELL or not isinstance(value, str):
                raise UnrolledError(f"{where}: {error}") from None
            values[name] = _own(value, f"{where}: {error}")
    values.pop(TASK, None)
    return values


def _own(name: str, why: str) -> CellName:
    """Return the name of a cell that may be a user's own: whoever needs it is told `why` it is not there.

    A configuration runs no code, so that it is safe to be handed one.
    """
    asked = name if ":" in name else "my_cell.py:NAME"
    return CellName.absent(name, f"{why}; a cell of your own is given on the command line too: --cell {asked}")


def read_task(path: Path) -> str | None:
    """Return which kind of model a configuration is for, None where it says nothing of it."""
    text, values = _parsed(path)
    task = values.get(TASK)
    if task is not None and not isinstance(task, str):
        raise UnrolledError(f"{path}, line {_line_of(TASK, text)}: task is {brief(task)}; it must be a name")
    return task


def _parsed(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a configuration as text and as values."""
    try:
        text = storage.read_file(path, "configuration").decode()
        if _is_deep(text):
            raise UnrolledError(f"{path}: the configuration has a key of many parts; options have plain names")
        return text, recorded(tomllib.loads(text))
    except UnicodeDecodeError:
        raise UnrolledError(f"{path}: the configuration is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnrolledError(f"{path}: the configuration is not TOML: {error}") from None
    except UnrolledError:
        raise
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise UnrolledError(f"{path}: the configuration has a number of too many digits") from None


_QUOTED = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")


def _is_deep(text: str) -> bool:
    """Whether a key has fifty parts and more: the time that reading it takes is the square of its length."""
    return any(part.count(".") >= 50 for part in re.split(r"[=,\n{}\[\]]", _QUOTED.sub("", text)))


def _line_of(name: str, text: str) -> int:
    """Line of a key, from 1; that of the table or the dotted key where it is the first part of one."""
    quoted = re.escape(name)
    key = re.compile(rf"""\s*(?:\[+\s*)?(?:{quoted}|"{quoted}"|'{quoted}')\s*[=.\]]""")
    return next((n for n, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)
