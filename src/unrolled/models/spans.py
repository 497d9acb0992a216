"""Spans in tags: names and chunks that are written as B-, I- and O, and how well they are found.

A tag is a letter and, behind a hyphen, a type: B begins a span, I is inside, E ends one, S is one alone, O is none (L
and U stand for E and S, M for I). Which words belong together is told as conlleval tells it (Tjong Kim Sang & Buchholz
2000), for IOB1, IOB2 and BIOES alike and for sequences that break their rules: a span begins at B and S, at I or E
behind O, E or S, and wherever the type changes; it ends before B, S and O, behind E and S, and where the type changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .metrics import Hits

LETTERS = {"B": "B", "I": "I", "O": "O", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}


class Span(NamedTuple):
    """Words `begin` to `end`, which is not in it any more, and their type."""

    begin: int
    end: int
    type: str


def parts(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag."""
    letter, _, kind = tag.partition("-")
    return LETTERS[letter], kind


def spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of a sentence's tags.

    Examples
    --------
    >>> spans(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])
    [Span(begin=0, end=2, type='PER'), Span(begin=3, end=4, type='LOC'), Span(begin=4, end=5, type='LOC')]
    """
    found, begin = list[Span](), -1
    before, kind_before = "O", ""
    for k, tag in enumerate((*tags, "O")):
        letter, kind = parts(tag)
        other = kind != kind_before
        if begin >= 0 and (other or letter in "BSO" or before in "ES"):
            found.append(Span(begin, k, kind_before))
            begin = -1
        if letter != "O" and (other or letter in "BS" or before in "OES"):
            begin = k
        before, kind_before = letter, kind
    return found


def are_spans(tags: Iterable[str]) -> bool:
    """Whether tags are letters with types, of a scheme of spans: all of them, and one that is not O.

    Examples
    --------
    >>> are_spans(["O", "B-NP", "I-NP"]), are_spans(["NOUN", "O"]), are_spans(["B", "I", "O"]), are_spans(["I"])
    (True, False, True, False)
    """
    known = set(tags)
    letters = {tag.partition("-")[0] for tag in known}
    typed = all("-" in tag[1:-1] or tag == "O" for tag in known)
    bare = {"B", "I"} <= known and not any("-" in tag for tag in known)
    return letters <= LETTERS.keys() and letters != {"O"} and bool(known) and (typed or bare)


def scheme(rows: Sequence[Sequence[str]]) -> str:
    """Return how spans are written: IOB1, IOB2, BIOES, or "" where tags are no spans.

    In IOB2 every span begins with B, in IOB1 only one that follows another of its type.

    Examples
    --------
    >>> scheme([["B-A", "I-A", "O", "B-A"]]), scheme([["I-A", "B-A", "O", "I-A"]]), scheme([["S-A", "B-A", "E-A"]])
    ('IOB2', 'IOB1', 'BIOES')
    >>> scheme([["NOUN", "VERB"]])
    ''
    """
    known = {tag for row in rows for tag in row}
    if not are_spans(known):
        return ""
    if {parts(tag)[0] for tag in known} & {"E", "S"}:
        return "BIOES"
    begins = (row[span.begin] for row in rows for span in spans(row))
    return "IOB2" if all(parts(tag)[0] == "B" for tag in begins) else "IOB1"


def found(true: Iterable[Sequence[str]], predicted: Iterable[Sequence[str]]) -> list[Hits]:
    """Return what was found of each type of spans, in the order of their names.

    Examples
    --------
    >>> found([["B-A", "I-A", "B-B"]], [["B-A", "O", "B-B"]])
    [Hits(name='A', right=0, predicted=1, there=1), Hits(name='B', right=1, predicted=1, there=1)]
    """
    counts = [Counter[str](), Counter[str](), Counter[str]()]
    for row, other in zip(true, predicted, strict=True):
        there, said = set(spans(row)), set(spans(other))
        for counter, some in zip(counts, (there & said, said, there), strict=True):
            counter.update(span.type for span in some)
    return [Hits(name, *(counter[name] for counter in counts)) for name in sorted(counts[1] | counts[2])]


def together(hits: Sequence[Hits]) -> Hits:
    """Return what was found of all types together: conlleval's overall figures."""
    return Hits("all", *(sum(numbers) for numbers in zip((0, 0, 0), *(one[1:] for one in hits), strict=True)))
