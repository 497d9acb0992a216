"""Drawing text one token at a time (batch 1), beside PyTorch and onnxruntime with the state fed back.

    python benchmarks/generation.py [--threads 1,2] [--seconds 3] [--rows 0,3]

All three draw by the same rule from the same numbers; first the drawn tokens are compared, and nothing is timed unless
they are the same. Times are microseconds a token, of runs of 400 tokens; ours pack the weights anew for every run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from language_model import GRID, Model
from onnx_model import session
from side_by_side import alternate, geometric_mean, machine, summary, write

from unrolled import backends, sample
from unrolled.backends import cpu
from unrolled.network import Network, Spec

TOKENS = 400


def ours(network: Network) -> Callable[[], list[int]]:
    return lambda: list(sample.tokens(network, np.array([1]), TOKENS, 1.0, np.random.default_rng(0)))


def with_torch(model: Model) -> Callable[[], list[int]]:
    @torch.inference_mode()
    def run() -> list[int]:
        u, token, state, drawn = np.random.default_rng(0).random(TOKENS), 1, None, []
        for number in u:
            logits, state = model(torch.tensor([[token]]), state)
            token = sample.draw(logits[0, 0].numpy(), 1.0, number)
            drawn.append(token)
        return drawn

    return run


def with_onnxruntime(network: Network, threads: int) -> Callable[[], list[int]]:
    run_once = session(network, threads, loss=False)
    zeros = network.zero_state(1)

    def run() -> list[int]:
        u, token, (h, c), drawn = np.random.default_rng(0).random(TOKENS), 1, zeros, []
        for number in u:
            logits, h, c = run_once.run(None, {"x": np.array([[token]]), "h0": h, "c0": c})
            token = sample.draw(logits[0, 0], 1.0, number)
            drawn.append(token)
        return drawn

    return run


def row(size: tuple[int, ...], threads: int, seconds: float) -> dict[str, float]:
    """One row of the table."""
    _, _, vocabulary, embedding, hidden, layers = size
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    network = Network(Spec(vocabulary, "lstm", embedding, hidden, layers))
    model = Model(network.spec)
    model.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in network.params.items()})
    sides = {
        "unrolled": ours(network),
        "torch": with_torch(model),
        "onnxruntime": with_onnxruntime(network, threads),
    }
    drawn = [run() for run in sides.values()]
    if not drawn[0] == drawn[1] == drawn[2]:
        raise SystemExit(f"{size}: the drawn tokens differ; nothing is timed")
    with backends.undisturbed("cpu"):
        times = alternate(sides, seconds)
    found: dict[str, float] = {}
    for name, values in times.items():
        median, spread = summary(values)
        found |= {f"{name}_us": median / TOKENS * 1e6, f"{name}_spread": spread}
    for name in ("torch", "onnxruntime"):
        found[f"{name}_ratio"] = found[f"{name}_us"] / found["unrolled_us"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", default=",".join(map(str, range(len(GRID)))))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/generation.json"))
    args = parser.parse_args()
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        lines += [f"\ngeneration, batch 1, float32, microseconds a token, {threads} thread(s)\n"]
        lines += ["| V, E, H, L | unrolled | PyTorch | ratio | onnxruntime | ratio |", "|---|---|---|---|---|---|"]
        found = []
        for n in map(int, args.rows.split(",")):
            r = row(GRID[n], threads, args.seconds)
            found.append(r)
            results.append({"threads": threads, "size": GRID[n][2:], **r})
            cells = [
                f"{r[f'{name}_us']:.1f} ± {r[f'{name}_spread']:.0%}" for name in ("unrolled", "torch", "onnxruntime")
            ]
            lines.append(
                f"| {', '.join(map(str, GRID[n][2:]))} | {cells[0]} | {cells[1]} | {r['torch_ratio']:.1f} "
                f"| {cells[2]} | {r['onnxruntime_ratio']:.1f} |"
            )
            print(lines[-1], flush=True)
        summed = {n: [r[f"{n}_ratio"] for r in found] for n in ("torch", "onnxruntime")}
        means = {n: f"{geometric_mean(v):.1f} / {min(v):.1f}" for n, v in summed.items()}
        lines.append(f"| geometric mean / least | | | {means['torch']} | | {means['onnxruntime']} |")
    head = machine() | {
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "instruction_set": cpu.instruction_set(),
    }
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    command = f"python benchmarks/generation.py --seconds {args.seconds:g}"
    write(args.out, {"command": command, "machine": head, "rows": results}, text + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
