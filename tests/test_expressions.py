"""Regular expressions: the texts that Python's own match, and every beginning of one of them."""

import itertools
import random
import re

import pytest

import unrolled as ur
from unrolled.expressions import Expression

RANDOM = random.Random(1)
TEXTS = ["".join(parts) for size in range(5) for parts in itertools.product("abc1", repeat=size)]
TEXTS += ["1-", "12-é_a", ".*"]
TEXTS += ["".join(RANDOM.choice("abcd1 -]\n.*_é²") for _ in range(RANDOM.randrange(1, 9))) for _ in range(300)]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "abc",
            "a|b|",
            "[a-c ]*",
            "(ab)*c?",
            "a{2,4}b",
            "a{2,}",
            "(a|ab)(c|bcd)*",
            r"\d+-\w*",
            r"[^a\d]+.",
            "(a?){3}b",
        ),
        *("((a|b)*c){2}", "[]a-]+", r"[\w-]*", "a{,2}b", r"\x61\u0062*", "(?:a|b)+?c", r"\.\*", r"[a\]]{2}", "(a*)*b"),
        *("()a", r"[^\n]*", ".\n", "(|a)b", "a{0}b", r"\W\S+", r"[^\W\d]*", "(a|b)*a(a|b){2}", "(a|a)*", "[a-b1-]+"),
    ],
)
def test_what_matches_is_what_matches_in_python(pattern):
    ours, theirs = Expression(pattern), re.compile(pattern)
    states = {text: ours.after(ours.start, text) for text in TEXTS}
    matches = [text for text in TEXTS if theirs.fullmatch(text)]
    assert [text for text in TEXTS if ours.whole(states[text])] == matches
    assert matches
    begun = {text[:size] for text in matches for size in range(len(text) + 1)}
    assert all(states.get(text) or ours.after(ours.start, text) for text in begun)


def test_a_text_that_can_not_become_a_match_has_no_state():
    state = Expression("ab{2}(c|dd)")
    prefixes = {text[:size] for text in ("abbc", "abbdd") for size in range(6)}
    texts = ["".join(parts) for size in range(6) for parts in itertools.product("abcd", repeat=size)]
    assert {text for text in texts if state.after(state.start, text)} == prefixes
    behind = state.after(state.start, "abb")
    assert [state.goes_on(behind, *span) for span in ((99, 100), (101, 200), (0, 98), (100, 300))] == [1, 0, 0, 1]


def test_classes_are_those_of_unicode():
    for name in "dsw":
        ours, theirs = Expression(f"\\{name}"), re.compile(f"\\{name}")
        points = [*range(0x800), *range(0x2000, 0x2100), 0x1D7D8, 0x10FFFF]
        assert all(bool(ours.after(ours.start, chr(k))) == bool(theirs.match(chr(k))) for k in points)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (3, "allow is 3; it must be a regular expression, such as '[a-z ]*'"),
        ("a(b", "allow is 'a(b': '(' at character 2 begins a group that is not closed"),
        ("a)", "allow is 'a)': ')' at character 2 closes no group"),
        ("[a", "allow is '[a': '[' at character 1 begins a class that is not closed"),
        (r"[^\s\S]", r"allow is '[^\\s\\S]': '[' at character 1 begins a class that no character is in"),
        ("*a", r"allow is '*a': '*' at character 1 repeats nothing; \* is the character"),
        ("a*+", "allow is 'a*+': '+' at character 3 repeats a repetition"),
        ("^a", r"allow is '^a': '^' at character 1 is not needed, the whole text is matched; \^ is the character"),
        ("(?=a)", "allow is '(?=a)': '(' at character 1 begins what is no plain group; ( and (?: are"),
        (r"\b", r"allow is '\\b': '\\' at character 1 begins nothing that is known here"),
        (r"\x6", r"allow is '\\x6': '\\' at character 1 begins nothing that is known here"),
        ("a{3,2}", "allow is 'a{3,2}': '{' at character 2 begins a repetition that is too large, or none; 1,000 at m"),
        ("(a*){51}", "allow is '(a*){51}': '{' at character 5 begins a repetition that is too large, or none; 50 at m"),
        ("a{x}", r"allow is 'a{x}': '{' at character 2 begins no repetition such as {2} or {1,3}; \{ is the character"),
        ("[b-a]", "allow is '[b-a]': '-' at character 3 is between no two characters of which the first comes first"),
        ("(" * 51, "allow is '(((((((((((("),
        ("a\\", r"allow is 'a\\': '\\' at character 2 begins nothing that is known here"),
    ],
)
def test_what_is_no_expression_is_said(pattern, said):
    with pytest.raises(ur.UnrolledError) as error:
        Expression(pattern)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("pattern", ["(((a?){5}){5}){5}", "((a?){20}){20}", "((a|b?){20}c?){20}"])
def test_repetitions_of_what_may_be_empty_are_derived_once(pattern):
    """Each is a text of at most so many characters, in time that grows with the pattern, not with its ways to match."""
    made = Expression(pattern)
    most = {"(((a?){5}){5}){5}": 125, "((a?){20}){20}": 400}.get(pattern)
    state = made.after(made.start, "a" * 30)
    assert made.whole(state)
    assert made.goes_on(state, ord("a"), ord("a"))
    assert not made.goes_on(state, ord("d"), ord("z"))
    if most:
        assert made.whole(made.after(made.start, "a" * most))
        assert not made.after(made.start, "a" * (most + 1))


def test_long_alternatives_and_sequences_are_no_deeper_than_calls_may_be():
    words = Expression("|".join(f"w{n}" for n in range(3000)))
    assert words.whole(words.after(words.start, "w2999"))
    assert not words.after(words.start, "w3000")
    assert not words.goes_on(words.start, ord("x"), ord("z"))
    for pattern, text in (("a?b?" * 250, "ab" * 250), ("a*b*" * 150, "aabb" * 150)):
        made = Expression(pattern)
        assert made.goes_on(made.start, ord("b"), ord("b"))
        assert made.whole(made.after(made.start, text))
        assert not made.after(made.start, "c")


def _after_sixty(pattern):
    made = Expression(pattern)
    made.after(made.start, "a" * 60)


@pytest.mark.parametrize(
    "pattern",
    ["((.?){50}){50}", "(((.?){50}){50}){50}", "((.{0,1000}){50}){50}", "(" * 50 + ".?" + "){50}" * 50, "a*" * 3000],
)
def test_an_expression_that_grows_without_end_is_refused(pattern):
    with pytest.raises(ur.UnrolledError, match=r"^allow is '.*, which takes too much: fewer repetitions within"):
        _after_sixty(pattern)
