"""Lines as documents: read, held out by the seed, trained, scored to the last end mark, and gone on with."""

import gzip
import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.data import documents as documents_module
from unrolled.data.documents import draw_parts, take_documents
from unrolled.data.text import Vocabulary, encode, of_documents, read
from unrolled.models.scoring import score
from unrolled.models.trained_on import documents_of_run
from unrolled.training.callbacks import Callback

NAMES = [f"{first}{end}" for first in ("em", "oliv", "av", "soph", "mi") for end in ("ma", "ia", "a", "ie", "lin", "o")]
SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 10, "epochs": 2}


@pytest.fixture
def names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    return path


def test_each_line_stands_between_two_newlines(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\n\r\ntwo three\r\n  \r\n four".encode())
    (tmp_path / "b.txt").write_text("five\n\n")
    corpus = read([tmp_path / "a.txt", tmp_path / "b.txt"], documents="lines")
    assert corpus.text == "\none\ntwo three\n four\nfive\n"
    assert corpus.documents.tolist() == [4, 14, 20]
    assert corpus.notes == (
        "2 files read",
        "4 lines, each a document that its newline ends (3 empty lines left out)",
        "byte-order mark dropped",
        "4 CRLF line ends folded to LF",
    )
    (tmp_path / "c.txt").write_text("\n \n")
    with pytest.raises(ur.UnrolledError, match=r"c\.txt: all of its lines are empty; expected some text"):
        read(tmp_path / "c.txt", documents="lines")


def test_lines_of_records_are_documents_too(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"t": "one\ntwo"}) + "\n" + json.dumps({"t": "three\n"}) + "\n")
    assert read(tmp_path / "a.jsonl", json_field="t", documents="lines").text == "\none\ntwo\nthree\n"


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_tokens_of_lines_are_those_of_each_alone(tmp_path, level, monkeypatch):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    lines = ["  the cat", "the dog sat", " the cow "]
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(("\n".join(lines) + "\n\n").encode()))
    corpus = read(tmp_path / "a.txt.gz", level, documents="lines")
    vocabulary = Vocabulary.of(corpus.text, level, max_symbols=270 if level == "bpe" else 0)
    newline = vocabulary.encode("\n").tolist()
    alone = [newline + vocabulary.encode(line).tolist() for line in lines]
    encoded = encode(corpus, vocabulary)
    assert encoded.tokens.tolist() == [*np.concatenate(alone), *newline]
    assert encoded.documents.tolist() == np.cumsum([len(part) for part in alone])[:-1].tolist()
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ur.data.text.files, "LARGE", 4)
    large = encode(read(tmp_path / "a.txt.gz", level, documents="lines", stream=True), vocabulary)
    assert isinstance(large.tokens, np.memmap)
    assert large.tokens.tolist() == encoded.tokens.tolist()
    assert large.documents.tolist() == encoded.documents.tolist()
    train, val, _ = draw_parts(large, 0.3, 0.0, 1)
    assert isinstance(train.tokens, np.memmap)
    assert sorted(np.concatenate([train.tokens, val.tokens]).tolist()) == sorted(encoded.tokens.tolist() + newline)


def test_what_is_held_out_is_drawn_by_the_seed(monkeypatch):
    monkeypatch.setattr(documents_module, "BLOCK", 4)
    corpus = of_documents(NAMES, "char", "lines")
    vocabulary = Vocabulary.of(corpus.text, "char")
    encoded = encode(corpus, vocabulary)

    def drawn(seed):
        parts = draw_parts(encoded, 0.2, 0.1, seed)
        for part in parts:
            assert np.flatnonzero(part.tokens[1:-1] == vocabulary.newline).tolist() == (part.documents - 1).tolist()
        return [vocabulary.decode(part.tokens)[1:-1].split("\n") for part in parts]

    train, val, test = drawn(1)
    assert [len(train), len(val), len(test)] == [21, 6, 3]
    assert sorted(train + val + test) == sorted(NAMES)
    assert drawn(1) == [train, val, test]
    assert drawn(2)[1] != val != sorted(val)
    assert vocabulary.decode(take_documents(encoded, np.array([29, 0, 0])).tokens) == "\nmio\nemma\nemma\n"
    assert len(take_documents(encoded, np.array([], int)).tokens) == 0
    one = encode(of_documents(["ema"], "char", "lines"), vocabulary)
    assert [len(part.tokens) for part in draw_parts(one, 0.2, 0.2, 1)] == [5, 0, 0]


def test_a_score_of_lines_counts_every_symbol_and_every_end(names):
    model = ur.LanguageModel.train(names, documents="lines", **SMALL)
    found = model.score(read(names, documents="lines"))
    alone = [score(model.network, model.vocabulary.encode(f"\n{name}\n")) for name in NAMES]
    assert found.predicted == sum(len(name) + 1 for name in NAMES)
    np.testing.assert_allclose(
        found.log_probs, np.concatenate([part.log_probs for part in alone]), rtol=1e-5
    )  # float32, batches of other shapes
    parts = found.by_document()
    assert [part.predicted for part in parts] == [len(name) + 1 for name in NAMES]
    for given in (NAMES, "\n".join(NAMES)):
        assert model.score(given).nats == model.score(given, documents="lines").nats == found.nats
    for given in (NAMES, "\n".join(NAMES), model.vocabulary.encode("\n".join(NAMES))):
        how = {} if isinstance(given, np.ndarray) else {"documents": "none"}
        assert model.score(given, **how).predicted == found.predicted - 2  # neither the first symbol nor the last end


def test_the_validation_loss_is_the_score_of_the_documents_held_out(names):
    model = ur.LanguageModel.train(names, documents="lines", val_fraction=0.3, seed=4, **SMALL)
    assert model.vocabulary.end == model.vocabulary.newline
    encoded = encode(read(names, documents="lines"), model.vocabulary)
    _, val, _ = draw_parts(encoded, 0.3, 0.0, 4)
    held = model.vocabulary.decode(val.tokens)[1:-1].split("\n")
    assert len(held) == 9
    assert model.score(held, documents="lines").nats == pytest.approx(model.result.best.val_loss, rel=1e-5)


@pytest.mark.parametrize("source", ["files", "text", "texts"])
def test_training_on_lines_goes_on_to_the_same_bits(tmp_path, names, source):
    given = {"files": names, "text": "\n".join(NAMES), "texts": NAMES}[source]
    options = SMALL | {"documents": "lines", "checkpoint_every": 4}
    ur.LanguageModel.train(given, out=tmp_path / "whole", **options | {"epochs": 4})
    ur.LanguageModel.train(given, out=tmp_path / "parts", **options)
    ur.LanguageModel.resume(tmp_path / "parts", None if source == "files" else given, epochs=4)
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_documents_are_of_what_is_read():
    for source, how, said in (
        (of_documents(["a"], "char"), {"documents": "lines"}, "documents is about how a text is read, and this one is"),
        ([1, 2, 3] * 9, {"documents": "lines", "level": "tokens"}, "documents is about files that are read"),
        (
            "a b " * 9,
            {"column": np.array(["a", "b"])},
            "column is about files that are read; give them as Path, or leave",
        ),
        ("a b " * 9, {"json_field": "t"}, "json_field is about files that are read; give them as Path, or leave json_"),
        (None, {"documents": True}, "documents is about files that are read"),
        ("a\nb\n", {"documents": "line"}, "no kind of documents is called 'line'; did you mean 'lines'?"),
        ("a\nb\n", {"documents": "lines", "level": "byte"}, "--documents works on characters, and the level is byte"),
        ("\n \n", {"documents": "lines"}, "the texts are empty"),
    ):
        with pytest.raises(ur.UnrolledError, match=re.escape(said)):
            ur.LanguageModel.train(source, **SMALL | how)


def test_characters_of_the_parts_add_up_to_those_of_the_text(names):
    class Told(Callback):
        def started(self, facts):
            self.line = dict(facts.about)["text"]

    told = Told()
    ur.LanguageModel.train(names, documents="lines", test_fraction=0.2, callbacks=[told], **SMALL)
    whole, train, val, test = (int(n.replace(",", "")) for n in re.findall(r"([\d,]+) (?:char|to )", told.line))
    assert whole == train + val + test == sum(len(name) + 1 for name in NAMES)


def test_the_flag_may_be_bare(names, monkeypatch, tmp_path, capsys):
    from unrolled.cli import cli

    monkeypatch.chdir(tmp_path)
    small = ["--hidden-size=9", "--num-layers=1", "--batch-size=2", "--seq-length=9", "--epochs=1", "--overwrite"]
    for given, said in (
        (["names.txt", "--documents", "lines"], "30 lines, each a document that its newline ends"),
        (["--documents=lines", "names.txt"], "30 lines, each a document that its newline ends"),
        (["--documents", "names.txt"], "1 document, kept apart: a text file is one; --documents lines makes one of"),
        (["names.txt", "--documents"], "1 document, kept apart"),
        (["names.txt", "--documents", "none"], "168 characters"),
    ):
        cli.main(["train", "--out=run", *given, *small], standalone_mode=False)
        assert said in capsys.readouterr().out
    with pytest.raises(ur.UnrolledError, match="no kind of documents is called 'lins'; did you mean 'lines'"):
        cli.main(["train", "--out=run", "names.txt", "--documents", "lins", *small], standalone_mode=False)
    cli.main(["train", "--out=run", "names.txt", "--documents", "lines", *small], standalone_mode=False)
    assert "unrolled sample run/model.safetensors --documents 20" in capsys.readouterr().out
    for given in ([], ["--documents", "lines"]):
        cli.main(["score", "run", "names.txt", *given, "--json"], standalone_mode=False)
        figures = json.loads(capsys.readouterr().out)
        assert figures["predicted"] == sum(len(name) + 1 for name in NAMES)
        assert len(figures["documents"]) == 30
    hint = "the model has learnt lines that are a document each; they are one text here (--documents none)"
    for given in ([], ["--documents", "none"]):
        cli.main(["score", "run", "names.txt", *given], standalone_mode=False)
        assert (hint in capsys.readouterr().out.splitlines()) == bool(given)
    costs = []
    for given in ([], ["--documents", "lines"], ["--documents", "none"]):
        cli.main(["quantize", "run", "names.txt", "--out=q.safetensors", *given, "--limit=9%"], standalone_mode=False)
        costs.append(capsys.readouterr().out)
    assert costs[0] == costs[1] != costs[2]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on names, in a folder of its own."""
    folder = tmp_path_factory.mktemp("names")
    (folder / "names.txt").write_text("\n".join(NAMES))
    options = SMALL | {"documents": "lines", "epochs": 60, "learning_rate": 0.01, "hidden_size": 24}
    ur.LanguageModel.train(folder / "names.txt", out=folder / "run", sample_length=0, **options)
    return folder


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_whole_documents_are_drawn(run):
    model = ur.load(run / "run")
    drawn = model.sample_documents(40, seed=3)
    assert len(drawn) == 40
    assert drawn == [*model.samples(40, seed=3)]  # which are whole where they are short
    assert 3 < sum(name in NAMES for name in drawn) < 40
    assert all(name.startswith("so") for name in model.sample_documents(5, "so", seed=3))
    for how, said in (
        ({"length": 2}, "a document has not ended after 2 symbols; give a larger length"),
        ({"prompt": "a\nb"}, "the prompt has a newline, which ends a document; give the beginning of one line"),
        ({"length": 0}, "length is 0"),
        ({"seed": 1, "rng": np.random.default_rng(1)}, "both seed and rng are given"),
    ):
        with pytest.raises(ur.UnrolledError, match=said):
            model.sample_documents(9, **how)
    other = ur.LanguageModel(model.network, replace(model.vocabulary, documents=False))
    with pytest.raises(ur.UnrolledError, match="did not learn documents of one line each: train it with --documents l"):
        other.sample_documents(3)


def test_a_prompt_is_read_behind_the_newline_that_begins_its_document(run):
    model = ur.load(run / "run")
    for how in ({}, {"top_k": 5}, {"repetition_penalty": 1.5}):
        drawn = model.sample("so", 9, seed=3, **how)
        assert drawn.startswith(next(model.samples(1, "so", 9, seed=3, **how)))
    assert model.sample("so", 9, seed=3) == model.sample("\nso", 9, seed=3)
    assert model.predict("so", by="symbol") == model.predict("\nso", by="symbol")
    (one,) = model.draw(1, "so", seed=3)
    assert one.ended == "end"
    whole, begun = (model.score(text, documents="none") for text in (f"\nso{one.text}\n", "\nso"))
    nats = whole.nats * whole.predicted - begun.nats * begun.predicted
    np.testing.assert_allclose(-sum(one.log_probabilities), nats, atol=1e-5)


def test_the_command_marks_documents_that_are_new(run, capsys):
    drawn = ur.load(run / "run").sample_documents(20, seed=3)
    for path in ("run", "run/model.safetensors"):
        assert command("sample", run / path, "--documents", 20, "--seed", 3) == 0
        out, err = capsys.readouterr()
        assert out == "".join(f"{' ' if name in NAMES else '*'} {name}\n" for name in drawn)
        new = sum(name not in NAMES for name in drawn)
        assert 0 < new < 20
        assert err == f"20 documents, {new} of them new (*): not among the 30 of the training files\n"
    for flag in ("--no-bias", "--documents=lines", "--test-file=a"):
        assert command("train", "--resume", run / "run", flag) == 2
        said = "unrolled: --resume goes on with the options of the run; leave out "
        assert capsys.readouterr().err == f"{said}{flag.split('=')[0]}\n"
    assert command("sample", run / "run", "--documents", 3, "--n", 2) == 2
    assert "--n draws texts and --documents documents; leave out one" in capsys.readouterr().err


def test_a_document_of_nothing_is_no_new_one(run, capsys, monkeypatch):
    monkeypatch.setattr(ur.LanguageModel, "sample_documents", lambda *_, **__: ["", "zzz", NAMES[0]])
    assert command("sample", run / "run", "--documents", 3) == 0
    out, err = capsys.readouterr()
    assert out == f"  \n* zzz\n  {NAMES[0]}\n"
    assert err == "3 documents, 1 of them new (*): not among the 30 of the training files\n"


def test_where_the_files_have_gone_nothing_is_marked(run, tmp_path, capsys):
    drawn = ur.load(run / "run").sample_documents(4, seed=3)
    plain = "".join(f"{name}\n" for name in drawn)
    shutil.copytree(run / "run", tmp_path / "run")
    config = (run / "run/config.toml").read_text()
    for text, said in (
        (config.replace("names.txt", "gone.txt"), "gone.txt: no such file"),
        (re.sub("files = .*", "files = []", config, count=1), "run was trained on was no file"),
        (re.sub("files = .*", 'files = ["-"]', config, count=1), "run was trained on came through a pipe"),
        (None, "config.toml is not there, which says what the model was trained on"),
    ):
        (tmp_path / "run/config.toml").unlink() if text is None else (tmp_path / "run/config.toml").write_text(text)
        assert command("sample", tmp_path / "run", "--documents", 4, "--seed", 3) == 0
        out, err = capsys.readouterr()
        assert out == plain
        assert err.startswith("4 documents; which are new is not known: ")
        assert said in err


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_documents_of_words_and_byte_pairs_are_known_again(tmp_path, level):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    lines = ["  The cat  sat", "the dog sat", "the  end"] * 6
    (tmp_path / "a.txt").write_text("\n".join(lines))
    options = {"level": level, "max_symbols": 260 if level == "bpe" else 0, "documents": "lines", "sample_length": 0}
    model = ur.LanguageModel.train(tmp_path / "a.txt", out=tmp_path / "run", **SMALL | options)
    known = documents_of_run(tmp_path / "run", model.vocabulary)
    as_words = {" ".join(line.split()) for line in lines}
    assert known == (as_words if level == "word" else set(lines))


def test_documents_of_a_text_that_has_changed_are_not_known(run):
    assert documents_of_run(run / "run", ur.load(run / "run").vocabulary) == set(NAMES)
    (run / "names.txt").rename(run / "kept.txt")
    try:
        (run / "names.txt").write_text("anna\n")
        with pytest.raises(ur.UnrolledError, match="the text is not the one that"):
            documents_of_run(run / "run", ur.load(run / "run").vocabulary)
        (run / "names.txt").unlink()
        os.mkfifo(run / "names.txt")
        with pytest.raises(
            ur.UnrolledError, match=r"^the text of .*run is in .*names\.txt, which is a pipe now, and can't be "
        ):
            documents_of_run(run / "run", ur.load(run / "run").vocabulary)
    finally:
        (run / "names.txt").unlink()
        (run / "kept.txt").rename(run / "names.txt")
