"""Windows of series as rows of segments: what a network reads of a context, and what is asked of it of a horizon.

Letters: R windows, each a row; L steps of its context, H of its horizon; w steps of a segment, n = L / w and m = H / w
segments; C series; K values known beforehand; F features of a step of the network. (Lin et al. 2023, "SegRNN: Segment
recurrent neural network for long-term time series forecasting".)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from ..errors import UnrolledError, count
from .batches import Batch, shuffled

INSTANCES = ("last", "mean", "standard", "none")
OUTPUTS = ("direct", "recurrent")
MOST_TOLD = 64
"""Series that a network is told apart, at most: each costs a feature."""
_LEAST = 1e-3
"""Spread of a window, at least, that one is divided by."""


@dataclass(frozen=True)
class Layout:
    """How a window becomes steps of a network, and its outputs a forecast.

    Attributes
    ----------
    context, horizon, segment : int
        L, H and w; w divides both.
    output : str
        "direct": behind the n segments of the context come m steps that ask for the horizon's, all in one pass.
        "recurrent": each step is asked for the segment after its own; a forecast is fed back.
    instance : str
        Normalisation of each window by its context: less its "last" value, less its "mean", or that divided by its
        "standard" deviation too (Kim et al. 2022, RevIN); "none".
    series : int
        C.
    calendar, known : int
        Values of a calendar, given of a segment's first step, and others known beforehand, of all its steps.
    scale : float
        Values are divided by it: about how far they move over a horizon.
    apart : bool
        Whether each series has outputs of its own, and so decoder's weights: C w at each step, of which w are its own.

    Examples
    --------
    >>> layout = Layout(context=6, horizon=4, segment=2, series=3)
    >>> layout.steps, layout.features
    (5, 7)
    """

    context: int
    horizon: int
    segment: int
    output: str = "direct"
    instance: str = "last"
    series: int = 1
    calendar: int = 0
    known: int = 0
    scale: float = 1.0
    apart: bool = False

    @property
    def outputs(self) -> int:
        """Numbers that a step of the network is asked for."""
        return self.segment * (self.series if self.apart else 1)

    @property
    def read(self) -> int:
        """n, segments of a context."""
        return self.context // self.segment

    @property
    def asked(self) -> int:
        """m, segments of a horizon."""
        return self.horizon // self.segment

    @property
    def direct(self) -> bool:
        """Whether the horizon is asked for in one pass."""
        return self.output == "direct"

    @property
    def steps(self) -> int:
        """T, steps of a whole window."""
        return self.read + self.asked - (0 if self.direct else 1)

    @property
    def told(self) -> int:
        """Features that tell the series apart."""
        return self.series if 1 < self.series <= MOST_TOLD else 0

    @property
    def features(self) -> int:
        """F: a segment's values, which of the horizon's is asked for, which series it is, and what is known."""
        return self.segment + (self.asked if self.direct else 0) + self.told + self.calendar + self.known * self.segment

    def instances(self, contexts: Array) -> tuple[Array, Array]:
        """Contexts (R, L) -> what each window's values are lessened by and divided by, (R, 1) both."""
        spread = np.full((len(contexts), 1), self.scale, contexts.dtype)
        if self.instance == "last":
            return contexts[:, -1:], spread
        if self.instance == "none":
            return np.zeros_like(spread), spread
        offset = contexts.mean(axis=1, keepdims=True)
        if self.instance == "standard":
            spread = np.maximum(contexts.std(axis=1, keepdims=True), _LEAST * spread)
        return offset, spread

    def inputs(self, contexts: Array, known: Array, series: NDArray[np.int64]) -> Array:
        """Normalised contexts (R, L), what is known (R, L + H, calendar + known), series (R,) -> x (n + m, R, F).

        In a recurrent layout the horizon's values, which the last m - 1 steps read, are 0; `teach` puts them in.
        """
        rows, (n, m, w) = len(contexts), (self.read, self.asked, self.segment)
        x = np.zeros((n + m, rows, self.features), contexts.dtype)
        x[:n, :, :w] = self._segments(contexts)
        at = w
        if self.direct:
            x[n + np.arange(m), :, at + np.arange(m)] = 1
            at += m
        if self.told:
            x[:, np.arange(rows), at + series] = 1
            at += self.told
        parts = known.reshape(rows, n + m, w, -1).swapaxes(0, 1)
        x[:, :, at : at + self.calendar] = parts[:, :, 0, : self.calendar]
        if self.known:
            x[:, :, at + self.calendar :] = parts[..., self.calendar :].reshape(n + m, rows, -1)
        if self.direct:
            return x
        x[:-1, :, at:] = x[1:, :, at:]  # a step is asked for the next segment, whose own values are known to it
        return x[:-1]

    def teach(self, x: Array, future: Array) -> Array:
        """Return x of a recurrent layout with the normalised horizon (R, H) in: each step reads the true values."""
        taught = x.copy()
        taught[self.read :, :, : self.segment] = self._segments(future)[:-1]
        return taught

    def targets(self, future: Array, series: NDArray[np.int64]) -> tuple[Array, Array]:
        """Normalised horizon (R, H), series (R,) -> y (T, R, outputs), and weights (T, R), 0 where nothing is asked.

        Outputs of another series are asked for nothing: NaN.
        """
        rows, w = np.arange(len(future)), self.segment
        y = np.full((self.steps, len(future), self.outputs), np.nan, future.dtype)
        own = y.reshape(self.steps, len(future), -1, w)
        own[-self.asked :, rows, series if self.apart else 0] = self._segments(future)
        weights = np.zeros(y.shape[:2], future.dtype)
        weights[-self.asked :] = 1
        return y, weights

    def own(self, predicted: Array, series: NDArray[np.int64]) -> Array:
        """Return of what is predicted (m, R, outputs, ...) each row's own, along its horizon: (R, H, ...)."""
        steps, rows, _, *more = predicted.shape
        blocks = predicted.reshape(steps, rows, -1, self.segment, *more)
        mine = blocks[:, np.arange(rows), series if self.apart else 0]
        return mine.swapaxes(0, 1).reshape(rows, steps * self.segment, *more)

    def _segments(self, values: Array) -> Array:
        """(R, k w) -> (k, R, w)."""
        return values.reshape(len(values), -1, self.segment).swapaxes(0, 1)


class Window(NamedTuple):
    """Some windows.

    Attributes
    ----------
    series : (R,)
        Number of the series of each.
    context, future : (R, L), (R, H)
        Values; the future is NaN where it is not known.
    x : (n + m, R, F), or one step less
        What the network reads, without the future.
    offset, spread : (R, 1)
        What normalisation takes off and divides by.
    """

    series: NDArray[np.int64]
    context: Array
    future: Array
    x: Array
    offset: Array
    spread: Array


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of series, in batches of B.

    Attributes
    ----------
    layout : Layout
    values : sequence of (N,) arrays
        Of each series.
    known : sequence of (N + H or more, K) arrays
        What is known beforehand: of a series' values, and of a horizon after them.
    places : (R, 2) integers
        Of each window its series and the first step of its horizon, which has L steps before it.
    batch_size : int
        B, the rows of every batch but perhaps the last.
    name : str
        What they are, for messages.
    numbers : sequence of int, optional
        The number of each series, as the network is told it; that in `values` by default.

    Examples
    --------
    >>> layout = Layout(context=4, horizon=2, segment=2)
    >>> data = Windows(layout, [np.arange(8.0)], [np.zeros((10, 0))], every_place([8], layout), batch_size=2)
    >>> len(data), data.targets, data[0].x[:, 0].tolist(), data[0].y[-1].tolist()
    (2, 3, [[-3.0, -2.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], [[1.0, 2.0], [1.0, 2.0]])
    """

    layout: Layout
    values: Sequence[Array]
    known: Sequence[Array]
    places: NDArray[np.int64]
    batch_size: int
    name: str = "the data"
    numbers: Sequence[int] | None = None

    carries = False

    def __post_init__(self) -> None:
        if not len(self.places):
            window = f"a context of {self.layout.context:,} and a horizon of {self.layout.horizon:,}"
            raise UnrolledError(f"{self.name} has no window: {window} are longer than its series")

    @property
    def targets(self) -> float:
        """Targets in one pass: steps of the network that are asked for a segment."""
        return len(self.places) * self.layout.asked

    def __len__(self) -> int:
        return -(-len(self.places) // self.batch_size)

    @cached_property
    def _flat(self) -> tuple[Array, Array, NDArray[np.int64]]:
        """All series behind each other, each with room for a horizon that is not known; and where each begins."""
        ahead, dtype = self.layout.horizon, self.values[0].dtype
        lengths = [len(values) + ahead for values in self.values]
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(np.int64)
        flat, known = np.full(sum(lengths), np.nan, dtype), np.zeros((sum(lengths), self.known[0].shape[1]), dtype)
        for start, values, beforehand in zip(starts, self.values, self.known, strict=True):
            flat[start : start + len(values)] = values
            some = beforehand[: len(values) + ahead]
            known[start : start + len(some)] = some
        return flat, known, starts

    def values_of(self, k: int) -> tuple[NDArray[np.int64], Array, Array]:
        """Return of batch k the series (R,), the contexts (R, L), and what follows (R, H): NaN if not known."""
        series, _, values = self._at(k)
        return self._numbers[series], values[:, : self.layout.context], values[:, self.layout.context :]

    def window(self, k: int) -> Window:
        """Return the windows of batch k."""
        layout, (series, at, values) = self.layout, self._at(k)
        context, future = values[:, : layout.context], values[:, layout.context :]
        offset, spread = layout.instances(context)
        x = layout.inputs((context - offset) / spread, self._flat[1][at], self._numbers[series])
        return Window(self._numbers[series], context, future, x, offset, spread)

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.arange(len(self.values)) if self.numbers is None else np.array(self.numbers, np.int64)

    def _at(self, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Return of batch k the series, where its values stand, (R, L + H), and these."""
        k = operator.index(k)
        if not 0 <= k < len(self):
            raise IndexError(f"batch {k} is outside an epoch of {len(self)} batches")
        flat, _, starts = self._flat
        series, first = self.places[k * self.batch_size : (k + 1) * self.batch_size].T
        context, horizon = self.layout.context, self.layout.horizon
        at = (starts[series] + first - context)[:, None] + np.arange(context + horizon)
        return series, at, flat[at]

    def of_epoch(self, seed: Sequence[int]) -> Callable[[int], Batch]:
        """Return what gives batch k of an epoch, in an order that the seed draws."""
        return shuffled(self, seed)

    def __getitem__(self, k: int) -> Batch:
        """Batch k: x (T, R, F), y (T, R, w); weights are 0 where nothing is asked."""
        window = self.window(k)
        future = (window.future - window.offset) / window.spread
        y, weights = self.layout.targets(future, window.series)
        x = window.x if self.layout.direct else self.layout.teach(window.x, future)
        return Batch(x, y, weights=weights)


def every_place(
    lengths: Sequence[int], layout: Layout, begins: Sequence[int] | None = None, stride: int = 1
) -> NDArray[np.int64]:
    """Return the places of all windows of series of these lengths, (R, 2), whose horizons lie behind where each begins.

    Examples
    --------
    >>> every_place([7, 6], Layout(context=4, horizon=2, segment=2)).tolist()
    [[0, 4], [0, 5], [1, 4]]
    """
    begins = [0] * len(lengths) if begins is None else begins
    found = [np.zeros((0, 2), np.int64)]
    for s, (length, begin) in enumerate(zip(lengths, begins, strict=True)):
        first = np.arange(max(begin, layout.context), length - layout.horizon + 1, stride)
        found.append(np.stack([np.full(len(first), s), first], axis=1))
    return np.concatenate(found)


def cut(length: int, layout: Layout, val: float, test: float, name: str) -> tuple[int, int]:
    """Return where a series' parts to validate and to test begin: shares of it, each a horizon at least.

    Raises
    ------
    UnrolledError
        If too little is left to train on.

    Examples
    --------
    >>> cut(100, Layout(context=12, horizon=6, segment=6), 0.1, 0.02, "load")
    (84, 94)
    """
    kept = [max(round(share * length), layout.horizon) if share else 0 for share in (val, test)]
    train = length - sum(kept)
    need = layout.context + layout.horizon
    if train < need:
        held = f", with {kept[0]:,} held out to validate and {kept[1]:,} to test" if sum(kept) else ""
        raise UnrolledError(
            f"{name} has {count(length, 'step')}{held}; a context of {layout.context:,} and a horizon of "
            f"{layout.horizon:,} need {need:,} to train on. Give longer series, or smaller --context or --horizon"
        )
    return train, train + kept[0]
