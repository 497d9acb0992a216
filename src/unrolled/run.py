"""A run's folder: its configuration as TOML, what made it, its metrics as JSON lines; and reading all that again.

| file | what is in it |
|---|---|
| `config.toml` | every option, as `unrolled train --config` takes it |
| `run.json` | the command, the versions, and a hash of the text |
| `metrics.jsonl` | one JSON object a validation |
| `checkpoint.safetensors` | all it takes to go on: `unrolled train --resume FOLDER` |
| `events.out.tfevents.*` | with `--tensorboard`: what `unrolled.events` writes |
| `model.safetensors`, `last.safetensors` | the model with the lowest validation loss, and the last one |
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint, storage
from .checks import Array
from .errors import UnrolledError, suggest
from .options import Options, check_kind
from .state import Evaluation, Snapshot
from .text import Vocabulary
from .train import CHECKPOINT, LAST, MODEL, Facts, Listener, Progress, Result

CONFIG, ABOUT, METRICS = "config.toml", "run.json", "metrics.jsonl"
TEXT_KEYS = {"files": "list", "val_file": "list", "test_file": "list"}
TEXT_KEYS |= {"strip_gutenberg": "bool", "json_field": "str", "documents": "bool"}
"""What a configuration says beside the fields of `Options`."""


def holds_models(folder: Path) -> bool:
    """Say whether a folder holds something that a new run would overwrite."""
    return any((folder / name).exists() for name in (MODEL, LAST, CHECKPOINT))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes off a run's folder. The folder itself is locked: nothing is left behind, killed or not.

    Raises
    ------
    UnrolledError
        If another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows lets nobody replace a file that another process has open
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:  # where a file system has no locks, nothing is held
            if isinstance(error, BlockingIOError):
                raise UnrolledError(f"another process is training in {folder}; choose another --out, or wait") from None
        yield
    finally:
        os.close(descriptor)


# --- configuration ----------------------------------------------------------------------------------------------------


def to_toml(options: Options, files: Sequence[str] = (), text: Mapping[str, Any] | None = None) -> str:
    """Return the configuration of a run, every option with its value; one that is not set is a comment.

    Examples
    --------
    >>> to_toml(Options(), ["book.txt"]).splitlines()[:3]
    ['files = ["book.txt"]', 'level = "char"', 'min_count = 1']
    """
    values = {"files": list(files)} | dict(text or {}) | asdict(options)
    return "".join(f"# {name} = (not set)\n" if v is None else f"{name} = {_toml(v)}\n" for name, v in values.items())


def _toml(value: object) -> str:
    """A value as TOML writes it; strings, and lists of strings or numbers, are written as in JSON."""
    if isinstance(value, str | list | tuple):
        # TOML takes no lone surrogates and no raw DEL; JSON escapes all of that but DEL.
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a configuration: names and values, each of a kind that its option takes.

    Raises
    ------
    UnrolledError
        If the file can't be read, is no TOML, or has a key that is unknown or of another kind; names the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise UnrolledError(f"can't read the configuration {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnrolledError(f"{path}: the configuration is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnrolledError(f"{path}: the configuration is not TOML: {error}") from None
    kinds = {f.name: str(f.type) for f in fields(Options)} | TEXT_KEYS
    for name, value in values.items():
        where = f"{path}, line {_line_of(name, text)}"
        if name not in kinds:
            raise UnrolledError(f"{where}: {suggest('option', name, list(kinds))}")
        if kinds[name] == "list":
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise UnrolledError(f"{where}: {name} is {value!r}; it must be a list of names")
            continue
        try:
            check_kind(name, value, kinds[name])
        except UnrolledError as error:
            raise UnrolledError(f"{where}: {error}") from None
    return values


def _line_of(name: str, text: str) -> int:
    """Line of a key, from 1; that of the table or the dotted key where it is the first part of one."""
    quoted = re.escape(name)
    key = re.compile(rf"""\s*(?:\[+\s*)?(?:{quoted}|"{quoted}"|'{quoted}')\s*[=.\]]""")
    return next((n for n, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)


# --- what made the run ------------------------------------------------------------------------------------------------


def fingerprint(vocabulary: Vocabulary, *parts: Array) -> str:
    """SHA-256 of a text as the network sees it: its vocabulary, its tokens (N,) and documents, part by part."""
    digest = hashlib.sha256(json.dumps(vocabulary.to_json(), sort_keys=True).encode())
    for tokens in parts:
        digest.update(f"{len(tokens)} tokens".encode())
        for start in range(0, len(tokens), 1 << 22):
            digest.update(np.ascontiguousarray(tokens[start : start + (1 << 22)], dtype="<i4").data)
    return digest.hexdigest()


def begin(folder: Path, facts: Facts, text: Mapping[str, Any], version: str) -> None:
    """Write what a new run is: its configuration, and what made it."""
    more = {"val_file": text["val"], "test_file": text["test"]} | text["how"]
    config = to_toml(facts.options, text["files"], more)
    storage.write_atomically(folder / CONFIG, config.encode())
    about = {
        "command": sys.argv,
        "text": dict(text),
        "versions": {"unrolled": version, "python": platform.python_version(), "numpy": np.__version__},
        "machine": platform.platform(),
        "backend": facts.network.recurrent.backend,
        "network": facts.network.spec.to_json(),
    }
    storage.write_atomically(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode())
    storage.write_atomically(folder / METRICS, b"")


def reopen(folder: Path) -> tuple[Snapshot, Options, Vocabulary]:
    """Read a run's checkpoint: the arrays and content, the options and the vocabulary.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the folder or its checkpoint.
    """
    path = folder / CHECKPOINT
    if folder.is_dir() and not path.exists():
        raise UnrolledError(f"{folder} holds no run to go on with: {CHECKPOINT} is missing")
    content, arrays = checkpoint.load_run(path, lambda content, layout: content)
    try:
        options = Options.of(content["options"])
        vocabulary = Vocabulary.from_json(content["vocabulary"])
        content["text"]["sha256"], content["now"], content["backend"]
    except (KeyError, TypeError):
        raise UnrolledError(f"{path} is damaged: its description lacks something") from None
    except UnrolledError as error:
        raise UnrolledError(f"{path}: {error}") from None
    return (arrays, content), options, vocabulary


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    storage.remove_leftovers(folder / name for name in (CHECKPOINT, MODEL, LAST, CONFIG, ABOUT, METRICS))


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Read a run's metrics; a last line that was cut off is left out.

    Raises
    ------
    UnrolledError
        If there are none, or a line is no JSON object.
    """
    path = folder / METRICS
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UnrolledError(f"can't read the metrics {path}: {reason}; is this a run's folder?") from None
    found = []
    for n, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            int(entry["step"])
        except (ValueError, TypeError, KeyError):
            if n == len(lines) and not line.endswith("\n"):
                break
            raise UnrolledError(f"{path}, line {n} is no JSON object with a step") from None
        found.append(entry)
    return found


class Log(Listener):
    """Writes `metrics.jsonl`, and passes everything on to another listener."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        self.path, self.listener = folder / METRICS, listener
        self.rate = self.speed = 0.0

    def forget_after(self, step: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Leave out what a run that goes on from a step will write again; put in what `history` has more."""
        kept = [e for e in metrics(self.path.parent) if e["step"] <= step] if self.path.exists() else []
        there = {entry["step"] for entry in kept if "val_loss" in entry}
        kept += [dict(entry) for entry in history if entry["step"] not in there]
        lines = [json.dumps(entry) + "\n" for entry in sorted(kept, key=lambda entry: int(entry["step"]))]
        storage.write_atomically(self.path, "".join(lines).encode())

    def _write(self, **entry: Any) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise UnrolledError(f"can't write {self.path}: {error.strerror}; the last checkpoint is kept") from None

    def started(self, facts: Facts) -> None:
        """Pass it on."""
        self.listener.started(facts)

    def stepped(self, progress: Progress) -> None:
        """Remember the rate and the speed for the next line."""
        self.rate, self.speed = progress.rate, progress.symbols_per_second
        self.listener.stepped(progress)

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Write a line."""
        self._write(**asdict(evaluation), best=best, rate=self.rate, symbols_per_second=round(self.speed, 1))
        self.listener.evaluated(evaluation, best)

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Leave out what came after the step, and write why."""
        self.forget_after(step)
        self._write(step=step, rolled_back=why, rate_factor=factor)
        self.listener.rolled_back(why, step, factor)

    def sampled(self, text: str) -> None:
        """Pass it on."""
        self.listener.sampled(text)

    def finished(self, result: Result, out: Path | None) -> None:
        """Pass it on."""
        self.listener.finished(result, out)


def absolute(paths: Sequence[str]) -> list[str]:
    """Paths that mean the same from any folder; standard input stays what it is."""
    return [path if path == "-" else os.path.abspath(path) for path in paths]
