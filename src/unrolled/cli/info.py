"""`unrolled info`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import click

from .. import __version__, backends
from ..cells import CELLS
from ..errors import printable
from .help import GroupedCommand
from .options import option


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@option("Options", "--cells", is_flag=True, help="Describe every cell.")
@option("Options", "--build", is_flag=True, help="Say how the native engine was built.")
def info(model: Path | None, cells: bool, build: bool) -> None:
    """Describe a model file; without one, this installation."""
    if build:
        for name, value in backends.build_info().items():
            click.echo(f"{name:<11} {_in_words(value)}")
        return
    if cells:
        from ..gradcheck.catalogue import describe

        for cell in CELLS.values():
            click.echo(cell.name)
            for label, text in describe(cell):
                click.echo(f"  {label:<11} {text}")
        return
    if model is None:
        auto = backends.choose("auto").name  # before anything is printed: the environment may be wrong
        click.echo(f"unrolled {__version__}")
        click.echo(f"python {platform.python_version()}, numpy {version('numpy')}, {platform.machine()}")
        click.echo(f"backends: {', '.join(backends.BACKENDS)}; auto is {auto}")
        click.echo(backends.describe())
        click.echo(f"cells: {', '.join(CELLS)}")
        return
    from ..models.files import model_file, read

    model = model_file(model)
    kind, network, codec = read(model)
    click.echo(f"{printable(str(model))}: {kind.noun}, {os.path.getsize(model):,} bytes")
    lines = [*network.spec.to_json().items(), *kind.model(network, **codec).details()]
    for name, value in [*lines, ("parameters", f"{network.parameter_count:,}")]:
        click.echo(f"  {name:<17} {value}")
    for name, p in network.params.items():
        click.echo(f"    {name:<32} {' x '.join(map(str, p.shape))}")


def _in_words(value: object) -> str:
    """Lists and tables as a line."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_in_words(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
