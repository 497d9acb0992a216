"""Kinds of models that learn from data other than running text: what they share, from files to a run and back."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import numpy as np

from ..checks import Array, as_kind
from ..data.batches import Batches
from ..data.examples import Labelled
from ..data.split import USES, check_apart, files_in
from ..data.text.files import check_again
from ..errors import UnrolledError, check_path, count
from ..nn.network import Network
from ..storage import Arrays, Stored
from ..training import checkpoints, metrics_log
from ..training import run_folder as run
from ..training.callbacks import Facts, Result
from . import files
from .automatic import for_rows
from .base import OfNetwork, Prepared, begin, ended, go_on


class Scored(NamedTuple):
    """How well a model does on data.

    Attributes
    ----------
    figures : dict
        Numbers by name, tables as lists and dictionaries, as JSON takes them.
    lines : list of str
        The same for people.
    """

    figures: dict[str, Any]
    lines: list[str]


class Material(NamedTuple):
    """The data of a run, as a kind of model has read it.

    Attributes
    ----------
    parts : dict of Batches
        "train", and "val" and "test" where there are such.
    codec : dict
        How data becomes numbers, as the kind's model takes it.
    digest : list of arrays
        All numbers that the parts are made of: a run that goes on must find them again.
    paths : dict of lists of str
        The files that each part was read from.
    name : str
        What the data is called.
    unit, row : str
        What a target is: "tag", and what a row of a batch is: "sentence".
    size : str
        How much data there is, in words.
    about : list of pairs (label, line)
        The data in a few lines.
    notes : list of str
        What was noticed while it was read.
    """

    parts: Mapping[str, Batches]
    codec: Mapping[str, Any]
    digest: Sequence[Array]
    paths: Mapping[str, Sequence[str]]
    name: str
    unit: str
    row: str
    size: str
    about: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()


PLACES = {"files": "train", "val": "val", "test": "test"}
"""Where a checkpoint says which files each part was read from."""


def files_named(source: Any) -> list[str]:
    """Return the files that data for a run are, or were read from; none where they are in memory."""
    if isinstance(source, Labelled):
        return list(source.paths)
    several = source if isinstance(source, (list, tuple)) else [source]
    if not all(isinstance(path, (str, os.PathLike)) for path in several):
        return []
    return [check_path("a file to read", path) for path in several]


class OfData(OfNetwork):
    """A model that learns from data other than running text; what all kinds of them share.

    A kind has a `material`, an `evaluate`, a `preview` and a `codec`, and what people do with it: `predict`, `score`,
    and for the command `predictions`, `scored` and perhaps `draw`.
    """

    result: Result | None = None
    """How training went, after `train`."""

    inside = staticmethod(files_in)
    """Returns the files that are read of a folder, where one is named."""

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Any, codec: Mapping[str, Any] | None) -> Material:
        """Read the data of a run.

        Parameters
        ----------
        sources : dict
            "train", and "val" and "test" where there are such: files, or data in memory.
        options : the kind's
        codec : dict, optional
            How data becomes numbers, where a run goes on and so knows it.
        """
        raise NotImplementedError

    def codec(self) -> dict[str, Any]:
        """Return how data becomes numbers, as JSON."""
        raise NotImplementedError

    @classmethod
    def _train(
        cls, source: Any, val: Any, test: Any, asked: Mapping[str, Any], *, auto: bool = False, backend: str, **how: Any
    ) -> Self:
        """Train a new model, with the options asked for; `how` is what else `begin` takes."""
        kind, held = files.kind_named(cls.kind), {"val": val, "test": test}
        auto = as_kind("auto", auto, "bool")
        sources = {"train": source} | {part: some for part, some in held.items() if some is not None}

        def prepare(chosen: Any, folder: Path | None) -> Prepared:
            return cls._prepared(sources, chosen, folder, backend, asked=set(asked) if auto else None)

        return cls._of(*begin(kind, prepare, asked, **how))

    @classmethod
    def _resume(cls, folder: str | os.PathLike[str], source: Any, anew: Mapping[str, Any], **how: Any) -> Self:
        """Go on with a run, with some options anew; `how` is what else `go_on` takes."""
        return cls._of(*go_on(files.kind_named(cls.kind), folder, partial(cls._again, source), anew, **how))

    @classmethod
    def _again(cls, source: Any, chosen: Any, folder: Path, backend: str, before: checkpoints.Reopened) -> Prepared:
        """Prepare a run once more, with the data that it had, read again where none is given."""
        paths = {part: before.source[place] for place, part in PLACES.items()}
        if source is not None:
            paths["train"] = []
        for part, some in paths.items():
            check_again(some, f"the data of {folder} to {USES[part]} on", "give it again" if part == "train" else "")
        found = {part: some for part, some in paths.items() if some} | ({} if source is None else {"train": source})
        if "train" not in found:
            raise UnrolledError(f"the data of {folder} was no file; give it again")
        return cls._prepared(found, chosen, folder, backend, before)

    @classmethod
    def _of(cls, trained: Self, result: Result) -> Self:
        trained.result = result
        return ended(trained, result)

    @classmethod
    def _prepared(
        cls,
        sources: Mapping[str, Any],
        options: Any,
        folder: Path | None,
        backend: str,
        before: checkpoints.Reopened | None = None,
        asked: Collection[str] | None = None,
    ) -> Prepared:
        """Make of data a run from the start, or one that goes on; passes are chosen where options `asked` are given."""
        kind = files.kind_named(cls.kind)
        if before is None:
            check_apart({part: files_named(source) for part, source in sources.items()}, cls.inside)
        try:
            material = cls.material(sources, options, None if before is None else before.codec)
        except UnrolledError as error:
            if before is None:
                raise
            raise UnrolledError(f"the data of {folder} is not as it was: {error}") from None
        rng = np.random.default_rng(options.seed)
        codec, parts = dict(material.codec), material.parts
        spec, head = kind.spec(options, **codec), kind.head(**codec)
        why: tuple[str, ...] = ()
        if asked is not None:
            options, why = for_rows(options, asked, parts["train"], spec, head)
        network = Network(spec, backend=backend, rng=rng, head=head)
        model = kind.model(network, **codec)
        digest = run.fingerprint(model.codec(), *material.digest)
        source = {
            "name": material.name,
            **{place: run.absolute(material.paths.get(part, [])) for place, part in PLACES.items()},
            "how": {},
            "sha256": digest,
            "symbols": int(parts["train"].targets),
        }
        if before is not None and digest != before.source["sha256"]:
            raise UnrolledError(f"the data is not what {folder} was trained on. Give the old data, or start a new run")
        made = run.made_with(network.recurrent.backend)
        again = () if before is None else run.made_elsewhere(before.made_with, made) + metrics_log.set_aside(folder)
        facts = Facts(
            name=material.name,
            notes=(*material.notes, *again),
            unit=material.unit,
            size=material.size,
            about=(*material.about, *[("chosen", line) for line in why]),
            model=model,
            options=options,
            plan=f"{count(options.batch_size, material.row)} a step",
            out=folder,
            step=0 if before is None else before.step,
            use="unrolled predict {model} FILE",
            task=kind.task,
            sha256=digest,
        )
        return Prepared(
            facts=facts,
            train=parts["train"],
            val=parts.get("val"),
            test=parts.get("test"),
            eval_every=options.eval_every or len(parts["train"]),
            rng=rng,
            codec={"kind": cls.kind} | model.codec(),
            source=source,
            backend=backend,
            resume=before,
            made_with=made,
        )

    # --- what people do with it

    def predictions(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield, in pieces, the text that is written of files: what is in them, with what the model says of it."""
        raise NotImplementedError

    def scored(self, paths: Sequence[str]) -> Scored:
        """Return how well the model does on files, as the command prints it."""
        raise NotImplementedError

    def draw(self, paths: Sequence[str]) -> Any:
        """Return a picture of what the model makes of files, a matplotlib Figure."""
        self._has_not("a picture of data; unrolled plot RUN draws a run's losses")

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network, as `unrolled info` prints it."""
        return []

    def _has_not(self, what: str) -> NoReturn:
        raise UnrolledError(f"{files.kind_named(self.kind).noun} has not {what}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file."""
        self.write(Path(check_path("the path of a model", path)))

    def write(self, path: Path, params: Arrays | None = None) -> dict[str, Stored]:
        """Write a model file."""
        return files.write(path, self.network, {"kind": self.kind} | self.codec(), params)
