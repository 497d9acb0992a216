"""Beam search: a text that is likely as a whole, found without chance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..checks import NOT_FINITE, Array
from ..data.text import Vocabulary
from ..drawing import Drawing
from ..errors import UnrolledError
from ..nn.network import Network
from ..reference.losses import log_softmax
from .allowed import NOTHING, Mask, Matched
from .drawn import Drawn, Stops
from .sampling import _rows


class Kept(NamedTuple):
    """A text that is kept.

    Attributes
    ----------
    score : its log-probability, nats
    tokens, logs : its symbols, and the log-probability of each
    row : where the state is that its last symbol is to be read in
    matched : where it stands in the expression that it is to match
    ended : "", or why it does not go on
    """

    score: float
    tokens: tuple[int, ...] = ()
    logs: tuple[float, ...] = ()
    row: int = 0
    matched: Matched = NOTHING
    ended: str = ""


class BeamSearch:
    """A search for a likely text: at every symbol the `how.beam` likeliest so far are kept, ended ones among them.

    Its score is the log-probability that the model gives the whole text; it is not divided by the number of symbols. A
    text that goes on gets no likelier, so the search is over once the likeliest that is kept has ended.

    Parameters
    ----------
    network : Network
    vocabulary : Vocabulary
    how : Drawing
        Its `beam`, `allow` and `stop`.
    length : int
        Symbols, at most: fewer where a document or a match ends, or a text has what stops it.
    """

    def __init__(self, network: Network, vocabulary: Vocabulary, how: Drawing, length: int) -> None:
        self.network, self.vocabulary, self.how, self.length = network, vocabulary, how, length
        self._read = network.reader(length)
        self._mask = None if how.allow is None else Mask(vocabulary, how.allow)

    def text(self, state: Any, token: int) -> Drawn:
        """Return the likeliest text that is found behind a token, to be read in a state (L, 1, H)."""
        states, kept = self.network.recurrent.states.part(state), [Kept(0.0)]
        if self._mask is not None:
            kept = [self._looked_at(kept[0]._replace(matched=self._mask.begin))]
        for _ in range(self.length):
            if kept[0].ended:
                break
            going = [one for one in kept if not one.ended]
            fed = np.array([one.tokens[-1] if one.tokens else token for one in going])
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
                logits, states = self._read(fed, _rows(states, np.array([one.row for one in going])))
            kept = self._likeliest([one for one in kept if one.ended], going, logits)
        return self._drawn(kept[0])

    def _likeliest(self, ended: list[Kept], going: list[Kept], logits: Array) -> list[Kept]:
        """Return the likeliest of ended texts and of the others (B) with a symbol more; the logits are (B, V)."""
        width = self.how.beam or 1
        if not np.isfinite(logits.max(axis=1)).all():
            raise UnrolledError(NOT_FINITE)
        logs = log_softmax(logits.astype(np.float64))
        scores = logs + np.array([[one.score] for one in going])
        if self._mask is not None:
            scores[~np.array([self._mask.allowed(one.matched) for one in going])] = -np.inf
        best = np.argsort(-scores, axis=None, kind="stable")[:width]
        new = []
        for row, token in zip(*(index.tolist() for index in np.unravel_index(best, scores.shape)), strict=True):
            if scores[row, token] > -np.inf:
                one = going[row]
                matched = NOTHING if self._mask is None else self._mask.after(one.matched, token)
                tokens, own = (*one.tokens, token), (*one.logs, float(logs[row, token]))
                new.append(self._looked_at(Kept(float(scores[row, token]), tokens, own, row, matched)))
        if self._mask is not None and not ended and not new:
            raise self._mask.dead_end()
        return sorted([*ended, *new], key=lambda one: -one.score)[:width]

    def _looked_at(self, one: Kept) -> Kept:
        """Return a text with why it has ended, where it has."""
        if one.tokens and one.tokens[-1] == self.vocabulary.end:
            return one._replace(ended="end")
        if self.how.stop and any(stop in self.vocabulary.decode(one.tokens) for stop in self.how.stop):
            return one._replace(ended="stop")
        if self._mask is not None and self._mask.ended(one.matched):
            return one._replace(ended="allow")
        return one

    def _drawn(self, one: Kept) -> Drawn:
        """Return a text as what is drawn is returned."""
        written, stops = [token for token in one.tokens if token != self.vocabulary.end], Stops(self.how.stop)
        text = stops.feed(self.vocabulary.decode(written)) + stops.held
        return Drawn(text, list(one.tokens), list(one.logs), [0.0] * len(one.logs), one.ended or "length")
