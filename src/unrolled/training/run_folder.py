"""A run's folder: its configuration as TOML, what made it, its metrics as JSON lines; and reading all that again.

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

import errno
import hashlib
import json
import os
import platform
import re
import stat
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import numpy as np

from .. import backends, schema, storage
from ..checks import Array, is_number
from ..data.options import Reading
from ..data.text import recorded
from ..declared import check_option, options
from ..errors import UnrolledError, UnrolledWarning, brief, suggest
from ..schema import each, entries, flag, objects, one_of, whole
from ..storage import Arrays, Content, Layout
from . import state
from .callbacks import Callback, Facts, Progress
from .optimizers import OPTIMIZERS
from .state import Evaluation, Snapshot
from .trainer import CHECKPOINT, LAST, MODEL

CONFIG, ABOUT, METRICS = "config.toml", "run.json", "metrics.jsonl"
LARGEST = 1e100
"""No figure of a run is so large; what is drawn from larger ones would overflow."""
DAMAGED = "metrics.jsonl.damaged"
"""Lines that were no metrics when the run went on."""
PATHS = ("files", "val_file", "test_file")
TEXT_KEYS = dict.fromkeys(PATHS, "list")
TEXT_KEYS |= {name: str(declared.type) for name, declared in options(Reading).items()}
"""What a configuration says beside the options of a kind of model."""
_HOW = {name: {"bool": flag(), "str": schema.text()}[kind] for name, kind in TEXT_KEYS.items() if kind != "list"}
_HOW |= {"strip_gutenberg": flag()}  # in runs of before


FILES = (CONFIG, ABOUT, METRICS, MODEL, LAST, CHECKPOINT)
"""What a run writes, and so what a new one may not find in its folder."""


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
    made = [path for path in (folder, *folder.absolute().parents) if not os.path.lexists(path)]
    make_folder(folder)
    try:
        with held(folder):
            if not overwrite and (there := holds(folder)):
                what = "a model" if {MODEL, LAST, CHECKPOINT} & set(there) else " and ".join(there)
                raise UnrolledError(f"{folder} holds {what} already; choose another --out, or --overwrite it")
            check_places(folder)
            yield
    finally:
        for path in made:
            with suppress(OSError):  # one that something is in stays
                path.rmdir()


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
    try:
        descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError as error:
        raise UnrolledError(f"{folder} can't be read as a run's folder: {error.strerror}") from None
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


def to_toml(options: Any, files: Sequence[str] = (), text: Mapping[str, Any] | None = None) -> str:
    """Return the configuration of a run, every option with its value; one that is not set is a comment.

    A path whose bytes are no UTF-8, which TOML can't hold, is written as a URI: "file:///home/a%FF.txt".

    Examples
    --------
    >>> from unrolled.data.options import SplitOptions
    >>> to_toml(SplitOptions(val_fraction=0.1), ["book.txt"]).splitlines()
    ['files = ["book.txt"]', 'val_fraction = 0.1', 'test_fraction = 0.0']
    """
    values = {"files": list(files)} | dict(text or {}) | asdict(options)
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


def read_toml(path: Path, kind: type[Any]) -> dict[str, Any]:
    """Read a configuration of a class of options: names and values, each of a kind that its option takes.

    Raises
    ------
    UnrolledError
        If the file can't be read, is no TOML, or has a key that is unknown or of another kind; names the line.
    """
    try:
        text = read_plain(path, "configuration").decode()
        if _is_deep(text):
            raise UnrolledError(f"{path}: the configuration has a key of many parts; options have plain names")
        values = recorded(tomllib.loads(text))
    except UnicodeDecodeError:
        raise UnrolledError(f"{path}: the configuration is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnrolledError(f"{path}: the configuration is not TOML: {error}") from None
    except UnrolledError:
        raise
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise UnrolledError(f"{path}: the configuration has a number of too many digits") from None
    kinds = {f.name: str(f.type) for f in fields(kind)} | TEXT_KEYS
    for name, value in values.items():
        where = f"{path}, line {_line_of(name, text)}"
        if name not in kinds:
            raise UnrolledError(f"{where}: {suggest('option', name, list(kinds))}")
        if kinds[name] == "list":
            if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
                raise UnrolledError(f"{where}: {name} is {brief(value)}; it must be a list of names")
            values[name] = [_from_uri(item) for item in value]
            continue
        try:
            check_option(options(Reading if name in TEXT_KEYS else kind)[name], value)
        except UnrolledError as error:
            raise UnrolledError(f"{where}: {error}") from None
    return values


_QUOTED = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")


def _is_deep(text: str) -> bool:
    """Whether a key has fifty parts and more: the time that reading it takes is the square of its length."""
    return any(part.count(".") >= 50 for part in re.split(r"[=,\n{}\[\]]", _QUOTED.sub("", text)))


def read_plain(path: Path, what: str) -> bytes:
    """Return a file's content; a pipe or a device, which might never end, is refused.

    Raises
    ------
    UnrolledError
        If it can't be read.
    """
    with storage.open_file(path, what) as file:
        return file.read()


def _line_of(name: str, text: str) -> int:
    """Line of a key, from 1; that of the table or the dotted key where it is the first part of one."""
    quoted = re.escape(name)
    key = re.compile(rf"""\s*(?:\[+\s*)?(?:{quoted}|"{quoted}"|'{quoted}')\s*[=.\]]""")
    return next((n for n, line in enumerate(text.splitlines(), 1) if key.match(line)), 1)


# --- what made the run ------------------------------------------------------------------------------------------------


def fingerprint(codec: Any, *parts: Array) -> str:
    """Return the SHA-256 of data as a network sees it: how it became numbers, as JSON, and these, (N,) each."""
    digest = hashlib.sha256(json.dumps(codec, sort_keys=True).encode())
    for tokens in parts:
        digest.update(f"{len(tokens)} tokens".encode())
        for start in range(0, len(tokens), 1 << 22):
            digest.update(np.ascontiguousarray(tokens[start : start + (1 << 22)], dtype="<i4").data)
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


def set_aside(folder: Path | None) -> tuple[str, ...]:
    """Return a note where a run's metrics have lines that are damaged."""
    if folder is None or not os.path.lexists(folder / METRICS):
        return ()
    damaged = len(read_metrics(folder)[1])
    lines = "a damaged line" if damaged == 1 else f"{damaged} damaged lines"
    return (f"{lines} of {METRICS} set aside in {DAMAGED}",) if damaged else ()


def begin(folder: Path, facts: Facts, text: Mapping[str, Any], made: Mapping[str, str]) -> None:
    """Write what a new run is: its configuration, what made it, and no metrics yet."""
    write_config(folder, facts.options, text)
    _write_about(folder, _about(facts, text, made))
    storage.write_atomically(folder / METRICS, b"")


def go_on(
    folder: Path, facts: Facts, text: Mapping[str, Any], made: Mapping[str, str], anew: Mapping[str, Any]
) -> None:
    """Write what a run that goes on has from here: its configuration as it is now, and what makes the rest of it."""
    remove_leftovers(folder)
    write_config(folder, facts.options, text)
    try:
        about = dict(json.loads(read_plain(folder / ABOUT, "record")))
        before = list(about.get("resumed", []))
    except (UnrolledError, ValueError, TypeError, RecursionError):  # it only tells of the run, which goes on without it
        about, before = _about(facts, text, made), []
    entry = {"step": facts.step, "command": sys.argv, "made_with": dict(made), "options": dict(anew)}
    _write_about(folder, about | {"resumed": [*before, entry]})


def write_config(folder: Path, options: Any, text: Mapping[str, Any]) -> None:
    """Write a run's configuration, unless it stands there already."""
    more = {"val_file": text["val"], "test_file": text["test"]} | text["how"]
    config, path = to_toml(options, text["files"], more).encode(), folder / CONFIG
    if not path.is_file() or path.read_bytes() != config:
        storage.write_atomically(path, config)


def _about(facts: Facts, text: Mapping[str, Any], made: Mapping[str, str]) -> dict[str, Any]:
    return {
        "command": sys.argv,
        "text": dict(text),
        "made_with": dict(made),
        # not platform.platform(), which asks whatever program is called uname
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
        "network": facts.model.spec.to_json(),
    }


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    storage.write_atomically(folder / ABOUT, (json.dumps(about, indent=2) + "\n").encode())


class Kind(NamedTuple):
    """What files of a kind of model hold: models and checkpoints.

    Attributes
    ----------
    name : what the kind is called
    options : class of its options
    codec : entries of a file that say how data becomes numbers, each with what reads it
    spec : function of the options and the codec's entries that describes the network
    head : function of the codec's entries that gives the network's head
    model : function of a network and the codec's entries that makes the model
    """

    name: str
    options: Any
    codec: Mapping[str, schema.Kind]
    spec: Callable[..., Any]
    head: Callable[..., Any]
    model: Callable[..., Any]


@dataclass(frozen=True)
class Reopened:
    """A run's checkpoint: its arrays, and what it says.

    Attributes
    ----------
    arrays : the arrays of the state now, and of the last scheduled checkpoint
    options : as the run had them
    codec : how data becomes numbers, by name
    source : where the data came from
    backend : what was asked for
    made_with : what decided how numbers were rounded
    states : what is no array of the states "now" and, if that was another step, "good"
    """

    arrays: Arrays
    options: Any
    codec: Mapping[str, Any]
    source: Mapping[str, Any]
    backend: str
    made_with: Mapping[str, str]
    states: Mapping[str, dict[str, Any]]

    @property
    def snapshot(self) -> Snapshot:
        """The arrays and the states."""
        return self.arrays, dict(self.states)

    @property
    def step(self) -> int:
        """Updates made."""
        return int(self.states["now"]["step"])

    @property
    def seconds(self) -> float:
        """Time of the run so far."""
        return float(self.states["now"]["seconds"])

    def begin_anew(self, options: Any, anew: Mapping[str, Any]) -> None:
        """Let go of what the states hold of options that are asked for anew."""
        for content in self.states.values():
            if options.schedule != self.options.schedule:
                content["schedule"] = options.make_schedule(1).state_dict()
            if "learning_rate" in anew:
                content["rate_scale"], content["rollbacks"] = 1.0, 0


def reopen(folder: Path, kind: Kind) -> Reopened:
    """Read a run's checkpoint.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the folder or its checkpoint.
    """
    path = folder / CHECKPOINT
    if folder.is_dir() and not os.path.exists(path):  # which never fails, however long the path is
        raise UnrolledError(f"{folder} holds no run to go on with: {CHECKPOINT} is missing")

    def check(content: Content, layout: Layout) -> Reopened:
        return _checked(content, layout, kind)

    found, arrays = storage.open_arrays(path, "unrolled_run", "checkpoint of a run", check)
    for name, array in arrays.items():
        if name.split(".")[1] != "optimizer" and not np.isfinite(array).all():
            raise UnrolledError(f"{path}: {name} holds values that are not finite")
    return replace(found, arrays=arrays)


def _checked(content: Content, layout: Layout, kind: Kind) -> Reopened:
    """Take what a checkpoint says, if its arrays are those of the run that it describes."""
    theirs = content.pop("kind", LANGUAGE_MODEL)
    if theirs != kind.name:
        raise UnrolledError(f"this is a run of a {brief(theirs)}, not of a {kind.name}")
    said = entries(_CHECKPOINT | dict(kind.codec), optional=("good", "made_with"))("", content)
    options, codec = kind.options(**said["options"]), {name: said[name] for name in kind.codec}
    spec = kind.spec(options, **codec)
    spec.check()
    states = {part: said[part] for part in ("now", "good") if part in said}
    expected: dict[str, tuple[int, ...]] = {}
    outputs = kind.head(**codec).outputs
    slots, carried = OPTIMIZERS[options.optimizer].rule.moments, spec.state_shapes(options.batch_size)
    for part in states:
        names = (name.removeprefix(f"{part}.") for name in layout if name.startswith(f"{part}."))
        shapes = state.shapes(names, spec.shapes(outputs), carried, slots)
        expected |= {f"{part}.{name}": shape for name, shape in shapes.items()}
    storage.check_layout(layout, expected, spec.dtype)
    return Reopened({}, options, codec, said["text"], said["backend"], said.get("made_with", {}), states)


LANGUAGE_MODEL = "language model"
"""Kind of what names none."""
_MADE_WITH = ("unrolled", "python", "numpy", "backend", "instruction set")
_TEXT = {
    "name": schema.text(),
    "files": each(schema.text()),
    "val": each(schema.text()),
    "test": each(schema.text()),
    "how": entries(_HOW, optional=_HOW),
    "sha256": schema.text(64),
    "symbols": whole(),
}
_CHECKPOINT: dict[str, schema.Kind] = {
    "options": objects,
    "text": entries(_TEXT),
    "backend": one_of(("auto", "cpu", "reference")),
    "now": state.STATE,
    "good": state.STATE,
    "made_with": entries(dict.fromkeys(_MADE_WITH, schema.text(1000)), optional=_MADE_WITH),
}
"""What a run's checkpoint says, beside its arrays."""


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process was writing."""
    storage.remove_leftovers(folder / name for name in FILES)


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics(folder: Path, *, validated: bool = False) -> list[dict[str, Any]]:
    """Return a run's metrics; a damaged line is left out, with a warning, and a last one that was cut off without.

    Raises
    ------
    UnrolledError
        If they can't be read, or it is to have been `validated` and has not been yet.
    """
    found, damaged = read_metrics(folder)
    lines = "a line is" if len(damaged) == 1 else f"{len(damaged)} lines are"
    if validated and not any("val_loss" in entry for entry in found):
        said = f" ({lines} damaged)" if damaged else ""
        raise UnrolledError(f"{folder} has no validation yet, so there is nothing to draw{said}")
    if damaged:
        warnings.warn(f"{folder / METRICS}: {lines} damaged and left out", UnrolledWarning, stacklevel=2)
    return found


def read_metrics(folder: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return a run's metrics, and the lines that are none.

    Raises
    ------
    UnrolledError
        If they can't be read.
    """
    try:
        lines = read_plain(folder / METRICS, "metrics").splitlines(keepends=True)
    except UnrolledError as error:
        raise UnrolledError(f"{error}; is this a run's folder?") from None
    found, damaged = [], []
    for line in lines:
        try:
            entry = json.loads(line.decode())
        except (ValueError, RecursionError):
            entry = None
        if _is_entry(entry):
            found.append(entry)
        elif line.endswith(b"\n"):
            damaged.append(line)
    return found, damaged


def _is_entry(entry: Any) -> bool:
    """Whether this is what `Log` writes: a validation's figures, or what else happened at a step."""
    if not isinstance(entry, dict) or type(entry.get("step")) is not int or not 0 <= entry["step"] < 1 << 53:
        return False
    numbers = {"epoch", "train_loss", "seconds"} if "val_loss" in entry else set[str]()
    if entry.get("val_loss") is not None:
        numbers.add("val_loss")
    given = entry.keys() & {"rate", "symbols_per_second", "rate_factor"}
    return all(is_number(entry.get(name)) and abs(entry[name]) < LARGEST for name in numbers | given)


class Log(Callback):
    """Writes `metrics.jsonl`.

    Parameters
    ----------
    folder : Path
    begin : function of this log, optional
        Called once the first checkpoint is there, or has been gone on from: nothing is written before.
    """

    def __init__(self, folder: Path, begin: Callable[[Log], None] | None = None) -> None:
        self.path, self.begin = folder / METRICS, begin
        self.rate = self.speed = 0.0

    def forget_after(self, step: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Leave out what a run that goes on from a step will write again; put in what `history` has more.

        Damaged lines are kept in a file beside.
        """
        found, damaged = read_metrics(self.path.parent) if self.path.exists() else ([], [])
        kept = [entry for entry in found if entry["step"] <= step]
        there = {entry["step"] for entry in kept if "val_loss" in entry}
        kept += [dict(entry) for entry in history if entry["step"] not in there]
        lines = [json.dumps(entry) + "\n" for entry in sorted(kept, key=lambda entry: int(entry["step"]))]
        if damaged:
            beside = self.path.with_name(DAMAGED)
            old = read_plain(beside, "damaged metrics") if beside.exists() else b""
            storage.write_atomically(beside, old + b"".join(damaged))
        storage.write_atomically(self.path, "".join(lines).encode())

    def write(self, **entry: Any) -> None:
        """Add a line; only to a file, never through a link or into a pipe that has taken its place."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with open(os.open(self.path, flags, 0o666), "a", encoding="utf-8") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnrolledError(f"can't write {self.path}: it is no file any more; the run is saved")
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            said = "it is a link now" if error.errno == errno.ELOOP else error.strerror
            raise UnrolledError(f"can't write {self.path}: {said}; the run is saved") from None

    def saved(self, step: int) -> None:
        """Write what the run is, if it has just begun or goes on."""
        begin, self.begin = self.begin, None
        if begin is not None:
            begin(self)

    def stepped(self, progress: Progress) -> None:
        """Remember the rate and the speed for the next line."""
        self.rate, self.speed = progress.rate, progress.symbols_per_second

    def resumed(self, progress: Progress) -> None:
        """Remember the rate and the speed: a validation may be the first that happens."""
        self.rate, self.speed = progress.rate, progress.symbols_per_second

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Write a line."""
        self.write(**evaluation.to_json(), best=best, rate=self.rate, symbols_per_second=round(self.speed, 1))

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Leave out what came after the step, and write why."""
        self.forget_after(step)
        self.write(step=step, rolled_back=why, rate_factor=factor)


def absolute(paths: Sequence[str]) -> list[str]:
    """Paths that mean the same from any folder; standard input stays what it is."""
    return [path if path == "-" else os.path.abspath(path) for path in paths]
