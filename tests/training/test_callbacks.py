"""A callback may end a run, which is then whole: validated, saved, and able to go on."""

from types import SimpleNamespace

import numpy as np
import pytest

import unrolled as ur
from unrolled.training.callbacks import Callback, tell
from unrolled.training.trainer import LAST

TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 20
SMALL = {"hidden_size": 8, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 20, "epochs": 1}
SMALL |= {"eval_every": 4, "sample_length": 0, "dropout": 0.3}


class EndAt(Callback):
    """Ends the run in a call of one kind, at a step or after."""

    def __init__(self, kind, step):
        self.kind, self.step = kind, step
        self.heard = []

    def stepped(self, progress):
        self.heard.append("stepped")
        return self.kind == "stepped" and progress.step >= self.step

    def evaluated(self, evaluation, best):
        self.heard.append("evaluated")
        return self.kind == "evaluated" and evaluation.step >= self.step


@pytest.mark.parametrize(("kind", "step", "ends"), [("stepped", 6, 6), ("evaluated", 6, 8)])
def test_a_run_that_a_callback_ends_is_whole(tmp_path, kind, step, ends):
    callback = EndAt(kind, step)
    result = ur.LanguageModel.train(TEXT, out=tmp_path / "run", callbacks=[callback, Callback()], **SMALL).result
    assert (result.steps, result.interrupted) == (ends, False)
    assert callback.heard[-2:] == ["stepped", "evaluated"]
    assert result.history[-1].step == ends
    again = ur.LanguageModel.resume(tmp_path / "run", source=TEXT)
    whole = ur.LanguageModel.train(TEXT, out=tmp_path / "whole", **SMALL)
    assert again.result.steps == whole.result.steps > ends
    assert (tmp_path / "run" / LAST).read_bytes() == (tmp_path / "whole" / LAST).read_bytes()


def test_a_callback_may_end_a_run_that_has_diverged():
    class Once(EndAt):
        def rolled_back(self, why, step, factor):
            self.heard.append("rolled_back")
            return True

    once, wild = Once("never", 0), {"optimizer": "sgd", "learning_rate": 1e30, "grad_clip": 0.0}
    result = ur.LanguageModel.train(TEXT, callbacks=[once], **SMALL | wild).result
    assert (result.steps, result.interrupted) == (0, False)  # where the last good checkpoint was
    assert once.heard.count("rolled_back") == 1
    assert once.heard[-1] == "rolled_back"


def test_all_are_told_whoever_ends_the_run():
    callbacks = [EndAt("stepped", 1), EndAt("evaluated", 9)]
    assert tell(callbacks, "stepped", SimpleNamespace(step=np.int64(1)))  # and True may be NumPy's
    assert [callback.heard for callback in callbacks] == [["stepped"]] * 2
    assert not tell([Callback()], "saved", 1)
