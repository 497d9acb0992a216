"""`unrolled check`: a table that grows, failures in full, and one last line."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from .. import backends
from ..cells import find_cell
from ..errors import UnrolledError
from .display import Output, redrawn
from .help import GroupedCommand
from .options import option
from .own_cell import OwnCell

if TYPE_CHECKING:
    from ..gradcheck.suite import Outcome

COLUMNS = ("passed", "failed", "unsupported")


class Tally:
    """Counts proofs by cell, and by head, while they come in."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.rows: dict[str, Counter[str]] = {}
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.reasons: dict[str, Counter[str]] = {}
        self.live = Live(console=console, refresh_per_second=4) if redrawn(console) else None
        if self.live:
            self.live.start()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome; say what failed at once."""
        if self.rows and outcome.line not in self.rows and not self.live:
            self._print(list(self.rows)[-1])
        row = self.rows.setdefault(outcome.line, Counter())
        row.update(proof.verdict for proof in outcome.report)
        self.seconds[outcome.line] += outcome.seconds
        for proof in outcome.report.unsupported:
            cells = self.reasons.setdefault(without_name(proof.detail, outcome.cell), Counter())
            cells[outcome.cell] += 1
        for proof in outcome.report.failed:
            self.console.print(f"{proof}\n             with: {outcome.what}, {outcome.backend}", soft_wrap=True)
        if self.live:
            self.live.update(self._table(f"{outcome.cell}, {outcome.what}, {outcome.backend}"))

    def _print(self, line: str) -> None:
        counts = "  ".join(f"{self.rows[line][name]:>6,} {name}" for name in COLUMNS)
        self.console.print(f"{line:<26} {counts}  {self.seconds[line]:>6.1f} s", soft_wrap=True)

    def _table(self, now: str) -> Table:
        table = Table(box=None, caption=now, caption_justify="left")
        for name in ("cell or head", *COLUMNS, "seconds"):
            table.add_column(name, justify="right" if name in (*COLUMNS, "seconds") else "left")
        for line, row in self.rows.items():
            numbers = [f"{row[name]:,}" for name in COLUMNS]
            table.add_row(line, *numbers, f"{self.seconds[line]:.1f}", style="red" if row["failed"] else "")
        return table

    def close(self) -> None:
        """Leave the table as it is."""
        if self.live:
            self.live.update(self._table(""))
            self.live.stop()
        elif self.rows:
            self._print(list(self.rows)[-1])

    def finish(self) -> int:
        """Print why some was not tried and the last line; return the exit status."""
        self.close()
        for reason, cells in sorted(self.reasons.items()):
            where = f" (CELL: {', '.join(cells)})" if "CELL" in reason else ""
            self.console.print(f"unsupported {cells.total():>5,} x  {reason}{where}", soft_wrap=True)
        total = sum(self.rows.values(), Counter[str]())
        self.console.print(", ".join(f"{total[name]} {name}" for name in COLUMNS), soft_wrap=True)
        return 1 if total["failed"] or not total["passed"] else 0


def without_name(reason: str, cell: str) -> str:
    """Return a reason with CELL for the cell's name: where that is quoted, or stands as a word of its own.

    Examples
    --------
    >>> without_name("cell 'if': write where instead of if", "if"), without_name("bad is no badge", "bad")
    ("cell 'CELL': write where instead of if", 'CELL is no badge')
    """
    if repr(cell) in reason:
        return reason.replace(repr(cell), "'CELL'")
    return re.sub(rf"(?<!\w){re.escape(cell)}(?!\w)", "CELL", reason)


@click.command(cls=GroupedCommand)
@click.argument("own", type=OwnCell(), required=False, metavar="[CELL]")
@option("Options", "--cell", type=OwnCell(), help="Only this cell, or your own, my_cell.py:NAME. [default: all]")
@option("Options", "--quick", is_flag=True, help="A choice of the proofs, in half a minute.")
@option("Options", "--seed", type=click.IntRange(min=0), default=0, help="Of the numbers, and of the pairs of options.")
@option(
    "Options", "--show-backward", is_flag=True, help="Print the derived backward of the cell as Python, prove nothing."
)
def check(own: str | None, cell: str | None, quick: bool, seed: int, show_backward: bool) -> int:
    """Prove every gradient: every cell, option and backend, every head with its loss; or all of that of one CELL.

    The backward pass is compared with derivatives that are taken in another way (complex steps, central differences,
    random projections), and held to laws. The exit status is 1 if a proof fails.
    """
    from ..gradcheck.suite import check_all

    if own is not None and cell is not None:
        raise UnrolledError(f"the cell is named twice, as {own} and with --cell {cell}; leave one out")
    if show_backward:
        return _show(own or cell)
    backends.choose("auto")  # says what the environment has wrong before anything is printed
    tally = Tally(Output(highlight=False, emoji=False, markup=False))
    try:
        for outcome in check_all(own or cell, quick=quick, seed=seed):
            tally.add(outcome)
    except BaseException:
        tally.close()
        raise
    return tally.finish()


def _show(cell: str | None) -> int:
    """Print the derived backward functions of a cell."""
    from ..codegen.readable import readable

    if cell is None:
        raise UnrolledError("--show-backward shows that of one cell; name it: unrolled check lstm --show-backward")
    click.echo(readable(find_cell(cell)), nl=False)
    return 0
