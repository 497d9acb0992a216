"""`unrolled tune`."""

from __future__ import annotations

import os
from typing import Any

import click

from ..errors import UnrolledError, printable
from ..models.automatic import CHOSEN
from ..storage import replaced
from ..tuning.report import PICTURE, Tuned
from ..tuning.search import MINUTES, REFUSED
from ..tuning.search import tune as search
from ..tuning.space import SPACE
from ..tuning.state import OWN, SHORTEST
from .compare import table
from .display import quoted
from .help import GroupedCommand
from .kinds import flags_of_kinds
from .options import flag_of, given, option, sources
from .train import GROUPS, SIZES, TASKS, WEIGHTS


def _begins(task: str, name: str, default: str) -> str:
    """Return what an option is where it is not given: searched, chosen, or its default."""
    return "searched" if name in SPACE[task] else CHOSEN[task].get(name, default)


ABSENT = REFUSED | dict.fromkeys(("auto", "no-auto"), "a search begins with the automatic choice, and goes out from it")
"""Options of train that a search has not, and why."""


@click.command(cls=GroupedCommand, groups=("Search", *GROUPS), absent=ABSENT)
@click.argument("files", nargs=-1, metavar="[FILE | FOLDER]...")
@option("Search", "--minutes", type=float, default=MINUTES, help=f"Work of the whole search, {SHORTEST:g} at least.")
@option("Search", "--out", help="Folder of the search; one that is there is shared. [default: tunes/NAME]")
@option("Search", "--resume", metavar="OUT", help="Go on with the search in this folder, or share it.")
@option("Search", "--processes", type=int, default=1, help="How many train at a time.")
@option("Search", "--seed", type=int, default=1, help="Draws the settings; of every trial, too.")
@option("Search", "--keep", is_flag=True, help="Keep the models of all trials, not only the best.")
@option("Data", "--task", metavar="TASK", help=f"What is learnt: {TASKS}.  [default: seen from files and options]")
@option("Data", "--val-file", multiple=True, metavar="FILE", help="Validate on this instead of on a share.")
@option("Data", "--test-file", multiple=True, metavar="FILE", help="Test on this instead of on a share.")
@flags_of_kinds(begins=_begins, ahead=(*SIZES, *WEIGHTS, "patience"), without=OWN)
@option("Training", "--backend", default="auto", help="auto, cpu or reference.")
@option("Training", "--threads", type=int, help="Threads of all processes. [default: all physical cores]")
@click.pass_context
def tune(ctx: click.Context, /, files: tuple[str, ...], resume: str | None, **chosen: Any) -> None:
    """Search settings that train well: at random, by successive halving.

    Files and options are those of train; what is given, all trials have. The first setting tried is what train
    chooses by itself; a third of the settings goes on to the next rung, with three times the work each. The best run
    is an ordinary one. Ctrl-C saves and stops, with exit status 130; --resume goes on. Several commands with one --out
    share the work.
    """
    asked = given(ctx) - {"files", "resume"}
    if resume is not None and (odd := sorted(asked - {"processes", "threads", "cell"})):
        raise UnrolledError(f"--resume goes on with the options of the search; leave out {flag_of(odd[0])}")
    names = {"val_file": "val", "test_file": "test"}
    options: dict[str, Any] = {names.get(name, name): value for name, value in chosen.items() if name in asked}
    options |= {name: sources(options[name]) for name in names.values() if name in options}
    _report(search(sources(files), resume=resume, verbose=True, **options))


def _report(found: Tuned) -> None:
    """Print the table, draw the picture, and say where the best run is."""
    rows = found.rows
    for row in rows:
        row["run"] = os.path.relpath(row["run"], found.folder)
    click.echo(table(rows))
    try:
        figure = found.draw()
        with replaced(found.folder / PICTURE) as file:
            figure.savefig(file, dpi=150, format="png")
        click.echo(f"\ndrawn in {printable(os.fspath(found.folder / PICTURE))}")
    except UnrolledError as error:
        click.echo(f"\nnot drawn: {error}")
    use = "unrolled sample {}" if found.state.task == "language" else "unrolled predict {} FILE"
    click.echo(f"the best run: {use.format(quoted(found.best))}")
