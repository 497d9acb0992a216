"""What a core can do at most: multiply and add out of registers, and read from each level of its caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import _engine
from .threads import cache_sizes

MOST_BYTES = 2**30
"""Caches so large that reading from memory alone would take more than this are not read past."""


@dataclass(frozen=True)
class Level:
    """A level of the memory: its name, bytes (None behind all caches), and bytes a second that a core reads."""

    name: str
    size: int | None
    rate: float


@dataclass(frozen=True)
class Limits:
    """A core's float32 multiplications and additions a second, and its levels, the nearest first (if known)."""

    flops: float
    levels: tuple[Level, ...]

    def level(self, size: float) -> Level | None:
        """Return the nearest level that so many bytes fit into; None if they fit into none.

        Examples
        --------
        >>> Limits(1.0, (Level("L1", 32, 3.0), Level("memory", None, 1.0))).level(33).name
        'memory'
        """
        return next((level for level in self.levels if level.size is None or size <= level.size), None)


def measure(seconds: float = 0.05) -> Limits:
    """Return this machine's limits, each the best of what so many seconds measure.

    Examples
    --------
    >>> measure(0.001).flops > 0
    True
    """
    rounds = 10_000
    flops = _best(lambda: _engine.multiply_adds(rounds), seconds) * _engine.multiply_adds(rounds)
    sizes = cache_sizes()  # half of each is read: something else is always there
    levels = [Level(f"L{number}", size, _reading(size // 2, seconds)) for number, size in sorted(sizes.items())]
    largest = max(sizes.values(), default=MOST_BYTES)
    if 2 * largest <= MOST_BYTES:
        levels.append(Level("memory", None, _reading(2 * largest, seconds)))
    return Limits(flops, tuple(levels))


def _reading(size: int, seconds: float) -> float:
    """Bytes a second at which one core reads `size` bytes again and again."""
    numbers = _engine.empty32((size // 4,))
    numbers.fill(1)
    times = max(1, 2**25 // size)
    return _best(lambda: _engine.read(numbers, times), seconds) * times * size


def _best(run: Callable[[], object], seconds: float) -> float:
    """Calls a second, of the fastest."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return 1 / best
