"""What a model of a size usually reaches on a text of a length, beside 5-gram counts of the same text.

    python benchmarks/usual.py $UNROLLED_DATA [--threads 1]

Three texts, each cut after so many characters and validated on its last 60,000; of every width one run with the
settings that are chosen for it (`auto=True`), seed 1. Losses of different texts are compared as ratios to what 5-gram
counts (interpolated modified Kneser-Ney) of the same characters give. What has been run is kept and not run again, so
that the command may be stopped. At its end it prints the points that `unrolled.models.usual` holds as a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from side_by_side import machine, merged, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.data.text import default_corpus, read
from unrolled.models.automatic import multiplied
from unrolled.training.callbacks import Callback

TEXTS = {"pride": "pride/1342-0.txt", "shakespeare": "tinyshakespeare/input.txt", "stdlib": ""}
HELD = 60_000
"""Characters to validate on: the last ones of every text, however much of its beginning is trained on."""
PASSES = {60_000: 10, 250_000: 12, 600_000: 6, 1_000_000: 5, 1_500_000: 4}
"""Passes over so many characters."""
WIDE, FEW = 512, 6
"""Networks above this width make so many: they learn a short text by heart in more."""


class Case(NamedTuple):
    """A run: of which text how many characters, and how wide a network."""

    text: str
    characters: int
    hidden_size: int


def cases() -> Iterator[Case]:
    """All runs, short ones first."""
    for width, characters, text in itertools.product((96, 256), (60_000, 250_000, 600_000), TEXTS):
        yield Case(text, characters, width)
    yield Case("pride", 600_000, 512)
    for width, (text, characters) in itertools.product((96, 256), (("shakespeare", 1_000_000), ("stdlib", 1_500_000))):
        yield Case(text, characters, width)
    yield Case("shakespeare", 600_000, 512)
    yield Case("stdlib", 600_000, 512)
    for width, text in itertools.product((512, 768), TEXTS):
        yield Case(text, 60_000, width)


def run(case: Case, data: Path) -> dict[str, Any]:
    """Train a network on the beginning of a text."""
    file = TEXTS[case.text]
    text = (read([data / file], "char") if file else default_corpus()).text
    assert case.characters + HELD <= len(text)
    start = time.process_time()
    model = ur.LanguageModel.train(
        text[: case.characters] + text[-HELD:],
        val_fraction=HELD / (case.characters + HELD),
        auto=True,
        hidden_size=case.hidden_size,
        epochs=FEW if case.hidden_size > WIDE else PASSES[case.characters],
        sample_length=0,
        callbacks=[Callback()],  # whom the yardsticks are found for
    )
    result = model.result
    assert result is not None
    assert result.best is not None
    assert result.yardsticks is not None
    nats, counts = result.best.val_loss, result.yardsticks["fivegram"]
    assert nats is not None
    return case._asdict() | {
        "symbols": result.yardsticks["counted"],
        "predicted": result.yardsticks["predicted"],
        "numbers": round(multiplied(model.network.spec)),
        "passes": result.epochs,
        "best_step": result.best.step,
        "steps": result.steps,
        "validation": nats,
        "five_gram": counts,
        "ratio": nats / counts,
        "cpu_minutes": (time.process_time() - start) / 60,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| text | symbols N | width | multiplied numbers P | passes | validation, nats | 5-gram counts, nats | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: [row[key] for key in Case._fields]):
        lines.append(
            f"| {row['text']} | {row['symbols']:,} | {row['hidden_size']} | {row['numbers']:,} | {row['passes']:g} | "
            f"{row['validation']:.4f} | {row['five_gram']:.4f} | {row['ratio']:.4f} |"
        )
    return lines


def points(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of `unrolled.models.usual.POINTS`."""
    for text in TEXTS:
        yield f'    "{text}": ('
        for row in sorted(
            (row for row in rows if row["text"] == text), key=lambda row: (row["symbols"], row["numbers"])
        ):
            yield f"        Point({row['symbols']:_}, {row['numbers']:_}, {row['five_gram']:.4f}, {row['ratio']:.4f}),"
        yield "    ),"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the public files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/usual.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(args.threads)
    head = machine()
    with threadpool_limits(args.threads):
        for case in cases():
            rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.exists() else []
            if any(all(row[key] == value for key, value in case._asdict().items()) for row in rows):
                continue
            rows = merged(args.out, run(case, args.data), *Case._fields)
            said = "; ".join(f"{k} {v}" for k, v in head.items())
            write(args.out, {"machine": head, "rows": rows}, "\n".join([said, "", *table(rows)]) + "\n")
    print("\n".join(points(json.loads(args.out.read_text(encoding="utf-8"))["rows"])))


if __name__ == "__main__":
    script(main)
