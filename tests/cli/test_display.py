"""What a run looks like at several widths and levels, what compare shows, and when bench doubts its own figures."""

import io
import json
import random
import re
import sys
import time
from pathlib import Path

import pytest

import unrolled as ur
from unrolled import backends, bench
from unrolled.cli import display as module
from unrolled.cli import main
from unrolled.cli.display import SIZES, Display, Output, wrapped
from unrolled.training.callbacks import Result
from unrolled.training.lines import figures, overfitted
from unrolled.training.state import Evaluation

SMALL = {"hidden_size": 9, "num_layers": 1, "embedding_size": 5, "batch_size": 2, "seq_length": 7, "epochs": 1}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def display(width=80, terminal=True):
    file = Terminal() if terminal else io.StringIO()
    options = {"width": width, "force_terminal": terminal, "no_color": True, "highlight": False, "emoji": False}
    return Display(Output(file=file, _environ={"TERM": "xterm"}, **options)), file


def plain(file):
    """What was printed, without bold and its end."""
    return re.sub(r"\x1b\[\d*m", "", file.getvalue())


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_lines_fit_a_terminal_and_break_between_words(width):
    shown, file = display(width)
    shown.evaluated(Evaluation(2880, 3.79, 1.1585, 1.3562, 65), best=True)
    lines = plain(file).splitlines()
    assert all(len(line) <= width for line in lines)
    whole = (
        "validation epoch 3.79  step 2,880  training 1.1585 nats  validation 1.3562 nats = 1.9566 bits a character  "
        "(best so far)  1:05"
    )
    assert " ".join(plain(file).split()) == " ".join(whole.split())
    assert all(line.startswith(" " * 11) for line in lines[1:])
    assert len(lines) == {60: 3, 80: 2, 100: 2, 160: 1}[width]


def test_elsewhere_a_line_is_one():
    shown, file = display(60, terminal=False)
    shown.evaluated(Evaluation(2880, 3.79, 1.1585, 1.3562, 65), best=True)
    assert file.getvalue().count("\n") == 1


def test_a_word_that_is_too_long_stays_whole():
    path = "a/very-long/path/" * 3
    assert wrapped(f"saved in {path}", 20) == ["saved in", path]
    assert wrapped("", 20) == [""]


def test_a_command_to_copy_is_one_line():
    shown, file = display(60)
    result = Result(steps=3, best=Evaluation(3, 1.0, 2.0, 1.9, 1.0), interrupted=True)
    shown.use = "unrolled sample {model} --length 400 --temperature 0.7"
    shown.finished(result, Path("runs/" + "x" * 40))
    lines = plain(file).splitlines()
    assert f"next       unrolled sample runs/{'x' * 40}/model.safetensors --length 400 --temperature 0.7" in lines
    assert f"go on      unrolled train --resume runs/{'x' * 40}" in lines


def test_a_run_that_the_clock_ends_says_so(tmp_path):
    shown, file = display(terminal=False)
    ur.LanguageModel.train(
        "the cat sat. " * 90, out=tmp_path / "a", callbacks=[shown], **SMALL | {"epochs": 300}, minutes=1e-4
    )
    assert re.search(
        r"^stopped    by the clock at epoch \d+\.\d\d of 300: its 0\.0001 minutes are over$", file.getvalue(), re.M
    )
    assert file.getvalue().endswith(f"go on      unrolled train --resume {tmp_path / 'a'} --minutes MORE\n")
    shown, file = display(terminal=False)
    ur.LanguageModel.train("the cat sat. " * 90, callbacks=[shown], **SMALL, minutes=9)
    assert "stopped" not in file.getvalue()


@pytest.mark.parametrize("level", ["char", "byte", "word", "bpe"])
def test_words_have_a_perplexity_and_no_unfair_entropy(level):
    """A table of pairs of words has learnt the text by heart; one of characters is a fair thing to say."""
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    shown, file = display(terminal=False)
    options = SMALL | ({"max_symbols": 270} if level == "bpe" else {})
    text = "the cat sat on the mat. the dog ate the rat.\n" * 30
    ur.LanguageModel.train(text, level=level, callbacks=[shown], **options)
    out = file.getvalue()
    fair = level in ("char", "byte")
    assert ("of bigrams" in out) == fair
    assert re.search(r"^beside it  the same \d+ \w+, by (.*\n)+ {11}the model is ", out, re.M)
    assert bool(re.search(r"^validation .* bits a (word|token), perplexity \d+\.\d\d", out, re.M)) != fair
    assert bool(re.search(r"^best .* bits a (word|token), perplexity \d+\.\d\d at step \d+$", out, re.M)) != fair
    assert figures(4.0, "character") == "4.0000 nats = 5.7708 bits a character"


def test_what_is_printed_cannot_speak_to_the_terminal():
    shown, file = display()
    shown.rolled_back("a\x1b[2Jb", 3, 0.5)
    assert "\x1b" not in plain(file)
    assert r"a\x1b[2Jb" in plain(file)


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_overwrite_names_a_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("a b c d " * 400)
    assert command("train", "book.txt", "--overwrite") == 2
    assert capsys.readouterr().err.startswith("unrolled: --overwrite replaces the run in --out; name that folder")
    assert not Path("runs").exists()


def test_compare_shows_what_a_default_stands_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one.txt", "two.txt"):
        Path(name).write_text("the cat sat on the mat. " * 40)
    runs = {
        "plain": {},
        "tuned": {"learning_rate": 0.00125, "weight_decay": 0.1, "optimizer": "adamw"},
    }
    for (name, options), text in zip(runs.items(), ("one.txt", "two.txt"), strict=True):
        ur.LanguageModel.train(Path(text), out=name, **SMALL, **options)
    assert command("compare", "plain", "tuned") == 0
    head, *rows = capsys.readouterr().out.splitlines()
    rows = {row.split()[0]: dict(zip(head.split(), row.split(), strict=True)) for row in rows}
    chosen = {
        name: [rows[run][name] for run in runs] for name in ("files", "optimizer", "learning_rate", "weight_decay")
    }
    assert chosen == {
        "files": ["one.txt", "two.txt"],
        "optimizer": ["adam", "adamw"],
        "learning_rate": ["0.002", "0.00125"],
        "weight_decay": ["default", "0.1"],
    }
    assert command("compare", "plain", "tuned", "--json") == 0
    said = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    assert said["plain"]["files"] == [str(tmp_path / "one.txt")]
    assert (said["plain"]["learning_rate"], said["plain"]["weight_decay"]) == (0.002, None)


def test_bench_doubts_what_can_not_be(monkeypatch, capsys):
    row = bench.Row((16, 50, 64, 128, 1), 1, 1.0, 0.1, flops=171e9, sgemm_flops=100e9)
    monkeypatch.setattr(backends, "limits", lambda: None)
    assert (
        bench.doubts([], load=0.1) == bench.doubts([bench.Row((1,), 1, 1.0, 0.1, flops=104.0, sgemm_flops=100.0)]) == []
    )
    assert bench.doubts([row], load=7.0) == [
        "this machine is busy with other work (load 7.0), so times and shares are not to be trusted",
        "171% of sgemm can't be: other work slowed that product; measure again on a quiet machine",
    ]
    monkeypatch.setattr(bench, "rows", lambda what, threads, seconds: iter([row]))
    monkeypatch.setattr(bench, "load", lambda: 7.0)
    assert command("bench", "--table", "lstm") == 0
    out = capsys.readouterr().out
    assert out.index("note: this machine is busy") < out.index("171%") < out.index("note: 171% of sgemm can't be")


def test_bench_shows_shares_of_what_the_cores_can_do(monkeypatch, capsys):
    limits = pytest.importorskip("unrolled.backends.cpu.limits", exc_type=ImportError)
    levels = (limits.Level("L1", 2**15, 9e10), limits.Level("L2", 2**20, 5e10), limits.Level("memory", None, 2e10))
    most = limits.Limits(120e9, levels)
    trained = bench.Row((16, 50, 64, 128, 1), 2, 1.0, 0.1, flops=180e9, sgemm_flops=200e9)
    near, far = (bench.Row((1,) * 6, 2, bench.TOKENS * 1e-4, 0.1, weights=weights) for weights in (2**21, 2**21 + 8))
    assert [row.share_of(most) for row in (trained, near)] == pytest.approx([0.75, 2**21 / 1e-4 / 1e11])
    assert far.share_of(most) == pytest.approx((2**21 + 8) / 1e-4 / 4e10)
    assert near.share_of(None) is near.share_of(limits.Limits(1.0, ())) is None
    monkeypatch.setattr(backends, "limits", lambda: most)
    monkeypatch.setattr(bench, "sgemm_flops", lambda seconds: 110e9)
    monkeypatch.setattr(bench, "rows", lambda what, threads, seconds: iter([trained if what == "lstm" else near]))
    assert command("bench", "--table", "lstm", "--table", "drawing") == 0
    out = capsys.readouterr().out
    assert "120 GFLOP/s out of registers, sgemm 110; reads, GB/s: 90 from L1 (32 KiB), 50 from L2 (1,024 KiB)" in out
    assert out.index("of peak") < out.index("75%") < out.index("of reading") < out.index("21%")


def test_info_says_how_the_engine_was_built(capsys):
    assert command("info", "--build") == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    built = backends.build_info()
    assert said.keys() == built.keys()
    assert said.get("picked") == built.get("picked")


@pytest.mark.parametrize(
    ("package", "extra", "args"),
    [
        ("tokenizers", "bpe", ["train", "book.txt", "--level", "bpe"]),
        ("zstandard", "zstd", ["train", "book.txt.zst"]),
        ("tensorboardX", "tensorboard", ["train", "book.txt", "--tensorboard", "--out", "run"]),
        ("matplotlib", "plot", ["plot", "done", "--out", "picture.png"]),
    ],
)
def test_a_missing_extra_is_named_with_its_command(package, extra, args, tmp_path, monkeypatch, capsys):
    """One line, status 2, and nothing that a run would have left behind."""
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("the cat sat on the mat. " * 150)
    Path("book.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(40))
    ur.LanguageModel.train(Path("book.txt"), out="done", **SMALL)
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    small = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()] if args[0] == "train" else []
    before = sorted(tmp_path.iterdir())
    assert command(*args, *small) == 2
    out, err = capsys.readouterr()
    assert err.startswith("unrolled: ")
    assert err.endswith(f"pip install 'unrolled[{extra}]'\n")
    assert (err.count("\n"), out) == (1, "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "JUPYTER_COLUMNS"])
@pytest.mark.parametrize("value", ["²", "0", "-3", "9" * 5000, "", "wide"])
def test_an_odd_size_of_the_terminal_is_as_if_it_were_not_set(monkeypatch, name, value):
    for other in SIZES:
        monkeypatch.delenv(other, raising=False)
    usual = Output(file=io.StringIO()).size
    monkeypatch.setenv(name, value)
    assert Output(file=io.StringIO()).size == usual
    monkeypatch.setenv("COLUMNS", "57")
    assert Output(file=io.StringIO()).width == 57


def test_a_text_that_takes_long_to_read_is_spoken_of(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    shown = Display(Output(file=(file := io.StringIO())))
    with shown.patience("reading 2 files or folders"):
        deadline = time.monotonic() + 20
        while not file.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert file.getvalue() == "read       reading 2 files or folders ...\n"
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with shown.patience("reading 3 files or folders"):
        pass
    time.sleep(0.1)
    assert file.getvalue().count("\n") == 1


def test_a_run_that_overfits_says_so(tmp_path, capsys):
    history = [Evaluation(10, 1.0, 2.0, 1.5, 0.1), Evaluation(20, 2.0, 1.0, 1.6, 0.2)]
    assert overfitted(history, history[0]).startswith("then up to 1.6000 at step 20, while training fell to 1.0000")
    assert overfitted([history[0], Evaluation(20, 2.0, 1.0, 1.51, 0.2)], history[0]) == ""  # less than 2 % is noise
    assert overfitted([history[0], Evaluation(20, 2.0, 2.5, 9.0, 0.2)], history[0]) == ""  # diverged, or a high rate
    (tmp_path / "text.txt").write_text("".join(random.Random(1).choices("abcdefgh", k=600)))  # no pattern
    sizes = "--no-auto --hidden-size 30 --num-layers 1 --batch-size 4 --seq-length 10 --val-fraction 0.2 --lr 0.02"
    how = "--eval-every", 20, "--epochs", 20, "--out", tmp_path / "run"
    assert command("train", tmp_path / "text.txt", *sizes.split(), *how) == 0
    assert re.search(r"then up to \d\.\d{4} at step 240, while training fell", capsys.readouterr().out)
