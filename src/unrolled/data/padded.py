"""Sequences of different lengths -> batches: those of like length together, padded at their ends."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..checks import Array, check_size
from ..errors import UnrolledError, count
from .batches import Batch


@dataclass(frozen=True, eq=False)
class Padded:
    """Sequences with a target at every step, in batches of B; each is read from the initial state.

    Sorted by length, so that little is padded. What is in a batch stays; the order of the batches is drawn anew in each
    epoch of training.

    Attributes
    ----------
    x, y : sequences of (T,) integers, each x as long as its y, 1 step or more
    batch_size : B, the rows of every batch but perhaps the last
    name : what they are, for messages

    Raises
    ------
    UnrolledError
        If there are none, or a sequence is empty or has not a target a step.

    Examples
    --------
    >>> data = Padded([np.array([1, 2, 3]), np.array([4]), np.array([5, 6])], [np.ones(n, int) for n in (3, 1, 2)], 2)
    >>> len(data), data.targets, data[0].x.T.tolist(), data[0].weights.T.tolist()
    (2, 6, [[4, 0], [5, 6]], [[1.0, 0.0], [1.0, 1.0]])
    """

    x: Sequence[Array]
    y: Sequence[Array]
    batch_size: int
    name: str = "the data"

    carries = False
    shuffled = True

    def __post_init__(self) -> None:
        check_size("batch_size", self.batch_size)
        if len(self.x) != len(self.y) or not len(self.x):
            raise UnrolledError(f"{self.name} has {count(len(self.x), 'sequence')} and {len(self.y):,} of targets")
        for k, (x, y) in enumerate(zip(self.x, self.y, strict=True)):
            if len(x) != len(y) or not len(x):
                raise UnrolledError(f"sequence {k} of {self.name} has {count(len(x), 'step')}, {len(y):,} targets")

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Numbers of the sequences by rising length; those of one length as they came."""
        return np.argsort([len(x) for x in self.x], kind="stable")

    @cached_property
    def targets(self) -> int:
        """Targets in one pass."""
        return sum(len(y) for y in self.y)

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def rows(self, k: int) -> NDArray[np.int64]:
        """Numbers of the sequences in batch k, a row each."""
        k = operator.index(k)
        return self.order[k * self.batch_size : (k + 1) * self.batch_size]

    def __getitem__(self, k: int) -> Batch:
        """Batch k: x, y (T, B), T its longest sequence."""
        rows = self.rows(k)
        if not len(rows):
            raise IndexError(f"batch {k} is outside an epoch of {len(self)} batches")
        lengths = np.array([len(self.x[n]) for n in rows])
        x, y = (np.zeros((lengths.max(), len(rows)), np.int32) for _ in range(2))
        for row, n in enumerate(rows):
            x[: lengths[row], row], y[: lengths[row], row] = self.x[n], self.y[n]
        weights = (np.arange(len(x))[:, None] < lengths).astype(np.float32)
        return Batch(x, y, lengths=lengths, weights=weights)
