"""How much faster an adaptive softmax trains on many words: both of one network, alternating.

    python benchmarks/softmax.py [--threads 1,2] [--seconds 3]

Two LSTM layers of 200 units, embedding 200, 20 lanes of 35 steps, Adam; words are drawn by Zipf's law, as frequent as
in a text, so that as many steps reach the clusters. One update a turn: loss, gradients, clipping, Adam.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from side_by_side import alternate, arguments, machine, report, script, summary
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends

SIZES = (10_000, 33_278, 100_000)
LANES, STEPS, UNITS = 20, 35, 200


def update(size: int, softmax: str) -> Callable[[], Any]:
    """What makes one update of a network with so many words."""
    spec = ur.Spec(size, "lstm", UNITS, UNITS, 2, dropout=0.2, softmax=softmax)
    net, rng = ur.Network(spec, rng=1), np.random.default_rng(2)
    adam = ur.optim.Adam(net.params)
    often = 1 / np.arange(1, size + 1)
    text = rng.choice(size, (STEPS + 1, LANES), p=often / often.sum())
    state = None

    def run() -> None:
        nonlocal state
        masks = net.draw_masks(STEPS, LANES, rng)
        _, grads, state = net.loss_and_gradients(text[:-1], text[1:], state, masks=masks)
        ur.optim.clip_by_norm(grads, 0.25)
        adam.update(grads, 0.001)

    return run


def main() -> None:
    args = arguments(__doc__.splitlines()[0], "softmax", len(SIZES)).parse_args()
    rows: list[dict[str, Any]] = []
    lines = ["| words | threads | full, ms | adaptive, ms | times as fast |", "|---|---|---|---|---|"]
    for threads in map(int, args.threads.split(",")):
        backends.set_threads(threads)
        with threadpool_limits(threads):
            for size in (SIZES[int(row)] for row in args.rows.split(",")):
                clock = time.process_time if threads == 1 else time.perf_counter
                found = alternate(
                    {name: update(size, name) for name in ("full", "adaptive")}, args.seconds, clock=clock
                )
                rows.append({"words": size, "threads": threads, "times": found})
                (full, half), (ours, other) = (summary(found[name]) for name in ("full", "adaptive"))
                spread = f"{1e3 * full:.1f} ±{100 * half:.0f} % | {1e3 * ours:.1f} ±{100 * other:.0f} %"
                lines.append(f"| {size:,} | {threads} | {spread} | {full / ours:.2f} |")
    report(args.out, "python benchmarks/softmax.py", machine(), rows, lines)


if __name__ == "__main__":
    script(main)
