"""Models and training runs <-> safetensors files. No pickle anywhere.

A model file holds the parameters by their names and one entry of metadata, `unrolled`: a JSON object of the format's
version, the kind of model (a language model where none is named), the `Spec`, how data becomes numbers (a language
model's vocabulary, say) and a SHA-256 of all that. (One entry, since safetensors writes several in no fixed
order.) It holds no time, path, host or command: the same network gives the same bytes. A run's checkpoint is such a
file too, with the arrays of a `TrainingState` and the entry `unrolled_run`.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from .. import backends, storage
from ..data.text import Vocabulary
from ..errors import UnrolledError, brief, check_path, one_line
from ..nn.network import Network
from ..nn.spec import Spec
from ..schema import entries
from ..storage import Arrays, Content, Layout, Stored
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

    Its parameters are the network's, or `params`, which may be in a file; return them as they are in the new one.

    Raises
    ------
    UnrolledError
        If it can't be written, or doesn't read back as it was; an older file is left as it is.
    """
    content = {"spec": network.spec.to_json()} | codec
    return storage.write_arrays(path, "unrolled", network.params if params is None else params, content)


def read(path: str | Path, backend: str = "auto") -> tuple[Kind, Network, Content]:
    """Read a model file: its kind, its network, and how data becomes numbers.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong: missing, cut off, a header that lies, not ours, from a newer format,
        changed since it was written, or parameters that are missing, unknown or misshapen.
    """
    backends.choose(backend)  # what is wrong with it, or with the environment, is no fault of the file's
    (kind, spec, codec), arrays = storage.read_arrays(path, "unrolled", "model", _check)
    try:
        network = Network(spec, backend=backend, rng=0, head=kind.head(**codec))
        network.load_params(arrays)
    except UnrolledError as error:
        raise UnrolledError(f"{path}: {one_line(str(error))}") from None
    return kind, network, codec


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return a model's file; in a run's folder that of the best one."""
    file = Path(check_path("the path of a model", path))
    return file / MODEL if file.is_dir() else file


def save(path: str | Path, network: Network, vocabulary: Vocabulary, params: Arrays | None = None) -> dict[str, Stored]:
    """Write a language model; see `write`."""
    return write(path, network, {"vocabulary": vocabulary.to_json()}, params)


def load(path: str | Path, backend: str = "auto") -> tuple[Network, Vocabulary]:
    """Read a language model; see `read`."""
    kind, network, codec = read(path, backend)
    if kind.name != LANGUAGE_MODEL:
        raise UnrolledError(
            f"{path} is {kind.noun}, no language model; unrolled.load reads it, unrolled predict uses it"
        )
    return network, codec["vocabulary"]


def _check(content: Content, layout: Layout) -> tuple[Kind, Spec, Content]:
    """Take a model's description, if its arrays are those that it describes."""
    kind = kind_named(content.pop("kind", LANGUAGE_MODEL))
    codec: Content = entries({"spec": lambda _, value: Spec.from_json(value)} | dict(kind.codec))("", content)
    spec: Spec = codec.pop("spec")
    if "vocabulary" in codec and len(codec["vocabulary"]) != spec.vocabulary_size:
        size = len(codec["vocabulary"])
        raise UnrolledError(f"its vocabulary has {size} symbols, its description says {spec.vocabulary_size}")
    if "characters" in codec and (size := len(set(codec["characters"]))) + bool(size) != spec.characters:
        raise UnrolledError(f"it knows {size} characters and the unknown one, its description has {spec.characters}")
    spec.check()
    storage.check_layout(layout, spec.shapes(kind.head(**codec)), spec.dtype)
    return kind, spec, codec
