"""Models and training runs <-> safetensors files. No pickle anywhere.

A model file holds the parameters by their names and one entry of metadata, `unrolled`: a JSON object of the format's
version, the `Spec`, the vocabulary and a SHA-256 of all that. (One entry, since safetensors writes several in no fixed
order.) It holds no time, path, host or command: the same network gives the same bytes. A run's checkpoint is such a
file too, with the arrays of a `TrainingState` and the entry `unrolled_run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from .. import backends, storage
from ..data.text import Vocabulary
from ..errors import UnrolledError, one_line
from ..nn.network import Network
from ..nn.spec import Spec
from ..schema import entries
from ..storage import Arrays, Content, Layout, Stored

T = TypeVar("T")


def save(path: str | Path, network: Network, vocabulary: Vocabulary, params: Arrays | None = None) -> dict[str, Stored]:
    """Write a model file: beside the old one, read back, then renamed over it.

    Its parameters are the network's, or `params`, which may be in a file; return them as they are in the new one.

    Raises
    ------
    UnrolledError
        If it can't be written, or doesn't read back as it was; an older file is left as it is.
    """
    content = {"spec": network.spec.to_json(), "vocabulary": vocabulary.to_json()}
    return storage.write_arrays(path, "unrolled", network.params if params is None else params, content)


def load(path: str | Path, backend: str = "auto") -> tuple[Network, Vocabulary]:
    """Read a model file.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong: missing, cut off, a header that lies, not ours, from a newer format,
        changed since it was written, or parameters that are missing, unknown or misshapen.
    """
    backends.choose(backend)  # what is wrong with it, or with the environment, is no fault of the file's
    (spec, vocabulary), arrays = storage.read_arrays(path, "unrolled", "model", _check)
    try:
        network = Network(spec, backend=backend, rng=0)
        network.load_params(arrays)
    except UnrolledError as error:
        raise UnrolledError(f"{path}: {one_line(str(error))}") from None
    return network, vocabulary


def _check(content: Content, layout: Layout) -> tuple[Spec, Vocabulary]:
    """Take a model's description, if its arrays are those that it describes."""
    said = _MODEL("", content)
    spec, vocabulary = said["spec"], said["vocabulary"]
    if len(vocabulary) != spec.vocabulary_size:
        raise UnrolledError(
            f"its vocabulary has {len(vocabulary)} symbols, its description says {spec.vocabulary_size}"
        )
    spec.check()
    storage.check_layout(layout, spec.shapes(), spec.dtype)
    return spec, vocabulary


_MODEL = entries({"spec": lambda _, value: Spec.from_json(value), "vocabulary": lambda _, v: Vocabulary.from_json(v)})
