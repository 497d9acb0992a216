"""Byte pairs: learnt the same each time, any text written and read back, kept in the model file."""

import json
import subprocess
import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text import BytePairs, Vocabulary, bpe

pytest.importorskip("tokenizers", reason="the extra bpe is not installed")

TEXT = "The cat, it's on the mat; the other cat is né 7 😀.\n\nThe hat!\n" * 30
ODD = "né \x00\r\n\t  日本語 ½ _a1 \u0301 😀\u2028x  "
SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 10, "epochs": 2}


@pytest.fixture(scope="module")
def pairs():
    return Vocabulary.of(TEXT, "bpe", max_symbols=280)


def test_pairs_are_learnt_within_words_and_join_what_is_frequent():
    vocabulary = Vocabulary.of("hehehe hehe he", "bpe", max_symbols=258)
    assert vocabulary.merges == ((104, 101), (256, 256))
    assert vocabulary.encode("hehe he").tolist() == [257, 32, 256]
    assert [vocabulary.piece(k) for k in (256, 257, 0xC3)] == ["he", "hehe", "\ufffd"]


def test_any_text_is_written_and_read_back(pairs):
    assert len(pairs) == 280
    for text in (TEXT, ODD, "", "".join(map(chr, range(1, 0x3000)))):
        tokens = pairs.encode(text)
        assert tokens.dtype == np.int32
        assert pairs.decode(tokens) == text
        decoder = pairs.decoder()
        assert "".join(decoder.feed(int(k)) for k in tokens) + decoder.finish() == text
    assert len(pairs.encode(TEXT)) < 0.6 * len(TEXT)
    with pytest.raises(ur.UnrolledError, match=r"^'\\ud83d' \(U\+D83D\) at character 1 of the text is half"):
        pairs.encode("a\ud83d")


def test_the_tokens_are_those_of_the_whole_text_wherever_it_is_cut(pairs):
    for size in (1, 7, 64):
        pieces = [TEXT[k : k + size] for k in range(0, len(TEXT), size)]
        assert Vocabulary.of(iter(pieces), "bpe", max_symbols=280) == pairs
        cut = [k for piece in bpe.whole_words(pieces) for k in pairs.encode(piece)]
        assert cut == pairs.encode(TEXT).tolist()


def test_the_tokens_are_the_library_s_own(pairs):
    """The library, given the same words and pairs, cuts the text alike."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = bpe._names()
    for left, right in pairs.merges:
        names.append(names[left] + names[right])
    model = models.BPE({name: k for k, name in enumerate(names)}, [(names[a], names[b]) for a, b in pairs.merges])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert sorted(names[:256]) == sorted(pre_tokenizers.ByteLevel.alphabet())
    words = bpe.WORD.findall(TEXT + ODD)
    assert "".join(words) == TEXT + ODD
    assert [k for word in words for k in tokenizer.encode(word).ids] == [k for w in words for k in pairs.encode(w)]


def test_another_process_learns_the_same(pairs):
    program = "import sys, json; from unrolled.data.text import Vocabulary; "
    program += "print(json.dumps(Vocabulary.of(sys.argv[1], 'bpe', max_symbols=280).to_json()))"
    out = subprocess.run([sys.executable, "-c", program, TEXT], capture_output=True, check=True).stdout
    assert Vocabulary.from_json(json.loads(out)) == pairs


def test_two_pairs_that_join_to_the_same_are_one_token():
    vocabulary = BytePairs(merges=((97, 98), (256, 99), (98, 99), (97, 258)))  # ab, abc, bc, a + bc
    assert len(vocabulary) == 259
    assert vocabulary.encode("abc").tolist() == [257]


@pytest.mark.parametrize(
    ("merges", "message"),
    [
        ([[104, 256]], "pair 0 of the vocabulary is (104, 256); expected two of the 256 before"),
        ([[104, 101], [1, 2, 3]], "vocabulary.merges[1] is [1, 2, 3]; expected a list of 2"),
        ([[104, True]], "vocabulary.merges[0][1] is True; expected a whole number from 0 to 9,007,199,254,740,992"),
        ([7], "vocabulary.merges[0] is 7; expected a list of 2"),
        ({}, "vocabulary.merges is {}; expected a list"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(merges, message):
    with pytest.raises(ur.UnrolledError) as caught:
        Vocabulary.from_json({"level": "bpe", "merges": merges})
    assert str(caught.value) == message


def test_pairs_that_double_are_refused_before_they_are_made():
    doubling = [[97, 97], *([k, k] for k in range(256, 330))]  # the last one would have 2^75 bytes
    with pytest.raises(
        ur.UnrolledError, match=r"^the pairs of the vocabulary join more than 67,108,864 bytes, at pair 25"
    ):
        Vocabulary.from_json({"level": "bpe", "merges": doubling})
    same = [[97, 97], *([k, k] for k in range(256, 270)), *[[270, 270]] * 5000]  # joined again and again
    with pytest.raises(ur.UnrolledError, match=r"join more than 67,108,864 bytes, at pair \d+$"):
        Vocabulary.from_json({"level": "bpe", "merges": same})


def test_pairs_of_numpy_s_numbers_are_taken_as_pairs_of_python_s():
    vocabulary = BytePairs(merges=np.array([[104, 101], [256, 256]]))
    assert vocabulary == BytePairs(merges=((104, 101), (256, 256)))
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def test_too_few_tokens_are_refused():
    with pytest.raises(ur.UnrolledError, match=r"^max_symbols is 99; byte pairs come after the 256 bytes, so 256 or"):
        Vocabulary.of(TEXT, "bpe", max_symbols=99)


def test_a_model_of_byte_pairs_trains_samples_scores_resumes_and_is_tuned(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    options = SMALL | {"level": "bpe", "max_symbols": 280}
    model = ur.LanguageModel.train(tmp_path / "book.txt", out=tmp_path / "run", **options)
    other = ur.load(tmp_path / "run/model.safetensors")
    assert other.vocabulary == model.vocabulary
    assert len(other.vocabulary) == 280
    rng = np.random.default_rng
    assert other.sample("The cat", 20, rng=rng(1)) == "".join(other.stream("The cat", 20, rng=rng(1)))
    assert other.score(ODD).predicted == len(other.vocabulary.encode(ODD)) - 1
    assert ur.LanguageModel.resume(tmp_path / "run", epochs=3).result.epochs == 3
    tuned = ur.LanguageModel.train("日本語 " * 60, init_from=other, **(SMALL | {"level": "bpe"}))
    assert tuned.vocabulary == other.vocabulary
    with pytest.raises(ur.UnrolledError, match=r"^max_symbols is 300, but the model to start from has 280"):
        ur.LanguageModel.train(TEXT, init_from=other, level="bpe", max_symbols=300)


def test_bits_a_character_are_of_the_characters_that_are_predicted(tmp_path, capsys):
    from unrolled.cli import cli

    (tmp_path / "book.txt").write_text(TEXT)
    model = ur.LanguageModel.train(TEXT, level="bpe", max_symbols=280, **SMALL)
    model.save(tmp_path / "m.safetensors")
    cli.main(["score", str(tmp_path / "m.safetensors"), str(tmp_path / "book.txt"), "--json"], standalone_mode=False)
    figures = json.loads(capsys.readouterr().out)
    tokens = model.vocabulary.encode(TEXT)
    characters = len(TEXT) - len(model.vocabulary.decode(tokens[:1]))
    nats = -model.score(TEXT).log_probs.sum()
    assert figures["bits_per_character"] == pytest.approx(nats / np.log(2) / characters, rel=1e-12)
    cli.main(["score", str(tmp_path / "m.safetensors"), str(tmp_path / "book.txt")], standalone_mode=False)
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{len(tokens) - 1:,} tokens: ")
    assert second.startswith(f"{figures['bits_per_character']:.4f} bits a character, ")


def test_without_the_library_a_line_says_what_to_install_and_models_still_sample(tmp_path, monkeypatch):
    model = ur.LanguageModel.train(TEXT, level="bpe", max_symbols=280, **SMALL)
    model.save(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    loaded = ur.load(tmp_path / "m.safetensors")
    assert loaded.sample("", 20, rng=np.random.default_rng(1)) == model.sample("", 20, rng=np.random.default_rng(1))
    with pytest.raises(ur.UnrolledError) as caught:
        loaded.sample("The", 5)
    assert str(caught.value) == "--level bpe needs a package for text: pip install 'unrolled[bpe]'"
    with pytest.raises(ur.UnrolledError, match=r"pip install 'unrolled\[bpe\]'"):
        Vocabulary.of(TEXT, "bpe")


def test_words_without_a_blank_are_cut_and_read_alike_whole_and_in_pieces():
    rng = np.random.default_rng(5)
    dna = "".join(rng.choice(list("ACGT"), 9001)) + " " * 5003 + "7" * 301 + ("!" * 131 + "x") * 40
    vocabulary = Vocabulary.of(dna, "bpe", max_symbols=300)
    assert max(map(len, vocabulary.token_bytes)) <= bpe.LONGEST + 1  # the blank before a word belongs to it
    expected = vocabulary.encode(dna).tolist()
    assert vocabulary.decode(expected) == dna
    for size in (1, 997, 4096):
        pieces = [dna[k : k + size] for k in range(0, len(dna), size)]
        assert Vocabulary.of(iter(pieces), "bpe", max_symbols=300) == vocabulary
        assert [k for piece in bpe.whole_words(pieces) for k in vocabulary.encode(piece)] == expected


def test_an_interrupt_is_heard_while_pairs_are_learnt():
    """The library is in its own code and looks at no signal; the wait for it ends before it."""
    import _thread
    import threading

    library, began, ended = threading.Event(), threading.Event(), threading.Event()

    def call(items):
        next(items)
        began.set()
        library.wait(20)
        ended.set()

    threading.Thread(target=lambda: (began.wait(20), _thread.interrupt_main())).start()
    with pytest.raises(KeyboardInterrupt):
        bpe._interruptible(call, iter([["a"]]))
    assert not ended.is_set()
    library.set()


def test_halves_of_characters_are_refused_before_pairs_are_learnt():
    with pytest.raises(ur.UnrolledError) as caught:
        Vocabulary.of("ab\ud800", "bpe")
    assert str(caught.value) == (
        "'\\ud800' (U+D800) at character 2 of the text is half a character, which has no UTF-8 bytes; leave it out"
    )


def test_a_vocabulary_of_byte_pairs_has_a_largest_size():
    with pytest.raises(
        ur.UnrolledError, match=r"^max_symbols is 1000000000; byte pairs have at most 1,000,000 tokens$"
    ):
        Vocabulary.of("the cat sat on the mat", "bpe", max_symbols=10**9)
