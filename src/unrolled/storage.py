"""Files of ours: each replaced as a whole; arrays with a description and a checksum in the safetensors format.

A file is what the safetensors library writes for the same arrays and metadata, to the byte: a header, then the arrays,
C-contiguous and little-endian, those of wide numbers first and else by name. Its metadata has one entry: a JSON object
that holds the format's version, what the file is about, and a SHA-256 of all that and of the arrays. We write it
ourselves, a piece at a time, since the library first makes a copy of the whole file in memory, and ends the process
where there is none left. It stays the reader.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from .checks import Array
from .errors import UnrolledError, brief, one_line

S = TypeVar("S")
T = TypeVar("T")

FORMAT = 2
"""Version of the file format; a file of a higher one is refused. The first knows no numbers smaller than float32's."""

PIECE = 1 << 20
"""Bytes that are read, written and hashed at a time."""

LARGEST_HEADER = 100_000_000
"""Bytes of a header, at most: the library reads no larger ones."""

ROOM = 1 << 24
"""Bytes that the library may need beside the arrays."""

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
}
"""Numbers that arrays hold, in the order in which the library writes them; bfloat16 by its bits, NumPy has none."""

FIRST = ("F64", "F32")
"""Those of the first format; a file that has no others is still of that, and older versions read it."""

Content = dict[str, Any]
"""A file's description, beside its arrays: what `json.dumps` takes."""


class Place(NamedTuple):
    """An array in a file: its numbers, its shape, and its first and last byte behind the header."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


Layout = dict[str, Place]
"""Arrays of a file by their names, as they lie."""


# --- replacing a file as a whole --------------------------------------------------------------------------------------


@contextmanager
def replaced(path: str | os.PathLike[str], hint: str = "") -> Iterator[BinaryIO]:
    """Yield a new file, open for writing and reading, which takes an old one's place once it is whole.

    The new one is written beside the old one, synced and renamed over it. What a link leads to is replaced, not the
    link; an old file's mode and owner are kept. What only makes this safer (a synced folder, a lock that tells the
    file apart from a leftover) is done where the system can do it.

    Parameters
    ----------
    path : path
    hint : str
        What to do where it fails; follows the reason.

    Raises
    ------
    UnrolledError
        If it can't be written, or something that is no file is in its place. What was there is then as it was.
    """
    part = None
    try:
        old = _old(Path(path))
        target = Path(os.path.realpath(path))
        mode = 0o666 if old is None else stat.S_IMODE(old.st_mode) & 0o777
        part = target.with_name(f"{_stem(target.name)}{secrets.token_hex(8)}.part")
        # Made by `os.open` and not by `tempfile`, the file has the mode that the umask and the folder's lists give it.
        with open(part, "x+b", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            lock(file.fileno())
            if old is not None:
                _keep(file.fileno(), old)
            yield file
            file.flush()
            _sync(file.fileno())
        os.replace(part, target)
        part = None
        _sync_folder(target.parent)
    except OSError as error:
        folder = os.path.dirname(path) or "."
        where = path if os.path.isdir(folder) else f"in {folder}"
        raise UnrolledError(f"can't write {where}: {reason(error)}{hint}") from None
    finally:
        if part is not None:
            with suppress(OSError):
                part.unlink()


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file's content as a whole, once it reads back as it was.

    Raises
    ------
    UnrolledError
        As `replaced`.
    """
    with replaced(path) as file:
        file.write(data)
        file.seek(0)
        whole = all(file.read(PIECE) == data[k : k + PIECE] for k in range(0, len(data) + 1, PIECE))
        if not whole:
            raise UnrolledError(f"can't write {path}: the disk gave back other bytes than were written")


def leftovers(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return what killed processes had begun to write in the place of these files; never what one writes now."""
    found = []
    for path in paths:
        target = Path(os.path.realpath(path))
        ours = re.compile(re.escape(_stem(target.name)) + r"[0-9a-f]{16}\.part")
        with suppress(OSError), os.scandir(target.parent) as entries:
            names = [entry.name for entry in entries if ours.fullmatch(entry.name) and entry.is_file()]
            found += [part for name in sorted(names) if _is_left(part := target.with_name(name))]
    return found


def remove_leftovers(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Remove the `leftovers` of these files, where that is allowed."""
    for part in leftovers(paths):
        with suppress(OSError):
            part.unlink()


def _stem(name: str) -> str:
    """Return what the names begin with that a file has while it is written; names have at most 255 bytes."""
    return f"{os.fsencode(name)[:200].decode(errors='ignore')}.unrolled-"


def _old(path: Path) -> os.stat_result | None:
    """Return what is known of the file that is in a place, None if there is none; refuse what is no file."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        kind = "a folder" if stat.S_ISDIR(old.st_mode) else "a device or a pipe"
        raise UnrolledError(f"can't write {path}: it is {kind}, not a file; choose another path")
    return old


def _keep(handle: int, old: os.stat_result) -> None:
    """Give a new file the owner and the mode of an old one, as far as the system lets us."""
    if not hasattr(os, "fchown"):  # Windows has neither
        return
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(OSError):
            os.fchown(handle, old.st_uid, old.st_gid)
    with suppress(OSError):
        os.fchmod(handle, stat.S_IMODE(old.st_mode) & 0o777)


_REFUSED = {getattr(errno, f"E{name}", None) for name in ("INVAL", "NOSYS", "NOTSUP", "OPNOTSUPP", "NOTTY", "PERM")}
"""Errors of a system that can't do something at all; anything else is a failure."""


def _sync(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss, where the system lets folders be opened and synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # the new file is in its place already
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def lock(handle: int) -> bool:
    """Hold a file for as long as it is open, where there are locks; return whether no other process holds it.

    A killed process holds none.
    """
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def _is_left(part: Path) -> bool:
    """Whether no process is writing this file; where there are no locks, nobody knows."""
    try:
        import fcntl
    except ImportError:  # Windows removes no file that is open
        return True
    try:
        handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def reason(error: OSError) -> str:
    """Return what the system says of a failure."""
    return error.strerror or str(error)


# --- arrays -----------------------------------------------------------------------------------------------------------


class _Handle:
    """A file that stays open for as long as something refers to it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class Stored:
    """An array in a file, read anew whenever it is used: it takes no memory.

    The file is held open, so that it may be replaced or removed meanwhile (but on Windows).
    """

    def __init__(self, handle: _Handle, start: int, place: Place) -> None:
        self._handle, self._start = handle, start + place.begin
        self.dtype, self.shape, self.nbytes = place.dtype, place.shape, place.end - place.begin

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes, a piece at a time."""
        at = 0
        while at < self.nbytes:
            piece = os.pread(self._handle.number, min(PIECE, self.nbytes - at), self._start + at)
            if not piece:
                raise UnrolledError("a file of this run was cut off while it was used; the last checkpoint may go on")
            yield piece
            at += len(piece)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return a copy in memory."""
        array, at = np.empty(self.shape, self.dtype), 0
        flat = array.reshape(-1).view(np.uint8)
        for piece in self.pieces():
            flat[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        return array if dtype is None else array.astype(dtype)


Arrays = Mapping[str, Array] | Mapping[str, Stored] | Mapping[str, Array | Stored]
"""Arrays by their names, in memory or in a file."""

HOLDS_FILES = os.name == "posix"
"""Whether a file that is open may be replaced, so that `Stored` arrays are of use."""


def read_file(path: Path, what: str) -> bytes:
    """Return a file's content; a pipe or a device, which might never end, is refused.

    Raises
    ------
    UnrolledError
        If it can't be read.
    """
    with open_file(path, what) as file:
        return file.read()


def write_arrays(
    path: str | os.PathLike[str], entry: str, arrays: Arrays, content: Mapping[str, Any]
) -> dict[str, Stored]:
    """Write arrays and what is to be said of them; the memory that it takes does not depend on their size.

    Return the arrays as they are in the file.

    Parameters
    ----------
    path : path
    entry : str
        The kind of file: name of the metadata's entry.
    arrays : dict of float32, float64 and int8 arrays by name; uint16 ones hold the bits of bfloat16
    content : dict that `json.dumps` takes

    Raises
    ------
    UnrolledError
        As `replaced`, or if the file doesn't read back as it was.
    """
    layout = _layout(arrays)
    small = any(place.dtype not in [DTYPES[name] for name in FIRST] for place in layout.values())
    content = {"format": 2 if small else 1} | dict(content)
    digest = _digest(content, layout, lambda name: _pieces(arrays[name]))
    header = _header(layout, {entry: json.dumps(content | {"sha256": digest}, sort_keys=True)})
    if len(header) > LARGEST_HEADER:
        raise UnrolledError(f"can't write {path}: its description, the vocabulary mainly, takes {len(header):,} bytes")
    with replaced(path) as file:
        file.write(header)
        for name in layout:
            for piece in _pieces(arrays[name]):
                file.write(piece)
        file.seek(0)
        same = file.read(len(header)) == header
        if not same or digest != _digest(content, layout, lambda name: _stored(file, len(header), layout[name])):
            raise UnrolledError(f"can't write {path}: the disk gave back other bytes than were written")
        # opened anew, since a file that is open for writing keeps a disk from being made read-only
        return _stored_in(os.open(file.name, os.O_RDONLY), len(header), layout)


def read_arrays(
    path: str | os.PathLike[str], entry: str, kind: str, check: Callable[[Content, Layout], T]
) -> tuple[T, dict[str, Array]]:
    """Read what `write_arrays` wrote; nothing of a size that the file claims is made before all of it was checked.

    Parameters
    ----------
    path : path
    entry : str
        As in `write_arrays`.
    kind : str
        What to call the file in messages.
    check : function
        Takes the content and the arrays' layout, and returns what to make of them or raises an UnrolledError, to which
        the path is then added. Only after it are the arrays read.

    Returns
    -------
    tuple
        What `check` returned, and the arrays by name.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong: missing, cut off, a header that lies, another kind of file, from a newer
        format, changed since it was written, or whatever `check` says.
    """
    return _opened(path, entry, kind, check, lambda file, start, layout: _read(path, file, layout))


def check_layout(
    layout: Layout,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: str,
    small: Mapping[str, np.dtype[Any]] = MappingProxyType({}),
) -> None:
    """Refuse arrays that are others than these, or of other numbers: those in `small` by name, else of `dtype`."""
    missing, extra = sorted(shapes.keys() - layout.keys()), sorted(layout.keys() - shapes.keys())
    if missing or extra:
        said = [f"{what}: {', '.join(some[:5])}" for what, some in (("missing", missing), ("unknown", extra)) if some]
        raise UnrolledError(f"the arrays do not fit this network; {'; '.join(said)}")
    for name, shape in shapes.items():
        if layout[name].shape != shape:
            raise UnrolledError(f"{name} has shape {layout[name].shape}; this network takes {shape}")
        wanted = small.get(name, np.dtype(dtype))
        if layout[name].dtype != wanted:
            raise UnrolledError(f"{name} is {_called(layout[name].dtype)}; its description says {_called(wanted)}")


def _called(dtype: np.dtype[Any]) -> str:
    return "bfloat16" if dtype == DTYPES["BF16"] else dtype.name


def is_missing(path: str | os.PathLike[str]) -> bool:
    """Return whether nothing is at a path; of one that can't be looked at (no permission, too long) it isn't said."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def open_file(path: str | os.PathLike[str], kind: str) -> BinaryIO:
    """Open a file for reading in pieces; what is no file (a pipe, a device) is refused, since it may never end.

    Raises
    ------
    UnrolledError
        With one line that names the kind of file, its path and the reason.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder gives its own reason
            raise UnrolledError(f"can't read the {kind} {path}: it is a device or a pipe, not a file")
        return open(path, "rb")
    except OSError as error:
        raise UnrolledError(f"can't read the {kind} {path}: {reason(error)}") from None


def open_arrays(
    path: str | os.PathLike[str], entry: str, kind: str, check: Callable[[Content, Layout], T]
) -> tuple[T, Mapping[str, Array | Stored]]:
    """Return what `read_arrays` does, but leave the arrays in the file where the system lets us."""
    if HOLDS_FILES:
        return _opened(path, entry, kind, check, lambda file, *place: _stored_in(os.dup(file.fileno()), *place))
    return read_arrays(path, entry, kind, check)


def described(path: str | os.PathLike[str], entry: str, kind: str) -> Content:
    """Return what a file says of itself, its arrays neither read nor checked."""
    with open_file(path, kind) as file:
        try:
            return _content(path, _read_header(path, file, kind)[0], entry, kind)
        except OSError as error:
            raise UnrolledError(f"can't read the {kind} {path}: {reason(error)}") from None


def _opened(
    path: str | os.PathLike[str],
    entry: str,
    kind: str,
    check: Callable[[Content, Layout], T],
    read: Callable[[BinaryIO, int, Layout], S],
) -> tuple[T, S]:
    """Open a file that `write_arrays` wrote, check all of it, and read its arrays in one way or another."""
    with open_file(path, kind) as file:
        try:
            header, layout = _read_header(path, file, kind)
            content = _content(path, header, entry, kind)
            start = file.tell()
            said = content.pop("sha256", None)  # without one a large file is refused before it is read
            if not said or said != _digest(content, layout, lambda name: _stored(file, start, layout[name])):
                raise UnrolledError(f"{path} is damaged: its content doesn't match its checksum")
            del content["format"]
            try:
                made = check(content, layout)
            except UnrolledError as error:
                raise UnrolledError(f"{path}: {one_line(str(error), 600)}") from None
            return made, read(file, start, layout)
        except OSError as error:
            raise UnrolledError(f"can't read the {kind} {path}: {reason(error)}") from None
        except MemoryError:
            raise UnrolledError(f"not enough memory to read {path}") from None


def _stored_in(number: int, start: int, layout: Layout) -> dict[str, Stored]:
    """Return the arrays of a file that is open for them alone, and whose header ends at `start`."""
    handle = _Handle(number)
    return {name: Stored(handle, start, place) for name, place in layout.items()}


def _layout(arrays: Arrays) -> Layout:
    """Lay arrays out as the library does: wide numbers first, else by name."""
    layout, at = Layout(), 0
    for dtype in DTYPES.values():
        for name, array in sorted(arrays.items()):
            if array.dtype.newbyteorder("<") == dtype:
                layout[name] = Place(dtype, array.shape, at, at + array.nbytes)
                at += array.nbytes
    for name in arrays:
        if name not in layout:
            raise UnrolledError(f"{name} is {arrays[name].dtype}; a file holds float32, float64 and int8")
    return layout


def _header(layout: Layout, metadata: Mapping[str, str]) -> bytes:
    """Return the first bytes of a file: the length of what follows, and where everything is, as JSON."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    for name, place in layout.items():
        entries[name] = {
            "dtype": names[place.dtype],
            "shape": list(place.shape),
            "data_offsets": [place.begin, place.end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # so that arrays begin at a multiple of 8 bytes
    return struct.pack("<Q", len(text)) + text


def _pieces(array: Array | Stored) -> Iterator[bytes]:
    """Yield an array's numbers, in the order of C whatever it lies like."""
    if isinstance(array, Stored):
        yield from array.pieces()
        return
    flat: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
    step = PIECE // array.itemsize
    for k in range(0, array.size, step):
        yield flat[k : k + step].astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


@contextmanager
def only_if_filled(folder: Path) -> Iterator[None]:
    """Take away again a folder, and those above it, that are made in the meantime, where nothing came into them."""
    made = [path for path in (folder, *folder.absolute().parents) if not os.path.lexists(path)]
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # one that something is in stays
                path.rmdir()


def _stored(file: BinaryIO, start: int, place: Place) -> Iterator[bytes]:
    """Yield an array's bytes from a file whose header ends at `start`."""
    file.seek(start + place.begin)
    left = place.end - place.begin
    while left and (piece := file.read(min(PIECE, left))):
        left -= len(piece)
        yield piece


def _digest(content: Mapping[str, Any], layout: Layout, pieces: Callable[[str], Iterator[bytes]]) -> str:
    """Return the SHA-256 of everything a file says, so that a single flipped bit is found."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, place in sorted(layout.items()):
        digest.update(f"{name} {place.dtype.str} {place.shape}".encode())
        for piece in pieces(name):
            digest.update(piece)
    return digest.hexdigest()


def _read_header(path: str | os.PathLike[str], file: BinaryIO, kind: str) -> tuple[dict[str, Any], Layout]:
    """Read a header, checked against the file's length -> its metadata and where the arrays are."""
    length, no_file = os.fstat(file.fileno()).st_size, f"{path} is not an unrolled {kind}"
    first = file.read(8)
    if len(first) < 8:
        raise UnrolledError(f"{no_file}: it has {length} bytes")
    (size,) = struct.unpack("<Q", first)
    if not 2 <= size <= LARGEST_HEADER:
        raise UnrolledError(f"{no_file}: it doesn't begin as a safetensors file does")
    if size > length - 8:
        raise UnrolledError(f"{no_file}, or it is cut off: its header takes {size:,} bytes, the file has {length:,}")
    try:
        begin = file.read(1)
        header = json.loads(begin + file.read(size - 1)) if begin == b"{" else None
    except (ValueError, RecursionError):
        raise UnrolledError(f"{no_file}: its header is not JSON") from None
    if not isinstance(header, dict):
        raise UnrolledError(f"{no_file}: its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    layout = Layout()
    for name, entry in header.items():
        place = _place(entry)
        if place is None:
            raise UnrolledError(f"{no_file}: its header's entry for {brief(name)} makes no sense")
        layout[name] = place
    at = 0
    for name, place in sorted(layout.items(), key=lambda item: item[1][2:]):
        if place.begin != at:
            raise UnrolledError(f"{path} is damaged: its header has {brief(name)} at {place.begin:,}, expected {at:,}")
        at = place.end
    if at != length - 8 - size:
        raise UnrolledError(
            f"{path} is damaged: its header describes {at:,} bytes of parameters, {length - 8 - size:,} are there"
        )
    return metadata if isinstance(metadata, dict) else {}, layout


def _place(entry: Any) -> Place | None:
    """Return where a header's entry says that an array is; None if that makes no sense."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        return None
    dtype = DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    shape, offsets = entry["shape"], entry["data_offsets"]
    if dtype is None or not _are_sizes(shape, least=1) or not _are_sizes(offsets) or len(offsets) != 2:
        return None
    begin, end = offsets
    return Place(dtype, tuple(shape), begin, end) if end - begin == math.prod(shape) * dtype.itemsize else None


def _are_sizes(value: Any, least: int = 0) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(n) is int and least <= n < 2**63 for n in value)


def _content(path: str | os.PathLike[str], metadata: Mapping[str, Any], entry: str, kind: str) -> Content:
    """Return what a file says in the entry of its kind, once its format is one that we read."""
    if entry not in metadata:
        raise UnrolledError(f"{path} is a safetensors file, but not an unrolled {kind}: its metadata lacks our entry")
    try:
        content = json.loads(metadata[entry])
        version = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnrolledError(f"{path} is damaged: its metadata is not a description of ours") from None
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise UnrolledError(
            f"{path} has format {brief(version)}, this version of unrolled reads up to {FORMAT}: update unrolled"
        )
    return dict(content)


def _read(path: str | os.PathLike[str], file: BinaryIO, layout: Layout) -> dict[str, Array]:
    """Read the arrays of a file whose header was checked."""
    import safetensors

    # The library copies what it is given, and ends the process where there is no room for that: look for it first.
    np.empty(2 * os.fstat(file.fileno()).st_size + ROOM, np.uint8)
    file.seek(0)
    try:  # its own way to NumPy arrays wants another package for bfloat16
        found = safetensors.deserialize(file.read())  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise UnrolledError(f"{path} is damaged: {one_line(str(error))}") from None
    said = {name: (DTYPES.get(part["dtype"]), tuple(part["shape"])) for name, part in found}
    if said != {name: place[:2] for name, place in layout.items()}:
        raise UnrolledError(f"{path} is damaged: it changed while it was read")
    return {name: np.frombuffer(part["data"], said[name][0]).reshape(said[name][1]) for name, part in found}
