"""A layer with a matrix memory, by chunks, beside its own recurrent form and its authors' PyTorch: one thread's time.

    python benchmarks/mlstm.py [--seconds 5] [--chunks 16,64,128]

PyTorch's side is the same layer around `mlstm_kernels`' native chunkwise function (its default chunk of 64 steps) with
autograd: one `linear` of x, the kernel, the output gate. Outputs and gradients are compared in float64 first; no time
is printed where they differ. Needs the packages torch, mlstm_kernels and einops.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from mlstm_kernels.torch.chunkwise.native.fwbw import mlstm_chunkwise__native_autograd
from side_by_side import alternate, machine, relative_error, script, summary, write
from threadpoolctl import threadpool_limits

import unrolled as ur

SIZES = [(8, 256, 256, 4), (32, 64, 256, 4), (16, 128, 128, 4), (1, 1024, 256, 4), (4, 256, 512, 4)]
"""B, T, I = H, heads."""
GATES = "qkvoif"


class Theirs(torch.nn.Module):
    """One layer around the authors' function."""

    def __init__(self, net: ur.MLSTM, dtype: Any) -> None:
        super().__init__()
        self.heads = net.heads
        for name, p in net.params.items():
            self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(p).to(dtype, copy=True)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (T, B, I) -> y (T, B, H)."""
        p = self._parameters
        weight, bias = (torch.cat([p[f"{kind}_{gate}_l0"] for gate in GATES]) for kind in ("weight", "bias"))
        parts = F.linear(x, weight, bias).split([len(p[f"bias_{gate}_l0"]) for gate in GATES], dim=-1)
        q, k, v, o = (part.unflatten(-1, (self.heads, -1)).permute(1, 2, 0, 3) for part in parts[:4])
        i, f = (part.permute(1, 2, 0) for part in parts[4:])
        h = mlstm_chunkwise__native_autograd(q, k, v, i, f, eps=0.0)
        return (o.sigmoid() * h).permute(2, 0, 1, 3).flatten(2)


def gradients(module: Theirs, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Output and all gradients of PyTorch's side, in the precision of its parameters."""
    dtype = next(module.parameters()).dtype
    tx = torch.from_numpy(x).to(dtype).requires_grad_()
    y = module(tx)
    y.backward(torch.from_numpy(dy).to(dtype))
    return {"x": tx.grad.numpy(), "y": y.detach().numpy()} | {n: p.grad.numpy() for n, p in module.named_parameters()}


def ours(net: ur.MLSTM, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """The same of ours."""
    y, _, tape = net.forward(x)
    dx, _, grads = net.backward(tape, dy)
    return {"x": dx, "y": y} | grads


def network(size: tuple[int, ...], **options: Any) -> ur.MLSTM:
    """One layer whose gates see x; biases of keys are 0 at first, as PyTorch's side divides them too."""
    net = ur.MLSTM(size[2], size[2], heads=size[3], rng=0, **options)
    rng = np.random.default_rng(0)
    for name in ("weight_i_l0", "weight_f_l0"):
        net.params[name] = rng.standard_normal(net.params[name].shape) / size[2] ** 0.5
    return net


def row(size: tuple[int, ...], seconds: float, chunks: list[int]) -> dict[str, Any]:
    """One row of the table."""
    batch, steps, inputs, _ = size
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((steps, batch, inputs)).astype(np.float32) for _ in range(2))
    exact = gradients(Theirs(network(size, dtype="float64"), torch.float64), x, dy)
    for backend in ("chunkwise", "reference"):
        found = ours(network(size, dtype="float64", backend=backend), x.astype(np.float64), dy.astype(np.float64))
        exact["bias_k_l0"] = found["bias_k_l0"] if backend == "chunkwise" else exact["bias_k_l0"]  # theirs is divided
        error = max(relative_error(found[name], exact[name]) for name in exact)
        if not error < 1e-9:  # sums of T B = 2048 products, over a denominator that may be small
            raise SystemExit(f"{size}, {backend}: relative error {error:.1e} against autograd; nothing is timed")
    nets = {f"chunks of {n}": network(size, chunk_size=n) for n in chunks}
    nets |= {"chunkwise": network(size), "recurrent": network(size, backend="reference")}
    theirs, tx, tdy = Theirs(nets["chunkwise"], torch.float32), torch.from_numpy(x).requires_grad_(), torch.tensor(dy)

    def run_theirs() -> None:
        theirs.zero_grad()
        tx.grad = None
        theirs(tx).backward(tdy)

    sides = {name: lambda net=net: ours(net, x, dy) for name, net in nets.items()} | {"torch": run_theirs}
    times = {side: summary(t) for side, t in alternate(sides, seconds, clock=time.process_time).items()}
    return {"size": size, "error": error} | {
        side: {"ms": seconds * 1e3, "spread": spread} for side, (seconds, spread) in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--chunks", default="16,64,128")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/mlstm.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    chunks = [int(n) for n in args.chunks.split(",")]
    sides = ["chunkwise", *(f"chunks of {n}" for n in chunks), "recurrent", "torch"]
    rows: list[dict[str, Any]] = []
    lines = [f"| B, T, H, heads | {' | '.join(sides)} | recurrent / ours | torch / ours |"]
    lines.append("|---" * (len(sides) + 3) + "|")
    with threadpool_limits(1):
        for size in SIZES:
            r = row(size, args.seconds, chunks)
            rows.append(r)
            cells = [f"{r[side]['ms']:.1f} ± {r[side]['spread']:.0%}" for side in sides]
            ratios = [f"{r[side]['ms'] / r['chunkwise']['ms']:.2f}" for side in ("recurrent", "torch")]
            lines.append(f"| {', '.join(map(str, size))} | {' | '.join([*cells, *ratios])} |")
            print(lines[-1], flush=True)
    head = machine(torch=torch.__version__, threads="1")
    text = "processor time of one thread; " + "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    script(main)
