"""Event files, read back: every figure once, also where a run goes on or is led back."""

import struct
import sys
from contextlib import nullcontext

import numpy as np
import pytest

import unrolled as ur
from unrolled.training import metrics_log
from unrolled.training.callbacks import Callback
from unrolled.training.tensorboard import EVERY

TEXT = "the cat sat on the mat. the dog ate the rat. " * 40
SMALL = {"hidden_size": 6, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 11, "epochs": 1}
SMALL |= {"eval_every": 17, "checkpoint_every": 12, "grad_clip": 0.1, "tensorboard": True}


def records(path):
    """Contents of a file of records: length (8 bytes), its checksum (4), content, its checksum (4)."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + size]
        at += 16 + size


def figures(folder):
    """{tag: {step: value}}, as TensorBoard reads it: the start of a session purges its step and what is after it."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="the extra `tensorboard` is not installed")
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for record in records(path):
            event = event_pb2.Event.FromString(record)
            if event.HasField("session_log"):
                found = {tag: {s: v for s, v in of.items() if s < event.step} for tag, of in found.items()}
            for value in event.summary.value:
                of = found.setdefault(value.tag, {})
                assert event.step not in of, f"{value.tag} of step {event.step} is there twice"
                of[event.step] = value.simple_value
    return found


class Watch(Callback):
    """Remembers every step; may stop the run, or break it once."""

    def __init__(self, stop=None, poison=None):
        self.stop, self.poison, self.seen = stop, poison, {}

    def started(self, facts):
        self.net = facts.model.network

    def stepped(self, progress):
        self.seen[progress.step] = progress
        if progress.step == self.poison:
            self.poison = None
            self.net.params["decoder.bias"][1] = np.nan
        if progress.step == self.stop:
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", ["whole", "resumed", "led back"])
def test_every_figure_is_there_once(tmp_path, how):
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    watch = Watch(stop=33 if how == "resumed" else None, poison=32 if how == "led back" else None)
    with pytest.raises(ur.Interrupted) if how == "resumed" else nullcontext():
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[watch], **SMALL)
    if how == "resumed":
        again = Watch()
        ur.LanguageModel.resume(tmp_path, TEXT, callbacks=[again])
        watch.seen |= again.seen
    assert len(list(tmp_path.glob("events.*"))) == (1 if how == "whole" else 2)
    found, last = figures(tmp_path), max(watch.seen)
    assert last == 52
    told = {
        "loss/training": "loss",
        "learning_rate": "rate",
        "gradient_norm": "gradient_norm",
        "symbols_per_second": "symbols_per_second",
    }
    for tag, name in told.items():
        expected = {step: getattr(watch.seen[step], name) for step in range(EVERY, last + 1, EVERY)}
        assert found[tag] == pytest.approx(expected, rel=1e-7)  # a float32
    assert max(found["gradient_norm"].values()) > 0.1  # before clipping
    losses = {e["step"]: e["val_loss"] for e in metrics_log.metrics(tmp_path) if "val_loss" in e}
    assert list(losses) == [17, 34, 51, 52]
    assert found["loss/validation"] == pytest.approx(losses, rel=1e-7)
    assert found["bits/validation"] == pytest.approx({s: v / np.log(2) for s, v in losses.items()}, rel=1e-7)


def test_a_new_run_in_an_old_folder_purges_the_old_figures(tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    ur.LanguageModel.train(TEXT, out=tmp_path, **SMALL)
    ur.LanguageModel.train(TEXT, out=tmp_path, overwrite=True, **(SMALL | {"epochs": 0.5}))
    assert list(figures(tmp_path)["learning_rate"]) == [10, 20]


def test_what_is_missing_is_said_before_anything_is_made(tmp_path, monkeypatch):
    with pytest.raises(ur.UnrolledError, match=r"^tensorboard writes into the folder of the run: name one \(out\)$"):
        ur.LanguageModel.train(TEXT, **SMALL)
    for name in [name for name in sys.modules if name.startswith("tensorboardX")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(
        ur.UnrolledError, match=r"^event files need tensorboardX: pip install 'unrolled\[tensorboard\]'$"
    ):
        ur.LanguageModel.train(TEXT, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()
