"""The default corpus: the source of the Python standard library on this machine."""

from __future__ import annotations

import hashlib
import os
import platform
import sysconfig
from pathlib import Path

from ...errors import UnrolledError, count
from .corpus import Corpus
from .files import file_blocks, shown
from .levels import check_level

# Tests are full of data; encodings and pydoc_data are tables that a program wrote; the rest is not the library's.
_LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"})
_MACHINE_FILES = ("_sysconfigdata", "sitecustomize", "usercustomize")
_LONGEST_FILE = 40_000


def default_corpus(characters: int = 2_000_000, level: str = "char") -> Corpus:
    """Make a text of the Python standard library's source on this machine; the same Python gives the same text.

    Two million characters are one to two passes in two minutes of NumPy training on two cores, and hold more than
    a hundred files. To be a fair sample of the library whatever the number, and alike at its two ends (the end is held
    out for validation), the text takes the files not in the order of their paths but of the SHA-256 of their paths;
    asking for more continues the same text.

    Left out are tests, installed packages, `encodings` and `pydoc_data` (tables written by programs), files that
    describe the machine, files above 40,000 characters (so that no single one fills the held-out end), and files that
    are not pure ASCII (a few: their odd letters are too rare to learn, and without them the vocabulary is the 95
    printable characters, the newline, and in some versions another blank).

    Parameters
    ----------
    characters : the exact length of the text; the last file is cut. If the library has fewer, a note says so
    level : "char", "byte" or "word"

    Raises
    ------
    UnrolledError
        If the source isn't there (an embedded or zipped Python).

    Examples
    --------
    >>> corpus = default_corpus(10_000)
    >>> len(corpus.text), corpus.name, corpus.text.isascii()
    (10000, 'stdlib', True)
    """
    check_level(level)
    if level == "tokens":
        raise UnrolledError("--level tokens takes a .npy file of integers; name one")
    if characters < 1:
        raise UnrolledError(f"characters is {characters}; the default corpus must have 1 or more")
    root = Path(sysconfig.get_path("stdlib"))
    parts: list[str] = []
    length = 0
    for path in _library_files(root):
        part = _library_text(path)
        if part:
            parts.append(part)
            length += len(part)
        if length >= characters:
            break
    if not parts:
        raise UnrolledError(
            f"the default corpus is the source of Python's standard library, and {shown(root)} holds none; "
            "name a text file to train on instead"
        )
    text = "".join(parts)[:characters]
    notes = [
        f"the source of Python {platform.python_version()}'s standard library: "
        f"{count(len(text), 'character')} of {count(len(parts), 'file')}",
        "left out: tests, installed packages, generated tables, files above "
        f"{_LONGEST_FILE:,} characters or not in pure ASCII",
    ]
    if len(text) < characters:
        notes.append(f"{characters:,} characters were asked for; the library here has no more")
    return Corpus(text.encode("ascii") if level == "byte" else text, level, "stdlib", len(parts), tuple(notes))


def _library_files(root: Path) -> list[Path]:
    """The library's modules in the order of the SHA-256 of their paths below `root`."""
    found: list[Path] = []
    for folder, names, leaves in os.walk(root):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith((".", "__", "config-"))]
        found += (Path(folder, name) for name in leaves if name.endswith(".py") and not name.startswith(_MACHINE_FILES))
    return sorted(found, key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest())


def _library_text(path: Path) -> str:
    """Source of one module ending in a newline; nothing if it is too long or not pure ASCII."""
    data = b"".join(file_blocks(path))
    if not data.isascii() or len(data) > _LONGEST_FILE:
        return ""
    text = data.decode("ascii").replace("\r\n", "\n")
    return text if text.endswith("\n") or not text else text + "\n"
