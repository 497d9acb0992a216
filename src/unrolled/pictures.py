"""Pictures, drawn with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from .errors import UnrolledError, count


def pyplot() -> Any:
    """Return matplotlib's pyplot, or say how to get it."""
    try:
        from matplotlib import pyplot
    except ImportError:
        raise UnrolledError("pictures are drawn with matplotlib; install it: pip install 'unrolled[plot]'") from None
    return pyplot


def new_figure(width: float = 8, height: float = 5) -> Any:
    """Return an empty figure of matplotlib's, in inches, that belongs to no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UnrolledError("a picture needs matplotlib: pip install 'unrolled[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def draw_losses(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], over: str, unit: str) -> Any:
    """Draw losses over what they are counted in; returns matplotlib's axes.

    Parameters
    ----------
    curves : dict of (x, losses) by the line's name; a single line has no legend
    over : str
        What x counts: "updates".
    unit : str
        Of the losses: "nats a symbol".
    """
    axes = pyplot().subplots()[1]
    for name, (x, losses) in curves.items():
        axes.plot(x, losses, linewidth=0.8, label=name)
    axes.set(xlabel=over, ylabel=f"loss, {unit}")
    if len(curves) > 1:
        axes.legend(frameon=False)
    return axes


def draw_confusion(counts: Any, names: Sequence[str]) -> Any:
    """Return a confusion matrix as a picture, a matplotlib Figure: a row for each true class, shaded by its shares.

    Parameters
    ----------
    counts : (K, K) whole numbers
        How often each class (a row) was taken for each (a column).
    names : K names of classes
    """
    size = max(3.5, min(16.0, 2.0 + 0.45 * len(names)))
    figure = new_figure(size + 1, size)
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, label="share of the true class", fraction=0.046)
    axes.set_xticks(range(len(names)))
    axes.set_yticks(range(len(names)))
    for axis, labels in ((axes.xaxis, axes.get_xticklabels()), (axes.yaxis, axes.get_yticklabels())):
        for label, name in zip(labels, names, strict=True):
            label.set(text=name, parse_math=False)
        axis.set_ticklabels(labels)
    axes.tick_params("x", rotation=90 if max(map(len, names)) > 3 else 0)
    if len(names) <= 30:
        for row, numbers in enumerate(counts.tolist()):
            for column, number in enumerate(numbers):
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{number:,}", ha="center", va="center", color=colour, fontsize=9)
    return figure


def draw_rungs(lines: Sequence[tuple[str, Sequence[float], Sequence[float]]], beside: str, over: str, loss: str) -> Any:
    """Return a figure of a search: a line a setting, (name, work, loss), the best first; two have their names.

    Parameters
    ----------
    lines : list of (name, x, losses)
    beside : str
        Name of the one that stands out beside the best.
    over : str
        What x counts, on a scale of logarithms: "minutes of work".
    loss : str
        What the losses are.
    """
    figure = new_figure()
    axes = figure.add_subplot(xlabel=over, ylabel=loss, xscale="log")
    for k, (name, x, losses) in reversed(list(enumerate(lines))):
        named = not k or name == beside
        style = {"linewidth": 2.0} if named else {"linewidth": 0.8, "alpha": 0.7}
        color = "tab:orange" if name == beside else "tab:blue" if named else "grey"
        axes.plot(x, losses, marker=".", color=color, label=name if named else None, **style)
    ticks = sorted({point for _, x, _ in lines for point in x})
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


class Panel(NamedTuple):
    """A series as it is drawn.

    Attributes
    ----------
    name : str
    times, values : (N,) arrays
    forecasts : list of (times (H,), values (H,), bands)
        Bands by the share of values that they are to hold: their lower and upper ends, (H,) each.
    """

    name: str
    times: Any
    values: Any
    forecasts: Sequence[tuple[Any, Any, Mapping[float, tuple[Any, Any]]]]


_BLUE = (0.12, 0.47, 0.71)
"""Of forecasts; bands are lighter, the wider the more."""


def draw_forecasts(panels: Sequence[Panel], more: int = 0) -> Any:
    """Return a figure of series below each other, each with its forecasts and bands; `more` are said to be left out."""
    figure = new_figure(9, 1.5 + 2 * len(panels))
    short: Any = import_module("matplotlib.dates").ConciseDateFormatter
    many = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, panel in zip(many, panels, strict=True):
        axes.plot(panel.times, panel.values, color="black", linewidth=0.9, label="series")
        for k, (times, values, bands) in enumerate(panel.forecasts):
            for n, (share, (low, high)) in enumerate(sorted(bands.items(), reverse=True), 1):
                label, shade = f"{share:.0%} band" if not k else None, [1 - (1 - v) * (1 - 0.85**n) for v in _BLUE]
                axes.fill_between(times, low, high, color=shade, linewidth=0, label=label)
            axes.plot(times, values, color="tab:blue", linewidth=1.2, label=None if k else "forecast")
        if np.asarray(panel.times).dtype.kind == "M":
            axes.xaxis.set_major_formatter(short(axes.xaxis.get_major_locator()))
        axes.set_title(panel.name, fontsize="medium", loc="left", parse_math=False)
        axes.grid(alpha=0.3)
    if more:
        figure.supxlabel(f"{count(more, 'more series')}, not drawn", fontsize="small")
    many[0].legend(frameon=False, fontsize="small", ncols=4, loc="lower right", bbox_to_anchor=(1, 1))
    return figure
