"""Texts drawn a step of the network at a time: what is left out, what ends them, and how likely each symbol was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array
from ..data.text import Vocabulary
from ..drawing import Drawing
from ..nn.network import Network
from ..reference.losses import log_softmax
from .allowed import NOTHING, Mask
from .chances import scores
from .sampling import _Numbers, _sample_rows


class Drawn(NamedTuple):
    """A text that was drawn.

    Attributes
    ----------
    text : str
        Without the prompt, and without what ended it.
    tokens : list of int
        All symbols that were drawn, those of what ended the text too.
    log_probabilities : list of float
        Of each of the tokens, in nats: the log-probability that the model gives it.
    drawn_log_probabilities : list of float
        Of each of the tokens, in nats: its log-probability in what was drawn from.
    ended : str
        "length", "end" (of a document), "stop", or "allow": it is a match, and nothing longer is.
    """

    text: str
    tokens: list[int]
    log_probabilities: list[float]
    drawn_log_probabilities: list[float]
    ended: str


class Step(NamedTuple):
    """A symbol that was drawn, with its log-probabilities: the model's, and in what was drawn from."""

    token: int
    full: float
    own: float


class Stops:
    """Looks for the texts that end what is drawn, and holds back what may be the beginning of one.

    Examples
    --------
    >>> stops = Stops(("end",))
    >>> [stops.feed(piece) for piece in ("an e", "ne", "nd of it")]
    ['an ', 'en', '']
    >>> stops.found
    True
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops, self.held, self.found = stops, "", False

    def feed(self, piece: str) -> str:
        """Take what was drawn; return what may be written now."""
        text = self.held + piece
        ends = [at for at in map(text.find, self.stops) if at >= 0]
        if ends:
            self.held, self.found = "", True
            return text[: min(ends)]
        hold = max((_overlap(text, stop) for stop in self.stops), default=0)
        self.held = text[len(text) - hold :]
        return text[: len(text) - hold]


def _overlap(text: str, stop: str) -> int:
    """Return how much of the end of a text is the beginning of another one, and not all of that."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)


class Stepwise:
    """One text of a model, drawn a step at a time.

    Parameters
    ----------
    network : Network
    vocabulary : Vocabulary
    how : Drawing
    length : int
        Symbols, at most.
    on : bool
        Whether the text goes on with another document where one ends.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, how: Drawing, length: int, on: bool = False) -> None:
        self.network, self.vocabulary, self.how, self.length, self.on = network, vocabulary, how, length, on
        self._read = network.reader(length)
        self._mask = None if how.allow is None else Mask(vocabulary, how.allow)
        self.ended = "length"

    def pieces(
        self, state: Any, token: int, prompt: Array, rng: np.random.Generator
    ) -> Iterator[tuple[Step | None, str]]:
        """Yield each symbol with the text that may be written then; at last, beside None, what was held back.

        Parameters
        ----------
        state, token
            The state (L, 1, H) that this token is to be read in.
        prompt : (N,) integers
            Tokens that count as seen.
        rng : numpy.random.Generator
            One uniform number is drawn a token, as where texts are drawn by temperature alone.
        """
        decoder, stops, end = self.vocabulary.decoder(), Stops(self.how.stop), self.vocabulary.end
        self.ended = "length"
        for step in self._steps(state, token, prompt, _Numbers(rng)):
            ends = step.token == end and not self.on
            yield step, "" if ends else stops.feed(decoder.feed(step.token))
            if stops.found or ends:
                self.ended = "stop" if stops.found else "end"
                break
        yield None, "" if stops.found else stops.feed(decoder.finish()) + stops.held

    def text(self, state: Any, token: int, prompt: Array, rng: np.random.Generator) -> Drawn:
        """Draw a text; arguments as in `pieces`."""
        drawn = list(self.pieces(state, token, prompt, rng))
        steps = [step for step, _ in drawn if step is not None]
        text = "".join(piece for _, piece in drawn)
        logs = [step.full for step in steps], [step.own for step in steps]
        return Drawn(text, [step.token for step in steps], *logs, self.ended)

    def _steps(self, state: Any, token: int, prompt: Array, numbers: _Numbers) -> Iterator[Step]:
        """Yield the symbols, without end but for the length."""
        seen, part = np.zeros(self.network.spec.vocabulary_size, bool), self.network.recurrent.states.part
        seen[prompt] = True
        states, mask = part(state), self._mask
        matched = NOTHING if mask is None else mask.begin
        for left in range(self.length, 0, -1):
            if mask is not None and mask.ended(matched):
                self.ended = "allow"
                return
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
                logits, states = self._read(np.array([token]), states)
            allowed = None if mask is None else mask.allowed(matched)
            if mask is not None and allowed is not None and not allowed.any():
                raise mask.dead_end()
            found = scores(logits[0], self.how, seen, allowed)
            token = int(_sample_rows(found[None], 1.0, numbers.ahead(left)[:1])[0])
            numbers.use()
            seen[token] = True
            matched = NOTHING if mask is None else mask.after(matched, token)
            yield Step(token, *(float(log_softmax(of.astype(np.float64))[token]) for of in (logits[0], found)))
            if token == self.vocabulary.end:
                states = part(self.network.initial_state(1))
