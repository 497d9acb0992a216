"""`unrolled bench`."""

from __future__ import annotations

from contextlib import nullcontext

import click
from rich import box
from rich.table import Table

from .. import backends
from ..errors import UnrolledError, figure
from .display import Output, redrawn
from .help import GroupedCommand

TABLES = {
    "training": "language model, one training step, ms",
    "lstm": "LSTM, forward + backward, ms",
    "gru_reset_after": "GRU, forward + backward, ms",
    "rnn_tanh": "tanh RNN, forward + backward, ms",
    "drawing": "language model, drawing tokens, us a token",
}


@click.command(cls=GroupedCommand)
@click.option("--table", "tables", type=click.Choice(list(TABLES)), multiple=True, help="Only this; may be repeated.")
@click.option("--seconds", type=float, default=0.5, show_default=True, help="Time spent on each row.")
@click.option("--threads", type=int, help="Threads of both sides. [default: all physical cores]")
def bench(tables: tuple[str, ...], seconds: float, threads: int | None) -> None:
    """Measure speed on this machine, beside PyTorch where it is installed.

    A ratio above 1 says how many times faster this is. "Of sgemm" is the rate as a share of a large matrix product's,
    "of peak" of what the cores multiply and add out of registers. "Of reading" is the rate of reading weights, as
    a share of what the cores read from the level of the caches that those lie in. The head says what these are.
    """
    from .. import bench as measure

    if not 0 < seconds <= 600:
        raise UnrolledError(f"--seconds is {figure(seconds)}; it must be above 0 and at most 600")
    backends.choose("auto")  # says what the environment has wrong before anything is printed
    if threads is not None:
        backends.set_threads(threads)
    count = backends.threads()
    console = Output(highlight=False, emoji=False)
    console.print(", ".join(f"{name} {value}" for name, value in measure.machine().items()))
    console.print(backends.describe())
    limits = backends.limits()
    for line in measure.said_of(limits):
        console.print(line, soft_wrap=True)
    for doubt in measure.doubts(load=measure.load()):
        console.print(f"note: {doubt}", soft_wrap=True)
    if not measure.has_torch():
        console.print("PyTorch is not installed, so its columns are empty.")
    for what in tables or TABLES:
        unit = 1e6 / measure.TOKENS if what == "drawing" else 1e3
        inputs = "V, E" if what in ("training", "drawing") else "I"
        table = Table(
            title=f"{TABLES[what]}, {count} thread{'s' if count > 1 else ''}",
            title_justify="left",
            box=box.SIMPLE_HEAD,
            show_edge=False,
            padding=(0, 1, 0, 0),
        )
        table.add_column(f"B, T, {inputs}, H, L" if what != "drawing" else "V, E, H, L", no_wrap=True)
        shares = ("of reading",) if what == "drawing" else ("of sgemm", "of peak")
        for name in ("unrolled", "PyTorch", "ratio", *shares):
            table.add_column(name, justify="right", no_wrap=name not in shares)
        rows = []
        live = redrawn(console)
        if not live:
            console.print(f"measuring: {TABLES[what]} ...", soft_wrap=True)
        with console.status(f"{TABLES[what]} ...") if live else nullcontext():
            for row in measure.rows(what, count, seconds):
                size = row.size[2:] if what == "drawing" else row.size
                table.add_row(
                    ", ".join(map(str, size)),
                    f"{row.seconds * unit:.2f} ± {row.spread:.0%}",
                    "" if row.torch_seconds is None else f"{row.torch_seconds * unit:.2f} ± {row.torch_spread:.0%}",
                    "" if row.ratio is None else f"{row.ratio:.2f}",
                    *(
                        "" if share is None else f"{share:.0%}"
                        for share in (row.share, row.share_of(limits))[-len(shares) :]
                    ),
                )
                rows.append(row)
        if ratios := [row.ratio for row in rows if row.ratio is not None]:
            table.add_section()
            table.add_row("geometric mean / least", "", "", f"{measure.geometric_mean(ratios):.2f} / {min(ratios):.2f}")
        console.print(table)
        for doubt in measure.doubts(rows):
            console.print(f"note: {doubt}", soft_wrap=True)
