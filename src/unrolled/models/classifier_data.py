"""The data of a classifier: its options, and labelled texts or series as what a network reads."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..cells import Cell
from ..checks import Array, check_size
from ..data.codecs import LEVELS, Codec, SeriesCodec, TextCodec
from ..data.examples import Labelled, labelled
from ..data.labelled import read_labelled
from ..data.options import TextOptions
from ..data.padded import Padded
from ..data.split import USES, stratified
from ..declared import Declared, again, documented, one_of, option
from ..errors import UnrolledError, brief, count, listed, suggest
from ..keywords import suggesting
from ..nn.options import SpellingOptions
from ..nn.pools import POOLS
from .of_data import Material
from .options import ModelOptions

WEIGHTS = ("none", "balanced")


@dataclass(frozen=True)
class ClassifiedOptions(Declared):
    """Options of labelled texts and series, and of what is made of them."""

    text: str = option("", "Column of the texts, in tables.", "Data", unset="text, or the one beside the labels")
    label: str = option("", "Column of the labels, in tables.", "Data", unset="label, or the one beside the texts")
    id: str = option("", "Column that says which series a row is a step of.", "Data")
    time: str = option("", "Column that puts the rows of a series in order.", "Data", unset="as they come")
    encoding: str = option("utf-8", "Of texts: utf-8, latin-1 (ISO-8859-1), cp1252, ...", "Data")
    folds: int = option(
        0,
        "Cross-validation of so many folds; 0 for none.",
        "Data",
        partial(check_size, least=0),
        about="Folds of a cross-validation: beside the run itself, which learns from all examples, one run a fold is "
        "trained on the others and tested on it. Each fold has all labels alike. 0 for none.",
    )
    level: str = again(TextOptions, "level", "word", check=one_of("level", LEVELS))
    min_count: int = again(TextOptions, "min_count", 2)
    max_symbols: int = again(TextOptions, "max_symbols", 0)
    lower: bool = again(TextOptions, "lower", True)
    words: str = again(TextOptions, "words", "punctuation")
    pooling: str = option(
        "mean",
        f"What is shown of all steps: {', '.join(POOLS)}.",
        "Head",
        one_of("pooling", tuple(POOLS)),
        about="What of the last layer's outputs the label is seen from: those of the last step, their mean or largest "
        "over all steps, or their mean by weights that are learnt (attention).",
    )
    class_weights: str = option(
        "none",
        "What examples count: none (all alike), balanced (all labels alike).",
        "Learning",
        one_of("class weights", WEIGHTS),
        about="What examples count in training: `none`, all alike; `balanced`, all labels alike, so that rare ones are "
        "not passed over: each counts N / (K n) with N examples, K labels, n examples of its label. The best model is "
        "then that of the highest macro F1, not of the highest accuracy.",
    )


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, ClassifiedOptions):
    """How to build and train a classifier.

    Attributes
    ----------
    **options

    Examples
    --------
    >>> Options(hidden_size=(6, 5)).num_layers
    2
    """

    embedding_size: int = again(ModelOptions, "embedding_size", 100)
    hidden_size: int | tuple[int, ...] = again(ModelOptions, "hidden_size", 64)
    num_layers: int = again(ModelOptions, "num_layers", 1)
    bidirectional: bool = again(ModelOptions, "bidirectional", True)
    cell: str | Cell = again(ModelOptions, "cell", "gru_reset_after")
    dropout: float = again(ModelOptions, "dropout", 0.5)
    word_dropout: float = again(
        SpellingOptions,
        "word_dropout",
        0.3,
        help="Share of symbols that are read as unknown.",
        about="Share of a training pass's words, characters or byte pairs that are read as the unknown one.",
    )
    epochs: float = again(ModelOptions, "epochs", 100.0)
    batch_size: int = again(ModelOptions, "batch_size", 50, help="Examples side by side.")
    patience: int = again(ModelOptions, "patience", 10)
    sample_length: int = again(ModelOptions, "sample_length", 0)
    val_fraction: float = again(ModelOptions, "val_fraction", 0.1)


def material(sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
    """Read the examples of a run; see `OfData.material`."""
    parts: dict[str, Labelled] = {}
    for name in ("train", *(other for other in sources if other != "train")):
        classes = [str(label) for label in parts["train"].labels or ()] if parts else ()
        parts[name] = read_examples(sources[name], options, parts.get("train"), classes)
    paths = {name: list(part.paths) for name, part in parts.items()}
    _check_labels(parts["train"])
    parts = _split(parts, options)
    if codec is None:
        codec = _learnt(parts["train"], options)
    known = {str(label): k for k, label in enumerate(codec["labels"])}
    batches = {
        name: _batches(part, codec["inputs"], known, options, weigh=name == "train") for name, part in parts.items()
    }
    each_label = Counter(str(label) for label in parts["train"].labels or ())
    noun = "text" if isinstance(codec["inputs"], TextCodec) else "series"
    several = {"text": "texts", "series": "series"}[noun]
    return Material(
        parts=batches,
        codec=codec,
        digest=[a for part in batches.values() for a in (*part.x, np.asarray(part.y))],
        paths=paths,
        name=several,
        unit="label",
        row=noun,
        size=f"{sum(map(len, parts.values())):,} {several}",
        about=(
            (several, ", ".join(f"{len(part):,} to {USES[name]}" for name, part in parts.items())),
            ("labels", listed([f"{label} ({n:,})" for label, n in each_label.most_common()], 10)),
            ("steps", codec["inputs"].said),
        ),
        notes=tuple(note for part in parts.values() for note in part.notes),
    )


def in_memory(source: Any) -> bool:
    """Whether examples are a pair of x and labels, and not files."""
    if isinstance(source, tuple) and len(source) == 2:
        return not all(isinstance(part, (str, os.PathLike)) for part in source)
    if not isinstance(source, (str, os.PathLike, list, tuple)):
        raise UnrolledError(
            f"the data is {brief(source)}; expected files, or a pair of texts or series and their labels"
        )
    return False


def with_labels(source: Any) -> Labelled:
    """Return examples of memory, a pair of x and labels."""
    return _with_labels(labelled(*source))


def _with_labels(found: Labelled) -> Labelled:
    """Return examples that something can be learnt from, or say why not."""
    if not len(found):
        raise UnrolledError("there are no examples; expected one or more")
    if found.labels is None:
        raise UnrolledError("the examples have no labels; expected texts or series and their labels")
    return found


def read_examples(source: Any, options: Options, train: Labelled | None, classes: Sequence[str]) -> Labelled:
    """Read examples; those of other parts than the first as that was."""
    if isinstance(source, Labelled):
        return _with_labels(source)
    if in_memory(source):
        return with_labels(source)
    how = {name: getattr(options, name) for name in ("text", "label", "id", "time")}
    if train is not None:
        how |= train.columns
    channels = train.channels if train is not None else ()
    return read_labelled(source, **how, encoding=options.encoding, channels=channels, classes=classes)


def _check_labels(part: Labelled) -> None:
    """Refuse examples that nothing can be learnt from: one label only, or one that occurs once."""
    counts = Counter(str(label) for label in part.labels or ())
    if len(counts) < 2:
        raise UnrolledError(
            f"all {len(part):,} examples have the label {brief(next(iter(counts)))}; expected two labels or more"
        )
    label, times = counts.most_common()[-1]
    if times == 1:
        n = [str(label) for label in part.labels or ()].index(label)
        raise UnrolledError(
            f"{part.place(n)}: the label {brief(label)} occurs once; give more examples of it, or leave it out"
        )


def _split(parts: dict[str, Labelled], options: Options) -> dict[str, Labelled]:
    """Hold examples out of training, by chance, for the parts that are to be had of it."""
    rng = np.random.default_rng([options.seed, 1])
    parts, total = dict(parts), len(parts["train"])
    for name, share in (("test", options.test_fraction), ("val", options.val_fraction)):
        if name not in parts and share:
            train = parts["train"]
            kept, held = stratified(train.labels or (), share * total / len(train), rng)
            if len(held):
                parts |= {"train": train.part(kept), name: train.part(held)}
    return parts


def _learnt(train: Labelled, options: Options) -> dict[str, Any]:
    """Return how data becomes numbers, from the part to train on."""
    labels = {str(label): label for label in train.labels or ()}
    return {
        "labels": sorted(labels.values(), key=_natural if all(map(_is_whole, labels)) else str),
        "inputs": learnt_inputs(train, options),
        "pooling": options.pooling,
        "columns": {name: value for name, value in train.columns.items() if value} | {"encoding": options.encoding},
        "decides": _decides(train, options),
    }


def _decides(train: Labelled, options: Options) -> str:
    """Return the figure that decides which model is best: one that weighs examples as training does."""
    if train.weights is not None:
        return "loss"
    return "macro_f1" if options.class_weights == "balanced" else "accuracy"


def learnt_inputs(train: Labelled, options: Any) -> Codec:
    """Return how texts or series become numbers, from the part to train on."""
    if train.channels:
        return SeriesCodec.learnt(train.x, train.channels)
    how = {name: getattr(options, name) for name in ("min_count", "max_symbols", "lower", "words")}
    return TextCodec.learnt(train.x, options.level, **how)


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _natural(label: str | int) -> int:
    return int(label)


def encoded(found: Labelled, inputs: Codec) -> list[Array]:
    """Return examples as a network reads them, or say which can't be."""
    if isinstance(inputs, SeriesCodec):
        if len(found.channels) != len(inputs):
            raise UnrolledError(
                f"{found.table.where} has {_what(found)}; expected series of {count(len(inputs), 'channel')}"
            )
        return [inputs.encode(series) for series in found.x]
    if found.channels:
        raise UnrolledError(f"{found.table.where} has {_what(found)}; expected texts")
    encoded = [inputs.encode(value) for value in found.x]
    for n, tokens in enumerate(encoded):
        if not len(tokens):
            raise UnrolledError(f"{found.place(n)}: the text {brief(found.x[n])} has no {inputs.unit}; leave it out")
    return encoded


def _what(found: Labelled) -> str:
    return f"series of {count(len(found.channels), 'channel')}" if found.channels else "texts"


def _batches(part: Labelled, inputs: Codec, known: Mapping[str, int], options: Options, *, weigh: bool) -> Padded:
    """Return examples as batches of numbers."""
    for n, label in enumerate(part.labels or ()):
        if str(label) not in known:
            raise UnrolledError(f"{part.place(n)}: {suggest('label', str(label), list(known))}")
    y = np.array([known[str(label)] for label in part.labels or ()], np.int32)
    weights = None
    if weigh and options.class_weights == "balanced":
        weights = len(y) / (len(known) * np.bincount(y, minlength=len(known)))
    x = encoded(part, inputs)
    how: Any = {"stepwise": False, "weights": part.weights, "class_weights": weights, "seed": options.seed}
    return Padded(x, [*y], options.batch_size, part.table.where, **how)
