"""The likeliest words to come next: a search over what a model may write, symbol by symbol, up to a blank.

A word is what stands between two blanks. Its probability is that of all continuations which begin with it, whatever
blanks are before it: P(word) = sum over blanks s of P(s + word + a blank). What goes on with the last word of the
prompt, where no blank is behind that, is a word of its own.

A beginning of a word is at least as likely as any word that it grows into. So the likeliest beginning is looked at
first, and once as many words are found as are asked for, and nothing that is begun is likelier, they are the likeliest
of all (best-first search). Letters: R rows, one for each way to a beginning; V symbols.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from ..checks import NOT_FINITE, Array
from ..data.text import Vocabulary
from ..errors import UnrolledError
from ..nn.network import Network
from ..training.state import map_state

LEAST = 1e-6
"""What is less likely is not followed: a word, and a share of the ways to one."""
AT_ONCE = 32
"""Beginnings that are looked at in one call."""
MOST = 4096
"""Beginnings that are looked at, at most: a model that knows nothing finds all words alike."""


class Begun(NamedTuple):
    """The beginning of a word.

    Attributes
    ----------
    path : its tokens
    goes_on : whether it goes on with the prompt's last word
    weights : (R,) the probability of each way to it, the blanks before it
    states, rows : the states that its last token is to be read in: these rows of (L, N, H) arrays
    """

    path: tuple[int, ...]
    goes_on: bool
    weights: Array
    states: Any
    rows: Array


def probabilities(logits: Array) -> Array:
    """Softmax of logits (..., V), in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    found: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    if not np.isfinite(found).all():
        raise UnrolledError(NOT_FINITE)
    return found


class WordSearch:
    """The search for the words that come next after a prompt.

    Parameters
    ----------
    network : Network
    vocabulary : Vocabulary
    prompt : str
    state, token
        The state (L, 1, H) that the last token of the prompt is to be read in, and that token.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, prompt: str, state: Any, token: int) -> None:
        self.network, self.vocabulary = network, vocabulary
        pieces = [vocabulary.piece(k) for k in range(len(vocabulary))]
        self.all_blank = np.array([piece.isspace() for piece in pieces])
        self.ends = np.array([piece[:1].isspace() for piece in pieces])
        """Symbols that a word before them ends with."""
        self.end = vocabulary.end
        if self.end is not None:
            self.all_blank[self.end] = False  # it ends the document
        self.inside = bool(prompt) and not prompt[-1].isspace()
        """Whether the prompt ends within a word, or behind it."""
        self.found: dict[str, float] = defaultdict(float)
        self.open: list[tuple[float, int, Begun]] = []
        self.pushed = self.looked_at = 0
        self._begin(state, token)

    def likeliest(self, top: int) -> list[tuple[str, float]]:
        """Return as many words with their probabilities, the likeliest first; see `LanguageModel.predict`."""
        while self.open and self.looked_at < MOST:
            floor = self._least(top)
            if -self.open[0][0] <= floor:
                break
            size = min(AT_ONCE, len(self.open))
            self.looked_at += size
            self._look_at([heapq.heappop(self.open)[2] for _ in range(size)], floor)
        return sorted(self.found.items(), key=lambda pair: -pair[1])[:top]

    def _least(self, top: int) -> float:
        """Probability of the last of the words that would be returned now."""
        return heapq.nlargest(top, self.found.values())[-1] if len(self.found) >= top else 0.0

    def _begin(self, state: Any, token: int) -> None:
        """Begin a word with each symbol: behind each run of blanks, or at once."""
        logits, state = self.network.logits(np.array([[token]]), state)
        weights, chances, states = [np.ones(1)], [probabilities(logits[0])], [state]
        while len(weights[-1]):
            reached = weights[-1][:, None] * chances[-1]
            rows, blanks = np.nonzero(self.all_blank & (reached > LEAST))
            logits, state = self.network.logits(blanks[None], map_state(lambda a: a[:, rows], states[-1]))  # noqa: B023
            weights.append(reached[rows, blanks])
            chances.append(probabilities(logits[0]))
            states.append(state)
        weight, chance = np.concatenate(weights), np.concatenate(chances)
        joined = map_state(lambda *parts: np.concatenate(parts, axis=1), *states)
        reached = weight[:, None] * chance
        if self.end is not None:
            self.found["\n"] += float(reached[:, self.end].sum())
        for token in np.flatnonzero(~self.all_blank).tolist():
            if token == self.end:
                continue
            goes_on = self.inside and not bool(self.ends[token])
            if goes_on:
                self._push(Begun((token,), True, reached[:1, token], joined, np.arange(1)))
            rows = np.arange(int(goes_on), len(weight))
            self._push(Begun((token,), False, reached[rows, token], joined, rows))

    def _push(self, begun: Begun) -> None:
        chance = float(begun.weights.sum())
        if chance > LEAST:
            kept = begun.weights > LEAST * chance
            self.pushed += 1  # of two that are as likely, the first comes first
            rest = begun._replace(weights=begun.weights[kept], rows=begun.rows[kept])
            heapq.heappush(self.open, (-chance, self.pushed, rest))

    def _look_at(self, several: list[Begun], floor: float) -> None:
        """Let beginnings end in words, and go on with each symbol that may be likelier than `floor`."""
        tokens = np.concatenate([np.full(len(begun.rows), begun.path[-1]) for begun in several])
        given = [map_state(lambda a, rows=begun.rows: a[:, rows], begun.states) for begun in several]
        joined = map_state(lambda *parts: np.concatenate(parts, axis=1), *given)
        logits, states = self.network.logits(tokens[None], joined)
        chances, place = probabilities(logits[0]), 0
        for begun in several:
            rows = np.arange(place, place := place + len(begun.rows))
            reached = begun.weights[:, None] * chances[rows]
            self.found[self._word(begun)] += float(reached[:, self.ends].sum())
            likely = reached.sum(axis=0) > max(floor, LEAST)
            for token in np.flatnonzero(likely & ~self.ends).tolist():
                self._push(Begun((*begun.path, token), begun.goes_on, reached[:, token], states, rows))

    def _word(self, begun: Begun) -> str:
        """Return a word as it is written behind the prompt."""
        text = self.vocabulary.decode(list(begun.path)).strip()
        return text if begun.goes_on or not self.inside else f" {text}"
