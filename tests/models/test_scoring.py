"""Scores: bits a character, windows, documents, and the same figure however it is worked out."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.data.text import EOS, UNK, BytePairs, Characters, Words, read
from unrolled.models.scoring import Score, log_probabilities, score
from unrolled.reference.losses import log_softmax

SMALL = {"hidden_size": 9, "num_layers": 1, "embedding_size": 5, "batch_size": 2, "seq_length": 7, "epochs": 1}


@pytest.mark.parametrize("scale", [0.1, 1, 30])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_exponentials_of_the_logits_own_type_and_float64_sums_give_the_same_figure(scale, dtype):
    logits = (scale * np.random.default_rng(1).standard_normal((7, 5003))).astype(dtype)
    targets = np.arange(7) * 701
    exact = log_softmax(logits.astype(np.float64))[np.arange(7), targets]
    # float32: each term exp(z - peak) is wrong by half a unit of z - peak and by some of its own, and the sum averages
    tolerance = 4 * np.finfo(dtype).eps * max(1, 5 * scale)
    np.testing.assert_allclose(log_probabilities(logits, targets), exact, rtol=1e-15, atol=tolerance)


@pytest.mark.parametrize("documents", [None, [3, 8, 20]])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before"])
def test_a_window_begins_in_the_initial_state(cell, documents):
    """Each piece is scored as a text of its own, learnt initial state and all."""
    spec = ur.Spec(11, cell, 4, 6, 2, learn_state=True, dtype="float64")
    net = ur.Network(spec, rng=np.random.default_rng(2))
    tokens = np.random.default_rng(1).integers(0, 11, 700)
    got = score(net, tokens, None if documents is None else np.array(documents), window=9)
    edges = sorted({*range(0, 699, 9), *(documents or []), 699})
    alone = [score(net, tokens[a : b + 1]).log_probs for a, b in zip(edges, edges[1:], strict=False)]
    # the same products and exponentials in another order of rows
    np.testing.assert_allclose(got.log_probs, np.concatenate(alone), rtol=0, atol=1e-13)
    assert got.nats != score(net, tokens).nats
    assert score(net, tokens, window=700).nats == score(net, tokens).nats
    for wrong in (-1, 1.5, True):
        with pytest.raises(ur.UnrolledError, match=r"^window is "):
            score(net, tokens, window=wrong)


@pytest.mark.parametrize(
    ("vocabulary", "text", "first", "unseen"),
    [
        (Characters(("a", "b")), "abab", 0, 1),
        (Words((UNK, EOS, "number", "a")), "number a", 2, 6),
        (Words((UNK, EOS, "number", "a")), "  number\ta", 2, 8),
        (Words((UNK, EOS, "number", "a")), "\nnumber a", 1, 1),
        (Words((UNK, EOS, "number", "a")), "  \nnumber a", 1, 3),
        (Words((UNK, EOS, "number", "a"), words="punctuation"), "number, a", 2, 6),
        (Words((UNK, EOS, "number", "a"), words="punctuation"), '"number a', 0, 1),
        (BytePairs(merges=((97, 98),)), "abab", 256, 2),
        (BytePairs(), "éa", 0xC3, 0),
    ],
)
def test_what_nothing_predicts_is_the_first_token(vocabulary, text, first, unseen):
    assert vocabulary.unpredicted(text, first) == unseen


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    assert end.value.code == 0


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_bits_a_character_count_what_is_predicted(tmp_path, capsys, level):
    """The first token is neither predicted nor counted, nor is its spelling charged."""
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    (tmp_path / "book.txt").write_text("number a letter b\n" * 40)
    options = SMALL | ({"max_symbols": 270} if level == "bpe" else {})
    model = ur.LanguageModel.train(tmp_path / "book.txt", level=level, **options)
    model.save(tmp_path / "m")
    for text, characters, spelled in (("number a", 2, 0), ("zebra a", 2, 0), ("number zebra", 6, 48)):
        (tmp_path / "t.txt").write_text(text)
        command("score", tmp_path / "m", tmp_path / "t.txt", "--json")
        said = json.loads(capsys.readouterr().out)
        if level == "bpe":
            first = model.vocabulary.decode(model.vocabulary.encode(text)[:1])
            characters, spelled = len(text) - len(first), 0
        bits = said["bits"] * said["predicted"]
        assert said["bits_per_character"] == pytest.approx((bits + spelled) / characters, rel=1e-12)
    assert said["bits"] > 1


def test_each_document_has_its_figures(tmp_path, capsys):
    names = ["anna", "bob", "", "eve", "dan", ""]
    path = tmp_path / "names.jsonl"
    path.write_text("".join(json.dumps({"t": name}) + "\n" for name in names))
    corpus = read(path, json_field="t", documents=True)
    model = ur.LanguageModel.train(read(path, json_field="t"), **SMALL)
    model.save(tmp_path / "m")
    command("score", tmp_path / "m", path, "--json-field", "t", "--documents", "--json")
    said = json.loads(capsys.readouterr().out)
    parts = said["documents"]
    # the newline that ends a document is its own to predict; the last has none, and so nothing
    assert [part and part["predicted"] for part in parts] == [4, 4, 1, 4, 4, None]
    assert sum(part["nats"] * part["predicted"] for part in parts[:-1]) == pytest.approx(
        said["nats"] * said["predicted"], rel=1e-12
    )
    alone = model.score("\nbob\n")
    assert parts[1]["nats"] == pytest.approx(alone.nats, rel=1e-6)  # float32, another number of rows
    assert [part and part.predicted for part in model.score(corpus).by_document()] == [4, 4, 1, 4, 4, None]
    command("score", tmp_path / "m", path, "--json-field", "t", "--json", "--window", 3)
    windowed = json.loads(capsys.readouterr().out)
    assert "documents" not in windowed
    assert windowed["nats"] == model.score(corpus.text, window=3).nats != said["nats"]
    assert (windowed["window"], windowed["dynamic"], said["window"]) == (3, 0.0, 0)


def test_how_a_text_was_read_and_scored_is_said(tmp_path, capsys):
    path = tmp_path / "menu.txt"
    path.write_bytes(b"tea\r\ncocoa\r\n" * 20)
    model = ur.LanguageModel.train(path, **SMALL)
    model.save(tmp_path / "m")
    command("score", tmp_path / "m", path, "--window", 7, "--dynamic", 0.001, "--per-token", tmp_path / "t.tsv")
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "counted are all characters but the first; the state begins anew every 7 characters; the model learnt from "
        "what it had scored, at 0.001",
        "40 CRLF line ends folded to LF",
    ]
    assert lines[-1] == f"each character's surprisal is in {tmp_path / 't.tsv'}"
    command("score", tmp_path / "m", path, "--json")
    assert json.loads(capsys.readouterr().out)["notes"] == ["40 CRLF line ends folded to LF"]


def test_a_list_of_texts_is_scored_as_documents():
    names = ["anna", "bob", "eve"] * 40
    model = ur.LanguageModel.train(names, **SMALL)
    few = ("anna", "bob", "eve")
    for documents, counts in ((None, [5, 4, 4]), ("lines", [5, 4, 4]), ("files", [4, 4, 3]), ("none", [4, 4, 3])):
        score = model.score(few, documents=documents)
        assert [part and part.predicted for part in score.by_document()] == counts
    assert model.score(["anna", "bob"]).nats != model.score("anna\nbob", documents="none").nats


def test_files_are_scored_as_their_texts(tmp_path):
    names = ["anna\nbob\n", "eve\nanna\n"]
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, text in zip(paths, names, strict=True):
        path.write_text(text)
    for documents, learnt in (("none", "".join(names) * 20), ("lines", "".join(names).split() * 20)):
        model = ur.LanguageModel.train(learnt, **SMALL)
        assert model.score(paths[0]).nats == model.score(names[0]).nats
        score = model.score(paths)
        assert score.nats == model.score("".join(names)).nats
        assert (score.documents is not None) == (documents == "lines")
        assert len(model.score(paths, documents="files").by_document()) == 2
    for name in (str(paths[0]), ["anna", str(paths[0])]):
        with pytest.raises(ur.UnrolledError, match=r"a\.txt' is the name of a file; for what is in it give Path\("):
            model.score(name)
    with pytest.raises(ur.UnrolledError, match=r"nothing\.txt: no such file; check the path$"):
        model.score(tmp_path / "nothing.txt")


def test_a_score_without_documents_is_one():
    part = Score(1.5, np.array([-1.0, -2.0]))
    assert [(p.nats, p.predicted) for p in part.by_document()] == [(1.5, 2)]


def test_what_is_no_token_is_refused_and_not_cut():
    net = ur.Network(ur.Spec(4, hidden_size=5, num_layers=1), rng=0)
    with pytest.raises(ur.UnrolledError, match=r"^tokens are float64; expected integers"):
        score(net, [0.0, 1.9, 3.2])
    for documents, said in (([1.5], "documents are float64; "), ([-2], "documents run from -2 to -2; ")):
        with pytest.raises(ur.UnrolledError, match=f"^{said}"):
            score(net, [0, 1, 3], documents)


def test_logits_that_can_not_be_written_to_give_the_same_probabilities():
    logits, targets = np.random.default_rng(2).normal(size=(7, 4)), np.arange(7) % 4
    kept = logits.copy()
    logits.flags.writeable = False
    np.testing.assert_array_equal(log_probabilities(logits, targets), log_probabilities(kept.copy(), targets))
    np.testing.assert_array_equal(logits, kept)
