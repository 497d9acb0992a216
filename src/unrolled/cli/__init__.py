"""The command line: parses, calls, prints; a verb a file, which is imported when it is asked for."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any, NoReturn

import click

from .. import __version__
from . import exits
from .help import QuietGroup


class Verbs(UserDict[str, Any]):
    """Commands by their names, each the function of that name in the file of that name."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in self:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f".{name}", __name__), name)
        return command


VERBS = Verbs(
    dict.fromkeys(
        (
            "bench",
            "check",
            "compare",
            "fetch",
            "info",
            "plot",
            "predict",
            "quantize",
            "sample",
            "score",
            "train",
            "tune",
        )
    )
)


def _spelled(name: str) -> str:
    """Return an option as it is spelled here: --hidden_size is taken; a name of a table stays."""
    if "_" not in name:
        return name
    from .bench import TABLES

    return name if name in TABLES else name.replace("_", "-")


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "token_normalize_func": _spelled}


@click.group(cls=QuietGroup, commands=VERBS, invoke_without_command=True, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="unrolled")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Recurrent neural networks you can read, prove, and run fast."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit, as `exits.run` does."""
    exits.run(lambda: cli.main(args=argv, prog_name="unrolled", standalone_mode=False))
