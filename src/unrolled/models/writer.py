"""Drawing texts from a language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..checks import check_a, check_seed, check_size
from ..data.batches import Tokens
from ..data.text import (
    UNK,
    Vocabulary,
)
from ..declared import described, keywords
from ..drawing import Drawing
from ..errors import UnrolledError, warn
from ..keywords import named
from ..nn.network import Network
from ..seeding import generator, spawn_streams
from . import sampling as sample
from .beam import BeamSearch
from .drawn import Drawn, Stepwise
from .streams import streams

TOGETHER = 512
"""Texts drawn at once: more need more memory, and are hardly faster."""


class Writer:
    """A network and its vocabulary that draw text: the part of a language model that does."""

    network: Network
    vocabulary: Vocabulary

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
            begun = self._behind_newline(start)
            return self._decoded(sample.tokens(self.network, begun, length, how.temperature, rng, end=end))
        state, token = self._primed(start)
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

    def _start(self, prompt: str, rng: np.random.Generator) -> Tokens:
        """Return the tokens of a prompt; a model of words is warned of words that it reads as unknown."""
        check_a("prompt", prompt, str, "a text")
        if unlisted := list(dict.fromkeys(self.vocabulary.unlisted(prompt))):
            names = ", ".join(map(repr, unlisted[:5])) + (f" and {len(unlisted) - 5:,} more" if unlisted[5:] else "")
            warn(f"the model doesn't list {names} of the prompt; it reads {UNK} instead")
        return self.vocabulary.encode(prompt) if prompt else np.array([self.vocabulary.first_token(rng)])

    def _behind_newline(self, start: Tokens) -> Tokens:
        """Return a prompt's tokens behind the newline that every document of a line begins with."""
        end = self.vocabulary.end
        return start if end is None or start[:1].tolist() in ([], [end]) else np.concatenate([[end], start])

    def _primed(self, start: Tokens) -> tuple[Any, int]:
        """Return the state that a prompt's last token is read in, and that token."""
        return sample.primed(self.network, self._behind_newline(start), self.vocabulary.end)

    def _begun(
        self, n: int, prompt: str, rng: np.random.Generator
    ) -> tuple[Tokens, Iterator[tuple[Any, list[int], list[np.random.Generator]]]]:
        """Return a prompt's tokens; then, of some texts at a time, the state, what each is fed first, and its rng."""
        spawn_streams(rng, 0)  # a generator that can't is refused before anything is drawn
        start = self._start(prompt, rng)
        state, token = self._primed(start)

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
            streams(self.network, state, np.array(tokens), length, how.temperature, rngs, end=end)
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


def _chance(seed: int | None, rng: np.random.Generator | None) -> np.random.Generator:
    """Return where random numbers come from."""
    if seed is not None and rng is not None:
        raise UnrolledError("both seed and rng are given; give one, or neither for another text each time")
    return generator(rng if seed is None else check_seed(seed))


def written(prompt: str, vocabulary: Vocabulary) -> str:
    """Return a prompt as it stands before what continues it."""
    return prompt + (vocabulary.separator if prompt and not prompt[-1].isspace() else "")
