"""Packed files: told by their first bytes, unpacked in pieces of bounded size, and no further than a limit."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from ...errors import UnrolledError, brief

STARTS = {
    b"\x1f\x8b\x08": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x50 + k]) + b"\x2a\x4d\x18": "zstd" for k in range(16)},  # a frame to be skipped
    b"\xfd7zXZ\x00": "xz",
    **{b"BZh%d" % k + magic: "bz2" for k in range(1, 10) for magic in (b"1AY&SY", b"\x17rE8P\x90")},
}
"""First bytes of packed files."""

ENDS = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bz2", ".xz": "xz"}
"""Ends of the names of packed files, in small letters."""

HEAD = 16
"""Bytes that tell what a file is."""

FREE, RATIO, PIPED = 1 << 30, 100, 16 << 30
"""A packed file may hold 1 GiB, or 100 times its size; a pipe may give 16 GiB. UNROLLED_MAX_TEXT sets another limit."""

_XZ_MEMORY = 1 << 28
"""Bytes that unpacking xz may take; its strongest setting takes a quarter of that."""

_SIP = 1 << 10
"""Bytes of zstd that are unpacked at once: a block of 4 bytes may hold 128 KB."""


def packing(head: bytes, name: str) -> str:
    r"""Return how a file is packed that begins like this, or "" where it isn't.

    What is named as packed and doesn't begin so is still called packed: unpacking it says what is wrong.

    Examples
    --------
    >>> packing(b"\x1f\x8b\x08\x00", "book"), packing(b"plain", "BOOK.GZ"), packing(b"BZh is no start", "book.txt")
    ('gzip', 'gzip', '')
    """
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    return ENDS.get(os.path.splitext(name)[1].lower(), "") if head else ""


def plain_name(name: str) -> str:
    """Return a file's name without the end that says how it is packed."""
    stem, end = os.path.splitext(name)
    return stem if end.lower() in ENDS else name


def beginning(path: str | os.PathLike[str]) -> bytes:
    """Return how a file begins, unpacked and without a byte-order mark; nothing where it is none that can be read."""
    if not os.path.isfile(path):
        return b""
    try:
        with open(path, "rb") as file:
            kind = packing(file.read(HEAD), plain_name(os.fspath(path)))
            file.seek(0)
            head = next(unpacked(file, kind, os.fspath(path), _SIP), b"") if kind else file.read(_SIP)
    except (OSError, UnrolledError):  # whoever reads all of it says so
        return b""
    return head.removeprefix(b"\xef\xbb\xbf")


def limit(usual: int) -> int:
    """Return how many bytes a text may have whose size is not known before: UNROLLED_MAX_TEXT, or what is usual."""
    given = os.environ.get("UNROLLED_MAX_TEXT", "")
    if not given:
        return usual
    found = re.fullmatch(r"(\d{1,15})([KMGT]?)(?:i?B)?", given.strip(), re.IGNORECASE | re.ASCII)
    if found is None:
        raise UnrolledError(f"UNROLLED_MAX_TEXT is {brief(given, 60)}; expected a number of bytes, such as 20G")
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[found[2].lower()]


def counted(blocks: Iterable[bytes], most: int, where: str) -> Iterator[bytes]:
    """Pass blocks on, and stop where there are more than `most` bytes."""
    size = 0
    for block in blocks:
        size += len(block)
        if size > most:
            raise UnrolledError(
                f"{where}: more than {most:,} bytes come out of it; "
                "if that is meant, UNROLLED_MAX_TEXT=100G (or another number) sets the limit"
            )
        yield block


def unpacked(file: BinaryIO, kind: str, where: str, size: int) -> Iterator[bytes]:
    """Yield the bytes of a packed file, about `size` at a time.

    Raises
    ------
    UnrolledError
        If the file is damaged, or what unpacks it isn't there.
    """
    try:
        if kind == "gzip":
            with gzip.GzipFile(fileobj=file) as plain:
                while block := plain.read(size):
                    yield block
        elif kind == "zstd":
            yield from _zstd(file, where)
        else:
            yield from _streams(file, _decompressor(kind, where), size)
    except UnrolledError:
        raise
    except (EOFError, zlib.error) as error:
        raise _damaged(where, kind, error) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(where, kind, error) from None


def _damaged(where: str, kind: str, error: object) -> UnrolledError:
    return UnrolledError(f"{where}: the {kind} file is damaged: {' '.join(str(error).split())[:200]}")


def _decompressor(kind: str, where: str) -> Callable[[], Any]:
    """Return what makes a new decompressor of Python's own; a Python may have been built without."""
    try:
        if kind == "bz2":
            import bz2

            return bz2.BZ2Decompressor
        import lzma
    except ImportError:
        raise UnrolledError(f"{where}: this Python was built without {kind}; unpack the file first") from None

    class Decompressor:
        """Python's own, with its error as an OSError."""

        def __init__(self) -> None:
            self.inner = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)

        def decompress(self, data: bytes, size: int) -> bytes:
            try:
                return self.inner.decompress(data, size)
            except lzma.LZMAError as error:
                raise OSError(str(error)) from None

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    return Decompressor


def _streams(file: BinaryIO, new: Callable[[], Any], size: int) -> Iterator[bytes]:
    """Unpack streams that follow each other, with zeros between or not."""
    decoder = None
    packed = b""
    while True:
        if decoder is None:
            packed = packed.lstrip(b"\0") or file.read(1 << 16)
            if not packed:
                return
            if not packed.strip(b"\0"):
                packed = b""
                continue
            packed, decoder = packed.lstrip(b"\0"), new()
        elif decoder.needs_input and not packed and not (packed := file.read(1 << 16)):
            raise EOFError("it ends in the middle")
        block = decoder.decompress(packed, size)
        packed = decoder.unused_data if decoder.eof else b""
        decoder = None if decoder.eof else decoder
        if block:
            yield block


def _zstd(file: BinaryIO, where: str) -> Iterator[bytes]:
    """Unpack frames that follow each other, from a sip at a time."""
    try:
        import zstandard
    except ImportError:
        raise UnrolledError(f"{where}: zstd needs a package: pip install 'unrolled[zstd]'") from None
    decompressor, frame = zstandard.ZstdDecompressor(), None
    try:
        while packed := file.read(_SIP):
            while packed:
                frame = frame or decompressor.decompressobj()
                if block := frame.decompress(packed):
                    yield block
                packed = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise _damaged(where, "zstd", error) from None
    if frame is not None:
        raise _damaged(where, "zstd", "it ends in the middle of a frame")
