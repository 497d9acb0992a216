"""Long memory: the adding problem and copy memory, for the cells that such tasks were made to tell apart.

    python benchmarks/tasks.py --tasks adding-200,copy-100 --cells lstm [--minutes 3] [--learning-rate 0.003]

Adding (Hochreiter & Schmidhuber 1997): two numbers of T are marked, the sum is asked at the end; answering 1 always
gives a mean squared error of 1/6. Copy memory (in the form of Arjovsky et al. 2016): ten symbols of eight, T blanks,
then the same ten are asked; without memory the cross-entropy is 10 ln 8 / (T + 20). A task counts as solved at a
tenth of that. A run ends when it is solved, or when its minutes are over: minutes of one thread's work, not of the
clock, so that other work on the machine takes nothing away. Each run replaces its own row of the results, so that runs
may be made one by one; `docs/make_tasks.py` draws them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, merged, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.data.batches import Batch
from unrolled.models.base import OfNetwork
from unrolled.nn import heads
from unrolled.nn.heads import LANGUAGE
from unrolled.training.callbacks import Callback, Progress
from unrolled.training.options import RunOptions, TrainingOptions
from unrolled.training.state import Evaluation
from unrolled.training.trainer import Trainer

INITS = {  # the initial weights that each cell's literature advises for long memory
    "rnn_tanh": "glorot",  # an orthogonal recurrent weight (Saxe et al. 2014)
    "rnn_relu": "identity",  # Le, Jaitly & Hinton 2015
    "lstm": "chrono",  # Tallec & Ollivier 2018, on top of PyTorch's
    "gru_reset_after": "chrono",
}
RATES = {  # the best of 0.001, 0.003 and 0.01 in 36 seconds each, at the shorter length
    "adding": {"rnn_tanh": 3e-3, "rnn_relu": 1e-2, "lstm": 1e-2, "gru_reset_after": 1e-2},
    "copy": {"rnn_tanh": 1e-3, "rnn_relu": 1e-2, "lstm": 1e-2, "gru_reset_after": 1e-2},
}
SLOWER = {  # at 0.01 it diverges in its first updates; these came second at the shorter lengths
    ("adding-400", "rnn_relu"): 1e-3,
    ("copy-1000", "rnn_relu"): 3e-3,
}
TASKS = ("adding-200", "adding-400", "copy-100", "copy-1000")
SYMBOLS, COPIED = 8, 10
SUM = heads.numbers(1, pooling="last")
CLIP = 1.0
EVERY, MOST = 50, 200
"""Updates whose mean loss is one point of a curve, and points that are kept of it."""


def adding(steps: int, batch: int, rng: np.random.Generator) -> Batch:
    """x (T, B, 2): numbers and marks, one mark in each half; y (B,) the sum of the marked."""
    x = np.zeros((steps, batch, 2), np.float32)
    x[..., 0] = rng.random((steps, batch))
    half, rows = steps // 2, np.arange(batch)
    first, second = rng.integers(0, half, batch), rng.integers(half, steps, batch)
    x[first, rows, 1] = x[second, rows, 1] = 1
    return Batch(x, x[first, rows, 0] + x[second, rows, 0])


def copying(steps: int, batch: int, rng: np.random.Generator) -> Batch:
    """Tokens x and y (T + 20, B): 0 is the blank, 1 to 8 the symbols, 9 asks for them."""
    symbols = rng.integers(1, SYMBOLS + 1, (COPIED, batch))
    blank = np.zeros((steps + COPIED, batch), np.int64)
    x = np.concatenate([symbols, blank])
    x[steps + COPIED - 1] = SYMBOLS + 1
    return Batch(x, np.concatenate([blank, symbols]))


def chrono(net: ur.Recurrent, steps: int, rng: np.random.Generator) -> None:
    """Let units forget after u steps each, u uniform in (1, T - 1): forget-gate biases log u, input-gate biases -log u.

    (A GRU's z is what it keeps, so it plays the forget gate's part.)
    """
    times = np.log(rng.uniform(1, steps - 1, net.hidden_sizes[0]))
    for row, bias in {"f": times, "z": times, "i": -times}.items():
        if row in net.cell.rows:
            at = net.cell.rows.index(row) * len(times)
            net.params["bias_ih_l0"][at : at + len(times)] = bias
            net.params["bias_hh_l0"][at : at + len(times)] = 0


class Drawn:
    """Batches without an end: batch k is drawn anew, from a seed and k alone."""

    carries = shuffled = False

    def __init__(self, draw: Callable[[np.random.Generator], Batch], seed: int) -> None:
        self.draw, self.seed = draw, seed
        self.targets = len(self) * self[0].targets

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, k: int) -> Batch:
        return self.draw(np.random.default_rng([self.seed, k]))


class Task(OfNetwork):
    """A network on one task, and what one without memory gets there."""

    guess = math.inf  # only what is not finite has diverged

    def __init__(self, name: str, cell: str, hidden: int, seed: int) -> None:
        kind, steps = name.split("-")
        self.steps, self.batch = int(steps), adding if kind == "adding" else copying
        self.baseline = 1 / 6 if kind == "adding" else COPIED * math.log(SYMBOLS) / (self.steps + 2 * COPIED)
        inputs, head = (2, SUM) if kind == "adding" else (SYMBOLS + 2, LANGUAGE._replace(outputs=SYMBOLS + 1))
        rng, init = np.random.default_rng(seed), INITS[cell]
        spec = ur.Spec(
            inputs,
            cell=cell,
            embedding_size=0,
            hidden_size=hidden,
            num_layers=1,
            init="pytorch" if init == "chrono" else init,
        )
        super().__init__(ur.Network(spec, rng=rng, head=head))
        if init == "chrono":
            chrono(self.network.recurrent, self.steps, rng)
        weight, bound = self.params["decoder.weight"], 1 / math.sqrt(hidden)  # the same beside every cell
        weight[...], self.params["decoder.bias"][...] = rng.uniform(-bound, bound, weight.shape), 0


@dataclass(frozen=True)
class Options(RunOptions, TrainingOptions):
    """How to train on a task."""


class Watch(Callback):
    """Keeps the curve of a run, and ends it when it is solved, has diverged or has had its seconds of work."""

    def __init__(self, solved_below: float, seconds: float) -> None:
        self.solved_below, self.end = solved_below, time.process_time() + seconds
        self.curve: list[float] = []
        self.updates, self.diverged = 0, False
        self.solved_at: int | None = None

    def stepped(self, progress: Progress) -> bool:
        """Return whether its time is over."""
        self.updates = progress.step
        return time.process_time() >= self.end

    def evaluated(self, evaluation: Evaluation, best: bool) -> bool:
        """Return whether it is solved; figures of fewer updates, where the time was over, are no point."""
        if evaluation.step % EVERY == 0:
            self.curve.append(evaluation.train_loss)
            if evaluation.train_loss < self.solved_below:
                self.solved_at = evaluation.step
        return self.solved_at is not None

    def rolled_back(self, why: str, step: int, factor: float) -> bool:
        """Return True: nothing is tried again."""
        self.diverged = True
        return True


def thinned(curve: list[float]) -> dict[str, Any]:
    """At most `MOST` points, means of as many neighbours each; and how many updates lie between two."""
    step = max(1, -(-len(curve) // MOST))
    points = [round(float(np.mean(curve[n : n + step])), 5) for n in range(0, len(curve), step)]
    return {"every": EVERY * step, "curve": points}


def run(name: str, cell: str, hidden: int, batch: int, minutes: float, rate: float | None, seed: int) -> dict[str, Any]:
    """Train until the task is solved or the time is over."""
    task = Task(name, cell, hidden, seed)
    rate = rate or SLOWER.get((name, cell), RATES[name.split("-")[0]][cell])
    train = Drawn(lambda rng: task.batch(task.steps, batch, rng), seed + 1)
    options = Options(epochs=1, batch_size=batch, learning_rate=rate, grad_clip=CLIP, sample_length=0)
    start, watch = time.process_time(), Watch(task.baseline / 10, 60 * minutes)
    rng = np.random.default_rng(seed)  # nothing is dropped
    Trainer(task, train, None, options, eval_every=EVERY, callbacks=[watch], rng=rng).run()
    return {
        "task": name,
        "cell": cell,
        "init": INITS[cell],
        "rate": rate,
        "solved_at": watch.solved_at,
        "diverged": watch.diverged,
        "updates": watch.updates,
        "baseline": task.baseline,
        "seconds": time.process_time() - start,
        "final": watch.curve[-1] if watch.curve else float("nan"),
        **thinned(watch.curve),
    }


def order(row: dict[str, Any]) -> tuple[int, int]:
    """Where a row stands in the table."""
    return TASKS.index(row["task"]), list(INITS).index(row["cell"])


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| task | cell | initial weights | learning rate | solved after | loss at the end | without memory "
        "| updates | CPU seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        solved = f"**{r['solved_at']:,} updates**" if r["solved_at"] else "diverged" if r["diverged"] else "no"
        lines.append(
            f"| {r['task']} | `{r['cell']}` | {r['init']} | {r['rate']:g} | {solved} | {r['final']:.4f} "
            f"| {r['baseline']:.4f} | {r['updates']:,} | {r['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--cells", default=",".join(INITS))
    parser.add_argument("--minutes", type=float, default=3.0, help="of one thread")
    parser.add_argument("--learning-rate", type=float, default=None, help="instead of each cell's own")
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(1)
    head = machine() | {name: str(getattr(args, name)) for name in ("hidden_size", "batch_size", "minutes", "seed")}
    with threadpool_limits(1):
        for task in args.tasks.split(","):
            for cell in args.cells.split(","):
                r = run(task, cell, args.hidden_size, args.batch_size, args.minutes, args.learning_rate, args.seed)
                rows = sorted(merged(args.out, r, "task", "cell"), key=order)
                text = "; ".join(f"{k} {v}" for k, v in head.items())
                write(args.out, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
