"""`unrolled compare`: runs side by side, their options and figures as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..errors import UnrolledError, printable
from ..training import metrics_log
from ..training import run_folder as run
from ..training.checkpoints import Kind
from ..training.optimizers import OPTIMIZERS
from ..training.state import Evaluation
from .help import GroupedCommand
from .kinds import read_options
from .options import option

FIGURES = ("epoch", "step", "train_loss", "val_loss", "symbols_per_second")
"""Columns of a comparison behind the options; before the last one stand the other figures of a validation."""


def comparison(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of a table: the run, the options that differ between runs, and its figures; the best run first.

    Runs of one kind of model are in the order of the figure that decides there, others in that of the loss.
    """
    kinds, configs = zip(*map(_options, folders), strict=True)
    decides = kinds[0].model.decides if len({kind.name for kind in kinds}) == 1 else "loss"
    of_kinds = [asdict(kind.options()).keys() for kind in kinds]  # an option that isn't one of every kind says nothing
    names = [
        name
        for name in dict.fromkeys(name for config in configs for name in config)
        if all(name in options for options in of_kinds) or not any(name in options for options in of_kinds)
    ]
    differ = [name for name in names if any(c.get(name) != configs[0].get(name) for c in configs)]
    rows = []
    for folder, kind, config in zip(folders, kinds, configs, strict=True):
        points = [e for e in metrics_log.metrics(folder) if "val_loss" in e]
        row: dict[str, Any] = {"run": str(folder)} | ({"task": kind.task} if len({k.name for k in kinds}) > 1 else {})
        row |= {name: config.get(name) for name in differ}
        best = max(points, key=lambda e: _merit(e, decides), default={})
        row |= {key: best.get(key) for key in FIGURES[:-1]} | best.get("metrics", {})
        rows.append(row | {"symbols_per_second": points[-1].get("symbols_per_second") if points else None})
    columns = list(dict.fromkeys(name for row in rows for name in row if name != FIGURES[-1]))
    rows = [{name: row.get(name) for name in (*columns, FIGURES[-1])} for row in rows]
    return sorted(
        rows, key=lambda row: (row["val_loss"] is None, *(-m for m in _merit(row | {"metrics": row}, decides)))
    )


def _merit(entry: Mapping[str, Any], decides: str) -> tuple[float, float]:
    """Return how good a model of these figures is; of the training loss where nothing was validated."""
    loss = entry["train_loss"] if entry["val_loss"] is None else entry["val_loss"]
    metrics = {name: value for name, value in entry.get("metrics", {}).items() if isinstance(value, (int, float))}
    return Evaluation(0, 0.0, 0.0, loss, 0.0, metrics).merit(decides if decides in metrics else "loss")


def _options(folder: Path) -> tuple[Kind, dict[str, Any]]:
    """Return the kind of a run, and its options as they were in force: where one isn't set, what that stands for."""
    if not (folder / run.CONFIG).exists():
        raise UnrolledError(f"{folder} is no folder of a run: it has no {run.CONFIG}")
    kind, given = read_options(folder / run.CONFIG)
    options = asdict(kind.options()) | given
    if options["learning_rate"] is None and options["optimizer"] in OPTIMIZERS:
        options["learning_rate"] = OPTIMIZERS[options["optimizer"]].rate
    return kind, options


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of the same keys as aligned columns.

    Examples
    --------
    >>> print(table([{"run": "a", "minutes": 2, "val_loss": 1.5}, {"run": "long", "minutes": None, "val_loss": None}]))
    run   minutes  val_loss
    a           2    1.5000
    long  default         -
    """
    names = list(rows[0])
    figures = {*FIGURES, *(names[names.index("val_loss") :] if "val_loss" in names else ())} - {"seconds"}
    cells = [[printable(name) for name in names]]
    cells += [[_shown(value, name in figures) for name, value in row.items()] for row in rows]
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    lines = []
    for row in cells:
        first, *rest = row
        padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _shown(value: object, figure: bool) -> str:
    if value is None:
        return "-" if figure else "default"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):  # files
        value = [min(item, os.path.relpath(item), key=len) if os.path.isabs(item) else item for item in value]
    if isinstance(value, float) and not figure:  # an option, as it was given
        return f"{value:,.10g}"
    if isinstance(value, float):
        if (value and abs(value) < 0.01) or abs(value) >= 1e12:
            return f"{value:.4g}"
        return f"{value:.4f}" if abs(value) < 1000 and value != round(value) else f"{value:,.0f}"
    return printable(", ".join(map(str, value)) if isinstance(value, list) else str(value))


@click.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@option("Options", "--json", "as_json", is_flag=True, help="Print JSON.")
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Set runs side by side: what differs between their options, and how far they came; the best run first."""
    rows = comparison(runs)
    click.echo(json.dumps(rows) if as_json else table(rows))
