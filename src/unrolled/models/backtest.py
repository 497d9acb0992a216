"""Forecasts from many steps of series against what came, beside simple forecasts: a backtest over rolling origins.

Letters: C series, H steps of a horizon, R windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from . import baselines
from .plan import LEVELS, Plan

MODEL = "model"
TITLES = {MODEL: "model", "last": "last value", "seasonal": "last season", "linear": "linear"}
_SHOWN, _SERIES = 6, 20
"""Steps of a horizon, and series, that a table for people has at most."""


class Backtest:
    """Sums over windows of how far forecasts were off, by series and step.

    Parameters
    ----------
    plan : Plan
        Says what to compare with.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, shape = plan, (plan.layout.series, plan.layout.horizon)
        self.windows = np.zeros(shape[0], int)
        self.methods = [MODEL, *baselines.BASELINES[: 2 if plan.linear is None else 3]]
        self.squares = {name: np.zeros(shape) for name in self.methods}
        self.sizes = {name: np.zeros(shape) for name in self.methods}
        self.held = np.zeros((len(LEVELS), *shape))
        self.banded = False

    def add(
        self, series: NDArray[np.int64], context: Array, future: Array, middle: Array, lower: Any, upper: Any
    ) -> None:
        """Add windows (R, ...) of series (R,): standardised values, forecasts, and the ends of their bands, if any."""
        np.add.at(self.windows, series, 1)
        for name, values in ({MODEL: middle} | self.simple(context)).items():
            error = values.astype(float) - future
            np.add.at(self.squares[name], series, error * error)
            np.add.at(self.sizes[name], series, np.abs(error))
        if lower is not None:
            self.banded = True
            for level in range(len(LEVELS)):
                np.add.at(self.held[level], series, (lower[level] <= future) & (future <= upper[level]))

    def simple(self, context: Array) -> dict[str, Array]:
        """Contexts (R, L) -> what simple ways forecast, (R, H) each."""
        plan, horizon = self.plan, self.plan.layout.horizon
        found = {
            "last": baselines.last_value(context, horizon),
            "seasonal": baselines.seasonal(context, horizon, plan.season),
        }
        if plan.linear is not None:
            found["linear"] = baselines.linear(context, np.asarray(plan.linear))
        return found

    def figures(self) -> dict[str, float]:
        """Return the figures over all windows, series and steps."""
        found = {"windows": float(self.windows.sum())}
        for name in self.methods:
            end = "" if name == MODEL else f"_{name}"
            found |= {f"mse{end}": self._mean(self.squares[name]), f"mae{end}": self._mean(self.sizes[name])}
        units = np.array(self.plan.deviations[: self.plan.layout.series])[:, None]
        found["rmse_units"] = math.sqrt(self._mean(self.squares[MODEL] * units**2))
        found["mae_units"] = self._mean(self.sizes[MODEL] * units)
        if self.banded:
            found |= {f"coverage_{100 * p:.0f}": self._mean(h) for p, h in zip(LEVELS, self.held, strict=True)}
        return found

    def _mean(self, sums: Array) -> float:
        """Return the mean over windows and steps of sums (C, H)."""
        return float(sums.sum() / (self.windows.sum() * sums.shape[1]))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the figures by series, and by step of the horizon."""
        steps, windows = self.plan.layout.horizon, np.maximum(self.windows, 1)
        units = self.plan.deviations
        series = [
            {
                "series": name,
                "windows": int(self.windows[c]),
                "mse": float(self.squares[MODEL][c].sum() / windows[c] / steps),
                "mae": float(self.sizes[MODEL][c].sum() / windows[c] / steps),
                "mae_units": float(self.sizes[MODEL][c].sum() / windows[c] / steps * units[c]),
            }
            for c, name in enumerate(self.plan.names)
            if self.windows[c]
        ]
        by_step = [
            {"step": h + 1} | {name: float(self.squares[name][:, h].sum() / windows.sum()) for name in self.methods}
            for h in range(steps)
        ]
        return {"series": series, "steps": by_step}

    def lines(self) -> list[str]:
        """Return the figures for people."""
        figures, tables, plan = self.figures(), self.tables(), self.plan
        lines = [
            f"{int(figures['windows']):,} forecasts of {plan.layout.horizon:,} steps; errors of standardised values:",
            _row("", ["MSE", "MAE"]),
        ]
        for name in self.methods:
            end = "" if name == MODEL else f"_{name}"
            title = TITLES[name] + (f" ({plan.season:,})" if name == "seasonal" else "")
            lines.append(_row(title, [figures[f"mse{end}"], figures[f"mae{end}"]]))
        lines.append(f"as the series have them: RMSE {figures['rmse_units']:.4g}, MAE {figures['mae_units']:.4g}")
        if self.banded:
            held = (f"the {p:.0%} band holds {figures[f'coverage_{100 * p:.0f}']:.1%}" for p in LEVELS)
            lines.append(", ".join(held))
        steps = sorted({round(h) for h in np.geomspace(1, plan.layout.horizon, _SHOWN)})
        lines += ["", _row("MSE at step", [str(h) for h in steps])]
        lines += [_row(TITLES[name], [tables["steps"][h - 1][name] for h in steps]) for name in self.methods]
        if len(tables["series"]) > 1:
            lines += ["", _row("series", ["MSE", "MAE", "MAE, units"])]
            shown = tables["series"][:_SERIES]
            lines += [_row(row["series"], [row["mse"], row["mae"], row["mae_units"]]) for row in shown]
            if more := len(tables["series"]) - len(shown):
                lines.append(f"and {more:,} more")
        return lines


def _row(title: str, cells: Sequence[float | str]) -> str:
    """Return a row of a table in which numbers stand below each other."""
    said = (cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells)
    return f"{title[:20]:<20}" + "".join(f"{cell:>12}" for cell in said)
