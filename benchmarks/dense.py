"""Forward and backward of dense LSTM, GRU and tanh RNN stacks, beside PyTorch's on the same threads.

    python benchmarks/dense.py [--cells lstm,gru_reset_after,rnn_tanh] [--threads 1,2] [--seconds 3] [--rows 0,3]

First every output and gradient is compared with PyTorch in float64; no time is printed if one disagrees. Both sides get
plain weights, new ones at every call, and give plain gradients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from side_by_side import alternate, geometric_mean, machine, relative_error, sgemm_flops, summary, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled.backends import cpu

GRID = [  # B, T, I, H, L
    (1, 50, 64, 128, 1),
    (16, 50, 64, 128, 1),
    (50, 50, 128, 128, 2),
    (16, 50, 200, 200, 1),
    (20, 35, 200, 200, 2),
    (32, 64, 256, 512, 2),
    (64, 64, 512, 1024, 1),
]
MODULES = {"lstm": torch.nn.LSTM, "gru_reset_after": torch.nn.GRU, "rnn_tanh": torch.nn.RNN}


def modules(cell: str, inputs: int, hidden: int, layers: int) -> tuple[ur.Recurrent, torch.nn.Module]:
    """The same network on both sides."""
    ours = ur.Recurrent(cell, inputs, hidden, layers)
    theirs = MODULES[cell](inputs, hidden, layers)
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            p.copy_(torch.from_numpy(ours.params[name]))
    return ours, theirs


def check(ours: ur.Recurrent, theirs: torch.nn.Module, x: np.ndarray, dy: np.ndarray) -> float:
    """Largest relative error of ours against PyTorch in float64."""
    exact = type(theirs)(theirs.input_size, theirs.hidden_size, theirs.num_layers).double()
    exact.load_state_dict({k: v.double() for k, v in theirs.state_dict().items()})
    x64 = torch.from_numpy(x).double().requires_grad_()
    y64, _ = exact(x64)
    y64.backward(torch.from_numpy(dy).double())
    y, _, tape = ours.forward(x)
    dx, _, grads = ours.backward(tape, dy)
    errors = [relative_error(y, y64.detach()), relative_error(dx, x64.grad)]
    errors += [relative_error(grads[name], p.grad) for name, p in exact.named_parameters()]
    return max(errors)


def row(cell: str, size: tuple[int, ...], threads: int, seconds: float) -> dict[str, float]:
    """One row of the table."""
    batch, steps, inputs, hidden, layers = size
    torch.set_num_threads(threads)
    cpu.set_threads(threads)
    rng = np.random.default_rng(0)
    ours, theirs = modules(cell, inputs, hidden, layers)
    x = rng.standard_normal((steps, batch, inputs), dtype=np.float32)
    dy = rng.standard_normal((steps, batch, hidden), dtype=np.float32)
    error = check(ours, theirs, x, dy)
    if not error < 2e-5:  # some hundred roundings of float32 in a row
        raise SystemExit(f"{cell} {size}: relative error {error:.1e} against float64; nothing is timed")
    tx, tdy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run_ours() -> None:
        for p in ours.params.values():  # an optimiser's step: nothing may be kept from the last call
            p.flat[0] += 1e-6
        _, _, tape = ours.forward(x)
        ours.backward(tape, dy)

    def run_theirs() -> None:
        with torch.no_grad():
            for p in theirs.parameters():
                p.view(-1)[0] += 1e-6
                p.grad = None
        tx.grad = None
        y, _ = theirs(tx)
        y.backward(tdy)

    with threadpool_limits(threads):
        flops = sgemm_flops()
        times = alternate({"unrolled": run_ours, "torch": run_theirs}, seconds)
    (mine, mine_spread), (other, other_spread) = summary(times["unrolled"]), summary(times["torch"])
    rows = len(ours.cell.rows)
    work = 3 * 2 * steps * batch * rows * hidden * (inputs + hidden + (layers - 1) * 2 * hidden)
    return {
        "unrolled_ms": mine * 1e3,
        "unrolled_spread": mine_spread,
        "torch_ms": other * 1e3,
        "torch_spread": other_spread,
        "ratio": other / mine,
        "share_of_sgemm": work / mine / flops,
        "sgemm_gflops": flops / 1e9,
        "error": error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default="lstm,gru_reset_after,rnn_tanh")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", default=",".join(map(str, range(len(GRID)))))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dense.json"))
    args = parser.parse_args()
    results, lines = [], []
    for cell in args.cells.split(","):
        for threads in map(int, args.threads.split(",")):
            lines += [f"\n{cell}, forward + backward, float32, {threads} thread(s)\n"]
            lines += ["| B, T, I, H, L | unrolled ms | PyTorch ms | ratio | of sgemm |", "|---|---|---|---|---|"]
            found = []
            for n in map(int, args.rows.split(",")):
                r = row(cell, GRID[n], threads, args.seconds)
                found.append(r)
                results.append({"cell": cell, "threads": threads, "size": GRID[n], **r})
                lines.append(
                    f"| {', '.join(map(str, GRID[n]))} | {r['unrolled_ms']:.2f} ± {r['unrolled_spread']:.0%} "
                    f"| {r['torch_ms']:.2f} ± {r['torch_spread']:.0%} | {r['ratio']:.2f} | {r['share_of_sgemm']:.0%} |"
                )
                print(lines[-1], flush=True)
            ratios = [r["ratio"] for r in found]
            lines.append(f"| geometric mean / least | | | {geometric_mean(ratios):.2f} / {min(ratios):.2f} | |")
    head = machine() | {"torch": torch.__version__, "instruction_set": cpu.instruction_set()}
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": results}, text + "\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
