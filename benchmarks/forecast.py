"""ETTh1 as the literature has it: seven channels, a look-back of 96, horizons of 96 and 192 hours.

    python benchmarks/forecast.py ETTh1.csv --horizon 96 [--set hidden_size=512 ...] [--seeds 1,2] [--test]

The split is that of Zhou et al. 2021 (Informer): 12 months to train on, 4 to validate, 4 to test, of 30 days each;
values are standardised by the part to train on; every window of a part counts, also those of a last batch (Qiu et al.
2024, TFB, on what is lost else), and looks back over the border before its part. Without --test the last four months
are not read. Each run adds its row to the results, so that tries can be counted.
"""

from __future__ import annotations

import argparse
import ast
import time
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, report, script

import unrolled as ur
from unrolled import backends
from unrolled.data.tables import Table, read_table

MONTH = 30 * 24
TRAIN, HELD = 12 * MONTH, 4 * MONTH
SETTINGS: dict[str, Any] = {"target": "all", "context": 96, "segment": 48, "apart": True, "epochs": 6}
"""What was chosen on the validation part; all else is the forecaster's own."""
FIGURES = ("mse", "mae", "mse_linear", "mse_seasonal", "coverage_80", "coverage_95")


def part(path: Path, *, test: bool) -> Table:
    """Return the rows that a run may see."""
    table, rows = read_table(path), TRAIN + HELD * (2 if test else 1)
    return Table(table.where, table.names, table.rows[:rows], table.lines[:rows])


def run(path: Path, horizon: int, seed: int, settings: dict[str, Any], *, test: bool, verbose: bool) -> dict[str, Any]:
    """Train once; return its row."""
    rows = TRAIN + HELD * (2 if test else 1)
    shares = {"val_fraction": HELD / rows, "test_fraction": HELD / rows if test else 0.0}
    began, busy = time.perf_counter(), time.process_time()
    model = ur.Forecaster.train(
        part(path, test=test), horizon=horizon, seed=seed, verbose=verbose, **SETTINGS | settings, **shares
    )
    row: dict[str, Any] = {
        "horizon": horizon,
        "seed": seed,
        "settings": " ".join(f"{name}={value}" for name, value in sorted(settings.items())),
        "minutes": (time.perf_counter() - began) / 60,
        "processor_minutes": (time.process_time() - busy) / 60,
        "epoch": model.result.best.epoch,
        "parameters": model.network.parameter_count,
        "val": dict(model.result.best.metrics),
    }
    if test:
        tested = part(path, test=True)
        tested = Table(tested.where, tested.names, tested.rows[-HELD - 96 :], tested.lines[-HELD - 96 :])
        figures = model.score(tested, stride=1)
        assert figures["windows"] == 7 * (HELD - horizon + 1)
        assert abs(figures["mse"] - model.result.test["mse"]) < 1e-6
        row["test"] = {name: figures[name] for name in FIGURES}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="Settings beside those chosen.")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/forecast.json"))
    args = parser.parse_args()
    backends.set_threads(args.threads)
    settings: dict[str, Any] = {}
    for pair in args.set:
        name, _, value = pair.partition("=")
        try:
            settings[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings[name] = value
    for seed in map(int, args.seeds.split(",")):
        row = run(args.file, args.horizon, seed, settings, test=args.test, verbose=args.verbose)
        rows = merged(args.out, row, "horizon", "seed", "settings")
        command = "python benchmarks/forecast.py ETTh1.csv --horizon H [--set NAME=VALUE] [--test]"
        report(args.out, command, machine(), rows, table(rows))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the rows of a table: validation, and the test where it was looked at."""
    lines = [
        "\n| horizon | beside the settings chosen | seed | epoch | validation MSE / MAE | test MSE / MAE "
        "| linear | season | 80 % and 95 % bands hold | minutes (of one processor) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["horizon"], row["settings"], row["seed"])):
        test, held = row.get("test"), row["val"]
        of_test = (
            "| - | - | - | - "
            if test is None
            else (
                f"| **{test['mse']:.4f}** / {test['mae']:.4f} | {test['mse_linear']:.4f} | {test['mse_seasonal']:.4f} "
                f"| {test['coverage_80']:.1%}, {test['coverage_95']:.1%} "
            )
        )
        minutes = f"{row['minutes']:.1f} ({row['processor_minutes']:.1f})"
        lines.append(
            f"| {row['horizon']} | {row['settings'] or '-'} | {row['seed']} | {row['epoch']:.0f} "
            f"| {held['mse']:.4f} / {held['mae']:.4f} {of_test}| {minutes} |"
        )
    return lines


if __name__ == "__main__":
    script(main)
