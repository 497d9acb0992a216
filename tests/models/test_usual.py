"""What a model of its size usually reaches: the fit worked out once more, what it is not said of, and who says it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from unrolled.models.usual import BEYOND, POINTS, spread, usual
from unrolled.models.yardsticks import COUNTED

RESULTS = Path(__file__).parents[2] / "benchmarks/results/usual.json"
ALL = [point for text in POINTS.values() for point in text]


def normal_equations(points):
    """log ratio = a + b n + c p + d n p, n and p from the points' means; the plane of solutions is the same."""
    n, p, ratio = (np.log([getattr(point, name) for point in points]) for name in ("symbols", "numbers", "ratio"))
    dn, dp = n - n.mean(), p - p.mean()
    terms = [np.ones_like(n), dn, dp, dn * dp]
    left = [[float((one * other).sum()) for other in terms] for one in terms]
    a, b, c, d = np.linalg.solve(left, [float((one * ratio).sum()) for one in terms])

    def fit(symbols, numbers):
        x, y = math.log(symbols) - n.mean(), math.log(numbers) - p.mean()
        return a + b * x + c * y + d * x * y

    return fit


def test_the_points_are_those_of_the_committed_runs():
    rows = json.loads(RESULTS.read_text())["rows"]
    names = ("symbols", "numbers", "five_gram", "ratio")
    found = {text: sorted([row[name] for name in names] for row in rows if row["text"] == text) for text in POINTS}
    assert len(rows) == len(ALL)
    for text, points in POINTS.items():
        assert np.array(sorted(points)) == pytest.approx(np.array(found[text]), abs=5e-5)  # four digits are kept
    assert all(row["ratio"] == row["validation"] / row["five_gram"] for row in rows)


def test_the_middle_is_that_of_least_squares():
    fit = normal_equations(ALL)
    for symbols, numbers in ((100_000, 60_000), (400_000, 500_000), (1_000_000, 200_000)):
        found = usual(symbols, numbers, 1.5)
        assert found.middle == pytest.approx(1.5 * math.exp(fit(symbols, numbers)), rel=1e-9)
        assert (found.runs, found.texts) == (len(ALL), 3)


def test_every_text_lies_within_the_range_that_the_others_have():
    """The spread is the largest of these errors, so that no run of a text that was left out lies outside."""
    errors = []
    for text, points in POINTS.items():
        fit = normal_equations([point for other in POINTS if other != text for point in POINTS[other]])
        errors += [abs(fit(point.symbols, point.numbers) - math.log(point.ratio)) for point in points]
    assert spread() == pytest.approx(max(errors), rel=1e-9)
    found = usual(400_000, 200_000, 1.5)
    assert found.high / found.middle == pytest.approx(found.middle / found.low)
    assert math.log(found.high / found.middle) == pytest.approx(max(errors), rel=1e-9)
    assert max(errors) < 0.15  # a range that is wider than that shows nothing


def test_nothing_is_said_far_from_all_runs():
    inside = {"symbols": 400_000, "numbers": 200_000, "five_gram": 1.5}
    for name, value in inside.items():
        known = [getattr(point, name) for point in ALL]
        for edge, beyond in ((min(known) / BEYOND, 0.999), (max(known) * BEYOND, 1.001)):
            assert usual(**inside | {name: edge}) is not None
            assert usual(**inside | {name: edge * beyond}) is None
        assert usual(**inside | {name: value}) is not None
    assert max(point.symbols for point in ALL) * BEYOND < COUNTED  # so that N is known wherever it is in the range
