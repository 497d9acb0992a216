"""Sentences of words and their spelling, as numbers."""

import pytest

from unrolled.data.spelled import LONGEST, Forms, characters_of, groups
from unrolled.data.text import EOS, UNK, Words

WORDS = Words((UNK, EOS, "the", "cat"))
SENTENCES = [["the", "cat"], ["dogs"], ["the", "the", "the"], ["cat", "a", "x"], ["the", "cat", "dogs", "a"]]


@pytest.mark.parametrize("lower", [False, True])
def test_a_word_is_its_number_and_its_characters(lower):
    the, hat = Forms(Words(WORDS.symbols, lower=lower), "thca").of([["The", "cat"], ["hat"]])
    assert the.tolist() == [[2 if lower else 0, 1, 3, 1], [3, 4, 5, 2]]
    assert hat.tolist() == [[0, 3, 5, 2]]


def test_a_sentence_is_as_wide_as_its_longest_word():
    assert [x.shape for x in Forms(WORDS, "thecatdogs").of([["a"], ["the", "dogs"]])] == [(1, 2), (2, 5)]


def test_without_characters_there_are_numbers_alone():
    assert [x.tolist() for x in Forms(WORDS, "").of(SENTENCES[:3])] == [[2, 3], [0], [2, 2, 2]]


def test_a_long_word_is_its_ends():
    (row,) = Forms(WORDS, "ab").of([["a" * 100 + "b" * 100]])[0]
    assert row.tolist() == [0, *[2] * (LONGEST // 2), *[3] * (LONGEST // 2)]


@pytest.mark.parametrize("most", [1, 4, 7, 100])
def test_sentences_of_like_length_come_together_each_once(most):
    lengths, seen = [len(words) for words in SENTENCES], []
    for rows in groups(lengths, most):
        assert len(rows) == 1 or max(lengths[n] for n in rows) * len(rows) <= most
        seen += rows.tolist()
    assert sorted(seen) == [0, 1, 2, 3, 4]
    assert [lengths[n] for n in seen] == sorted(lengths)
    assert list(groups([])) == []


def test_characters_are_those_that_occur_more_than_once():
    assert characters_of(["aab", "cabc"]) == "abc"
    assert characters_of([]) == ""
