"""The command line, as a person runs it: the installed command in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

import unrolled as ur

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 40
TINY = ["--hidden-size", "12", "--num-layers", "1", "--batch-size", "4", "--seq-length", "15", "--embedding-size", "5"]


def run(*args, cwd, text_input=None, status=0):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "unrolled", *map(str, args)],
        cwd=cwd,
        input=text_input,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text and a trained model."""
    path = tmp_path_factory.mktemp("cli")
    (path / "book.txt").write_text(TEXT)
    run("train", "book.txt", "--epochs", "2", *TINY, cwd=path)
    return path


def test_train_prints_what_it_read_and_what_to_do_next(folder):
    out = run("train", "book.txt", "--epochs", "2", *TINY, cwd=folder)
    vocabulary = len(set(TEXT))
    assert f"{len(TEXT):,} characters, {vocabulary} symbols; " in out
    assert "gru_reset_after, 1 x 12 hidden units, embedding 5," in out
    assert re.search(r"^best +validation \d\.\d{4} nats = \d\.\d{4} bits a character at step \d+$", out, re.M)
    assert re.search(
        r"^beside it  the same (.*\n)+ {11}5-gram counts \d\.\d{4} nats = (.*\n)+ {11}the model is (better|worse) than",
        out,
        re.M,
    )
    assert "saved in runs/book-2" in out  # the second run of this name: the first is not overwritten
    assert "next       unrolled sample runs/book-2/model.safetensors" in out
    assert sorted(os.listdir(folder / "runs/book-2")) == [
        "checkpoint.safetensors",
        "config.toml",
        "last.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "run.json",
    ]


def test_sample_is_the_library_s(folder):
    model = ur.load(folder / "runs/book/model.safetensors")
    expected = "It is" + model.sample("It is", 50, temperature=0.7, rng=np.random.default_rng(1)) + "\n"
    args = ("sample", "runs/book/model.safetensors", "--prompt", "It is", "--length", 50, "--temperature", 0.7)
    assert run(*args, "--seed", 1, cwd=folder) == expected


def test_score_prints_text_and_json(folder):
    score = ur.load(folder / "runs/book/model.safetensors").score(TEXT)
    out = run("score", "runs/book/model.safetensors", "book.txt", cwd=folder)
    assert out.startswith(
        f"{len(TEXT) - 1:,} characters: {score.nats:.4f} nats = {score.bits:.4f} bits a character, "
        f"perplexity {score.perplexity:.4f}\n"
    )
    said = json.loads(run("score", "runs/book", "book.txt", "--json", cwd=folder))
    assert (said["predicted"], said["nats"]) == (len(TEXT) - 1, score.nats)


def test_a_closed_pipe_saves_the_run(folder):
    command = (
        f"{sys.executable} -m unrolled train book.txt --epochs 50 --eval-every 20 --out piped-away {' '.join(TINY)}"
    )
    done = subprocess.run(f"{command} | head -1", shell=True, cwd=folder, capture_output=True, text=True)
    assert re.fullmatch(
        r"unrolled: the output was closed( before training began|; the run is saved: .*--resume piped-away goes on)\n",
        done.stderr,
    )
    for path in (folder / "piped-away").glob("*l*.safetensors"):
        if path.name != "checkpoint.safetensors":
            ur.load(path)


def test_a_short_time_still_gives_a_model_and_a_folder_of_ones_own_stays(folder):
    run("train", "book.txt", "--minutes", "1e-9", "--out", "brief", *TINY, cwd=folder)
    ur.load(folder / "brief/model.safetensors")
    (folder / "mine").mkdir()
    run("train", "short-one.txt", "--out", "mine", cwd=folder, status=2)
    (folder / "tiny.txt").write_text("It is a")
    run("train", "tiny.txt", "--out", "mine", cwd=folder, status=2)
    assert (folder / "mine").is_dir()
    (folder / "mine/last.safetensors").write_bytes((folder / "brief/model.safetensors").read_bytes())
    assert "mine holds a model already" in run("train", "book.txt", "--out", "mine", *TINY, cwd=folder, status=2)


def test_output_that_cannot_be_written_is_one_line(folder):
    command = f"{sys.executable} -m unrolled info runs/book/model.safetensors"
    if os.path.exists("/dev/full"):
        done = subprocess.run(f"{command} > /dev/full", shell=True, cwd=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (2, "unrolled: No space left on device\n")
    done = subprocess.run(f"{command} | head -c 5", shell=True, cwd=folder, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("runs/", "")


def test_an_ascii_output_is_no_reason_to_stop(folder):
    (folder / "accent.txt").write_text("é" * 500)
    run("train", "accent.txt", "--epochs", "1", "--out", "accent", *TINY, cwd=folder)
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "unrolled", "sample", "accent/model.safetensors", "--length", "3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=environment)
    assert (done.stdout, done.stderr) == ("ééé\n", "")


def test_standard_input_and_info(folder):
    out = run("train", "-", "--epochs", "1", "--out", "piped", *TINY, cwd=folder, text_input=TEXT)
    assert "saved in piped" in out
    info = run("info", "piped/model.safetensors", cwd=folder)
    assert re.search(r"^  hidden_size +12$", info, re.M)
    assert re.search(r"^    decoder\.weight +\d+ x 12$", info, re.M)
    assert run("info", cwd=folder).startswith(f"unrolled {ur.__version__}\n")


def test_the_default_corpus_trains(tmp_path):
    out = run("train", "--minutes", "0.05", *TINY, cwd=tmp_path)
    assert "standard library: 2,000,000 characters" in out
    assert os.path.exists(tmp_path / "runs/stdlib/model.safetensors")


ERRORS = {
    "missing": (["train", "none.txt"], "none.txt: no such file"),
    "empty": (["train", "empty.txt"], "empty.txt"),
    "short": (["train", "short.txt"], "batch size 2 x sequence length 16 needs 33"),
    "shorter": (["train", "short.txt", "--no-auto"], "2,501"),
    "not text": (["train", "binary.txt"], "--level byte"),
    "no text": (["train", "nothing"], "nothing"),
    "size": (["train", "book.txt", "--hidden-size", "0"], "--hidden-size is 0; it must be a whole number, 1 or more"),
    "fraction": (
        ["train", "book.txt", "--val-fraction", "1.5"],
        "--val-fraction is 1.5; it must be at least 0 and below 1",
    ),
    "rate": (["train", "book.txt", "--learning-rate", "-1"], "--learning-rate is -1; it must be above 0"),
    "cell": (["train", "book.txt", "--cell", "lstn"], "no cell is called 'lstn'; did you mean 'lstm'?"),
    "optimizer": (["train", "book.txt", "--optimizer", "adm"], "no optimizer is called 'adm'; did you mean 'adam'?"),
    "option": (["train", "--hiden-size", "3"], "there is no option --hiden-size; did you mean --hidden-size?"),
    "command": (["trian"], "trian"),
    "huge": (["train", "book.txt", "--hidden-size", "100000000"], "not enough memory: a network of 30,000,0"),
    "one character": (["train", "one.txt"], "needs 33"),
    "decay": (["train", "book.txt", "--lr-decay", "-1"], "--lr-decay is -1; it must be above 0 and at most 1"),
    "every": (["train", "book.txt", "--lr-decay-every", "0"], "--lr-decay-every is 0"),
    "long line": (["train", "book.txt", "--sample-length", "9" * 30], "it must be a whole number, from 0 to 1,000,000"),
    "clip": (
        ["train", "book.txt", "--clip", "0.25"],
        "value (how gradients are clipped; grad_clip is the limit)",
    ),
    "dtype": (["train", "book.txt", "--dtype", "x"], "no dtype is called 'x'"),
    "init": (["train", "book.txt", "--init", "x"], "no init is called 'x'"),
    "absurd": (
        ["train", "book.txt", "--num-layers", str(10**30)],
        "--num-layers is 1000000000000000000000000000000; it must be at most 10,000",
    ),
    "endless": (
        ["train", "book.txt", "--epochs", "1e300"],
        "epochs is 1e+300; it must be above 0 and at most 1,000,000",
    ),
    "long name": (["train", "book.txt", "--out", "x" * 300], "the path is too long for this system; check the path"),
    "no name": (["train", "book.txt", "--out", ""], "--out is empty; name a folder"),
    "no file to go on with": (
        ["train", "--resume", "runs/book", ""],
        "a file to read has no name: the path is empty",
    ),
    "no file to validate on": (
        ["train", "book.txt", "--val-file", ""],
        "a file to read has no name: the path is empty",
    ),
    "no file to test a search on": (
        ["tune", "book.txt", "--test-file", "", "--minutes", "0.6"],
        "a file to read has no name: the path is empty",
    ),
    "no configuration": (["train", "book.txt", "--config", ""], "--config has no name: the path is empty"),
    "no file to search on": (["tune", "", "--minutes", "0.6"], "a file to read has no name: the path is empty"),
    "a word of an option": (["sample", "pride", "--top-k", "-1"], "unrolled: --top-k is -1;"),
    "an option of one word": (["sample", "pride", "--length", "-1"], "unrolled: --length is -1;"),
    "another option's name": (["train", "book.txt", "--config", "zero.toml"], "hidden_size is 0;"),
    "a word of what is said": (["sample", "pride", "--beam", "2", "--top-p", "0.5"], "unrolled: beam searches"),
    "threads": (["train", "book.txt", "--threads", "0"], "the number of threads is"),
    "out": (
        ["train", "book.txt", "--out", "book.txt/x"],
        "can't make the folder book.txt/x: book.txt is a file; move it away first",
    ),
    "again": (["train", "book.txt", "--out", "runs/book"], "runs/book holds a model already; choose another --out, or"),
    "prompt": (["sample", "runs/book/model.safetensors", "--prompt", "é€"], "'€'"),
    "temperature": (
        ["sample", "runs/book/model.safetensors", "--temperature", "-2"],
        "temperature is -2.0; it must be",
    ),
    "no model": (["sample", "book.txt"], "book.txt is not an unrolled model"),
    "symbols": (["score", "runs/book/model.safetensors", "greek.txt"], "'λ'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_input_is_one_line_and_status_2(folder, case):
    (folder / "empty.txt").write_text("")
    (folder / "short.txt").write_text("It is")
    (folder / "one.txt").write_text("I")
    (folder / "greek.txt").write_text("It is λ")
    (folder / "binary.txt").write_bytes(b"abc\xff")
    (folder / "nothing").mkdir(exist_ok=True)
    (folder / "zero.toml").write_text("hidden_size = 0\n")
    model = (folder / "runs/book/model.safetensors").read_bytes()
    args, message = ERRORS[case]
    err = run(*args, cwd=folder, status=2)
    assert message in err
    assert err.startswith("unrolled: ")
    assert err.count("\n") == 1
    assert (folder / "runs/book/model.safetensors").read_bytes() == model
    assert not (folder / "runs/short").exists()  # a run that could not begin leaves no folder


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_so(folder, number):
    out = f"stopped-{number}"
    command = [sys.executable, "-m", "unrolled", "train", "book.txt", "--epochs", "100000", "--out", out, *TINY]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    figures = folder / out / "metrics.jsonl"  # there from the start, and empty until the first validation
    while not (figures.exists() and figures.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    said, err = process.communicate(timeout=30)
    assert process.returncode == 130, err  # so that a script does not take it for a run that has ended
    step = int(re.search(r"^stopped +at step ([\d,]+), .*; everything is saved$", said, re.M)[1].replace(",", ""))
    assert step > 0
    assert len(ur.load(folder / out / "last.safetensors").vocabulary) == len(set(TEXT))
    ur.load(folder / out / "model.safetensors")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child process")
def test_ctrl_c_while_python_imports_is_one_line(folder):
    """A module that takes forever to import stands where NumPy is looked for."""
    (folder / "slow").mkdir()
    (folder / "slow" / "numpy.py").write_text("import sys, time\nprint('here', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "unrolled", "info"]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "slow"), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=30)[1]
    assert (process.returncode, err) == (130, "unrolled: interrupted\n")


def test_help_is_grouped_and_every_group_fits_a_screen(folder):
    out = run("train", "--help", cwd=folder)
    groups = re.split(r"^(?=\S.*:$)", out, flags=re.M)
    names = [g.split(":")[0] for g in groups[1:]]
    assert names == [
        "Data",
        "Text",
        "Series",
        "Network",
        "Words",
        "Head",
        "Weights",
        "Dropout",
        "Training",
        "Learning",
        "Rule",
        "Penalties",
        "Rate",
        "Output",
        "Options",
    ]
    assert all(g.count("\n") <= 32 for g in groups)


def test_layers_of_several_widths_are_written_as_they_are_read(folder):
    """A run's configuration is TOML, says how many layers there are, and makes the same network again."""
    widths = ["--epochs", "0.2", "--batch-size", "4", "--seq-length", "15", "--hidden-size"]
    run("train", "book.txt", "--out", "wide", *widths, "8,6,5", cwd=folder)
    config = tomllib.loads((folder / "wide/config.toml").read_text())
    assert (config["hidden_size"], config["num_layers"]) == ([8, 6, 5], 3)
    run("train", "--config", "wide/config.toml", "--out", "again", cwd=folder)
    assert (folder / "again/model.safetensors").read_bytes() == (folder / "wide/model.safetensors").read_bytes()
    assert "wide" in run("compare", "wide", "again", cwd=folder)
    for layers in ("5", "2"):  # 2 is the default, but here it was asked for
        err = run("train", "book.txt", "--num-layers", layers, *widths, "8,6,5", cwd=folder, status=2)
        assert err == f"unrolled: --hidden-size has 3 widths, --num-layers is {layers}; leave one out\n"


def test_a_runs_folder_stands_for_its_model(folder):
    text = ["--prompt", "It is", "--length", "20", "--seed", "1"]
    whole = run("sample", "runs/book/model.safetensors", *text, cwd=folder)
    assert run("sample", "runs/book", *text, cwd=folder) == whole
    assert run("score", "runs/book", "book.txt", cwd=folder) == run(
        "score", "runs/book/model.safetensors", "book.txt", cwd=folder
    )
    assert run("info", "runs/book", cwd=folder) == run("info", "runs/book/model.safetensors", cwd=folder)
    (folder / "no run").mkdir()
    err = run("info", "no run", cwd=folder, status=2)
    assert err == "unrolled: can't read the model no run/model.safetensors: No such file or directory\n"


def test_words_drawn_stand_apart_from_the_prompt(folder):
    run("train", "book.txt", "--level", "word", "--epochs", "1", "--out", "words", *TINY, cwd=folder)
    apart, given = (
        run("sample", "words", "--prompt", prompt, "--length", "5", "--seed", "1", cwd=folder)
        for prompt in ("It is", "It is ")
    )
    assert apart == given
    assert apart.startswith("It is ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no locks of folders")
def test_two_processes_do_not_share_a_folder(folder):
    """The second is told so, and the first is none the worse for it."""
    command = [sys.executable, "-m", "unrolled", "train", "book.txt", "--epochs", "100000", "--out", "shared", *TINY]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (folder / "shared/last.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        for arguments in (["book.txt", "--out", "shared", "--overwrite", *TINY], ["--resume", "shared"]):
            err = run("train", *arguments, cwd=folder, status=2)
            assert err == "unrolled: another process is training in shared; choose another --out, or wait\n"
    finally:
        process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert "everything is saved" in said
    assert json.loads((folder / "shared/run.json").read_text())["command"][-1] == TINY[-1]
    had = json.loads((folder / "shared/metrics.jsonl").read_text().splitlines()[-1])["epoch"]
    run("train", "--resume", "shared", "--epochs", str(round(had) + 20), cwd=folder)
