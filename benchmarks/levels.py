"""One text by characters, bytes, words and BPE tokens, in bits a character of it.

    python benchmarks/levels.py $UNROLLED_DATA/pride/1342-0.txt --minutes 1 [--levels char,word] [--threads 1]

Of every level a run with the settings that are chosen for so many minutes' counted work, seed 1, trained on the first
90 % of the text's lines; the next 5 % choose the best model, and the last 5 % are scored, the state carried through
them. They are the same characters for all: words that the training part has not are charged their spelling, and words
between blanks say nothing of how many blanks stand between two of them. Each level replaces its own row of the results.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.data.text import encode, read

LEVELS = ("char", "byte", "word", "bpe")
SHARES = (0.9, 0.95)


def cut(path: Path, folder: Path) -> list[Path]:
    """Write the text, without what read leaves out of it, in three parts of whole lines."""
    text = read([path], "char").text
    assert isinstance(text, str)
    lines = text.splitlines(keepends=True)
    ends = [0, *(round(share * len(lines)) for share in SHARES), len(lines)]
    parts = [folder / name for name in ("train.txt", "val.txt", "test.txt")]
    for part, first, last in zip(parts, ends, ends[1:], strict=False):
        part.write_text("".join(lines[first:last]), encoding="utf-8")
    return parts


def run(parts: list[Path], level: str, minutes: float) -> dict[str, Any]:
    """Train at a level; its row of the table."""
    start = time.process_time()
    model = ur.LanguageModel.train(
        parts[0], val=parts[1], level=level, auto=True, minutes=minutes, sample_length=0, seed=1
    )
    spent = time.process_time() - start
    corpus, result, spec = read([parts[2]], level), model.result, model.network.spec
    score = model.score(corpus)
    assert result is not None
    return {
        "level": level,
        "minutes": minutes,
        "symbols": spec.vocabulary_size,
        "cell": spec.cell,
        "hidden_size": spec.hidden_size,
        "dropout": spec.dropout,
        "parameters": model.network.parameter_count,
        "passes": result.epochs,
        "predicted": score.predicted,
        "nats": score.nats,
        "cpu_minutes": spent / 60,
    } | score.rates(corpus.text, int(encode(corpus, model.vocabulary).tokens[0]), model.vocabulary)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| level | symbols | network | parameters | passes | predicted | nats of each | bits a character | a word | "
        "CPU minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: LEVELS.index(row["level"])):
        network = f"`{row['cell']}` {row['hidden_size']}, dropout {row['dropout']:g}"
        lines.append(
            f"| {row['level']} | {row['symbols']:,} | {network} | "
            f"{row['parameters']:,} | {row['passes']:.1f} | {row['predicted']:,} | {row['nats']:.4f} | "
            f"{row['bits_per_character']:.4f} | {row['bits_per_word']:.3f} | {row['cpu_minutes']:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("--minutes", type=float, default=1.0, help="of two threads' work, a run")
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/levels.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(args.threads)
    head = machine()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(args.threads):
        parts = cut(args.text, Path(folder))
        for level in args.levels.split(","):
            row = run(parts, level, args.minutes) | {"commit": head["commit"]}
            rows = merged(args.out, row, "level")
            said = "; ".join(f"{k} {v}" for k, v in head.items())
            write(args.out, {"machine": head, "rows": rows}, "\n".join([said, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
