"""Integers of .npy files: the header is read and checked here, since NumPy's reader trusts what it says."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ...errors import UnrolledError, brief
from ..batches import Tokens

LONGEST = 10_000
"""Bytes of a header, at most; that of a row of integers takes some eighty."""

PIECE = 1 << 20
"""Integers that are read at once."""


class Layout(NamedTuple):
    """Integers in a file: their type, how many, and where the first begins."""

    dtype: np.dtype[Any]
    size: int
    offset: int


def layout(file: BinaryIO, where: str) -> Layout:
    """Read the header of a .npy file, of version 1, 2 or 3, that holds integers (N,).

    Raises
    ------
    UnrolledError
        If it is no such file, or the file is shorter than its header says.
    """
    start = file.read(8)
    versions = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4, b"\x93NUMPY\x03\x00": 4}
    if start.startswith(b"PK\x03\x04"):
        raise UnrolledError(f"{where}: this is an archive of arrays; expected a .npy file of integers")
    if start not in versions:
        raise _bad(where, "it doesn't begin as one")
    size = int.from_bytes(file.read(versions[start]), "little")
    header = file.read(min(size, LONGEST + 1))
    if len(header) != size:
        raise _bad(where, f"its header claims {size:,} bytes")
    descr, shape = _described(header, where)
    kind = re.fullmatch(r"[<>|=]?([a-zA-Z])(\d{1,3})", descr)
    if kind is None:
        raise _bad(where, f"it holds {brief(descr, 60)}, expected integers")
    if kind[1] not in "iu" or kind[2] not in ("1", "2", "4", "8"):
        name = {"f": "float", "c": "complex", "b": "bool"}.get(kind[1], descr)
        bits = str(8 * int(kind[2])) if name in ("float", "complex") else ""
        raise UnrolledError(f"{where} are {name}{bits}; expected integers, which Vocabulary.encode makes of a text")
    if len(shape) != 1:
        raise UnrolledError(f"{where} are of shape {brief(shape, 60)}; expected integers in one dimension (N,)")
    found = Layout(np.dtype(descr), shape[0], file.tell())
    there = os.fstat(file.fileno()).st_size - found.offset
    if there < found.size * found.dtype.itemsize:
        raise _bad(where, f"it is cut off: {found.size:,} integers take more than the {there:,} bytes that follow")
    return found


def _described(header: bytes, where: str) -> tuple[str, tuple[int, ...]]:
    """Return the type and the shape that a header says."""
    try:
        said = ast.literal_eval(header.decode("utf-8").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, OverflowError):
        raise _bad(where, "its header is no description of an array") from None
    if not isinstance(said, dict) or said.keys() != {"descr", "fortran_order", "shape"}:
        raise _bad(where, "its header lacks something, or says more than it should")
    descr, shape = said["descr"], said["shape"]
    if not isinstance(descr, str):
        raise _bad(where, f"it holds {brief(descr, 60)}, expected integers")
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 62 for n in shape)
    if not sizes or type(said["fortran_order"]) is not bool:
        raise _bad(where, f"its shape is {brief(shape, 60)}")
    return descr, shape


def pieces(file: BinaryIO, found: Layout, where: str) -> Iterator[Tokens]:
    """Yield the integers, a piece at a time."""
    file.seek(found.offset)
    left = found.size
    while left:
        data = file.read(min(left, PIECE) * found.dtype.itemsize)
        if len(data) < min(left, PIECE) * found.dtype.itemsize:
            raise _bad(where, "it was cut off while it was read")
        yield np.frombuffer(data, found.dtype)
        left -= min(left, PIECE)


def _bad(where: str, why: str) -> UnrolledError:
    return UnrolledError(f"{where}: this is no .npy file that can be read: {why}")
