"""Runs side by side: their losses as lines of the terminal or as a picture, their figures as a table."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import run
from ..errors import UnrolledError, printable
from ..options import Options
from ..storage import replaced
from ..training.optimizers import OPTIMIZERS

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60
"""Columns of a line in the terminal."""

FIGURES = ("epoch", "step", "train_loss", "val_loss", "symbols_per_second")
"""Columns of a comparison behind the options."""

Curve = list[tuple[float, float, float | None]]
"""Epoch, training loss, validation loss; in nats."""


def curve(folder: Path) -> Curve:
    """Read the losses of a run.

    Raises
    ------
    UnrolledError
        If it has none yet, or the folder is no run's.
    """
    entries = run.metrics(folder, validated=True)
    return [(e["epoch"], e["train_loss"], e["val_loss"]) for e in entries if "val_loss" in e]


def sparkline(name: str, curve: Curve) -> str:
    """One line: the validation losses (or the training losses, where there are none) from first to last.

    Examples
    --------
    >>> sparkline("run", [(1, 3.0, 3.5), (2, 2.0, 2.5), (3, 1.5, 1.5)])
    'run  █▅▁  validation 3.5000 to 1.5000 nats, lowest 1.5000 at epoch 3.00'
    """
    validated = all(val is not None for _, _, val in curve)
    points = [(epoch, val if validated and val is not None else train) for epoch, train, val in curve]
    step = max(1, -(-len(points) // WIDTH))
    values = [loss for _, loss in points]
    shown = [min(values[k : k + step]) for k in range(0, len(values), step)]
    low, high = min(shown), max(shown)
    bars = "".join(BARS[round((v - low) / (high - low) * 7) if high > low else 0] for v in shown)
    best = min(points, key=lambda point: point[1])
    kind = "validation" if validated else "training"
    first, last, lowest = (_figure(loss) for loss in (values[0], values[-1], best[1]))
    return f"{name}  {bars}  {kind} {first} to {last} nats, lowest {lowest} at epoch {best[0]:.2f}"


def _figure(value: float) -> str:
    """Four digits behind the point, while there are few before it."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def picture(curves: Mapping[str, Curve], out: Path) -> None:
    """Draw the losses over epochs: training dashed, validation solid, one colour a run.

    Raises
    ------
    UnrolledError
        If matplotlib is missing, or the file can't be written.
    """
    if out.suffix not in (".png", ".svg"):
        raise UnrolledError(f"{out} is no picture that can be drawn; end its name in .png or .svg")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UnrolledError("a picture needs matplotlib: pip install 'unrolled[plot]'") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss, nats a symbol")
    drawn: list[Any] = []
    for points in curves.values():
        epochs = [epoch for epoch, _, _ in points]
        (line,) = axes.plot(epochs, [train for _, train, _ in points], "--", linewidth=1, alpha=0.7)
        validated = [(epoch, val) for epoch, _, val in points if val is not None]
        style: dict[str, Any] = {"color": line.get_color(), "marker": "." if len(points) < 40 else ""}
        drawn += axes.plot([e for e, _ in validated], [v for _, v in validated], **style)
    drawn += axes.plot([], [], "k--", linewidth=1, alpha=0.7)
    axes.grid(alpha=0.3)
    names = [*(printable(name) for name in curves), "training"]
    for label, name in zip(axes.legend(drawn, ["-"] * len(names)).get_texts(), names, strict=True):
        # Set here, where a name that begins with _ is one like others.
        label.set(text=name, parse_math=False)
    with replaced(out) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is drawn as a box
        figure.savefig(file, dpi=150, format=out.suffix[1:].lower())


def comparison(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of a table: the run, the options that differ between runs, and its figures; the lowest loss first."""
    configs = [_options(folder) for folder in folders]
    names = list(dict.fromkeys(name for config in configs for name in config))
    differ = [name for name in names if any(c.get(name) != configs[0].get(name) for c in configs)]
    rows = []
    for folder, config in zip(folders, configs, strict=True):
        points = [e for e in run.metrics(folder) if "val_loss" in e]
        row: dict[str, Any] = {"run": str(folder)} | {name: config.get(name) for name in differ}
        best = min(points, key=lambda e: e["train_loss"] if e["val_loss"] is None else e["val_loss"], default={})
        row |= {key: best.get(key) for key in FIGURES[:-1]}
        rows.append(row | {"symbols_per_second": points[-1].get("symbols_per_second") if points else None})
    return sorted(rows, key=lambda row: (row["val_loss"] is None, row["val_loss"] or 0.0))


def _options(folder: Path) -> dict[str, Any]:
    """Return the options of a run as they were in force: where one isn't set, what that stands for."""
    given = run.read_toml(folder / run.CONFIG)
    options = asdict(Options()) | given
    if options["learning_rate"] is None and options["optimizer"] in OPTIMIZERS:
        options["learning_rate"] = OPTIMIZERS[options["optimizer"]].rate
    return options


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned columns.

    Examples
    --------
    >>> print(table([{"run": "a", "minutes": 2, "val_loss": 1.5}, {"run": "long", "minutes": None, "val_loss": None}]))
    run   minutes  val_loss
    a           2    1.5000
    long  default         -
    """
    cells = [list(rows[0]), *([_shown(name, value) for name, value in row.items()] for row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = []
    for row in cells:
        first, *rest = row
        padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-" if name in FIGURES else "default"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):  # files
        value = [min(item, os.path.relpath(item), key=len) if os.path.isabs(item) else item for item in value]
    if isinstance(value, float) and name not in FIGURES:  # an option, as it was given
        return f"{value:,.10g}"
    if isinstance(value, float):
        if (value and abs(value) < 0.01) or abs(value) >= 1e12:
            return f"{value:.4g}"
        return f"{value:.4f}" if abs(value) < 1000 and value != round(value) else f"{value:,.0f}"
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))
