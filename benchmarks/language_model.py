"""A language model's training step beside PyTorch's: tokens -> loss -> gradients -> clipping -> Adam, state carried on.

    python benchmarks/language_model.py [--threads 1,2] [--seconds 3] [--rows 0,3]

First loss and gradients are compared with PyTorch in float64; no time is printed if one disagrees. PyTorch runs
nn.Embedding, nn.LSTM and nn.Linear with fused or foreach Adam, whichever is faster here, its state detached.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from side_by_side import alternate, geometric_mean, machine, relative_error, sgemm_flops, summary, write
from threadpoolctl import threadpool_limits

from unrolled import backends
from unrolled.backends import cpu
from unrolled.network import Network, Spec
from unrolled.optim import clip_by_norm, make_optimizer

GRID = [  # B, T, V, E, H, L
    (16, 50, 85, 21, 200, 1),
    (50, 50, 65, 65, 128, 2),
    (50, 50, 65, 128, 256, 2),
    (100, 64, 96, 64, 512, 1),
    (32, 64, 96, 256, 512, 2),
    (20, 20, 10000, 200, 200, 2),
]
CLIP, RATE = 1.0, 1e-4


class Model(torch.nn.Module):
    """The obvious torch module, with our parameters' names."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(spec.vocabulary_size, spec.embedding_size)
        self.recurrent = torch.nn.LSTM(spec.embedding_size, spec.hidden_size, spec.num_layers)
        self.decoder = torch.nn.Linear(spec.hidden_size, spec.vocabulary_size)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, ...] | None) -> tuple[torch.Tensor, ...]:
        y, state = self.recurrent(self.embedding(x), state)
        return self.decoder(y), state


def loss_of(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


def networks(spec: Spec) -> tuple[Network, Model]:
    """The same network on both sides."""
    ours, theirs = Network(spec), Model(spec)
    theirs.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in ours.params.items()})
    return ours, theirs


def check(ours: Network, theirs: Model, x: np.ndarray, y: np.ndarray) -> float:
    """Largest relative error of loss and gradients against PyTorch in float64."""
    exact = Model(ours.spec).double()
    exact.load_state_dict({name: p.double() for name, p in theirs.state_dict().items()})
    want = loss_of(exact(torch.from_numpy(x), None)[0], torch.from_numpy(y))
    want.backward()
    loss, grads, _ = ours.loss_and_gradients(x, y)
    errors = [abs(loss - float(want.detach())) / float(want.detach())]
    errors += [relative_error(grads[name], p.grad) for name, p in exact.named_parameters()]
    return max(errors)


def our_step(network: Network, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    optimizer, state = make_optimizer("adam", network.params), None

    def step() -> None:
        nonlocal state
        _, grads, state = network.loss_and_gradients(x, y, state)
        clip_by_norm(grads, CLIP)
        optimizer.update(grads, RATE)

    return step


def their_step(model: Model, x: np.ndarray, y: np.ndarray, kind: str) -> Callable[[], None]:
    optimizer, state = torch.optim.Adam(model.parameters(), RATE, **{kind: True}), None
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> None:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        logits, new = model(x, state)
        loss = loss_of(logits, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        state = tuple(s.detach() for s in new)
        loss.item()

    return step


def work(size: tuple[int, ...]) -> float:
    """Operations of the products that one step needs; the first layer's takes one row a symbol or a token."""
    batch, steps, vocabulary, embedding, hidden, layers = size
    rows = batch * steps
    first = min(vocabulary, rows) * 4 * hidden * embedding
    rest = rows * (4 * hidden * hidden * (2 * layers - 1) + hidden * vocabulary)
    return 3.0 * 2 * (first + rest)


def row(size: tuple[int, ...], threads: int, seconds: float) -> dict[str, float | str]:
    """One row of the table."""
    batch, steps, vocabulary, embedding, hidden, layers = size
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    rng = np.random.default_rng(0)
    spec = Spec(vocabulary, "lstm", embedding, hidden, layers)
    ours, theirs = networks(spec)
    x, y = rng.integers(0, vocabulary, (2, steps, batch))
    error = check(ours, theirs, x, y)
    if not error < 2e-5:  # some hundred roundings of float32 in a row
        raise SystemExit(f"{size}: relative error {error:.1e} against float64; nothing is timed")
    with threadpool_limits(threads, user_api="blas"):
        flops = sgemm_flops()
    kinds = {kind: their_step(networks(spec)[1], x, y, kind) for kind in ("foreach", "fused")}
    with backends.undisturbed("cpu"):
        tried = alternate(kinds, seconds / 3, blocks=3)
        kind = min(tried, key=lambda name: min(tried[name]))
        times = alternate({"unrolled": our_step(ours, x, y), "torch": kinds[kind]}, seconds)
    (mine, mine_spread), (other, other_spread) = summary(times["unrolled"]), summary(times["torch"])
    return {
        "unrolled_ms": mine * 1e3,
        "unrolled_spread": mine_spread,
        "torch_ms": other * 1e3,
        "torch_spread": other_spread,
        "torch_adam": kind,
        "ratio": other / mine,
        "share_of_sgemm": work(size) / mine / flops,
        "sgemm_gflops": flops / 1e9,
        "error": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", default=",".join(map(str, range(len(GRID)))))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/language_model.json"))
    args = parser.parse_args()
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        lines += [f"\nlanguage-model training step, float32, {threads} thread(s)\n"]
        lines += ["| B, T, V, E, H, L | unrolled ms | PyTorch ms | ratio | of sgemm |", "|---|---|---|---|---|"]
        found = []
        for n in map(int, args.rows.split(",")):
            r = row(GRID[n], threads, args.seconds)
            found.append(float(r["ratio"]))
            results.append({"threads": threads, "size": GRID[n], **r})
            lines.append(
                f"| {', '.join(map(str, GRID[n]))} | {r['unrolled_ms']:.2f} ± {r['unrolled_spread']:.0%} "
                f"| {r['torch_ms']:.2f} ± {r['torch_spread']:.0%} | {r['ratio']:.2f} | {r['share_of_sgemm']:.0%} |"
            )
            print(lines[-1], flush=True)
        lines.append(f"| geometric mean / least | | | {geometric_mean(found):.2f} / {min(found):.2f} | |")
    head = machine() | {"torch": torch.__version__, "instruction_set": cpu.instruction_set()}
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    command = f"python benchmarks/language_model.py --seconds {args.seconds:g}"
    write(args.out, {"command": command, "machine": head, "rows": results}, text + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
