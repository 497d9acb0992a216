"""Where a text comes from: files, folders, standard input, pipes; and the folder for what is kept of large ones."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import UnrolledError, count
from . import packed

LARGE = 64 << 20
"""Bytes from which on a text is not read into memory."""

BLOCK = 4 << 20
"""Bytes that a text is read in at once."""

HINT = "; UNROLLED_CACHE names another folder"


def cache_folder() -> Path:
    """Return where large texts' tokens are kept: UNROLLED_CACHE, else `unrolled` in the user's folder for caches.

    Raises
    ------
    UnrolledError
        If the user has no folder.
    """
    return user_folder("UNROLLED_CACHE", "XDG_CACHE_HOME", "~/.cache", "to keep the tokens of a large text in")


def user_folder(own: str, standard: str, usual: str, purpose: str) -> Path:
    """Return the folder that the variable `own` names; else `unrolled` in the one of `standard`, or in the usual one.

    Raises
    ------
    UnrolledError
        If the user has no folder.
    """
    try:
        if given := os.environ.get(own):
            return Path(given).expanduser()
        return Path(os.environ.get(standard) or usual, "unrolled").expanduser()
    except RuntimeError:
        raise UnrolledError(f"this user has no home folder {purpose}; {own}=/a/folder names one") from None


def cannot_keep(error: OSError) -> UnrolledError:
    """Return what to say where the folder for caches can't be used."""
    return UnrolledError(
        f"can't keep the tokens of a large text in {shown(cache_folder())}: {error.strerror or error}{HINT}"
    )


class Spool:
    """The contents of a pipe, kept so that they can be read again: in memory, or on the disk where they are large.

    The file on the disk has no name, so that nothing is left of it whatever happens.
    """

    def __init__(self, pipe: BinaryIO, where: str) -> None:
        self.file: Any = io.BytesIO()
        self.size = 0
        try:
            for block in packed.counted(_piped(pipe, where), packed.limit(packed.PIPED), where):
                self._keep(block)
        except BaseException as error:
            self.file.close()
            if isinstance(error, OSError):
                raise cannot_keep(error) from None
            raise

    def _keep(self, block: bytes) -> None:
        if self.size + len(block) >= LARGE > self.size:
            cache_folder().mkdir(parents=True, exist_ok=True)
            memory, self.file = self.file, tempfile.TemporaryFile(buffering=0, dir=cache_folder())  # noqa: SIM115
            block = memory.getvalue() + block
            self.size = 0
        self.size += len(block)
        left = memoryview(block)
        while left:  # unbuffered, so that what can't be written is known here
            left = left[self.file.write(left) :]

    def __del__(self) -> None:
        self.file.close()


def _piped(pipe: BinaryIO, where: str) -> Iterator[bytes]:
    try:
        yield from _blocks(pipe, BLOCK)
    except OSError as error:
        raise UnrolledError(f"{where}: {reason(error)}; expected a text") from None


@dataclass(frozen=True)
class Source:
    """A file, or what came through a pipe: its name for messages, and its path or what was kept of it."""

    where: str
    path: str = ""
    spool: Spool | None = field(default=None, repr=False)

    def blocks(self, size: int = 0) -> Iterator[bytes]:
        """Yield its bytes, unpacked, so many at once."""
        if self.spool is None:
            return file_blocks(self.path, size)
        self.spool.file.seek(0)
        return _plain(self.spool.file, self.where, "", self.spool.size, size or BLOCK)

    def digest(self) -> bytes:
        """Return the SHA-256 of its bytes as they lie on the disk."""
        if self.spool is None:
            with opened(self.path) as file:
                return hashlib.file_digest(file, "sha256").digest()
        digest = hashlib.sha256()
        self.spool.file.seek(0)
        for block in _blocks(self.spool.file, BLOCK):
            digest.update(block)
        return digest.digest()


def are_large(sources: Sequence[Source]) -> bool:
    """Whether texts have `LARGE` bytes or more together; of packed ones as many are unpacked as it takes to know."""
    total = 0
    for source in sources:
        size = source.spool.size if source.spool else looked_up(source.path).st_size
        if total + size < LARGE and packed_as(source):  # a packed text is hardly ever smaller than its file
            size = 0
            for block in source.blocks():
                size += len(block)
                if total + size >= LARGE:
                    break
        total += size
        if total >= LARGE:
            return True
    return False


def packed_as(source: Source) -> str:
    """Return how a source is packed."""
    if source.spool is not None:
        source.spool.file.seek(0)
        return packed.packing(source.spool.file.read(packed.HEAD), "")
    with opened(source.path) as file:
        return packed.packing(file.read(packed.HEAD), source.path)


def file_blocks(path: str | Path, size: int = 0) -> Iterator[bytes]:
    """Yield the bytes of a regular file, unpacked, so many at once; errors name it."""
    with opened(path) as file:
        yield from _plain(file, shown(path), str(path), os.fstat(file.fileno()).st_size, size or BLOCK)


def _plain(file: BinaryIO, where: str, name: str, there: int, size: int) -> Iterator[bytes]:
    """Yield the bytes of an open file, unpacked."""
    head = file.read(packed.HEAD)
    file.seek(0)
    kind = packed.packing(head, name)
    if not kind:
        return _blocks(file, size)
    most = packed.limit(max(packed.FREE, packed.RATIO * there))
    return packed.counted(packed.unpacked(file, kind, where, size), most, where)


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    while block := file.read(size):
        yield block


# --- what paths lead to -----------------------------------------------------------------------------------------------


def sources(paths: Sequence[str], level: str, notes: list[str]) -> list[Source]:
    """Files that are named, or in folders that are; `notes` takes what was skipped in those."""
    found: list[Source] = []
    for path in paths:
        if path == "-":
            if not hasattr(sys.stdin, "buffer"):  # closed, or in a notebook
                raise UnrolledError("standard input is closed; pipe a text in, or name a file")
            found.append(Source("standard input", spool=Spool(sys.stdin.buffer, "standard input")))
        elif path and os.path.isdir(path):
            found += _directory(Path(path), level, notes)
        elif is_pipe(path):
            with opened(path, pipe=True) as pipe:
                found.append(Source(shown(path), spool=Spool(pipe, shown(path))))
        else:
            _check_regular(path)
            found.append(Source(shown(path), path))
    return found


def is_pipe(path: str) -> bool:
    """Whether a path leads to a pipe: one with a name, or what a shell makes of <(...); it can be read only once."""
    try:
        return path != "-" and stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:  # what is not there, or can't be looked at, is refused where it is read
        return False


def check_again(paths: Sequence[str], what: str, advice: str = "") -> None:
    """Refuse to read from standard input, or a pipe, again what was read from there.

    Parameters
    ----------
    paths : sequence of str
    what : str
        What is read again, for the message: "the text of runs/book".
    advice : str
        What to do, perhaps.
    """
    said = f", and can't be read again{advice and '; '}{advice}"
    if "-" in paths:
        raise UnrolledError(f"{what} came through a pipe{said}")
    if pipe := next((path for path in paths if is_pipe(path)), None):
        raise UnrolledError(f"{what} is in {shown(pipe)}, which is a pipe now{said}")


def _directory(root: Path, level: str, notes: list[str]) -> list[Source]:
    """Every text of a directory."""
    skipped: Counter[str] = Counter()
    found = []
    for path in walk(str(root), skipped):
        if kind := _no_text(path, level):
            skipped[kind] += 1
        else:
            found.append(Source(shown(path), path))
    counts = [count(number, kind) for kind, number in sorted((+skipped).items())]
    if not found:
        said = f" (skipped: {', '.join(counts)})" if counts else ""
        what = "file" if level == "byte" else "UTF-8 text file"
        raise UnrolledError(f"{shown(root)}: no text in this directory{said}; expected at least one {what}")
    if counts:
        notes.append(f"{shown(root)}: skipped {', '.join(counts)}")
    return found


def _no_text(path: str, level: str) -> str:
    """Return what a file is that is no text; nothing for a text."""
    decoder, empty = codecs.getincrementaldecoder("utf-8-sig")(), True
    try:
        for block in file_blocks(path, 1 << 18):
            if level == "byte":
                return ""
            if b"\0" in block:
                return "binary file"
            empty = not decoder.decode(block) and empty
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "binary file"
    return "empty file" if empty else ""


def walk(root: str, skipped: Counter[str]) -> list[str]:
    """Return all regular files below `root` that may be read, neither they nor a folder hidden, sorted by their parts.

    `skipped` counts what else there is, by kind.
    """
    files, folders = [], [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                inside = list(entries)
        except PermissionError as error:
            if folder == root:
                raise UnrolledError(f"{shown(folder)}: {reason(error)}; make the folder readable") from None
            skipped["unreadable file or folder"] += 1
            continue
        except OSError as error:
            raise UnrolledError(f"{shown(folder)}: {reason(error)}; move the folder away, or name others") from None
        for entry in inside:
            path = os.path.join("" if folder == "." else folder, entry.name)
            kind = _kind(entry)
            if kind == "folder":
                folders.append(path)
            elif kind:
                skipped[kind] += 1
            else:
                files.append(path)
    return sorted(files, key=lambda path: path.split(os.sep))


def _kind(entry: os.DirEntry[str]) -> str:
    """Return what an entry of a folder is: "folder", what is to be skipped, or "" for a file to read."""
    if entry.name.startswith("."):
        return "hidden file or folder"
    try:
        if entry.is_dir():
            return "linked folder" if entry.is_symlink() else "folder"
        if not entry.is_file():
            return "special file"  # a broken link, a pipe, a device
    except OSError:  # links in a loop
        return "special file"
    return "" if os.access(entry.path, os.R_OK) else "unreadable file or folder"


def _check_regular(path: str | Path) -> None:
    kind = looked_up(path).st_mode
    if not stat.S_ISREG(kind):
        name = "pipe" if stat.S_ISFIFO(kind) else "socket" if stat.S_ISSOCK(kind) else "device"
        raise UnrolledError(f"{shown(path)}: this is a {name}, not a file; pipe the text in and name - instead")


@contextmanager
def opened(path: str | Path, *, pipe: bool = False) -> Iterator[io.BufferedReader]:
    """Open a regular file, or a pipe, for reading; what goes wrong while it is open names it too."""
    if not pipe:
        _check_regular(path)
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {reason(error)}; expected a file that can be read") from None


def looked_up(path: str | Path) -> os.stat_result:
    """Return what the system says of a file."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        raise UnrolledError(f"{shown(path)}: no such file; check the path") from None
    except OSError as error:
        raise UnrolledError(f"{shown(path)}: {reason(error)}; expected a file that can be read") from None


def reason(error: OSError) -> str:
    """Return what the system says of a failure, in small letters."""
    return (error.strerror or type(error).__name__).lower()


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message of one line: as it is, or quoted where it holds what can't be printed."""
    text = os.fspath(path)
    return text if text.isprintable() else repr(text)


def short_name(path: str) -> str:
    """Short name of a path, fit for a folder: names have at most 255 bytes, and more is put behind this one."""
    if path == "-":
        return "stdin"
    full = Path(os.path.abspath(path))  # not resolved: a link keeps its own name
    stem = full.name if full.is_dir() else packed.plain_name(full.name)
    stem = stem if full.is_dir() else Path(stem).stem
    name = re.sub(r"[^\w.+-]+", "-", stem).strip("-.").encode("utf-8", "ignore")[:100].decode("utf-8", "ignore")
    return name.strip("-.") or "text"
