"""Recall by key: a matrix memory beside an LSTM of the same width, in the same processor time on one thread.

    python benchmarks/recall.py [--seconds 4] [--pairs 8]

A sequence shows pairs of a key and a value (16 of each, one-hot), one a step, then the keys alone in another order;
what counts is the value at each of these (Ba et al. 2016; Arora et al. 2023). Every network gets the rate that is best
for it, of three, and as many steps as fit into the time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, script, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends

NAMES, ROWS, HIDDEN = 16, 32, 32
RATES = (0.001, 0.003, 0.01)
MAKE = {"mlstm": ur.MLSTM, "lstm": ur.LSTM}


def batch(rng: np.random.Generator, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """x (2 P, B, 2 NAMES) and the values that are asked for (P, B)."""
    eye, each = np.eye(NAMES, dtype=np.float32), np.ones((ROWS, 1), int)
    keys, order = (rng.permuted(each * np.arange(n), axis=1)[:, :pairs].T for n in (NAMES, pairs))
    values = rng.integers(NAMES, size=(pairs, ROWS))
    shown = np.concatenate([eye[keys], eye[values]], axis=-1)
    asked = np.concatenate([eye[np.take_along_axis(keys, order, 0)], 0 * eye[values]], axis=-1)
    return np.concatenate([shown, asked]), np.take_along_axis(values, order, 0)


def trained(name: str, rate: float, seed: int, seconds: float, pairs: int) -> tuple[float, int, int]:
    """Share of values that are recalled after so many seconds, the steps that took, and the parameters."""
    rng = np.random.default_rng(seed)
    net = MAKE[name](2 * NAMES, HIDDEN, rng=seed)
    decoder = (rng.standard_normal((NAMES, HIDDEN)) / HIDDEN**0.5).astype(np.float32)
    adam = ur.optim.AdamW({**net.params, "decoder": decoder}, weight_decay=0)
    end, steps = time.process_time() + seconds, 0
    while time.process_time() < end:
        x, values = batch(rng, pairs)
        y, _, tape = net.forward(x)
        rows = y[pairs:]
        _, dlogits = ur.losses.cross_entropy(rows @ decoder.T, values)
        _, _, grads = net.backward(tape, np.concatenate([0 * y[:pairs], dlogits @ decoder]))
        grads["decoder"] = np.einsum("tbk,tbh->kh", dlogits, rows)
        ur.optim.clip_by_norm(grads, 1.0)
        adam.update(grads, rate)
        steps += 1
    held_out = np.random.default_rng(10_000 + seed)
    found = []
    for _ in range(20):
        x, values = batch(held_out, pairs)
        found.append(np.mean((net(x)[0][pairs:] @ decoder.T).argmax(axis=-1) == values))
    return float(np.mean(found)), steps, sum(p.size for p in net.params.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recall.json"))
    args = parser.parse_args()
    backends.set_threads(1)
    rows: list[dict[str, Any]] = []
    lines = ["| layer | parameters | rate | steps | recalled, each seed |", "|---|---|---|---|---|"]
    with threadpool_limits(1):
        for name in MAKE:
            tried = {r: [trained(name, r, s, args.seconds, args.pairs) for s in range(args.seeds)] for r in RATES}
            rate = max(RATES, key=lambda r: np.mean([share for share, _, _ in tried[r]]))
            shares, steps, sizes = zip(*tried[rate], strict=True)
            rows.append({"layer": name, "rate": rate, "steps": steps, "recalled": shares, "parameters": sizes[0]})
            said = ", ".join(f"{share:.1%}" for share in shares)
            lines.append(f"| `{name}` | {sizes[0]:,} | {rate} | {int(np.median(steps)):,} | {said} |")
            print(lines[-1], flush=True)
    head = machine() | {"seconds": f"{args.seconds:g}", "pairs": str(args.pairs), "H": str(HIDDEN)}
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    script(main)
