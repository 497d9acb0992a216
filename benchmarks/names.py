"""Names, each line of a file a document: LSTM, GRU and RNN of fewer than 200,000 parameters.

    python benchmarks/names.py $UNROLLED_DATA/names-makemore/names.txt [--cells lstm,rnn_tanh] [--threads 2]

A thousand names validate and a thousand test, drawn by the seed. Losses are nats a character, the end of each name
counted as one. Some names are twice in the file, so that some of those held out are trained on too; the test loss of
the others is given beside. Each cell replaces its own row of the results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, script, write

import unrolled as ur
from unrolled import backends
from unrolled.data.documents import draw_parts
from unrolled.data.text import Vocabulary, encode, read

HELD_OUT = 1000
"""Names to validate on, and as many to test."""
SEED = 1
SETTINGS: dict[str, Any] = {
    "num_layers": 2,
    "embedding_size": 32,
    "dropout": 0.2,
    "batch_size": 20,
    "seq_length": 50,
    "epochs": 16,
    "schedule": "cosine",
    "seed": SEED,
    "sample_length": 0,
}
CELLS: dict[str, dict[str, Any]] = {
    "gru_reset_after": {"hidden_size": 128, "learning_rate": 0.005},
    "lstm": {"hidden_size": 112, "learning_rate": 0.005},
    "rnn_tanh": {"hidden_size": 230, "learning_rate": 0.003, "dropout": 0.1, "epochs": 20},
}


def split(path: Path, share: float) -> list[list[str]]:
    """The names to train, to validate and to test on, as training draws them."""
    corpus = read(path, documents="lines")
    vocabulary = Vocabulary.of(corpus.pieces(), "char")
    parts = draw_parts(encode(corpus, vocabulary), share, share, SEED)
    return [vocabulary.decode(part.tokens)[1:-1].split("\n") for part in parts]


def run(path: Path, cell: str, names: int) -> dict[str, Any]:
    """Train one cell; its row of the table."""
    share = HELD_OUT / names
    train, _, test = split(path, share)
    options = {"cell": cell, "val_fraction": share, "test_fraction": share} | SETTINGS | CELLS[cell]
    spent = time.process_time()
    model = ur.LanguageModel.train(path, documents="lines", verbose=True, **options)
    spent, known = time.process_time() - spent, set(train)
    assert model.result is not None
    assert model.result.best is not None
    new = [name for name in test if name not in known]
    drawn = model.sample_documents(1000, seed=SEED)
    return {
        "cell": cell,
        "hidden": options["hidden_size"],
        "parameters": model.network.parameter_count,
        "validation": model.result.best.val_loss,
        "test": model.result.test_loss,
        "test of new names": model.score(new, documents="lines").nats,
        "new names": len(new),
        "drawn that are new": sum(name not in known for name in drawn),
        "epochs": model.result.epochs,
        "threads": backends.threads(),
        "seconds": model.result.seconds,
        "CPU seconds": spent,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| cell | units a layer | parameters | epochs | validation, nats | test, nats | of test names not trained on "
        "| new ones of 1,000 drawn | CPU minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| `{r['cell']}` | {r['hidden']} | {r['parameters']:,} | {r['epochs']:g} | {r['validation']:.4f} "
            f"| {r['test']:.4f} | {r['test of new names']:.4f} ({r['new names']}) | {r['drawn that are new']} "
            f"| {r['CPU seconds'] / 60:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", type=Path)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/names.json"))
    args = parser.parse_args()
    backends.set_threads(args.threads)
    lines = args.names.read_text().split()
    head = machine(names=f"{len(lines):,}, {len(set(lines)):,} distinct", threads=str(args.threads))
    for cell in args.cells.split(","):
        rows = sorted(merged(args.out, run(args.names, cell, len(lines)), "cell"), key=lambda row: row["test"])
        text = "; ".join(f"{k} {v}" for k, v in head.items())
        write(args.out, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
