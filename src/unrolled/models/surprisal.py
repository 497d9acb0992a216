"""How surprised a model is by each token of a text, and by each word: a table, for people who read such tables.

| column | what is in it |
|---|---|
| `position` | number of the token in the text, from 0 |
| `token` | the token, as it is written |
| `log_probability` | natural logarithm of its probability, given all before it; empty where it is not predicted |
| `surprisal` | -log2 of it: bits |
| `word` | in the row of a word's last token: the word |
| `word_surprisal` | there: the bits of its tokens, with the blanks before it; empty if its first one is not predicted |
| `document` | number of its document, from 0, where they are kept apart; the newline that ends one is its last token |

A word is what stands between blanks. The newline that ends a document which is kept apart counts with the word
before it. Of models of words, and of tokens that are no text, there are no columns of words: a token is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..data.batches import Tokens
from ..data.text import Vocabulary
from .scoring import Score

Row = list[str | int | float]

TOKEN = ["position", "token", "log_probability", "surprisal"]
WORD = ["word", "word_surprisal"]
DOCUMENT = ["document"]


def table(score: Score, tokens: Tokens, vocabulary: Vocabulary) -> Iterator[Row]:
    """Yield the names of the columns, then a row a token (N,).

    Examples
    --------
    >>> letters = Vocabulary.of(" abc", "char")
    >>> for row in table(Score(1.0, np.log([0.5, 0.25, 0.5, 0.5])), letters.encode("a bc "), letters):
    ...     print(*(f"{x:.2f}" if isinstance(x, float) else x for x in row), sep="|")
    position|token|log_probability|surprisal|word|word_surprisal
    0|a|||a|
    1| |-0.69|1.00||
    2|b|-1.39|2.00||
    3|c|-0.69|1.00|bc|4.00
    4| |-0.69|1.00||
    """
    in_words = vocabulary.level != "word" and vocabulary.takes is not np.ndarray
    begins = score.documents
    yield [*TOKEN, *(WORD if in_words else []), *([] if begins is None else DOCUMENT)]
    log_probs = [math.nan, *score.log_probs.tolist()]
    ends = _words(score, tokens, log_probs, vocabulary) if in_words else {}
    for k, (token, p) in enumerate(zip(tokens.tolist(), log_probs, strict=True)):
        row: Row = [k, vocabulary.label(token), *_figures(p)]
        if in_words:
            word, nats = ends.get(k, ("", math.nan))
            row += [word, _figures(nats)[1]]
        if begins is not None:
            row.append(int(np.searchsorted(begins, k)))  # its newline is the document's before it
        yield row


def _figures(log_prob: float) -> list[str | float]:
    """Return a log-probability and its bits; nothing of what is not predicted."""
    return ["", ""] if math.isnan(log_prob) else [log_prob, abs(log_prob) / math.log(2)]


def _words(
    score: Score, tokens: Tokens, log_probs: list[float], vocabulary: Vocabulary
) -> dict[int, tuple[str, float]]:
    """Return the words of a text by the place of their last token, each with its log-probability."""
    begins = set() if score.documents is None else set(score.documents.tolist())
    decoder, found = vocabulary.decoder(), dict[int, tuple[str, float]]()
    text, total, pending, last = "", 0.0, 0.0, -1
    for k, (token, p) in enumerate(zip(tokens.tolist(), log_probs, strict=True)):
        piece = decoder.feed(token)
        pending += p
        if not piece and k < len(tokens) - 1:  # part of a character
            continue
        piece += decoder.finish() if k == len(tokens) - 1 else ""
        at_the_end = k == len(tokens) - 1 and piece.isspace()  # behind it no document begins
        closes = k in begins or (score.documents is not None and (token == vocabulary.end or at_the_end))
        ended = text.strip() != "" and (text[-1].isspace() or piece[:1].isspace())
        if ended and not closes:
            found[last] = text.strip(), total
            text, total = "", 0.0
        text, total, pending, last = text + piece, total + pending, 0.0, k
        if closes or (k == 0 and piece.isspace()):
            if text.strip():
                found[k] = text.strip(), total
            text, total = "", 0.0
    if text.strip():
        found[last] = text.strip(), total
    return found
