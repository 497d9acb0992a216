"""Scoring a batch of text (forward pass and loss), beside onnxruntime and PyTorch, state carried on.

    python benchmarks/scoring.py [--threads 1,2] [--seconds 3] [--rows 0,3]

Batches of 16 rows and 50 steps at the language models' sizes. First the losses are compared; nothing is timed if one
disagrees.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from language_model import GRID, Model, loss_of
from onnx_model import session
from side_by_side import alternate, geometric_mean, machine, summary, write

from unrolled import backends
from unrolled.backends import cpu
from unrolled.network import Network, Spec

BATCH, STEPS = 16, 50


def ours(network: Network, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    state = None

    def run() -> float:
        nonlocal state
        loss, state = network.loss(x, y, state)
        return loss

    return run


def with_torch(model: Model, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    tx, ty, state = torch.from_numpy(x), torch.from_numpy(y), None

    @torch.inference_mode()
    def run() -> float:
        nonlocal state
        logits, state = model(tx, state)
        return float(loss_of(logits, ty))

    return run


def with_onnxruntime(network: Network, x: np.ndarray, y: np.ndarray, threads: int) -> Callable[[], float]:
    run_once, flat = session(network, threads, loss=True), y.reshape(-1)
    h, c = network.zero_state(BATCH)

    def run() -> float:
        nonlocal h, c
        loss, h, c = run_once.run(None, {"x": x, "y": flat, "h0": h, "c0": c})
        return float(loss)

    return run


def row(size: tuple[int, ...], threads: int, seconds: float) -> dict[str, float]:
    """One row of the table."""
    _, _, vocabulary, embedding, hidden, layers = size
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    network = Network(Spec(vocabulary, "lstm", embedding, hidden, layers))
    model = Model(network.spec)
    model.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in network.params.items()})
    x, y = np.random.default_rng(0).integers(0, vocabulary, (2, STEPS, BATCH))
    sides = {
        "unrolled": ours(network, x, y),
        "torch": with_torch(model, x, y),
        "onnxruntime": with_onnxruntime(network, x, y, threads),
    }
    losses = [run() for run in sides.values()]
    if max(losses) - min(losses) > 1e-5 * losses[0]:  # float32
        raise SystemExit(f"{size}: the losses are {losses}; nothing is timed")
    with backends.undisturbed("cpu"):
        times = alternate(sides, seconds)
    found: dict[str, float] = {}
    for name, values in times.items():
        median, spread = summary(values)
        found |= {f"{name}_ms": median * 1e3, f"{name}_spread": spread}
    for name in ("torch", "onnxruntime"):
        found[f"{name}_ratio"] = found[f"{name}_ms"] / found["unrolled_ms"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", default=",".join(map(str, range(len(GRID)))))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scoring.json"))
    args = parser.parse_args()
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        lines += [f"\nscoring, forward and loss, B {BATCH}, T {STEPS}, float32, milliseconds, {threads} thread(s)\n"]
        lines += ["| V, E, H, L | unrolled | PyTorch | ratio | onnxruntime | ratio |", "|---|---|---|---|---|---|"]
        found = []
        for n in map(int, args.rows.split(",")):
            r = row(GRID[n], threads, args.seconds)
            found.append(r)
            results.append({"threads": threads, "size": GRID[n][2:], **r})
            cells = [
                f"{r[f'{name}_ms']:.2f} ± {r[f'{name}_spread']:.0%}" for name in ("unrolled", "torch", "onnxruntime")
            ]
            lines.append(
                f"| {', '.join(map(str, GRID[n][2:]))} | {cells[0]} | {cells[1]} | {r['torch_ratio']:.2f} "
                f"| {cells[2]} | {r['onnxruntime_ratio']:.2f} |"
            )
            print(lines[-1], flush=True)
        summed = {n: [r[f"{n}_ratio"] for r in found] for n in ("torch", "onnxruntime")}
        means = {n: f"{geometric_mean(v):.2f} / {min(v):.2f}" for n, v in summed.items()}
        lines.append(f"| geometric mean / least | | | {means['torch']} | | {means['onnxruntime']} |")
    head = machine() | {
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "instruction_set": cpu.instruction_set(),
    }
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    command = f"python benchmarks/scoring.py --seconds {args.seconds:g}"
    write(args.out, {"command": command, "machine": head, "rows": results}, text + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
