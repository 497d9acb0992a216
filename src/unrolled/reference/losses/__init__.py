"""Losses and their gradients: of classes, of numbers, of sequences, and what a network's outputs cost beside them."""

from ..crf import crf, marginals, viterbi
from .classes import bernoulli, confidence, cross_entropy, log_softmax, sigmoid
from .numbers import check_quantiles, gaussian, huber, log_scale, quantile, squared_error
from .penalties import activation_penalty, temporal_penalty

__all__ = [
    "activation_penalty",
    "bernoulli",
    "check_quantiles",
    "confidence",
    "crf",
    "cross_entropy",
    "gaussian",
    "huber",
    "log_scale",
    "log_softmax",
    "marginals",
    "quantile",
    "sigmoid",
    "squared_error",
    "temporal_penalty",
    "viterbi",
]
