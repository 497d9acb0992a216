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
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, merged, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.reference import layers
from unrolled.reference.losses import cross_entropy
from unrolled.training.clipping import clip_by_norm
from unrolled.training.optimizers import make_optimizer

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
CLIP = 1.0
EVERY, MOST = 50, 200
"""Updates whose mean loss is one point of a curve, and points that are kept of it."""


def adding(steps: int, batch: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """x (T, B, 2): numbers and marks, one mark in each half; y (B,) the sum of the marked."""
    x = np.zeros((steps, batch, 2), np.float32)
    x[..., 0] = rng.random((steps, batch))
    half, rows = steps // 2, np.arange(batch)
    first, second = rng.integers(0, half, batch), rng.integers(half, steps, batch)
    x[first, rows, 1] = x[second, rows, 1] = 1
    return x, x[first, rows, 0] + x[second, rows, 0]


def copying(steps: int, batch: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Tokens x and y (T + 20, B): 0 is the blank, 1 to 8 the symbols, 9 asks for them."""
    symbols = rng.integers(1, SYMBOLS + 1, (COPIED, batch))
    blank = np.zeros((steps + COPIED, batch), np.int64)
    x = np.concatenate([symbols, blank])
    x[steps + COPIED - 1] = SYMBOLS + 1
    return x, np.concatenate([blank, symbols])


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


class Task:
    """A network and a decoder on one task; `loss` and its gradient, and what a network without memory gets."""

    def __init__(self, name: str, cell: str, hidden: int, seed: int) -> None:
        self.kind, steps = name.split("-")
        self.steps = int(steps)
        self.draw: Callable[..., tuple[Any, Any]] = adding if self.kind == "adding" else copying
        inputs, outputs = (2, 1) if self.kind == "adding" else (SYMBOLS + 2, SYMBOLS + 1)
        rng, init = np.random.default_rng(seed), INITS[cell]
        self.net = ur.Recurrent(cell, inputs, hidden, rng=rng, init="pytorch" if init == "chrono" else init)
        if init == "chrono":
            chrono(self.net, self.steps, rng)
        bound = 1 / np.sqrt(hidden)
        self.params = self.net.params | {
            "decoder.weight": layers.uniform(rng, (outputs, hidden), bound, "float32"),
            "decoder.bias": np.zeros(outputs, np.float32),
        }
        self.baseline = 1 / 6 if self.kind == "adding" else COPIED * float(np.log(SYMBOLS)) / (self.steps + 2 * COPIED)

    def loss(self, x: Any, y: Any) -> tuple[float, dict[str, Any]]:
        """Mean loss of a batch, and every gradient."""
        hidden, _, tape = self.net.forward(x)
        weight, bias = self.params["decoder.weight"], self.params["decoder.bias"]
        shown = hidden[-1:] if self.kind == "adding" else hidden
        out = layers.linear(weight, bias, shown)
        if self.kind == "adding":
            error = out[0, :, 0] - y
            value, dout = float(np.mean(error**2)), (2 * error / len(y))[None, :, None].astype(np.float32)
        else:
            value, dout = cross_entropy(out, y)
        dshown, dweight, dbias = layers.linear_backward(weight, shown, dout)
        dy = np.zeros_like(hidden)
        dy[-len(shown) :] = dshown
        grads = self.net.backward(tape, dy)[2]
        return value, grads | {"decoder.weight": dweight, "decoder.bias": dbias}


def thinned(curve: list[float]) -> dict[str, Any]:
    """At most `MOST` points, means of as many neighbours each; and how many updates lie between two."""
    step = max(1, -(-len(curve) // MOST))
    points = [round(float(np.mean(curve[n : n + step])), 5) for n in range(0, len(curve), step)]
    return {"every": EVERY * step, "curve": points}


def run(name: str, cell: str, hidden: int, batch: int, minutes: float, rate: float | None, seed: int) -> dict[str, Any]:
    """Train until the task is solved or the time is over."""
    task, rng = Task(name, cell, hidden, seed), np.random.default_rng(seed + 1)
    rate = rate or SLOWER.get((name, cell), RATES[task.kind][cell])
    optimizer = make_optimizer("adam", task.params)
    start, curve, recent, solved = time.process_time(), [], [], None
    updates, diverged = 0, False
    with np.errstate(over="ignore"):
        while solved is None and time.process_time() - start < 60 * minutes:
            value, grads = task.loss(*task.draw(task.steps, batch, rng))
            if not (np.isfinite(value) and np.isfinite(clip_by_norm(grads, CLIP))):
                diverged = True
                break
            optimizer.update(grads, rate)
            updates += 1
            recent.append(value)
            if len(recent) == EVERY:
                curve.append(float(np.mean(recent)))
                solved = updates if curve[-1] < task.baseline / 10 else None
                recent.clear()
    return {
        "task": name,
        "cell": cell,
        "init": INITS[cell],
        "rate": rate,
        "solved_at": solved,
        "diverged": diverged,
        "updates": updates,
        "baseline": task.baseline,
        "seconds": time.process_time() - start,
        "final": curve[-1] if curve else float("nan"),
        **thinned(curve),
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
    main()
