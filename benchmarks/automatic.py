"""Settings that are chosen from text and time, beside the best of a search that had the same time for each.

    python benchmarks/automatic.py $UNROLLED_DATA --minutes 3 [--texts pride,names] [--threads 1]

Of every text: a run with nothing but `--minutes` given, and 24 with settings of a grid, each with as many passes as the
same counted work allows (`unrolled.models.automatic.seconds`), 40 at most, at a rate that falls by a cosine; a setting
that has its 40 in fewer minutes is not run again for more. All are compared by their best validation loss, seed 1. A
run of the grid ends early where it is far behind the best that was seen after the same share of a run's work (`LOOKS`).
What has been run is kept and not run again, so that the command may be stopped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from side_by_side import machine, merged, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.data.text import default_corpus, read
from unrolled.models.automatic import LANES, PASSES, STEPS
from unrolled.training.callbacks import Callback, Facts
from unrolled.training.state import Evaluation

CELLS, WIDTHS, RATES = ("gru_reset_after", "lstm"), (128, 256, 512), (0.002, 0.005, 0.01)
DEEP = [(256, 0.0), (256, 0.2)]
"""Widths of two layers of the first cell, and their dropout."""
DROPOUT = 0.1
TEXTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "pride": ("pride/1342-0.txt", {}, {}),
    "shakespeare": ("tinyshakespeare/input.txt", {}, {}),
    "names": ("names-makemore/names.txt", {}, {"documents": "lines"}),
    "stdlib": ("", {}, {}),
    "wikitext": ("wikitext-2/train.txt", {"level": "word"}, {}),
}
"""Of each text: its file, options of the vocabulary, and how it is read."""
KEYS = ("text", "minutes", "setting")
LOOKS, BEHIND, BEHIND_NAMES = (0.1, 0.25, 0.5, 0.75), (0.1, 0.05, 0.055, 0.015), (0.06, 0.03, 0.015, 0.01)
"""Shares of a run's work, and how far above the best loss there a run ends, and one on names, whose losses lie closer
together. A loss falls late at a high rate, and that of a wide LSTM. Of the runs of five texts at 3 minutes that ended
within 1 % of the best none was more than 8.7, 4.2, 5.1 and 1.1 % above the lowest loss at the four looks; the margins
that they were run with were 12, 6, 6 and 2 % at most."""


class Race(Callback):
    """Keeps the losses at the looks, and ends a run that is far behind.

    Parameters
    ----------
    best : list of float or None
        The lowest loss so far, at each look.
    most : tuple of float
        How far above it a run ends.
    """

    def __init__(self, best: Sequence[float | None], most: Sequence[float]) -> None:
        self.best, self.most = best, most
        self.seen: list[float] = []
        self.share = 1.0
        self.epochs = math.nan

    def started(self, facts: Facts) -> None:
        """Keep how many passes a run is to make."""
        self.epochs = facts.options.epochs

    def evaluated(self, evaluation: Evaluation, best: bool) -> bool | None:
        """Look, where it is time to; return whether the run is to end."""
        behind = False
        while len(self.seen) < len(LOOKS) and evaluation.epoch >= LOOKS[len(self.seen)] * self.epochs:
            share, most, least = (each[len(self.seen)] for each in (LOOKS, self.most, self.best))
            assert evaluation.val_loss is not None
            self.seen.append(evaluation.val_loss)
            if least is not None and evaluation.val_loss > (1 + most) * least:
                behind, self.share = True, share
        return behind


def grid() -> Iterator[dict[str, Any]]:
    """The settings that are searched."""
    for cell, width, rate in itertools.product(CELLS, WIDTHS, RATES):
        yield {"cell": cell, "hidden_size": width, "num_layers": 1, "learning_rate": rate, "dropout": DROPOUT}
    for (width, dropout), rate in itertools.product(DEEP, RATES):
        yield {"cell": CELLS[0], "hidden_size": width, "num_layers": 2, "learning_rate": rate, "dropout": dropout}


def full(setting: dict[str, Any], words: bool) -> dict[str, Any]:
    """A setting of the grid, with what is the same for all of them; a full softmax of words gets too few passes."""
    shape = {"embedding_size": setting["hidden_size"], "softmax": "adaptive"} if words else {"embedding_size": 64}
    return setting | shape | {"batch_size": LANES, "seq_length": STEPS, "schedule": "cosine"}


def run(
    name: str, data: Path, minutes: float, setting: dict[str, Any] | None, best: Sequence[float | None]
) -> dict[str, Any]:
    """Train on a text for so many minutes' work, with a setting or with what is chosen."""
    file, options, how = TEXTS[name]
    level = options.get("level", "char")
    corpus = read([data / file], level, **how) if file else default_corpus(level=level)
    asked = {} if setting is None else full(setting, level == "word")
    start, race = time.process_time(), Race(best, BEHIND_NAMES if name == "names" else BEHIND)
    how = {"auto": True, "minutes": minutes, "sample_length": 0, "callbacks": [race]}
    model = ur.LanguageModel.train(corpus, **how, **options, **asked)
    spec, result = model.network.spec, model.result
    assert result is not None
    assert result.best is not None
    return {
        "text": name,
        "minutes": minutes,
        "setting": "chosen" if setting is None else " ".join(f"{v}" for v in setting.values()),
        "cell": spec.cell,
        "hidden_size": spec.hidden_size,
        "num_layers": spec.num_layers,
        "dropout": spec.dropout,
        "learning_rate": asked.get("learning_rate"),
        "passes": result.epochs,
        "share": race.share,
        "looks": race.seen,
        "validation": result.best.val_loss,
        "cpu_minutes": (time.process_time() - start) / 60,
    }


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the results: of each text and time, what was chosen, the best of the search, and how far apart."""
    lines = [
        "| text | minutes | chosen | nats | best of the search | nats | difference | searched | to the end | commit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, minutes in sorted({(row["text"], row["minutes"]) for row in rows}):
        runs = [row for row in rows if (row["text"], row["minutes"]) == (name, minutes)]
        chosen = next((row for row in runs if row["setting"] == "chosen"), None)
        others = sorted((row for row in runs if row["setting"] != "chosen"), key=lambda row: row["validation"])
        if chosen is None or not others:
            continue
        ended = sum(row["share"] == 1 for row in others)
        apart = 100 * (chosen["validation"] / others[0]["validation"] - 1)
        lines.append(
            f"| {name} | {minutes:g} | {_said(chosen)} | {chosen['validation']:.4f} | {_said(others[0])} | "
            f"{others[0]['validation']:.4f} | {apart:+.1f} % | {len(others)} | {ended} | {chosen['commit']} |"
        )
    return lines


def _best(rows: Sequence[dict[str, Any]], name: str, minutes: float) -> list[float | None]:
    """Return the lowest loss of the runs of a text at each look, None where none came as far."""
    runs = [row["looks"] for row in rows if (row["text"], row["minutes"]) == (name, minutes)]
    return [min((run[k] for run in runs if len(run) > k), default=None) for k in range(len(LOOKS))]


def _same(rows: Sequence[dict[str, Any]], name: str, minutes: float, setting: str) -> dict[str, Any] | None:
    """Return the run of a setting that fewer minutes allowed all passes, and more minutes no more of them, if any."""
    for row in rows:
        had = setting != "chosen" and row["minutes"] < minutes and round(row["passes"] / row["share"]) >= PASSES
        if had and (row["text"], row["setting"]) == (name, setting):
            return row | {"minutes": minutes}
    return None


def _said(row: dict[str, Any]) -> str:
    rate = "" if row["learning_rate"] is None else f", {row['learning_rate']:g}"
    return f"`{row['cell']}` {row['num_layers']} x {row['hidden_size']}, dropout {row['dropout']:g}{rate}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the public files")
    parser.add_argument("--texts", default=",".join(TEXTS))
    parser.add_argument("--minutes", type=float, default=3.0, help="of two threads' work, a run")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/automatic.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(args.threads)
    head = machine()
    with threadpool_limits(args.threads):
        for name, setting in itertools.product(args.texts.split(","), [None, *grid()]):
            rows = json.loads(args.out.read_text(encoding="utf-8"))["rows"] if args.out.exists() else []
            key = [name, args.minutes, "chosen" if setting is None else " ".join(f"{v}" for v in setting.values())]
            if any([row[k] for k in KEYS] == key for row in rows):
                continue
            row = _same(rows, *key)
            if row is None:
                row = run(name, args.data, args.minutes, setting, _best(rows, *key[:2])) | {"commit": head["commit"]}
            rows = merged(args.out, row, *KEYS)
            said = "; ".join(f"{k} {v}" for k, v in head.items())
            write(args.out, {"machine": head, "rows": rows}, "\n".join([said, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
