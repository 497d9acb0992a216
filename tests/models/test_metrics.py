"""Figures of classes and of spans: worked by hand, and by a second implementation that goes word by word."""

import numpy as np
import pytest

from unrolled.models.metrics import Hits, accuracy, by_class, confusion, macro_f1, table
from unrolled.models.spans import are_spans, found, scheme, spans, together


def of(text):
    return [tuple(span) for span in spans(text.split())]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", []),
        ("B-A I-A O", [(0, 2, "A")]),
        ("B-A B-A", [(0, 1, "A"), (1, 2, "A")]),
        ("I-A I-A B-A I-A", [(0, 2, "A"), (2, 4, "A")]),  # IOB1
        ("I-A I-B", [(0, 1, "A"), (1, 2, "B")]),
        ("B-A I-B I-B", [(0, 1, "A"), (1, 3, "B")]),  # broken: the type changes inside
        ("O I-A O", [(1, 2, "A")]),  # broken: inside behind nothing
        ("S-A B-A I-A E-A E-A", [(0, 1, "A"), (1, 4, "A"), (4, 5, "A")]),
        ("E-A I-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A E-A I-A O", [(0, 2, "A"), (2, 3, "A")]),
        ("U-A B-A M-A L-A", [(0, 1, "A"), (1, 4, "A")]),
        ("B I I O B", [(0, 3, ""), (4, 5, "")]),
        ("B-A-1 I-A-1", [(0, 2, "A-1")]),  # a type may hold a hyphen
        ("", []),
    ],
)
def test_spans_by_hand(tags, expected):
    assert of(tags) == expected


def walked(true, predicted):
    """conlleval's definition, word by word: begun and ended together, of the same type all along."""

    def begins(a, b):
        (x, s), (y, t) = a, b
        rule = (x, y) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I"), ("E", "E"), ("E", "I"), ("O", "E")}
        return rule or (y != "O" and s != t)

    def ends(a, b):
        (x, s), (y, t) = a, b
        rule = (x, y) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O"), ("E", "E"), ("E", "I"), ("E", "O")}
        return rule or (x != "O" and s != t)

    def split(tag):
        return tag[0], tag[2:]

    right = said = there = 0
    for row, other in zip(true, predicted, strict=True):
        inside, last, last_other = False, ("O", ""), ("O", "")
        for tag, tag_other in zip([*row, "O"], [*other, "O"], strict=True):
            now, now_other = split(tag), split(tag_other)
            if inside:
                both = ends(last, now), ends(last_other, now_other)
                if all(both) and last[1] == last_other[1]:
                    inside, right = False, right + 1
                elif both[0] != both[1] or now[1] != now_other[1]:
                    inside = False
            if begins(last, now) and begins(last_other, now_other) and now[1] == now_other[1]:
                inside = True
            there += begins(last, now)
            said += begins(last_other, now_other)
            last, last_other = now, now_other
    return right, said, there


@pytest.mark.parametrize("letters", ["BIO", "IO"])
def test_spans_are_those_of_a_second_implementation(letters):
    rng = np.random.default_rng(2)
    tags = ["O", *(f"{letter}-{kind}" for letter in letters if letter != "O" for kind in "PQ")]
    true = [rng.choice(tags, rng.integers(1, 9)).tolist() for _ in range(400)]
    predicted = [[tag if rng.random() < 0.7 else str(rng.choice(tags)) for tag in row] for row in true]
    hits = together(found(true, predicted))
    assert (hits.right, hits.predicted, hits.there) == walked(true, predicted)
    assert hits.right > 100


def test_figures_of_spans_by_hand():
    """Two of three names are found, one is too short, and one is none: precision 1/3, recall 1/3."""
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["O", "B-PER"]]
    assert found(true, predicted) == [Hits("LOC", 1, 1, 1), Hits("PER", 0, 2, 2)]
    every = together(found(true, predicted))
    assert (every.precision, every.recall, every.f1) == (1 / 3, 1 / 3, 1 / 3)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("B-A I-A|O B-A", "IOB2"),
        ("I-A B-A|O I-A", "IOB1"),
        ("I-A O", "IOB1"),
        ("B-A E-A S-A", "BIOES"),
        ("B-A L-A U-A", "BIOES"),
        ("B I O", "IOB2"),
        ("NOUN VERB", ""),
        ("O O", ""),
        ("-LRB- B-A", ""),
        ("B- I-A", ""),
        ("I U", ""),
    ],
)
def test_schemes_are_told(rows, expected):
    rows = [row.split() for row in rows.split("|")]
    assert scheme(rows) == expected
    assert are_spans({tag for row in rows for tag in row}) == bool(expected)


def test_no_figure_divides_by_nothing():
    nothing = Hits("a", 0, 0, 0)
    assert (nothing.precision, nothing.recall, nothing.f1, macro_f1([nothing]), macro_f1([])) == (0, 0, 0, 0, 0)
    assert accuracy(np.zeros((2, 2), int)) == 0
    assert table([], "tag") == ["tag  precision  recall      F1   there  predicted"]
    assert found([], []) == []


def test_figures_of_classes_are_those_of_scikit_learn():
    theirs = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    true, predicted = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    counts = confusion(true, predicted, 7)
    assert counts[:5, :5].tolist() == theirs.confusion_matrix(true, predicted).tolist()
    hits = by_class(counts, [str(k) for k in range(7)])
    precision, recall, f1, support = theirs.precision_recall_fscore_support(true, predicted, zero_division=0)
    np.testing.assert_allclose([one.precision for one in hits[:5]], precision, rtol=1e-15)
    np.testing.assert_allclose([one.recall for one in hits[:5]], recall, rtol=1e-15)
    np.testing.assert_allclose([one.f1 for one in hits[:5]], f1, rtol=1e-15)
    assert [one.there for one in hits[:5]] == support.tolist()
    assert macro_f1(hits) == pytest.approx(theirs.f1_score(true, predicted, average="macro"), rel=1e-15)
    assert accuracy(counts) == theirs.accuracy_score(true, predicted)
