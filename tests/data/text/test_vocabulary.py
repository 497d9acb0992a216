"""Text to tokens and back: exact values and exact messages."""

import dataclasses
import json
import re

import numpy as np
import pytest

from unrolled.data.text import Bytes, Characters, Vocabulary
from unrolled.errors import UnrolledError


def message(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_vocabulary_is_the_sorted_distinct_characters():
    vocabulary = Vocabulary.of("hello, wörld 😀\n", "char")
    assert vocabulary.symbols == tuple("\n ,dehlorwö😀")
    assert len(vocabulary) == 12
    assert vocabulary == Characters(vocabulary.symbols)
    assert hash(vocabulary) == hash(Characters(vocabulary.symbols))
    with pytest.raises(dataclasses.FrozenInstanceError):
        vocabulary.level = "byte"


def test_byte_vocabularies_all_have_256_values():
    assert Vocabulary.of(b"a", "byte") == Vocabulary.of("", "byte") == Bytes()
    assert len(Bytes()) == 256


@pytest.mark.parametrize("seed", range(5))
def test_text_to_tokens_and_back_over_all_of_unicode(seed):
    rng = np.random.default_rng(seed)
    top = [0x80, 0x800, 0x10000, 0x110000, 0x110000][seed]
    text = "".join(map(chr, rng.integers(0, top, size=2000)))  # surrogates among them
    vocabulary = Vocabulary.of(text, "char")
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.dtype("int32")
    assert tokens.tolist() == [vocabulary.symbols.index(symbol) for symbol in text]
    assert vocabulary.decode(tokens) == vocabulary.decode(tokens.tolist()) == text
    decoder = vocabulary.decoder()
    assert "".join(decoder.feed(token) for token in tokens) + decoder.finish() == text


def test_lone_surrogates_stay_apart():
    text = "\ude00a\ud83d\ude00😀\udcff"  # two halves beside each other, and the whole
    vocabulary = Vocabulary.of(text, "char")
    assert vocabulary.symbols == ("a", "\ud83d", "\udcff", "\ude00", "😀")
    assert vocabulary.encode(text).tolist() == [3, 0, 1, 3, 4, 2]
    assert vocabulary.decode([3, 0, 1, 3, 4, 2]) == text
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def test_a_text_longer_than_a_piece_is_encoded_whole():
    text = "abc" * 700_000 + "d"
    tokens = Vocabulary.of(text, "char").encode(text)
    assert len(tokens) == 2_100_001
    assert np.array_equal(tokens[:-1].reshape(-1, 3), np.broadcast_to([0, 1, 2], (700_000, 3)))
    assert tokens[-1] == 3


def test_nothing_encodes_and_decodes_to_nothing():
    for vocabulary in (Vocabulary.of("ab", "char"), Bytes()):
        assert vocabulary.encode("").shape == (0,)
        assert vocabulary.decode([]) == vocabulary.decode(vocabulary.encode("")) == ""


def test_the_order_of_symbols_is_the_order_of_tokens():
    vocabulary = Characters(("b", "a"))
    assert vocabulary.encode("ab").tolist() == [1, 0]
    assert vocabulary.decode([0, 1]) == "ba"


def test_unknown_symbols_are_named_with_their_points_and_counts():
    vocabulary = Vocabulary.of("abc", "char")
    assert message(vocabulary.encode, "abé\ncaé") == (
        "the text has 2 symbols (3 occurrences) that the vocabulary of 3 doesn't know: "
        "'é' (U+00E9) x 2, '\\n' (U+000A) x 1; leave them out, or train with them or at --level byte"
    )
    assert message(vocabulary.encode, "a😀") == (
        "the text has 1 symbol (1 occurrence) that the vocabulary of 3 doesn't know: "
        "'😀' (U+1F600) x 1; leave them out, or train with them or at --level byte"
    )
    assert "'\\ud800' (U+D800) x 1;" in message(vocabulary.encode, "\ud800")
    assert "'d' (U+0064) x 1;" in message(vocabulary.encode, "d")  # the first point above the table
    many = "".join(chr(ord("A") + k) * (12 - k) for k in range(12))
    assert message(vocabulary.encode, many) == (
        "the text has 12 symbols (78 occurrences) that the vocabulary of 3 doesn't know: "
        + ", ".join(f"'{chr(ord('A') + k)}' (U+00{0x41 + k:02X}) x {12 - k}" for k in range(10))
        + " and 2 more; leave them out, or train with them or at --level byte"
    )


def test_bytes_stand_for_utf8_and_come_back():
    vocabulary = Bytes()
    assert vocabulary.encode("né").tolist() == vocabulary.encode("né".encode()).tolist() == [110, 195, 169]
    assert vocabulary.encode("né").dtype == np.dtype("int32")
    assert vocabulary.decode([110, 195, 169]) == "né"
    assert vocabulary.decode([0xC3, 0x28, 0xFF]) == "\ufffd(\ufffd"
    every = bytes(range(256))
    assert vocabulary.encode(every).tolist() == list(range(256))
    # bytes of a command line that were not UTF-8
    assert vocabulary.encode(b"caf\xe9".decode("utf-8", "surrogateescape")).tolist() == [99, 97, 102, 0xE9]


def test_levels_and_types_that_do_not_go_together_are_refused():
    said = "the text is bytes; a char vocabulary takes str, a byte vocabulary bytes"
    assert message(Vocabulary.of, b"a", "char") == said
    assert message(Vocabulary.of("a", "char").encode, b"a") == said
    assert message(Bytes().encode, "a\ud800") == (
        "'\\ud800' (U+D800) at character 1 of the text is half a character, which has no UTF-8 bytes; leave it out"
    )


@pytest.mark.parametrize("token", [-1, 3, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(token):
    vocabulary = Vocabulary.of("abc", "char")
    said = f"token {token} is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(vocabulary.decode, [0, token]) == said
    assert message(vocabulary.decoder().feed, token) == said
    assert message(Bytes().decode, [256]) == ("token 256 is outside the vocabulary of 256 symbols; expected 0 to 255")


def test_a_character_of_several_bytes_streams_when_it_is_complete():
    decoder = Bytes().decoder()
    assert [decoder.feed(token) for token in "aé😀".encode()] == ["a", "", "é", "", "", "", "😀"]
    assert decoder.finish() == ""


def test_broken_bytes_stream_as_replacements():
    decoder = Bytes().decoder()
    assert [decoder.feed(token) for token in (0xC3, 0x28, 0xFF, 0xF0, 0x9F)] == ["", "\ufffd(", "\ufffd", "", ""]
    assert decoder.finish() == "\ufffd"
    assert decoder.feed(np.int32(97)) == "a"


@pytest.mark.parametrize("seed", range(3))
def test_streaming_gives_what_decoding_at_once_gives(seed):
    tokens = np.random.default_rng(seed).integers(0, 256, size=3000)
    decoder = Bytes().decoder()
    assert "".join(decoder.feed(token) for token in tokens) + decoder.finish() == Bytes().decode(tokens)


def test_a_vocabulary_is_the_same_after_json():
    for vocabulary in (Vocabulary.of('{"é": "😀\\"}\n', "char"), Bytes()):
        assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    assert Bytes().to_json() == {"level": "byte"}
    assert Vocabulary.of("ba", "char").to_json() == {"level": "char", "symbols": ["a", "b"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("ab", "vocabulary is 'ab'; expected an object with entries"),
        (None, "vocabulary is None; expected an object with entries"),
        ({}, "vocabulary has no entry level"),
        (
            {"level": ["char"]},
            "vocabulary.level is ['char']; expected one of 'char', 'byte', 'word', 'bpe', 'tokens'",
        ),
        ({"level": "char"}, "vocabulary has no entry symbols"),
        ({"level": "byte", "symbols": []}, "vocabulary has an unknown entry, 'symbols'"),
        ({"level": "char", "symbols": ["a"], "merges": []}, "vocabulary has an unknown entry, 'merges'"),
        ({"level": "char", "symbols": "ab"}, "vocabulary.symbols is 'ab'; expected a list"),
        (
            {"level": "tokens", "size": 2**31 + 1},
            "vocabulary.size is 2147483649; expected a whole number from 1 to 2,147,483,648",
        ),
        ({"level": "word", "symbols": [], "lower": 1, "words": ""}, "vocabulary.lower is 1; expected true or false"),
        (
            {"level": "char", "symbols": []},
            "the vocabulary has no symbols; it is made of a text of at least one character",
        ),
        (
            {"level": "char", "symbols": ["a", "bc"]},
            "symbol 1 of the vocabulary is 'bc'; expected a single character",
        ),
        ({"level": "char", "symbols": ["a", ""]}, "symbol 1 of the vocabulary is ''; expected a single character"),
        ({"level": "char", "symbols": [["a"]]}, "vocabulary.symbols[0] is ['a']; expected a text"),
        ({"level": "char", "symbols": [7]}, "vocabulary.symbols[0] is 7; expected a text"),
        (
            {"level": "char", "symbols": ["a", "b", "c", "b"]},
            "the vocabulary lists 'b' (U+0062) 2 times; expected distinct symbols",
        ),
    ],
)
def test_json_that_is_no_vocabulary_of_ours_is_refused(data, said):
    assert message(Vocabulary.from_json, data) == said


def test_a_vocabulary_of_nothing_is_refused():
    assert message(Vocabulary.of, "", "char") == (
        "the vocabulary has no symbols; it is made of a text of at least one character"
    )


@pytest.mark.parametrize("level", ["char", "byte", "word", "tokens"])
@pytest.mark.parametrize("token", [-1, 1 << 20000, 1.0, "1", None, True, np.array([1])], ids=type)
def test_what_is_no_token_has_no_text(level, token):
    """Least of all a negative one, which Python would count from the end."""
    known = Vocabulary.of(np.arange(5) if level == "tokens" else "ab cd", level)
    for call in (known.piece, known.decoder().feed):
        assert re.match(r"token .* is outside the vocabulary of \d+ symbols; expected 0 to \d+$", message(call, token))
