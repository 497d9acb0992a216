"""Clipping: the norm of all gradients together, and what keeps it or each entry within a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from .. import backends
from ..checks import Array, check_floats, is_number
from ..errors import UnrolledError, brief


def global_norm(grads: Mapping[str, Array], backend: str = "auto") -> float:
    """Euclidean norm of all gradients together, summed in float64 in the order of the names.

    Examples
    --------
    >>> global_norm({"a": np.array([3.0]), "b": np.array([4.0])})
    5.0
    """
    grads = check_floats("gradient", grads)
    return backends.choose(backend).norm([grads[name] for name in sorted(grads)])


def clip_by_norm(grads: dict[str, Array], limit: float, backend: str = "auto") -> float:
    """g <- g limit / (norm + 1e-6), in place, where the norm of all together is above `limit` (Pascanu et al. 2013).

    Returns the norm before. If that is not finite, nothing is changed, so that `first_nonfinite` can name the culprit.

    Examples
    --------
    >>> grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    >>> clip_by_norm(grads, 1.0), grads["a"].round(3)
    (5.0, array([0.6]))
    """
    limit, norm = _check_limit(limit, grads), global_norm(grads, backend)
    scale = limit / (norm + 1e-6)  # PyTorch's guard
    if math.isfinite(norm) and scale < 1:
        backends.choose(backend).scale(list(grads.values()), scale)
    return norm


def clip_by_value(grads: dict[str, Array], limit: float, backend: str = "auto") -> float:
    """Cut every entry in place to [-limit, limit] (char-rnn's way); return the norm before.

    If that is not finite, nothing is changed, so that `first_nonfinite` can name the culprit.

    Examples
    --------
    >>> grads = {"a": np.array([3.0, -1.0]), "b": np.array([-6.0])}
    >>> clip_by_value(grads, 2.0) ** 2, grads["a"], grads["b"]
    (46.0, array([ 2., -1.]), array([-2.]))
    """
    limit, norm = _check_limit(limit, grads), global_norm(grads, backend)
    if math.isfinite(norm) and limit < norm:  # no entry is larger than the norm
        for g in grads.values():
            np.clip(g, -limit, limit, out=g)
    return norm


def _check_limit(limit: float, grads: Mapping[str, Array]) -> float:
    """Return the largest norm or entry that stays as it is, as a float; gradients must be what can be changed."""
    for name, g in check_floats("gradient", grads).items():
        if not g.flags.writeable:
            raise UnrolledError(f"gradient {name} is read-only, and clipping is in place; copy it first")
    unlimited = isinstance(limit, (float, np.floating)) and limit == math.inf
    if not unlimited and not (is_number(limit) and limit >= 0):
        raise UnrolledError(f"clipping limit is {brief(limit)}; it must be 0 or more (infinity: no limit)")
    return float(limit)


def first_nonfinite(arrays: Mapping[str, Array]) -> str | None:
    """Name the first array that holds a NaN or an infinity; None if there is none.

    Examples
    --------
    >>> first_nonfinite({"a": np.ones(2), "b": np.array([1.0, np.nan])})
    'b'
    """
    return next((name for name, a in arrays.items() if not np.isfinite(a).all()), None)
