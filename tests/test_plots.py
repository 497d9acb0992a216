"""Curves and tables of runs, through the commands."""

import json
import subprocess
import sys

import pytest

import unrolled as ur
from unrolled import run
from unrolled.cli import plots

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
    lowest = min(e["val_loss"] for e in run.metrics(runs / "wide"))
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
        (("compare", "nowhere"), "can't read the configuration nowhere/config.toml: No such file"),
        (("plot", "wide", "--out", "x.gif"), "x.gif is no picture that can be drawn; end its name in .png or .svg"),
        (("plot", "wide", "--out", "no/x.svg"), "can't write no/x.svg: No such file"),
        (("plot", "empty"), "empty has no validation yet"),
        (("plot", "torn"), "torn/metrics.jsonl, line 1 is no JSON object with a step"),
    ],
)
def test_what_is_no_run_is_one_line(runs, args, message):
    if "no/x.svg" in args:
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    for name, text in (("empty", '{"step": 3, "ep'), ("torn", "{}\n")):
        (runs / name).mkdir(exist_ok=True)
        (runs / name / "metrics.jsonl").write_text(text)
    done = command(*args, cwd=runs)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_long_runs_fit_the_terminal():
    line = plots.sparkline("x", [(n, 2.0 + 1 / (n + 1), None) for n in range(1000)])
    assert len(line.split()[1]) <= plots.WIDTH
