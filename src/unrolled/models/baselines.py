"""Forecasts that every other must be measured against: the last value, the last season, and a linear map.

Letters: R windows, L steps of context, H of horizon.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..checks import Array

BASELINES = ("last", "seasonal", "linear")
_ROWS = 200_000
"""Windows that the linear map is fitted to, at most: more change it little."""
_RIDGE = 1e-4
_OF_CALENDAR, _OF_ANY, _NEAR = 0.1, 0.4, 0.95
"""Least autocorrelation of a calendar's season, of any other, and of a shorter one as a share of the best."""


def season_of(series: Sequence[Array], candidates: Sequence[int] = ()) -> int:
    """Return after how many steps series repeat themselves: 1 where they don't.

    It is the lag at which the changes from step to step correlate most with themselves: one of the candidates, which
    a calendar gives, or if none of them does, any peak. Of several that are about as good it is the shortest.

    Examples
    --------
    >>> waves = np.sin(np.arange(400) * 2 * np.pi / 12) + 0.1 * np.arange(400)
    >>> season_of([waves]), season_of([waves], [7, 24]), season_of([np.random.default_rng(0).normal(size=400)], [7])
    (12, 24, 1)
    """
    most = max([1000, *candidates])
    total = np.zeros(most + 2)
    for values in series:
        r = autocorrelation(np.diff(np.asarray(values, float)), most + 1)
        total[: len(r)] += r / len(series)
    usable = min(most, min(len(values) for values in series) // 2)
    peaks = [lag for lag in range(2, usable) if total[lag - 1] < total[lag] >= total[lag + 1]]
    by_chance = 3 / np.sqrt(sum(map(len, series)))
    for lags, least in ((candidates, max(_OF_CALENDAR, by_chance)), (peaks, _OF_ANY)):
        lags = [lag for lag in lags if lag <= usable]
        best = max((total[lag] for lag in lags), default=0.0)
        if best >= least:
            return min(lag for lag in lags if total[lag] >= _NEAR * best)
    return 1


def autocorrelation(values: Array, most: int) -> Array:
    """Return the autocorrelation of values at lags 0 to `most`, as far as they go."""
    values, n = values - values.mean(), len(values)
    size = 1 << (2 * n - 1).bit_length()
    power = np.abs(np.fft.rfft(values, size)) ** 2
    r: Array = np.fft.irfft(power, size)[: min(most + 1, n)]
    return r / r[0] if r[0] > 0 else np.zeros_like(r)


def last_value(contexts: Array, horizon: int) -> Array:
    """(R, L) -> (R, H): the last value again and again."""
    return np.repeat(contexts[:, -1:], horizon, axis=1)


def seasonal(contexts: Array, horizon: int, season: int) -> Array:
    """(R, L) -> (R, H): the last season again and again; the last value where a context is shorter than a season."""
    season = season if season <= contexts.shape[1] else 1
    return contexts[:, contexts.shape[1] - season + np.arange(horizon) % season]


def linear_fit(contexts: Array, futures: Array, scale: float = 1.0) -> Array:
    """(R, L), (R, H) -> the least-squares map (L - 1, H) of contexts, less their last value, to what comes after it.

    It is the closed form of a linear layer on such windows (Zeng et al. 2023, NLinear), with a little ridge.
    """
    pick = slice(None, None, max(1, len(contexts) // _ROWS))
    last = contexts[pick, -1:].astype(float)
    x, y = contexts[pick, :-1] - last, futures[pick] - last
    gram = x.T @ x
    gram[np.diag_indices(len(gram))] += _RIDGE * (np.trace(gram) / max(len(gram), 1) + 1e-12 * scale**2) + 1e-30
    found: Array = np.linalg.solve(gram, x.T @ y)
    return found


def linear(contexts: Array, weight: Array) -> Array:
    """(R, L), (L - 1, H) -> (R, H): what the least-squares map gives."""
    last = contexts[:, -1:]
    return np.asarray(last + (contexts[:, :-1] - last) @ weight)
