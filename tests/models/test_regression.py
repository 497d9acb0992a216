"""A number a sequence is learnt by the same loop: the adding problem, in rows of different lengths."""

from dataclasses import dataclass

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.batches import Batch
from unrolled.models.base import OfNetwork
from unrolled.nn import heads
from unrolled.training.callbacks import Callback
from unrolled.training.options import RunOptions, TrainingOptions
from unrolled.training.trainer import Trainer

SUM = heads.numbers(1, pooling="last")
STEPS, ROWS = 12, 16


class Adding:
    """Batch k: numbers, two of each row marked; their sum is asked at the row's end."""

    carries = False
    targets = 200 * ROWS

    def __len__(self):
        return 200

    def of_epoch(self, seed):
        return self.__getitem__

    def __getitem__(self, k):
        rng = np.random.default_rng([5, k])
        lengths = rng.integers(6, STEPS + 1, ROWS)
        x = np.zeros((STEPS, ROWS, 2), np.float32)
        x[..., 0] = rng.random((STEPS, ROWS))
        marks = rng.permuted(np.tile(np.arange(6), (ROWS, 1)), axis=1)[:, :2].T
        x[marks, np.arange(ROWS), 1] = 1
        y = (x[..., 0] * x[..., 1]).sum(axis=0)
        x[np.arange(STEPS)[:, None] >= lengths] = 99  # padding, which must count nothing
        return Batch(x, y, lengths)


@dataclass(frozen=True)
class Options(RunOptions, TrainingOptions):
    pass


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def evaluated(self, evaluation, best):
        self.seen.append(evaluation.train_loss)


def trained(backend, **options):
    spec = ur.Spec(2, cell="gru_reset_after", embedding_size=0, hidden_size=16, num_layers=1)
    model, losses = OfNetwork(ur.Network(spec, backend=backend, rng=1, head=SUM)), Losses()
    how = Options(batch_size=ROWS, learning_rate=0.02, grad_clip=1.0, sample_length=0, **options)
    rng = np.random.default_rng(1)
    Trainer(model, Adding(), None, how, eval_every=50, callbacks=[losses], rng=rng).run()
    return model, losses.seen


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_sums_are_learnt_and_the_same_seed_gives_the_same_bits(backend):
    (model, losses), (again, _) = (trained(backend, epochs=1.5) for _ in range(2))
    assert losses[-1] < 1 / 60  # a tenth of what the mean of all sums gets
    for name, p in model.params.items():
        assert p.tobytes() == again.params[name].tobytes()


def test_parts_of_a_batch_give_the_same_losses():
    whole, parts = (trained("auto", epochs=0.25, accumulate=n)[1] for n in (1, 4))
    np.testing.assert_allclose(parts, whole, rtol=1e-3)
