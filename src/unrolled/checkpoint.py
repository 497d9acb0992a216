"""Models and training runs <-> safetensors files. No pickle anywhere.

A model file holds the parameters by their names, C-contiguous, and one entry of metadata, `unrolled`: a JSON object of
the format's version, the `Spec`, the vocabulary and a SHA-256 of all that. (One entry, since safetensors writes several
in no fixed order.) It holds no time, path, host or command: the same network gives the same bytes. A run's checkpoint
is such a file too, with the arrays of a `TrainingState` and the entry `unrolled_run`.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from .checks import Array
from .errors import UnrolledError
from .network import Network, Spec
from .text import Vocabulary

FORMAT = 1
"""Version of the file format; a file of a higher one is refused."""


def save(path: str | Path, network: Network, vocabulary: Vocabulary) -> None:
    """Write a model file: beside the old one, read back, then renamed over it.

    Raises
    ------
    UnrolledError
        If it can't be written, or doesn't read back as it was; an older file is left as it is.
    """
    content = {"spec": network.spec.to_json(), "vocabulary": vocabulary.to_json()}
    _write(Path(path), "unrolled", network.params, content)


def save_run(path: Path, arrays: Mapping[str, Array], content: Mapping[str, Any]) -> None:
    """Write a run's checkpoint, as `save` writes a model; `content` is what `json.dumps` takes."""
    _write(path, "unrolled_run", arrays, content)


def _write(path: Path, entry: str, arrays: Mapping[str, Array], content: Mapping[str, Any]) -> None:
    # safetensors writes an array's memory as it lies: one that is not C-contiguous would be silently permuted.
    arrays = {name: np.ascontiguousarray(a) for name, a in sorted(arrays.items())}
    content = {"format": FORMAT} | dict(content)
    content["sha256"] = _digest(arrays, content)
    write_atomically(path, safetensors.numpy.save(arrays, {entry: json.dumps(content, sort_keys=True)}))


def _digest(arrays: Mapping[str, Array], content: Mapping[str, Any]) -> str:
    """SHA-256 of everything a file says, so that a single flipped bit is found."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content as a whole: write beside, sync, read back, rename over, sync the folder."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    except OSError as error:
        raise UnrolledError(f"can't write in {path.parent}: {_reason(error)}") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(handle)
        if part.read_bytes() != data:
            raise UnrolledError(f"can't write {path}: the disk gave back other bytes than were written")
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise UnrolledError(f"can't write {path}: {_reason(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power loss, where the system lets folders be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _short(text: str, most: int = 400) -> str:
    """One line that can be printed, of bounded length: a damaged file may name anything."""
    line = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return line if len(line) <= most else f"{line[:most]}..."


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def read_header(path: Path, data: bytes, kind: str = "model") -> dict[str, Any]:
    """Check a safetensors header against the file's length and return it.

    Raises
    ------
    UnrolledError
        If the file is shorter or longer than its header says, or the header is not one.
    """
    no_model = f"{path} is not an unrolled {kind}"
    if len(data) < 8:
        raise UnrolledError(f"{no_model}: it has {len(data)} bytes")
    (size,) = struct.unpack("<Q", data[:8])
    if size > len(data) - 8:
        raise UnrolledError(
            f"{no_model}, or it is cut off: its header claims {size:,} bytes, the file has {len(data):,}"
        )
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        raise UnrolledError(f"{no_model}: its header is not JSON") from None
    if not isinstance(header, dict):
        raise UnrolledError(f"{no_model}: its header is not a JSON object")
    ends = [0]
    for name, entry in header.items():
        if name != "__metadata__":
            try:
                start, end = entry["data_offsets"]
                ends.append(end)
                ok = isinstance(start, int) and isinstance(end, int) and 0 <= start <= end
                ok = ok and entry["dtype"] in ("F32", "F64")
            except (TypeError, KeyError, ValueError):
                ok = False
            if not ok:
                raise UnrolledError(f"{no_model}: its header's entry for {_short(repr(name))} makes no sense")
    if max(ends) != len(data) - 8 - size:
        raise UnrolledError(
            f"{path} is damaged: its header describes {max(ends):,} bytes of parameters, "
            f"{len(data) - 8 - size:,} are there"
        )
    return header


def load(path: str | Path, backend: str = "auto") -> tuple[Network, Vocabulary]:
    """Read a model file.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong: missing, cut off, a header that lies, not ours, from a newer format,
        changed since it was written, or parameters that are missing, unknown or misshapen.
    """
    path = Path(path)
    arrays, content = _read(path, "unrolled", "model")
    try:
        spec, vocabulary = Spec.from_json(content.get("spec")), Vocabulary.from_json(content.get("vocabulary"))
        if len(vocabulary) != spec.vocabulary_size:
            raise UnrolledError(
                f"its vocabulary has {len(vocabulary)} symbols, its description says {spec.vocabulary_size}"
            )
        _check_dtypes(arrays, spec)
        _check_size(arrays, spec)
        network = Network(spec, backend=backend)
        network.load_params(arrays)
        for name, p in network.params.items():
            if not np.isfinite(p).all():
                raise UnrolledError(f"{name} holds values that are not finite")
    except UnrolledError as error:
        raise UnrolledError(f"{path}: {_short(str(error))}") from None
    return network, vocabulary


def load_run(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read what `save_run` wrote: arrays and content.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file; a single flipped bit is found.
    """
    arrays, content = _read(path, "unrolled_run", "checkpoint of a run")
    if "sha256" not in content:
        raise UnrolledError(f"{path} is damaged: it has no checksum")
    return arrays, content


def _read(path: Path, entry: str, kind: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read a safetensors file of ours -> arrays and the content of its entry, checked against their checksum."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UnrolledError(f"can't read the {kind} {path}: it is a device or a pipe, not a file")
        data = path.read_bytes()
    except OSError as error:
        raise UnrolledError(f"can't read the {kind} {path}: {_reason(error)}") from None
    metadata = read_header(path, data, kind).get("__metadata__")
    if not isinstance(metadata, dict) or entry not in metadata:
        raise UnrolledError(f"{path} is a safetensors file, but not an unrolled {kind}: its metadata lacks our entry")
    try:
        content = json.loads(metadata[entry])
        version = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UnrolledError(f"{path} is damaged: its metadata is not a description of ours") from None
    if type(version) is not int or version > FORMAT:
        raise UnrolledError(
            f"{path} has format {version!r}, this version of unrolled reads up to {FORMAT}: update unrolled"
        )
    try:
        arrays = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise UnrolledError(f"{path} is damaged: {_short(str(error))}") from None
    # Files written before there was a checksum have none.
    if "sha256" in content and content["sha256"] != _digest(
        arrays, {k: v for k, v in content.items() if k != "sha256"}
    ):
        raise UnrolledError(f"{path} is damaged: its content doesn't match its checksum")
    return arrays, content


def _check_dtypes(arrays: dict[str, Array], spec: Spec) -> None:
    for name, array in sorted(arrays.items()):
        if array.dtype != spec.dtype:
            raise UnrolledError(f"{name} is {array.dtype}; its description says {spec.dtype}")


def _check_size(arrays: dict[str, Array], spec: Spec) -> None:
    """Refuse sizes that the file can't hold before anything of that size is allocated."""
    held = sum(array.size for array in arrays.values())
    if spec.parameter_count > 2 * held + 1000:  # a smaller difference is said by name, when the network is there
        raise UnrolledError(f"its description claims {spec.parameter_count:,} parameters, it holds {held:,}")
