"""A run's folder: who may write in it, its files, and what made it.

| file | what is in it |
|---|---|
| `config.toml` | every option, as `unrolled train --config` takes it |
| `run.json` | the command, the versions, and a hash of the text |
| `metrics.jsonl` | one JSON object a validation |
| `checkpoint.safetensors` | all it takes to go on: `unrolled train --resume FOLDER` |
| `events.out.tfevents.*` | with `--tensorboard`: what `unrolled.training.tensorboard` writes |
| `model.safetensors`, `last.safetensors` | the model with the lowest validation loss, and the last one |
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import backends, storage
from ..checks import Array
from ..data.text.files import is_pipe
from ..errors import UnrolledError
from .callbacks import Facts
from .configuration import to_toml
from .metrics_log import METRICS
from .trainer import CHECKPOINT, LAST, MODEL

CONFIG, ABOUT = "config.toml", "run.json"
SEARCH = "tune.json"
"""File of a search (`unrolled.tuning`), whose folder no run goes into."""

FILES = (CONFIG, ABOUT, METRICS, MODEL, LAST, CHECKPOINT)
"""Files that a run writes; a new one may find none of them in its folder."""
FOLDS = "folds.json"
"""File of a run's folder that holds the figures of its folds, where it has some."""


def make_folder(path: Path, *, new: bool = False) -> Path:
    """Make a run's folder; a `new` one is the first of path, path-2, path-3, ... that nobody has made before."""
    n, base = 1, path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while new and os.path.lexists(path):  # a link to nowhere is there too
            n += 1
            path = base.with_name(f"{base.name}-{n}")
        path.mkdir(exist_ok=not new)
    except (FileExistsError, NotADirectoryError):
        if new and base.parent.is_dir():  # another run took the name just now
            return make_folder(base, new=True)
        there = next(p for p in (path, *path.parents) if os.path.lexists(p))
        what = "a link to nowhere" if not there.exists() else "a link to a file" if there.is_symlink() else "a file"
        raise UnrolledError(f"can't make the folder {path}: {there} is {what}; move it away first") from None
    except OSError as error:
        raise UnrolledError(f"can't make the folder {path}: {error.strerror}") from None
    return path


def holds(folder: Path) -> list[str]:
    """Return the names of what a new run in this folder would overwrite."""
    return [name for name in FILES if os.path.lexists(folder / name)]


def check_places(folder: Path) -> None:
    """Refuse what a run's files can't take the place of, or what can't be read, before any of them is written.

    Models and checkpoints are written through links, as by `storage.replaced`; lines of metrics never are.

    Raises
    ------
    UnrolledError
        With the name of what is in the way.
    """
    for name in FILES:
        path = folder / name
        link = name == METRICS and path.is_symlink()
        if link or (os.path.lexists(path) and not path.is_file()):
            kind = "a link" if path.is_symlink() else "no file"
            raise UnrolledError(f"can't train in {folder}: {name} there is {kind}; move it away first")
        if path.exists() and not os.access(path, os.R_OK):
            raise UnrolledError(f"can't train in {folder}: {name} there can't be read; move it away first")


@contextmanager
def claimed(folder: Path, *, overwrite: bool = False) -> Iterator[None]:
    """Make a folder for a new run and keep others off it; take it away again where no run came of it.

    Raises
    ------
    UnrolledError
        If it can't be made, another process trains in it, or it holds what the run would overwrite.
    """
    with storage.only_if_filled(folder):
        make_folder(folder)
        with held(folder):
            if os.path.lexists(folder / SEARCH):
                raise UnrolledError(f"{folder} holds a search ({SEARCH}); choose another --out")
            if not overwrite and (there := holds(folder)):
                what = "a model" if {MODEL, LAST, CHECKPOINT} & set(there) else " and ".join(there)
                raise UnrolledError(f"{folder} holds {what} already; choose another --out, or --overwrite it")
            check_places(folder)
            yield


class Held(UnrolledError):
    """Another process holds a folder."""


@contextmanager
def held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes off a run's folder. The folder itself is locked: nothing is left behind, killed or not.

    Raises
    ------
    Held
        If another process holds it; with `wait`, that one's end is waited for.
    """
    try:
        import fcntl
    except ImportError:  # Windows lets nobody replace a file that another process has open
        yield
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as error:
        raise UnrolledError(f"{folder} can't be read as a run's folder: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:  # where a file system has no locks, nothing is held
            if isinstance(error, BlockingIOError):
                raise Held(f"another process is training in {folder}; choose another --out, or wait") from None
        yield
    finally:
        os.close(descriptor)


def fingerprint(codec: Any, *parts: Array) -> str:
    """Return the SHA-256 of data as a network sees it: how it became numbers, as JSON, and these, (N, ...) each."""
    digest = hashlib.sha256(json.dumps(codec, sort_keys=True).encode())
    for part in parts:
        digest.update(f"{len(part)} tokens".encode())
        dtype = "<f8" if part.dtype.kind == "f" else "<i4"
        for start in range(0, len(part), 1 << 22):
            digest.update(np.ascontiguousarray(part[start : start + (1 << 22)], dtype=dtype).data)
    return digest.hexdigest()


def made_with(backend: str) -> dict[str, str]:
    """Return what decides how a run's numbers are rounded: versions, and where they are computed."""
    from .. import __version__

    return {
        "unrolled": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "backend": backend,
        "instruction set": "any" if backend == "reference" else backends.instruction_set(),
    }


def made_elsewhere(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note where a run goes on with something that rounds otherwise than what it was made with until now."""
    changed = [
        f"{name} {before[name]} until now, {value} from here on"
        for name, value in now.items()
        if before.get(name, value) != value
    ]
    return (f"{'; '.join(changed)}: the numbers may be rounded differently",) if changed else ()


def begin(folder: Path, facts: Facts, text: Mapping[str, Any], made: Mapping[str, str]) -> None:
    """Write what a new run is: its configuration, what made it, and no metrics yet; a run before's folds are gone."""
    (folder / FOLDS).unlink(missing_ok=True)
    write_config(folder, facts, text)
    _write_about(folder, _about(facts, text, made))
    storage.write_atomically(folder / METRICS, b"")


def go_on(
    folder: Path, facts: Facts, text: Mapping[str, Any], made: Mapping[str, str], anew: Mapping[str, Any]
) -> None:
    """Write what a run that goes on has from here: its configuration as it is now, and what makes the rest of it."""
    remove_leftovers(folder)
    write_config(folder, facts, text)
    try:
        about = dict(json.loads(storage.read_file(folder / ABOUT, "record")))
        before = list(about.get("resumed", []))
    except (UnrolledError, ValueError, TypeError, RecursionError):  # it only tells of the run, which goes on without it
        about, before = _about(facts, text, made), []
    entry = {"step": facts.step, "command": sys.argv, "made_with": dict(made), "options": dict(anew)}
    _write_about(folder, about | {"resumed": [*before, entry]})


def write_config(folder: Path, facts: Facts, text: Mapping[str, Any]) -> None:
    """Write a run's configuration, unless it stands there already."""
    more = {"task": facts.task, "val_file": text["val"], "test_file": text["test"]} | text["how"]
    config, path = to_toml(facts.options, text["files"], more).encode(), folder / CONFIG
    if not path.is_file() or path.read_bytes() != config:
        storage.write_atomically(path, config)


def _about(facts: Facts, text: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    return {
        "command": sys.argv,
        "task": facts.task,
        "text": dict(text),
        "made_with": dict(made),
        # not platform.platform(), which asks whatever program is called uname
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "network": facts.model.spec.to_json(),
    }


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    storage.write_atomically(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode())


def remove_models(folder: Path) -> None:
    """Remove the models and the checkpoint of a run; its configuration and its metrics stay."""
    for name in (MODEL, LAST, CHECKPOINT):
        (folder / name).unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    storage.remove_leftovers(folder / name for name in FILES)


def absolute(paths: Sequence[str]) -> list[str]:
    """Return paths that mean the same from any folder; "-" of pipes, which can be read only once."""
    return ["-" if path == "-" or is_pipe(path) else os.path.abspath(path) for path in paths]
