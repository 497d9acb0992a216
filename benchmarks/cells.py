"""Every cell's forward and backward beside `lstm`'s, and beside PyTorch written the way people write that cell.

    python benchmarks/cells.py [--cells lstm,mgu] [--threads 1] [--seconds 3] [--size 32,64,256,256]

PyTorch's side is a Python loop over a custom cell, with its own autograd: each step a `linear` of x and one of h, then
the cell's own functions, on torch's tanh, sigmoid and where. That makes the comparison in float64 that comes first a
proof of its own, against autograd; no time is printed for a cell that disagrees.
"""

from __future__ import annotations

import argparse
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from side_by_side import alternate, machine, relative_error, summary, write
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS, Cell, Stage
from unrolled.reference.products import EPSILON

TORCH = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "where": torch.where, "exp": torch.exp}


def on_torch(function: Any) -> Any:
    """The same function with torch's operations in the place of NumPy's."""
    names = {**function.__globals__, **TORCH}
    return types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)


class Loop(torch.nn.Module):
    """One layer of any cell, step by step."""

    def __init__(self, cell: Cell, params: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.cell, self.stages = cell, [on_torch(stage.forward) for stage in cell.stages]
        for name, p in params.items():
            self.register_parameter(name.removesuffix("_l0"), torch.nn.Parameter(torch.from_numpy(p.copy())))

    def normalised(self, a: torch.Tensor, stage: Stage, gain: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Each group of blocks with mean 0 and variance 1."""
        block = a.shape[-1] // sum(stage.norm)
        parts = torch.split(a, [n * block for n in stage.norm], dim=-1)
        hat = torch.cat([F.layer_norm(part, part.shape[-1:], eps=EPSILON) for part in parts], dim=-1) * gain
        return hat if bias is None else hat + bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (T, B, I) -> y (T, B, H)."""
        cell, p = self.cell, self._parameters
        hidden = len(p["bias_hh"]) // len(cell.rows)
        s = cell.state(*(x.new_zeros(x.shape[1], hidden) for _ in cell.state_fields))
        extra = {} if cell.params is None else {"p": cell.params(*p[cell.params_name])}
        outputs = []
        for x_t in x:
            values, row, input_row = None, 0, 0
            for n, (stage, forward) in enumerate(zip(cell.stages, self.stages, strict=True)):
                size = len(stage.rows) * hidden
                at = slice(row, row + size)
                ax: tuple[torch.Tensor, ...] = ()
                if stage.inputs:
                    into = slice(input_row, input_row + size)
                    gain = p["gain_ih"][into] if stage.norm else None
                    ax = self.product(stage, x_t, p["weight_ih"][into], gain, p["bias_ih"][into])
                    input_row += size
                if stage.operand is None:
                    ah = p["bias_hh"][at].expand(x.shape[1], size).chunk(len(stage.rows), dim=-1)
                else:
                    parts = [getattr(s, k) if k in s._fields else getattr(values, k) for k in stage.operand]
                    operand = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]
                    if stage.product:
                        weight = p["weight_hh"][at, : operand.shape[-1]]
                        ah = self.product(
                            stage, operand, weight, p["gain_hh"][at] if stage.norm else None, p["bias_hh"][at]
                        )
                    else:
                        name = stage.operand[0]
                        ah = (self.normalised(operand, stage, p[f"gain_{name}"], p[f"bias_{name}"]),)
                values = forward(ax, ah, s, **({"k": values} if n else {}), **extra)
                row += size
            s, _ = values
            outputs.append(s.h)
        return torch.stack(outputs)

    def product(self, stage: Stage, a: Any, weight: Any, gain: Any, bias: Any) -> tuple[torch.Tensor, ...]:
        """One product with its bias, in blocks."""
        product = F.linear(a, weight, bias) if gain is None else self.normalised(F.linear(a, weight), stage, gain, bias)
        return product.chunk(len(stage.rows), dim=-1)


def gradients(loop: Loop, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs and all gradients of PyTorch's side, in the precision of its parameters."""
    dtype = next(loop.parameters()).dtype
    tx = torch.from_numpy(x).to(dtype).requires_grad_()
    y = loop(tx)
    loop.zero_grad()
    y.backward(torch.from_numpy(dy).to(dtype))
    found = {f"{name}_l0": p.grad for name, p in loop.named_parameters()} | {"x": tx.grad, "y": y.detach()}
    return {name: a.numpy() for name, a in found.items()}


def check(cell: Cell, net: ur.Recurrent, x: np.ndarray, dy: np.ndarray) -> tuple[float, float]:
    """Largest relative error against autograd in float64: of ours, as it will be timed, and of PyTorch's in float32."""
    exact = gradients(Loop(cell, {name: p.astype(np.float64) for name, p in net.params.items()}), x, dy)
    theirs = gradients(Loop(cell, net.params), x, dy)
    y, _, tape = net.forward(x)
    dx, _, grads = net.backward(tape, dy)
    ours = grads | {"x": dx, "y": y}
    mine, other = (max(relative_error(a[name], exact[name]) for name in exact) for a in (ours, theirs))
    return mine, other


def row(cell: Cell, size: tuple[int, ...], seconds: float) -> dict[str, Any]:
    """One row of the table."""
    batch, steps, inputs, hidden = size
    rng = np.random.default_rng(0)
    net, lstm = ur.Recurrent(cell, inputs, hidden), ur.LSTM(inputs, hidden)
    theirs = Loop(cell, net.params)
    x = rng.standard_normal((steps, batch, inputs), dtype=np.float32)
    dy = rng.standard_normal((steps, batch, hidden), dtype=np.float32)
    error, theirs_error = check(cell, net, x, dy)
    # Sums of T B = 2048 products in float32, passed through 64 steps; normalised rows are steep, for PyTorch too, and
    # two ways to round come out up to five times apart there.
    if not error < max(1e-4, 5 * theirs_error):
        raise SystemExit(f"{cell.name}: relative error {error:.1e} against autograd in float64; nothing is timed")
    tx, tdy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run(network: ur.Recurrent) -> None:
        _, _, tape = network.forward(x)
        network.backward(tape, dy)

    def run_theirs() -> None:
        theirs.zero_grad()
        tx.grad = None
        theirs(tx).backward(tdy)

    with backends.undisturbed(net.backend):
        times = alternate({"ours": lambda: run(net), "lstm": lambda: run(lstm), "torch": run_theirs}, seconds)
    found = {side: summary(t) for side, t in times.items()}
    return {
        "cell": cell.name,
        "backend": net.backend,
        "parameters": sum(p.size for p in net.params.values()),
        "ours_ms": found["ours"][0] * 1e3,
        "ours_spread": found["ours"][1],
        "torch_ms": found["torch"][0] * 1e3,
        "torch_spread": found["torch"][1],
        "to_lstm": found["ours"][0] / found["lstm"][0],
        "ratio": found["torch"][0] / found["ours"][0],
        "error": error,
        "torch_error": theirs_error,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--size", default="32,64,256,256")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cells.json"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    backends.set_threads(args.threads)
    size = tuple(map(int, args.size.split(",")))
    rows, lines = [], ["| cell | backend | ms | of lstm's | PyTorch loop ms | ratio |", "|---|---|---|---|---|---|"]
    with threadpool_limits(args.threads):
        for name in args.cells.split(","):
            r = row(CELLS[name], size, args.seconds)
            rows.append(r)
            lines.append(
                f"| `{name}` | {r['backend']} | {r['ours_ms']:.1f} ± {r['ours_spread']:.0%} | {r['to_lstm']:.2f} "
                f"| {r['torch_ms']:.1f} ± {r['torch_spread']:.0%} | {r['ratio']:.2f} |"
            )
            print(lines[-1], flush=True)
    head = machine() | {"threads": str(args.threads), "B, T, I, H": args.size}
    text = "; ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "rows": rows}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
