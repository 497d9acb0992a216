"""Entropies: of cases calculated by hand, and of a table of pairs."""

import math

import numpy as np
import pytest

from unrolled.data.text import bigram_entropy, unigram_entropy
from unrolled.errors import UnrolledError

EPS = np.finfo(np.float64).eps


def message(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_entropies_of_a_case_calculated_by_hand():
    # a a b a a b a: a 5 times, b 2 times. Pairs aa 2, ab 2, ba 2: after a it is a or b, after b surely a.
    tokens = [0, 0, 1, 0, 0, 1, 0]
    unigram = 5 / 7 * math.log(7 / 5) + 2 / 7 * math.log(7 / 2)
    assert unigram_entropy(tokens, 2) == pytest.approx(unigram, rel=8 * EPS)  # a handful of roundings
    assert bigram_entropy(tokens, 2) == pytest.approx(4 / 6 * math.log(2), rel=8 * EPS)
    # the same whether pairs are counted in a table or by sorting
    assert bigram_entropy(tokens, 1000) == bigram_entropy(tokens, 2)


def test_entropies_at_their_ends():
    assert unigram_entropy([3], 5) == unigram_entropy([3] * 9, 5) == bigram_entropy([3, 3], 5) == 0.0
    assert bigram_entropy([0, 1, 2] * 50, 3) == 0.0
    assert unigram_entropy(range(1000), 1000) == pytest.approx(math.log(1000), rel=8 * EPS)


@pytest.mark.parametrize(
    ("V", "N", "dtype"), [(2, 50, "uint8"), (7, 3000, "uint64"), (300, 900, "uint16"), (9999, 400, ">i8")]
)
def test_entropies_are_the_sums_of_their_definitions(V, N, dtype):
    tokens = (np.random.default_rng(V).random(N) ** 2 * V).astype(dtype)
    pairs = list(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))
    after = {a: [y for x, y in pairs if x == a] for a in {x for x, _ in pairs}}
    unigram = -math.fsum(math.log(tokens.tolist().count(a) / N) for a in tokens.tolist()) / N
    bigram = -math.fsum(math.log(after[a].count(b) / len(after[a])) for a, b in pairs) / (N - 1)
    tolerance = 4 * N * EPS  # sums of at most N terms, each rounded a few times
    assert unigram_entropy(tokens, V) == pytest.approx(unigram, abs=tolerance)
    assert bigram_entropy(tokens, V) == pytest.approx(bigram, abs=tolerance)


def test_bigram_entropy_of_a_large_vocabulary_needs_no_table():
    tokens = np.random.default_rng(0).integers(0, 10_000, size=200_000, dtype=np.int32)
    assert 0 < bigram_entropy(tokens, 10_000) < unigram_entropy(tokens, 10_000) < math.log(10_000)


def test_entropies_refuse_too_few_tokens_and_tokens_outside():
    assert message(unigram_entropy, [], 3) == "the text has 0 tokens; its entropy needs at least 1"
    assert message(bigram_entropy, [1], 3) == "the text has 1 token; its entropy needs at least 2"
    assert message(bigram_entropy, [1, 3], 3) == "token 3 is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(unigram_entropy, [-1, 2], 3) == "token -1 is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(unigram_entropy, [0.5], 3) == (
        "tokens are float64; expected integers, which Vocabulary.encode makes of a text"
    )
