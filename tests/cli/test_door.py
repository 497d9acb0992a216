"""How the command begins and ends: what the surroundings have wrong, signals, closed outputs, faults of its own."""

import io
import os
import signal
import subprocess
import sys
import threading
import tomllib
import warnings
from pathlib import Path

import pytest
from rich.console import Console

import unrolled as ur
from unrolled import __main__ as entry
from unrolled import backends, bench
from unrolled.cells import find_cell
from unrolled.cli import main
from unrolled.cli.display import redrawn
from unrolled.cli.exits import stopping
from unrolled.cli.familiar import ABSENT, CALLED
from unrolled.data.text import read


@pytest.fixture
def said(capfd):
    """Run a command in this process: its exit status, what it printed, and what on standard error."""

    def run(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    return run


def python(code, **environment):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def test_a_help_page_waits_for_no_models():
    code = """
import sys
from unrolled.cli import main
for verb in ("plot", "predict", "sample", "score"):
    try:
        main([verb, "--help"])
    except SystemExit as end:
        assert end.code == 0, verb
    print([name for name in sys.modules if name.startswith(("unrolled.models", "unrolled.nn"))], file=sys.stderr)
"""
    status, _, err = python(code)
    assert (status, err) == (0, "[]\n" * 4)


@pytest.mark.parametrize(
    ("name", "value"), [("UNROLLED_THREADS", "x"), ("UNROLLED_ISA", "sse"), ("UNROLLED_PREFETCH", "2")]
)
def test_a_wrong_environment_is_one_line_and_hides_no_help(name, value):
    """Nothing is printed before it is said, and what needs no engine runs."""
    if backends.reason(find_cell("lstm")):
        pytest.skip("the engine is not built, so that its settings are not read")
    code = """
import sys
from unrolled.cli import main
for args in ("--version", "train --help", "info --cells", "info", "bench", "check --quick", "train"):
    try:
        main(args.split())
    except SystemExit as end:
        print(args, end.code, file=sys.stderr)
"""
    status, out, err = python(code, **{name: value})
    assert status == 0
    lines = err.splitlines()
    assert lines[:3] == ["--version 0", "train --help 0", "info --cells 0"]
    assert [line for line in lines[3:] if not line.startswith("unrolled: ")] == [
        "info 2",
        "bench 2",
        "check --quick 2",
        "train 2",
    ]
    assert len({line for line in lines[3:] if line.startswith(f"unrolled: {name} is '{value}'; ")}) == 1
    assert len(lines) == 11
    assert not any(line.startswith(("python ", "processor ", "read ")) for line in out.splitlines())


@pytest.mark.parametrize("args", [["info", "--cells"], ["--help"], [], ["train", "--help"], ["--version"], ["info"]])
def test_a_reader_that_has_gone_is_no_fault(args):
    """As in `unrolled info --cells | head -1`: status 0, and not a word."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "unrolled", *args]  # a process of its own: it lets go of its standard output
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_thread_may_run_a_command(capfd):
    """Signals belong to the main thread; here they are left alone."""
    before, ends = signal.getsignal(signal.SIGINT), []

    def run():
        try:
            main(["info"])
        except SystemExit as end:
            ends.append(end.code)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert ends == [0]
    assert capfd.readouterr().out.startswith(f"unrolled {ur.__version__}\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_command_gives_the_signals_back(said, monkeypatch):
    """To whoever had them, but to nobody where C had them: that can't be put back."""
    mine = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        handler = signal.getsignal(signal.SIGINT)
        assert said("--version")[0] == 0
        assert signal.getsignal(signal.SIGINT) is handler
        monkeypatch.setattr(signal, "signal", lambda number, handler: None)
        assert said("--version")[0] == 0
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGINT, mine)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_stop_is_an_interruption(number):
    with pytest.raises(KeyboardInterrupt), stopping():
        os.kill(os.getpid(), number)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("args", ["--version", "trian"])
def test_a_signal_while_python_ends_changes_nothing(args):
    """No traceback under the last line, and the status that the command had."""
    code = f"""
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["unrolled", {args!r}]
from unrolled.__main__ import main
main()
"""
    status, out, err = python(code)
    assert (status, err) in [(0, ""), (2, "unrolled: No such command 'trian'. Did you mean 'train'?\n")]
    assert (status == 0) == (args == "--version") == out.startswith("unrolled, version")


def test_a_fault_of_its_own_is_one_line_and_another_status(said, monkeypatch):
    def broken():
        raise KeyError("no\n\x1b[2Jone")

    monkeypatch.setattr(backends, "describe", broken)
    monkeypatch.delenv("UNROLLED_TRACEBACK", raising=False)
    status, _, err = said("info")
    line = "unrolled: internal error, please report it with what UNROLLED_TRACEBACK=1 prints: "
    line += r"KeyError: 'no\n\x1b[2Jone'" + "\n"
    assert (status, err) == (70, line)
    monkeypatch.setenv("UNROLLED_TRACEBACK", "1")
    status, _, err = said("info")
    assert status == 70
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(line)


def test_half_an_installation_is_one_line(tmp_path):
    (tmp_path / "click.py").write_text("raise ImportError('no click here')")
    code = "import sys; sys.argv = ['unrolled']; from unrolled.__main__ import main; main()"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    status, out, err = python(code, PYTHONPATH=path, UNROLLED_TRACEBACK="")
    assert (status, out, err.count("\n")) == (70, "", 1)
    assert err.endswith(": ImportError: no click here\n")


def test_what_an_error_quotes_cannot_speak_to_the_terminal(said):
    status, _, err = said("info", "a\x1b]0;title\x07\nb" + "c" * 5000)
    assert status == 2
    assert err.startswith(r"unrolled: 'a\x1b]0;title\x07\nbccc")
    assert len(err) < 1100


def test_a_warning_of_the_library_is_a_note(said, monkeypatch):
    def odd():
        warnings.warn("that changes nothing", ur.UnrolledWarning, stacklevel=2)
        return "engine: none"

    monkeypatch.setattr(backends, "describe", odd)
    for _ in range(2):  # each time
        status, _, err = said("info")
        assert (status, err) == (0, "unrolled: note: that changes nothing\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--gpu"], "there is no option --gpu: everything runs on the CPU, so there is no GPU to choose"),
        (["train", "--cuda"], "there is no option --cuda: everything runs on the CPU"),
        (["train", "--emsize", "9"], "there is no option --emsize; here it is called --embedding-size"),
        (["train", "--max_epochs", "9"], "there is no option --max-epochs; here it is called --epochs"),
        (["sample", "x", "--temp", "1"], "there is no option --temp; here it is called --temperature"),
        (["sample", "x", "--primetext=a"], "there is no option --primetext; here it is called --prompt"),
        (["train", "--hiden-size", "3"], "there is no option --hiden-size; did you mean --hidden-size?"),
        (["tune", "x", "--epochs", "3"], "there is no option --epochs: the passes of a trial follow from minutes"),
        (["tune", "x", "--max-epochs", "3"], "there is no option --max-epochs: the passes of a trial follow from min"),
        (["tune", "x", "--no-auto"], "there is no option --no-auto: a search begins with the automatic choice"),
        (["score", "x", "y", "--temp", "1"], "there is no option --temp; --help lists all"),
        (["train", "nofile", "--hidden_size=5", "--rnn_size", "4", "--lr", "1", "--cell", "GRU"], "nofile: no such"),
        (["generate", "nofile", "-n", "3"], "nofile: no such file or folder"),
    ],
)
def test_familiar_names_are_taken_or_led_to_ours(said, args, message):
    status, out, err = said(*args)
    assert (status, out) == (2, "")
    assert err.startswith(f"unrolled: {message}")
    assert err.count("\n") == 1


def test_what_familiar_options_are_called_exists():
    from unrolled.cli import cli

    params = [param for command in cli.commands.values() for param in command.params]
    ours = {name for param in params for name in param.opts if name.startswith("--")}
    assert set(CALLED.values()) <= ours
    assert not set(ABSENT) & {name[2:] for name in ours}


@pytest.mark.parametrize(
    ("familiar", "name"),
    [("LSTM", "lstm"), ("gru", "gru_reset_after"), ("GRU", "gru_reset_after"), ("Vanilla", "rnn_tanh")],
)
def test_a_cell_may_be_called_as_elsewhere(familiar, name):
    """The model file has our name for it, whatever it was called."""
    assert ur.Recurrent(familiar, 4, 5).cell.name == name
    assert ur.Spec(vocabulary_size=7, cell=familiar).to_json()["cell"] == name
    assert ur.Network(ur.Spec(7, familiar, 4, 5)).recurrent.cell.name == name
    from unrolled.models.options import Options

    assert Options(cell=familiar).cell == name
    with pytest.raises(ur.UnrolledError, match=r"^no cell is called 'gruu'; did you mean 'gru'\?"):
        find_cell("gruu")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_are_redrawn_only_where_that_shows(monkeypatch):
    monkeypatch.delenv("CI", raising=False)

    def console(file=None, **environment):
        return Console(file=file or Terminal(), _environ={"TERM": "xterm"} | environment)

    assert redrawn(console())
    assert redrawn(console(NO_COLOR="1"))  # which is about colours
    assert not redrawn(console(TERM="dumb"))
    assert not redrawn(console(TERM="unknown"))
    assert not redrawn(console(TTY_INTERACTIVE="0"))
    assert not redrawn(console(io.StringIO()))
    assert not redrawn(console(io.StringIO(), FORCE_COLOR="1"))
    monkeypatch.setenv("CI", "true")
    assert not redrawn(console())


@pytest.mark.parametrize("found", [signal.SIG_IGN, None])
def test_a_sigint_that_is_ignored_or_a_hosts_is_left_alone(monkeypatch, found):
    """In the background of a shell Ctrl-C is not meant for a command; None is a handler that Python did not install."""
    monkeypatch.setattr(signal, "getsignal", lambda number: found)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was replaced"))
    monkeypatch.setattr(sys, "argv", ["unrolled", "--version"])
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 0


def test_a_command_in_the_background_goes_on_at_ctrl_c():
    code = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from unrolled import __main__, backends
def describe():
    os.kill(os.getpid(), signal.SIGINT)
    return "engine: none"
backends.describe = describe
sys.argv = ["unrolled", "info"]
__main__.main()
"""
    status, out, err = python(code)
    assert (status, err, "engine: none" in out) == (0, "", True)


class _Path:
    def __init__(self, gives):
        self.gives = gives

    def __fspath__(self):
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


PATHS = {
    "long": ("x" * 3000, f"'{'x' * 79}...: the path is too long for this system; check the path"),
    "long parts": ("ab/" * 3000, f"'{('ab/' * 30)[:79]}...: the path is too long for this system; check the path"),
    "no character": ("a\ud800", r"'a\ud800': no name of a file has such characters here; check the path"),
    "number": (_Path(3), "expected a path"),
    "own error": (_Path(RuntimeError("mine")), "expected a path"),
    "bytes": (_Path(b"a"), "expected a path"),
    "NUL": ("a\0", r"'a\x00': a path can't hold a NUL character; check the path"),
}


@pytest.mark.parametrize("door", ["load", "save", "train", "out", "val", "resume", "read"])
@pytest.mark.parametrize("case", PATHS)
def test_what_is_no_path_is_said_at_every_door(case, door):
    path, message = PATHS[case]
    tiny = {"hidden_size": 3, "num_layers": 1, "batch_size": 2, "seq_length": 5, "epochs": 0.1}
    text = "the cat sat on the mat. " * 9
    doors = {
        "load": lambda: ur.load(path),
        "save": lambda: ur.LanguageModel.train(text, **tiny).save(path),
        "train": lambda: ur.LanguageModel.train(Path(path) if isinstance(path, str) else path, **tiny),
        "out": lambda: ur.LanguageModel.train(text, out=path, **tiny),
        "val": lambda: ur.LanguageModel.train(text, val=path, **tiny),
        "resume": lambda: ur.LanguageModel.resume(path),
        "read": lambda: read(path),
    }
    with pytest.raises(ur.UnrolledError) as caught:
        doors[door]()
    said = str(caught.value)
    assert "\n" not in said
    if not (door == "train" and isinstance(path, _Path)):  # that is no kind of text at all
        assert said.endswith(message.replace("ab/" * 26 + "a", ("ab/" * 30)[:79]))


def test_a_table_says_that_it_is_measured_before_its_rows_are_there(said, monkeypatch):
    monkeypatch.setattr(bench, "rows", lambda what, threads, seconds: iter(()))
    monkeypatch.setattr(backends, "limits", lambda: None)
    status, out, _ = said("bench", "--table", "rnn_tanh")
    assert status == 0
    assert "\nmeasuring: tanh RNN, forward + backward, ms ...\n" in out


def test_a_run_of_documents_says_to_draw_some(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("names.jsonl").write_text('{"text": "emma"}\n{"text": "olivia"}\n' * 20)
    small = ["--hidden-size", "3", "--num-layers", "1", "--batch-size", "2", "--seq-length", "9", "--epochs", "1"]
    args = ["names.jsonl", "--json-field", "text", "--val-fraction", "0", *small, "--out", "run", "--overwrite"]
    for more, drawn in (["--documents"], "--n 5"), ([], "--length 400"):
        status, out, _ = said("train", *args, *more)
        assert status == 0
        assert f"next       unrolled sample run/model.safetensors {drawn} --temperature 0.7\n" in out
        assert ", up to 1 epoch, saved in run\n" in out
        assert "  no validation part  0:0" in out


def test_a_flag_reaches_what_is_off_by_default_and_on(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("the cat sat on the mat. " * 20)
    small = ["--hidden-size", "3", "--num-layers", "1", "--batch-size", "2", "--seq-length", "9", "--epochs", "0.1"]
    status, _, _ = said("train", "book.txt", *small, "--no-bias", "--beta1", "0.5", "--residual", "--out", "run")
    assert status == 0
    config = tomllib.loads(Path("run/config.toml").read_text())
    assert (config["bias"], config["residual"], config["beta1"], "beta2" in config) == (False, True, 0.5, False)
    assert said("train", "--config", "run/config.toml", "book.txt", "--bias", "--out", "again")[0] == 0
    assert tomllib.loads(Path("again/config.toml").read_text())["bias"] is True


def test_a_command_waits_for_no_other():
    """Nor does what only says its version, or that there is no such command, wait for NumPy."""
    code = """
import sys
from unrolled.cli import main
try:
    main({args})
except SystemExit:
    print({name!r} in sys.modules)
"""
    for args, name in (["--version"], "numpy"), (["trian"], "numpy"), (["sample", "--help"], "rich"):
        assert python(code.format(args=args, name=name))[1].endswith("False\n")
