"""Every cell on *Pride and Prejudice* at one budget of parameters, for the same epochs or the same time.

    python benchmarks/pride.py $UNROLLED_DATA/pride/1342-0.txt [--cells lstm,mgu] [--minutes 5 | --epochs 20]

Each cell gets the hidden size that brings its network nearest to the budget; only parameters that are used count. The
other settings are the same for all, and tuned for none. Greff et al. 2015 found the forget gate and the output
activation to matter most: their ablations stand in the table with the others.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from side_by_side import machine, write

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.text import read
from unrolled.train import Evaluation, Listener, Result

SETTINGS: dict[str, Any] = {
    "num_layers": 1,
    "embedding_size": 32,
    "dropout": 0.1,
    "schedule": "cosine",
    "val_fraction": 0.05,
    "test_fraction": 0.05,
    "sample_length": 0,
}


def used(spec: ur.Spec) -> int:
    """Parameters, less those columns of `weight_hh` that a stage with a narrow operand leaves alone."""
    cell, hidden = CELLS[spec.cell], spec.widths[0]
    idle = sum(
        len(stage.rows) * (cell.operand_width - len(stage.operand or ())) for stage in cell.stages if stage.product
    )
    return spec.parameter_count - idle * hidden * hidden


def fit_size(cell: str, symbols: int, budget: int) -> int:
    """Hidden units that bring the network nearest to the budget."""
    sizes = range(8, 2000)
    made = (ur.Spec(symbols, cell, SETTINGS["embedding_size"], size, 1) for size in sizes)
    return min(made, key=lambda spec: abs(used(spec) - budget)).widths[0]


class Keep(Listener):
    """Keeps the curve and the result of a run."""

    curve: list[list[float]]
    result: Result

    def started(self, facts: Any) -> None:
        """Begin a curve."""
        self.curve = []

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Add a point: epoch, seconds, validation loss."""
        if evaluation.val_loss is not None:
            self.curve.append([evaluation.epoch, evaluation.seconds, evaluation.val_loss])

    def finished(self, result: Result, out: Path | None) -> None:
        """Keep the result."""
        self.result = result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--budget", type=int, default=204_908, help="that of an lstm of 200 units")
    parser.add_argument("--epochs", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pride.json"))
    args = parser.parse_args()
    corpus = read([args.text], strip_gutenberg=True)
    symbols = len(set(corpus.text))
    rows = []
    for cell in args.cells.split(","):
        size, keep = fit_size(cell, symbols, args.budget), Keep()
        limits = {"epochs": args.epochs, "minutes": args.minutes}
        ur.LanguageModel.train(corpus, listener=keep, cell=cell, hidden_size=size, **SETTINGS, **limits)
        best = keep.result.best
        spec = ur.Spec(symbols, cell, SETTINGS["embedding_size"], size, 1)
        rows.append(
            {
                "cell": cell,
                "hidden": size,
                "parameters": used(spec),
                "validation": best.val_loss if best else None,
                "test": keep.result.test_loss,
                "epochs": keep.result.epochs,
                "seconds": keep.result.seconds,
                "curve": keep.curve,
            }
        )
        r = rows[-1]
        print(f"{cell}: {size} units, validation {r['validation']:.4f}, {r['seconds']:.0f} s", flush=True)
    rows.sort(key=lambda r: r["validation"])
    lines = [
        "| cell | units | parameters | validation, nats | test, nats | epochs | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{r['cell']}` | {r['hidden']} | {r['parameters']:,} | {r['validation']:.4f} | {r['test']:.4f} "
        f"| {r['epochs']:.1f} | {r['seconds']:.0f} |"
        for r in rows
    ]
    head = machine() | {"budget": f"{args.budget:,}", "epochs": f"{args.epochs:g}", "minutes": str(args.minutes)}
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
