"""Pictures, drawn with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UnrolledError


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
