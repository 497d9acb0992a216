"""A forecaster: a network that continues series, and says how sure it is.

Letters: N steps of a series, C series; R windows, L steps of a context, H of a horizon.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Self

import numpy as np

from ..cells import Cell
from ..checks import Array, array_dtype, check_size
from ..data.series import Series, SeriesSet
from ..data.tables import line_of
from ..data.times import Times
from ..data.windows import Windows, every_place
from ..declared import anew, described, keywords
from ..errors import UnrolledError, brief, count
from ..keywords import named
from ..pictures import Panel, draw_forecasts
from ..schema import maybe
from ..training import checkpoints
from ..training.callbacks import Callback
from . import forecaster_data
from .backtest import Backtest
from .bands import read_bands
from .forecaster_options import Options
from .forecasting import Forecasting
from .of_data import Material, Scored
from .plan import LEVELS, Plan

Source = Any
"""A file of series, numbers (N,) or (N, C), or columns by their names; see `unrolled.data.series.read_series`."""


class Forecast(NamedTuple):
    """The next steps of series.

    Attributes
    ----------
    names : tuple of str
        Of the series, C.
    times : list of C arrays (H,)
    values : (H, C)
    bands : dict
        By share (0.8, 0.95) the ends of the band that is to hold so many values, (H, C) each; empty where the model
        was not validated, and gives one number a step.
    """

    names: tuple[str, ...]
    times: list[Times]
    values: Array
    bands: dict[float, tuple[Array, Array]]


class Forecaster(Forecasting):
    """A network that continues series.

    Attributes
    ----------
    network : Network
    plan : Plan
        How series become numbers and forecasts.
    bands : Bands or None
        How wide the bands are, once it was validated.
    result : Result or None
        How training went, after `train`.

    Examples
    --------
    >>> import unrolled as ur
    >>> waves = np.sin(np.arange(300) * 2 * np.pi / 12)
    >>> model = ur.Forecaster.train(waves, horizon=6, context=12, hidden_size=16, epochs=3, dropout=0.0,
    ...                             learning_rate=0.01, batch_size=32)
    >>> model.predict(waves).shape
    (6,)
    >>> float(np.abs(model.predict(waves) - waves[:6]).max()) < 0.2
    True
    """

    def __repr__(self) -> str:
        spec, layout = self.spec, self.plan.layout
        size = f"{layout.series:,} series, {layout.horizon:,} steps from {layout.context:,}"
        return f"Forecaster({spec.cell}, {spec.num_layers} x {spec.hidden_size}, {size})"

    @classmethod
    @named(keywords(Options))
    @described(Options)
    def train(
        cls,
        source: Source,
        *,
        val: Source = None,
        test: Source = None,
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **options: Any,
    ) -> Self:
        """Train a forecaster.

        Parameters
        ----------
        source : path, array (N,) or (N, C), or columns by name
            The series; see `unrolled.data.series.read_series`.
        val, test : as source, optional
            Series to validate and to test on, instead of shares of each series' end.
        auto : bool
            Whether passes that aren't given are chosen from the amount of data and from `minutes`, as in
            `LanguageModel.train`.
        out, overwrite, callbacks, verbose, backend
            As in `LanguageModel.train`.
        **options
            Fields of `unrolled.models.forecaster_options.Options`, with these names and defaults.

        Returns
        -------
        Forecaster
            With the parameters of the lowest validation loss, and bands that hold what they should there.

        (Columns of `target` and `known` may be a list of names too.)

        Raises
        ------
        UnrolledError
            For series or an option that won't do.
        Interrupted
            As in `LanguageModel.train`.
        """
        how: Any = {"out": out, "overwrite": overwrite, "auto": auto, "callbacks": callbacks, "verbose": verbose}
        for name in ("target", "known"):
            names = options.get(name)
            if isinstance(names, (list, tuple)) and names and all(isinstance(column, str) for column in names):
                options[name] = ",".join(names)
        return cls._train(source, val, test, options, backend=backend, **how)

    @classmethod
    @described(Options, anew(Options))
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Source = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        cell: str | Cell | None = None,
        **options: Any,
    ) -> Self:
        """Go on with a run, to the same bits as if it had never stopped; as `LanguageModel.resume`.

        Parameters
        ----------
        folder, source, callbacks, verbose, backend, cell
            As there.
        **options
            Those that may be given anew:
        """
        how: Any = {"callbacks": callbacks, "verbose": verbose, "backend": backend, "cell": cell}
        return cls._resume(folder, source, options, **how)

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
        """Read series; scaling and what to compare with are those of the part to train on."""
        return forecaster_data.material(sources, options, None if codec is None else codec["plan"])

    # --- what people do with it

    def forecast(self, source: Source) -> Forecast:
        """Forecast the steps after the end of series, with bands.

        Parameters
        ----------
        source : path, array or columns by name
            At least a context of each series; other series than in training are refused.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.Forecaster.train(np.arange(80.0), horizon=4, context=8, hidden_size=8, epochs=1)
        >>> forecast = model.forecast(np.arange(80.0))
        >>> forecast.names, forecast.values.shape, sorted(forecast.bands)
        (('series',), (4, 1), [0.8, 0.95])
        """
        return self._forecast(forecaster_data.read_again(source, self.plan))

    def _forecast(self, data: SeriesSet) -> Forecast:
        plan = self.plan
        steps = np.arange(1, plan.layout.horizon + 1)
        for series in data.series:
            if plan.layout.known and len(series.known) < len(series) + len(steps):
                need = f"the {count(len(steps), 'step')} after {series.name} need values of what is known beforehand"
                raise UnrolledError(f"{data.where}: {need}, {brief(plan.columns.known[0])}; add rows without a target")
        ends = np.array([[s, len(series)] for s, series in enumerate(data.series)], np.int64)
        windows = self._windows(data, ends)
        parts = [self._ends(windows.window(k)) for k in range(len(windows))]
        c = [plan.number(series.name) for series in data.series]
        means, deviations = np.array(plan.means)[c, None], np.array(plan.deviations)[c, None]

        def units(values: Sequence[Array]) -> Array:
            return np.asarray(np.concatenate(values) * deviations + means).T

        middle, *bands = zip(*parts, strict=True)
        return Forecast(
            tuple(series.name for series in data.series),
            [plan.grid.after(series.times[-1:], steps) for series in data.series],
            units(middle),
            {}
            if bands[0][0] is None
            else {
                p: (units([part[k] for part in bands[0]]), units([part[k] for part in bands[1]]))
                for k, p in enumerate(LEVELS)
            },
        )

    def predict(self, x: Source) -> Array:
        """Return the steps after the end of series: (H,) of numbers (N,), else (H, C)."""
        values = self.forecast(x).values
        return values[:, 0] if getattr(x, "ndim", 2) == 1 else values

    def predictions(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield the steps after the end of a file's series as CSV: time, series, forecast, and the ends of bands."""
        forecast, columns = self.forecast(_one(paths)), self.plan.columns
        ends = [f"{end}_{100 * p:.0f}" for p in forecast.bands for end in ("low", "high")]
        yield line_of([columns.time or "step", columns.id or "series", "forecast", *ends])
        for c, (name, times) in enumerate(zip(forecast.names, forecast.times, strict=True)):
            bands = [side[:, c] for both in forecast.bands.values() for side in both]
            for row, time in zip(
                zip(forecast.values[:, c], *bands, strict=True), self.plan.grid.texts(times), strict=True
            ):
                yield line_of([time, name, *(f"{value:.6g}" for value in row)])

    def score(self, data: Source, *, stride: int | None = None) -> dict[str, float]:
        """Return how far forecasts from every step of series are from what came, beside simple forecasts.

        Parameters
        ----------
        data : path, array or columns by name
        stride : int, optional
            Steps between two forecasts; as the model was trained by default.

        Returns
        -------
        dict
            `mse` and `mae` of standardised values, `rmse_units` and `mae_units` as the series have them, the share of
            values within each band (`coverage_80`, `coverage_95`), and `mse_last`, `mse_seasonal`, `mse_linear`, with
            their `mae`, of forecasts to compare with.
        """
        return self._backtest(data, stride).figures()

    def scored(self, paths: Sequence[str]) -> Scored:
        """Return how far forecasts from every step of a file's series are from what came."""
        test = self._backtest(_one(paths), None)
        return Scored(test.figures() | test.tables(), test.lines())

    def draw(self, paths: Sequence[str]) -> Any:
        """Return a picture of the last horizon of a file's series as it was forecast, and of what comes after."""
        return draw_forecasts(*self._pictured(_one(paths)))

    # --- files

    def codec(self) -> dict[str, Any]:
        """Return how series become numbers and forecasts, as JSON."""
        return {"plan": self.plan.to_json(), "bands": None if self.bands is None else self.bands.to_json()}

    def details(self) -> list[tuple[str, str]]:
        """Return what `unrolled info` prints of it."""
        plan, layout = self.plan, self.plan.layout
        lines = [
            (
                "series",
                ", ".join(plan.names[:8]) + (f" and {len(plan.names) - 8:,} more" if len(plan.names) > 8 else ""),
            ),
            ("forecasts", f"{layout.horizon:,} steps of {plan.grid.title} from {layout.context:,}, {layout.output}"),
        ]
        if self.bands is not None and self.bands.before:
            held = ", ".join(f"{p:.0%}: {share:.1%}" for p, share in zip(LEVELS, self.bands.before, strict=True))
            lines.append(("bands", f"before they were widened they held, in validation, {held}"))
        return lines

    # --- windows

    def _windows(self, data: SeriesSet, places: Array) -> Windows:
        return forecaster_data.windows(
            data, self.plan, places, _ROWS, data.where, array_dtype(self.network.recurrent.dtype)
        )

    def _backtest(self, source: Source, stride: int | None) -> Backtest:
        """Return sums over forecasts from every step of series."""
        stride = self.plan.stride if stride is None else check_size("stride", stride)
        data = forecaster_data.read_again(source, self.plan)
        windows = self._windows(data, every_place([len(s) for s in data.series], self.plan.layout, stride=stride))
        found = Backtest(self.plan)
        for k in range(len(windows)):
            window = windows.window(k)
            found.add(window.series, window.context, window.future, *self._ends(window))
        return found

    def _pictured(self, source: Source) -> tuple[list[Panel], int]:
        """Return series, each with what was forecast of its end and of the steps behind it; how many are left out."""
        data, horizon = forecaster_data.read_again(source, self.plan), self.plan.layout.horizon
        panels = []
        known = self.plan.layout.known
        for series in data.series[:_PANELS]:
            forecasts = []
            for end in (len(series) - horizon, len(series)):
                if end < self.plan.layout.context or (known and len(series.known) < end + horizon):
                    continue
                part = Series(series.name, series.times[:end], series.values[:end], series.known[: end + horizon])
                forecast = self._forecast(replace(data, series=(part,)))
                bands = {p: (low[:, 0], high[:, 0]) for p, (low, high) in forecast.bands.items()}
                forecasts.append((self._axis(forecast.times[0]), forecast.values[:, 0], bands))
            shown = slice(-min(len(series), 4 * horizon), None)
            panels.append(Panel(series.name, self._axis(series.times[shown]), series.values[shown], forecasts))
        return panels, len(data.series) - len(panels)

    def _axis(self, times: Times) -> Array:
        """Return times as they are drawn."""
        return times if self.plan.grid.unit == "number" else times.astype("datetime64[us]")


_ROWS = 1024
"""Windows that are forecast at once."""
_PANELS = 8
"""Series that are drawn, at most."""

KIND = checkpoints.Kind(
    Forecaster.kind,
    Options,
    {"plan": Plan.from_json, "bands": maybe(read_bands)},
    spec=lambda options, plan, bands: options.spec(plan.layout.features),
    head=lambda plan, bands: plan.head(),
    model=Forecaster,
    task="forecast",
    noun="a forecaster",
)
"""The contents of files of a forecaster."""


def _one(paths: Sequence[str]) -> str:
    """Return the one file of series that is named."""
    if len(paths) != 1:
        raise UnrolledError(f"{count(len(paths), 'file')} of series; give one, with a column that names them (id)")
    return paths[0]
