"""What a network of a size usually reaches on a text of a length: from committed runs, between them.

Losses of different texts are comparable as ratios to what 5-gram counts of the training part give on the same symbols.
The logarithm of that ratio is fitted by least squares: a + b n + c p + d n p, with n = log N of the training part's
symbols and p = log P of the numbers that multiply what a step reads (`automatic.multiplied`). The product is needed: a
narrow network falls behind 5-gram counts where a text is long, a wide one gets ahead of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LEVELS = ("char", "byte")
"""Levels of a vocabulary that the runs say something of."""
BEYOND = 2.0
"""How many times less or more than any run had is spoken of: symbols, numbers, nats by 5-gram counts."""
MIDDLE = 250_000, 200_000
"""N and P whose logarithms are 0, so that the factors of the terms can be read."""


class Point(NamedTuple):
    """A run: N, P, nats a symbol by 5-gram counts, and its best validation loss / those."""

    symbols: int
    numbers: int
    five_gram: float
    ratio: float


POINTS: dict[str, tuple[Point, ...]] = {
    "pride": (
        Point(60_000, 53_376, 1.5661, 1.0649),
        Point(60_000, 265_216, 1.5661, 0.9986),
        Point(60_000, 923_648, 1.5661, 0.9896),
        Point(60_000, 1_975_296, 1.5661, 0.9742),
        Point(250_000, 53_376, 1.3563, 1.0751),
        Point(250_000, 265_216, 1.3563, 0.9542),
        Point(600_000, 53_376, 1.2799, 1.0898),
        Point(600_000, 265_216, 1.2799, 0.9215),
        Point(600_000, 923_648, 1.2799, 0.8736),
    ),
    "shakespeare": (
        Point(60_000, 51_840, 2.1166, 1.0103),
        Point(60_000, 261_120, 2.1166, 0.9934),
        Point(60_000, 915_456, 2.1166, 1.0034),
        Point(60_000, 1_963_008, 2.1166, 0.9809),
        Point(250_000, 52_032, 1.8907, 1.0126),
        Point(250_000, 261_632, 1.8907, 0.9769),
        Point(600_000, 52_224, 1.7881, 1.0355),
        Point(600_000, 262_144, 1.7881, 0.9623),
        Point(600_000, 917_504, 1.7881, 0.9420),
        Point(1_000_000, 52_320, 1.6084, 1.0767),
        Point(1_000_000, 262_400, 1.6084, 0.9604),
    ),
    "stdlib": (
        Point(60_000, 55_104, 1.8753, 1.1083),
        Point(60_000, 269_824, 1.8753, 1.1007),
        Point(60_000, 932_864, 1.8753, 1.0831),
        Point(60_000, 1_989_120, 1.8753, 1.0738),
        Point(250_000, 55_296, 1.6149, 1.0844),
        Point(250_000, 270_336, 1.6149, 1.0272),
        Point(600_000, 55_296, 1.5116, 1.0964),
        Point(600_000, 270_336, 1.5116, 0.9771),
        Point(600_000, 933_888, 1.5116, 0.9352),
        Point(1_500_000, 55_296, 1.3980, 1.1317),
        Point(1_500_000, 270_336, 1.3980, 0.9684),
    ),
}
"""By text; from benchmarks/results/usual.json, which `python benchmarks/usual.py` makes."""


@dataclass(frozen=True)
class Usual:
    """A range, in nats a symbol, and how many runs on how many texts say so."""

    low: float
    middle: float
    high: float
    runs: int
    texts: int


def usual(symbols: int, numbers: float, five_gram: float) -> Usual | None:
    """Return the validation loss that a network usually reaches; None too far from all runs.

    Parameters
    ----------
    symbols : int
        N, characters or bytes that are trained on.
    numbers : float
        P, as `automatic.multiplied` counts them.
    five_gram : float
        Nats a symbol that 5-gram counts of the same training part give on the same validation part.

    Returns
    -------
    Usual or None
        The range reaches as far to both sides as the largest error that is made of the runs on a text by a fit of
        the others.

    Examples
    --------
    *Pride and Prejudice*, a GRU of 200 units, which reached 1.1730:

    >>> found = usual(650_578, 174_200, 1.2649)
    >>> found.low < 1.1730 < found.high
    True
    >>> usual(1_000, 174_200, 1.2649) is None
    True
    """
    points = [point for text in POINTS.values() for point in text]
    for value, known in zip((symbols, numbers, five_gram), zip(*points, strict=True), strict=False):
        if not min(known) / BEYOND <= value <= BEYOND * max(known):
            return None
    ratio, apart = math.exp(_fit(points) @ _terms(symbols, numbers)), math.exp(spread())
    middle = five_gram * ratio
    return Usual(middle / apart, middle, middle * apart, len(points), len(POINTS))


@cache
def spread() -> float:
    """Return the largest error of the logarithm of a ratio, of the runs on any text by a fit of the others."""
    largest = 0.0
    for text, left_out in POINTS.items():
        fit = _fit(point for other in POINTS if other != text for point in POINTS[other])
        errors = [float(fit @ _terms(p.symbols, p.numbers)) - math.log(p.ratio) for p in left_out]
        largest = max(largest, *map(abs, errors))
    return largest


def _fit(points: Iterable[Point]) -> Floats:
    """Return the least squares' factors of the terms."""
    points = list(points)
    terms = np.array([_terms(point.symbols, point.numbers) for point in points])
    return np.asarray(np.linalg.lstsq(terms, np.log([point.ratio for point in points]), rcond=None)[0])


def _terms(symbols: float, numbers: float) -> Floats:
    n, p = math.log(symbols / MIDDLE[0]), math.log(numbers / MIDDLE[1])
    return np.array([1.0, n, p, n * p])
