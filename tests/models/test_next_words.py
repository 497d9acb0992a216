"""The likeliest next words: against all continuations written out, at each level, and where documents end."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import cli
from unrolled.data.text import Vocabulary
from unrolled.models import next_words
from unrolled.models.next_words import WordSearch
from unrolled.models.scoring import score

SPEC = {"embedding_size": 3, "hidden_size": 5, "num_layers": 1}


def model_of(symbols, seed=3, level="char", **options):
    vocabulary = Vocabulary.of(symbols, level, **options)
    network = ur.Network(ur.Spec(vocabulary_size=len(vocabulary), dtype="float64", **SPEC), rng=seed)
    for p in network.params.values():
        p *= 3  # so that some words are far likelier than others
    network.params["decoder.bias"] = np.random.default_rng(seed).normal(size=len(vocabulary))
    return ur.LanguageModel(network, vocabulary)


def chance(model, prompt, *texts):
    """Probability that one of some texts follows a prompt; by scoring each."""
    total = 0.0
    for text in texts:
        tokens = model.vocabulary.encode(prompt + text)
        total += np.exp(score(model.network, tokens).log_probs[len(prompt) - 1 :].sum())
    return total


def written_out(model, prompt, letters, blanks, longest):
    """All words of a few letters and their probabilities, each behind all runs of a few blanks."""
    runs = ["".join(run) for n in range(1, 5) for run in itertools.product(blanks, repeat=n)]
    found = {}
    for n in range(1, longest + 1):
        for letters_of in itertools.product(letters, repeat=n):
            word = "".join(letters_of)
            found[f" {word}"] = chance(model, prompt, *(run + word + blank for run in runs for blank in blanks))
            found[word] = chance(model, prompt, *(word + blank for blank in blanks))
    return sorted(found.items(), key=lambda pair: -pair[1])


@pytest.mark.parametrize("seed", [3, 4])
def test_words_and_their_probabilities_are_those_of_all_continuations(seed):
    model = model_of("ab \n", seed)
    model.network.params["decoder.bias"][:2] -= 2.5  # blanks are rare: few words are longer than runs of four
    expected = written_out(model, "ba b", "ab", " \n", 3)
    got = model.predict("ba b", top=3)
    assert [word for word, _ in got] == [word for word, _ in expected[:3]]
    for (_, mine), (_, all_of_them) in zip(got, expected, strict=False):
        assert -1e-12 < mine - all_of_them < 2e-3 * mine + 2e-5  # runs of five blanks and more are not written out


def test_after_a_blank_a_word_begins_at_once():
    model = model_of("ab ", seed=5)
    got = dict(model.predict("ab ", top=3))
    word = next(iter(got))
    expected = chance(model, "ab ", *(blanks + word + " " for blanks in ("", " ", *(" " * n for n in range(2, 20)))))
    assert got[word] == pytest.approx(expected, rel=1e-3)  # and behind more blanks


def test_all_words_together_are_no_likelier_than_one():
    model = model_of("abc \n")
    found = model.predict("ab", top=200)
    assert len(found) == 200
    assert 0.5 < sum(p for _, p in found) < 1
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert found[:7] == model.predict("ab", top=7)


def test_symbols_and_their_probabilities():
    model = model_of("ab \n")
    found = model.predict("ab", top=9, by="symbol")
    assert sum(p for _, p in found) == pytest.approx(1)
    for symbol, p in found:
        assert p == pytest.approx(chance(model, "ab", symbol))
    assert model.predict("ab", top=2, by="symbol") == found[:2]


def test_the_end_of_a_document_is_what_may_come_next():
    model = model_of("ab\n")
    model = ur.LanguageModel(model.network, replace(model.vocabulary, documents=True))
    found = dict(model.predict("\nab", top=50))
    assert found["\n"] == pytest.approx(chance(model, "\nab", "\n"))
    assert found["b"] == pytest.approx(chance(model, "\nab", "b\n"))
    assert all(set(word) <= set("ab") for word in found.keys() - {"\n"})
    assert dict(model.predict("", top=9))["a"] == pytest.approx(chance(model, "\n", "a\n"))


@pytest.mark.parametrize("level", ["byte", "bpe", "word", "tokens"])
def test_other_levels_have_next_words_too(level):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    text = "the cat sat on thé mat.\nthe dog sat.\n" * 3
    given = {"byte": text.encode(), "tokens": np.arange(7)}.get(level, text)
    model = model_of(given, level=level, max_symbols=270 if level == "bpe" else 0)
    prompt = "the cat" if level != "tokens" else "3 4"
    found = model.predict(prompt, top=3)
    assert len(found) == 3
    assert 1 >= found[0][1] >= found[1][1] >= found[2][1] > 0
    if level in ("word", "tokens"):
        assert found == model.predict(prompt, top=3, by="symbol")


def test_byte_pairs_find_the_word_that_was_learnt():
    pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    text = "the cat sat on the mat. " * 40
    options = {"hidden_size": 16, "num_layers": 1, "batch_size": 2, "seq_length": 12, "epochs": 12}
    model = ur.LanguageModel.train(text, level="bpe", max_symbols=262, learning_rate=0.03, seed=1, **options)
    (word, p), *_ = model.predict("the cat sat on", top=2)
    assert (word, p > 0.8) == (" the", True)


def test_a_model_that_knows_nothing_is_given_up_after_a_while(monkeypatch):
    monkeypatch.setattr(next_words, "MOST", 200)
    vocabulary = Vocabulary.of("abcdefghijklmnopqrstuvwxyz ", "char")
    network = ur.Network(ur.Spec(vocabulary_size=27, **SPEC), rng=1)
    for p in network.params.values():
        p[...] = 0
    search = WordSearch(network, vocabulary, " ", network.zero_state(1), 0)
    found = search.likeliest(500)
    assert 200 <= search.looked_at < 200 + 32
    assert {len(word) for word, _ in found[:26]} == {1}
    assert found[0][1] == pytest.approx(1 / 27 / 26, rel=1e-4)  # a letter and a blank, behind any blanks


def test_what_makes_no_sense_is_refused():
    model = model_of("ab ")
    for how, said in (
        ({"top": 0}, "top is 0; it must be"),
        ({"by": "letter"}, "no way to cut what comes next is called 'letter'"),
        ({"prompt": "c"}, "'c' (U+0063)"),
        ({"prompt": 3}, "prompt is 3"),
        ({}, "the model knows no newline that it could begin behind; give a prompt"),
    ):
        with pytest.raises(ur.UnrolledError) as caught:
            model.predict(**how)
        assert said in str(caught.value)
    model.network.params["decoder.bias"][0] = np.nan
    with pytest.raises(ur.UnrolledError, match="finite"):
        model.predict("a")


def test_the_command_says_what_comes_next(tmp_path, capsys):
    model = model_of("ab \n")
    model.save(tmp_path / "m")
    found = model.predict("ab", top=4)
    run = ["predict", str(tmp_path / "m"), "--prompt", "ab", "--top", "4"]
    cli.main(run, standalone_mode=False)
    assert capsys.readouterr().out == "".join(f"{p:.4f}  {text}\n" for text, p in found)
    cli.main([*run, "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == [{"word": text, "probability": p} for text, p in found]
    cli.main([*run, "--by", "symbol"], standalone_mode=False)
    assert capsys.readouterr().out == "".join(f"{p:.4f}  {text!r}\n" for text, p in model.predict("ab", 4, by="symbol"))
    cli.main(["predict", str(tmp_path / "m")], standalone_mode=False)  # behind a newline
    assert capsys.readouterr().out.count("\n") == 5
    with pytest.raises(ur.UnrolledError, match="says what comes next after a text: give it as --prompt, and no file"):
        cli.main([*run, "a.txt"], standalone_mode=False)
