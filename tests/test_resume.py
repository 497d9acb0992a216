"""A run that is stopped anywhere goes on to the same bytes; what can't go on says why in one line."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import unrolled as ur
from unrolled import checkpoint, run
from unrolled.options import Options
from unrolled.train import CHECKPOINT, LAST, MODEL, Listener

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 20
SMALL = {"hidden_size": 12, "num_layers": 2, "embedding_size": 5, "batch_size": 3, "seq_length": 20, "epochs": 3}
SMALL |= {"dropout": 0.3, "eval_every": 7, "checkpoint_every": 10, "schedule": "plateau", "learning_rate": 0.01}
MODELS = (MODEL, LAST)


class Stop(Listener):
    """Interrupts at the first call of one kind that comes at or after a step."""

    def __init__(self, kind, step):
        self.kind, self.at = kind, step

    def stepped(self, progress):
        if self.kind == "step" and progress.step == self.at:
            raise KeyboardInterrupt

    def evaluated(self, evaluation, best):
        if self.kind == "validation" and evaluation.step >= self.at:
            raise KeyboardInterrupt


def contents(folder):
    return [(folder / name).read_bytes() for name in MODELS]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that was never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ur.LanguageModel.train(TEXT, out=folder, **SMALL)
    return folder


@pytest.mark.parametrize(("kind", "step"), [("step", 1), ("step", 13), ("step", 27), ("validation", 7)])
def test_an_interrupted_run_goes_on_to_the_same_bytes(whole, tmp_path, kind, step):
    out = tmp_path / "run"
    stopped = ur.LanguageModel.train(TEXT, out=out, listener=Stop(kind, step), **SMALL)
    assert stopped.result.interrupted
    model = ur.LanguageModel.resume(out, TEXT)
    assert not model.result.interrupted
    assert contents(out) == contents(whole)
    assert [e["step"] for e in run.metrics(out)] == [e["step"] for e in run.metrics(whole)]
    assert [e["val_loss"] for e in run.metrics(out)] == [e["val_loss"] for e in run.metrics(whole)]


@pytest.mark.parametrize(
    ("optimizer", "cell"), [("nesterov", "gru_reset_before"), ("adadelta", "rnn_tanh"), ("adamw", "lstm_peephole")]
)
def test_every_rule_and_cell_resumes(tmp_path, optimizer, cell):
    options = SMALL | {"optimizer": optimizer, "cell": cell, "epochs": 1, "embedding_size": 0}
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", **options)
    ur.LanguageModel.train(TEXT, out=tmp_path / "b", listener=Stop("step", 12), **options)
    ur.LanguageModel.resume(tmp_path / "b", TEXT)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


HARSH = {"optimizer": "sgd", "learning_rate": 60.0, "eval_every": 3}
EVERY_OPTION = {
    "moving average": {"average": "ema", "ema_decay": 0.9},
    "averaged sgd": HARSH | {"average": "asgd", "average_after": 1},
    "penalties": {"ar": 2.0, "tar": 1.0, "label_smoothing": 0.1},
    "patience": HARSH | {"patience": 5},
    "dropouts": {"locked_dropout": 0.2, "embedding_dropout": 0.1, "weight_drop": 0.2},
    "dropouts of a memory": {"recurrent_dropout": 0.2, "zoneout": 0.1, "zoneout_cell": 0.2},
    "projection": {"proj_size": 5},
    "a cell that the engine lacks": {"cell": "lstm_layer_norm"},
    "parts": {"accumulate": 3},
    "parts and masks": {"accumulate": 3, "locked_dropout": 0.2, "zoneout": 0.1, "tar": 1.0},
    "trained state": {"learn_state": True, "tied": True, "embedding_size": 12},
    "widths": {"hidden_size": (9, 12)},
    "warm-up": {"schedule": "cosine", "warmup": 20},
    "steps": {"schedule": "step", "lr_decay_every": 0.4},
    "adamw, clipped by value": {"optimizer": "adamw", "clip": "value", "grad_clip": 0.01, "weight_decay": 0.1},
    "words": {"level": "word", "min_count": 2, "batch_size": 2, "seq_length": 4},
    "all": {"average": "ema", "accumulate": 3, "locked_dropout": 0.2, "zoneout": 0.1, "ar": 2.0, "tar": 1.0}
    | {"label_smoothing": 0.1, "weight_drop": 0.1, "embedding_dropout": 0.1, "learn_state": True, "patience": 2},
}


@pytest.mark.parametrize("name", EVERY_OPTION)
def test_every_option_resumes_to_the_same_bytes(tmp_path, name):
    options = SMALL | EVERY_OPTION[name]
    whole = ur.LanguageModel.train(TEXT, out=tmp_path / "a", **options).result
    ur.LanguageModel.train(TEXT, out=tmp_path / "b", listener=Stop("step", 44), **options)
    arrays, content = run.reopen(tmp_path / "b")[0]
    assert content["now"]["step"] == 44 < whole.steps
    if "average" in options:  # it has begun
        assert any(key.startswith("now.average.") for key in arrays)
    if name == "patience":
        assert whole.epochs < options["epochs"]
    again = ur.LanguageModel.resume(tmp_path / "b", TEXT).result
    assert [(e.step, e.train_loss, e.val_loss) for e in again.history] == [
        (e.step, e.train_loss, e.val_loss) for e in whole.history
    ]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_looking_leaves_no_trace_and_a_checkpoint_exists_from_step_0(whole, tmp_path):
    class First(Listener):
        def stepped(self, progress):
            if progress.step == 1:
                shutil.copytree(tmp_path / "run", tmp_path / "copy")

    ur.LanguageModel.train(TEXT, out=tmp_path / "run", listener=First(), **(SMALL | {"sample_length": 0}))
    assert run.reopen(tmp_path / "copy")[0][1]["now"]["step"] == 0
    ur.LanguageModel.resume(tmp_path / "copy", TEXT)
    assert contents(tmp_path / "copy") == contents(whole)


def test_a_run_goes_on_with_its_own_backend(tmp_path):
    options = SMALL | {"backend": "reference", "epochs": 1}
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", **options)
    ur.LanguageModel.train(TEXT, out=tmp_path / "b", listener=Stop("step", 12), **options)
    model = ur.LanguageModel.resume(tmp_path / "b", TEXT)
    assert model.network.recurrent.backend == "reference"
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_finished_run_has_nothing_to_do_and_may_get_more_epochs(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / LAST).unlink()  # as if it had been killed before it wrote this
    (tmp_path / "run" / f"model.safetensors.unrolled-{'0a' * 8}.part").write_bytes(b"half")
    (tmp_path / "run" / "config.toml.my.part").write_bytes(b"somebody's own")
    ur.LanguageModel.resume(tmp_path / "run", TEXT)
    assert [path.name for path in (tmp_path / "run").glob("*.part")] == ["config.toml.my.part"]
    assert contents(tmp_path / "run") == contents(whole)
    before = run.reopen(whole)[0][1]["now"]["step"]
    assert ur.LanguageModel.resume(tmp_path / "run", TEXT, epochs=4).result.steps == round(before * 4 / 3)


def test_a_divergence_leads_back_and_resumes_alike(tmp_path):
    class Poison(Listener):
        """Breaks a parameter once after step 13; stops at a step after the return."""

        def __init__(self, stop=None):
            self.done, self.stop, self.said = False, stop, []

        def started(self, facts):
            self.net = facts.network

        def stepped(self, progress):
            if progress.step == 13 and not self.done:
                self.done = True
                self.net.params["decoder.bias"][1] = np.nan
            if self.said and progress.step == self.stop:
                raise KeyboardInterrupt

        def rolled_back(self, why, step, factor):
            self.said.append((why, step, factor))

    listener = Poison()
    model = ur.LanguageModel.train(TEXT, out=tmp_path / "a", listener=listener, **SMALL)
    ((why, step, factor),) = listener.said
    assert why == (
        "stopped at step 14: the training loss is not a number; decoder.bias holds values that are not finite"
    )
    assert (step, factor) == (10, 0.5)
    assert np.isfinite(model.network.params["decoder.bias"]).all()
    ur.LanguageModel.train(TEXT, out=tmp_path / "b", listener=Poison(stop=15), **SMALL)
    ur.LanguageModel.resume(tmp_path / "b", TEXT)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert next(e for e in run.metrics(tmp_path / "a") if "rolled_back" in e)["rate_factor"] == 0.5
    assert [e["step"] for e in run.metrics(tmp_path / "a")] == [e["step"] for e in run.metrics(tmp_path / "b")]


def test_patience_stops_after_so_many_worse_validations(tmp_path):
    options = SMALL | {"patience": 3, "epochs": 50, "dropout": 0.0, "learning_rate": 5.0}
    result = ur.LanguageModel.train(TEXT, out=tmp_path / "two", optimizer="sgd", **options).result
    losses = [e.val_loss for e in result.history]
    assert len(losses) == int(np.argmin(losses)) + 4
    assert result.epochs < 50


# --- what can't go on -------------------------------------------------------------------------------------------------


def damage(folder, how):
    path = folder / CHECKPOINT
    data = path.read_bytes()
    if how == "cut off":
        path.write_bytes(data[: len(data) // 2])
    elif how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a model":
        shutil.copy(folder / MODEL, path)
    else:
        content, arrays = checkpoint.load_run(path, lambda content, layout: content)
        if how == "another network":
            arrays["now.network.decoder.bias"] = arrays["now.network.decoder.bias"][:-1]
        elif how == "another optimiser":
            arrays = {name: a for name, a in arrays.items() if "optimizer.v" not in name}
        elif how == "newer":
            content["format"] = 9
        elif how == "no schedule":
            del content["now"]["schedule"]
        elif how == "odd option":
            content["options"]["hiden_size"] = 3
        checkpoint.save_run(path, arrays, content)


DAMAGES = {
    "cut off": "cut off|is damaged",
    "missing": "holds no run to go on with: checkpoint.safetensors is missing",
    "empty": "is not an unrolled checkpoint of a run: it has 0 bytes",
    "a model": "is a safetensors file, but not an unrolled checkpoint of a run",
    "another network": r"network.decoder.bias is float32 \(\d+,\); expected float32 .* another network",
    "another optimiser": "the state is not one of adam for these parameters",
    "newer": "has format 9, this version of unrolled reads up to 1: update unrolled",
    "no schedule": "the training state makes no sense: KeyError 'schedule'",
    "odd option": "no option is called 'hiden_size'; did you mean 'hidden_size'",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_one_line_and_nothing_is_overwritten(whole, tmp_path, how):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    damage(folder, how)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ur.UnrolledError, match=DAMAGES[how]) as caught:
        ur.LanguageModel.resume(folder, TEXT)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_every_flipped_bit_is_found(whole, tmp_path):
    data, rng = (whole / CHECKPOINT).read_bytes(), np.random.default_rng(3)
    path = tmp_path / CHECKPOINT
    for at in [*range(0, 64), *rng.integers(0, len(data), 200)]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(ur.UnrolledError):
            checkpoint.load_run(path, lambda content, layout: content)


def test_a_changed_text_is_refused(whole):
    for text, message in [
        (TEXT.replace("wife", "wize"), "trained on: the text has 1 symbol .* doesn't know: 'z'"),
        (TEXT.replace("wife", "fiew"), "it has 1,700 symbols, another content. Give the old text, or start a new run"),
        (TEXT[:-5], "it has 1,695 symbols, it had 1,700"),
    ]:
        with pytest.raises(ur.UnrolledError, match=message):
            ur.LanguageModel.resume(whole, text)
    with pytest.raises(ur.UnrolledError, match=r"the text of .* was no file; give it again"):
        ur.LanguageModel.resume(whole)
    with pytest.raises(ur.UnrolledError, match=r"hidden_size can't change when a run goes on"):
        ur.LanguageModel.resume(whole, TEXT, hidden_size=3)
    with pytest.raises(ur.UnrolledError, match=r"holds a model already; choose another"):
        ur.LanguageModel.train(TEXT, out=whole, **SMALL)


def test_a_removed_folder_ends_the_run_in_one_line(tmp_path):
    class Remove(Listener):
        def stepped(self, progress):
            if progress.step == 5:
                shutil.rmtree(tmp_path / "run")

    with pytest.raises(ur.UnrolledError, match=r"^can't write .*: No such file or directory"):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", listener=Remove(), **SMALL)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    real = os.fsync

    class Full(Listener):
        def stepped(self, progress):
            if progress.step == 12:
                monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))

    with pytest.raises(ur.UnrolledError, match=r"^can't write .*\.(safetensors|jsonl): No space left"):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", listener=Full(), **SMALL)
    monkeypatch.setattr(os, "fsync", real)
    assert run.reopen(tmp_path / "run")[0][1]["now"]["step"] == 10
    assert not list((tmp_path / "run").glob("*.part"))
    ur.LanguageModel.resume(tmp_path / "run", TEXT)


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MB of its own, in memory."""
    mount = shutil.which("mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True) if mount else None
    if done is None or done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


class At(Listener):
    """Does something after a step, once."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def stepped(self, progress):
        if progress.step == self.step:
            self.what()


def fill(folder):
    """Write until there is no space at all."""
    with open(folder / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"0" * 512):
            pass


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_no_more_leaves_the_last_checkpoint(whole, disk, how):
    out = disk / "run"

    def remount(mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)

    spoil = (lambda: fill(disk)) if how == "full" else (lambda: remount("ro"))
    message = "No space left on device" if how == "full" else "Read-only file system"
    with pytest.raises(ur.UnrolledError, match=rf"^can't write .*: {message}") as caught:
        ur.LanguageModel.train(TEXT, out=out, listener=At(12, spoil), **SMALL)
    assert "\n" not in str(caught.value)
    (disk / "filler").unlink() if how == "full" else remount("rw")
    assert run.reopen(out)[0][1]["now"]["step"] == 10
    assert not list(out.glob("*.part"))
    ur.load(out / MODEL)
    ur.LanguageModel.resume(out, TEXT)
    assert contents(out) == contents(whole)
    assert [e["step"] for e in run.metrics(out)] == [e["step"] for e in run.metrics(whole)]


# --- configuration ----------------------------------------------------------------------------------------------------


def test_a_configuration_comes_back_whole(whole, tmp_path):
    values = run.read_toml(whole / "config.toml")
    options = {k: v for k, v in values.items() if k not in run.TEXT_KEYS}
    assert Options.of(options) == Options.of(SMALL)
    about = json.loads((whole / "run.json").read_text())
    assert about["versions"]["numpy"] == np.__version__
    assert about["text"]["symbols"] == len(TEXT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell = 'lstm'\nhiden_size = 3", "line 2: no option is called 'hiden_size'; did you mean 'hidden_size'?"),
        ("\n\nepochs = 'many'", "line 3: epochs is 'many'; it must be a number"),
        ("hidden_size = 3.5", "line 1: hidden_size is 3.5; it must be a whole number"),
        ("cell = lstm", "the configuration is not TOML: Invalid value (at line 1, column 8)"),
        ("\n[network]\ncell = 'lstm'", "line 2: no option is called 'network'"),
        ("files = 'book.txt'", "line 1: files is 'book.txt'; it must be a list of names"),
    ],
)
def test_a_wrong_configuration_names_the_line(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ur.UnrolledError, match=re.escape(message)):
        run.read_toml(tmp_path / "c.toml")


def command(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "unrolled", "train", *map(str, args)], cwd=cwd, capture_output=True, text=True
    )


def test_the_command_takes_a_configuration_and_resumes(tmp_path):
    (tmp_path / "a book.txt").write_text(TEXT)
    options = {k: v for k, v in SMALL.items() if k != "epochs"}
    (tmp_path / "c.toml").write_text(run.to_toml(Options(**options), ["a book.txt"]).replace("epochs = 50.0\n", ""))
    done = command("--config", "c.toml", "--epochs", 1, "--out", "one run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next       unrolled sample 'one run/model.safetensors'" in done.stdout
    done = command("--resume", "one run", "--epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed    at step" in done.stdout
    done = command("--resume", "one run", "--hidden-size", 2, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "unrolled: --resume goes on with the options of the run; leave out --hidden-size\n",
    )
    (tmp_path / "c.toml").write_text("\nhidden_size = true\n")
    done = command("--config", "c.toml", "a book.txt", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "unrolled: c.toml, line 2: hidden_size is True; it must be a whole number\n",
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_30_moments_it_ends_in_the_same_bytes(tmp_path):
    """SIGKILL at moments spread over the run's measured duration; every third waits for a write."""
    (tmp_path / "book.txt").write_text(TEXT * 20)
    options = SMALL | {"hidden_size": 96, "checkpoint_every": 4, "eval_every": 50, "epochs": 0.5}
    (tmp_path / "c.toml").write_text(run.to_toml(Options(**options), ["book.txt"]))
    start = [sys.executable, "-m", "unrolled", "train", "--config", "c.toml", "--out"]
    begun = time.monotonic()
    subprocess.run([*start, "whole"], cwd=tmp_path, check=True, capture_output=True)
    duration = time.monotonic() - begun
    live = inside = 0
    for n in range(30):
        name = f"killed-{n}"
        process = subprocess.Popen([*start, name], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while not (tmp_path / name / CHECKPOINT).exists() and process.poll() is None:
            time.sleep(0.002)  # before its first checkpoint there is no run
        waited = time.monotonic() - begun
        time.sleep(max(0.0, (duration - waited) * (n + 0.5) / 30))
        while n % 3 == 0 and process.poll() is None and not list((tmp_path / name).glob("*.part")):
            pass
        process.send_signal(signal.SIGKILL)
        live += process.wait() == -signal.SIGKILL
        inside += bool(list((tmp_path / name).glob("*.part")))
        resumed = subprocess.run(
            [sys.executable, "-m", "unrolled", "train", "--resume", name], cwd=tmp_path, capture_output=True, text=True
        )
        assert resumed.returncode == 0, resumed.stderr
        assert contents(tmp_path / name) == contents(tmp_path / "whole"), f"kill {n}"
    print(f"{live} of 30 kills hit a live run of {duration:.1f} s, {inside} inside a write")
    assert live >= 25
    assert inside >= 5


class Told(Listener):
    """Keeps what a run says at its start."""

    def started(self, facts):
        self.minutes = facts.options.minutes


def test_a_resumed_run_keeps_its_time_limit(tmp_path):
    """Minutes count from the first start; a run that has had them says so, and goes on with more."""
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", listener=Stop("step", 3), **SMALL | {"minutes": 1000.0})
    told = Told()
    ur.LanguageModel.resume(tmp_path / "a", TEXT, listener=told)
    assert told.minutes == 1000.0
    brief = ur.LanguageModel.train(TEXT, out=tmp_path / "b", **SMALL | {"minutes": 1e-9})
    assert brief.result.steps == 1
    said = f"^the run in {re.escape(str(tmp_path / 'b'))} has had its 1e-09 minutes; --minutes gives it more in all$"
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.resume(tmp_path / "b", TEXT)
    longer = ur.LanguageModel.resume(tmp_path / "b", TEXT, minutes=1000.0)
    assert longer.result.epochs == SMALL["epochs"]
