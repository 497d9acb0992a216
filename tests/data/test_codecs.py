"""Texts and series as numbers, and what is kept of that in files."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.codecs import SeriesCodec, TextCodec, from_json
from unrolled.data.split import stratified, stratified_folds

TEXTS = ["Good, good!", "bad\nday", "a café"]


@pytest.mark.parametrize(
    ("how", "text", "tokens"),
    [
        ({"level": "word"}, "Good, bad\nday or", [2, 4, 1, 5, 0]),
        ({"level": "word", "lower": True, "words": "punctuation"}, "GOOD?", [2, 0]),
        ({"level": "word", "min_count": 2, "lower": True, "words": "punctuation"}, "good bad", [2, 0]),
        ({"level": "char", "min_count": 2}, "oodx", [4, 4, 3, 0]),
        ({"level": "bpe", "max_symbols": 257}, "oo", [111, 111]),
    ],
)
def test_texts_become_tokens_and_files_keep_how(how, text, tokens):
    if how["level"] == "bpe":
        pytest.importorskip("tokenizers")
    codec = TextCodec.learnt(TEXTS, **how)
    again = from_json("inputs", json.loads(json.dumps(codec.to_json())))
    assert again == codec
    assert again.encode(text).tolist() == tokens
    assert again.encode(text).dtype == np.int32


def test_what_is_not_listed_is_counted():
    words = TextCodec.learnt(TEXTS, "word")
    assert words.unknown(words.encode("bad new day today")) == 2
    characters = TextCodec.learnt(TEXTS, "char")
    assert characters.unknown(characters.encode("gxz")) == 2
    assert characters.vocabulary.symbols[0] == "\ufffd"


def test_series_are_standardised_by_the_part_to_train_on():
    rng = np.random.default_rng(3)
    parts = [rng.normal((5, -200, 7), (2, 30, 0), (n, 3)).astype(np.float32) for n in (6, 11)]
    codec = SeriesCodec.learnt(parts, ("a", "b", "flat"))
    whole = np.concatenate([codec.encode(part) for part in parts])
    np.testing.assert_allclose(whole.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(whole.std(axis=0), (1, 1, 0), atol=1e-6)
    again = from_json("inputs", json.loads(json.dumps(codec.to_json())))
    assert again.channels == codec.channels
    assert (again.encode(parts[0]) == codec.encode(parts[0])).all()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"channels": ["a"], "mean": [0.0], "scale": [0.0]}, "expected a mean and a positive scale of each"),
        ({"channels": ["a"], "mean": [0.0, 1.0], "scale": [1.0]}, "2 channels"),
        ({"channels": [], "mean": [], "scale": []}, "0 channels"),
        ({"channels": ["a"], "mean": [0.0]}, "inputs has no entry scale"),
        ({"vocabulary": {"level": "byte"}, "lower": False}, "the level of texts is byte"),
        ([], "inputs is"),
    ],
)
def test_descriptions_that_lie_are_refused(value, said):
    with pytest.raises(ur.UnrolledError, match=said):
        from_json("inputs", value)


def test_parts_held_out_by_chance_have_all_labels_alike():
    labels = ["a"] * 80 + ["b"] * 15 + ["c"] * 5
    kept, held = stratified(labels, 0.2, np.random.default_rng(1))
    assert sorted([*kept, *held]) == list(range(100))
    assert [sum(labels[n] == c for n in held) for c in "abc"] == [16, 3, 1]
    assert set(held) != set(stratified(labels, 0.2, np.random.default_rng(2))[1])
    folds = stratified_folds(labels, 7, np.random.default_rng(1))
    assert np.bincount(folds).tolist() == [15, 15, 14, 14, 14, 14, 14]
    for c in "abc":
        sizes = np.bincount(folds[[label == c for label in labels]], minlength=7)
        assert sizes.max() - sizes.min() <= 1
