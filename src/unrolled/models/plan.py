"""What a forecaster's file says of its series: their columns, their scaling, and how windows of them are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array
from ..data.series import FILLS, LARGEST, Columns, Series
from ..data.times import CALENDAR, Grid, calendar
from ..data.windows import INSTANCES, OUTPUTS, Layout
from ..errors import UnrolledError, suggest
from ..nn.heads import Head, numbers
from ..schema import each, entries, flag, maybe, number, one_of, text, whole

LEVELS = (0.8, 0.95)
"""Shares of the values that bands are to hold."""
QUANTILES = (0.025, 0.1, 0.5, 0.9, 0.975)
"""Ends of the bands, and the median between them."""
DEVIATES = (1.2815515655446004, 1.959963984540054)
"""How many standard deviations from its mean the ends of a Gaussian's bands are."""
LOSSES = ("absolute", "squared", "huber", "quantile", "gaussian")
MOST = 100_000
"""Series of a file, at most."""


@dataclass(frozen=True)
class Plan:
    """How series become numbers and forecasts.

    Attributes
    ----------
    columns : Columns
    grid : Grid
    names : tuple of str
        Of the series, C.
    means, deviations : tuples of float
        Of each series, and then of each column that is known beforehand, in the part to train on.
    layout : Layout
    calendar : tuple of str
        What of a calendar is read.
    loss : str
    season : int
        Steps of a season, 1 where there is none.
    linear : list of lists, optional
        Least-squares map (L - 1, H), to compare with.
    fill : str
    stride : int
        Steps between two forecasts that are scored.
    """

    columns: Columns
    grid: Grid
    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    layout: Layout
    calendar: tuple[str, ...]
    loss: str
    season: int
    linear: Any
    fill: str
    stride: int

    def head(self) -> Head:
        """Return the head of the network: numbers at every step."""
        size = self.layout.outputs
        if self.loss == "absolute":  # twice the quantile loss of the median
            return numbers(size, loss="quantile", quantiles=(0.5,))
        return numbers(size, loss=self.loss, quantiles=QUANTILES if self.loss == "quantile" else ())

    def read(self, outputs: Array, series: NDArray[np.int64]) -> tuple[Array, Array | None]:
        """Outputs (m, R, K) of series (R,) -> the middle of a forecast (R, H), and how far its bands reach.

        That is (2 levels, 2 sides, R, H): below the middle and above it; None of a network that gives one number.
        """
        found = self.layout.own(self.head().predict(outputs), series)
        if self.loss == "gaussian":
            reach = np.multiply.outer(DEVIATES, found[..., 1])
            return found[..., 0], np.stack([reach, reach], axis=1)
        if self.loss == "quantile":
            q = np.moveaxis(found, -1, 0)
            return q[2], np.stack([[q[2] - q[1], q[3] - q[2]], [q[2] - q[0], q[4] - q[2]]])
        return found.reshape(found.shape[:2]), None

    # --- series <-> numbers

    def values(self, series: Series, dtype: Any = np.float32) -> Array:
        """Return a series' values, standardised by the part that the model was trained on."""
        c = self.number(series.name)
        return ((series.values - self.means[c]) / self.deviations[c]).astype(dtype)

    def number(self, name: str) -> int:
        """Return the number of a series, or refuse one that the model has not learnt."""
        if name not in self.names:
            raise UnrolledError(suggest("series that the model knows", name, list(self.names)))
        return self.names.index(name)

    def known(self, series: Series, dtype: Any = np.float32) -> Array:
        """Return what is known beforehand of a series and a horizon after it, (N + H, calendar + K)."""
        after = self.grid.after(series.times[-1:], np.arange(1, self.layout.horizon + 1))
        parts = calendar(np.concatenate([series.times, after]), self.calendar)
        if not self.columns.known:
            return parts.astype(dtype)
        of_known = np.array(self.means[-self.layout.known :]), np.array(self.deviations[-self.layout.known :])
        others = np.full((len(parts), self.layout.known), np.nan)
        rows = series.known[: len(parts)]
        others[: len(rows)] = (rows - of_known[0]) / of_known[1]
        return np.concatenate([parts, others], axis=1).astype(dtype)

    # --- files

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        said = {name: getattr(self, name) for name in _PLAN}
        said |= {"columns": self.columns._asdict(), "grid": self.grid._asdict(), "layout": asdict(self.layout)}
        return {name: _listed(value) for name, value in said.items()}

    @classmethod
    def from_json(cls, name: str, value: Any) -> Plan:
        """Rebuild from `to_json`'s dictionary; what is unknown, missing or makes no sense is an error."""
        said = _READ(name, value)
        layout, linear = Layout(**said.pop("layout")), said.pop("linear")
        parts: dict[str, Any] = {
            part: tuple(v) if isinstance(v, list) else v for part, v in said.pop("columns").items()
        }
        columns, grid = Columns(**parts), Grid(**said.pop("grid"))
        known, scaled = len(columns.known), len(said["names"]) + len(columns.known)
        fits = [
            layout.horizon % layout.segment == 0 and layout.context % layout.segment == 0,
            layout.series == len(said["names"]) == len(set(said["names"])) > 0,
            layout.calendar == 2 * len(said["calendar"]) and layout.known == known,
            len(said["means"]) == len(said["deviations"]) == scaled and min(said["deviations"], default=0) > 0,
            linear is None or (len(linear), {*map(len, linear)}) == (layout.context - 1, {layout.horizon}),
            layout.scale > 0 and grid.size > 0,
            len(columns.targets) > 0 and (columns.id != "" or len(columns.targets) == len(said["names"])),
        ]
        if not all(fits):
            raise UnrolledError(f"{name} contradicts itself: sizes of its layout, its series and its scaling differ")
        plain: dict[str, Any] = {part: tuple(v) if isinstance(v, list) else v for part, v in said.items()}
        return cls(columns=columns, grid=grid, layout=layout, linear=linear, **plain)


def _listed(value: Any) -> Any:
    """Return what JSON takes."""
    if isinstance(value, Mapping):
        return {name: _listed(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


_NAMES = each(text(), most=MOST)
_SIZE = whole(1, 1_000_000)
_PLAN = {
    "columns": entries({"targets": _NAMES, "time": text(), "id": text(), "known": _NAMES}),
    "grid": entries({"unit": one_of(("microsecond", "month", "weekday", "number")), "size": number()}),
    "names": _NAMES,
    "means": each(number(-LARGEST, LARGEST), most=2 * MOST),
    "deviations": each(number(0, LARGEST), most=2 * MOST),
    "layout": entries(
        {
            "context": _SIZE,
            "horizon": _SIZE,
            "segment": _SIZE,
            "output": one_of(OUTPUTS),
            "instance": one_of(INSTANCES),
            "series": whole(1, MOST),
            "calendar": whole(0, 2 * len(CALENDAR)),
            "known": whole(0, 10_000),
            "scale": number(0, LARGEST),
            "apart": flag(),
        }
    ),
    "calendar": each(one_of(CALENDAR), most=len(CALENDAR)),
    "loss": one_of(LOSSES),
    "season": _SIZE,
    "linear": maybe(each(each(number()))),
    "fill": one_of(FILLS),
    "stride": _SIZE,
}
_READ = entries(_PLAN)
