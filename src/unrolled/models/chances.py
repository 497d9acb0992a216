"""What a symbol is drawn from: a model's logits, tempered, penalised, masked, and cut to the likeliest."""

from __future__ import annotations

import math

import numpy as np

from ..checks import NOT_FINITE, Array
from ..drawing import Drawing
from ..errors import UnrolledError
from ..reference.losses import log_softmax  # noqa: F401  (the example's)


def scores(logits: Array, how: Drawing, seen: Array | None = None, allowed: Array | None = None) -> Array:
    """Return float64 scores (V,), 0 the largest and -inf what is left out: softmax(scores) is what is drawn from.

    In this order (temperature and penalty, which both scale, may be exchanged):

    1. temperature: logits / temperature; 0 leaves the likeliest one alone, after 2 and 3
    2. repetition penalty (Keskar et al. 2019): logits of `seen` divided by it above 0, multiplied by it below
    3. mask: what is not `allowed` is left out
    4. top-k: the k likeliest; of equal ones those with lower numbers
    5. top-p (Holtzman et al. 2020): of these, renormalised, the fewest likeliest that sum to top_p or more
    6. min-p (Nguyen et al. 2024): those that have min_p times the probability of the likeliest, or more

    Parameters
    ----------
    logits : (V,)
    how : Drawing
    seen : (V,) bool, optional
        Symbols that the prompt or the text so far has.
    allowed : (V,) bool, optional
        Symbols that the mask takes; at least one.

    Raises
    ------
    UnrolledError
        If a logit is NaN or inf, or none is above -inf.

    Examples
    --------
    >>> logits = np.log([0.5, 0.3, 0.15, 0.05])
    >>> np.exp(log_softmax(scores(logits, Drawing(top_k=2)))).round(4)
    array([0.625, 0.375, 0.   , 0.   ])
    >>> np.exp(log_softmax(scores(logits, Drawing(min_p=0.2), allowed=np.arange(4) > 0))).round(4)
    array([0.    , 0.6667, 0.3333, 0.    ])
    """
    if seen is not None and how.repetition_penalty != 1:
        factor = np.where(logits > 0, 1 / how.repetition_penalty, how.repetition_penalty)
        with np.errstate(over="ignore", invalid="ignore"):
            most = np.finfo(np.float64).max  # a finite logit stays one, whatever the penalty
            logits = np.where(seen & np.isfinite(logits), np.clip(logits * factor, -most, most), logits)
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    peak = logits.max()
    if not np.isfinite(peak):
        raise UnrolledError(NOT_FINITE)
    if how.temperature == 0:
        found = np.full(len(logits), -np.inf)
        found[logits.argmax()] = 0
        return found
    found = np.asarray(logits - peak, np.float64)
    with np.errstate(over="ignore"):
        found /= how.temperature
    if how.top_k is not None or how.top_p is not None:
        _keep_likeliest(found, how.top_k, how.top_p)
    if how.min_p is not None:
        found[found < math.log(how.min_p)] = -np.inf
    return found


def _keep_likeliest(found: Array, top_k: int | None, top_p: float | None) -> None:
    """Set what is beyond the likeliest to -inf."""
    order = np.argsort(-found, kind="stable")
    most = len(found) if top_k is None else top_k
    if top_p is not None:
        sums = np.exp(found[order[:most]]).cumsum()
        most = min(most, int(np.searchsorted(sums, top_p * sums[-1])) + 1)
    found[order[most:]] = -np.inf
