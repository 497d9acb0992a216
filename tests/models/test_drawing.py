"""What is drawn from, and what ends a text: against distributions worked out by hand, at every level."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.data.text import Vocabulary
from unrolled.drawing import Drawing
from unrolled.models.allowed import Mask
from unrolled.models.chances import scores
from unrolled.models.drawn import Stops
from unrolled.models.sampling import _sample_rows
from unrolled.reference.losses import log_softmax

TEXTS = {
    "char": "the cat sat on the mat\nné ",
    "byte": b"",
    "word": "the cat sat on the mat\n",
    "bpe": "the cat né " * 9,
}


def model_of(level, backend="auto", **more):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    vocabulary = Vocabulary.of(TEXTS[level], level, max_symbols=260 if level == "bpe" else 0)
    spec = ur.Spec(len(vocabulary), "lstm", embedding_size=4, hidden_size=6, num_layers=2, **more)
    network = ur.Network(spec, backend=backend, rng=np.random.default_rng(1))
    for p in network.params.values():
        p *= 3  # so that some symbols are likelier than others
    return ur.LanguageModel(network, vocabulary)


@pytest.fixture(scope="module")
def model():
    return model_of("char")


P = np.array([0.4, 0.3, 0.2, 0.1])
ROOTS = np.sqrt(P)
MASK = np.array([False, True, True, True])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, P),
        ({"temperature": 0.5}, P**2 / 0.3),
        ({"temperature": 2}, ROOTS / ROOTS.sum()),
        ({"temperature": 0}, [1, 0, 0, 0]),
        ({"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"top_k": 9}, P),
        ({"top_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.3}, [1, 0, 0, 0]),
        ({"top_p": 1}, P),
        ({"min_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_k": 3, "top_p": 0.75}, [4 / 7, 3 / 7, 0, 0]),  # 7 / 9; of all four three would be needed
        ({"top_p": 0.75, "min_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),  # 0.4, 0.3, 0.2; then what is 0.24 or more
        ({"temperature": 0.5, "min_p": 0.6}, [1, 0, 0, 0]),  # 0.09 / 0.16 is less
        ({"temperature": 0.5, "top_p": 0.8}, [16 / 25, 9 / 25, 0, 0]),
    ],
)
def test_what_is_drawn_from_is_what_it_is_by_hand(options, expected):
    found = np.exp(log_softmax(scores(np.log(P) + 5, Drawing(**options))))
    np.testing.assert_allclose(found, expected, atol=1e-14)
    shuffled = np.exp(log_softmax(scores(np.log(P[[2, 0, 3, 1]]), Drawing(**options))))
    np.testing.assert_allclose(shuffled, np.array(expected)[[2, 0, 3, 1]], atol=1e-14)


def test_penalty_and_mask_come_before_the_cut_to_the_likeliest():
    found = scores(np.log(P), Drawing(top_k=1), allowed=MASK)
    assert np.exp(found).tolist() == [0, 1, 0, 0]
    found = np.exp(log_softmax(scores(np.log(P), Drawing(top_p=0.7), allowed=MASK)))
    np.testing.assert_allclose(found, [0, 0.6, 0.4, 0], atol=1e-14)  # 3 / 6, then 5 / 6
    logits, seen = np.array([2.0, -1.0, 1.5, 0.5]), np.array([True, True, False, False])
    penalised = np.exp([1.0, -2.0, 1.5, 0.5])
    found = np.exp(log_softmax(scores(logits, Drawing(repetition_penalty=2), seen)))
    np.testing.assert_allclose(found, penalised / penalised.sum(), atol=1e-14)
    assert scores(logits, Drawing(repetition_penalty=2, temperature=0), seen).argmax() == 2
    for penalty, sign in ((5e-324, 1), (1e-320, 1), (1.7e308, 1), (1.7e308, -1)):  # no finite logit becomes another
        found = scores(
            sign * np.array([3.0, 20.0, -2.0]), Drawing(repetition_penalty=penalty, temperature=0.3), ~MASK[:3]
        )
        assert not np.isnan(found).any()
        assert np.exp(log_softmax(found)).sum() == pytest.approx(1)
    assert np.isfinite(scores(np.zeros(3), Drawing(top_k=2))).tolist() == [True, True, False]  # the first of equal ones
    assert logits.tolist() == [2, -1, 1.5, 0.5]


def test_numbers_at_equal_distances_draw_each_symbol_as_often_as_it_is_likely():
    u = (np.arange(40) + 0.5) / 40
    for options, many in ({}, [20, 12, 6, 2]), ({"top_k": 2}, [25, 15, 0, 0]), ({"min_p": 1}, [40, 0, 0, 0]):
        found = scores(np.log([0.5, 0.3, 0.15, 0.05]), Drawing(**options))
        assert np.bincount(_sample_rows(np.tile(found, (40, 1)), 1.0, u), minlength=4).tolist() == many


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_text_is_drawn_as_by_hand(backend):
    """Step by step: what was seen is penalised, then the likeliest are drawn from."""
    model, how = model_of("char", backend), {"temperature": 0.8, "repetition_penalty": 1.7, "top_k": 5, "top_p": 0.9}
    (drawn,) = model.draw(1, "the ", length=30, seed=3, **how)
    prompt = model.vocabulary.encode("the ").tolist()
    state, tokens, seen = model.network.initial_state(1), [], set(prompt)
    for token in prompt[:-1]:
        state = model.network.step([token], state)[1]
    token = prompt[-1]
    for u, full, own in zip(np.random.default_rng(3).random(30), *drawn[2:4], strict=True):
        logits, state = model.network.step([token], state)
        plain = logits[0].astype(float)
        for symbol in seen:
            logits[0, symbol] *= 1 / 1.7 if logits[0, symbol] > 0 else 1.7
        likely = sorted(enumerate((logits[0] / 0.8).tolist()), key=lambda pair: -pair[1])[:5]
        chances = {symbol: math.exp(score) for symbol, score in likely}
        total, kept = sum(chances.values()), {}
        for symbol, chance in chances.items():
            if sum(kept.values()) < 0.9 * total:
                kept[symbol] = chance
        limit, summed = u * sum(kept.values()), 0.0
        for token in sorted(kept):
            summed += kept[token]
            if summed > limit:
                break
        assert own == pytest.approx(math.log(kept[token] / sum(kept.values())), abs=1e-5)  # float32 logits
        assert full == pytest.approx(plain[token] - math.log(np.exp(plain).sum()), abs=1e-5)
        tokens.append(token)
        seen.add(token)
    assert (drawn.tokens, drawn.ended) == (tokens, "length")
    assert drawn.text == model.vocabulary.decode(tokens)


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_a_seed_draws_the_same_text_in_every_way(level):
    model = model_of(level)
    for how in {}, {"temperature": 0.5}:  # as the engine draws it, which says no probabilities
        assert [drawn.text for drawn in model.draw(3, "the", 40, seed=4, **how)] == [
            *model.samples(3, "the", 40, seed=4, **how)
        ]
    cut = {"top_k": 4, "min_p": 0.01}
    several = list(model.samples(4, "the", 40, seed=4, **cut))
    assert several[:2] == list(model.samples(2, "the", 40, seed=4, **cut))
    assert several[0] == model.sample("the", 40, seed=4, **cut) == "".join(model.stream("the", 40, seed=4, **cut))
    assert several[0] != model.sample("the", 40, seed=4)
    assert model.sample("the", 9, top_k=1) == model.sample("the", 9, temperature=0)
    (drawn,) = model.draw(1, "the", 40, seed=4, top_k=1)
    assert drawn.drawn_log_probabilities == [0] * 40


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_a_text_ends_before_what_stops_it(level):
    model = model_of(level)
    whole = model.sample("the", 60, seed=4)
    for stop in whole[20:23], whole[31], (whole[40:44], whole[25:29]), "\x00 is nowhere":
        first = min(whole.find(text) for text in ((stop,) if isinstance(stop, str) else stop))
        (drawn,) = model.draw(1, "the", 60, seed=4, stop=stop)
        assert drawn.text == (whole if first < 0 else whole[:first])
        assert drawn.ended == ("length" if first < 0 else "stop")
        assert model.vocabulary.decode(drawn.tokens).startswith(whole[: first + 1] if first >= 0 else whole)
        assert list(model.samples(1, "the", 60, seed=4, stop=stop)) == [drawn.text]
        assert model.sample("the", 60, seed=4, stop=stop) == drawn.text


def test_what_may_be_the_beginning_of_a_stop_is_held_back():
    stops = Stops(("\n\n", "end."))
    assert [stops.feed(piece) for piece in ("a\n", "b e", "n", "den", "d.")] == ["a", "\nb ", "", "end", ""]
    assert (stops.found, stops.held) == (True, "")
    stops = Stops(("aab",))
    assert [stops.feed(piece) for piece in "aaab"] == ["", "", "a", ""]


def test_documents_end_and_begin_anew_step_by_step(model):
    lines = ur.LanguageModel(model.network, replace(model.vocabulary, documents=True))
    for how in {}, {"top_k": 20}:
        drawn = list(lines.draw(12, "th", 9, seed=1, **how))
        assert [one.text for one in drawn] == list(lines.samples(12, "th", 9, seed=1, **how))
        assert {one.ended for one in drawn} == {"end", "length"}
        assert all((one.tokens[-1] == lines.vocabulary.end) == (one.ended == "end") for one in drawn)
        ended = [f"th{one.text}".rstrip() for one in drawn]
        whole = lines.sample_documents(12, "th", seed=1, **how)
        assert all(text == other for text, other, one in zip(ended, whole, drawn, strict=True) if one.ended == "end")
    assert lines.sample("th", 300, seed=1) == lines.sample("th", 300, seed=1, stop="\x00")
    with pytest.raises(ur.UnrolledError, match=r"^stop ends a text before its document does; leave it out"):
        lines.sample_documents(2, stop="a")


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_a_text_goes_on_to_a_match(level):
    model = model_of(level)
    for pattern in "(the|on| |cat|é)*", r"(cat |the )*(on |sat ){2}", "[a-t ]*":
        drawn = list(model.draw(3, "the", 30, seed=1, allow=pattern, top_k=3))
        assert [one.text for one in drawn] == list(model.samples(3, "the", 30, seed=1, allow=pattern, top_k=3))
        for one in drawn:
            assert len(one.tokens) == 30 or one.ended == "allow"
            assert re.fullmatch(pattern, one.text) or one.ended == "length"
    mask = Mask(model.vocabulary, "(cat |the )*(on |sat ){2}")
    (drawn,) = model.draw(1, "the", 30, seed=2, allow="(cat |the )*(on |sat ){2}")
    assert drawn.ended == "allow"
    (state, token), matched = ((None, model.vocabulary.encode("the").tolist())), mask.begin
    for first in token[:-1]:
        state = model.network.step([first], state)[1]
    token = token[-1]
    for drawn_token, own in zip(drawn.tokens, drawn.drawn_log_probabilities, strict=True):
        logits, state = model.network.step([token], state)
        chances = np.exp(logits[0].astype(float))
        assert own == pytest.approx(math.log(chances[drawn_token] / chances[mask.allowed(matched)].sum()), abs=1e-5)
        token, matched = drawn_token, mask.after(matched, drawn_token)


def test_a_byte_is_allowed_where_some_match_goes_on_with_it():
    matches = ["né", "nè", "né€", "x😀y", "n\ue000"]
    vocabulary = Vocabulary.of(b"", "byte")
    mask = Mask(vocabulary, "|".join(matches))
    for prefix in {text.encode()[:size] for text in matches for size in range(len(text.encode()) + 1)}:
        matched = mask.begin
        for token in prefix:
            matched = mask.after(matched, token)
        follow = {
            text.encode()[len(prefix)]
            for text in matches
            if text.encode().startswith(prefix) and text.encode() != prefix
        }
        assert set(np.flatnonzero(mask.allowed(matched))) == follow
    whole = Mask(
        vocabulary, "."
    )  # what is a character is: neither too long a form, nor half of one, nor beyond the last
    spans = {b"\xe0": (0xA0, 0xBF), b"\xed": (0x80, 0x9F), b"\xf0": (0x90, 0xBF), b"\xf4": (0x80, 0x8F)}
    assert set(np.flatnonzero(whole.allowed(whole.begin))) == {*range(0x80), *range(0xC2, 0xF5)} - {10}
    for (lead,), (low, high) in spans.items():
        allowed = whole.allowed(whole.after(whole.begin, lead))
        assert set(np.flatnonzero(allowed)) == set(range(low, high + 1))


def test_a_document_ends_where_it_is_a_match(model):
    lines = ur.LanguageModel(model.network, replace(model.vocabulary, documents=True))
    documents = lines.sample_documents(9, allow="(the|cat)( (on|sat)){1,3}", seed=1)
    assert all(re.fullmatch("(the|cat)( (on|sat)){1,3}", text) for text in documents)
    assert len({len(text) for text in documents}) > 1
    text = lines.sample("", 60, allow="[cat]{4}", seed=1)
    assert all(re.fullmatch("[cat]{4}", line) for line in text.split("\n")[:-1])
    assert text.count("\n") == 12


def test_what_the_model_has_no_symbols_for_is_said(model):
    with pytest.raises(
        ur.UnrolledError, match=r"^allow is 'the x', and no symbol that the model knows goes on to a match"
    ):
        model.sample(allow="the x")
    (drawn,) = model.draw(1, "the", 9, allow="(thé){0}")
    assert drawn[:4] == ("", [], [], [])


def likeliest(model, prompt, length, width=None, ends=lambda text: False):
    """Search in plain Python, all texts where there is no width: log-probabilities and texts, the likeliest first."""
    *before, token = model.vocabulary.encode(prompt).tolist()
    state = model.network.initial_state(1)
    for first in before:
        state = model.network.step([first], state)[1]
    kept = [(0.0, "", token, state)]
    for _ in range(length):
        new = [one for one in kept if ends(one[1])]
        for score, text, token, state in (one for one in kept if not ends(one[1])):
            logits, after = model.network.step([token], state)
            logs = log_softmax(logits[0].astype(float))
            new += [(score + log, text + model.vocabulary.piece(k), k, after) for k, log in enumerate(logs.tolist())]
        kept = sorted(new, key=lambda one: -one[0])[:width]
    return [(score, text) for score, text, *_ in kept]


@pytest.fixture(scope="module")
def small():
    network = ur.Network(ur.Spec(4, "lstm", 3, 5, 1), rng=np.random.default_rng(151))  # each width finds another text
    for p in network.params.values():
        p *= 5
    return ur.LanguageModel(network, Vocabulary.of("ab\nc", "char"))


def test_a_beam_finds_the_likeliest_text(small):
    score, text = likeliest(small, "ab", 5)[0]
    (found,) = small.draw(1, "ab", 5, beam=4**5)
    assert (found.text, found.ended, found.drawn_log_probabilities) == (text, "length", [0] * 5)
    assert sum(found.log_probabilities) == pytest.approx(score, abs=1e-5)  # float32 logits
    assert small.sample("ab", 30, beam=1) == small.sample("ab", 30, temperature=0)
    several = [likeliest(small, prompt, 12, width)[0] for width in (2, 3) for prompt in ("ab", "c", "bba")]
    searched = [small.draw(1, prompt, 12, beam=width) for width in (2, 3) for prompt in ("ab", "c", "bba")]
    assert [one.text for (one,) in searched] == [text for _, text in several]
    assert small.sample("ab", 0, beam=3) == ""
    assert "".join(small.stream("ab", 12, beam=2)) == several[0][1] == next(small.samples(1, "ab", 12, beam=2))


def test_a_beam_keeps_what_has_ended_and_what_is_allowed(small):
    lines = ur.LanguageModel(small.network, replace(small.vocabulary, documents=True))
    for width in (1, 2, 300):
        _, text = likeliest(small, "\nab", 4, width, lambda text: text.endswith("\n"))[0]
        (found,) = lines.draw(1, "ab", 4, beam=width)
        assert (found.text, found.ended) == (text.rstrip("\n"), "end" if text.endswith("\n") else "length")
        _, text = likeliest(small, "b", 4, width, lambda text: "cc" in text)[0]
        (found,) = small.draw(1, "b", 4, beam=width, stop="cc")
        assert (found.text, found.ended) == (text.partition("cc")[0], "stop" if "cc" in text else "length")
    texts = [(score, text) for score, text in likeliest(small, "b", 4) if re.fullmatch("[ac]b+c[ab]", text)]
    (found,) = small.draw(1, "b", 4, beam=4**4, allow="[ac]b+c[ab]")
    assert (found.text, sum(found.log_probabilities)) == (texts[0][1], pytest.approx(texts[0][0], abs=1e-5))
    assert small.sample("b", 9, beam=3, allow="abc") == "abc"
    assert small.sample("b", 9, beam=3, allow="ax|cb") == "cb"  # what can't go on is left
    with pytest.raises(ur.UnrolledError, match=r"^allow is 'ax', and no symbol"):
        small.sample("b", 9, beam=3, allow="ax")


def test_a_beam_is_one_text_and_no_chance(small, capsys):
    for call in small.samples, small.draw, small.sample_documents:
        with pytest.raises(ur.UnrolledError, match=r"^(beam finds one text, and 3 are asked for; leave|the mo)"):
            call(3, beam=2)
    assert command("sample", "nofile", "--beam", 2, "--n", 3) == 2
    assert capsys.readouterr().err.startswith("unrolled: beam finds one text, and 3 are asked for")


WRONG = [
    ({"beam": 0}, "beam is 0; it must be a whole number, from 1 to 1,024"),
    ({"beam": 100_000_000}, "beam is 100000000; it must be a whole number, from 1 to 1,024"),
    ({"beam": 2, "top_p": 0.5}, "beam searches a likely text, and draws nothing; leave out top_p, or beam"),
    (
        {"beam": 2, "temperature": 0.5},
        "beam searches a likely text, and draws nothing; leave out temperature, or beam",
    ),
    ({"allow": ""}, "allow is ''; it must be a regular expression, such as '[a-z ]*'"),
    ({"allow": "(ab"}, "allow is '(ab': '(' at character 1 begins a group that is not closed"),
    ({"top_k": 0}, "top_k is 0; it must be a whole number, 1 or more"),
    ({"top_p": 0}, "top_p is 0; it must be above 0 and at most 1"),
    ({"top_p": 1.5}, "top_p is 1.5; it must be above 0 and at most 1"),
    ({"top_p": 1 + 2**-52}, "top_p is 1.0000000000000002; it must be above 0 and at most 1"),
    ({"min_p": -1.0}, "min_p is -1; it must be above 0 and at most 1"),
    ({"repetition_penalty": 0}, "repetition_penalty is 0; it must be above 0"),
    ({"temperature": -1.0}, "temperature is -1.0; it must be 0 (greedy) or a positive number"),
    ({"stop": ("",)}, "stop is ''; it must be a text, or several, and none of them empty"),
    ({"stop": ("a", "")}, "stop is ('a', ''); it must be a text, or several, and none of them empty"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_makes_no_sense_is_said_before_a_model_is_read(options, said, model, capsys):
    for call in (model.sample, model.stream, model.sample_documents, model.draw, model.samples):
        with pytest.raises(ur.UnrolledError) as error:
            call(**options | ({"n": 2} if "samples" in call.__name__ or "documents" in call.__name__ else {}))
        assert str(error.value) == said
    several = {name: value if isinstance(value, tuple) else (value,) for name, value in options.items()}
    flags = [f"--{name.replace('_', '-')}={one}" for name, values in several.items() for one in values]
    assert command("sample", "nofile", *flags) == 2
    for name in options:  # by its flag, wherever it isn't a word of the sentence
        said = re.sub(rf"\b{name}(?= is |,|$)", f"--{name.replace('_', '-')}", said)
    assert capsys.readouterr().err == f"unrolled: {said}\n"


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_the_command_writes_an_object_a_text(model, tmp_path, capsys):
    model.save(tmp_path / "m")
    how = {"top_k": 5, "top_p": 0.9, "stop": ("m", "tt")}
    given = ["--top-k", 5, "--top-p", 0.9, "--stop", "m", "--stop", "tt", "--length", 30, "--prompt", "th"]
    assert command("sample", tmp_path / "m", *given, "--n", 3, "--seed", 2, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, drawn in zip(lines, model.draw(3, "th", 30, seed=2, **how), strict=True):
        settings = (
            {"temperature": 1, "repetition_penalty": 1, "min_p": None, "allow": None, "beam": None, "length": 30}
            | how
            | {"stop": ["m", "tt"]}
        )
        sums = {"log_probability": sum(drawn[2]), "drawn_log_probability": sum(drawn[3])}
        expected = {"prompt": "th", "seed": 2, "settings": settings} | drawn._asdict() | sums
        assert line == {name: pytest.approx(value) if name in sums else value for name, value in expected.items()}
    assert command("sample", tmp_path / "m", *given, "-n", 3, "--seed", 2) == 0
    assert capsys.readouterr().out == "\n\n".join(f"th{line['text']}" for line in lines) + "\n"
    assert command("sample", tmp_path / "m", "--json", "--length", 9) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["text"] == model.sample("", 9, seed=line["seed"])
    assert command("sample", "nofile", "--documents", 3, "--json") == 2
    assert "--json draws texts and --documents documents; leave out one of the two" in capsys.readouterr().err
