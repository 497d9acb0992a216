"""A language model: a network and its vocabulary, trained, sampled, scored, saved and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import checkpoint, sample
from .batches import lanes
from .errors import UnrolledError
from .network import Network
from .score import Score, evaluate, score
from .text import Corpus, Vocabulary, bigram_entropy, default_corpus, read, split, unigram_entropy
from .train import Facts, Listener, Options, Result, first_token, fit, held_out_lanes, make_folder

Source = str | bytes | Corpus | os.PathLike[str] | Sequence[os.PathLike[str]] | None


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

    def __init__(self, network: Network, vocabulary: Vocabulary, result: Result | None = None) -> None:
        self.network, self.vocabulary, self.result = network, vocabulary, result

    @classmethod
    def train(
        cls,
        source: Source = None,
        *,
        out: str | os.PathLike[str] | None = None,
        listener: Listener | None = None,
        backend: str = "auto",
        **options: Any,
    ) -> LanguageModel:
        """Train a model.

        Parameters
        ----------
        source : str, bytes, Corpus, Path or list of Path
            A str is text (bytes with `level="byte"`), a Path is a file or a directory; None is the built-in default
            corpus, the source of the Python standard library.
        out : path, optional
            Folder for the models of this run; made if it isn't there. Nothing is written without it.
        listener : Listener, optional
            Is told how it goes.
        backend : str
            "auto", "cpu" or "reference".
        **options
            Fields of `unrolled.train.Options`.

        Returns
        -------
        LanguageModel
            With the parameters of the lowest validation loss.

        Raises
        ------
        UnrolledError
            For a text or an option that won't do, or a loss that diverges.
        """
        chosen = Options.of(options)
        corpus = _corpus(source, chosen.level)
        vocabulary = Vocabulary.of(corpus.text, corpus.level)
        tokens = vocabulary.encode(corpus.text)
        train, val, test = split(tokens, chosen.val_fraction, chosen.test_fraction)
        lanes(train, chosen.batch_size, chosen.seq_length, name="the training part")  # says what a short text lacks
        rng = np.random.default_rng(chosen.seed)
        network = Network(chosen.spec(len(vocabulary)), backend=backend, rng=rng)
        folder = None if out is None else make_folder(Path(out))
        if listener is not None:
            listener.started(
                Facts(
                    name=corpus.name,
                    notes=corpus.notes,
                    level=corpus.level,
                    symbols=len(tokens),
                    vocabulary_size=len(vocabulary),
                    split=(len(train), len(val), len(test)),
                    unigram_entropy=unigram_entropy(tokens, len(vocabulary)),
                    bigram_entropy=bigram_entropy(tokens, len(vocabulary)),
                    network=network,
                    options=chosen,
                    out=folder,
                )
            )
        result = fit(network, vocabulary, train, val, chosen, out=folder, listener=listener, rng=rng)
        test_lanes = held_out_lanes(test, chosen)
        if test_lanes is not None and not result.interrupted:
            result.test_loss = evaluate(network, test_lanes)
        if listener is not None:
            listener.finished(result, folder)
        return cls(network, vocabulary, result)

    def stream(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        temperature: float = 1.0,
        rng: np.random.Generator | None = None,
    ) -> Iterator[str]:
        """Yield the continuation of a prompt as it is drawn, a symbol at a time."""
        rng = np.random.default_rng() if rng is None else rng
        start = self.vocabulary.encode(prompt) if prompt else np.array([first_token(self.vocabulary, rng)])
        decoder = self.vocabulary.decoder()
        for token in sample.tokens(self.network, start, length, temperature, rng):
            yield decoder.feed(token)
        yield decoder.finish()

    def sample(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        temperature: float = 1.0,
        rng: np.random.Generator | None = None,
    ) -> str:
        """Return `length` symbols that continue a prompt.

        Parameters
        ----------
        prompt : str
            Text that primes the state; without one the text starts after a newline. It isn't repeated in the result.
        length : int
            Symbols to draw.
        temperature : float
            0 always takes the likeliest symbol; 1 draws from the model's own probabilities.
        rng : numpy.random.Generator, optional
            Default: a fresh one.

        Raises
        ------
        UnrolledError
            If the prompt has a symbol that the model doesn't know, or a number makes no sense.
        """
        return "".join(self.stream(prompt, length, temperature=temperature, rng=rng))

    def score(self, text: str | bytes) -> Score:
        """Say how well the model predicts a text.

        Raises
        ------
        UnrolledError
            If the text is shorter than two symbols or has one that the model doesn't know.
        """
        return score(self.network, self.vocabulary.encode(text))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file."""
        checkpoint.save(Path(path), self.network, self.vocabulary)

    def __repr__(self) -> str:
        spec = self.network.spec
        return (
            f"LanguageModel({spec.cell}, {spec.num_layers} x {spec.hidden_size}, "
            f"{len(self.vocabulary)} {self.vocabulary.level}s, {self.network.parameter_count:,} parameters)"
        )


def load(path: str | os.PathLike[str], *, backend: str = "auto") -> LanguageModel:
    """Read a model file that `LanguageModel.save` or `unrolled train` wrote.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file.
    """
    return LanguageModel(*checkpoint.load(Path(path), backend))


def _corpus(source: Source, level: str) -> Corpus:
    if source is None:
        return default_corpus(level=level)
    if isinstance(source, Corpus):
        return source
    if isinstance(source, (str, bytes)):
        text = source.encode() if isinstance(source, str) and level == "byte" else source
        if isinstance(text, bytes) and level == "char":
            raise UnrolledError('bytes need level="byte"')
        if not text:
            raise UnrolledError("the text is empty")
        return Corpus(text, level, "text")
    return read(source, level)
