"""`unrolled predict`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import click

from ..errors import UnrolledError, printable
from ..storage import replaced
from .help import GroupedCommand
from .options import cell_option, check_out, flag_of, given, option
from .own_cell import files_of


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path())
@click.argument("files", nargs=-1, metavar="[FILE | -]...")
@option("Options", "--prompt", metavar="TEXT", help="language: what is likeliest to come next after this.")
@option("Options", "--top", type=int, metavar="N", help="language: how many. [default: 5]")
@option("Options", "--by", metavar="WHAT", help="language: word or symbol. [default: word]")
@option("Options", "--json", "as_json", is_flag=True, help="language: print JSON.")
@option("Options", "--out", "-o", type=click.Path(path_type=Path), help="File to write. [default: standard output]")
@cell_option()
@click.pass_context
def predict(
    ctx: click.Context, /, model: str, files: tuple[str, ...], out: Path | None, cell: str | None, **how: Any
) -> None:
    """Write files back with what a model says of them: tags, labels, forecasts. Of a language model: what comes next.

    Without --out it is written to standard output; nothing is written before all is read.
    """
    from ..models.base import load
    from ..models.files import model_file

    made = load(model, cell=cell)
    takes = inspect.signature(made.predictions).parameters
    asked = {name: value for name, value in how.items() if name in given(ctx)}
    if odd := [name for name in asked if name not in takes]:
        raise UnrolledError(f"{flag_of(odd[0])} is nothing that {model} can be asked: {made!r}")
    if not files and "prompt" not in takes:
        raise UnrolledError(f"{model} says something of files; name some: {made!r}")
    if out is not None:
        check_out(out, model_file(model), *files_of(cell), *files)
    pieces = made.predictions(list(files), **asked)
    first = next(pieces, "")  # errors come before anything is written
    if out is None:
        for piece in chain([first], pieces):
            click.echo(piece, nl=False)
        return
    _write(out, chain([first], pieces))
    click.echo(f"written to {printable(str(out))}", err=True)


def _write(out: Path, pieces: Iterator[str]) -> None:
    """Write a file beside the old one, then put it in its place."""
    with replaced(out) as file:
        for piece in pieces:
            file.write(piece.encode("utf-8", "surrogateescape"))
