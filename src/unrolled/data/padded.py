"""Sequences of different lengths -> batches: those of like length together, padded at their ends."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array, as_kind, check_seed, check_size
from ..errors import UnrolledError, count
from . import sequences
from .batches import Batch, shuffled


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences with their targets, in batches of B; each is read from the initial state.

    Sorted by length, so that little is padded; what is in a batch stays, and those of one length are mixed, since they
    often come class by class. The order of the batches is drawn anew in each epoch of training. `batches` makes one,
    and checks what it is made of.

    Attributes
    ----------
    x : sequences of (T,) tokens, (T, 1 + C) spelled words, or (T, I) numbers, 1 step or more
    y : targets of each, (T,) classes or (T, K) numbers; if not `stepwise` a class or (K,) numbers; empty for none
    batch_size : B, the rows of every batch but perhaps the last
    name : what they are, for messages
    stepwise : whether every step has a target of its own
    weights : what the targets of each count, a number, or as y
    class_weights : (K,) what targets of each class count
    seed : of the order

    Raises
    ------
    UnrolledError
        If there are none, or a sequence is empty or has not a target a step.

    Examples
    --------
    >>> data = Padded([np.array([1, 2, 3]), np.array([4]), np.array([5, 6])], [np.ones(n, int) for n in (3, 1, 2)], 2)
    >>> len(data), data.targets, data[0].x.T.tolist(), data[0].weights.T.tolist()
    (2, 6.0, [[4, 0], [5, 6]], [[1.0, 0.0], [1.0, 1.0]])
    """

    x: Sequence[Array]
    y: Sequence[Any]
    batch_size: int
    name: str = "the data"
    stepwise: bool = True
    weights: Sequence[Any] | None = None
    class_weights: Array | None = None
    seed: int = 0

    carries = False

    def __post_init__(self) -> None:
        check_size("batch_size", self.batch_size)
        if not len(self.x):
            raise UnrolledError(f"{self.name} has no sequences")
        for what, given in (("targets", self.y), ("weights", self.weights)):
            if given is not None and len(given) not in (len(self.x), 0 if what == "targets" else -1):
                raise UnrolledError(f"{self.name} has {count(len(self.x), 'sequence')} and {len(given):,} of {what}")
        for k, x in enumerate(self.x):
            if not len(x):
                raise UnrolledError(f"sequence {k} of {self.name} has no steps")
            if len(self.y) and self.stepwise and np.shape(self.y[k])[:1] != (len(x),):
                there = np.shape(self.y[k])
                said = f"{there[0]:,} targets" if there else "one target in all"
                raise UnrolledError(f"sequence {k} of {self.name} has {count(len(x), 'step')}, {said}")

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the sequences by rising length; those of one length in an order that is drawn."""
        mixed = np.random.default_rng(self.seed).permutation(len(self.x))
        return mixed[np.argsort([len(self.x[n]) for n in mixed], kind="stable")]

    @cached_property
    def gaps(self) -> bool:
        """Whether some numbers to be learnt are not known, NaN: each then has a weight of its own."""
        return any(a.dtype.kind == "f" and bool(np.isnan(a).any()) for a in map(np.asarray, self.y))

    @cached_property
    def targets(self) -> float:
        """Targets in one pass, or the sum of their weights."""
        return float(sum(self[k].targets for k in range(len(self))))

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return (self[k] for k in range(len(self)))

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches in the order of an epoch, which follows from the seed and its number alone."""
        rng = np.random.default_rng([self.seed, check_size("the number of an epoch", number, 0)])
        return (self[int(k)] for k in rng.permutation(len(self)))

    def rows(self, k: int) -> NDArray[np.int64]:
        """Numbers of the sequences in batch k, a row each."""
        k = operator.index(k)
        return self.order[k * self.batch_size : (k + 1) * self.batch_size]

    def of_epoch(self, seed: Sequence[int]) -> Callable[[int], Batch]:
        """Return what gives batch k of an epoch, in an order that the seed draws."""
        return shuffled(self, seed)

    def __getitem__(self, k: int) -> Batch:
        """Batch k: x (T, B, ...) and y (T, B, ...) or (B, ...), T its longest sequence; y is zeros if there is none."""
        rows = self.rows(k)
        if not len(rows):
            raise IndexError(f"batch {k} is outside an epoch of {len(self)} batches")
        lengths = np.array([len(self.x[n]) for n in rows])
        x = together([self.x[n] for n in rows])
        if not len(self.y):
            return Batch(x, np.zeros(len(rows), np.int32), lengths=lengths)
        found = [_target(self.y[n], stepwise=self.stepwise) for n in rows]
        y = together(found) if self.stepwise else np.stack(found)
        return Batch(x, y, lengths=lengths, weights=self._weights(rows, y, lengths))

    def _weights(self, rows: Array, y: Array, lengths: Array) -> Array | None:
        """Return what the targets of a batch count; None if all count the same."""
        parts = list[Array]()
        if self.stepwise:
            parts.append((np.arange(len(y))[:, None] < lengths).astype(np.float32))
        if self.class_weights is not None:
            parts.append(np.asarray(self.class_weights, np.float32)[y])
        if self.weights is not None:
            parts.append(self._given([np.asarray(self.weights[n], np.float32) for n in rows], lengths))
        if self.gaps:
            parts.append((~np.isnan(y)).astype(np.float32))
        if not parts:
            return None
        axes, whole = max(part.ndim for part in parts), np.ones((), np.float32)
        for part in parts:
            whole = whole * (part[..., None] if part.ndim < axes else part)
        return whole

    def _given(self, weights: Sequence[Array], lengths: Array) -> Array:
        """Return weights of sequences, or of their targets, as those of a batch."""
        if not self.stepwise:
            return np.stack(weights)
        return together([np.full(n, w) if not w.ndim else w for w, n in zip(weights, lengths, strict=True)])

    def unpadded(self, parts: Iterable[Array], *, stepwise: bool | None = None) -> list[Array]:
        """Return what was made of every batch, in order, as one array a sequence, as they were given.

        Parameters
        ----------
        parts : arrays (T, B, ...), or (B, ...) if not `stepwise`
            Of batch 0, 1 and so on.
        stepwise : bool
            Whether they are of every step; by default as the targets are.

        Examples
        --------
        >>> data = batches([[1, 2, 3], [4], [5, 6]], batch_size=2)
        >>> [a.tolist() for a in data.unpadded((10 * batch.x for batch in data), stepwise=True)]
        [[10, 20, 30], [40], [50, 60]]
        """
        by_step = self.stepwise if stepwise is None else stepwise
        found: dict[int, Array] = {}
        for k, part in enumerate(parts):
            for row, n in enumerate(self.rows(k)):
                found[int(n)] = part[: len(self.x[n]), row] if by_step else part[row]
        return [found[n] for n in range(len(self.x))]


def together(arrays: Sequence[Array]) -> Array:
    """Return arrays (T, ...) of different lengths as one, (T, B, ...), with zeros behind their ends.

    Whole numbers become int32. What is behind the steps may differ too (the characters of words).

    Examples
    --------
    >>> together([np.array([1, 2]), np.array([3])]).tolist()
    [[1, 3], [2, 0]]
    """
    shape = [max(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True)]
    kind = np.int32 if arrays[0].dtype.kind in "iu" else arrays[0].dtype
    whole = np.zeros((shape[0], len(arrays), *shape[1:]), kind)
    for row, a in enumerate(arrays):
        place: tuple[Any, ...] = slice(len(a)), row, *map(slice, a.shape[1:])
        whole[place] = a
    return whole


def _target(given: Any, *, stepwise: bool) -> Array:
    """Return a sequence's targets as a batch holds them: classes are whole numbers, all else is floats.

    Several whole numbers, or bools, side by side are labels; a bool by itself is one of two classes. A number a step
    has an axis of its own.
    """
    y: Array = np.asarray(given)
    several = y.ndim > stepwise
    if several and y.dtype.kind in "biu":
        y = y.astype(np.float32)
    if y.dtype.kind == "f":
        return y[:, None] if stepwise and not several else y
    return y.astype(np.int32)


def batches(
    x: Any,
    y: Any = None,
    batch_size: int = 32,
    *,
    stepwise: bool | None = None,
    weights: Any = None,
    class_weights: Any = None,
    ignore: int | None = None,
    seed: int = 0,
    name: str = "the data",
) -> Padded:
    """Return sequences of different lengths as batches for a loop of one's own, those of like length together.

    Parameters
    ----------
    x : list of arrays, or one array (N, T, ...)
        Of each sequence (T,) whole numbers, tokens; (T, 1 + C) whole numbers, words and their spellings; or numbers,
        which are floats, (T, I) or (T,).
    y : list or array, optional
        Targets of each sequence. Of every step: (T,) classes, which are whole numbers, or (T, K) labels or numbers; or
        of the sequence as a whole: a class, a number, or (K,) labels or numbers. A number that is NaN is not known, and
        counts nothing.
    batch_size : int
        B, the rows of every batch but perhaps the last.
    stepwise : bool, optional
        Whether targets are of every step; by default, whether each sequence has as many as steps.
    weights : list or array, optional
        What each sequence, or each of its targets, counts, 0 or more.
    class_weights : (K,) numbers, or "balanced", optional
        What a target of each class counts; "balanced": all targets / (classes x targets of this class).
    ignore : int, optional
        A class that marks targets which count nothing (PyTorch's is -100).
    seed : int
        Of the order: in which sequences of one length come, and the batches of each epoch.

    Returns
    -------
    Padded
        `batches[k]` is a `Batch` of x (T, B, ...), y, lengths (B,) and weights; `batches.epoch(n)` yields those of
        epoch n in an order of its own.

    Raises
    ------
    UnrolledError
        If a sequence is empty, its channels are not those of the first, it has NaN, or not the targets it needs; its
        number is named.

    Examples
    --------
    >>> import unrolled as ur
    >>> data = ur.batches([[1, 2, 3], [4], [5, 6]], [0, 1, 1], batch_size=2)
    >>> for batch in data.epoch(0):
    ...     print(batch.x.T.tolist(), batch.lengths, batch.y)
    [[4, 0], [5, 6]] [1 2] [1 1]
    [[1, 2, 3]] [3] [0]
    """
    seed, inputs = check_seed(seed), sequences.take_inputs(x, name)
    if y is None:
        return Padded(inputs, (), batch_size, name, stepwise=False, seed=seed)
    stepwise, ignore = as_kind("stepwise", stepwise, "bool | None"), as_kind("ignore", ignore, "int | None")
    stepwise, targets = sequences.take_targets(y, inputs, stepwise, name)
    counted = sequences.take_weights(weights, targets, ignore, name)
    if ignore is not None:
        targets = [np.where(t == ignore, 0, t) for t in targets]
    each = None if class_weights is None else sequences.take_class_weights(class_weights, targets, counted, name)
    return Padded(inputs, targets, batch_size, name, stepwise, counted, each, seed)
