"""A language model: a network and its vocabulary, trained, sampled, scored, saved and loaded."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from .. import declared
from ..cells import Cell, name_of
from ..checks import check_a, check_choice, check_seed, check_size
from ..data.batches import Tokens, held_out, lanes
from ..data.documents import documents_in, draw_parts
from ..data.text import (
    UNK,
    Corpus,
    Encoded,
    Reading,
    Vocabulary,
    bigram_entropy,
    encode,
    of_documents,
    recorded,
    unigram_entropy,
)
from ..declared import described, keywords
from ..drawing import Drawing
from ..errors import UnrolledError, brief, check_path, count, warn
from ..keywords import named
from ..nn.heads import LANGUAGE
from ..nn.network import Network
from ..pictures import draw_losses
from ..seeding import generator, spawn_streams
from ..storage import Arrays, Stored
from ..training import checkpoints, metrics_log
from ..training import run_folder as run
from ..training.callbacks import Callback, Facts, Result
from ..training.lines import losses
from ..training.trainer import Metrics
from . import files as checkpoint
from . import sampling as sample
from .automatic import Chosen, for_text
from .base import OfNetwork, Prepared, begin, ended, go_on
from .beam import BeamSearch
from .drawn import Drawn, Stepwise
from .language_data import (
    Paths,
    Source,
    check_how,
    for_bigrams,
    read_again,
    read_held,
    read_source,
    split_text,
    texts_of,
    vocabulary_for,
)
from .next_words import WordSearch, probabilities
from .options import ANEW, Options
from .scoring import Score, evaluate, score
from .yardsticks import yardsticks

USES = ("train", "validate", "test")

TOGETHER = 512
"""Texts drawn at once: more need more memory, and are hardly faster."""


class NextSymbol(OfNetwork):
    """A language model as the loop trains it: the network predicts each symbol from those before it."""

    def __init__(self, network: Network, vocabulary: Vocabulary) -> None:
        super().__init__(network)
        self.vocabulary = vocabulary

    def evaluate(self, batches: Any) -> Metrics:
        """Return the loss over lanes, each from the initial state."""
        return {"loss": evaluate(self.network, batches)}

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return a sampled line."""
        start = np.array([self.vocabulary.first_token(rng)])
        drawn = list(sample.tokens(self.network, start, length, 0.7, rng, end=self.vocabulary.end))
        return self.vocabulary.decode(drawn)

    def write(self, path: Path, params: Arrays | None = None) -> dict[str, Stored]:
        """Write a model file."""
        return checkpoint.save(path, self.network, self.vocabulary, params)


class _AsBefore:
    """Stands in a signature for what a run has already."""

    def __repr__(self) -> str:
        return "<as the run had it>"


_AS_BEFORE = _AsBefore()


class LanguageModel:
    """A network that predicts the next symbol of a text, with the vocabulary that it knows.

    Attributes
    ----------
    network : Network
    vocabulary : Vocabulary
    result : Result or None
        How training went, after `train`.

    Examples
    --------
    >>> import unrolled as ur
    >>> model = ur.LanguageModel.train("the cat sat on the mat. " * 40, hidden_size=16, num_layers=1,
    ...                                batch_size=2, seq_length=12, epochs=3, learning_rate=0.01)
    >>> model.score("the cat sat on the mat. ").nats < 2.5
    True
    >>> len(model.sample("the ", length=20, rng=np.random.default_rng(1)))
    20
    """

    decides = "loss"

    def __init__(self, network: Network, vocabulary: Vocabulary, result: Result | None = None) -> None:
        self.network = check_a("network", network, Network, "a Network")
        self.vocabulary = check_a("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        self.result = None if result is None else check_a("result", result, Result, "what training gave, a Result")
        if network.spec.bidirectional:
            raise UnrolledError(
                "the network is bidirectional; a model of the next symbol can't read what comes after it"
            )
        if len(vocabulary) != network.spec.vocabulary_size:
            raise UnrolledError(
                f"the vocabulary has {count(len(vocabulary), 'symbol')}, the network predicts "
                f"{network.spec.vocabulary_size:,}; they must be as many"
            )

    @classmethod
    @named(keywords(Options) + keywords(Reading))
    @described(Reading)
    @described(Options)
    def train(
        cls,
        source: Source = None,
        *,
        val: Paths = (),
        test: Paths = (),
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        init_from: LanguageModel | None = None,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **options: Any,
    ) -> LanguageModel:
        """Train a model.

        Parameters
        ----------
        source : str, bytes, array (N,) of integers, list of str, Corpus, Path or list of Path
            A str is text (bytes with `level="byte"`), an array or a list of integers holds tokens (`level="tokens"`), a
            list of str holds documents, which are kept apart, a Path is a file or a directory; None is the built-in
            default corpus, the source of the Python standard library.
        val, test : path or list of paths, optional
            Files to validate and to test on, instead of shares of the text.
        out : path, optional
            Folder of this run (see `unrolled.training.run_folder`); made if it isn't there. Nothing is written without
            it.
        overwrite : bool
            Whether `out` may hold an earlier run's models already.
        init_from : LanguageModel, optional
            Model to start from, instead of random weights: its network, with rows for the symbols that the text has
            and it doesn't know. The network's and the vocabulary's options are then the model's.
        auto : bool
            Whether options that aren't given are chosen from the amount of text and from `minutes`, 5 if they aren't
            given either, instead of their defaults (`unrolled.models.automatic`); the command does. Minutes are then
            counted as work, and don't end the run by the clock.
        callbacks : sequence of Callback
            Are told how it goes (`unrolled.training.callbacks`).
        verbose : bool
            Whether a line at the start and one a validation are printed to standard error; else nothing is.
        backend : str
            "auto", "cpu" or "reference".
        **options
            Fields of `unrolled.models.options.Options`, with these names and defaults; and what `unrolled.read` takes
            to read files, of which `documents="lines"` is of a text too: each line is a document then.

        Returns
        -------
        LanguageModel
            With the parameters of the lowest validation loss.

        Raises
        ------
        UnrolledError
            For a text or an option that won't do, a folder that holds files of a run, or a loss that keeps diverging.
        Interrupted
            After Ctrl-C, once everything is saved; it is a KeyboardInterrupt, and has the `model` so far. Any other
            signal that ends programs is sent again then.
        """
        how = recorded({name: options.pop(name) for name in declared.options(Reading) if name in options})
        asked = dict(options) if init_from is None else _of_the_model(dict(options), init_from)

        def prepare(chosen: Options, folder: Path | None) -> Prepared:
            check_how(source, how)
            corpus = read_source(source, chosen.level, **how)
            held = read_held(corpus, val, test, chosen.level)
            known = None if init_from is None else init_from.vocabulary
            vocabulary = vocabulary_for(corpus, list(held.values()), chosen, known)
            named = set(asked) if auto else None
            return _prepared(corpus, held, vocabulary, chosen, folder, backend, init_from=init_from, asked=named)

        return cls._of(*begin(KIND, prepare, asked, out=out, overwrite=overwrite, callbacks=callbacks, verbose=verbose))

    @classmethod
    @named(p.replace(default=_AS_BEFORE) for p in keywords(Options) if p.name in ANEW)
    @described(Options, ANEW)
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Source = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        cell: str | Cell | None = None,
        **options: Any,
    ) -> LanguageModel:
        """Go on with a run, to the same bits as if it had never stopped.

        Parameters
        ----------
        folder : path
            The `out` of the run.
        source : as in `train`, optional
            The text; None reads it from where the run did. It must be the same text.
        callbacks, verbose
            As in `train`.
        backend : str, optional
            None is the run's own; another one rounds differently, so that the bytes are then not the same.
        cell : Cell or str, optional
            The run's cell, where it is a user's own: a checkpoint names it and holds none of its code.
        **options
            What is asked for anew, else as the run had it. Minutes count from the run's first start; a new learning
            rate also takes back what divergences have made of the old one.

        Raises
        ------
        UnrolledError
            If the folder holds no run, its checkpoint is damaged, or the text is another one.
        Interrupted
            As in `train`.
        """
        how: Any = {"backend": backend, "cell": cell, "callbacks": callbacks, "verbose": verbose}
        return cls._of(*go_on(KIND, folder, partial(cls._again, source), options, **how))

    @classmethod
    def _again(
        cls, source: Source, chosen: Options, folder: Path, backend: str, before: checkpoints.Reopened
    ) -> Prepared:
        """Prepare a run once more, with the text that it had, read again where none is given."""
        corpus = read_again(folder, before.source, source, chosen.level)
        if "-" in before.source["val"] + before.source["test"]:
            raise UnrolledError(f"what {folder} validates or tests on came through a pipe, and can't be read again")
        held = read_held(corpus, before.source["val"], before.source["test"], chosen.level)
        return _prepared(corpus, held, before.codec["vocabulary"], chosen, folder, backend, before=before)

    @classmethod
    def _of(cls, trained: NextSymbol, result: Result) -> LanguageModel:
        return ended(cls(trained.network, trained.vocabulary, result), result)

    @named(keywords(Drawing))
    def stream(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> Iterator[str]:
        """Yield the continuation of a prompt as it is drawn, a symbol at a time; arguments as in `sample`."""
        how, length, rng = Drawing(**options), check_size("length", length, least=0), _chance(seed, rng)
        if how.beam is not None:
            return (drawn.text for drawn in self._drawn(1, prompt, length, how, rng))
        end, start = self.vocabulary.end, self._start(prompt, rng)
        if how.plain:
            return self._decoded(sample.tokens(self.network, start, length, how.temperature, rng, end=end))
        state, token = sample.primed(self.network, start, end)
        text = Stepwise(self.network, self.vocabulary, how, length, on=True)
        return (piece for _, piece in text.pieces(state, token, start if prompt else start[:0], rng))

    @named(keywords(Drawing))
    @described(Drawing)
    def sample(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> str:
        """Return `length` symbols that continue a prompt.

        A model of documents of one line each, trained apart from each other, begins each line anew, in the initial
        state, as it learnt them.

        Parameters
        ----------
        prompt : str
            Text that primes the state; without one the text starts after a newline. It isn't repeated in the result.
        length : int
            Symbols to draw.
        seed : int, optional
            The same seed draws the same text.
        rng : numpy.random.Generator, optional
            Where random numbers come from, instead of a seed. Default: a fresh one.
        **options
            What is drawn from: fields of `unrolled.drawing.Drawing`, applied in this order.

        Raises
        ------
        UnrolledError
            If the prompt has a symbol that the model doesn't know, or a number makes no sense.
        """
        return "".join(self.stream(prompt, length, seed=seed, rng=rng, **options))

    @named(keywords(Drawing))
    def samples(
        self,
        n: int,
        prompt: str = "",
        length: int = 400,
        *,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> Iterator[str]:
        r"""Yield `n` continuations of a prompt, each from the same state, drawn together.

        Each has `length` symbols; of a model of documents of one line each, as in `sample`, it is the rest of one
        document, without the newline that ends it, and has at most `length` symbols.

        Each has a stream of random numbers of its own, so that a text of a seed is the same whatever `n` and the
        threads. The first stream is the seed's, which draws what `sample` draws; the others are those that NumPy
        spawns from it. From 32 on, up to 512 texts are drawn at once, which is faster, where all symbols are drawn
        from; other arguments as in `sample`.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.LanguageModel.train("the cat sat. " * 40, hidden_size=8, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=1)
        >>> [len(text) for text in model.samples(3, "the ", length=5, seed=1)]
        [5, 5, 5]
        """
        how = Drawing(**options)
        if not how.plain:
            return (drawn.text for drawn in self.draw(n, prompt, length, seed=seed, rng=rng, **options))
        n, length, end = check_size("n", n, least=0), check_size("length", length, least=0), self.vocabulary.end
        texts = self._streams(n, prompt, length, how, _chance(seed, rng))
        return ("".join(self._decoded(token for token in text if token != end)) for text in texts)

    @named(keywords(Drawing))
    def draw(
        self,
        n: int = 1,
        prompt: str = "",
        length: int = 400,
        *,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> Iterator[Drawn]:
        """Yield the texts of `samples`, each with its tokens, and how likely each was; arguments as there.

        A step of the network draws one symbol, of one text after another, which is slower.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.LanguageModel.train("the cat sat. " * 40, hidden_size=8, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=1)
        >>> drawn, = model.draw(1, "the ", length=5, seed=1, top_k=3)
        >>> drawn.text == next(model.samples(1, "the ", length=5, seed=1, top_k=3))
        True
        >>> all(own > full for own, full in zip(drawn.drawn_log_probabilities, drawn.log_probabilities))
        True
        """
        n, length, how = check_size("n", n, least=0), check_size("length", length, least=0), Drawing(**options)
        return self._drawn(n, prompt, length, how, _chance(seed, rng))

    @named(keywords(Drawing))
    def sample_documents(
        self,
        n: int,
        prompt: str = "",
        *,
        length: int = 10_000,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
        **options: Any,
    ) -> list[str]:
        r"""Return `n` documents of one line each, whole ones, that begin with the prompt; else as `samples`.

        Raises
        ------
        UnrolledError
            If the model didn't learn where documents end, or one has not ended after `length` symbols.

        Examples
        --------
        >>> import unrolled as ur
        >>> names = ["ada", "ida", "ava", "eva"] * 40
        >>> model = ur.LanguageModel.train(names, documents="lines", hidden_size=12, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=8, learning_rate=0.01)
        >>> len(model.sample_documents(3, "a", seed=1))
        3
        """
        how, n, length = Drawing(**options), check_size("n", n, least=0), check_size("length", length)
        end = self.vocabulary.end
        if end is None:
            raise UnrolledError("the model did not learn documents of one line each: train it with --documents lines")
        if "\n" in check_a("prompt", prompt, str, "a text"):
            raise UnrolledError("the prompt has a newline, which ends a document; give the beginning of one line")
        if how.stop:
            raise UnrolledError("stop ends a text before its document does; leave it out, or draw samples")
        documents = []
        for *drawn, last in self._streams(n, prompt, length, how, _chance(seed, rng)):
            if last != end:
                raise UnrolledError(f"a document has not ended after {length:,} symbols; give a larger length")
            documents.append(written(prompt, self.vocabulary) + "".join(self._decoded(drawn)).rstrip())
        return documents

    def predict(self, prompt: str = "", top: int = 5, *, by: str = "word") -> list[tuple[str, float]]:
        r"""Return what is likeliest to come next, each with its probability.

        Parameters
        ----------
        prompt : str
            Without one, what is likeliest behind a newline.
        top : int
            How many.
        by : str
            "word": all up to the next blank, by a search (`unrolled.models.next_words`), as it is written behind the
            prompt: " word" where the prompt's last word is whole, "er" where it is not. "symbol": one symbol of the
            model's own. Where a model of lines ends one, that is "\n" in both.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.LanguageModel.train("the cat sat on the mat. " * 40, hidden_size=16, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=20, learning_rate=0.01)
        >>> [word for word, probability in model.predict("the cat sat on", top=1)]
        [' the']
        >>> [symbol for symbol, probability in model.predict("the cat sat o", top=1, by="symbol")]
        ['n']
        """
        check_choice("way to cut what comes next", by, ("word", "symbol"))
        top = check_size("top", top)
        if not prompt and self.vocabulary.newline is None:
            raise UnrolledError("the model knows no newline that it could begin behind; give a prompt")
        start = self._start(prompt, generator())
        state, token = sample.primed(self.network, start, self.vocabulary.end)
        if by == "word" and self.vocabulary.takes is not np.ndarray and self.vocabulary.level != "word":
            return WordSearch(self.network, self.vocabulary, prompt, state, token).likeliest(top)
        chances = probabilities(self.network.logits(np.array([[token]]), state)[0][0, 0])
        likeliest = np.argsort(-chances, kind="stable")[:top].tolist()
        return [(self.vocabulary.label(token), float(chances[token])) for token in likeliest]

    def predictions(
        self, paths: Sequence[str] = (), *, prompt: str = "", top: int = 5, by: str = "word", as_json: bool = False
    ) -> Iterator[str]:
        """Yield lines of what is likeliest to come next, as the command prints it; see `predict`."""
        if paths:
            raise UnrolledError("a language model says what comes next after a text: give it as --prompt, and no file")
        found = self.predict(prompt, top, by=by)
        if as_json:
            yield json.dumps([{by: text, "probability": chance} for text, chance in found]) + "\n"
            return
        for text, chance in found:
            shown = text if by == "word" and text.isprintable() else repr(text)
            yield f"{chance:.4f}  {shown}\n"

    def _start(self, prompt: str, rng: np.random.Generator) -> Tokens:
        """Return the tokens of a prompt; a model of words is warned of words that it reads as unknown."""
        check_a("prompt", prompt, str, "a text")
        if unlisted := list(dict.fromkeys(self.vocabulary.unlisted(prompt))):
            names = ", ".join(map(repr, unlisted[:5])) + (f" and {len(unlisted) - 5:,} more" if unlisted[5:] else "")
            warn(f"the model doesn't list {names} of the prompt; it reads {UNK} instead")
        return self.vocabulary.encode(prompt) if prompt else np.array([self.vocabulary.first_token(rng)])

    def _begun(
        self, n: int, prompt: str, rng: np.random.Generator
    ) -> tuple[Tokens, Iterator[tuple[Any, list[int], list[np.random.Generator]]]]:
        """Return a prompt's tokens; then, of some texts at a time, the state, what each is fed first, and its rng."""
        spawn_streams(rng, 0)  # a generator that can't is refused before anything is drawn
        start = self._start(prompt, rng)
        state, token = sample.primed(self.network, start, self.vocabulary.end)

        def groups() -> Iterator[tuple[Any, list[int], list[np.random.Generator]]]:
            for first in range(0, n, TOGETHER):
                more = spawn_streams(rng, min(TOGETHER, n - first) - (not first))
                tokens = [token if prompt else self.vocabulary.first_token(own) for own in more]
                yield (state, tokens, more) if first else (state, [token, *tokens], [rng, *more])

        return start if prompt else start[:0], groups()

    def _streams(self, n: int, prompt: str, length: int, how: Drawing, rng: np.random.Generator) -> Iterator[list[int]]:
        """Return the tokens of texts that continue a prompt, each drawn in a stream of its own."""
        if not how.plain:
            return (drawn.tokens for drawn in self._drawn(n, prompt, length, how, rng))
        groups, end = self._begun(n, prompt, rng)[1], self.vocabulary.end
        return chain.from_iterable(
            sample.streams(self.network, state, np.array(tokens), length, how.temperature, rngs, end=end)
            for state, tokens, rngs in groups
        )

    def _drawn(self, n: int, prompt: str, length: int, how: Drawing, rng: np.random.Generator) -> Iterator[Drawn]:
        """Return texts that are drawn a step at a time, one after another."""
        how.check_number(n)
        read, groups = self._begun(n, prompt, rng)
        if how.beam is not None:
            search = BeamSearch(self.network, self.vocabulary, how, length)
            return (search.text(state, token) for state, tokens, _ in groups for token in tokens)
        text = Stepwise(self.network, self.vocabulary, how, length)
        return (
            text.text(state, token, read, own)
            for state, tokens, rngs in groups
            for token, own in zip(tokens, rngs, strict=True)
        )

    def _decoded(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield what tokens stand for, as they come."""
        decoder = self.vocabulary.decoder()
        for token in tokens:
            yield decoder.feed(token)
        yield decoder.finish()

    def score(
        self,
        text: str | bytes | Tokens | Corpus | Sequence[str],
        *,
        window: int = 0,
        dynamic: float = 0.0,
        documents: str = "none",
    ) -> Score:
        """Return how well the model predicts a text; the documents of a corpus, or of a list, each by itself.

        Parameters
        ----------
        text : str, bytes, array (N,) or list of tokens, Corpus, or list of str, its documents
        window : int
            Begin anew, in the initial state, every so many symbols; 0 carries the state through all of the text.
        dynamic : float
            Learn from each segment once it is scored, at this rate (Krause et al. 2018; `unrolled.models.dynamic`); 0
            does not. The model stays as it is.
        documents : str
            "lines": each line of a text, or of a list of them, is a document, and its end is predicted too.

        Raises
        ------
        UnrolledError
            If the text is shorter than two symbols or has one that the model doesn't know.
        """
        check_how(text, recorded({"documents": documents}))
        if documents != "none" or texts_of(text):
            texts = [text] if isinstance(text, str) else texts_of(text)
            text = of_documents(texts, self.vocabulary.level, "files" if documents == "none" else documents)
        if not isinstance(text, Corpus):
            tokens = self.vocabulary.encode(text)  # type: ignore[arg-type]
            return score(self.network, tokens, window=window, dynamic=dynamic)
        encoded = encode(text, self.vocabulary)
        return score(self.network, encoded.tokens, encoded.documents, window=window, dynamic=dynamic)

    def plot_loss(self) -> Any:
        """Draw the losses of its training over the epochs; returns matplotlib's axes.

        Raises
        ------
        UnrolledError
            If the model was read from a file, which holds no losses, or matplotlib is not installed.
        """
        history = self.result.history if self.result else []
        if not history:
            raise UnrolledError(
                "this model has no losses to draw; `train` leaves them, and `unrolled plot` draws a run's"
            )
        curves = {"training": ([e.epoch for e in history], [e.train_loss for e in history])}
        validated = [(e.epoch, e.val_loss) for e in history if e.val_loss is not None]
        if validated:
            curves["validation"] = ([epoch for epoch, _ in validated], [loss for _, loss in validated])
        return draw_losses(curves, "epochs", "nats a symbol")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file."""
        checkpoint.save(check_path("the path of a model", path), self.network, self.vocabulary)

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network, as `unrolled info` prints it."""
        alphabet = [("symbols", repr(self.vocabulary.alphabet))] if self.vocabulary.alphabet else []
        documents = [("documents", "of one line each")] if self.vocabulary.documents else []
        return [("level", self.vocabulary.level), *alphabet, *documents]

    def __repr__(self) -> str:
        spec = self.network.spec
        return (
            f"LanguageModel({spec.cell}, {spec.num_layers} x {spec.hidden_size}, "
            f"{count(len(self.vocabulary), self.vocabulary.unit)}, {self.network.parameter_count:,} parameters)"
        )


def _chance(seed: int | None, rng: np.random.Generator | None) -> np.random.Generator:
    """Return where random numbers come from."""
    if seed is not None and rng is not None:
        raise UnrolledError("both seed and rng are given; give one, or neither for another text each time")
    return generator(rng if seed is None else check_seed(seed))


def written(prompt: str, vocabulary: Vocabulary) -> str:
    """Return a prompt as it stands before what continues it."""
    return prompt + (vocabulary.separator if prompt and not prompt[-1].isspace() else "")


def load(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    cell: str | Cell | None = None,
    weights: str | None = None,
) -> LanguageModel:
    """Read the file of a language model, or, in a run's folder, that of the best one, as `unrolled.load`.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file.
    """
    return LanguageModel(*checkpoint.load(checkpoint.model_file(path), backend, cell, weights))


def _of_the_model(options: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """Options with a model's network and vocabulary; those that say something else are refused."""
    check_a("init_from", model, LanguageModel, "a LanguageModel, such as load(path) gives")
    spec, vocabulary = model.network.spec.to_json(), model.vocabulary
    free = {name for name in spec if "drop" in name or "zoneout" in name} | {"ar", "tar", "label_smoothing"}
    fixed = {name: value for name, value in spec.items() if name not in free | {"vocabulary_size", "init"}}
    fixed |= vocabulary.options
    options |= {"cell": name_of(options["cell"])} if "cell" in options else {}
    for name, value in fixed.items():
        if options.get(name, value) != value:
            raise UnrolledError(f"{name} is {brief(options[name])}, but the model to start from has {value!r}")
    return {name: spec[name] for name in free} | options | fixed


def _prepared(
    corpus: Corpus,
    held: Mapping[str, Corpus],
    vocabulary: Vocabulary,
    options: Options,
    folder: Path | None,
    backend: str,
    *,
    init_from: LanguageModel | None = None,
    before: checkpoints.Reopened | None = None,
    asked: Collection[str] | None = None,
) -> Prepared:
    """Make of a corpus, and of others held out, a run from the start or one that goes on.

    Options but those `asked` for are chosen, where these are given.
    """
    changed = f"the text is not the one that {folder} was trained on"
    vocabulary = replace(vocabulary, documents=False)  # what tokens are is not about documents
    try:
        encoded = encode(corpus, vocabulary)
        parts = {name: encode(part, vocabulary) for name, part in held.items()}
    except UnrolledError as error:
        raise UnrolledError(f"{changed}: {error}" if before else str(error)) from None
    tokens, texts = encoded.tokens, [encoded, *parts.values()]
    source = _source(corpus, held, vocabulary, texts)
    if before is not None and source["sha256"] != before.source["sha256"]:
        has, had = count(len(tokens), "symbol"), before.source["symbols"]
        raise UnrolledError(
            f"{changed}: it has {has}, {'another' if had == len(tokens) else f'it had {had:,}'}"
            f"{' content' if had == len(tokens) else ''}. Give the old text, or start a new run"
        )
    fractions = ("val" not in held) * options.val_fraction, ("test" not in held) * options.test_fraction
    if corpus.of_lines:
        vocabulary = replace(vocabulary, documents=True)
        train, val, test = draw_parts(encoded, *fractions, options.seed)
    else:
        vocabulary = vocabulary.with_documents(tokens, encoded.documents)
        train, val, test = split_text(encoded, *fractions)
    val, test = parts.get("val", val), parts.get("test", test)
    unit = vocabulary.unit
    options, why = (
        Chosen(options, ()) if asked is None else for_text(options, asked, len(train.tokens), len(vocabulary))
    )
    sizes = options.batch_size, options.seq_length
    batches = lanes(train.tokens, *sizes, name="the training part", unit=unit, documents=train.documents)
    rng = np.random.default_rng(options.seed)
    network = Network(options.spec(len(vocabulary)), backend=backend, rng=rng)
    if init_from is not None:
        if network.head.classes and len(vocabulary) > len(init_from.vocabulary):
            new = count(len(vocabulary) - len(init_from.vocabulary), "symbol")
            raise UnrolledError(f"the text has {new} that the model doesn't know; an adaptive softmax can't grow")
        for name, p in init_from.network.params.items():  # new symbols come last, and keep their random weights
            network.params[name][tuple(slice(size) for size in p.shape)] = p
    made = run.made_with(network.recurrent.backend)
    more = () if before is None else run.made_elsewhere(before.made_with, made) + metrics_log.set_aside(folder)
    facts = _facts(corpus, texts, (train, val, test), NextSymbol(network, vocabulary), options, more, why)
    validation = held_out(val.tokens, *sizes, val.documents, whole=corpus.of_lines)

    def beside() -> dict[str, Any] | None:
        found = None if validation is None else yardsticks(batches, validation, vocabulary)
        return None if found is None else found.to_json()

    return Prepared(
        facts=replace(facts, out=folder, step=0 if before is None else before.step, sha256=source["sha256"]),
        train=batches,
        val=validation,
        test=held_out(test.tokens, *sizes, test.documents, whole=corpus.of_lines),
        eval_every=options.eval_every or max(100, math.ceil(4 * len(val.tokens) / math.prod(sizes))),
        rng=rng,
        codec={"vocabulary": vocabulary.to_json()},
        source=source,
        backend=backend,
        resume=before,
        made_with=made,
        yardsticks=beside,
    )


def _source(
    corpus: Corpus, held: Mapping[str, Corpus], vocabulary: Vocabulary, texts: Sequence[Encoded]
) -> dict[str, Any]:
    """Return where a text comes from, and a hash of it, as a checkpoint says it."""
    documents = (part.documents for part in texts if part.documents is not None)
    return {
        "name": corpus.name,
        "files": run.absolute(corpus.paths),
        "val": run.absolute(held["val"].paths) if "val" in held else [],
        "test": run.absolute(held["test"].paths) if "test" in held else [],
        "how": dict(corpus.how),
        "sha256": run.fingerprint(vocabulary.to_json(), *(part.tokens for part in texts), *documents),
        "symbols": len(texts[0].tokens),
    }


def _facts(
    corpus: Corpus,
    texts: Sequence[Encoded],
    split_: tuple[Encoded, Encoded, Encoded],
    model: NextSymbol,
    options: Options,
    more: tuple[str, ...],
    why: tuple[str, ...],
) -> Facts:
    """Return what is told of a run before its first step."""
    tokens, symbols, unit = texts[0].tokens, len(model.vocabulary), model.vocabulary.unit
    known, said = for_bigrams(tokens, symbols)
    # A table of pairs of words, or of byte pairs, has learnt this very text by heart: no fair thing to beat.
    bigrams = bigram_entropy(known, symbols) if model.vocabulary.fair_bigrams else None
    drawn = [f"{documents_in(part):,} to {use}" for part, use in zip(split_, USES, strict=True) if len(part.tokens)]
    documents = [("documents", f"{', '.join(drawn)}; drawn by the seed, {options.seed}")] if corpus.of_lines else []
    train, val, test = (len(part.tokens) for part in split_)
    parts = [f"{train:,} to train", f"{val:,} to validate"] + ([f"{test:,} to test"] if test else [])
    size = count(len(tokens), unit)
    of_bigrams = "" if bigrams is None else f", of bigrams {losses(bigrams, unit)}"
    much = "--documents 20" if corpus.of_lines else "--n 5" if texts[0].documents is not None else "--length 400"
    return Facts(
        name=corpus.name,
        notes=tuple(note for part in texts for note in part.notes) + (said if bigrams is not None else ()) + more,
        unit=unit,
        size=size,
        about=(
            ("text", f"{size}, {count(symbols, 'symbol')}; {', '.join(parts)}"),
            *documents,
            ("entropy", f"of single symbols {unigram_entropy(tokens, symbols):.4f} nats{of_bigrams}"),
            *[("chosen", line) for line in why],
        ),
        model=model,
        options=options,
        plan=f"{options.batch_size} lanes x {options.seq_length} steps",
        out=None,
        use=f"unrolled sample {{model}} {much} --temperature 0.7",
    )


KIND = checkpoints.Kind(
    checkpoints.LANGUAGE_MODEL,
    Options,
    {"vocabulary": lambda _, value: Vocabulary.from_json(value)},
    spec=lambda options, vocabulary: options.spec(len(vocabulary)),
    head=lambda vocabulary: LANGUAGE,
    model=LanguageModel,
    task="language",
    noun="a language model",
    reading=Reading,
)
"""The contents of files of a language model."""
