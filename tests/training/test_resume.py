"""A run that is stopped anywhere goes on to the same bytes; what can't go on says why in one line."""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

import unrolled as ur
from unrolled import storage
from unrolled.data.text import Reading
from unrolled.declared import options as declared_options
from unrolled.models import files as checkpoint
from unrolled.models import language_data, language_model, language_run
from unrolled.models.options import Options
from unrolled.training import checkpoints, configuration, metrics_log, trainer
from unrolled.training import run_folder as run
from unrolled.training.callbacks import Callback
from unrolled.training.run_folder import make_folder
from unrolled.training.state import TrainingState
from unrolled.training.trainer import CHECKPOINT, LAST, MODEL

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 20
SMALL = {"hidden_size": 12, "num_layers": 2, "embedding_size": 5, "batch_size": 3, "seq_length": 20, "epochs": 3}
SMALL |= {"dropout": 0.3, "eval_every": 7, "checkpoint_every": 10, "schedule": "plateau", "learning_rate": 0.01}
MODELS = (MODEL, LAST)


class Stop(Callback):
    """Interrupts at the first call of one kind that comes at or after a step."""

    def __init__(self, kind, step):
        self.kind, self.at = kind, step

    def stepped(self, progress):
        if self.kind == "step" and progress.step == self.at:
            raise KeyboardInterrupt

    def evaluated(self, evaluation, best):
        if self.kind == "validation" and evaluation.step >= self.at:
            raise KeyboardInterrupt


def stopped(*args, **options):
    """Train until something interrupts; return the model so far."""
    with pytest.raises(ur.Interrupted) as caught:
        ur.LanguageModel.train(*args, **options)
    return caught.value.model


def reopened(folder):
    return checkpoints.reopen(folder, language_model.KIND)


def said(path):
    """What a checkpoint says, and its arrays."""
    return storage.open_arrays(path, "unrolled_run", "checkpoint of a run", lambda content, layout: content)


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
    assert stopped(TEXT, out=out, callbacks=[Stop(kind, step)], **SMALL).result.interrupted
    model = ur.LanguageModel.resume(out, TEXT)
    assert not model.result.interrupted
    assert contents(out) == contents(whole)
    assert [e["step"] for e in metrics_log.metrics(out)] == [e["step"] for e in metrics_log.metrics(whole)]
    assert [e["val_loss"] for e in metrics_log.metrics(out)] == [e["val_loss"] for e in metrics_log.metrics(whole)]


@pytest.mark.parametrize(
    ("optimizer", "cell"), [("nesterov", "gru_reset_before"), ("adadelta", "rnn_tanh"), ("adamw", "lstm_peephole")]
)
def test_every_rule_and_cell_resumes(tmp_path, optimizer, cell):
    options = SMALL | {"optimizer": optimizer, "cell": cell, "epochs": 1, "embedding_size": 0}
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", **options)
    stopped(TEXT, out=tmp_path / "b", callbacks=[Stop("step", 12)], **options)
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
    "rounded products": {"dtype": "bfloat16"},
    "varied lengths": {"vary_seq_length": True},
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
    stopped(TEXT, out=tmp_path / "b", callbacks=[Stop("step", 44)], **options)
    arrays, content = reopened(tmp_path / "b").snapshot
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
    class First(Callback):
        def stepped(self, progress):
            if progress.step == 1:
                shutil.copytree(tmp_path / "run", tmp_path / "copy")

    ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[First()], **(SMALL | {"sample_length": 0}))
    assert reopened(tmp_path / "copy").step == 0
    ur.LanguageModel.resume(tmp_path / "copy", TEXT)
    assert contents(tmp_path / "copy") == contents(whole)


def test_a_run_goes_on_with_its_own_backend(tmp_path):
    options = SMALL | {"backend": "reference", "epochs": 1}
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", **options)
    stopped(TEXT, out=tmp_path / "b", callbacks=[Stop("step", 12)], **options)
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
    before = reopened(whole).step
    assert ur.LanguageModel.resume(tmp_path / "run", TEXT, epochs=4).result.steps == round(before * 4 / 3)


def test_a_divergence_leads_back_and_resumes_alike(tmp_path):
    class Poison(Callback):
        """Breaks a parameter once after step 13; stops at a step after the return."""

        def __init__(self, stop=None):
            self.done, self.stop, self.said = False, stop, []

        def started(self, facts):
            self.net = facts.model.network

        def stepped(self, progress):
            if progress.step == 13 and not self.done:
                self.done = True
                self.net.params["decoder.bias"][1] = np.nan
            if self.said and progress.step == self.stop:
                raise KeyboardInterrupt

        def rolled_back(self, why, step, factor):
            self.said.append((why, step, factor))

    poison = Poison()
    model = ur.LanguageModel.train(TEXT, out=tmp_path / "a", callbacks=[poison], **SMALL)
    ((why, step, factor),) = poison.said
    assert why == (
        "stopped at step 14: the training loss is not a number; decoder.bias holds values that are not finite"
    )
    assert (step, factor) == (10, 0.5)
    assert np.isfinite(model.network.params["decoder.bias"]).all()
    stopped(TEXT, out=tmp_path / "b", callbacks=[Poison(stop=15)], **SMALL)
    ur.LanguageModel.resume(tmp_path / "b", TEXT)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert next(e for e in metrics_log.metrics(tmp_path / "a") if "rolled_back" in e)["rate_factor"] == 0.5
    assert [e["step"] for e in metrics_log.metrics(tmp_path / "a")] == [
        e["step"] for e in metrics_log.metrics(tmp_path / "b")
    ]


BRIEF = SMALL | {"epochs": 0.7, "hidden_size": 5, "num_layers": 1, "checkpoint_every": 5, "eval_every": 3}
BRIEF |= {"sample_length": 0, "schedule": "constant"}


class Spoil(Callback):
    """Breaks a parameter once after step 13, wherever the run began, and may stop at a call of one kind."""

    def __init__(self, kind=None, at=0, spoilt=False):
        self.kind, self.at, self.spoilt, self.back = kind, at, spoilt, []

    def started(self, facts):
        self.net = facts.model.network

    def stepped(self, progress):
        if self.kind == "before" and progress.step == self.at and not self.spoilt:
            raise KeyboardInterrupt
        if progress.step == 13 and not self.spoilt:
            self.spoilt = True
            self.net.params["decoder.bias"][1] = np.nan
        elif self.kind == "after" and progress.step == self.at and self.back:
            raise KeyboardInterrupt

    def evaluated(self, evaluation, best):
        if self.kind == "validation" and evaluation.step == self.at and not self.spoilt:
            raise KeyboardInterrupt

    def rolled_back(self, why, step, factor):
        self.back.append(step)


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """The folder of a run that diverged at step 14, and that nothing stopped."""
    folder, spoil = tmp_path_factory.mktemp("spoilt"), Spoil()
    assert ur.LanguageModel.train(TEXT, out=folder, callbacks=[spoil], **BRIEF).result.steps == 19
    assert spoil.back == [10]
    return folder


SOME = [("before", 4), ("before", 5), ("before", 10), ("after", 11), ("after", 15), ("validation", 9)]
EVERY = [("before", at) for at in range(1, 13)] + [("after", at) for at in range(11, 19)]
EVERY += [("validation", at) for at in range(3, 13, 3)]


@pytest.mark.parametrize(("kind", "at"), [*SOME, *(pytest.param(*e, marks=pytest.mark.slow) for e in EVERY)])
def test_a_stop_at_any_step_does_not_change_what_a_divergence_leads_back_to(spoilt, tmp_path, kind, at):
    stopped(TEXT, out=tmp_path, callbacks=[Spoil(kind, at)], **BRIEF)
    again = Spoil(spoilt=kind == "after")
    ur.LanguageModel.resume(tmp_path, TEXT, callbacks=[again])
    assert again.back == ([] if kind == "after" else [10])
    assert contents(tmp_path) == contents(spoilt)
    assert [e["step"] for e in metrics_log.metrics(tmp_path)] == [e["step"] for e in metrics_log.metrics(spoilt)]


def test_a_signal_while_a_divergence_leads_back_loses_nothing_of_its_line(spoilt, tmp_path, monkeypatch):
    inner = TrainingState.restore

    def restore(self, *args):
        signal.raise_signal(signal.SIGINT)
        return inner(self, *args)

    monkeypatch.setattr(TrainingState, "restore", restore)
    stopped(TEXT, out=tmp_path, callbacks=[Spoil()], **BRIEF)
    monkeypatch.undo()
    ur.LanguageModel.resume(tmp_path, TEXT, callbacks=[Spoil(spoilt=True)])
    assert contents(tmp_path) == contents(spoilt)
    found, expected = ([(e["step"], e.get("rolled_back")) for e in metrics_log.metrics(f)] for f in (tmp_path, spoilt))
    assert found == expected


def test_patience_stops_after_so_many_worse_validations(tmp_path):
    options = SMALL | {"patience": 3, "epochs": 50, "dropout": 0.0, "learning_rate": 5.0}
    result = ur.LanguageModel.train(TEXT, out=tmp_path / "two", optimizer="sgd", **options).result
    losses = [e.val_loss for e in result.history]
    assert len(losses) == int(np.argmin(losses)) + 4
    assert result.epochs < 50


# --- what is asked for anew -------------------------------------------------------------------------------------------


def test_a_run_goes_on_with_a_new_rate_and_says_so_everywhere(tmp_path):
    class Rates(Callback):
        def __init__(self):
            self.seen = []

        def stepped(self, progress):
            self.seen.append(progress.rate)

    out, rates = tmp_path / "run", Rates()
    stopped(TEXT, out=out, callbacks=[Stop("step", 12)], **SMALL)
    anew = {"learning_rate": 0.003, "schedule": "cosine", "epochs": 1.0, "patience": 9, "checkpoint_every": 4}
    ur.LanguageModel.resume(out, TEXT, callbacks=[rates], **anew)
    total = 27
    expected = [0.003 * (1 + np.cos(np.pi * n / total)) / 2 for n in range(12, total)]
    np.testing.assert_allclose(rates.seen, expected, rtol=1e-12)
    config = configuration.read_toml(out / run.CONFIG, Options, Reading)
    assert {name: config[name] for name in anew} == anew
    assert Options(
        **{k: v for k, v in config.items() if k not in (*configuration.PATHS, *declared_options(Reading))}
    ) == Options(**(SMALL | anew))
    assert reopened(out).options == Options(**(SMALL | anew))
    (entry,) = json.loads((out / run.ABOUT).read_text())["resumed"]
    assert (entry["step"], entry["options"]) == (12, anew)
    (line,) = [e for e in metrics_log.metrics(out) if "anew" in e]
    assert line == {"step": 12, "anew": anew}


def test_what_is_asked_for_anew_is_kept_from_the_first_moment(tmp_path):
    out = tmp_path / "run"
    stopped(TEXT, out=out, callbacks=[Stop("step", 12)], **SMALL)
    with pytest.raises(ur.Interrupted):  # at its very first step
        ur.LanguageModel.resume(out, TEXT, callbacks=[Stop("step", 13)], learning_rate=0.003)
    assert reopened(out).options.learning_rate == 0.003
    rollbacks = reopened(out).states["now"]["rollbacks"]
    assert (rollbacks, configuration.read_toml(out / run.CONFIG, Options, Reading)["learning_rate"]) == (0, 0.003)
    (out / run.CONFIG).unlink()  # as if it had been killed before it wrote this
    ur.LanguageModel.resume(out, TEXT)
    assert configuration.read_toml(out / run.CONFIG, Options, Reading)["learning_rate"] == 0.003


def test_another_machine_or_version_is_said(whole, tmp_path, monkeypatch):
    class Notes(Callback):
        def started(self, facts):
            self.notes = facts.notes

    shutil.copytree(whole, tmp_path / "run")
    real = run.made_with
    monkeypatch.setattr(run, "made_with", lambda *a: real(*a) | {"numpy": "9.9", "instruction set": "abacus"})
    notes = Notes()
    ur.LanguageModel.resume(tmp_path / "run", TEXT, callbacks=[notes])
    set_ = reopened(whole).made_with["instruction set"]
    assert notes.notes[-1] == (
        f"numpy {np.__version__} until now, 9.9 from here on; instruction set {set_} until now, abacus from here on: "
        "the numbers may be rounded differently"
    )
    again = Notes()
    monkeypatch.setattr(run, "made_with", real)
    ur.LanguageModel.resume(whole, TEXT, callbacks=[again])
    assert not again.notes


def test_no_program_called_uname_is_asked(tmp_path, monkeypatch):
    (tmp_path / "uname").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "uname").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ur.LanguageModel.train(TEXT, out=tmp_path / "run", **BRIEF)
    assert not (tmp_path / "asked").exists()


# --- the folder -------------------------------------------------------------------------------------------------------


def test_what_a_run_writes_is_what_it_looks_for(whole, tmp_path):
    assert {path.name for path in whole.iterdir()} == set(run.FILES)
    for name in run.FILES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text("mine")
        what = "a model" if name.endswith(".safetensors") else name
        message = f"^{re.escape(str(folder))} holds {what} already; choose another --out, or --overwrite it$"
        with pytest.raises(ur.UnrolledError, match=message):
            ur.LanguageModel.train(TEXT, out=folder, **BRIEF)
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "mine")]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / run.CONFIG).symlink_to("nowhere")
    with pytest.raises(ur.UnrolledError, match=r"holds config\.toml already"):
        ur.LanguageModel.train(TEXT, out=tmp_path / "linked", **BRIEF)


def test_the_folder_is_held_before_the_text_is_read(tmp_path, monkeypatch):
    pytest.importorskip("fcntl", reason="Windows has no such locks")
    looked = []

    def other(*args, **how):
        with pytest.raises(
            ur.UnrolledError, match=r"^another process is training in .*; choose another --out, or wait$"
        ):
            ur.LanguageModel.train(TEXT, out=tmp_path / "run", **BRIEF)
        looked.append(True)
        return real(*args, **how)

    real = language_data.vocabulary_of
    monkeypatch.setattr(language_data, "vocabulary_of", other)
    ur.LanguageModel.train(TEXT, out=tmp_path / "run", **BRIEF)
    assert looked


class Refuse(Callback):
    """A callback whose first word fails."""

    def started(self, facts):
        raise ur.UnrolledError("no")


@pytest.mark.parametrize(
    ("options", "callback"),
    [({}, Refuse()), ({"zoneout": 1.5}, None), ({"batch_size": 999}, None), ({"hidden_size": 10**12}, None)],
)
def test_a_run_that_cannot_start_leaves_nothing_behind(whole, tmp_path, options, callback):
    out = tmp_path / "a" / "b"
    with pytest.raises(ur.UnrolledError):
        ur.LanguageModel.train(TEXT, out=out, callbacks=[callback], **BRIEF | options)
    assert list(tmp_path.iterdir()) == []
    shutil.copytree(whole, tmp_path / "old")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    with pytest.raises(ur.UnrolledError):
        ur.LanguageModel.train(TEXT, out=tmp_path / "old", overwrite=True, callbacks=[callback], **BRIEF | options)
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "inside"), [(kind, n) for kind in ("a link to nowhere", "a link to a file", "a file") for n in (0, 1, 2)]
)
def test_what_is_in_the_way_of_a_folder_is_named(tmp_path, kind, inside):
    there = tmp_path / "book"
    (tmp_path / "text").write_text("text")
    if kind == "a file":
        there.write_text("text")
    else:
        there.symlink_to(tmp_path / ("text" if kind == "a link to a file" else "not mounted"))
    folder = there.joinpath(*["x", "y"][:inside])
    with pytest.raises(ur.UnrolledError) as caught:
        make_folder(folder)
    assert str(caught.value) == f"can't make the folder {folder}: {there} is {kind}; move it away first"
    if not inside:
        assert make_folder(there, new=True).name == "book-2"


@pytest.mark.parametrize("name", run.FILES)
def test_what_can_t_be_read_stops_a_run_before_it_goes_on(whole, tmp_path, monkeypatch, name):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    asked = os.access  # which lets root read anything
    monkeypatch.setattr(os, "access", lambda path, how: os.path.basename(path) != name and asked(path, how))
    with pytest.raises(ur.UnrolledError) as caught:
        ur.LanguageModel.resume(out, TEXT, epochs=4)
    assert str(caught.value) == f"can't train in {out}: {name} there can't be read; move it away first"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


class During(Callback):
    """Sends a signal at a step, in a place of the loop of which a callback knows nothing."""

    def __init__(self, monkeypatch, step, owner, name):
        self.told, self.last, inner = [], 0, getattr(owner, name)

        def signalled(*args, **options):
            if self.last == step:
                signal.raise_signal(signal.SIGINT)
            return inner(*args, **options)

        monkeypatch.setattr(owner, name, signalled)

    def stepped(self, progress):
        self.last = progress.step


@pytest.mark.parametrize(
    ("owner", "name"), [(language_run, "evaluate"), (checkpoint, "save")], ids=["evaluate", "save the best one"]
)
def test_a_signal_during_a_validation_loses_nothing_of_its_line(whole, tmp_path, monkeypatch, owner, name):
    out = tmp_path / "run"
    stopped(TEXT, out=out, callbacks=[During(monkeypatch, 14, owner, name)], **SMALL)
    monkeypatch.undo()
    ur.LanguageModel.resume(out, TEXT)
    expected, found = metrics_log.metrics(whole), metrics_log.metrics(out)
    assert [entry["step"] for entry in found] == [entry["step"] for entry in expected]
    for here, there in zip(found, expected, strict=True):
        assert here.keys() == there.keys()
        assert [here[key] for key in ("rate", "best", "val_loss")] == [
            there[key] for key in ("rate", "best", "val_loss")
        ]
        assert here["symbols_per_second"] > 0


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
def test_metrics_that_became_a_link_are_not_written_through(tmp_path):
    class Swap(Callback):
        def stepped(self, progress):
            if progress.step == 2:
                (tmp_path / "run" / metrics_log.METRICS).unlink()
                (tmp_path / "run" / metrics_log.METRICS).symlink_to(tmp_path / "precious")

    (tmp_path / "precious").write_text("mine")
    message = r"^can't write .*metrics\.jsonl: it is a link now; the run is saved$"
    with pytest.raises(ur.UnrolledError, match=message):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[Swap()], **BRIEF)
    assert (tmp_path / "precious").read_text() == "mine"
    assert reopened(tmp_path / "run").step == 3  # what had been learnt is not lost


@pytest.mark.parametrize("how", ["overwrite", "resume"])
@pytest.mark.parametrize("name", run.FILES)
def test_what_no_file_can_replace_is_said_before_anything_is_written(whole, tmp_path, name, how):
    """A folder, or for lines of metrics a link: the run that is there stays as it is, and so does what is linked to."""
    folder, precious = tmp_path / "run", tmp_path / "precious"
    shutil.copytree(whole, folder)
    precious.write_text("mine")
    (folder / name).unlink()
    if name == metrics_log.METRICS:
        (folder / name).symlink_to(precious)
    else:
        (folder / name).mkdir()
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    message = rf"run: {re.escape(name)} there is (a link|no file); move it away first$|Is a directory$"
    call = {
        "resume": lambda: ur.LanguageModel.resume(folder, TEXT, epochs=4),
        "overwrite": lambda: ur.LanguageModel.train(TEXT, out=folder, overwrite=True, **BRIEF),
    }
    with pytest.raises(ur.UnrolledError, match=message):
        call[how]()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert precious.read_text() == "mine"


def test_a_damaged_line_of_metrics_is_set_aside_and_the_run_goes_on(whole, tmp_path):
    class Notes(Callback):
        def started(self, facts):
            self.notes = facts.notes

    folder, notes = tmp_path / "run", Notes()
    shutil.copytree(whole, folder)
    lines = (folder / metrics_log.METRICS).read_bytes().splitlines(keepends=True)
    (folder / metrics_log.METRICS).write_bytes(b"".join([lines[0], b"\xff\n", *lines[1:], b'{"step": {}}\n']))
    ur.LanguageModel.resume(folder, TEXT, callbacks=[notes])
    assert notes.notes == ("2 damaged lines of metrics.jsonl set aside in metrics.jsonl.damaged",)
    assert (folder / metrics_log.METRICS).read_bytes().splitlines(keepends=True) == lines
    assert (folder / metrics_log.DAMAGED).read_bytes() == b'\xff\n{"step": {}}\n'


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
        content, arrays = storage.open_arrays(
            path, "unrolled_run", "checkpoint of a run", lambda content, layout: content
        )
        if how == "another network":
            arrays |= {"now.network.decoder.bias": np.array(arrays["now.network.decoder.bias"])[:-1]}
        elif how == "another optimiser":
            arrays = {name: a for name, a in arrays.items() if "optimizer.v" not in name}
        elif how == "newer":
            content["format"] = 9
        elif how == "no schedule":
            del content["now"]["schedule"]
        elif how == "odd option":
            content["options"]["hiden_size"] = 3
        storage.write_arrays(path, "unrolled_run", arrays, content)


DAMAGES = {
    "cut off": "cut off|is damaged",
    "missing": "holds no run to go on with: checkpoint.safetensors is missing",
    "empty": "is not an unrolled checkpoint of a run: it has 0 bytes",
    "a model": "is a safetensors file, but not an unrolled checkpoint of a run",
    "another network": r"now.network.decoder.bias has shape \(\d+,\); this network takes \(\d+,\)",
    "another optimiser": r"the arrays do not fit this network; missing: (now|good)\.optimizer\.v\.",
    "newer": "has format 9, this version of unrolled reads up to 2: update unrolled",
    "no schedule": "checkpoint.safetensors: now has no entry schedule",
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


@pytest.mark.skipif(os.name != "posix", reason="links are for administrators on Windows")
def test_a_checkpoint_that_can_not_be_looked_at_is_not_called_missing(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / CHECKPOINT).unlink()
    (tmp_path / "run" / CHECKPOINT).symlink_to(CHECKPOINT)
    with pytest.raises(ur.UnrolledError, match=r"^can't read the checkpoint of a run .*: Too many levels of symbolic"):
        ur.LanguageModel.resume(tmp_path / "run", TEXT)


def test_every_flipped_bit_is_found(whole, tmp_path):
    data, rng = (whole / CHECKPOINT).read_bytes(), np.random.default_rng(3)
    path = tmp_path / CHECKPOINT
    for at in [*range(0, 64), *rng.integers(0, len(data), 200)]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        with pytest.raises(ur.UnrolledError):
            storage.open_arrays(path, "unrolled_run", "checkpoint of a run", lambda content, layout: content)


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
    class Remove(Callback):
        def stepped(self, progress):
            if progress.step == 5:
                shutil.rmtree(tmp_path / "run")

    with pytest.raises(ur.UnrolledError, match=r"^can't write .*: No such file or directory"):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[Remove()], **SMALL)


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    real = os.fsync

    class Full(Callback):
        def stepped(self, progress):
            if progress.step == 12:
                monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))

    with pytest.raises(ur.UnrolledError, match=r"^can't write .*\.(safetensors|jsonl): No space left"):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[Full()], **SMALL)
    monkeypatch.setattr(os, "fsync", real)
    assert reopened(tmp_path / "run").step == 10
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


class At(Callback):
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
        ur.LanguageModel.train(TEXT, out=out, callbacks=[At(12, spoil)], **SMALL)
    assert "\n" not in str(caught.value)
    (disk / "filler").unlink() if how == "full" else remount("rw")
    assert reopened(out).step == 10
    assert not list(out.glob("*.part"))
    ur.load(out / MODEL)
    ur.LanguageModel.resume(out, TEXT)
    assert contents(out) == contents(whole)
    assert [e["step"] for e in metrics_log.metrics(out)] == [e["step"] for e in metrics_log.metrics(whole)]


# --- configuration ----------------------------------------------------------------------------------------------------


def test_a_configuration_comes_back_whole(whole, tmp_path):
    values = configuration.read_toml(whole / "config.toml", Options, Reading)
    options = {k: v for k, v in values.items() if k not in (*configuration.PATHS, *declared_options(Reading))}
    assert Options(**options) == Options(**SMALL)
    about = json.loads((whole / "run.json").read_text())
    assert about["made_with"]["numpy"] == np.__version__
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
        ("\nseq_length = 0", "line 2: seq_length is 0; it must be a whole number, 1 or more"),
        ("lower = true\nforget_bias = inf", "line 2: forget_bias is inf; it must be a number from -1,000 to 1,000"),
        ("accumulate = 4\nlr_decay = 1.5", "line 2: lr_decay is 1.5; it must be above 0 and at most 1"),
        (f"seed = {'9' * 5000}", "c.toml: the configuration has a number of too many digits"),
        (f"""{'"a b".' * 50}b = 1""", "c.toml: the configuration has a key of many parts; options have plain names"),
        (f"{'k' * 300_000} = 1", "line 1: no option is called"),  # soon: its length is looked at once
        (f"{'a.' * 50}b = 1", "c.toml: the configuration has a key of many parts; options have plain names"),
    ],
)
def test_a_wrong_configuration_names_the_line(tmp_path, text, message):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ur.UnrolledError, match=re.escape(message)):
        configuration.read_toml(tmp_path / "c.toml", Options, Reading)


def command(*args, cwd):
    return subprocess.run(
        [sys.executable, "-m", "unrolled", "train", *map(str, args)], cwd=cwd, capture_output=True, text=True
    )


def test_the_command_takes_a_configuration_and_resumes(tmp_path):
    (tmp_path / "a book.txt").write_text(TEXT)
    options = {k: v for k, v in SMALL.items() if k != "epochs"}
    (tmp_path / "c.toml").write_text(
        configuration.to_toml(Options(**options), ["a book.txt"]).replace("epochs = 50.0\n", "")
    )
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
    """SIGKILL after 0 to 27 further checkpoints, at any moment then; every third waits for a write."""
    (tmp_path / "book.txt").write_text(TEXT * 20)
    options = SMALL | {"hidden_size": 96, "checkpoint_every": 4, "eval_every": 50, "epochs": 0.5}
    (tmp_path / "c.toml").write_text(configuration.to_toml(Options(**options), ["book.txt"]))
    start = [sys.executable, "-m", "unrolled", "train", "--config", "c.toml", "--out"]
    subprocess.run([*start, "whole"], cwd=tmp_path, check=True, capture_output=True)

    def checkpoint(name):
        with contextlib.suppress(FileNotFoundError):  # before its first checkpoint there is no run
            return (tmp_path / name / CHECKPOINT).stat().st_mtime_ns
        return None

    live = inside = 0
    for n in range(30):
        name = f"killed-{n}"
        process = subprocess.Popen([*start, name], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = {None}
        while len(seen) < 2 + n % 28 and process.poll() is None:
            seen.add(checkpoint(name))
            time.sleep(0.002)
        time.sleep(0.001 * (n % 7))
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
    print(f"{live} of 30 kills hit a live run, {inside} inside a write")
    # On a busy machine this process may see too few of the checkpoints, and kill too late: that proves nothing wrong.
    assert live >= 10
    assert inside >= 1


class Told(Callback):
    """Keeps what a run says at its start."""

    def started(self, facts):
        self.minutes = facts.options.minutes


def test_a_resumed_run_keeps_its_time_limit(tmp_path):
    """Minutes count from the first start; a run that has had them says so, and goes on with more."""
    stopped(TEXT, out=tmp_path / "a", callbacks=[Stop("step", 3)], **SMALL | {"minutes": 1000.0})
    told = Told()
    ur.LanguageModel.resume(tmp_path / "a", TEXT, callbacks=[told])
    assert told.minutes == 1000.0
    brief = ur.LanguageModel.train(TEXT, out=tmp_path / "b", **SMALL | {"minutes": 1e-9})
    assert brief.result.steps == 1
    said = f"^the run in {re.escape(str(tmp_path / 'b'))} has had its 1e-09 minutes; --minutes gives it more in all$"
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.resume(tmp_path / "b", TEXT)
    longer = ur.LanguageModel.resume(tmp_path / "b", TEXT, minutes=1000.0)
    assert longer.result.epochs == SMALL["epochs"]


def test_a_resumed_run_is_not_given_fewer_epochs_than_it_has_had(tmp_path):
    """It would do nothing, and its configuration would say what it was not; as many as it has had change nothing."""
    had = ur.LanguageModel.train(TEXT, out=tmp_path, **SMALL).result
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    where, epochs = re.escape(str(tmp_path)), SMALL["epochs"]
    said = f"^--epochs {epochs / 2:g} is less than the {epochs:.3g} that the run in {where} has had; give it more in "
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.resume(tmp_path, TEXT, epochs=epochs / 2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    with pytest.raises(ur.UnrolledError, match=rf"^--epochs {epochs - 1e-6} is less than the {epochs:.3g} that"):
        ur.LanguageModel.resume(tmp_path, TEXT, epochs=epochs - 1e-6)
    again = ur.LanguageModel.resume(tmp_path, TEXT, epochs=epochs).result
    assert (again.steps, again.best) == (had.steps, had.best)


class Noted(Callback):
    """What is noted under the label of runs that are over."""

    def __init__(self):
        self.lines = []

    def noted(self, label, line):
        self.lines += [line] if label == "over" else []


def test_a_resumed_run_that_is_over_says_so(tmp_path):
    ur.LanguageModel.train(TEXT, out=tmp_path / "a", **SMALL)
    (told, waited) = Noted(), Noted()
    ur.LanguageModel.resume(tmp_path / "a", TEXT, callbacks=[told])
    assert told.lines == [f"nothing is left to do in {SMALL['epochs']:g} epochs; --epochs gives it more in all"]
    still = {"learning_rate": 1e-30, "patience": 2, "eval_every": 3, "epochs": 50}  # nothing gets better
    steps = ur.LanguageModel.train(TEXT, out=tmp_path / "b", **SMALL | still).result.steps
    assert ur.LanguageModel.resume(tmp_path / "b", TEXT, epochs=60, callbacks=[waited]).result.steps == steps
    said = "nothing is left to do: 2 validations found nothing better; --patience waits for more, 0 for all"
    assert waited.lines == [said]
    more = Noted()
    ur.LanguageModel.resume(tmp_path / "a", TEXT, epochs=SMALL["epochs"] + 1, callbacks=[more])
    assert more.lines == []


class Clock(Callback):
    """A clock that only moves when a step is done: a second each."""

    def __init__(self, monkeypatch, stop=0):
        self.seconds, self.rates, self.stop = 0.0, [], stop
        monkeypatch.setattr(trainer.time, "perf_counter", lambda: self.seconds)

    def stepped(self, progress):
        self.seconds += 1
        self.rates.append(progress.rate)
        if progress.step == self.stop:
            raise KeyboardInterrupt


TIMED = SMALL | {"schedule": "cosine", "learning_rate": 0.25, "epochs": 100, "minutes": 10 / 60}


def test_a_timed_run_anneals_also_where_it_goes_on(tmp_path, monkeypatch):
    """Ten steps of a second in ten seconds: half a cosine over the time, of which the steps are a hundredth."""
    arc = [0.25 * (1 + math.cos(math.pi * n / 10)) / 2 for n in range(10)]
    whole = Clock(monkeypatch)
    model = ur.LanguageModel.train(TEXT, out=tmp_path / "whole", callbacks=[whole], **TIMED)
    assert whole.rates == pytest.approx(arc, rel=1e-14)
    assert model.result.steps == 10
    assert [line["rate"] for line in metrics_log.metrics(tmp_path / "whole")] == [whole.rates[6], whole.rates[9]]
    stop = Clock(monkeypatch, stop=4)
    stopped(TEXT, out=tmp_path / "run", callbacks=[stop], **TIMED)
    rest = Clock(monkeypatch)
    ur.LanguageModel.resume(tmp_path / "run", TEXT, callbacks=[rest])
    assert stop.rates + rest.rates == whole.rates
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_timed_run_goes_on_with_more_minutes_at_the_smaller_share_of_them(tmp_path, monkeypatch):
    ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[Clock(monkeypatch)], **TIMED)
    rest = Clock(monkeypatch)
    ur.LanguageModel.resume(tmp_path / "run", TEXT, callbacks=[rest], minutes=20 / 60)
    assert rest.rates == pytest.approx([0.25 * (1 + math.cos(math.pi * n / 20)) / 2 for n in range(10, 20)], rel=1e-14)


def test_a_time_limit_that_is_not_reached_changes_no_rate(monkeypatch):
    few = TIMED | {"epochs": 1, "minutes": 1000.0}
    limited = Clock(monkeypatch)
    ur.LanguageModel.train(TEXT, callbacks=[limited], **few)
    free = Clock(monkeypatch)
    ur.LanguageModel.train(TEXT, callbacks=[free], **few | {"minutes": None})
    assert limited.rates == free.rates
    assert len(free.rates) > 10


def test_a_configuration_holds_any_path(tmp_path):
    paths = ["/a/b\udcff.txt", "/a/é.txt", "rel\udce9/%41.txt", "/plain %41.txt", "/del\x7f.txt", "-"]
    config = configuration.to_toml(Options(), paths, {"val_file": paths[:1], "test_file": []})
    assert tomllib.loads(config)["files"][0] == "file:///a/b%FF.txt"
    (tmp_path / "c.toml").write_text(config)
    values = configuration.read_toml(tmp_path / "c.toml", Options, Reading)
    assert values["files"] == [*paths[:2], os.path.abspath(paths[2]), *paths[3:]]
    assert values["val_file"] == paths[:1]


@pytest.mark.parametrize("odd", [b"caf\xe9", "語".encode(), b"line\nend"])
def test_a_run_of_any_name_is_made_and_goes_on_where_only_ascii_is_known(tmp_path, odd):
    """Everything that prints a path, in the poorest of environments."""
    name = os.fsencode(tmp_path) + b"/" + odd
    try:
        with open(name + b".txt", "w") as file:
            file.write(TEXT)
    except OSError:
        pytest.skip("this file system takes no such names")
    known = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    sizes = ["--hidden-size", "3", "--num-layers", "1", "--batch-size", "2", "--seq-length", "9"]
    small = [*sizes, "--epochs", "0.1", "--sample-length", "0"]
    commands = [
        ["train", name + b".txt", "--out", name, *small],
        ["train", "--resume", name, "--epochs", "0.2"],
        ["train", "--config", name + b"/config.toml", "--out", name, "--overwrite"],
        ["plot", name],
        ["compare", name, name],
        ["info", name],
        ["sample", name, "--length", "3"],
        ["score", name, name + b".txt"],
    ]
    for command in commands:
        line = [sys.executable, "-W", "error", "-m", "unrolled", *command]
        done = subprocess.run(line, capture_output=True, env=os.environ | known, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), command
    failed = subprocess.run(
        [*line[:5], "train", name + b".none"], capture_output=True, env=os.environ | known, timeout=60
    )
    assert failed.returncode == 2
    assert failed.stderr.count(b"\n") == 1
