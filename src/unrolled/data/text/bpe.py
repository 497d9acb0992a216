"""Byte pairs: which ones to merge, learnt from a text by the `tokenizers` library, and a text in terms of them.

Sennrich et al. 2016, on UTF-8 bytes (Radford et al. 2019): tokens 0 to 255 are the bytes, each further one joins two
earlier ones. So any text can be written, and the list of pairs is all there is to keep.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ...checks import check_size
from ...errors import UnrolledError, brief
from .cleaning import whole_words

Merges = tuple[tuple[int, int], ...]

LONGEST = 128
"""Characters after which a word is cut: learning takes time that grows with a word's square."""

WORD = re.compile(r" ?[^\W\d_]{1,N}| ?\d{1,N}| ?(?:[^\w\s]|_){1,N}|\s{1,N}(?!\S)|\s{1,N}".replace("N", str(LONGEST)))
"""No pair joins two of these: letters, digits or marks, each with the blank before it; other blanks."""

SIZE = 1024
"""Tokens of a vocabulary where nothing else is asked for."""

ENOUGH = 1 << 26
"""Characters of a text that its pairs are learnt from; more would change little."""

REMEMBERED = 1 << 19
"""Words whose tokens are kept at hand."""


MOST_TOKENS = 1_000_000
"""Tokens of a vocabulary of byte pairs, at most."""

MOST_BYTES = 1 << 26
"""Bytes of all pairs of a vocabulary together; learnt ones have some hundred thousand."""


def pair_of(n: int, pair: Any) -> tuple[int, int]:
    """Return pair `n` of a vocabulary as two whole numbers, or say that it is none."""
    try:
        left, right = pair
        return check_size("left", left, least=0), check_size("right", right, least=0)
    except (TypeError, ValueError):
        raise UnrolledError(f"pair {n} of the vocabulary is {brief(pair)}; expected two earlier tokens") from None


def pieces_of(merges: Sequence[Sequence[int]]) -> list[bytes]:
    """Bytes of every token: the single ones, then what each pair joins, where nothing earlier is the same.

    Examples
    --------
    >>> pieces_of([(104, 101), (256, 256)])[256:]
    [b'he', b'hehe']
    """
    pieces, size = [bytes([k]) for k in range(256)], 0
    known = set(pieces)
    for n, (left, right) in enumerate(merges):
        if max(left, right) >= len(pieces):
            raise UnrolledError(
                f"pair {n} of the vocabulary is {brief((left, right))}; expected two of the {len(pieces)} before"
            )
        size += len(pieces[left]) + len(pieces[right])
        if size > MOST_BYTES:  # thirty pairs that double take gigabytes
            raise UnrolledError(f"the pairs of the vocabulary join more than {MOST_BYTES:,} bytes, at pair {n}")
        joined = pieces[left] + pieces[right]
        if joined not in known:  # another pair may have given the same
            known.add(joined)
            pieces.append(joined)
    return pieces


def learn(pieces: Iterable[str], size: int) -> Merges:
    """Learn the pairs of a text's most frequent tokens, for a vocabulary of `size`; the same text gives the same.

    The library learns in a thread of its own, so that Ctrl-C is heard meanwhile.
    """
    if size > MOST_TOKENS:  # the library asks for memory by this number, and ends the process where there is none
        raise UnrolledError(f"max_symbols is {brief(size)}; byte pairs have at most {MOST_TOKENS:,} tokens")
    library = _library()
    tokenizer = _tokenizer({}, [])
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, show_progress=False, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet()
    )
    _interruptible(lambda words: tokenizer.train_from_iterator(words, trainer), _words(_first(pieces, ENOUGH)))
    names = _names()
    tokens = {name: k for k, name in enumerate(names)}
    merges = []
    for left, right in _merges(tokenizer):
        merges.append((tokens[left], tokens[right]))
        tokens.setdefault(left + right, len(tokens))
    return tuple(merges)


def _interruptible(call: Callable[[Iterator[Any]], None], items: Iterator[Any]) -> None:
    """Call with items, in a thread that is waited for; what it raises is raised here."""
    raised: list[BaseException] = []
    stopped = threading.Event()

    def until_stopped() -> Iterator[Any]:
        for item in items:
            if stopped.is_set():
                raise InterruptedError
            yield item

    def work() -> None:
        try:
            call(until_stopped())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True)  # what can't be stopped must not keep the process either
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
    finally:
        stopped.set()
    if raised:
        raise raised[0]


def _first(pieces: Iterable[str], characters: int) -> Iterator[str]:
    for piece in pieces:
        yield piece[:characters]
        characters -= len(piece)
        if characters <= 0:
            return


def _words(pieces: Iterable[str]) -> Iterator[list[str]]:
    """Words in groups, which the library takes faster than single ones."""
    for piece in whole_words(pieces):
        found = WORD.finditer(piece)
        while group := [match[0] for match in itertools.islice(found, 4096)]:
            yield group


class Encoder:
    """Text -> tokens, word by word; the tokens of a word are worked out once."""

    def __init__(self, merges: Merges) -> None:
        names = _names()
        pairs = []
        vocabulary = {name: k for k, name in enumerate(names)}
        for left, right in merges:
            pairs.append((names[left], names[right]))
            if (joined := names[left] + names[right]) not in vocabulary:
                vocabulary[joined] = len(names)
                names.append(joined)
        self.tokenizer = _tokenizer(vocabulary, pairs)
        self.known: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """Tokens of a text."""
        words = WORD.findall(text)
        if len(self.known) > REMEMBERED:
            self.known.clear()
        new = [word for word in dict.fromkeys(words) if word not in self.known]
        for word, found in zip(new, self.tokenizer.encode_batch_fast(new), strict=True):
            self.known[word] = found.ids
        return [k for word in words for k in self.known[word]]


def _tokenizer(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


def _merges(tokenizer: Any) -> list[tuple[str, str]]:
    """Pairs of a tokenizer, in the library's letters for bytes."""
    import json

    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def _names() -> list[str]:
    """The library's letters for the bytes: those that can be printed are themselves, the others follow U+0100."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256))
    return [chr(k) if k in plain else chr(256 + next(others)) for k in range(256)]


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UnrolledError("--level bpe needs a package for text: pip install 'unrolled[bpe]'") from None
    return tokenizers
