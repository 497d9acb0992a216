"""Every cell's forward and backward beside `lstm`'s, and beside PyTorch written the way people write that cell.

    python benchmarks/cells.py [--cells lstm,mgu] [--threads 1] [--seconds 3]

Four tables: all cells at one size; an LSTM and a GRU that were written without a backward, beside the kernels; cells
without a recurrent product as a share of their products' own rate, and beside PyTorch's `nn.GRU`; sampling. PyTorch's
loop (`torch_cells.py`) has its own autograd, so comparing every gradient with it first, in float64, is a proof of its
own; no time is printed for a cell that disagrees. Times of one thread are the processor's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from side_by_side import alternate, machine, relative_error, script, summary, write
from threadpoolctl import threadpool_limits
from torch_cells import Loop, gradients

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS, Cell
from unrolled.reference import scan

SIZE = 32, 64, 256, 256
SIZES = (16, 50, 128, 128), SIZE
"""B, T, I, H."""
SAMPLED = (
    "lstm",
    "gru_reset_before",
    "own_lstm",
    "own_gru_reset_before",
    "lstm_use_gate",
    "gru_layer_norm",
    "mgu",
    "lstm_no_output_gate",
)
VOCABULARY, LAYERS, TOKENS = 65, 2, 200


def own(name: str) -> Cell:
    """The same cell as users write their own: another name, and no backward."""
    cell = CELLS[name]
    return replace(cell, name=f"own_{name}", stages=tuple(replace(stage, backward=None) for stage in cell.stages))


def check(cell: Cell, net: ur.Recurrent, x: np.ndarray, dy: np.ndarray) -> tuple[float, float]:
    """Largest relative error against autograd in float64: of ours, as it will be timed, and of PyTorch's in float32."""
    exact = gradients(Loop(cell, {name: p.astype(np.float64) for name, p in net.params.items()}), x, dy)
    theirs = gradients(Loop(cell, net.params), x, dy)
    y, _, tape = net.forward(x)
    dx, _, grads = net.backward(tape, dy)
    ours = grads | {"x": dx, "y": y}
    mine, other = (max(relative_error(a[name], exact[name]) for name in exact) for a in (ours, theirs))
    # Sums of T B products in float32, passed through T steps; normalised rows are steep, for PyTorch too, and two ways
    # to round come out up to five times apart there.
    if not mine < max(1e-4, 5 * other):
        raise SystemExit(f"{cell.name}: relative error {mine:.1e} against autograd in float64; nothing is timed")
    return mine, other


def arrays(size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x (T, B, I) and dy (T, B, H)."""
    batch, steps, inputs, hidden = size
    rng = np.random.default_rng(0)
    shapes = (steps, batch, inputs), (steps, batch, hidden)
    x, dy = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    return x, dy


def ours(cell: Cell, size: tuple[int, ...], x: np.ndarray, dy: np.ndarray) -> tuple[ur.Recurrent, Callable[[], Any]]:
    """A layer, and its pass forward and back."""
    net = ur.Recurrent(cell, *size[2:], rng=0)

    def run() -> None:
        _, _, tape = net.forward(x)
        net.backward(tape, dy)

    return net, run


def on_torch(module: torch.nn.Module, x: np.ndarray, dy: np.ndarray, *more: Any) -> Callable[[], Any]:
    """PyTorch's pass forward and back."""
    tx, tdy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run() -> None:
        module.zero_grad()
        tx.grad = None
        y = module(tx, *more)
        (y[0] if isinstance(y, tuple) else y).backward(tdy)

    return run


def timed(sides: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Each side's milliseconds and spread, timed alternately."""
    clock = time.process_time if backends.threads() == 1 else time.perf_counter
    with backends.undisturbed("cpu"):
        found = {side: summary(times) for side, times in alternate(sides, seconds, clock=clock).items()}
    return {f"{side}_ms": t * 1e3 for side, (t, _) in found.items()} | {
        f"{side}_spread": spread for side, (_, spread) in found.items()
    }


def every(cell: Cell, size: tuple[int, ...], seconds: float, beside: str = "lstm") -> dict[str, Any]:
    """One row of the table of all cells, or of those that were written without a backward."""
    x, dy = arrays(size)
    net, run = ours(cell, size, x, dy)
    error, theirs = check(cell, net, x, dy)
    loop = on_torch(Loop(cell, net.params), x, dy, size[3])
    found = timed({"ours": run, "other": ours(CELLS[beside], size, x, dy)[1], "torch": loop}, seconds)
    return found | {
        "cell": cell.name,
        "size": size,
        "backend": net.backend,
        "kernel": backends.has_kernel(cell),
        "parameters": sum(p.size for p in net.params.values()),
        "beside": beside,
        "to_other": found["ours_ms"] / found["other_ms"],
        "ratio": found["torch_ms"] / found["ours_ms"],
        "error": error,
        "torch_error": theirs,
    }


def streams(cell: Cell) -> bool:
    """Whether no product of a step waits for the step before."""
    return all(stage.operand is None for stage in cell.stages)


def stream(cell: Cell, size: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """One row of the table of cells without a recurrent product: a layer as a network runs it, beside its products."""
    x, dy = arrays(size)
    net, run = ours(cell, size, x, dy)
    check(cell, net, x, dy)
    engine, w = backends.choose("cpu"), {name.removesuffix("_l0"): p for name, p in net.params.items()}
    state = cell.state(*(np.zeros((size[0], size[3]), np.float32) for _ in cell.state_fields))
    products = [w[name] for name in ("weight_ih", "weight_x") if name in w]
    d = [np.ones((*x.shape[:2], len(weight)), np.float32) for weight in products]

    def both() -> None:
        engine.backward(engine.forward(cell, w, x, state)[2], dy, state)

    sides = {
        "forward": lambda: engine.forward(cell, w, x, state, scan.UNMASKED, record=False),
        "both": both,
        "product": lambda: [engine.linear(weight, None, x) for weight in products],
        "backward_products": lambda: [
            engine.linear_backward(weight, x, g) for weight, g in zip(products, d, strict=True)
        ],
        "ours": run,
        "gru": on_torch(torch.nn.GRU(*size[2:]), x, dy),
    }
    found = timed(sides, seconds)
    return found | {
        "cell": cell.name,
        "size": size,
        "share": found["product_ms"] / found["forward_ms"],
        "share_both": (found["product_ms"] + found["backward_products_ms"]) / found["both_ms"],
        "to_gru": found["gru_ms"] / found["ours_ms"],
    }


def sampled(names: tuple[str, ...], hidden: int, seconds: float) -> list[dict[str, Any]]:
    """The rows of the table of sampling: microseconds a token, and per byte of the weights that a token reads."""
    sides, sizes = {}, {}
    for name in names:
        cell = own(name.removeprefix("own_")) if name.startswith("own_") else CELLS[name]
        net = ur.Network(ur.Spec(VOCABULARY, cell, 0, hidden, LAYERS), rng=0)
        sampler = net.sampler(net.zero_state(1), TOKENS)
        u = np.random.default_rng(0).random(TOKENS)
        sides[name] = lambda sampler=sampler, u=u: sampler.sample(1, u, 1.0)
        read = [p.nbytes for key, p in net.params.items() if p.ndim == 2 and key != "recurrent.weight_ih_l0"]
        sizes[name] = sum(read)  # of the one-hot layer a row of a table
    found = timed(sides, seconds)
    rows = []
    for name in names:
        us = found[f"{name}_ms"] * 1e3 / TOKENS
        rows.append({"cell": name, "hidden": hidden, "us": us, "spread": found[f"{name}_spread"], "bytes": sizes[name]})
    for r in rows:
        r["per_byte"] = r["us"] / r["bytes"] / (rows[0]["us"] / rows[0]["bytes"])
    return rows


def lines_of(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The four tables."""
    lines = ["| cell | ms | of lstm's | PyTorch loop ms | ratio |", "|---|---|---|---|---|"]
    lines += [_beside(r, f"`{r['cell']}`") for r in results["every"]]
    lines += ["", "| written without a backward | B, T, I, H | ms | of the kernel's | PyTorch loop ms | ratio |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [_beside(r, f"`{r['beside']}` | {', '.join(map(str, r['size']))}") for r in results["own"]]
    lines += [
        "",
        "| no recurrent product | forward ms | of its product's rate | with backward ms | of its products' rate ",
    ]
    lines[-1] += "| `nn.GRU` ms | its time / ours |"
    lines += ["|---|---|---|---|---|---|---|"]
    for r in results["streams"]:
        lines.append(
            f"| `{r['cell']}` | {r['forward_ms']:.2f} ± {r['forward_spread']:.0%} | {r['share']:.0%} "
            f"| {r['both_ms']:.2f} ± {r['both_spread']:.0%} | {r['share_both']:.0%} "
            f"| {r['gru_ms']:.1f} ± {r['gru_spread']:.0%} | {r['to_gru']:.2f} |"
        )
    lines += ["", "| sampling | units | microseconds a token | MB of weights read | GB/s | time a byte / `lstm`'s |"]
    lines += ["|---|---|---|---|---|---|"]
    for r in results["sampling"]:
        lines.append(
            f"| `{r['cell']}` | {r['hidden']} | {r['us']:.1f} ± {r['spread']:.0%} | {r['bytes'] / 1e6:.2f} "
            f"| {r['bytes'] / r['us'] / 1e3:.0f} | {r['per_byte']:.2f} |"
        )
    return lines


def _beside(r: dict[str, Any], name: str) -> str:
    return (
        f"| {name} | {r['ours_ms']:.1f} ± {r['ours_spread']:.0%} | {r['to_other']:.2f} "
        f"| {r['torch_ms']:.1f} ± {r['torch_spread']:.0%} | {r['ratio']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--tables", default="every,own,streams,sampling")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cells.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backends.set_threads(args.threads)
    cells, tables = [CELLS[name] for name in args.cells.split(",")], args.tables.split(",")
    results: dict[str, list[dict[str, Any]]] = {"every": [], "own": [], "streams": [], "sampling": []}
    with threadpool_limits(args.threads):
        for cell in cells if "every" in tables else ():
            results["every"].append(every(cell, SIZE, args.seconds))
            print(_beside(results["every"][-1], cell.name), flush=True)
        for name in ("lstm", "gru_reset_before") if "own" in tables else ():
            results["own"] += [every(own(name), size, args.seconds, name) for size in SIZES]
        for cell in cells if "streams" in tables else ():
            results["streams"] += [stream(cell, SIZE, args.seconds)] if streams(cell) else []
        for hidden in (128, 256, 512) if "sampling" in tables else ():
            results["sampling"] += sampled(SAMPLED, hidden, args.seconds)
    head = machine() | {"threads": str(args.threads), "B, T, I, H": ", ".join(map(str, SIZE))}
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head} | results, text + "\n\n" + "\n".join(lines_of(results)) + "\n")


if __name__ == "__main__":
    script(main)
