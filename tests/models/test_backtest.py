"""What forecasts are measured against, and how bands are made to hold what they should."""

import numpy as np
import pytest

from unrolled.models import baselines
from unrolled.models.bands import _quantile

WEEK = np.tile([5.0, 3, 3, 4, 6, 9, 8], 30)


def test_a_season_is_found_among_those_of_a_calendar_or_any():
    noise = np.random.default_rng(2).normal(size=len(WEEK))
    assert baselines.season_of([WEEK + 0.3 * noise], (7,)) == 7
    assert baselines.season_of([WEEK + 0.3 * noise + np.arange(len(WEEK))]) == 7
    assert baselines.season_of([noise], (7,)) == 1
    assert baselines.season_of([np.zeros(20)], (7,)) == 1
    assert baselines.season_of([WEEK[:9]], (7,)) == 1  # too short to show one


def test_simple_forecasts_repeat_what_was():
    contexts = np.array([[1.0, 2, 3, 4, 5], [9.0, 8, 7, 6, 5]])
    assert baselines.last_value(contexts, 3).tolist() == [[5, 5, 5], [5, 5, 5]]
    assert baselines.seasonal(contexts, 4, 3).tolist() == [[3, 4, 5, 3], [7, 6, 5, 7]]
    assert baselines.seasonal(contexts, 2, 6).tolist() == [[5, 5], [5, 5]]


def test_the_linear_map_is_that_of_least_squares():
    rng = np.random.default_rng(3)
    contexts, true = rng.normal(size=(400, 5)), rng.normal(size=(4, 3))
    last = contexts[:, -1:]
    futures = last + (contexts[:, :-1] - last) @ true
    weight = baselines.linear_fit(contexts, futures)
    np.testing.assert_allclose(weight, true, atol=2e-3)  # of the ridge, 1e-4 of a mean square
    np.testing.assert_allclose(baselines.linear(contexts + 7, weight), futures + 7, atol=0.02)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_band_holds_what_it_should_of_values_that_it_has_not_seen(level):
    rng = np.random.default_rng(5)
    factors = np.array([_quantile(level, np.abs(rng.normal(size=99))) for _ in range(300)])
    held = (np.abs(rng.normal(size=(300, 200))) < factors[:, None]).mean()
    assert level - 0.01 < held < level + 0.02  # at least the level on the mean, and at most 1 / 100 above it
