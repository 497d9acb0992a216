"""The command line: parses, calls, prints; a verb a file."""

from __future__ import annotations

from typing import NoReturn

import click

from .. import __version__
from . import exits
from .bench import TABLES, bench
from .check import check
from .compare import compare
from .help import QuietGroup
from .info import info
from .plot import plot
from .sample import sample
from .score import score
from .train import train

SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    "token_normalize_func": lambda name: name if name in TABLES else name.replace("_", "-"),  # --hidden_size is taken
}


@click.group(cls=QuietGroup, invoke_without_command=True, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="unrolled")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Recurrent neural networks you can read, prove, and run fast."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for verb in (bench, check, compare, info, plot, sample, score, train):
    cli.add_command(verb)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit, as `exits.run` does."""
    exits.run(lambda: cli.main(args=argv, prog_name="unrolled", standalone_mode=False))
