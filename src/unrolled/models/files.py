"""Models and training runs <-> safetensors files. No pickle anywhere.

A model file holds the parameters by their names and one entry of metadata, `unrolled`: a JSON object of the format's
version, the kind of model (a language model where none is named), the `Spec`, how data becomes numbers (a language
model's vocabulary, say) and a SHA-256 of all that. (One entry, since safetensors writes several in no fixed
order.) It holds no time, path, host or command: the same network gives the same bytes. A run's checkpoint is such a
file too, with the arrays of a `TrainingState` and the entry `unrolled_run`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from .. import backends, storage
from ..cells import Cell, find_cell
from ..checks import Array, array_dtype
from ..data.text import Vocabulary
from ..errors import UnrolledError, brief, check_path, one_line, printable, suggest, warn
from ..nn import own_cells, rounding
from ..nn.network import Network
from ..nn.spec import Spec
from ..schema import entries, objects, one_of
from ..storage import Arrays, Content, Layout, Stored
from ..training import run_folder as run
from ..training.checkpoints import LANGUAGE_MODEL, Kind
from ..training.trainer import MODEL

KINDS = {
    LANGUAGE_MODEL: "language_model",
    "tagger": "tagger",
    "classifier": "classifier",
    "regressor": "regressor",
    "forecaster": "forecaster",
}
"""Kinds of models as files call them -> the module here that has the `KIND`."""


BUILT_IN = ("pride",)
"""Models that are in the package, by the names that they are loaded by, and `unrolled fetch` has the text of each by;
docs/models has their pages."""

BUILT_IN_FOLDER = Path(__file__).with_name("built_in")

WEIGHTS = "weights"
"""Entry of a file whose weights are smaller than float32."""


def kind_named(name: object) -> Kind:
    """Return the kind of model that files call so."""
    if not isinstance(name, str) or name not in KINDS:
        raise UnrolledError(f"its kind is {brief(name)}, which this version of unrolled does not know: update unrolled")
    kind: Kind = import_module(f".{KINDS[name]}", __package__).KIND
    return kind


def kinds() -> dict[str, Kind]:
    """Return all kinds of models that learn from files, by what they are asked for by."""
    return {kind.task: kind for kind in map(kind_named, KINDS) if kind.task}


def write(path: str | Path, network: Network, codec: Content, params: Arrays | None = None) -> dict[str, Stored]:
    """Write a model file: beside the old one, read back, then renamed over it.

    Its parameters are the network's, or `params`, which may be in a file; return them as they are in the new one. A
    network of smaller weights is written so for as long as its parameters are those (`rounding.form_of`): once they
    were trained on, it is float32.

    Raises
    ------
    UnrolledError
        If it can't be written, or doesn't read back as it was; an older file is left as it is.
    """
    content = {"spec": network.spec.to_json()} | own_cells.entry(network.spec) | codec
    if params is None and (weights := rounding.form_of(network.params, network.weights)) != "float32":
        content, params = content | {WEIGHTS: weights}, rounding.packed(network.params, weights)
    return storage.write_arrays(path, "unrolled", network.params if params is None else params, content)


def read(
    path: str | Path, backend: str = "auto", cell: str | Cell | None = None, weights: str | None = None
) -> tuple[Kind, Network, Content]:
    """Read a model file: its kind, its network, and how data becomes numbers.

    A file whose cell is a user's own holds none of its code: `cell` is that cell, unless it is registered. `weights`
    rounds a float32 model to a smaller form ("bfloat16", "int8"); None leaves them as the file has them.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong: missing, cut off, a header that lies, not ours, from a newer format,
        changed since it was written, parameters that are missing, unknown or misshapen, or a cell that is missing or
        another one.
    """
    backends.choose(backend)  # what is wrong with it, or with the environment, is no fault of the file's
    kind, spec, codec, params, _, form = described(path, cell)
    try:
        wanted = rounding.check_weights(form if weights is None else weights, spec.dtype)
        if form not in ("float32", wanted) and wanted != "float32":
            raise UnrolledError(f"its weights are {form} already; round the float32 model that they were made of")
        if form != wanted:
            params = rounding.rounded(params, wanted)
        find_cell(spec.cell)
        network = Network(spec, backend=backend, rng=0, head=kind.head(**codec))
        network.load_params(params)
        network.weights = wanted
    except UnrolledError as error:
        name = Path(path).stem if is_built_in(path) else path
        raise UnrolledError(f"{name}: {one_line(str(error))}") from None
    return kind, network, codec


class Described(NamedTuple):
    """What a model file says: the kind of model, its network, how data becomes numbers, and its parameters."""

    kind: Kind
    spec: Spec
    codec: Content
    params: Mapping[str, Array]
    own: own_cells.Written | None
    """What is said of the cell, where it is a user's own."""
    weights: str = "float32"
    """The form of its weights."""

    def lines(self) -> list[tuple[str, str]]:
        """Return that in lines, as `unrolled info` prints it."""
        own = [] if self.own is None else [("cell's hash", self.own.sha256)]
        details = self.kind.model.details(SimpleNamespace(**self.codec))  # which say nothing of the network
        size = sum(p.size for p in self.params.values())
        scale = ", with a float32 scale a row" if self.weights == "int8" else ""
        small = [] if self.weights == "float32" else [(WEIGHTS, f"{self.weights}{scale}; biases and the like float32")]
        return [*self.spec.to_json().items(), *own, *small, *details, ("parameters", f"{size:,}")]


def described(path: str | Path, cell: str | Cell | None = None) -> Described:
    """Read a model file as `read` does, but make no network: so the cell may be missing, where it is a user's own."""

    def check(content: Content, layout: Layout) -> Described:
        return _check(content, layout, cell)

    found, arrays = storage.read_arrays(path, "unrolled", "model", check)
    try:
        rounding.check_packed(arrays, found.weights)
    except UnrolledError as error:
        raise UnrolledError(f"{path} is damaged: {one_line(str(error))}") from None
    arrays = rounding.unpacked(arrays, found.weights)
    if own_cells.is_absent(found.spec):
        return found._replace(params=dict(sorted(arrays.items())))
    shapes = found.spec.shapes(found.kind.head(**found.codec))
    return found._replace(params={name: arrays[name] for name in shapes})


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return a model's file: a built-in one by its name; in a run's folder that of the best one.

    A `Path` of that name is the built-in one where nothing else is called so.

    Raises
    ------
    UnrolledError
        If nothing is there, and the name is that of no built-in model either.
    """
    plain = check_path("the path of a model", path)
    if plain in BUILT_IN and (isinstance(path, str) or not os.path.lexists(path)):
        if os.path.lexists(path):
            warn(f"{path} is the built-in model; what is called so in this folder is ./{path}")
        return BUILT_IN_FOLDER / f"{plain}.safetensors"
    file = Path(plain)
    if file.parent == Path() and not file.suffix and not os.path.lexists(file):
        raise UnrolledError(f"{plain}: no such file or folder, and {suggest('built-in model', plain, list(BUILT_IN))}")
    if not file.is_dir():
        return file
    if storage.is_missing(file / MODEL):
        _check_search(file)
    return file / MODEL


def _check_search(folder: Path) -> None:
    """Raise an error where a folder without a model is that of a search, or of one of its trials."""
    name = printable(os.fspath(folder))
    if (folder / run.SEARCH).exists():
        kept = [printable(os.fspath(path.parent)) for path in sorted(folder.glob(f"*/*/{MODEL}"))]
        raise UnrolledError(f"{name} is a search; its runs with a model are {', '.join(kept) or 'none yet'}")
    if (folder.parent.parent / run.SEARCH).exists():
        raise UnrolledError(f"{name} has no model: its search kept that of the best run alone; --keep keeps all")


def is_built_in(file: str | Path) -> bool:
    """Whether a model's file is in the package."""
    return Path(file).parent == BUILT_IN_FOLDER


def save(path: str | Path, network: Network, vocabulary: Vocabulary, params: Arrays | None = None) -> dict[str, Stored]:
    """Write a language model; see `write`."""
    return write(path, network, {"vocabulary": vocabulary.to_json()}, params)


def load(
    path: str | Path, backend: str = "auto", cell: str | Cell | None = None, weights: str | None = None
) -> tuple[Network, Vocabulary]:
    """Read a language model; see `read`."""
    kind, network, codec = read(path, backend, cell, weights)
    if kind.name != LANGUAGE_MODEL:
        raise UnrolledError(
            f"{path} is {kind.noun}, no language model; unrolled.load reads it, unrolled predict uses it"
        )
    return network, codec["vocabulary"]


def _check(content: Content, layout: Layout, cell: str | Cell | None) -> Described:
    """Take a model's description, if its arrays are those that it describes."""
    kind = kind_named(content.pop("kind", LANGUAGE_MODEL))
    own = own_cells.read_entry(content[own_cells.ENTRY]) if own_cells.ENTRY in content else None
    if "spec" in content:
        content["spec"] = own_cells.meant(content, objects("spec", content["spec"]), cell)
    known = {"spec": lambda _, value: Spec.from_json(value), WEIGHTS: one_of(rounding.WEIGHTS[1:])} | dict(kind.codec)
    codec: Content = entries(known, optional=(WEIGHTS,))("", content)
    spec: Spec = codec.pop("spec")
    weights = rounding.check_weights(codec.pop(WEIGHTS, "float32"), spec.dtype)
    if "vocabulary" in codec and len(codec["vocabulary"]) != spec.vocabulary_size:
        size = len(codec["vocabulary"])
        raise UnrolledError(f"its vocabulary has {size} symbols, its description says {spec.vocabulary_size}")
    if "characters" in codec and (size := len(set(codec["characters"]))) + bool(size) != spec.characters:
        raise UnrolledError(f"it knows {size} characters and the unknown one, its description has {spec.characters}")
    if own is not None and own_cells.is_absent(spec):
        said = rounding.packed_layout(own.parameters, weights)
        storage.check_layout(own_cells.of_stacks(layout), said[0], array_dtype(spec.dtype), said[1])
    else:
        spec.check()
        said = rounding.packed_layout(spec.shapes(kind.head(**codec)), weights)
        storage.check_layout(layout, said[0], array_dtype(spec.dtype), said[1])
    return Described(kind, spec, codec, {}, own, weights)
