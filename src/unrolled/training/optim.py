"""The door of what changes parameters, for a loop of one's own: update rules, schedules of their rate, clipping.

>>> import unrolled as ur
>>> net = ur.Network(ur.Spec(vocabulary_size=11, hidden_size=5))
>>> adam, schedule = ur.optim.Adam(net.params), ur.optim.Cosine(0.01, warmup=2, total=100)
>>> loss, grads, _ = net.loss_and_gradients([[0], [1]], [[1], [2]])
>>> norm = ur.optim.clip_by_norm(grads, 5.0)
>>> adam.update(grads, schedule.rate(step=adam.step, epoch=0))
"""

from .clipping import clip_by_norm, clip_by_value, global_norm
from .optimizers import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    Nesterov,
    Optimizer,
    RMSprop,
    make_optimizer,
)
from .schedules import Cosine, Exponential, Plateau, Schedule, Step, make_schedule

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Cosine",
    "Exponential",
    "Momentum",
    "Nesterov",
    "Optimizer",
    "Plateau",
    "RMSprop",
    "Schedule",
    "Step",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
    "make_optimizer",
    "make_schedule",
]
