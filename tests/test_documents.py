"""Documents kept apart, from files and JSON lines to losses."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.batches import lanes
from unrolled.score import evaluate, score
from unrolled.text import Vocabulary, encode, read

SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 10, "epochs": 2}
RECORDS = ["One.\r\nTwo three.", "", "Four five six seven.\n", "Eight\n\nnine."] * 5


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"t": record}) + "\n" for record in RECORDS))
    return path


def test_files_and_json_lines_are_documents(tmp_path, records):
    corpus = read(records, json_field="t", documents=True)
    apart = read(records, json_field="t")
    assert corpus.text == apart.text
    assert apart.documents is None
    assert corpus.notes == ("20 documents, kept apart", "5 CRLF line ends folded to LF")
    cut = np.split(np.array(list(corpus.text)), corpus.documents)
    texts = ["".join(part) for part in cut]
    assert [texts[0], *(text[1:] for text in texts[1:])] == [
        r.replace("\r\n", "\n").removesuffix("\n") for r in RECORDS
    ]
    assert all(text[0] == "\n" for text in texts[1:])
    for name, text in (("b", "bb\n"), ("c", "\nccc"), ("d", "d")):
        (tmp_path / name).write_text(text)
    corpus = read([tmp_path / name for name in "bcd"], documents=True)
    assert (corpus.text, corpus.documents.tolist()) == ("bb\n\nccc\nd", [2, 7])
    assert read(tmp_path / "b", documents=True).documents.tolist() == []


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_tokens_of_documents_are_those_of_each_alone(records, level):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    corpus = read(records, level, json_field="t", documents=True)
    vocabulary = Vocabulary.of(corpus.text, level, max_symbols=260 if level == "bpe" else 0)
    encoded = encode(corpus, vocabulary)
    parts = np.split(encoded.tokens, encoded.documents)
    alone = [r.replace("\r\n", "\n").removesuffix("\n") for r in RECORDS]
    newline = vocabulary.encode("\n").tolist()
    assert len(newline) == 1
    assert [part.tolist() for part in parts] == [
        newline * (k > 0) + vocabulary.encode(text).tolist() for k, text in enumerate(alone)
    ]


def test_lanes_say_where_documents_begin():
    documents = np.array([3, 4, 9, 10, 25, 28])
    data = lanes(np.arange(30), 3, 4, documents=documents)  # lanes of 9 steps
    assert len(data) == 3
    begins = np.concatenate([data.starts(k) for k in range(3)])
    x = np.concatenate([x for x, _ in data])
    assert begins.shape == x.shape == (9, 3)
    assert sorted(x[begins].tolist()) == [3, 4, 9, 10, 25]  # token 28 is a target alone
    assert lanes(np.arange(30), 3, 4).starts(0) is None


def test_the_score_and_the_validation_loss_are_those_of_the_documents_alone(records):
    corpus = read(records, json_field="t", documents=True)
    model = ur.LanguageModel.train(corpus, learn_state=True, dtype="float64", **SMALL)
    encoded = encode(corpus, model.vocabulary)
    whole = model.score(corpus)
    edges = [0, *encoded.documents.tolist(), len(encoded.tokens)]
    alone = []
    for first, last in zip(edges, edges[1:], strict=False):
        # a document's tokens after its newline, and the newline that ends it, which the next begins with
        alone.append(score(model.network, encoded.tokens[first : last + 1]).log_probs)
    np.testing.assert_allclose(whole.log_probs, np.concatenate(alone), rtol=0, atol=1e-12)
    assert whole.nats != model.score(corpus.text).nats
    one_lane = lanes(encoded.tokens, 1, 7, documents=encoded.documents)
    assert evaluate(model.network, one_lane) == pytest.approx(whole.nats, abs=1e-12)
    three = lanes(encoded.tokens, 3, 7, documents=encoded.documents)
    assert evaluate(model.network, three) == pytest.approx(whole.nats, abs=0.05)


@pytest.mark.parametrize("options", [{}, {"accumulate": 3, "dropout": 0.2, "locked_dropout": 0.1, "learn_state": True}])
def test_training_keeps_documents_apart_and_goes_on_to_the_same_bits(tmp_path, records, options):
    options = SMALL | {"val_fraction": 0.2, "test_fraction": 0.1, "eval_every": 4} | options
    corpus = read(records, json_field="t", documents=True)
    whole = ur.LanguageModel.train(corpus, out=tmp_path / "whole", **(options | {"epochs": 4}))
    other = ur.LanguageModel.train(read(records, json_field="t"), **(options | {"epochs": 4}))
    assert whole.result.history[-1].train_loss != other.result.history[-1].train_loss
    ur.LanguageModel.train(corpus, out=tmp_path / "run", **options)
    resumed = ur.LanguageModel.resume(tmp_path / "run", epochs=4)
    assert resumed.result.test_loss == whole.result.test_loss
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    lines = records.read_text().splitlines()
    first, second = (json.loads(line)["t"] for line in lines[2:4])
    lines[2:4] = [json.dumps({"t": first + second[:7]}), json.dumps({"t": second[7:]})]  # the same text, cut elsewhere
    records.write_text("\n".join(lines))
    assert read(records, json_field="t").text == corpus.text
    with pytest.raises(ur.UnrolledError, match="another content"):
        ur.LanguageModel.resume(tmp_path / "run")


def test_the_commands_keep_documents_apart(tmp_path, records, monkeypatch, capsys):
    from unrolled.cli import cli

    monkeypatch.chdir(tmp_path)
    given = [
        "train",
        "a.jsonl",
        "--json-field",
        "t",
        "--documents",
        "--out",
        "run",
        "--epochs",
        "1",
        "--sample-length=0",
    ]
    given += ["--hidden-size=9", "--num-layers=1", "--batch-size=2", "--seq-length=9"]
    cli.main(given, standalone_mode=False)
    assert "20 documents, kept apart" in capsys.readouterr().out
    assert "documents = true" in (tmp_path / "run/config.toml").read_text()
    command = ["score", "run/model.safetensors", "a.jsonl", "--json-field", "t", "--json"]
    cli.main([*command, "--documents"], standalone_mode=False)
    nats = json.loads(capsys.readouterr().out)["nats"]
    corpus = read(records, json_field="t", documents=True)
    assert nats == ur.load("run/model.safetensors").score(corpus).nats
    cli.main(command, standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["nats"] != nats


@pytest.mark.parametrize("level", ["byte", "tokens"])
def test_where_there_is_no_newline_there_are_no_documents(tmp_path, level):
    with pytest.raises(ur.UnrolledError) as caught:
        read(tmp_path / "a", level, documents=True)
    assert str(caught.value) == f"--documents works on characters, and the level is {level}; leave out one of the two"
