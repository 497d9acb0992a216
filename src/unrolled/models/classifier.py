"""A classifier: a network that gives a text, or a series of numbers, one of several labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import choose
from ..cells import Cell
from ..checks import Array, check_a, check_choice
from ..data.codecs import Codec, SeriesCodec, TextCodec, from_json
from ..data.examples import Labelled, labelled
from ..data.labelled import files_of_classes, read_labelled
from ..data.padded import Padded
from ..declared import anew, keywords
from ..errors import UnrolledError, brief, check_path, count, listed, suggest
from ..keywords import named
from ..nn import heads
from ..nn.network import Network
from ..nn.pools import POOLS
from ..pictures import draw_confusion
from ..schema import each, entries, one_of, text
from ..training import checkpoints
from ..training.callbacks import Callback
from ..training.trainer import Metrics
from . import metrics
from .base import told
from .classifier_data import Options, encoded, in_memory, material, read_examples, with_labels
from .folds import check_folds, read_figures, validated
from .of_data import Material, OfData, Scored

COLUMNS = ("text", "label", "id", "time", "encoding")
"""Options of reading that a model keeps, so that it reads new files alike."""
ROWS = 256
"""Examples that are looked at side by side."""
SAME = set(anew(Options)) - {"checkpoint_every", "sample_length", "tensorboard"}
"""Options that all folds of a run have to have alike, of those that may change when it goes on."""
SHOWN = 30
"""Labels up to which a confusion matrix is printed; of more, the most frequent mistakes."""


class Classifier(OfData):
    """A network that gives a text, or a series of numbers, one of several labels.

    Attributes
    ----------
    network : Network
    labels : tuple of str or int
    inputs : TextCodec or SeriesCodec
        How texts or series become numbers.
    columns : dict
        Which columns of tables were read, and how texts were decoded.
    decides : str
        The figure that says which model is the best: "accuracy"; "macro_f1" where classes are balanced, "loss" where
        examples have weights of their own.
    """

    kind = "classifier"
    decides = "accuracy"
    inside = staticmethod(files_of_classes)
    folds: list[dict[str, float]] | None = None
    """Figures of each fold, after a cross-validation."""

    def __init__(
        self,
        network: Network,
        labels: Sequence[str | int],
        inputs: Codec,
        pooling: str = "mean",
        columns: Mapping[str, str] | None = None,
        decides: str = "accuracy",
    ) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        check_a("inputs", inputs, (TextCodec, SeriesCodec), "a TextCodec or a SeriesCodec")
        self.labels, self.inputs = tuple(labels), inputs
        self.pooling = check_choice("pooling", pooling, list(POOLS))
        self.columns, self.decides = dict(columns or {}), decides
        self.reads = count(len(inputs), "channel") if isinstance(inputs, SeriesCodec) else "one-hot input"
        self._numbers = {str(label): k for k, label in enumerate(self.labels)}
        sizes = network.spec.vocabulary_size, network.head.outputs
        if (len(inputs), len(self._numbers)) != sizes:
            said = f"{len(inputs):,} symbols or channels and {len(self._numbers):,} distinct labels"
            raise UnrolledError(
                f"the classifier has {said}, its network {sizes[0]:,} and {sizes[1]:,}; they must be as many"
            )

    def __repr__(self) -> str:
        spec, kind = self.spec, "channel" if isinstance(self.inputs, SeriesCodec) else self.inputs.unit
        sizes = f"{count(len(self.inputs), kind)}, {count(len(self.labels), 'label')}"
        return f"Classifier({spec.cell}, {spec.num_layers} x {spec.hidden_size}, {sizes})"

    @classmethod
    @named(keywords(Options))
    def train(
        cls,
        source: Any,
        *,
        val: Any = None,
        test: Any = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **asked: Any,
    ) -> Classifier:
        """Train a classifier of texts or series.

        Without `val`, a share of the examples is held out, drawn by the seed so that both parts have all labels alike.

        Parameters
        ----------
        source : path, list of paths, or pair (x, labels)
            Files as `read_labelled` takes them; or in memory texts, or arrays (T,) or (T, C) of numbers, or one array
            (N, T, C), and their labels, texts or whole numbers.
        val, test : as source, optional
        out : path, optional
            Folder of the run.
        auto : bool
            Whether passes that aren't given are chosen from the amount of data and from `minutes`, as in
            `LanguageModel.train`.
        overwrite, callbacks, verbose, backend
            As in `LanguageModel.train`.
        **options

        Returns
        -------
        Classifier
            With the parameters of the best validation; `result` says how training went.

        Raises
        ------
        UnrolledError
            If a file can't be read, there is one label only, one that occurs once, or an option makes no sense.

        Examples
        --------
        >>> import unrolled as ur
        >>> texts, moods = ["good", "very good", "bad", "so bad"] * 9, ["glad", "glad", "sad", "sad"] * 9
        >>> model = ur.Classifier.train((texts, moods), epochs=20, hidden_size=8, embedding_size=6, batch_size=4)
        >>> model.predict(["good", "bad, bad"])
        ['glad', 'sad']
        """
        chosen = Options(**asked)
        if chosen.folds:
            source = read_examples(source, chosen, None, ())
            check_folds(source.labels, chosen.folds)
        how: Any = {
            "out": out,
            "overwrite": overwrite,
            "auto": auto,
            "callbacks": callbacks,
            "verbose": verbose,
            "backend": backend,
        }
        model = cls._train(source, val, test, asked, **how)
        if chosen.folds:
            folder = None if out is None else Path(out)
            model.folds = validated(cls, source, chosen, folder, told(callbacks, verbose), backend)
        return model

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Any = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        cell: str | Cell | None = None,
        **anew: Any,
    ) -> Classifier:
        """Go on with a run, to the same bits as if it had never stopped; as `LanguageModel.resume`.

        `source` is needed only where the files have moved, or the examples were in memory.
        """
        folder = Path(check_path("the folder of a run", folder))
        options = checkpoints.reopen(folder, KIND, cell).options
        if options.folds:
            other = sorted(name for name in anew if name in SAME and getattr(options, name) != anew[name])
            if read_figures(folder) and other:
                said = f"folds of {folder} are done, with the options that it had"
                raise UnrolledError(f"{said}; leave out {other[0]}, or start a new run")
            if source is not None:  # which may be read only once
                source = read_examples(source, options, None, ())
        how: Any = {"backend": backend, "cell": cell, "callbacks": callbacks, "verbose": verbose}
        model = cls._resume(folder, source, anew, **how)
        before = checkpoints.reopen(folder, KIND, cell)
        if before.options.folds:
            examples = read_examples(source or before.source["files"], before.options, None, ())
            model.folds = validated(cls, examples, before.options, folder, told(callbacks, verbose), before.backend)
        return model

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
        """Read examples; labels, symbols and scales are those of the part to train on."""
        return material(sources, options, codec)

    # --- what people do with it

    def predict_proba(self, x: Any) -> Array:
        """Return the probability of each label, (N, K), of texts or series.

        Parameters
        ----------
        x : list of texts, or of arrays (T,) or (T, C), or an array (N, T, C)

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.Classifier.train((["aa", "bb"] * 9, [0, 1] * 9), level="char", epochs=1, hidden_size=4)
        >>> model.predict_proba(["ab", "ba", "a"]).shape
        (3, 2)
        """
        return self._probabilities(labelled(x))

    def predict(self, x: Any) -> list[str | int]:
        """Return the likeliest label of each of N texts or series; `predict_proba` says what they may be."""
        return [self.labels[k] for k in self.predict_proba(x).argmax(axis=1)]

    def score(self, source: Any) -> dict[str, float]:
        """Return accuracy, macro F1 and loss (nats) on examples with labels: files, or a pair (x, labels).

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.Classifier.train((["aa", "bb"] * 9, [0, 1] * 9), level="char", epochs=1, hidden_size=4)
        >>> sorted(model.score((["ab", "ba", "a"], [0, 1, 0])))
        ['accuracy', 'loss', 'macro_f1']
        """
        return self.evaluate(self._batched(self._read(source)))

    def scored(self, paths: Sequence[str]) -> Scored:
        """Return the figures of files, those of each label and the confusion matrix, as the command prints them."""
        batches = self._batched(self._read(list(paths)))
        counts, nats = self._confusion(batches)
        names = [str(label) for label in self.labels]
        hits = metrics.by_class(counts, names)
        figures = {
            "examples": int(counts.sum()),
            "accuracy": metrics.accuracy(counts),
            "macro_f1": metrics.macro_f1(hits),
            "loss": nats,
            "labels": [{"label": one.name} | metrics.figures(one) for one in hits],
            "confusion": {"labels": names, "counts": counts.tolist()},
        }
        lines = [
            f"{count(int(counts.sum()), 'example')}: accuracy {figures['accuracy']:.2%}, "
            f"macro F1 {figures['macro_f1']:.2%}, {nats:.4f} nats",
            "",
            *metrics.table(hits, "label"),
            "",
            *(metrics.matrix(counts, names) if len(names) <= SHOWN else metrics.confusions(counts, names)),
        ]
        return Scored(figures, lines)

    def predictions(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield files as they are written back: with the label of each example, and the probability of every label."""
        found = self._read(list(paths), labels=False)
        names = ["predicted", *(f"probability_{label}" for label in self.labels)]
        found.table.check_new(names)
        probabilities = self._probabilities(found)
        columns = [[self.labels[k] for k in probabilities.argmax(axis=1)]]
        columns += [[round(float(p), 6) for p in column] for column in probabilities.T]
        yield from found.table.written(dict(zip(names, columns, strict=True)))

    def draw(self, paths: Sequence[str]) -> Any:
        """Return the confusion matrix of files as a picture, a matplotlib Figure."""
        counts, _ = self._confusion(self._batched(self._read(list(paths))))
        return draw_confusion(counts, [str(label) for label in self.labels])

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network."""
        names = [str(label) for label in self.labels]
        told = [name for name in self.columns if name != "encoding" or isinstance(self.inputs, TextCodec)]
        read = "; ".join([self.inputs.said, *(f"{name} {brief(self.columns[name])}" for name in told)])
        return [("labels", listed(names, 20)), ("reads", read), ("pooling", self.pooling)]

    # --- what the loop asks of it

    def evaluate(self, batches: Any) -> Metrics:
        """Return the loss, nats an example, the share of labels that are right, and the mean of the labels' F1."""
        counts, nats = self._confusion(batches)
        hits = metrics.by_class(counts, [str(label) for label in self.labels])
        return {"loss": nats, "accuracy": metrics.accuracy(counts), "macro_f1": metrics.macro_f1(hits)}

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return nothing: what is classified is not the model's own."""
        return ""

    def codec(self) -> dict[str, Any]:
        """Return how data becomes numbers, as JSON."""
        return {
            "labels": list(self.labels),
            "inputs": self.inputs.to_json(),
            "pooling": self.pooling,
            "columns": self.columns,
            "decides": self.decides,
        }

    # --- from examples to numbers and back

    def _read(self, source: Any, *, labels: bool = True) -> Labelled:
        """Read examples of the kind that the model knows, from files or from memory."""
        if in_memory(source):
            found = with_labels(source)
        else:
            channels = self.inputs.channels if isinstance(self.inputs, SeriesCodec) else ()
            how: Any = {"labels": labels, "channels": channels, "classes": self._numbers, "series": bool(channels)}
            found = read_labelled(source, **how | self.columns)
        for n, label in enumerate(found.labels or ()):
            if str(label) not in self._numbers:
                said = suggest("label", str(label), [str(known) for known in self.labels])
                raise UnrolledError(f"{found.place(n)}: {said}")
        return found

    def _numbered(self, found: Labelled) -> list[Array]:
        """Return examples as a network reads them, or say which can't be."""
        return encoded(found, self.inputs)

    def _batched(self, found: Labelled) -> Padded:
        """Return labelled examples in batches."""
        y = [np.asarray(self._numbers[str(label)]) for label in found.labels or ()]
        return Padded(self._numbered(found), y, ROWS, found.table.where, stepwise=False)

    def _probabilities(self, found: Labelled) -> Array:
        """Return the probabilities of labels, (N, K)."""
        batches = Padded(self._numbered(found), (), ROWS, found.table.where, stepwise=False)
        parts, head = list[Array](), self.network.head
        for batch in batches:
            logits = self.network(batch.x, lengths=batch.lengths)[0].astype(np.float64)
            parts.append(heads.class_probabilities(head, logits, batch.lengths, self.params))
        return np.stack(batches.unpadded(parts))

    def _confusion(self, batches: Any) -> tuple[Array, float]:
        """Return how often each label was taken for each, (K, K), and the mean loss."""
        counts, nats, targets = np.zeros((len(self.labels),) * 2, np.int64), 0.0, 0.0
        for batch in (batches[k] for k in range(len(batches))):
            logits, _ = self.network(batch.x, lengths=batch.lengths)
            loss, _ = self.network.head.loss(choose(self.backend), logits, batch.y, batch.weights, gradient=False)
            counts += metrics.confusion(batch.y, logits.argmax(axis=-1), len(self.labels))
            nats, targets = nats + loss * batch.targets, targets + batch.targets
        return counts, nats / targets


def _label(name: str, value: Any) -> str | int:
    """Take a label of a file: a text or a whole number."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise UnrolledError(f"{name} is {brief(value)}; expected a text or a whole number")
    return value


def _spec(options: Options, inputs: Codec, **_: Any) -> Any:
    """Return the network's description: numbers go in as they are, without an embedding."""
    spec = options.spec(len(inputs))
    if isinstance(inputs, SeriesCodec):
        return replace(spec, embedding_size=0, embedding_dropout=0.0, word_dropout=0.0)
    return spec


KIND = checkpoints.Kind(
    Classifier.kind,
    Options,
    {
        "labels": each(_label, most=100_000),
        "inputs": from_json,
        "pooling": one_of(tuple(POOLS)),
        "columns": entries(dict.fromkeys(COLUMNS, text(10_000)), optional=COLUMNS),
        "decides": one_of(("accuracy", "macro_f1", "loss")),
    },
    spec=_spec,
    head=lambda labels, pooling, **_: heads.classes(len(labels), pooling),
    model=Classifier,
    task="classify",
    noun="a classifier",
    endings=(".ts", ".npz"),
)
"""The contents of files of a classifier."""
