"""A run's checkpoint: what kind of model it is of, what it says, and reading it again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import schema, storage
from ..cells import Cell
from ..checks import array_dtype
from ..data.text import Reading
from ..data.text.options import DOCUMENTS
from ..declared import options
from ..errors import UnrolledError, brief
from ..nn import own_cells
from ..schema import each, either, entries, flag, objects, one_of, whole
from ..storage import Arrays, Content, Layout
from . import state
from .optimizers import OPTIMIZERS
from .state import Snapshot
from .trainer import CHECKPOINT

_HOW = {name: {"bool": flag(), "str": schema.text()}[str(f.type)] for name, f in options(Reading).items()}
_HOW |= {"strip_gutenberg": flag(), "documents": either(flag(), one_of(DOCUMENTS))}  # in runs of before: flags


class Kind(NamedTuple):
    """The contents of files of a kind of model: models and checkpoints.

    Attributes
    ----------
    name : what the kind is called
    options : class of its options
    codec : entries of a file that say how data becomes numbers, each with what reads it
    spec : function of the options and the codec's entries that describes the network
    head : function of the codec's entries that gives the network's head
    model : its class, which a network and the codec's entries make one of
    task : what the kind is asked for by: "tag"; "" where it learns from no files
    noun : with its article: "a tagger"
    endings : of the names of files that say by themselves what they are for
    begins : with what files say so, whatever they are called; "" for none
    reading : class of options that say how files are read and are none of the model's, if there are such
    """

    name: str
    options: Any
    codec: Mapping[str, schema.Kind]
    spec: Callable[..., Any]
    head: Callable[..., Any]
    model: Any
    task: str
    noun: str
    endings: tuple[str, ...] = ()
    reading: Any = None
    begins: str = ""


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


def kind_of(folder: Path) -> str:
    """Return the name of the kind of model that a run's checkpoint is of."""
    content = storage.described(_path(folder), "unrolled_run", "checkpoint of a run")
    return str(content.get("kind", LANGUAGE_MODEL))


def _path(folder: Path) -> Path:
    """Return where a run's checkpoint is, or say that there is none."""
    path = folder / CHECKPOINT
    if not os.path.lexists(folder):
        raise UnrolledError(f"there is no run {folder}; check the path")
    if folder.is_dir() and storage.is_missing(path):
        raise UnrolledError(f"{folder} holds no run to go on with: {CHECKPOINT} is missing")
    return path


def reopen(folder: Path, kind: Kind, cell: str | Cell | None = None) -> Reopened:
    """Read a run's checkpoint; the cell is handed in where it is a user's own.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the folder or its checkpoint.
    """
    path = _path(folder)

    def check(content: Content, layout: Layout) -> Reopened:
        return _checked(content, layout, kind, cell)

    found, arrays = storage.open_arrays(path, "unrolled_run", "checkpoint of a run", check)
    for name, array in arrays.items():
        if name.split(".")[1] != "optimizer" and not np.isfinite(array).all():
            raise UnrolledError(f"{path}: {name} holds values that are not finite")
    return replace(found, arrays=arrays)


def _checked(content: Content, layout: Layout, kind: Kind, cell: str | Cell | None) -> Reopened:
    """Take what a checkpoint says, if its arrays are those of the run that it describes."""
    theirs = content.pop("kind", LANGUAGE_MODEL)
    if theirs != kind.name:
        raise UnrolledError(f"this is a run of a {brief(theirs)}, not of a {kind.name}")
    if "options" in content:
        content["options"] = own_cells.meant(content, objects("options", content["options"]), cell)
    said = entries(_CHECKPOINT | dict(kind.codec), optional=("good", "made_with"))("", content)
    chosen, codec = kind.options(**said["options"]), {name: said[name] for name in kind.codec}
    spec = kind.spec(chosen, **codec)
    spec.check()
    states = {part: said[part] for part in ("now", "good") if part in said}
    expected: dict[str, tuple[int, ...]] = {}
    head = kind.head(**codec)
    slots, carried = OPTIMIZERS[chosen.optimizer].rule.moments, spec.state_shapes(chosen.batch_size)
    for part in states:
        names = (name.removeprefix(f"{part}.") for name in layout if name.startswith(f"{part}."))
        shapes = state.shapes(names, spec.shapes(head), carried, slots)
        expected |= {f"{part}.{name}": shape for name, shape in shapes.items()}
    storage.check_layout(layout, expected, array_dtype(spec.dtype))
    return Reopened({}, chosen, codec, said["text"], said["backend"], said.get("made_with", {}), states)


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
"""The schema of a checkpoint's description, beside its arrays."""
