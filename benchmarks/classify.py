"""Classifiers of sentences and of series: accuracy by cross-validation, and of several seeds on a test set.

    python benchmarks/classify.py polarity rt-polarity.pos rt-polarity.neg [--threads 2]
    python benchmarks/classify.py vowels JapaneseVowels_TRAIN.ts JapaneseVowels_TEST.ts

`polarity` is a stratified ten-fold cross-validation over all sentences, with random vectors of words: each fold learns
from nine tenths, for a number of epochs that was chosen before, and is tested once on the last. `vowels` trains five
times, with seeds 1 to 5, on the whole training set and tests each once. What was tried to choose the settings, on parts
of the training data alone, docs/results.md says.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, script, write

import unrolled as ur
from unrolled import backends

POLARITY: dict[str, Any] = {
    "folds": 10,
    "val_fraction": 0.0,
    "words": "whitespace",
    "embedding_size": 64,
    "hidden_size": 32,
    "word_dropout": 0.65,
    "init": "uniform:0.1",
    "learning_rate": 0.004,
    "schedule": "cosine",
    "epochs": 7,
    "seed": 1,
}
VOWELS: dict[str, Any] = {
    "val_fraction": 0.0,
    "batch_size": 20,
    "input_dropout": 0.3,
    "label_smoothing": 0.1,
    "average": "ema",
    "ema_decay": 0.97,
    "learning_rate": 0.003,
    "epochs": 40,
}
SEEDS = range(1, 6)


def polarity(files: list[Path]) -> tuple[list[float], int]:
    """Accuracy of every fold, and how many parameters a network has."""
    model = ur.Classifier.train(files, **POLARITY)
    return [fold["accuracy"] for fold in model.folds or []], model.network.parameter_count


def vowels(files: list[Path]) -> tuple[list[float], int]:
    """Accuracy of every seed on the test set, and how many parameters a network has."""
    train, test = files
    found, parameters = [], 0
    for seed in SEEDS:
        model = ur.Classifier.train(train, test=test, seed=seed, **VOWELS)
        assert model.result is not None
        assert model.result.test is not None
        found.append(model.result.test["accuracy"])
        parameters = model.network.parameter_count
    return found, parameters


TASKS = {"polarity": polarity, "vowels": vowels}


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| data | runs | accuracy, mean | standard deviation | least, most | parameters | minutes | CPU minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        found = r["accuracies"]
        lines.append(
            f"| {r['task']} | {len(found)} | {statistics.mean(found):.2%} | {100 * statistics.stdev(found):.2f} "
            f"| {min(found):.2%}, {max(found):.2%} | {r['parameters']:,} | {r['seconds'] / 60:.1f} "
            f"| {r['CPU seconds'] / 60:.1f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(TASKS))
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/classify.json"))
    args = parser.parse_args()
    backends.set_threads(args.threads)
    wall, spent = time.perf_counter(), time.process_time()
    accuracies, parameters = TASKS[args.task](args.files)
    row = {
        "task": args.task,
        "accuracies": accuracies,
        "parameters": parameters,
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - spent,
    }
    head = machine(threads=str(args.threads))
    rows = sorted(merged(args.out, row, "task"), key=lambda row: str(row["task"]))
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
