"""`unrolled quantize`, of every kind of model: what it prints, writes and refuses."""

import os

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main

TEXT = "the cat sat on the mat, and the dog on the log.\n" * 30
TAGGED = "".join(f"{w}\t{t}\n" for w, t in [("the", "D"), ("cat", "N"), ("saw", "V"), ("a", "D"), ("dog", "N")]) + "\n"
SMALL = {"hidden_size": 12, "num_layers": 1, "batch_size": 2, "epochs": 1}


@pytest.fixture
def said(capfd, tmp_path, monkeypatch):
    """Run a command in an empty folder: its exit status, what it printed, and what on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def book(said, tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    return ur.LanguageModel.train(
        tmp_path / "book.txt", out="runs", seq_length=10, embedding_size=8, learning_rate=0.02, **SMALL
    )


def test_a_run_is_scored_on_what_it_held_out_and_written_small(said, book):
    status, out, err = said("quantize", "runs", "-o", "small")
    assert (status, err) == (0, "")
    first, loss, sizes = out.splitlines()
    assert first == "the validation part of runs, before and after:"
    assert float(loss.split()[1]) == pytest.approx(min(e.val_loss for e in book.result.history), rel=1e-6)
    small, plain = os.path.getsize("small"), os.path.getsize("runs/model.safetensors")
    assert sizes == f"small: {small:,} bytes, {small / plain:.1%} of {plain:,}"
    assert "  weights           int8, with a float32 scale a row; biases" in said("info", "small")[1]
    # The same numbers, whether they are rounded as they are read or were in the file.
    for command in (["score", "{}", "book.txt", "--no-yardsticks"], ["sample", "{}", "--length", "40", "--seed", "3"]):
        of_file = said(*[part.format("small") for part in command])
        assert of_file == said(*[part.format("runs") for part in command], "--weights", "int8")
        assert of_file[0] == 0


def test_a_loss_that_rises_writes_nothing(said, book):
    fine = said("quantize", "runs", "book.txt", "-o", "small", "--weights", "bfloat16")
    assert (fine[0], fine[1].splitlines()[0]) == (0, "book.txt, before and after:")
    os.remove("small")
    model = ur.load("runs")
    model.network.params["embedding.weight"][:, 0] = 900  # takes the bits of the whole row
    model.network.params["recurrent.weight_ih_l0"][:, 0] = 0  # and nothing reads it
    model.save("odd")
    status, out, err = said("quantize", "odd", "book.txt", "-o", "small", "--limit", "5%")
    assert (status, out, os.path.exists("small")) == (2, "", False)
    assert err.startswith("unrolled: int8 raises the loss of book.txt by ")
    assert err.endswith("more than 5%: nothing is written; --limit allows more, --weights bfloat16 loses less\n")
    assert said("quantize", "odd", "book.txt", "-o", "small", "--limit", "900%")[0] == 0


def test_every_kind_has_its_own_score(said, tmp_path):
    (tmp_path / "a.conllu.txt").write_text(TAGGED * 12)
    (tmp_path / "a.csv").write_text("label,text\n" + "yes,aab\nno,bba\n" * 20)
    (tmp_path / "s.csv").write_text("x\n" + "".join(f"{np.sin(k / 3):.4f}\n" for k in range(160)))
    ur.Tagger.train("a.conllu.txt", out="tags", **SMALL)
    ur.Classifier.train("a.csv", out="labels", level="char", **SMALL)
    ur.Forecaster.train("s.csv", out="series", horizon=4, context=12, **SMALL)
    for folder, data, figure in (
        ("tags", "a.conllu.txt", "loss"),
        ("labels", "a.csv", "loss"),
        ("series", "s.csv", "mse"),
    ):
        for files, judged in (([], "loss"), ([data], figure)):
            status, out, err = said("quantize", folder, *files, "-o", "small", "--limit", "50%")
            assert (status, err) == (0, ""), (folder, files)
            assert [line.split()[0] for line in out.splitlines() if line.endswith("%)")] == [judged]
        assert ur.load("small").network.weights == "int8"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["runs"], "Missing option '--out' / '-o'."),
        (
            ["runs", "-o", "small", "--limit", "1"],
            "Invalid value for '--limit': '1' is no percentage, such as 1% or 0.5%",
        ),
        (["runs", "-o", "small", "--limit", "-1%"], "'-1%' is no percentage"),
        (["runs", "-o", "small", "--weights", "int9"], "no form of weights is called 'int9'; did you mean 'int8'?"),
        (["runs", "-o", "small", "--weights", "float32"], "weights of float32 are no smaller; choose bfloat16 or int8"),
        (["runs", "-o", "runs/model.safetensors"], "--out would write over runs/model.safetensors, which is read here"),
        (["runs", "book.txt", "-o", "book.txt"], "--out would write over book.txt, which is read here"),
        (
            ["runs", "-o", "runs/last.safetensors"],
            "--out would write over runs/last.safetensors, which is a file of a run",
        ),
        (["runs", "-", "-o", "small"], "the data is read twice, before and after rounding, which a pipe is not"),
        (["alone", "-o", "small"], "there is no run beside alone to validate as; name the data"),
        (
            ["runs", "-o", "small", "--documents", "lines"],
            "--documents is about files that a language model is scored on",
        ),
        (["int8", "book.txt", "-o", "small"], "int8: its weights are int8 already"),
        (["nowhere", "-o", "small"], "nowhere: no such file or folder, and no built-in model is called"),
    ],
)
def test_what_makes_no_sense_is_one_line(said, book, args, message):
    book.save("alone")
    ur.load("alone", weights="int8").save("int8")
    status, out, err = said("quantize", *args)
    assert (status, out, os.path.exists("small")) == (2, "", False)
    assert message in err
    assert err.count("\n") == 1


def test_what_was_read_is_not_written_over(said, book, tmp_path):
    """Neither the text that a run is validated on, which nobody names, nor the file of a cell."""
    cell = "import dataclasses, unrolled as ur\nMINE = dataclasses.replace(ur.cells.find_cell('gru'), name='mine')\n"
    (tmp_path / "mine.py").write_text(cell)
    own, sizes = ["own", "--cell", "mine.py:MINE"], ["--hidden-size", 5, "--num-layers", 1, "--epochs", 1]
    assert said("train", "book.txt", "--out", *own, *sizes, "--batch-size", 2, "--seq-length", 10)[0] == 0
    for args, out in (
        (["quantize", "runs"], "book.txt"),
        (["quantize", *own], "mine.py"),
        (["predict", *own], "mine.py"),
    ):
        status, _, err = said(*args, "-o", out)
        assert (status, err.splitlines()) == (
            2,
            [f"unrolled: --out would write over {out}, which is read here; choose another name"],
        )
    assert ((tmp_path / "mine.py").read_text(), (tmp_path / "book.txt").read_text()) == (cell, TEXT)


def test_a_run_whose_text_changed_is_refused(said, book, tmp_path):
    (tmp_path / "book.txt").write_text(TEXT[:-40])
    status, _, err = said("quantize", "runs", "-o", "small")
    assert (status, os.path.exists("small")) == (2, False)
    assert err.startswith("unrolled: the text is not the one that runs was trained on")
