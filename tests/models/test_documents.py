"""Documents kept apart, from files and JSON lines to losses."""

import gzip
import json
import re

import numpy as np
import pytest

import unrolled as ur
from unrolled import storage
from unrolled.data.batches import lanes
from unrolled.data.text import Reading, Vocabulary, encode, files, of_documents, read
from unrolled.data.text import records as records_module
from unrolled.models.options import Options
from unrolled.models.scoring import evaluate, score
from unrolled.training.configuration import read_toml

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
    assert 'documents = "files"' in (tmp_path / "run/config.toml").read_text()
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


# --- records: fields of JSON lines, columns of tables ---

TABLE = 'id;name;text\r\n1;ann;one\r\n2;"bo;b";"two ""q""\r\nlines"\r\n\r\n3;cy;\r\n4;di;four\r\n'


@pytest.mark.parametrize("size", [1, 3, 10, 1 << 20])
@pytest.mark.parametrize("end", ["csv", "CSV.gz", "txt"])
def test_a_column_of_a_table_is_the_text(tmp_path, monkeypatch, size, end):
    monkeypatch.setattr(files, "BLOCK", size)
    data = b"\xef\xbb\xbf" + TABLE.encode()
    (tmp_path / f"a.{end}").write_bytes(gzip.compress(data) if end.endswith("gz") else data)
    corpus = read(tmp_path / f"a.{end}", column="text", documents=True)
    assert corpus.text == 'one\ntwo "q"\nlines\n\nfour'
    assert corpus.documents.tolist() == [3, 17, 18]
    assert corpus.notes == ("4 documents, kept apart", "byte-order mark dropped", "7 CRLF line ends folded to LF")
    assert read(tmp_path / f"a.{end}", column="name").text == "ann\nbo;b\ncy\ndi"
    assert read(tmp_path / f"a.{end}", column="2").text == "name\nann\nbo;b\ncy\ndi"  # a number takes every row
    some = read(tmp_path / f"a.{end}", column="text", skip_null=True)
    assert some.text == 'one\ntwo "q"\nlines\nfour'
    assert some.notes[-1] == "1 record without a text left out"


@pytest.mark.parametrize("case", ["a.tsv \t", "a.tab \t", "a.csv ,", "a.csv |", "a \t"])
def test_what_stands_between_columns_is_known_from_the_name_or_the_first_line(tmp_path, case):
    name, mark = case.split(" ")
    (tmp_path / name).write_text(f'a{mark}b\n"one, two; three"{mark}4\n')
    assert read(tmp_path / name, column="b").text == "4"
    (tmp_path / name).write_text(f'"a;b, c;d, |||"{mark}e\n1{mark}2\n')
    assert read(tmp_path / name, column="2").text == "e\n2"
    (tmp_path / name).write_text("only\nx\n")
    assert read(tmp_path / name, column="only").text == "x"


@pytest.mark.parametrize(
    ("data", "column", "said"),
    [
        ("a,b\n1,2\n", "c", ": the column 'c' is nowhere in the first row, which has 'a, b'"),
        ("a,a\n1,2\n", "a", ": the column 'a' is twice in the first row, which has 'a, a'"),
        ("a,b\n1,2\n3\n", "b", ", line 3: the row has 1 columns, and no column 2; --skip-null leaves such rows out"),
        ("a,b\n1,2\n", "3", ", line 1: the row has 2 columns, and no column 3; --skip-null leaves such rows out"),
        ('a,b\n1,"2\n3,4\n', "b", ", line 3 is no row of a table: unexpected end of data"),
        ('a,b\n1,"2"3\n', "b", ", line 2 is no row of a table: ',' expected after '\"'"),
        ("a,b\n", "b", ": no record has a text in the field 'b'; expected some text"),
        ("a,b\n1,\n", "b", ": no record has a text in the field 'b'; expected some text"),
    ],
)
def test_a_table_that_won_t_do_is_one_line(tmp_path, data, column, said):
    (tmp_path / "a.csv").write_text(data)
    with pytest.raises(ur.UnrolledError) as caught:
        read(tmp_path / "a.csv", column=column)
    assert str(caught.value) == f"{tmp_path / 'a.csv'}{said}"


def test_null_fields_of_json_lines_can_be_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "one", "n": %s}\n{"t": null}\n{"n": 3}\n{"t": ""}\n{"t": "two"}\n' % ("9" * 5000))
    with pytest.raises(ur.UnrolledError, match="line 2: the field 't' is null; expected a text; --skip-null leaves"):
        read(path, json_field="t")
    corpus = read(path, json_field="t", skip_null=True, documents=True)
    assert (corpus.text, corpus.documents.tolist()) == ("one\n\ntwo", [3, 4])
    assert corpus.notes == ("3 documents, kept apart", "2 records without a text left out")
    for line, said in (
        ('{"t": 7}', "line 1: the field 't' is 7; expected a text"),
        ('{"t": %s}' % ("9" * 5000), "line 1: the field 't' is inf; expected a text"),
        ("[" * 100_000, "line 1 is nested too deeply; leave it out"),
        ('[{"t": "a"},', "line 1 is no JSON; --json-field expects one object a line; a list of objects has to be cut"),
    ):
        path.write_text(line)
        with pytest.raises(ur.UnrolledError, match=re.escape(said)):
            read(path, json_field="t", skip_null=True)


@pytest.mark.parametrize("how", [{"json_field": "t"}, {"column": "1"}])
def test_a_record_without_an_end_is_not_held(tmp_path, monkeypatch, how):
    monkeypatch.setattr(records_module, "LONGEST", 1000)
    monkeypatch.setattr(files, "BLOCK", 100)
    (tmp_path / "a").write_text("x" * 5000)
    with pytest.raises(
        ur.UnrolledError, match=r"a: a line is longer than 1,000 characters; expected one record a line"
    ):
        read(tmp_path / "a", **how)


def test_options_that_contradict_each_other_are_refused(tmp_path):
    for how, said in (
        ({"json_field": "a", "column": "b"}, "--json-field is of JSON lines and --column of tables; leave out one of"),
        ({"skip_null": True}, "--skip-null leaves out records; name their field with --json-field or --column"),
        ({"column": 2}, "column is 2; it must be a text"),
    ):
        with pytest.raises(ur.UnrolledError, match=re.escape(said)):
            read(tmp_path, **how)
    with pytest.raises(ur.UnrolledError, match="--column works on characters, and the level is byte; leave out one"):
        read(tmp_path, "byte", column="a")


@pytest.mark.parametrize(
    ("name", "data", "advice"),
    [
        ("a.csv", "id,text\n1,one\n", "looks like a table: --column NAME takes one column of it"),
        ("a.TSV.gz", "id\ttext\n1\tone\n", "looks like a table: --column NAME takes one column of it"),
        ("a.txt", "a\tb\n" * 9, "looks like a table: --column NAME takes one column of it"),
        (
            "a.conllu",
            "# text = I am\n1\tI\n",
            "looks like annotated sentences (CoNLL-U): sed -n 's/^# text = //p' FILE | unrolled train - takes them out",
        ),
        ("a", "# id\n" + "1" + "\t_" * 9 + "\n\n" * 2 + ("1" + "\t_" * 9 + "\n") * 5, "looks like annotated"),
        ("a.jsonl", '{"t": "one"}\n', "looks like JSON lines: --json-field NAME takes one field of each"),
        ("a.txt", "One, two, and three.\nFour, five.\n", ""),
        ("a.csv", "no column at all\n", ""),
        ("a.go", "package main\n\nfunc main() {\n\tx := 1\n\ty := 2\n\tz := 3\n}\n", ""),
        ("a.json", "{\n", ""),
    ],
)
def test_a_table_that_is_read_as_prose_is_noted(tmp_path, name, data, advice):
    (tmp_path / name).write_bytes(gzip.compress(data.encode()) if name.endswith("gz") else data.encode())
    notes = read(tmp_path / name).notes
    assert [note.split(advice)[0] for note in notes] == [f"{tmp_path / name} "] * bool(advice)
    assert read(tmp_path / name, "byte").notes == ()


def test_tables_in_a_folder_are_noted_once(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.csv").write_text("id,text\n1,one\n")
    (tmp_path / "d.txt").write_text("plain\n")
    table = "looks like a table: --column NAME takes one column of it"
    assert read(tmp_path).notes == ("4 files read", f"{tmp_path / 'a.csv'} (and 2 more) {table}")


def test_a_list_of_texts_is_documents(tmp_path, monkeypatch):
    texts = ["Anna likes it.", "", "Bo doesn't.\n", "Cy\r\nmay."] * 9
    model = ur.LanguageModel.train(texts, **SMALL)
    corpus = of_documents(texts, "char")
    assert len(corpus.documents) == 35
    assert model.score(texts).nats == model.score(corpus).nats != model.score(corpus.text).nats
    (tmp_path / "a").write_text("x")
    monkeypatch.chdir(tmp_path)
    for given, said in (
        (["a", "b"], "the text 'a' is the name of a file; for what is in it give Path('a')"),
        (["", ""], "the texts are empty"),
        ([], "an array holds tokens"),
    ):
        with pytest.raises(ur.UnrolledError, match=re.escape(said)):
            ur.LanguageModel.train(given, **SMALL)
    with pytest.raises(ur.UnrolledError, match="--documents works on characters, and the level is byte"):
        ur.LanguageModel.train(texts, level="byte", **SMALL)


def test_a_run_of_before_that_named_the_option_otherwise_goes_on(tmp_path):
    (tmp_path / "a.txt").write_text("Anna may.\n" * 40 + "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nA licence.")
    options = SMALL | {"out": tmp_path / "run"}
    ur.LanguageModel.train(read(tmp_path / "a.txt", keep_gutenberg=True, documents=True), **options)
    path = tmp_path / "run/checkpoint.safetensors"
    content, arrays = storage.open_arrays(path, "unrolled_run", "checkpoint of a run", lambda content, layout: content)
    assert content["text"]["how"].pop("keep_gutenberg") is True
    content["text"]["how"] = {"strip_gutenberg": False, "json_field": "", "documents": True}
    storage.write_arrays(path, "unrolled_run", arrays, content)
    assert ur.LanguageModel.resume(tmp_path / "run", epochs=3).result.epochs == 3
    (tmp_path / "old.toml").write_text("strip_gutenberg = false\ndocuments = true\n")
    assert read_toml(tmp_path / "old.toml", Options, Reading) == {"keep_gutenberg": True, "documents": "files"}


def test_the_commands_read_a_column_and_leave_out_empty_fields(tmp_path, monkeypatch, capsys):
    from unrolled.cli import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f'{k},"{t}"\n' for k, t in enumerate(RECORDS * 3)))
    given = ["train", "a.csv", "--column", "text", "--skip-null", "--documents", "--out", "run", "--epochs", "1"]
    given += ["--sample-length=0", "--hidden-size=9", "--num-layers=1", "--batch-size=2", "--seq-length=9"]
    cli.main(given, standalone_mode=False)
    said = capsys.readouterr().out
    assert "45 documents, kept apart" in said
    assert "15 records without a text left out" in said
    config = (tmp_path / "run/config.toml").read_text()
    assert 'column = "text"\nskip_null = true\ndocuments = "files"\n' in config
    assert "keep_gutenberg = false\n" in config
    model = ur.load("run")
    corpus = read("a.csv", column="text", skip_null=True)
    cli.main(["score", "run", "a.csv", "--column", "2", "--skip-null", "--json"], standalone_mode=False)
    named = read("a.csv", column="2", skip_null=True)
    assert json.loads(capsys.readouterr().out)["nats"] == model.score(named).nats
    assert named.text == "text\n" + corpus.text
    assert ur.LanguageModel.resume("run", epochs=2).result.epochs == 2
    for option in ("--column=a", "--skip-null", "--keep-gutenberg"):
        with pytest.raises(ur.UnrolledError, match=f"^{option.split('=')[0]} is about files; name some$"):
            cli.main(["train", option], standalone_mode=False)
