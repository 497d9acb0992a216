"""Bands of forecasts that hold the share of values which they should: split conformal prediction.

Letters: R windows, H steps of a horizon, C series.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..checks import Array
from ..data.windows import Window
from ..errors import UnrolledError, count
from ..schema import each, entries, maybe, number
from .plan import LEVELS, MOST, Plan

_LEAST = 1e-6
"""Reach of a band, at least, in units of how far values move."""


@dataclass(frozen=True)
class Bands:
    """How wide the bands of a forecaster are, found where it was validated.

    A forecast's reach is how far a band's end is from its middle, as the network has it, or, of a network that gives
    one number, its mean absolute error at that step. Bands are the reach times a factor such that they hold a share of
    the values that were forecast when it was validated: split conformal prediction (Papadopoulos et al. 2002; Romano
    et al. 2019; relative to the reach: Sesia & Candès 2020).

    Attributes
    ----------
    factors : list of lists
        For each of `LEVELS` a factor a series.
    reach : list of lists, optional
        Of a network that gives one number: of each series (C) and of each step (H), the product of both.
    before : list of float
        Shares that the bands held before, by level; empty where there were none.
    """

    factors: Sequence[Sequence[float]]
    reach: Sequence[Sequence[float]] | None = None
    before: Sequence[float] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)


_BANDS = entries(
    {
        "factors": each(each(number(0), most=MOST), exactly=len(LEVELS)),
        "reach": maybe(each(each(number(0)), exactly=2)),
        "before": each(number(0, 1), most=len(LEVELS)),
    }
)


def read_bands(name: str, value: Any) -> Bands:
    """Rebuild bands from JSON."""
    return Bands(**_BANDS(name, value))


def check_bands(bands: Bands, plan: Plan) -> None:
    """Refuse bands of other series or steps than the plan's."""
    many, reach = len(plan.names), None if bands.reach is None else [len(part) for part in bands.reach]
    expected = None if plan.loss in ("quantile", "gaussian") else [many, plan.layout.horizon]
    if {*map(len, bands.factors)} != {many} or reach != expected or len(bands.before) not in (0, len(LEVELS)):
        sizes = f"{count(many, 'series')} and {count(plan.layout.horizon, 'step')}"
        raise UnrolledError(f"the bands of the forecaster are not of its {sizes}")


def reached(bands: Bands | None, reach: Array | None, series: Array) -> Array | None:
    """Return how far bands reach below and above forecasts, (levels, 2, R, H), of what a network gives; None: no bands.

    Parameters
    ----------
    bands : Bands, optional
        Without them it is as the network has it.
    reach : (levels, 2, R, H), optional
    series : (R,)
    """
    if bands is None:
        return reach
    factors = np.array(bands.factors)[:, series][:, None, :, None]
    if reach is None:
        of_series, of_steps = (np.array(part) for part in bands.reach or ([], []))
        both = of_series[series, None] * of_steps
        reach = np.broadcast_to(both, (len(LEVELS), 2, *both.shape))
    return np.maximum.accumulate(factors * np.maximum(reach, _LEAST), axis=0)  # a wider band holds a narrower one


def calibrated(plan: Plan, forecasts: Sequence[tuple[Window, Array, Array | None]]) -> Bands:
    """Return bands that hold what they should of these windows, each with its forecasts' middle and reach."""
    series = np.concatenate([window.series for window, _, _ in forecasts])
    errors = np.concatenate([(w.future - w.offset) / w.spread - middle for w, middle, _ in forecasts]).astype(float)
    size = np.abs(errors)
    parts = [reach for _, _, reach in forecasts if reach is not None]
    many, of_both = len(plan.names), None
    if parts:
        reach = np.concatenate(parts, axis=2)
        before = [float((size <= np.where(errors > 0, up, low)).mean()) for low, up in reach]
    else:
        of_series = np.array([size[series == c].mean() if (series == c).any() else size.mean() for c in range(many)])
        of_steps = (size / np.maximum(of_series[series, None], _LEAST)).mean(axis=0)
        of_both, before = [_plain(of_series), _plain(of_steps)], []
        reach = np.broadcast_to(of_series[series, None] * of_steps, (len(LEVELS), 2, *size.shape))
    factors = []
    for level, (low, up) in zip(LEVELS, reach, strict=True):
        scores = size / np.maximum(np.where(errors > 0, up, low), _LEAST)
        of_all = _quantile(level, scores)
        factors.append([_quantile(level, scores[series == c]) if (series == c).any() else of_all for c in range(many)])
    return Bands(factors, of_both, before)


def _plain(values: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _quantile(level: float, scores: Array) -> float:
    """Return what the share `level` of scores lies below, with the correction for a sample; of too few the largest.

    Examples
    --------
    >>> _quantile(0.8, np.arange(1.0, 10.0)), _quantile(0.95, np.arange(1.0, 10.0))
    (8.0, 9.0)
    """
    ordered = np.sort(scores.ravel())
    return float(f"{ordered[min(math.ceil(level * (len(ordered) + 1)), len(ordered)) - 1]:.6g}")
