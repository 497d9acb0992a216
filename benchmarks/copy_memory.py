"""Copy memory over a thousand steps, solved in half a minute by rectified units in a ring.

    python benchmarks/copy_memory.py [--steps 1000] [--seeds 1,2,3] [--slower 0.001] [--minutes 5]

The task is that of `tasks.py`: ten symbols of eight, T blanks, the same ten asked for. The cell is `rnn_relu`. Its
recurrent weight begins as a ring: unit n takes what unit n - 1 had. What enters is not negative, so that no rectifier
acts, and the network begins as a linear one that turns its state orthogonally (the linear solution of Henaff et al.
2016, with a permutation, which keeps the state where rectifiers do nothing): nothing fades, grows or mixes in T steps,
and what came in k steps ago is read k places further. A symbol enters at a tenth of the units, a blank nowhere. After a
thousand steps a change of the recurrent weight acts to its thousandth power, so that it learns at a thousandth of the
rate of the other weights.

Solved: the mean loss of fifty updates is below a hundredth of what a network without memory gets, 10 ln 8 / (T + 20),
and of the symbols of a hundred new sequences 99 % are right. A run ends there, or when its minutes are over, which are
of one thread's work. Figures at the end are of 500 new sequences.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, merged, script, write
from tasks import CLIP, COPIED, SYMBOLS, copying
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.nn.heads import LANGUAGE

RATE, BATCH, EVERY = 0.01, 32, 50
SHARE = 0.1
"""Of the units that a symbol enters at."""


def ring(units: int, rng: np.random.Generator) -> ur.Network:
    """The network, with its recurrent weight a ring, sparse symbols that are not negative, and all else 0."""
    spec = ur.Spec(SYMBOLS + 2, "rnn_relu", embedding_size=0, hidden_size=units, num_layers=1)
    net = ur.Network(spec, rng=rng, head=LANGUAGE._replace(outputs=SYMBOLS + 1))
    for p in net.params.values():
        p[...] = 0
    net.params["recurrent.weight_hh_l0"][...] = np.roll(np.eye(units), 1, axis=0)
    enters = rng.random((units, SYMBOLS + 1)) * (rng.random((units, SYMBOLS + 1)) < SHARE)
    net.params["recurrent.weight_ih_l0"][:, 1:] = enters
    return net


def right(net: ur.Network, steps: int, sequences: int, rng: np.random.Generator) -> tuple[float, float]:
    """The loss on new sequences, and the share of their symbols that the likeliest output is."""
    x, y = copying(steps, sequences, rng)
    return net.loss(x, y)[0], float((net.predict(x)[-COPIED:] == y[-COPIED:]).mean())


def run(steps: int, units: int, slower: float, minutes: float, seed: int) -> dict[str, Any]:
    """Train until the task is solved or the time is over."""
    rng = np.random.default_rng(seed)
    net = ring(units, rng)
    slow = {name: p for name, p in net.params.items() if name.startswith(("recurrent.weight_hh", "recurrent.bias"))}
    fast = {name: p for name, p in net.params.items() if name not in slow}
    rules = [(ur.optim.Adam(fast), RATE), (ur.optim.Adam(slow), RATE * slower)]
    baseline = COPIED * math.log(SYMBOLS) / (steps + 2 * COPIED)
    start, clock, losses, solved = time.process_time(), time.perf_counter(), list[float](), False
    for update in itertools.count(1):
        loss, grads, _ = net.loss_and_gradients(*copying(steps, BATCH, rng))
        ur.optim.clip_by_norm(grads, CLIP)
        for rule, rate in rules:
            rule.update({name: grads[name] for name in rule.params}, rate)
        losses.append(loss)
        if update % EVERY == 0 and np.mean(losses[-EVERY:]) < baseline / 100:
            solved = right(net, steps, 100, rng)[1] > 0.99
        spent = time.process_time() - start
        if solved or spent > 60 * minutes:
            break
    seconds = time.perf_counter() - clock
    loss, accuracy = right(net, steps, 500, np.random.default_rng([seed, 1]))
    return {
        "steps": steps,
        "units": units,
        "slower": slower,
        "seed": seed,
        "solved": solved,
        "updates": update,
        "CPU seconds": spent,
        "seconds": seconds,
        "loss": loss,
        "baseline": baseline,
        "accuracy": accuracy,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of the results."""
    lines = [
        "| T | units | rate of the recurrent weight | seed | solved | CPU seconds | loss at the end | without memory "
        "| symbols right |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        solved = f"**{r['updates']:,} updates**" if r["solved"] else f"no, in {r['updates']:,} updates"
        lines.append(
            f"| {r['steps']:,} | {r['units']} | {RATE * r['slower']:g} | {r['seed']} | {solved} "
            f"| {r['CPU seconds']:.0f} | {r['loss']:.5f} | {r['baseline']:.5f} | {r['accuracy']:.2%} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--slower", type=float, default=0.001, help="rate of the recurrent weight, as a share")
    parser.add_argument("--minutes", type=float, default=5.0, help="of one thread")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/copy_memory.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(1)
    head, keys = machine(), ("steps", "units", "slower", "seed")
    with threadpool_limits(1):
        for seed in map(int, args.seeds.split(",")):
            row = run(args.steps, args.hidden_size, args.slower, args.minutes, seed)
            rows = sorted(merged(args.out, row, *keys), key=lambda row: [row[key] for key in keys])
            text = "; ".join(f"{k} {v}" for k, v in head.items())
            write(args.out, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


if __name__ == "__main__":
    script(main)
