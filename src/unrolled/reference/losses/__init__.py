"""Losses and their gradients: of classes, of numbers, and what a network's outputs cost beside them."""

from ..crf import crf
from .classes import bernoulli, check_targets, confidence, cross_entropy, log_softmax, sigmoid, weighted
from .numbers import check_quantiles, gaussian, huber, log_scale, quantile, squared_error
from .penalties import activation_penalty, temporal_penalty
from .weighing import weighed

__all__ = [
    "activation_penalty",
    "bernoulli",
    "check_quantiles",
    "check_targets",
    "confidence",
    "crf",
    "cross_entropy",
    "gaussian",
    "huber",
    "log_scale",
    "log_softmax",
    "quantile",
    "sigmoid",
    "squared_error",
    "temporal_penalty",
    "weighed",
    "weighted",
]
