"""Which kind of model a command is for: seen from files, options and configurations, or named."""

import gzip
import json
from pathlib import Path

import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.models.tasks import kind_for
from unrolled.training import metrics_log
from unrolled.training.state import Evaluation
from unrolled.training.trainer import CHECKPOINT

SENTENCE = "the\tDET\ncat\tNOUN\nsaw\tVERB\n\n"
SMALL = [
    "--hidden-size",
    "6",
    "--num-layers",
    "1",
    "--embedding-size",
    "5",
    "--batch-size",
    "3",
    "--sample-length",
    "0",
]


@pytest.fixture
def said(capfd, tmp_path, monkeypatch):
    """Run a command in an empty folder: its exit status, what it printed, and what on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    return run


@pytest.mark.parametrize(
    ("paths", "asked", "task", "name"),
    [
        (["a.txt", "b.conllu"], (), "tag", "tagger"),
        (["a.CONLLU.gz"], (), None, "tagger"),
        (["a.txt"], {"seq_length"}, None, "language model"),
        ([], {"keep_gutenberg"}, None, "language model"),
    ],
)
def test_a_kind_is_seen_from_endings_options_or_named(paths, asked, task, name):
    assert kind_for(paths, asked, task).name == name


@pytest.mark.parametrize(
    ("paths", "asked", "task", "message"),
    [
        (
            ["a.conllu", "b.txt"],
            (),
            None,
            "the files are of several kinds: 'a.conllu' is for tag and 'b.txt' is for any",
        ),
        ([], (), "tagg", "no task is called 'tagg'; did you mean 'tag'?"),
        (["a.conllu"], {"keep_gutenberg"}, None, "--keep-gutenberg is an option of language; this trains a tagger"),
    ],
)
def test_what_fits_no_kind_is_said(paths, asked, task, message):
    with pytest.raises(ur.UnrolledError) as error:
        kind_for(paths, asked, task)
    assert str(error.value).startswith(message)


def test_a_tagger_is_trained_compared_described_and_goes_on(said):
    """One command each, as for language models; its configuration trains the same again."""
    for name, n in (("train.conll", 12), ("dev.conll", 2)):
        Path(name).write_text(SENTENCE * n)
    args = ["train", "train.conll", "--val-file", "dev.conll", *SMALL]
    status, out, err = said(*args, "--epochs", "2")
    assert (status, err) == (0, "")
    assert "accuracy" in out
    run = Path("runs/train")
    assert json.loads((run / "run.json").read_text())["task"] == "tag"
    assert 'task = "tag"\n' in (run / "config.toml").read_text()
    status, out, err = said("train", "--config", run / "config.toml", "train.conll", "--out", "again")
    assert (status, err) == (0, "")
    assert (run / "model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()
    assert said("train", "--resume", run, "--epochs", "3")[0] == 0
    table = said("compare", run, "again")[1].splitlines()
    assert table[0].split()[:2] == ["run", "epochs"]
    assert "accuracy" in table[0]
    assert said("info", run)[1].splitlines()[0].startswith("runs/train/model.safetensors: a tagger, ")
    status, out, err = said("sample", run)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "is a tagger, no language model" in err
    status, out, err = said("predict", run)
    assert (status, out, err.split(":")[1]) == (2, "", " runs/train says something of files; name some")
    status, out, err = said("train", "--resume", run, "--hidden-size", "7")
    assert (status, err.count("\n")) == (2, 1)


def test_the_best_model_is_that_of_the_figure_that_decides(tmp_path, monkeypatch):
    """By accuracy, and by the loss only where that is equal."""
    from unrolled.models.tagger import Tagger

    (tmp_path / "a.conll").write_text(SENTENCE * 12)
    figures = iter([(0.5, 0.50), (0.4, 0.25), (0.9, 0.75), (0.8, 0.75), (0.1, 0.50)])
    monkeypatch.setattr(Tagger, "evaluate", lambda *_: dict(zip(("loss", "accuracy"), next(figures), strict=True)))
    how = {"hidden_size": 3, "num_layers": 1, "embedding_size": 2, "sample_length": 0, "epochs": 5, "batch_size": 5}
    model = Tagger.train(tmp_path / "a.conll", out=tmp_path / "run", val_fraction=0.2, **how)
    assert (model.result.best.val_loss, model.result.best.metrics) == (0.8, {"accuracy": 0.75})
    assert [entry["best"] for entry in metrics_log.metrics(tmp_path / "run")] == [True, False, True, True, False]
    assert (tmp_path / "run" / CHECKPOINT).exists()


def test_figures_that_are_no_numbers_are_worse_than_any():
    nothing = Evaluation(1, 1.0, 1.0, 0.5, 1.0, {"f1": float("nan")})
    assert nothing.merit("f1") < Evaluation(2, 2.0, 1.0, 9.0, 2.0, {"f1": 0.0}).merit("f1")


def test_nothing_that_is_read_and_no_file_of_a_run_is_written_over(said):
    for name in ("train.conll", "b.conll"):
        Path(name).write_text(SENTENCE * 12)
    assert said("train", "train.conll", *SMALL, "--epochs", "1", "--out", "run")[0] == 0
    for model in ("run", "run/last.safetensors"):
        for out in ("b.conll", "./run/../b.conll", model, "run/model.safetensors", "run/run.json", "run/config.toml"):
            before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
            status, printed, err = said("predict", model, "b.conll", "--out", out)
            assert (status, printed, err.count("\n")) == (2, "", 1)
            assert {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()} == before
    Path("folder/glad").mkdir(parents=True)
    Path("folder/glad/a.txt").write_text("good")
    status, _, err_of_folder = said("predict", "run", "folder", "--out", "folder/glad/a.txt")
    assert (status, Path("folder/glad/a.txt").read_text()) == (2, "good")
    assert "would write over folder/glad/a.txt, which is read here" in err_of_folder
    assert err == "unrolled: --out would write over run/config.toml, which is a file of a run; choose another name\n"
    assert said("predict", "run", "b.conll", "--out", "config.toml")[0] == 0  # a name like others where no run is


@pytest.mark.parametrize(
    ("text", "name"), [("-DOCSTART- -X- O\n\nAnn NNP B-PER\n", "tagger"), ("Ann", "language model")]
)
def test_a_tagger_is_seen_from_how_a_file_begins(tmp_path, text, name):
    (tmp_path / "eng.train").write_text(text)
    assert kind_for([tmp_path / "eng.train"]).name == name
    (tmp_path / "eng.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    assert kind_for([tmp_path / "eng.gz"]).name == name
    assert kind_for([tmp_path / "eng.train"], (), "language").name == "language model"
