"""Tokens -> (x, y): contiguous lanes that carry a state.

Letters: N tokens, B rows of the batch, T steps of a chunk, L steps of a lane. Arrays are time-major, (T, B), and y is
the token that follows x. Nothing here copies the tokens: a chunk is the only thing made, so N may exceed the memory
when the tokens are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..checks import as_array, check_indices, check_size, is_whole
from ..errors import UnrolledError, brief, count

Tokens = NDArray[np.integer[Any]]
_LARGEST = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs and targets of one step of training; `x, y = batch` gives both.

    Attributes
    ----------
    x : (T, B) tokens, or (T, B, I) numbers
    y : (T, B) classes or (T, B, K) numbers of every step, or (B,) classes or numbers or (B, K) numbers of every row
    lengths : (B,) steps of each row; None if all have T
    starts : (T, B) bool, steps at which a document begins; None if they aren't kept apart
    weights : as y, or without its last axis, at least 0: what each target counts; None if all count the same. Padding
        counts 0.
    share : of the learning rate: below 1 for a batch of fewer steps than others

    Examples
    --------
    >>> batch = Batch(np.arange(6).reshape(3, 2), np.array([4, 5]))
    >>> batch.rows(slice(1, 2)).x.tolist(), batch.rows(slice(1, 2)).y.tolist(), batch.targets
    ([[1], [3], [5]], [5], 2)
    """

    x: NDArray[Any]
    y: NDArray[Any]
    lengths: NDArray[np.integer[Any]] | None = None
    starts: NDArray[np.bool_] | None = None
    weights: NDArray[Any] | None = None
    share: float = 1.0

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter((self.x, self.y))

    @property
    def size(self) -> int:
        """B, the number of rows."""
        return int(self.x.shape[1])

    @property
    def targets(self) -> float:
        """Number of targets, or the sum of their weights."""
        return self.y.size if self.weights is None else float(self.weights.sum())

    def rows(self, rows: slice) -> Batch:
        """Return the batch of these rows alone."""
        if _of_rows(self.y):
            y, weights = self.y[rows], None if self.weights is None else self.weights[rows]
        else:
            y, weights = _rows(self.y, rows), _rows(self.weights, rows)
        return Batch(_rows(self.x, rows), y, _rows(self.lengths, rows), _rows(self.starts, rows), weights)


def _of_rows(y: NDArray[Any]) -> bool:
    """Whether targets are of rows, (B,) or numbers (B, K); else of every step, (T, B) or numbers (T, B, K)."""
    return y.ndim < (3 if y.dtype.kind == "f" else 2)


def _rows(a: Any, rows: slice) -> Any:
    """Rows of what is time-major, (T, B, ...), or (B,) where it is of rows alone."""
    return a if a is None else np.ascontiguousarray(a[rows] if a.ndim == 1 else a[:, rows])


class Batches(Protocol):
    """The batches that training reads: `len(batches)` of them an epoch, `batches[k]` any one."""

    @property
    def targets(self) -> float:
        """Targets of an epoch, or the sum of their weights."""

    @property
    def carries(self) -> bool:
        """Whether batch k + 1 goes on where batch k ended: its rows' states are passed on."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int) -> Batch: ...

    def of_epoch(self, seed: Sequence[int]) -> Callable[[int], Batch]:
        """Return what gives batch k of one epoch: these, in another order, or cut elsewhere, as the seed draws it."""


def shuffled(batches: Batches, seed: Sequence[int]) -> Callable[[int], Batch]:
    """Return what gives batch k in an order that the seed draws."""
    order = np.random.default_rng(seed).permutation(len(batches))
    return lambda k: batches[int(order[k])]


def as_tokens(tokens: Sequence[int] | NDArray[Any], name: str = "tokens") -> Tokens:
    """Any one-dimensional sequence of integers -> (N,) array; an array, memory-mapped or not, is viewed, never copied.

    Raises
    ------
    UnrolledError
        If they are not integers, or not one-dimensional.

    Examples
    --------
    >>> as_tokens([3, 1, 2])
    array([3, 1, 2])
    >>> as_tokens([0.5, 1.5])
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: tokens are float64; expected integers, which Vocabulary.encode makes of a text
    """
    array = as_array(name, tokens)
    if array.ndim != 1:
        kind = type(tokens).__name__ if array.ndim == 0 else f"of shape {array.shape}"
        raise UnrolledError(f"{name} are {kind}; expected integers in one dimension (N,)")
    if array.size == 0 and not isinstance(tokens, np.ndarray):
        return array.astype(np.int32)  # numpy calls an empty list float64
    if array.dtype.kind not in "iu":
        raise UnrolledError(f"{name} are {array.dtype}; expected integers, which Vocabulary.encode makes of a text")
    return array


def check_documents(documents: Any, size: int) -> Tokens:
    """Return where documents begin in `size` tokens, (D - 1,) in rising order, or say what is wrong with it.

    Examples
    --------
    >>> check_documents([3, 12], 12)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: documents run from 3 to 12; they must be at least 0 and below 12
    """
    places: Tokens = check_indices("documents", as_tokens(documents, "documents"), size)
    if not (places[:-1] <= places[1:]).all():
        raise UnrolledError("documents must begin in rising order; sort where they begin")
    return places


def _chunk(values: Tokens, name: str) -> NDArray[np.int32]:
    """(T, B) view or array of any integer type -> new C-contiguous int32 array, values proven to fit."""
    low, high = values.min(), values.max()
    if low < 0 or high > _LARGEST:
        raise UnrolledError(f"{name} holds the token {low if low < 0 else high}; tokens go from 0 to {_LARGEST}")
    return np.array(values, dtype=np.int32, order="C")


def tokens_needed(batch_size: int, seq_length: int) -> int:
    """Fewest tokens that `lanes` takes: B T + 1, one full chunk and the target of its last step.

    Examples
    --------
    >>> tokens_needed(batch_size=50, seq_length=50)
    2501
    """
    return check_size("batch_size", batch_size) * check_size("seq_length", seq_length) + 1


@dataclass(frozen=True, eq=False, repr=False)
class Lanes:
    """Tokens cut into B contiguous lanes of L = (N - 1) // B steps; made by `lanes`, which says what is where.

    Attributes
    ----------
    tokens : (N,) integers, as they were given
    batch_size : B
    seq_length : T, the steps of every chunk but perhaps the last
    name : what the tokens are, for messages
    documents : where documents begin, in rising order; None if they aren't kept apart
    varied : whether chunks are cut elsewhere in each epoch (`of_epoch`)

    Raises
    ------
    UnrolledError
        If a size is not positive, tokens or documents are not integers in one dimension, or documents do not begin
        within the tokens in rising order.
    """

    tokens: Tokens
    batch_size: int
    seq_length: int
    name: str = "the text"
    documents: Tokens | None = None
    varied: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", as_tokens(self.tokens))
        for name in ("batch_size", "seq_length"):
            object.__setattr__(self, name, check_size(name, getattr(self, name)))
        if self.documents is not None:
            object.__setattr__(self, "documents", check_documents(self.documents, len(self.tokens)))

    @property
    def lane_length(self) -> int:
        """L, the steps of a lane."""
        return (len(self.tokens) - 1) // self.batch_size

    carries = True

    @property
    def targets(self) -> int:
        """Targets in one pass: B L, all of the N - 1 that exist but the last (N - 1) mod B."""
        return self.batch_size * self.lane_length

    def __len__(self) -> int:
        return -(-self.lane_length // self.seq_length)

    def __getitem__(self, k: int) -> Batch:
        """Chunk k of every lane: x, y (T, B); the last chunk may have fewer steps."""
        return self._cut(self._steps(k))

    def of_epoch(self, seed: Sequence[int]) -> Callable[[int], Batch]:
        """Return what gives chunk k of an epoch: `self[k]`, or where chunks are varied, of steps that the seed draws.

        Lengths come from N(T, T/14), or one in twenty from N(T/2, T/14), as Merity et al. (2018) have it with T = 70:
        so an epoch does not end its chunks where the last one did. There are as many as without, and together they
        have all steps of a lane. A chunk's share of the learning rate is its length / T.

        Examples
        --------
        >>> data = lanes(range(562), batch_size=2, seq_length=70, varied=True)
        >>> for epoch in 0, 1:
        ...     chunk = data.of_epoch([1, epoch])
        ...     print([len(chunk(k).x) for k in range(len(data))])
        [73, 70, 66, 71]
        [72, 71, 66, 71]
        """
        if not self.varied:
            return self.__getitem__
        edges = cut_points(self.lane_length, len(self), self.seq_length, np.random.default_rng(seed))
        return lambda k: self._cut(slice(int(edges[k]), int(edges[k + 1])))

    def _cut(self, steps: slice) -> Batch:
        shape, used = (self.batch_size, self.lane_length), self.targets
        x = self.tokens[:used].reshape(shape)[:, steps].T
        y = self.tokens[1 : used + 1].reshape(shape)[:, steps].T
        share = (steps.stop - steps.start) / self.seq_length if self.varied else 1.0
        return Batch(_chunk(x, self.name), _chunk(y, self.name), starts=self._starts(steps), share=share)

    def _steps(self, k: int) -> slice:
        """Steps of a lane that chunk k has."""
        if not is_whole(k):
            raise UnrolledError(f"a chunk's number is {brief(k)}; it must be a whole number")
        index = int(k)
        if not -len(self) <= index < len(self):
            raise IndexError(f"chunk {brief(k)} is outside an epoch of {len(self)} chunks")
        start = (index % len(self)) * self.seq_length
        return slice(start, min(start + self.seq_length, self.lane_length))

    def starts(self, k: int) -> NDArray[np.bool_] | None:
        """Return where in chunk k documents begin, (T, B); None if they aren't kept apart.

        Examples
        --------
        >>> lanes(range(12), batch_size=2, seq_length=3, documents=np.array([1, 8])).starts(0).T.tolist()
        [[False, True, False], [False, False, False]]
        """
        return self._starts(self._steps(k))

    def _starts(self, steps: slice) -> NDArray[np.bool_] | None:
        if self.documents is None:
            return None
        begins = np.arange(self.batch_size) * self.lane_length
        starts = np.zeros((steps.stop - steps.start, self.batch_size), bool)
        first, last = (np.searchsorted(self.documents, begins + edge) for edge in (steps.start, steps.stop))
        for lane in np.flatnonzero(last > first):
            starts[self.documents[first[lane] : last[lane]] - begins[lane] - steps.start, lane] = True
        return starts

    def __iter__(self) -> Iterator[Batch]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"<{self.batch_size} lanes of {self.lane_length:,} steps: {len(self):,} chunks of {self.seq_length}>"


def lanes(
    tokens: Sequence[int] | NDArray[Any],
    batch_size: int,
    seq_length: int,
    *,
    name: str = "the text",
    unit: str = "token",
    documents: Tokens | None = None,
    varied: bool = False,
) -> Lanes:
    """Cut tokens (N,) into B contiguous lanes, read side by side in chunks of T steps: x, y (T, B) int32.

    Lane b reads tokens b L to (b + 1) L - 1, with L = (N - 1) // B, and its target is always the next token of the
    text, also at the lane's end. So the targets of an epoch are tokens 1 to B L, each exactly once; only the last
    (N - 1) mod B tokens, fewer than B, are no target. Chunk k + 1 of a lane continues its chunk k exactly: carry the
    state of each row from chunk to chunk, and start from zero at a new epoch. When T doesn't divide L the last chunk is
    shorter.

    Parameters
    ----------
    tokens : (N,) integers of any integer type; a list, an array, a memory-mapped array (never copied)
    batch_size : B, the number of lanes
    seq_length : T, the steps of a chunk
    name, unit : what the tokens are, all and one of them, for messages ("the validation part", "character")
    documents : where documents begin, in rising order, if their states are to be kept apart (`Lanes.starts`)
    varied : whether an epoch's chunks are to end elsewhere than the last one's did (`Lanes.of_epoch`)

    Raises
    ------
    UnrolledError
        If there are fewer than B T + 1 tokens, a size is not positive, or tokens are not integers in one dimension;
        while iterating, if a token is negative or doesn't fit int32.

    Examples
    --------
    >>> data = lanes(range(12), batch_size=2, seq_length=3)
    >>> data
    <2 lanes of 5 steps: 2 chunks of 3>
    >>> for x, y in data:
    ...     print(x.T.tolist(), y.T.tolist())
    [[0, 1, 2], [5, 6, 7]] [[1, 2, 3], [6, 7, 8]]
    [[3, 4], [8, 9]] [[4, 5], [9, 10]]
    """
    array = as_tokens(tokens)
    B, T = check_size("batch_size", batch_size), check_size("seq_length", seq_length)
    need = tokens_needed(B, T)
    if len(array) < need:
        fits = (len(array) - 1) // T
        hint = f" (a batch of {fits} fits)" if fits > 0 else ""
        asked = f"batch size {B} x sequence length {T} needs {need:,}. Give more text, or smaller batches or sequences"
        raise UnrolledError(f"{name} has {count(len(array), unit)}; {asked}{hint}")
    return Lanes(array, B, T, name, documents, varied)


SPREAD, HALVED = 1 / 14, 0.05
"""Of lengths that vary: their standard deviation, of T, and how often T is halved (Merity et al. 2018: 5 of 70)."""


def cut_points(steps: int, chunks: int, seq_length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return where so many steps are cut into chunks of lengths that vary around T, (chunks + 1,), 0 and `steps` too.

    Examples
    --------
    >>> np.diff(cut_points(695, 10, 70, np.random.default_rng(1))).tolist()
    [74, 77, 70, 73, 72, 77, 74, 73, 69, 36]
    """
    usual = np.where(rng.random(chunks) < HALVED, seq_length / 2, seq_length)
    lengths = np.maximum(rng.normal(usual, seq_length * SPREAD), max(1.0, seq_length * SPREAD))
    ends, k = np.round(np.cumsum(lengths) * (steps / lengths.sum())).astype(np.int64), np.arange(chunks)
    ends = np.maximum.accumulate(np.maximum(ends - k, 1)) + k  # no chunk is empty
    return np.concatenate([[0], np.minimum(ends, steps - (chunks - 1 - k))])


LANES, LANE_LENGTH = 64, 1000
"""Lanes that a held-out part is read in, at most, and the steps that each has at least: few enough starts from an empty
state that they hardly show."""


def held_out(
    part: Tokens,
    batch_size: int,
    seq_length: int,
    documents: Tokens | None = None,
    name: str = "the text",
    *,
    whole: bool = False,
) -> Lanes | None:
    """Cut a held-out part into lanes; None if it is empty.

    How many there are is up to the part alone, so that its loss is the same whatever the batch: every lane starts from
    an empty state, and many short ones would be a harder text. Chunks hold about as many symbols as a batch does, which
    bounds the memory and changes no result. A `whole` part is one lane, so that every one of its symbols is predicted,
    and no document is cut: short ones are read side by side all the same.
    """
    if len(part) < 2:
        return None
    count = 1 if whole else max(1, min(LANES, (len(part) - 1) // LANE_LENGTH))
    steps = max(1, min(batch_size * seq_length // count, (len(part) - 1) // count))
    return lanes(part, count, steps, documents=documents, name=name)
