"""Curves and tables of runs, through the commands."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import unrolled as ur
from unrolled.cli.compare import comparison, table
from unrolled.cli.plot import WIDTH, curve, picture, sparkline
from unrolled.training import metrics_log

TEXT = "the cat sat on the mat. the dog ate the rat. " * 30
SMALL = {"num_layers": 1, "embedding_size": 6, "batch_size": 3, "seq_length": 20, "epochs": 2, "eval_every": 10}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, size in (("narrow", 4), ("wide", 24)):
        ur.LanguageModel.train(TEXT, out=folder / name, hidden_size=size, learning_rate=0.01, **SMALL)
    return folder


def command(*args, cwd):
    return subprocess.run([sys.executable, "-m", "unrolled", *args], cwd=cwd, capture_output=True, text=True)


def test_compare_names_what_differs_and_puts_the_best_first(runs):
    rows = json.loads(command("compare", "narrow", "wide", "--json", cwd=runs).stdout)
    assert [row["run"] for row in rows] == ["wide", "narrow"]
    assert [row["hidden_size"] for row in rows] == [24, 4]
    assert "embedding_size" not in rows[0]
    lowest = min(e["val_loss"] for e in metrics_log.metrics(runs / "wide"))
    assert rows[0]["val_loss"] == lowest
    out = command("compare", "narrow", "wide", cwd=runs).stdout.splitlines()
    assert out[0].split() == [
        "run",
        "hidden_size",
        "epoch",
        "step",
        "train_loss",
        "val_loss",
        "symbols_per_second",
    ]
    assert out[1].split()[:2] == ["wide", "24"]


def test_runs_of_other_kinds_are_compared_by_what_both_have(runs, tmp_path):
    steps = {"v": [k % 5 for k in range(80)]}
    how = {"hidden_size": 4, "horizon": 2, "context": 6, "epochs": 1, "batch_size": 9}
    ur.Forecaster.train(steps, target="v", out=tmp_path / "waves", **how)
    rows = comparison([runs / "wide", tmp_path / "waves"])
    assert sorted(row["task"] for row in rows) == ["forecast", "language"]
    assert {"cell", "hidden_size", "mse"} < rows[0].keys()
    assert not {"horizon", "tied"} & rows[0].keys()  # each is an option of one kind only
    lines = [line.split() for line in table(rows).splitlines()]
    mse = {line[0]: line[lines[0].index("mse")] for line in lines}
    assert mse.pop(str(runs / "wide")) == "-"
    assert all(len(figure.partition(".")[2]) == 4 for name, figure in mse.items() if name != "run")


def test_plot_prints_lines_or_draws_a_picture(runs):
    lines = command("plot", "narrow", "wide", cwd=runs).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["narrow", "wide"]
    assert lines[0].split()[1][0] == "█"
    pytest.importorskip("matplotlib")
    for name, start in (("c.png", b"\x89PNG"), ("c.svg", b"<?xml")):
        done = command("plot", "narrow", "wide", "--out", name, cwd=runs)
        assert done.returncode == 0, done.stderr
        assert (runs / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("plot", "nowhere"), "can't read the metrics nowhere/metrics.jsonl: No such file or directory"),
        (("compare", "nowhere"), "nowhere is no folder of a run: it has no config.toml"),
        (
            ("plot", "pride", "--on", "wide", "--out", "x.png"),
            "pride has no picture of data; without --on its losses are",
        ),
        (("plot", "wide", "--out", "x.gif"), "x.gif is no picture that can be drawn; end its name in .png or .svg"),
        (("plot", "wide", "--out", "no/x.svg"), "can't write in no: No such file"),
        (("plot", "empty"), "empty has no validation yet"),
        (("plot", "odd"), "odd has no validation yet, so there is nothing to draw (2 lines are damaged)"),
        (("plot", "pipe"), "can't read the metrics pipe/metrics.jsonl: it is a device or a pipe, not a file"),
        (("compare", "pipe"), "can't read the configuration pipe/config.toml: it is a device or a pipe, not a file"),
    ],
)
def test_what_is_no_run_is_one_line(runs, args, message):
    if "no/x.svg" in args:
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    (runs / "empty").mkdir(exist_ok=True)
    (runs / "empty" / "metrics.jsonl").write_text('{"step": 3, "ep')
    (runs / "odd").mkdir(exist_ok=True)
    (runs / "odd" / "metrics.jsonl").write_text("{}\n[]\n")
    if "pipe" in args:
        shutil.rmtree(runs / "pipe", ignore_errors=True)
        (runs / "pipe").mkdir()
        for name in ("metrics.jsonl", "config.toml"):
            os.mkfifo(runs / "pipe" / name)
    done = command(*args, cwd=runs)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


DAMAGED = [
    b"{}",
    b"\xff\x00",
    b"[" * 100_000,
    b'{"step": ' + b"9" * 5000 + b"}",
    b'{"step": -1}',
    b'{"step": 7.5}',
    b'{"step": true}',
    b'{"step": 7, "val_loss": 1.5}',
    b'{"step": 7, "val_loss": "low", "epoch": 1, "train_loss": 2.0, "seconds": 1}',
    b'{"step": 7, "val_loss": null, "epoch": 1, "train_loss": NaN, "seconds": 1}',
    b'{"step": 7, "val_loss": 1.5, "epoch": {}, "train_loss": 2.0, "seconds": 1}',
    b'{"step": 7, "val_loss": -1e308, "epoch": 1, "train_loss": 2.0, "seconds": 1}',
    b'{"step": 7, "val_loss": 1.5, "epoch": 1, "train_loss": 1e308, "seconds": 1}',
    b'{"step": 7, "val_loss": 1.5, "epoch": 1e999, "train_loss": 2.0, "seconds": 1}',
    b'{"step": 7, "val_loss": 1.5, "epoch": 1, "train_loss": 2.0, "seconds": 1, "symbols_per_second": []}',
]


def test_damaged_lines_are_left_out_and_said(runs):
    whole = (runs / "wide" / "metrics.jsonl").read_bytes()
    folder = runs / "torn"
    folder.mkdir()
    (folder / "config.toml").write_bytes((runs / "wide" / "config.toml").read_bytes())
    (folder / "metrics.jsonl").write_bytes(b"".join(line + b"\n" for line in DAMAGED) + whole)
    with pytest.warns(ur.UnrolledWarning, match=rf"torn/metrics.jsonl: {len(DAMAGED)} lines are damaged and left out$"):
        assert curve(folder) == curve(runs / "wide")
    with pytest.warns(ur.UnrolledWarning):
        first, second = comparison([runs / "wide", folder])
    assert first["val_loss"] == second["val_loss"]
    done = command("plot", "torn", cwd=runs)
    assert done.returncode == 0
    assert done.stderr == f"unrolled: note: torn/metrics.jsonl: {len(DAMAGED)} lines are damaged and left out\n"


def test_long_runs_fit_the_terminal():
    line = sparkline("x", [(n, 2.0 + 1 / (n + 1), None) for n in range(1000)])
    assert len(line.split()[1]) <= WIDTH


NAMES = ("_private", "a\udcff", "$x_1$", "語", "tab\there", "-")
"""Names of folders: hidden ones to matplotlib, no UTF-8, a formula, of letters that its font lacks, unprintable."""


@pytest.mark.parametrize("end", ["png", "svg"])
def test_every_run_of_a_picture_stands_in_its_legend(tmp_path, monkeypatch, end):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    from matplotlib.text import Text

    drawn, inner = [], Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, *args: (drawn.append(self.get_text()), inner(self, *args))[1])
    picture({name: [(1.0, 2.0, 2.5), (2.0, 1.5, 1.75)] for name in NAMES}, tmp_path / f"x.{end}")
    assert {"_private", "a\\udcff", "$x_1$", "語", "tab\\there", "-", "training"} <= set(drawn)


def test_large_figures_are_short(runs):
    points = [(1.0, 2.0, 1e99), (2.0, 2.0, -1e99)]
    assert sparkline("x", points) == "x  █▁  validation 1e+99 to -1e+99 nats, lowest -1e+99 at epoch 2.00"
    row = {"minutes": 0.2, "epochs": 1500.0, "learning_rate": 0.0004, "val_loss": -1e99, "train_loss": 1234567.0}
    assert table([row]).split()[5:] == ["0.2", "1,500", "0.0004", "-1e+99", "1,234,567"]
