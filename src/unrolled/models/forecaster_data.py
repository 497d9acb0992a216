"""The data of a forecaster's run: how series are cut, scaled and read as windows, and what is told of them.

Letters: N steps of a series, C series; L steps of a context, H of a horizon, w of a segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import Array, array_dtype
from ..data.series import SeriesSet, as_table, read_series, series_of
from ..data.split import USES
from ..data.text.files import short_name
from ..data.times import calendar_of
from ..data.windows import Layout, Windows, cut, every_place
from ..errors import UnrolledError, count
from . import baselines
from .backtest import TITLES, Backtest
from .forecaster_options import Options
from .of_data import Material, files_named
from .plan import Plan

UPDATES = 50
"""Updates of an epoch, at least: of few windows it has all of them several times."""
_FITTED = 50_000
"""Windows that the linear map is fitted to, at most."""


def material(sources: Mapping[str, Any], options: Options, plan: Plan | None) -> Material:
    """Return the data of a run; `plan` is how it was read, where a run goes on."""
    found = {part: _read(source, options) for part, source in sources.items()}
    train = found["train"]
    shares = (
        0.0 if "val" in found else options.val_fraction,
        0.0 if "test" in found else options.test_fraction,
    )
    plan = plan or made(train, options, shares)
    dtype = np.dtype(array_dtype(options.dtype))
    places = _places(train, plan, shares, options)
    size = min(options.batch_size, len(places["train"]) // UPDATES)  # of no more windows than there are
    parts = {name: windows(train, plan, some, size, name, dtype) for name, some in places.items()}
    for name in found.keys() - {"train"}:
        check(found[name], plan)
        every = every_place([len(s) for s in found[name].series], plan.layout, stride=options.stride)
        parts[name] = windows(found[name], plan, every, options.batch_size, name, dtype)
    series = train.series
    span = plan.grid.texts(np.array([min(s.times[0] for s in series), max(s.times[-1] for s in series)]))
    held = ", ".join(f"{len(part.places):,} to {USES[name]}" for name, part in parts.items() if name != "train")
    layout = plan.layout
    return Material(
        parts=parts,
        codec={"plan": plan, "bands": None},
        digest=[array for part in found.values() for s in part.series for array in (s.values, s.known.ravel())],
        paths={part: files_named(source) for part, source in sources.items()},
        name=_name(sources["train"]),
        unit="",
        row="window",
        size=count(sum(len(s) for s in series), "value"),
        about=[
            ("series", f"{count(len(series), 'column or id' if len(series) > 1 else 'column')}: {_listed(plan.names)}"),
            ("times", f"{span[0]} to {span[1]}, a step is {plan.grid.title}, a season {count(plan.season, 'step')}"),
            (
                "windows",
                f"{layout.context:,} steps to forecast {layout.horizon:,}, in segments of {layout.segment:,}: "
                f"{count(len(parts['train'].places), 'window')} to train" + (f", {held}" if held else ""),
            ),
            *compared(plan, parts),
        ],
        notes=[note for part in found.values() for note in part.notes],
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")


def compared(plan: Plan, parts: Mapping[str, Windows]) -> list[tuple[str, str]]:
    """Return what simple forecasts reach on the parts that are held out, a line each."""
    lines = []
    for name in ("val", "test"):
        if name in parts:
            test, part = Backtest(plan), parts[name]
            for k in range(len(part)):
                series, context, future = part.values_of(k)
                test.add(series, context, future, context[:, -1:] + 0 * future, None, None)
            figures = test.figures()
            said = ", ".join(f"{TITLES[way]} {figures[f'mse_{way}']:.4f}" for way in test.methods[1:])
            lines.append(("to beat", f"mean squared error on the part to {USES[name]}: {said}"))
    return lines


def _read(source: Any, options: Options) -> SeriesSet:
    how = {name: getattr(options, name) for name in ("target", "time", "id", "known", "fill")}
    return read_series(source, **how)


def _name(source: Any) -> str:
    paths = files_named(source)
    return short_name(paths[0]) if paths else "series"


def made(data: SeriesSet, options: Options, shares: tuple[float, float]) -> Plan:
    """Return how series are read: scaled, and cut into windows that fit them."""
    w, calendar = options.segments(), calendar_of(data.grid, max(map(len, data.series))) if options.calendar else ()
    draft = Layout(w, options.horizon, w, options.output, options.instance)
    ends = [cut(len(s), draft, *shares, f"{data.where}: {s.name}")[0] for s in data.series]
    season = baselines.season_of(
        [s.values[:end] for s, end in zip(data.series, ends, strict=True)], data.grid.seasons()
    )
    context = options.context or _context(season, min(ends), options.horizon, w)
    layout = replace(
        draft,
        context=context,
        series=len(data.series),
        calendar=2 * len(calendar),
        known=len(data.columns.known),
        apart=options.apart and len(data.series) > 1,
    )
    for s in data.series:
        cut(len(s), layout, *shares, f"{data.where}: {s.name}")
    parts = [s.values[:end] for s, end in zip(data.series, ends, strict=True)]
    known = [
        np.concatenate([s.known[:end, k] for s, end in zip(data.series, ends, strict=True)])
        for k in range(layout.known)
    ]
    scaled = [*parts, *known]
    names = tuple(s.name for s in data.series)
    if len(set(names)) < len(names):
        raise UnrolledError(f"{data.where}: two series have one name; give each a name of its own")
    plan = Plan(
        columns=data.columns,
        grid=data.grid,
        names=names,
        means=tuple(float(part.mean()) for part in scaled),
        deviations=tuple(_deviation(part) for part in scaled),
        layout=layout,
        calendar=calendar,
        loss=options.loss,
        season=season,
        linear=None,
        fill=options.fill,
        stride=options.stride,
    )
    places = every_place(ends, layout)
    some = windows(data, plan, places[:: -(-len(places) // _FITTED)], _FITTED, "train", np.dtype(float))
    _, context_values, future = some.values_of(0)
    moved = float(np.sqrt(np.mean((future - context_values[:, -1:]) ** 2)))
    weight = baselines.linear_fit(context_values, future)
    linear = [[float(f"{v:.6g}") for v in row] for row in weight.tolist()]
    return replace(plan, layout=replace(layout, scale=moved or 1.0), linear=linear)


def _deviation(values: Array) -> float:
    """Return the standard deviation, 1 of what does not vary."""
    found = float(values.std())
    return found if found > 1e-12 * max(1.0, float(np.abs(values).max())) else 1.0


def _context(season: int, length: int, horizon: int, w: int) -> int:
    """Return the steps of a context where none is asked for: whole segments."""
    wanted = max(4 * horizon, 2 * season)
    return max(1, min(-(-wanted // w), (length // 2) // w)) * w


def _places(data: SeriesSet, plan: Plan, shares: tuple[float, float], options: Options) -> dict[str, NDArray[np.int64]]:
    """Return the windows of each part: the training part's in an order of the seed's, the others as they come."""
    layout, series = plan.layout, data.series
    edges = [cut(len(s), layout, *shares, f"{data.where}: {s.name}") for s in series]
    train = every_place([a for a, _ in edges], layout)
    rng = np.random.default_rng([options.seed, len(train)])
    times = -(-UPDATES * min(options.batch_size, len(train)) // len(train))
    mixed = np.concatenate([train[rng.permutation(len(train))] for _ in range(times)])
    found = {"train": mixed}
    if shares[0]:
        found["val"] = every_place([b for _, b in edges], layout, [a for a, _ in edges], options.stride)
    if shares[1]:
        found["test"] = every_place([len(s) for s in series], layout, [b for _, b in edges], options.stride)
    return found


def windows(data: SeriesSet, plan: Plan, places: NDArray[np.int64], batch_size: int, name: str, dtype: Any) -> Windows:
    """Return windows of series, as the network reads them; a series' number is that which the plan has."""
    check(data, plan)
    order = [plan.number(s.name) for s in data.series]
    values = [plan.values(s, dtype) for s in data.series]
    known = [plan.known(s, dtype) for s in data.series]
    return Windows(
        plan.layout, values, known, places, batch_size, f"the part to {USES[name]}" if name in USES else name, order
    )


def check(data: SeriesSet, plan: Plan) -> None:
    """Refuse series on another grid than the plan's, that it does not know, or that are too short."""
    for s in data.series:
        plan.number(s.name)
        if data.grid != plan.grid and not np.array_equal(plan.grid.places(s.times), np.arange(len(s))):
            theirs = f"its steps are {data.grid.title}, those of the model {plan.grid.title}"
            raise UnrolledError(f"{data.where}: {theirs}; give series of the same steps")
        if len(s) < plan.layout.context:
            raise UnrolledError(
                f"{data.where}: {s.name} has {count(len(s), 'step')}; the model reads a context of "
                f"{plan.layout.context:,} to forecast {plan.layout.horizon:,}. Give longer series"
            )


def read_again(source: Any, plan: Plan) -> SeriesSet:
    """Read series as a model that is trained knows them."""
    data = series_of(as_table(source), plan.columns, plan.fill)
    check(data, plan)
    return data
