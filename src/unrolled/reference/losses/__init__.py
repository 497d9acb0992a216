"""Losses and their gradients: of classes, of numbers, and what a network's outputs cost beside them."""

from .classes import check_targets, confidence, cross_entropy, log_softmax, weighted
from .numbers import squared_error
from .penalties import activation_penalty, temporal_penalty
from .weighing import weighed

__all__ = [
    "activation_penalty",
    "check_targets",
    "confidence",
    "cross_entropy",
    "log_softmax",
    "squared_error",
    "temporal_penalty",
    "weighed",
    "weighted",
]
