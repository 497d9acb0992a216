"""`unrolled fetch`."""

from __future__ import annotations

import click

from ..errors import UnrolledError, printable
from .display import quoted
from .help import GroupedCommand
from .options import option


@click.command(cls=GroupedCommand)
@click.argument("name", required=False, metavar="[NAME | NUMBER]")
@option("Options", "--list", "show", is_flag=True, help="List the names.")
@option("Options", "--output", "-o", help="File to write, or a folder. [default: in the folder of data]")
@option("Options", "--force", is_flag=True, help="Download it again, over what is there.")
def fetch(name: str | None, show: bool, output: str | None, force: bool) -> None:
    """Download a text in the public domain: one by its NAME, or any by Project Gutenberg's NUMBER.

    It goes into the folder that UNROLLED_DATA names, else into ~/.local/share/unrolled. What was cut off is gone on
    from; a file that is there is compared with its SHA-256. Proxies are taken from the environment (https_proxy).
    """
    from ..data import books

    if show:
        for short, book in books.BOOKS.items():
            by = f"{book.title}, {book.author}"
            click.echo(f"{short:<16} {book.number or '':>5}  {by}{', SHA-256 known' if book.sha256 else ''}")
        return
    if name is None:
        raise UnrolledError("name a text: unrolled fetch pride; --list has them all")
    found = books.fetch(name, output, force=force)
    path = printable(str(found.path))
    how = "as expected" if found.known else "the first one's is kept beside it" if not found.there else "as at first"
    click.echo(f"{path}: {'there already' if found.there else f'downloaded from {found.url}'}")
    click.echo(f"{found.path.stat().st_size:,} bytes, SHA-256 {found.sha256}: {how}")
    if found.changed:
        click.echo("it is another one than the one that was fetched first: it has been corrected since")
    click.echo(f"next: unrolled train {quoted(found.path)}")
