"""How well a network predicts a given sequence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import NOT_FINITE, Array, check_a, check_size, check_weight
from ..data.batches import Lanes, as_tokens, check_documents
from ..data.text import Vocabulary
from ..errors import UnrolledError, count
from ..nn.network import Network
from ..reference.losses.classes import check_targets
from ..training.divergence import EXPLODED
from .dynamic import adapted

CHUNK = 256
"""Steps a call; bounds the memory of the logits, changes no result. (Fewer pack a decoder's weights more often.)"""


@dataclass(frozen=True)
class Score:
    """Prediction of a text; a symbol is a character or a byte, whichever the model knows.

    Attributes
    ----------
    nats : float
        Mean negative log-likelihood of a predicted symbol.
    log_probs : (N - 1,) array
        Natural logarithm of each predicted symbol's probability; the first of N symbols is not predicted.
    documents : (D - 1,) array, optional
        Where documents begin, if they were kept apart.
    """

    nats: float
    log_probs: Array
    documents: Array | None = None

    @property
    def predicted(self) -> int:
        """Number of predicted symbols."""
        return len(self.log_probs)

    @property
    def bits(self) -> float:
        """Mean bits a symbol."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats): the number of equally likely symbols that would be as hard to predict."""
        return math.exp(self.nats) if self.nats < 700 else math.inf

    def rates(self, text: Any, first: int, vocabulary: Vocabulary) -> dict[str, float]:
        """Return bits a character, a byte and a word of the text that this is of, whose first token is `first`.

        Counted is what is predicted; a word is what stands between blanks. Words that a vocabulary doesn't list are
        charged their spelling. Nothing of tokens that are no text, nor of what a text has none of.

        Examples
        --------
        >>> score = Score(math.log(2), np.log([0.5] * 6))
        >>> score.rates("né le é", 0, Vocabulary.of("né le é", "char"))
        {'bits_per_character': 1.0, 'bits_per_byte': 0.75, 'bits_per_word': 2.0}
        """
        if vocabulary.takes is np.ndarray:
            return {}
        bits, unseen = self.bits * self.predicted, 1
        if isinstance(text, str):
            unseen = vocabulary.unpredicted(text, first)
            bits += vocabulary.spelling_bits(text[unseen:])
        return {f"bits_per_{unit}": bits / number for unit, number in units(text[unseen:]).items() if number}

    def by_document(self) -> list[Score | None]:
        """Return the score of each document, the newline that ends it included; None where nothing is predicted.

        Examples
        --------
        >>> parts = Score(2.0, np.array([-1.0, -3.0, -2.0]), np.array([1, 3])).by_document()
        >>> [part and (part.nats, part.predicted) for part in parts]
        [(1.0, 1), (2.5, 2), None]
        """
        parts = np.split(self.log_probs, [] if self.documents is None else self.documents)
        return [Score(-float(part.mean()), part) if len(part) else None for part in parts]


@np.errstate(over="ignore", invalid="ignore")  # said in a line, below
def score(
    network: Network, tokens: Array, documents: Array | None = None, *, window: int = 0, dynamic: float = 0.0
) -> Score:
    """Probability of every token after the first, given all the tokens before it (from the initial state).

    With `documents`, the places that documents begin at, given the tokens of its document before it; with a `window`,
    given at most so many: the state is the initial one at every window's first token, as where windows are trained on.
    With a rate for `dynamic` evaluation, the parameters learn from what has been scored (`unrolled.models.dynamic`).

    Examples
    --------
    >>> from unrolled.nn.network import Network
    >>> from unrolled.nn.spec import Spec
    >>> net = Network(Spec(vocabulary_size=4, hidden_size=5))
    >>> for p in net.params.values():
    ...     p[...] = 0
    >>> round(score(net, np.array([0, 3, 2])).perplexity, 4)
    4.0
    """
    check_a("network", network, Network, "a Network")
    tokens = as_tokens(tokens)
    if len(tokens) < 2:
        raise UnrolledError(f"a text of {count(len(tokens), 'symbol')} has nothing to predict; scoring needs 2 or more")
    begins = documents = None if documents is None else check_documents(documents, len(tokens))
    if check_size("window", window, least=0):
        places = np.arange(window, len(tokens), window)
        begins = places if documents is None else np.union1d(places, documents)
    read = (
        adapted(network, tokens, begins, dynamic)
        if check_weight("dynamic", dynamic)
        else _read(network, tokens, begins)
    )
    log_probs = np.concatenate([log_probabilities(logits, y) for logits, y in read])
    if dynamic and not -log_probs.mean() <= EXPLODED * math.log(network.spec.vocabulary_size):  # of a guess
        raise UnrolledError(f"the model diverged while it learnt from the text; lower the rate, {dynamic:g}")
    if not np.isfinite(log_probs).all():
        name, peak = max(((n, float(np.abs(p).max())) for n, p in network.params.items()), key=lambda entry: entry[1])
        raise UnrolledError(f"{NOT_FINITE}, {name} up to {peak:.3g}")
    return Score(-float(log_probs.mean()), log_probs, documents)


def units(text: str | bytes) -> dict[str, int]:
    """Return how many characters, bytes of UTF-8 and words between blanks a text has.

    Examples
    --------
    >>> units("né le"), units("né".encode())
    ({'character': 5, 'byte': 6, 'word': 2}, {'character': 2, 'byte': 3, 'word': 1})
    """
    written = text if isinstance(text, str) else text.decode("utf-8", "replace")
    size = len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else len(text)
    return {"character": len(written), "byte": size, "word": len(written.split())}


def _read(network: Network, tokens: Array, begins: Array | None) -> Iterator[tuple[Array, Array]]:
    """Yield logits (S, V) and targets (S,), a piece of the text at a time."""
    state: Any = None
    for chunk in Lanes(tokens, 1, CHUNK, documents=begins):
        logits, state = network.logits(chunk.x, state, starts=chunk.starts)
        yield logits[:, 0], chunk.y[:, 0]


def log_probabilities(logits: Array, targets: Array) -> Array:
    """Natural logarithm of the probability of each target (N,) under its logits (N, V).

    The logits are overwritten, where they can be.

    Exponentials are those of the logits' own type, sums and the result are float64.

    Examples
    --------
    >>> log_probabilities(np.zeros((1, 4), np.float32), np.array([3])).round(4)
    array([-1.3863])
    """
    logits, targets = check_targets(logits, targets)
    peak = logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(logits, targets[..., None], axis=-1).astype(np.float64) - peak
    shifted = np.subtract(logits, peak, out=logits if logits.flags.writeable else None)
    return np.asarray(picked[..., 0] - np.log(np.exp(shifted, out=shifted).sum(axis=-1, dtype=np.float64)))


def evaluate(network: Network, lanes: Lanes) -> float:
    """Mean nats a target over contiguous lanes side by side, each from a zero state: the validation loss."""
    check_a("network", network, Network, "a Network")
    total, count, state = 0.0, 0, None
    for batch in check_a("lanes", lanes, Lanes, "Lanes, such as unrolled.data.batches.lanes makes"):
        loss, state = network.loss(batch.x, batch.y, state, starts=batch.starts)
        total, count = total + loss * batch.y.size, count + batch.y.size
    return total / count
