"""Counts of n-grams: against numbers worked out by hand, and against dictionaries and loops that follow the papers."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text.kneser_ney import ORDER, KneserNey, laid


def given(counts, context, order, documents=None):
    """Probabilities of all V symbols behind a context, by counts of an order."""
    rows = [counts.log_probabilities(np.array([*context, w]), documents)[order - 1][-1] for w in range(counts.size)]
    return np.exp(rows)


def test_a_small_text_by_hand():
    """Of "a b a b a c", without its first symbol: ab, ba twice each, ac once; discounts are the fixed 1/2, 1, 3/2."""
    counts = KneserNey(np.array([0, 1, 0, 1, 0, 2]), 3)
    # single symbols: a twice, b twice, c once of five; (2 - 1)/5 and (1 - 1/2)/5, and 5/2 /5 is shared by three
    np.testing.assert_allclose(given(counts, [0], 1), [1 / 5 + 1 / 6, 1 / 5 + 1 / 6, 1 / 10 + 1 / 6], rtol=1e-14)
    # each symbol comes behind one other: (1 - 1/2)/3 each, and half is shared by three, 1/3 in all; behind a the
    # bigrams (2 - 1)/3 of b and (1 - 1/2)/3 of c, and gamma = (1 + 1/2)/3
    np.testing.assert_allclose(given(counts, [0], 2), [1 / 6, 1 / 3 + 1 / 6, 1 / 6 + 1 / 6], rtol=1e-14)
    # behind b: (2 - 1)/2 of a, gamma = 1/2; behind c, which nothing follows: what comes without a context
    np.testing.assert_allclose(given(counts, [1], 2), [1 / 2 + 1 / 6, 1 / 6, 1 / 6], rtol=1e-14)
    np.testing.assert_allclose(given(counts, [2], 2), [1 / 3, 1 / 3, 1 / 3], rtol=1e-14)


def by_dictionaries(text, size, order, context, w):
    """p(w | context) as the equations have it, of tuples of symbols; `text` as `laid` gives it."""

    def discounted(counts, c):
        n = [0, *(sum(v == k for v in counts.values()) for k in (1, 2, 3, 4))]
        found = (0.5, 1.0, 1.5)
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            own = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
            found = own if min(own) > 0 else found
        return 0.0 if c == 0 else found[min(c, 3) - 1]

    def grams(n):
        ends = np.flatnonzero(text.events)
        return [tuple(text.symbols[t - n + 1 : t + 1].tolist()) for t in ends]

    p = 1 / size
    for n in range(1, order + 1):
        counts = {}
        for gram in grams(n) if n == order else [longer[1:] for longer in set(grams(n + 1))]:
            counts[gram] = counts.get(gram, 0) + 1
        h = tuple(context[len(context) - n + 1 :])
        total = sum(c for gram, c in counts.items() if gram[:-1] == h)
        if total:
            c = counts.get((*h, w), 0)
            gamma = sum(discounted(counts, v) for gram, v in counts.items() if gram[:-1] == h) / total
            p = (c - discounted(counts, c)) / total + gamma * p
    return p


def test_a_drawn_text_by_dictionaries_and_sums():
    """Zipf's symbols have all counts of counts, so every order has discounts of its own somewhere; sums are 1."""
    rng, size = np.random.default_rng(3), 11
    tokens = np.minimum(rng.zipf(1.5, 400) - 1, size - 1)
    for documents in (None, np.array([7, 90, 91, 250])):
        counts, text = KneserNey(tokens, size, documents), laid(tokens, size, documents)
        for context in ([0, 1, 0, 0], [3, 0, 2, 5], [10, 10, 9, 8], [0]):
            known = [size] * (ORDER - 1 - len(context)) + context
            for order in (1, 2, 3, 5):
                chances = given(counts, context, order)
                assert abs(chances.sum() - 1) < 1e-13
                ours = by_dictionaries(text, size, order, known, 0)
                assert chances[0] == pytest.approx(ours, rel=1e-12)


def test_nothing_is_predicted_from_another_document():
    """What stands before a document begins changes none of its probabilities; the newline ends the one before it."""
    names = np.array([0, 1, 2, 0, 2, 1, 0, 1, 1, 2, 0])
    counts = KneserNey(names, 3, np.array([3, 6]))
    one, other = np.array([0, 1, 1, 0, 2, 1, 0]), np.array([0, 2, 0, 2, 1, 0])
    for a, b in zip(
        counts.log_probabilities(one, np.array([3])), counts.log_probabilities(other, np.array([2])), strict=True
    ):
        np.testing.assert_array_equal(a[3:], b[2:])
    assert [len(found) for found in counts.log_probabilities(one)] == [6] * ORDER


def test_what_can_not_be_counted_is_said():
    with pytest.raises(ur.UnrolledError, match="a text of 1 tokens has nothing to count; give at least 2"):
        KneserNey(np.array([0]), 3)
    with pytest.raises(ur.UnrolledError, match="3"):
        KneserNey(np.array([0, 3]), 3)
