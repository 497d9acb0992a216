"""What callers hand in as sequences, targets and weights -> arrays that fit each other, or what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import Array, as_numbers, check_shape
from ..errors import UnrolledError, brief, count


def take_inputs(x: Any, name: str) -> list[Array]:
    """Return sequences as arrays: (T,) tokens, (T, 1 + C) spelled words, or (T, I) numbers.

    Examples
    --------
    >>> take_inputs([[[1.0, 2.0]], [[3.0, 4.0, 5.0]]], "the data")
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: sequence 1 of the data has 3 channels, sequence 0 has 2
    """
    found = list[Array]()
    for k, given in enumerate(_several("sequences", x)):
        what = f"sequence {k} of {name}"
        a = as_numbers(what, given)
        a = a.astype(np.float32) if a.dtype.kind == "b" else a
        a = a[:, None] if a.ndim == 1 and a.dtype.kind == "f" else a
        if a.dtype.kind == "c" or a.ndim not in (1, 2):
            raise UnrolledError(
                f"{what} is {a.dtype} of shape {a.shape}; expected whole numbers (T,), or numbers (T, I)"
            )
        if not len(a):
            raise UnrolledError(f"{what} has no steps")
        first = found[0] if found else a
        if (a.ndim, a.dtype.kind == "f") != (first.ndim, first.dtype.kind == "f"):
            raise UnrolledError(f"{what} is {a.dtype} of shape {a.shape}, sequence 0 {first.dtype} of {first.shape}")
        if a.dtype.kind == "f":
            if a.shape[1:] != first.shape[1:]:
                raise UnrolledError(f"{what} has {count(a.shape[1], 'channel')}, sequence 0 has {first.shape[1]}")
            if not np.isfinite(a).all():
                step, channel = np.argwhere(~np.isfinite(a))[0]
                raise UnrolledError(
                    f"{what} has {a[step, channel]} at step {step}, channel {channel}; fill it, or leave it out"
                )
        found.append(a)
    return found


def take_targets(y: Any, x: Sequence[Array], stepwise: bool | None, name: str) -> tuple[bool, list[Array]]:
    """Return whether targets are of every step, and those of each sequence, all of one kind and width."""
    given = _several("targets", y)
    if len(given) != len(x):
        raise UnrolledError(f"{name} has {count(len(x), 'sequence')} and {len(given):,} of targets")
    found = [as_numbers(f"the target of sequence {k} of {name}", a) for k, a in enumerate(given)]
    if stepwise is None:
        stepwise = all(a.shape[:1] == (len(steps),) for a, steps in zip(found, x, strict=True))
    if {a.dtype.kind for a in found} & set("f") and any(a.dtype.kind != "f" for a in found):
        found = [a.astype(np.float64) for a in found]  # numbers, some of which happened to be whole
    for k, (a, steps) in enumerate(zip(found, x, strict=True)):
        what = f"sequence {k} of {name} has"
        if stepwise and a.shape[:1] != (len(steps),):
            raise UnrolledError(
                f"{what} {count(len(steps), 'step')} and targets of shape {a.shape}; expected one a step"
            )
        if a.dtype.kind == "c" or a.ndim > 1 + stepwise or a.shape[stepwise:] != found[0].shape[stepwise:]:
            said = f"sequence 0 of {found[0].shape}"
            raise UnrolledError(
                f"{what} {a.dtype} targets of shape {a.shape}, {said}; expected classes, or (..., K) numbers"
            )
        if np.isinf(a).any() or (a.size and np.isnan(a).all()):
            raise UnrolledError(f"{what} targets that are infinite, or none that is known; leave it out")
    return stepwise, found


def take_weights(weights: Any, targets: Sequence[Array], ignore: int | None, name: str) -> list[Array] | None:
    """Return what the targets of each sequence count, each with something that does; None if all count the same."""
    if weights is None and ignore is None:
        return None
    given = [1.0] * len(targets) if weights is None else _several("weights", weights)
    if len(given) != len(targets):
        raise UnrolledError(f"{name} has {count(len(targets), 'sequence')} and {len(given):,} of weights")
    found = list[Array]()
    for k, (of, t) in enumerate(zip(given, targets, strict=True)):
        what = f"weights of sequence {k} of {name}"
        w = as_numbers(what, of)
        if w.ndim:
            check_shape(what, w, t.shape if w.ndim == t.ndim else t.shape[: w.ndim], f"targets of shape {t.shape}")
        if w.dtype.kind == "c" or not (np.isfinite(w) & (w >= 0)).all():
            raise UnrolledError(f"{what} must be finite numbers, 0 or more")
        if ignore is not None:
            w = np.where(t == ignore, 0, w)
        if not w.any():
            raise UnrolledError(f"sequence {k} of {name} has no target that counts; leave it out")
        found.append(w.astype(np.float32))
    axes = {w.ndim for w in found}
    if len(axes) > 1:  # of sequences where it is a number, of targets where it is not
        found = [np.broadcast_to(w, t.shape) if not w.ndim else w for w, t in zip(found, targets, strict=True)]
    return found


def take_class_weights(weights: Any, targets: Sequence[Array], counted: Any, name: str) -> Array:
    """Return what each class counts, as an array that has every class, or say what is wrong with it.

    Examples
    --------
    >>> take_class_weights("balanced", [np.array([0, 1, 1]), np.array([1])], None, "the data").round(3).tolist()
    [2.0, 0.667]
    """
    if any(t.dtype.kind not in "iu" for t in targets):
        raise UnrolledError(
            f"class_weights are of classes, whole numbers; the targets of {name} are {targets[0].dtype}"
        )
    whole = np.concatenate([t.ravel() for t in targets])
    if whole.min() < 0:
        raise UnrolledError(
            f"classes of {name} run from {whole.min()}; they must be 0 or more (ignore names one to leave out)"
        )
    if isinstance(weights, str) and weights == "balanced":
        each = zip(counted or [1.0] * len(targets), targets, strict=True)
        there = np.concatenate([np.broadcast_to(w, t.shape).ravel() for w, t in each])
        counts = np.bincount(whole, weights=there > 0)
        share = counts.sum() / np.count_nonzero(counts)
        return np.array([share / n if n else 0.0 for n in counts])
    w = as_numbers("class_weights", weights)
    if w.ndim != 1 or w.dtype.kind == "c" or not (np.isfinite(w) & (w >= 0)).all() or not w.any():
        raise UnrolledError(f"class_weights are {brief(weights)}; expected a number a class, 0 or more, or 'balanced'")
    if whole.max() >= len(w):
        raise UnrolledError(f"class_weights are of {len(w)} classes; {name} has the class {whole.max()}")
    return w


def _several(what: str, value: Any) -> list[Any]:
    """Return the parts of a list, a tuple, an array or a column of a table."""
    if isinstance(value, (str, bytes, Mapping, set)) or not hasattr(value, "__len__") or not hasattr(value, "__iter__"):
        raise UnrolledError(f"{what} are {brief(value)}; expected a list of arrays, or an array (N, ...)")
    if getattr(value, "ndim", 1) == 0 or not len(value):
        raise UnrolledError(f"there are no {what}")
    return list(value)
