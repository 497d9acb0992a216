"""`unrolled info`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

import click

from .. import __version__, backends
from ..cells import CELLS, find_cell
from ..errors import printable
from .help import GroupedCommand
from .options import option
from .own_cell import OwnCell


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(), required=False)
@option("Options", "--cells", is_flag=True, help="Describe every cell.")
@option("Options", "--cell", type=OwnCell(), help="Describe this one, or my_cell.py:NAME; a model's, where it is that.")
@option("Options", "--build", is_flag=True, help="Say how the native engine was built.")
def info(model: str | None, cells: bool, cell: str | None, build: bool) -> None:
    """Describe a model file; without one, this installation."""
    from ..models.files import BUILT_IN, described, is_built_in, model_file

    if build:
        for name, value in backends.build_info().items():
            click.echo(f"{name:<11} {_in_words(value)}")
        return
    if cells or (cell is not None and model is None):
        from ..gradcheck.catalogue import describe

        for one in CELLS.values() if cell is None else [find_cell(cell)]:
            lines = describe(one)  # before anything is printed: the cell may be none that runs
            click.echo(one.name)
            for label, text in lines:
                click.echo(f"  {label:<11} {text}")
        return
    if model is None:
        auto = backends.choose("auto").name  # before anything is printed: the environment may be wrong
        click.echo(f"unrolled {__version__}")
        click.echo(f"python {platform.python_version()}, numpy {version('numpy')}, {platform.machine()}")
        click.echo(f"backends: {', '.join(backends.BACKENDS)}; auto is {auto}")
        click.echo(backends.describe())
        click.echo(f"cells: {', '.join(CELLS)}")
        click.echo(f"built-in models: {', '.join(BUILT_IN)}")
        return
    file = model_file(model)
    found = described(file, cell)
    click.echo(f"{printable(str(file))}: {found.kind.noun}, {os.path.getsize(file):,} bytes")
    for name, value in [*(_origin(file.stem) if is_built_in(file) else ()), *found.lines()]:
        click.echo(f"  {name:<17} {value}")
    for name, p in found.params.items():
        click.echo(f"    {name:<32} {' x '.join(map(str, p.shape))}")


def _origin(name: str) -> list[tuple[str, str]]:
    """Return what a built-in model was trained on, and where more is said of it, in lines."""
    from ..data.books import BOOKS

    text = BOOKS[name]
    return [
        ("trained on", f"{text.title}, {text.author} (unrolled fetch {name})"),
        ("its page", f"docs/models/{name}.md"),
    ]


def _in_words(value: object) -> str:
    """Lists and tables as a line."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_in_words(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
