"""Every cell on *Pride and Prejudice* at one budget of parameters, for the same time or the same epochs.

    python benchmarks/pride.py $UNROLLED_DATA/pride/1342-0.txt [--cells lstm,mgu] [--cpu-minutes 5 | --epochs 20]

Each cell gets the hidden size that brings its network nearest to the budget; only parameters that are used count. The
other settings are the same for all, and tuned for none. Everything runs on one thread, and time is the processor's, so
that other work on the machine takes nothing away: a cell is run for a twentieth of it first, which says how many epochs
fit, and the cosine schedule spans those. Each cell replaces its own row of the results, so that they may be run one by
one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS, Cell
from unrolled.data.text import Corpus, read
from unrolled.errors import UnrolledError
from unrolled.training.callbacks import Callback, Progress, Result
from unrolled.training.state import Evaluation

SETTINGS: dict[str, Any] = {
    "num_layers": 1,
    "embedding_size": 32,
    "dropout": 0.1,
    "schedule": "cosine",
    "val_fraction": 0.05,
    "test_fraction": 0.05,
    "sample_length": 0,
}
VANILLA = "lstm_peephole"
GREFF = {
    "lstm_no_forget_gate": "NFG",
    "lstm_no_output_activation": "NOAF",
    "lstm_no_input_gate": "NIG",
    "lstm_no_output_gate": "NOG",
    "lstm_no_input_activation": "NIAF",
    "lstm": "NP",
    "lstm_coupled": "CIFG",
    "lstm_full_gate_recurrence": "FGR",
}
FOUND = (
    "Greff et al. 2015 found NFG and NOAF to hurt on all of their three tasks, NIG, NOG and NIAF on two of them, "
    "FGR on one, NP and CIFG on none, and no variant to be significantly better than the LSTM with peepholes."
)
WARM = 5
"""Steps before a cell's speed is measured."""


def idle(cell: Cell, hidden: int) -> int:
    """Entries of `weight_hh` that are never read: columns beyond the operand of a stage that has a narrower one."""
    rows, columns = cell.slices("weight_hh", hidden), cell.columns(hidden)
    return sum(
        (rows[n].stop - rows[n].start)
        * (columns - sum(cell.head(cell.operand_units(n, name, hidden)) for name in names))
        for n, names in enumerate(stage.operand or () for stage in cell.stages)
    )


def used(spec: ur.Spec) -> int:
    """Parameters, less those that are never read."""
    return spec.parameter_count - idle(CELLS[spec.cell], spec.widths[0])


def fit_size(cell: str, symbols: int, budget: int) -> ur.Spec:
    """The network with as many hidden units as bring it nearest to the budget."""
    made = (ur.Spec(symbols, cell, SETTINGS["embedding_size"], size, 1) for size in range(8, 2000))
    return min(made, key=lambda spec: abs(used(spec) - budget))


class Keep(Callback):
    """Keeps the curve and the result of a run."""

    def __init__(self) -> None:
        self.curve: list[list[float]] = []
        self.start = time.process_time()

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Add a point: epoch, seconds of the processor, validation loss."""
        if evaluation.val_loss is not None:
            spent = time.process_time() - self.start
            self.curve.append([round(n, 4) for n in (evaluation.epoch, spent, evaluation.val_loss)])

    def finished(self, result: Result, out: Path | None) -> None:
        """Keep the result."""
        self.result = result


class Pace(Callback):
    """Ends a run after some seconds of the processor, and knows how many epochs fit into one."""

    def __init__(self, seconds: float) -> None:
        self.limit = seconds

    def stepped(self, progress: Progress) -> None:
        """Begin after the first steps, which are slower."""
        now = time.process_time()
        if progress.step == WARM:
            self.start, self.epoch = now, progress.epoch
        elif progress.step > WARM and now - self.start > self.limit:
            self.epochs_a_second = (progress.epoch - self.epoch) / (now - self.start)
            raise KeyboardInterrupt


def run(corpus: Corpus, spec: ur.Spec, epochs: float, cpu_minutes: float | None) -> dict[str, Any]:
    """Train one cell; its row of the table."""
    options = {"cell": spec.cell, "hidden_size": spec.widths[0], **SETTINGS}
    about = {
        "cell": spec.cell,
        "hidden": spec.widths[0],
        "parameters": used(spec),
        "backend": "reference" if backends.reason(CELLS[spec.cell]) else "engine",
    }
    try:
        return about | losses(corpus, options, epochs, cpu_minutes)
    except UnrolledError as error:  # training gives up where the loss explodes at every rate that it tries
        print(f"{spec.cell}: {error}", flush=True)
        return about | {"validation": None, "test": None, "epochs": None, "seconds": None, "curve": []}


def losses(corpus: Corpus, options: dict[str, Any], epochs: float, cpu_minutes: float | None) -> dict[str, Any]:
    """What a cell reaches, and when."""
    if cpu_minutes is not None:
        pace = Pace(3 * cpu_minutes)
        ur.LanguageModel.train(corpus, callbacks=[pace], epochs=1e6, eval_every=10**9, **options)
        epochs = 60 * cpu_minutes * pace.epochs_a_second
    keep = Keep()
    ur.LanguageModel.train(corpus, callbacks=[keep], epochs=epochs, **options)
    assert keep.result.best is not None
    return {
        "validation": keep.result.best.val_loss,
        "test": keep.result.test_loss,
        "epochs": keep.result.epochs,
        "seconds": time.process_time() - keep.start,
        "curve": keep.curve,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results, and what they say beside the paper's."""
    lines = [
        "| cell | units | parameters | validation, nats | test, nats | epochs | CPU seconds | backend |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        found = "diverged | | |"
        if r["validation"] is not None:
            found = f"{r['validation']:.4f} | {r['test']:.4f} | {r['epochs']:.1f} | {r['seconds']:.0f}"
        lines.append(f"| `{r['cell']}` | {r['hidden']} | {r['parameters']:,} | {found} | {r['backend']} |")
    reached = {r["cell"]: r["validation"] for r in rows if r["validation"] is not None}
    if VANILLA in reached:
        apart = {cell: reached[cell] - reached[VANILLA] for cell in GREFF if cell in reached}
        said = ", ".join(f"{GREFF[cell]} {d:+.3f}" for cell, d in sorted(apart.items(), key=lambda item: -item[1]))
        lines += ["", f"{FOUND} Here, against it, in nats of the validation loss: {said}."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--budget", type=int, default=204_908, help="that of an lstm of 200 units")
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--cpu-minutes", type=float, default=None, help="a cell, instead of --epochs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pride.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(1)
    limit = f"{args.epochs:g} epochs" if args.cpu_minutes is None else f"{args.cpu_minutes:g} CPU minutes"
    head = machine() | {"budget": f"{args.budget:,}", "each": limit}
    corpus = read([args.text])
    with threadpool_limits(1):
        for cell in args.cells.split(","):
            spec = fit_size(cell, len(set(corpus.text)), args.budget)
            row = run(corpus, spec, args.epochs, args.cpu_minutes)
            rows = sorted(merged(args.out, row, "cell"), key=lambda r: (r["validation"] is None, r["validation"] or 0))
            text = "; ".join(f"{k} {v}" for k, v in head.items())
            write(args.out, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
