"""Long memory: the adding problem and copy memory, for the cells that such tasks were made to tell apart.

    python benchmarks/tasks.py [--tasks adding-200,copy-100] [--cells lstm] [--minutes 5] [--hidden-size 64]

Adding (Hochreiter & Schmidhuber 1997): two numbers of T are marked, the sum is asked at the end; answering 1 always
gives a mean squared error of 1/6. Copy memory (in the form of Arjovsky et al. 2016): ten symbols of eight, T blanks,
then the same ten are asked; without memory the cross-entropy is 10 ln 8 / (T + 20). A task counts as solved at a
tenth of that. Every run ends when it is solved or its minutes are over.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, write

import unrolled as ur
from unrolled import backends, layers
from unrolled.losses import cross_entropy
from unrolled.optim import clip_by_norm, make_optimizer

CELLS = {  # options of the cell, and its learning rate
    "rnn_tanh": ({}, 1e-3),
    "rnn_relu": ({"init": "identity"}, 1e-3),  # Le, Jaitly & Hinton 2015
    "lstm": ({"forget_bias": 1.0}, 2e-3),
    "gru_reset_after": ({}, 2e-3),
}
TASKS = ("adding-200", "adding-400", "copy-100", "copy-1000")
SYMBOLS, COPIED = 8, 10
CLIP = 1.0


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


class Task:
    """A network and a decoder on one task; `loss` and its gradient, and what a network without memory gets."""

    def __init__(self, name: str, cell: str, hidden: int, seed: int) -> None:
        kind, steps = name.split("-")
        self.kind, self.steps = kind, int(steps)
        self.draw: Callable[..., tuple[Any, Any]] = adding if kind == "adding" else copying
        inputs, outputs = (2, 1) if kind == "adding" else (SYMBOLS + 2, SYMBOLS + 1)
        rng = np.random.default_rng(seed)
        self.net = ur.Recurrent(cell, inputs, hidden, rng=rng, **CELLS[cell][0])
        bound = 1 / np.sqrt(hidden)
        self.params = self.net.params | {
            "decoder.weight": layers.uniform(rng, (outputs, hidden), bound, "float32"),
            "decoder.bias": np.zeros(outputs, np.float32),
        }
        self.baseline = 1 / 6 if kind == "adding" else COPIED * float(np.log(SYMBOLS)) / (self.steps + 2 * COPIED)

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


def run(name: str, cell: str, hidden: int, batch: int, minutes: float, seed: int) -> dict[str, Any]:
    """Train until the task is solved or the time is over; the curve holds means of 50 batches."""
    task, rng = Task(name, cell, hidden, seed), np.random.default_rng(seed + 1)
    optimizer, rate = make_optimizer("adam", task.params), CELLS[cell][1]
    start, curve, recent, solved = time.perf_counter(), [], [], None
    updates = 0
    with backends.undisturbed(task.net.backend), np.errstate(over="ignore"):
        while solved is None and time.perf_counter() - start < 60 * minutes:
            value, grads = task.loss(*task.draw(task.steps, batch, rng))
            if not (np.isfinite(value) and np.isfinite(clip_by_norm(grads, CLIP))):
                break
            optimizer.update(grads, rate)
            updates += 1
            recent.append(value)
            if len(recent) == 50:
                curve.append([updates, float(np.mean(recent))])
                solved = updates if curve[-1][1] < task.baseline / 10 else None
                recent.clear()
    final = curve[-1][1] if curve else float("nan")
    return {
        "task": name,
        "cell": cell,
        "solved_at": solved,
        "updates": updates,
        "final": final,
        "baseline": task.baseline,
        "seconds": time.perf_counter() - start,
        "curve": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tasks.json"))
    args = parser.parse_args()
    rows, lines = [], ["| task | cell | solved after | loss at the end | without memory | updates | seconds |"]
    lines.append("|---|---|---|---|---|---|---|")
    for task in args.tasks.split(","):
        for cell in args.cells.split(","):
            r = run(task, cell, args.hidden_size, args.batch_size, args.minutes, args.seed)
            rows.append(r)
            solved = f"{r['solved_at']:,} updates" if r["solved_at"] else "no"
            lines.append(
                f"| {task} | `{cell}` | {solved} | {r['final']:.5f} | {r['baseline']:.5f} | {r['updates']:,} "
                f"| {r['seconds']:.0f} |"
            )
            print(lines[-1], flush=True)
    head = machine() | {"hidden": str(args.hidden_size), "batch": str(args.batch_size), "minutes": str(args.minutes)}
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
