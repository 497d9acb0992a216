"""A file of the web, whole or not at all: what was received of it is kept, and gone on from.

While it comes, it lies beside its place in `NAME.part`; `NAME.part.json` says where from, and which version of it: what
HTTP calls a validator (RFC 9110, section 8.8), with which the rest is asked for. A server that has another version by
then, or sends no parts, sends the file from its beginning. Files of those names that are no download's stay. Proxies
are those of the environment (`https_proxy`, ...).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from .. import storage
from ..errors import UnrolledError, one_line, printable

TIMEOUT = 30.0
"""Seconds that a server may be silent."""

LARGEST = 64 << 20
"""Bytes of a file, at most: no book has as many, and a server that never ends fills no disk."""

BLOCK = 1 << 16
RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:(\d{1,18})|\*)")


def download(url: str, path: Path, check: Callable[[bytes], None]) -> None:
    """Download a file and put it in its place, once `check` has found nothing wrong with it.

    Parameters
    ----------
    url : str
    path : Path
        Its folder is made.
    check : function of bytes
        Raises an `UnrolledError` for a file that is not the one that is wanted; nothing of that is kept.

    Raises
    ------
    UnrolledError
        If it can't be reached, received as a whole, or written, or where it would lie while it comes is another file.
        What was received is kept, and gone on from.
    """
    with _written(path), storage.only_if_filled(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with open(part, "a+b") as file:
            if not storage.lock(file.fileno()):
                raise UnrolledError(f"{path} is being downloaded by another process; wait for it")
            about = part.with_name(f"{part.name}.json")
            _check_ours(file, part, about)
            try:
                if not _received(url, file, about):
                    file.truncate(0)
                    if not _received(url, file, about):
                        raise UnrolledError(f"{url}: the server sends a part of it that nobody asked for")
                file.seek(0)
                data = file.read()
                file.truncate(0)
                check(data)
                storage.write_atomically(path, data)
            finally:
                if not file.seek(0, os.SEEK_END):  # nothing is left to go on from
                    about.unlink(missing_ok=True)
                    part.unlink()


def sha256(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _received(url: str, file: BinaryIO, about: Path) -> bool:
    """Receive a file, or the rest of it; return whether it is whole, or else is to be asked for from its beginning."""
    begun = file.seek(0, os.SEEK_END)
    version = _version(about, url) if begun else None
    headers = {"User-Agent": "unrolled", "Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={begun}-", "If-Range": version}
    try:
        asked = Request(url, headers=headers)
        with _asked(url), build_opener().open(asked, timeout=TIMEOUT) as response:  # with the proxies of now
            _check_secure(url, response.geturl())
            start, total = _place(response.status, response.headers)
            if start not in (0, begun):
                return False
            _keep_version(about, url, response.headers)
            file.truncate(start)
            for block in _blocks(response, url):
                file.write(block)
                if file.tell() > LARGEST:
                    raise UnrolledError(f"{url} has more than {LARGEST:,} bytes; that is no book")
            file.flush()
    except HTTPError as error:
        error.close()
        if error.code == 416 and version:  # there is no such part: the file is another one by now, or was whole
            return False
        raise UnrolledError(f"{url}: the server says {error.code} {one_line(str(error.reason), 80)}") from None
    size = file.seek(0, os.SEEK_END)
    if total is not None and size != total:
        raise UnrolledError(f"{url} was cut off after {size:,} of {total:,} bytes; the same command goes on from there")
    return True


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """Say in one line what goes wrong between here and a server; a ValueError is of what is no address or proxy."""
    try:
        yield
    except (HTTPError, UnrolledError):
        raise
    except (URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        why = error.reason if isinstance(error, URLError) else error
        said = one_line((isinstance(why, OSError) and why.strerror) or str(why) or type(why).__name__, 200)
        raise UnrolledError(
            f"can't reach {urlsplit(url).hostname}: {printable(said)}; it takes a network (https_proxy names a proxy)"
        ) from None


def _blocks(response: Any, url: str) -> Iterator[bytes]:
    """Yield what comes, a block at a time; a connection that breaks is no fault of the disk's."""
    while True:
        try:
            block = response.read1(BLOCK)  # what there is, so that it is kept
        except (HTTPException, OSError, ValueError) as error:  # of what is no length of a chunk
            said = one_line(str(error) or type(error).__name__, 200)
            raise UnrolledError(f"{url} broke off: {said}; the same command goes on from what was received") from None
        if not block:
            return
        yield block


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Say in one line why a file can't be written."""
    try:
        yield
    except OSError as error:
        no_folder = isinstance(error, (FileExistsError, NotADirectoryError))
        why = f"{error.filename} is no folder" if no_folder else storage.reason(error)
        raise UnrolledError(f"can't write {path}: {why}; --output names another place") from None


def _check_secure(asked: str, got: str) -> None:
    """Refuse to be led from a connection that is secured to one that is not."""
    if asked.startswith("https:") and not got.startswith("https:"):
        raise UnrolledError(f"{asked} leads to {printable(one_line(got, 200))}, which is not secured; nothing is read")


def _place(status: int, headers: HTTPMessage) -> tuple[int, int | None]:
    """Return where in the file an answer begins, and the size of the file where that is said."""
    if status == 206:
        found = RANGE.fullmatch(headers.get("Content-Range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else (-1, None)
    size = headers.get("Content-Length", "")
    return 0, int(size) if re.fullmatch("[0-9]{1,18}", size) else None


def _account(about: Path) -> dict[str, Any]:
    """Return what is known of what was received; nothing where that is no account of a download."""
    try:
        content = json.loads(about.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and set(content) == {"url", "version"} else {}


def _check_ours(file: BinaryIO, part: Path, about: Path) -> None:
    """Refuse to write over what is no beginning of a download: its account is written before its first byte."""
    begun = file.seek(0, os.SEEK_END)
    if (begun or os.path.lexists(about)) and not _account(about):
        if not begun:
            part.unlink()
        there = part if begun else about
        raise UnrolledError(f"{there} is no part of a download; move it away, or --output names another place")


def _version(about: Path, url: str) -> str | None:
    """Return the validator of what was received of this address, if it is known."""
    content = _account(about)
    version = content.get("version") if content.get("url") == url else None
    return version if isinstance(version, str) and version.isascii() and version.isprintable() else None


def _keep_version(about: Path, url: str, headers: HTTPMessage) -> None:
    tag = headers.get("ETag", "")
    strong = tag if tag.startswith('"') else ""  # a weak one says nothing of bytes (RFC 9110, section 13.1.5)
    content = {"url": url, "version": strong or headers.get("Last-Modified")}
    storage.write_atomically(about, json.dumps(content).encode())
