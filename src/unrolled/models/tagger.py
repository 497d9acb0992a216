"""A tagger: a network that gives every word of a sentence a tag, such as its part of speech."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ..backends import choose
from ..cells import Cell
from ..checks import Array, as_kind, check_a, check_size
from ..data.batches import Batch
from ..data.padded import Padded
from ..data.spelled import Forms, groups
from ..data.split import USES
from ..data.tagged import Tagged, check_column, read_sentences, together
from ..data.text import Words
from ..declared import keywords
from ..errors import UnrolledError, brief, count, listed, suggest
from ..keywords import named
from ..nn import heads
from ..nn.network import Network
from ..pictures import draw_confusion
from ..schema import flag, maybe, text, whole
from ..training import checkpoints
from ..training.callbacks import Callback
from ..training.trainer import Metrics
from . import metrics, spans
from .metrics import Hits
from .of_data import Material, OfData, Scored
from .tagger_data import Options, Paths, codec_of, read, tags_of, unseen, words_of
from .tagger_figures import scored

T = TypeVar("T")


class Tagger(OfData):
    """A network that gives every word of a sentence a tag, with the words and tags that it knows.

    Parameters
    ----------
    network : Network
    vocabulary : Words
        A word that is not listed is read as UNK, and by its spelling.
    tags : list of str
        What the network's outputs stand for.
    characters : str
        Characters whose spelling is known; "" where words are not spelled.
    crf : bool
        Whether whole sequences are scored.
    column : str, optional
        Column of the tags in files, as it was asked for.
    columns : int
        Columns of the files that it learnt from; 0 of none.

    Examples
    --------
    >>> import unrolled as ur
    >>> from unrolled.data.tagged import Tagged
    >>> some = Tagged([["the", "cat", "saw", "the", "saw"]] * 9, [["DET", "NOUN", "VERB", "DET", "NOUN"]] * 9)
    >>> tagger = ur.Tagger.train(some, val_fraction=0, hidden_size=8, epochs=60, learning_rate=0.02)
    >>> tagger.tag("the cat saw the saw")
    [('the', 'DET'), ('cat', 'NOUN'), ('saw', 'VERB'), ('the', 'DET'), ('saw', 'NOUN')]
    >>> tagger.predict([["the", "cat"], ["the"]])
    [['DET', 'NOUN'], ['DET']]
    >>> round(tagger.score(some)["accuracy"], 2)
    1.0
    """

    kind = "tagger"

    def __init__(
        self,
        network: Network,
        vocabulary: Words,
        tags: Sequence[str],
        characters: str = "",
        crf: bool = False,
        column: str | None = None,
        columns: int = 0,
    ) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        self.vocabulary = check_a("vocabulary", vocabulary, Words, "a vocabulary of Words")
        self.tags = tuple(tags_of("tags", list(tags) if isinstance(tags, (list, tuple)) else tags))
        self.characters = check_a("characters", characters, str, "a text, of every character once")
        self.crf = as_kind("crf", crf, "bool")
        self.column = None if column is None else check_column("column", column)
        self.columns = check_size("columns", columns, least=0)
        self.forms = Forms(vocabulary, characters)
        self._seen: Any = None  # the batches that were last validated on
        self.decides = "f1" if spans.are_spans(self.tags) else "accuracy"
        spec, head = network.spec, network.head
        own = len(vocabulary), len(self.tags), self.forms.size, self.crf
        its = spec.vocabulary_size, head.outputs, spec.characters, head.loss is heads.sequence_loss
        names = "{:,} words, {:,} tags, {:,} characters (one of them unknown) and {} CRF"
        if own != its:
            said, other = (names.format(*sizes[:3], "a" if sizes[3] else "no") for sizes in (own, its))
            raise UnrolledError(f"the tagger has {said}, its network {other}; they must be the same")

    def __repr__(self) -> str:
        spec = self.spec
        sizes = f"{count(len(self.vocabulary), 'word')}, {count(len(self.tags), 'tag')}"
        return f"Tagger({spec.cell}, {spec.num_layers} x {spec.hidden_size}, {sizes})"

    @classmethod
    @named(keywords(Options))
    def train(
        cls,
        source: Paths | Tagged,
        *,
        val: Paths | Tagged | None = None,
        test: Paths | Tagged | None = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **asked: Any,
    ) -> Tagger:
        """Train a tagger on sentences whose words have tags.

        Parameters
        ----------
        source : path, paths, or Tagged
            CoNLL-U, columns as in CoNLL-2003, or a word and its tag a line with a tab between; an empty line between
            sentences (`unrolled.data.tagged.read_tagged`); or sentences in memory, lists of words and of tags.
        val, test : path, paths, or Tagged, optional
            What to validate and to test on, instead of shares of the sentences (`val_fraction`, `test_fraction`).
        auto : bool
            Whether passes that aren't given are chosen from the amount of data and from `minutes`, as in
            `LanguageModel.train`.
        out, overwrite, callbacks, verbose, backend
            As in `LanguageModel.train`.
        **asked
            Options of `unrolled.models.tagger.Options`.

        Returns
        -------
        Tagger
            With the parameters of the best validation: that of the highest F1 of spans where tags are those of a scheme
            (B-, I-, O), else of the highest accuracy. Its `result` says how training went.

        Raises
        ------
        UnrolledError
            If files can't be read or are of several kinds, a word has no tag, a sentence no word, or an option makes no
            sense; one line that names the file and the line.
        Interrupted
            After Ctrl-C, when all is saved.
        """
        how: Any = {"out": out, "overwrite": overwrite, "auto": auto, "callbacks": callbacks, "verbose": verbose}
        return cls._train(source, val, test, asked, backend=backend, **how)

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Paths | Tagged | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        cell: str | Cell | None = None,
        **anew: Any,
    ) -> Tagger:
        """Go on with a run, to the same bits as if it had never stopped.

        Parameters
        ----------
        folder : path
            Of the run, as `train` wrote it (`out`).
        source : path, paths, or Tagged, optional
            The same sentences to train on, where they have moved or were no files.
        callbacks, verbose, backend, cell, **anew
            As in `LanguageModel.resume`.
        """
        how: Any = {"backend": backend, "cell": cell, "callbacks": callbacks, "verbose": verbose}
        return cls._resume(folder, source, anew, **how)

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
        """Read sentences; words are those of the part to train on, tags those of all parts."""
        files, parts = read(sources, options)
        how = codec_of(parts, files, options) if codec is None else dict(codec)
        forms = Forms(how["vocabulary"], how["characters"])
        batches = {
            name: Padded(
                forms.of(part.words), _numbers(part.tags, how["tags"]), options.batch_size, f"the part to {USES[name]}"
            )
            for name, part in parts.items()
        }
        kinds = spans.scheme(parts["train"].tags)
        return Material(
            parts=batches,
            codec=how,
            digest=[a for part in batches.values() for a in (*part.x, *part.y)],
            paths={name: [file.path for file in some] for name, some in files.items()},
            name="sentences",
            unit="tag",
            row="sentence",
            size=count(sum(len(x) for part in batches.values() for x in part.x), "word"),
            about=(
                ("sentences", ", ".join(f"{len(part.words):,} to {USES[name]}" for name, part in parts.items())),
                ("words", f"{len(how['vocabulary']):,} listed, {len(how['characters'])} characters"),
                ("tags", f"{len(how['tags'])}{f', spans as {kinds}' if kinds else ''}: {listed(how['tags'], 20)}"),
            ),
            notes=unseen(parts),
        )

    # --- what people do with it

    def tag(self, sentence: str | Sequence[str]) -> list[tuple[str, str]]:
        """Return each word of a sentence with its tag; a str is cut at blanks."""
        words = sentence.split() if isinstance(sentence, str) else sentence
        if not isinstance(words, Sequence) or not all(isinstance(word, str) and word for word in words):
            raise UnrolledError(f"the sentence is {brief(sentence)}; expected words")
        return list(zip(words, self.predict([words])[0], strict=True)) if words else []

    def predict(self, sentences: Sequence[Sequence[str]]) -> list[list[str]]:
        """Return the tags of each sentence.

        Parameters
        ----------
        sentences : list of lists of str
            The words of each.

        Raises
        ------
        UnrolledError
            If a sentence is no list of words, or empty.
        """
        return self._of_each(sentences, lambda batch: self._named(self._classes(batch)[0], _lengths(batch)))

    def predict_proba(self, sentences: Sequence[Sequence[str]]) -> list[Array]:
        """Return the probabilities of the tags of each sentence's words, (T, K) each, in the order of `tags`.

        With a CRF, those of a word's tag whatever the others are: the likeliest sequence need not be that of the
        likeliest tags.
        """

        def of(batch: Batch) -> list[Array]:
            outputs, _ = self.network(batch.x, lengths=batch.lengths)
            found = heads.class_probabilities(self.network.head, outputs, batch.lengths, self.params)
            return [found[:n, row] for row, n in enumerate(_lengths(batch).tolist())]

        return self._of_each(sentences, of)

    def score(self, data: Tagged | Paths) -> dict[str, float]:
        """Return how well sentences are tagged: accuracy, and F1 of spans where tags are those of a scheme.

        Parameters
        ----------
        data : Tagged, path or paths

        Returns
        -------
        dict
            `accuracy`, the share of words whose tag is right; `macro_f1`, the mean of the tags' F1; `loss`, nats a
            word; of spans `precision`, `recall` and `f1`, as conlleval has them.

        Raises
        ------
        UnrolledError
            If a tag is none of the model's, or what is wrong with files or sentences.
        """
        scored = self._scored(self._tagged(data)).figures
        return {name: value for name, value in scored.items() if isinstance(value, float)}

    def predictions(self, paths: Paths) -> Iterator[str]:
        """Yield, in pieces, the text of files with the tags of their words.

        CoNLL-U has its column replaced, columns the last one replaced or one added, and all else as it is; plain text
        becomes lines of a word, a tab and its tag (`unrolled.data.tagged.Sentences.tagged`).
        """
        files = read_sentences(paths, self.column, text=None, columns=self.columns, tags=set(self.tags))
        tags = iter(self.predict([words for file in files for words in file.words]))
        for file in files:
            yield from file.tagged([next(tags) for _ in file.words], self.column, self.columns)

    def scored(self, paths: Paths) -> Scored:
        """Return how well the words of files are tagged: figures, by tag and by type of spans, and the confusions."""
        return self._scored(self._tagged(paths))

    def draw(self, paths: Paths) -> Any:
        """Return the confusion matrix of files as a picture, a matplotlib Figure."""
        return draw_confusion(np.array(self.scored(paths).figures["confusion"]["counts"]), self.tags)

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network."""
        kind = "a conditional random field" if self.crf else "a softmax a word"
        spelling = f"{len(self.characters)} characters" if self.characters else "not read"
        return [("tags", f"{len(self.tags)}, {kind}: {listed(self.tags, 20)}"), ("spelling", spelling)]

    # --- what the loop asks of it

    def evaluate(self, batches: Any) -> Metrics:
        """Return the loss, nats a word, the share of words whose tag is right, and F1 of spans where there are such."""
        self._seen = batches
        return self._measured(batches[k] for k in range(len(batches)))[0]

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return the beginning of a sentence of the part to validate with its tags, and what a wrong one should be."""
        if self._seen is None:
            return ""
        batch = self._seen[int(rng.integers(len(self._seen)))]
        one = batch.rows(slice(at := int(rng.integers(batch.size)), at + 1))
        live = slice(int(_lengths(one)[0]))
        found, true = self._classes(one)[0][live, 0].tolist(), one.y[live, 0].tolist()
        words, shown = self.forms.words(one.x[live, 0]), list[str]()
        for word, tag, right in zip(words, found, true, strict=True):
            shown.append(f"{word}/{self.tags[tag]}" + ("" if tag == right else f" (is {self.tags[right]})"))
            if len(" ".join(shown)) > length:
                return " ".join([*shown[:-1], "..."])
        return " ".join(shown)

    def codec(self) -> dict[str, Any]:
        """Return how words and tags become numbers, as JSON."""
        return {
            "vocabulary": self.vocabulary.to_json(),
            "tags": list(self.tags),
            "characters": self.characters,
            "crf": self.crf,
            "column": self.column,
            "columns": self.columns,
        }

    def _batches(self, sentences: Sequence[Sequence[str]], y: Sequence[Array] = ()) -> Iterator[tuple[Array, Batch]]:
        """Yield the numbers of sentences of like length, and their batch."""
        x = self.forms.of(sentences)
        for rows in groups([len(words) for words in sentences]):
            part = Padded([x[n] for n in rows], [y[n] for n in rows] if len(y) else (), len(rows))
            yield rows[part.order], part[0]

    def _of_each(self, sentences: Sequence[Sequence[str]], of: Callable[[Batch], Sequence[T]]) -> list[T]:
        """Return what is made of each sentence, a batch at a time."""
        if isinstance(sentences, (list, tuple)) and not sentences:
            return []
        given: Any = sentences
        Tagged(given, given).checked()
        found: dict[int, T] = {}
        for rows, batch in self._batches(sentences):
            found |= zip(rows.tolist(), of(batch), strict=True)
        return [found[n] for n in range(len(sentences))]

    def _classes(self, batch: Batch) -> tuple[Array, Array]:
        """Return the numbers of the tags of a batch (T, B), and the network's outputs."""
        outputs, _ = self.network(batch.x, lengths=batch.lengths)
        return self.network.head.predict(outputs, batch.lengths, self.params), outputs

    def _measured(self, batches: Iterable[Batch]) -> tuple[Metrics, Array, list[Hits]]:
        """Return the figures of batches, how often each tag was taken for each (K, K), and what was found of spans."""
        total, size = 0.0, len(self.tags)
        counts, true, guessed = np.zeros((size, size), np.int64), list[list[str]](), list[list[str]]()
        for batch in batches:
            classes, outputs = self._classes(batch)
            assert batch.lengths is not None
            how: Any = {"params": self.params, "gradient": False}
            loss = self.network.head.loss(choose(self.backend), outputs, batch.y, batch.weights, **how)[0]
            total += float(loss) * batch.targets
            live = np.arange(len(classes))[:, None] < batch.lengths
            counts += metrics.confusion(batch.y[live], classes[live], size)
            if self.decides == "f1":
                true += self._named(batch.y, batch.lengths)
                guessed += self._named(classes, batch.lengths)
        found = {"loss": total / max(1, int(counts.sum())), "accuracy": metrics.accuracy(counts)}
        hits = spans.found(true, guessed)
        if self.decides == "f1":
            every = spans.together(hits)
            found |= {"precision": every.precision, "recall": every.recall, "f1": every.f1}
        return found, counts, hits

    def _named(self, numbers: Array, lengths: Array) -> list[list[str]]:
        """Return the tags of each row of numbers (T, B)."""
        return [[self.tags[k] for k in row[:n]] for row, n in zip(numbers.T.tolist(), lengths.tolist(), strict=True)]

    def _scored(self, data: Tagged) -> Scored:
        """Return how well sentences are tagged."""
        y = _numbers(data.tags, self.tags)
        found, counts, hits = self._measured(batch for _, batch in self._batches(data.words, y))
        return scored(found, counts, hits if self.decides == "f1" else None, self.tags, len(data.words))

    def _tagged(self, data: Any) -> Tagged:
        """Return tagged sentences, of files or memory; a tag that the model lacks is refused with its file and line."""
        if isinstance(data, Tagged):
            data.checked()
            return data
        return together(read_sentences(data, self.column), self.column, known=self.tags)


def _numbers(tags: Iterable[Sequence[str]], known: Sequence[str]) -> list[Array]:
    """Return the numbers of each sentence's tags, all of which must be known."""
    numbers = {tag: k for k, tag in enumerate(known)}
    tags = list(tags)
    if odd := sorted({tag for row in tags for tag in row} - set(numbers)):
        raise UnrolledError(suggest("tag of the model", odd[0], list(known)))
    return [np.array([numbers[tag] for tag in row], np.int32) for row in tags]


def _lengths(batch: Batch) -> Array:
    """Return the lengths of a batch of sentences, which has some."""
    assert batch.lengths is not None
    return batch.lengths


KIND = checkpoints.Kind(
    Tagger.kind,
    Options,
    {
        "vocabulary": words_of,
        "tags": tags_of,
        "characters": text(),
        "crf": flag(),
        "column": maybe(text()),
        "columns": whole(),
    },
    spec=lambda options, vocabulary, characters, **_: options.spec(len(vocabulary), Forms(vocabulary, characters).size),
    head=lambda tags, crf, **_: heads.tags(len(tags), crf=crf),
    model=Tagger,
    task="tag",
    noun="a tagger",
    endings=(".conllu", ".conll"),
    begins="-DOCSTART-",
)
"""The contents of files of a tagger."""
