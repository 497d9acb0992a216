"""`unrolled plot`: the losses of runs, as lines of the terminal or as a picture."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ..errors import UnrolledError, printable
from ..pictures import new_figure
from ..storage import replaced
from ..training import metrics_log
from .help import GroupedCommand
from .options import cell_option, option

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60
"""Columns of a line in the terminal."""

Curve = list[tuple[float, float, float | None]]
"""Epoch, training loss, validation loss; in nats, of most kinds of models."""


def curve(folder: Path) -> Curve:
    """Read the losses of a run.

    Raises
    ------
    UnrolledError
        If it has none yet, or the folder is no run's.
    """
    entries = metrics_log.metrics(folder, validated=True)
    return [(e["epoch"], e["train_loss"], e["val_loss"]) for e in entries if "val_loss" in e]


def in_nats(folder: Path) -> bool:
    """Whether the losses of a run are nats, as its configuration says which kind of model it is of."""
    from ..models import files
    from ..training.configuration import read_task
    from ..training.run_folder import CONFIG

    config = folder / CONFIG
    task = read_task(config) if config.is_file() else None
    kind = files.kinds().get(task or "language")
    return bool(getattr(kind and kind.model, "nats", True))


def sparkline(name: str, curve: Curve, *, nats: bool = True) -> str:
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
    return f"{name}  {bars}  {kind} {first} to {last}{' nats' if nats else ''}, lowest {lowest} at epoch {best[0]:.2f}"


def _figure(value: float) -> str:
    """Four digits behind the point, while there are few before it."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def picture(curves: Mapping[str, Curve], out: Path, *, nats: bool = True) -> None:
    """Draw the losses over epochs: training dashed, validation solid, one colour a run.

    Raises
    ------
    UnrolledError
        If matplotlib is missing, or the file can't be written.
    """
    _check_picture(out)
    figure = new_figure()
    axes = figure.add_subplot(xlabel="epoch", ylabel="loss, nats" if nats else "loss")
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
    _save(figure, out)


def _check_picture(out: Path) -> None:
    if out.suffix not in (".png", ".svg"):
        raise UnrolledError(f"{out} is no picture that can be drawn; end its name in .png or .svg")


def _save(figure: Any, out: Path) -> None:
    with replaced(out) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is drawn as a box
        figure.savefig(file, dpi=150, format=out.suffix[1:].lower())


def _of_data(runs: tuple[Path, ...], data: tuple[str, ...], out: Path | None, cell: str | None) -> None:
    """Draw what a model makes of data."""
    if len(runs) > 1:
        raise UnrolledError(f"--on draws one model; {len(runs)} are given")
    if out is None:
        raise UnrolledError("what a model makes of data is a picture: name its file (--out picture.png)")
    _check_picture(out)
    from ..models.base import load
    from ..models.language_model import LanguageModel

    model = load(runs[0], cell=cell)
    if not hasattr(model, "draw") or isinstance(model, LanguageModel):  # that draws texts
        raise UnrolledError(f"{runs[0]} has no picture of data; without --on its losses are drawn: {model!r}")
    _save(model.draw(list(data)), out)
    click.echo(f"drawn in {printable(str(out))}")


@click.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@option("Options", "--on", multiple=True, metavar="FILE", help="Draw what the model makes of this instead.")
@option(
    "Options", "--out", "-o", type=click.Path(path_type=Path), help="Picture to draw: .png or .svg. [default: none]"
)
@cell_option("With --on, the model's cell, where it is your own.")
def plot(runs: tuple[Path, ...], on: tuple[str, ...], out: Path | None, cell: str | None) -> None:
    """Draw the losses of runs, as lines of the terminal or as a picture; or what a model makes of data.

    With --on, RUN is one run or model file, and a picture is drawn of it and of the data.
    """
    if on:
        _of_data(runs, on, out, cell)
        return
    curves = {str(folder): curve(folder) for folder in runs}
    if out is None:
        for name, points in curves.items():
            click.echo(sparkline(printable(name), points, nats=in_nats(Path(name))))
    else:
        picture(curves, out, nats=all(map(in_nats, runs)))
        click.echo(f"drawn in {printable(str(out))}")
