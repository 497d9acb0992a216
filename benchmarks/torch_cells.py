"""Any cell in PyTorch, written as people write the cells that it lacks: a Python loop over time, and its own autograd.

Each step is a `linear` of x and one of what the cell multiplies again, then the cell's own functions on torch's
operations. So comparing it with ours is a proof of its own.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from unrolled.cells import Cell, Stage
from unrolled.reference.products import EPSILON


def _tensor(value: Any, like: torch.Tensor) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else like.new_tensor(value)


def maximum(a: Any, b: Any) -> torch.Tensor:
    """The larger one of numbers and tensors."""
    like = a if isinstance(a, torch.Tensor) else b
    return torch.maximum(_tensor(a, like), _tensor(b, like))


OPERATIONS = ("tanh", "where", "exp", "log", "log1p", "sqrt", "sin", "cos", "abs")
TORCH = {getattr(np, name): getattr(torch, name) for name in OPERATIONS} | {np.maximum: maximum}
"""Operations of cells, and torch's in their place."""


def on_torch(function: Any, known: dict[Any, Any] | None = None) -> Any:
    """The same function, and the cells' functions that it calls, with torch's operations in the place of NumPy's."""
    known = {} if known is None else known
    if function in TORCH:
        return TORCH[function]
    if getattr(function, "__name__", "") == "sigmoid":  # PyTorch has one of its own
        return torch.sigmoid
    if not isinstance(function, types.FunctionType):
        return function
    if function not in known:
        names: dict[str, Any] = {}
        closed = [types.CellType(_translated(cell.cell_contents, known)) for cell in function.__closure__ or ()]
        known[function] = types.FunctionType(
            function.__code__, names, function.__name__, function.__defaults__, tuple(closed)
        )
        names |= {name: _translated(value, known) for name, value in function.__globals__.items()}
    return known[function]


def _translated(value: Any, known: dict[Any, Any]) -> Any:
    """A global name's value, translated where it is an operation or a function of a cell's."""
    own = isinstance(value, types.FunctionType) and value.__module__.startswith("unrolled.cells")
    return on_torch(value, known) if own or isinstance(value, np.ufunc) or value is np.where else value


class Loop(torch.nn.Module):
    """One layer of any cell, step by step."""

    def __init__(self, cell: Cell, params: dict[str, np.ndarray]) -> None:
        super().__init__()
        known: dict[Any, Any] = {}
        self.cell, self.stages = cell, [on_torch(stage.forward, known) for stage in cell.stages]
        self.prepare = on_torch(cell.prepare, known) if cell.prepare else None
        self.constants = None
        if cell.settings is not None:
            self.constants = type(cell.settings)(*(on_torch(value, known) for value in cell.constants))
        for name, p in params.items():
            self.register_parameter(name.removesuffix("_l0"), torch.nn.Parameter(torch.from_numpy(p.copy())))

    def forward(self, x: torch.Tensor, hidden: int) -> torch.Tensor:
        """x (T, B, I) -> y (T, B, H)."""
        cell, p = self.cell, self._parameters
        s = cell.state(*(x.new_zeros(x.shape[1], hidden) for _ in cell.state_fields))
        params: Any = None if cell.params is None else cell.params(*p[cell.params_name])
        if self.prepare is not None:
            params = self.prepare(params) if self.constants is None else self.prepare(params, c=self.constants)
        outputs = []
        for x_t in x:
            values: Any = None
            for n in range(len(cell.stages)):
                values = self.stages[n](*self.around(n, x_t, s, values, hidden), **self.extra(n, x_t, params, values))
            s, _ = values
            outputs.append(s.h)
        return torch.stack(outputs)

    def extra(self, n: int, x: torch.Tensor, params: Any, values: Any) -> dict[str, Any]:
        """What a stage's function gets by name."""
        stage = self.cell.stages[n]
        given = {"k": values} if n else {}
        given |= {} if params is None or stage.width != 1 else {"p": params}
        given |= {} if self.constants is None else {"c": self.constants}
        seen = F.linear(x, self._parameters["weight_x"]) if "weight_x" in self._parameters else x
        return given | {name: {"x": seen, "dt": 1}[name] for name in stage.sees}

    def around(self, n: int, x: torch.Tensor, s: Any, values: Any, hidden: int) -> tuple[Any, Any, Any]:
        """A stage's pre-activations, (ax, ah, s)."""
        stage = self.cell.stages[n]
        ax: tuple[torch.Tensor, ...] = ()
        if stage.inputs:
            ax = self.blocks(n, F.linear(x, self.part("weight_ih", n, hidden)), "ih", hidden)
        old = s if stage.width == 1 else None
        if stage.operand is None:
            bias = self.part("bias_hh", n, hidden) if stage.blocks else None
            return ax, () if bias is None else bias.expand(len(x), -1).chunk(stage.blocks, dim=-1), old
        operands = [getattr(s, k) if k in s._fields else getattr(values, k) for k in stage.operand]
        if stage.product:
            return (
                ax,
                self.blocks(n, self.product(operands, self.part("weight_hh", n, hidden), n, hidden), "hh", hidden),
                old,
            )
        name, p = stage.operand[0], self._parameters
        return ax, (normalised(operands[0], stage, p[f"gain_{name}"], p[f"bias_{name}"]),), old

    def part(self, name: str, n: int, hidden: int) -> torch.Tensor | None:
        """A stage's rows of a parameter."""
        stage = self.cell.stages[n]
        return self._parameters[name][self.cell.slices(name, hidden)[n]] if stage.owns(name) else None

    def product(self, operands: list[torch.Tensor], weight: Any, n: int, hidden: int) -> torch.Tensor:
        """What a stage multiplies again, each head by itself."""
        heads = self.cell.heads
        weight = weight[:, : sum(self.cell.head(a.shape[-1]) for a in operands)]
        if heads == 1:
            return F.linear(torch.cat(operands, dim=-1) if len(operands) > 1 else operands[0], weight)
        rows = len(self.cell.stages[n].rows)
        ours = weight.view(rows, heads, -1, weight.shape[-1]).transpose(0, 1).flatten(1, 2)
        parts = torch.cat([a.unflatten(-1, (heads, -1)) for a in operands], dim=-1)
        found = torch.einsum("bhk,hrk->bhr", parts, ours)
        return found.unflatten(-1, (rows, -1)).transpose(1, 2).flatten(1)

    def blocks(self, n: int, product: torch.Tensor, half: str, hidden: int) -> tuple[torch.Tensor, ...]:
        """A product, normalised where the cell says so, with its bias, in blocks."""
        stage = self.cell.stages[n]
        gain, bias = (self.part(f"{kind}_{half}", n, hidden) for kind in ("gain", "bias"))
        if stage.norm:
            product = normalised(product, stage, gain, bias)
        elif bias is not None:
            product = product + bias
        return product.chunk(len(stage.rows), dim=-1)


def normalised(a: torch.Tensor, stage: Stage, gain: Any, bias: Any) -> torch.Tensor:
    """Each group of blocks with mean 0 and variance 1."""
    block = a.shape[-1] // sum(stage.norm)
    parts = torch.split(a, [n * block for n in stage.norm], dim=-1)
    hat = torch.cat([F.layer_norm(part, part.shape[-1:], eps=EPSILON) for part in parts], dim=-1) * gain
    return hat if bias is None else hat + bias


def gradients(loop: Loop, x: np.ndarray, dy: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs and all gradients of PyTorch's side, in the precision of its parameters."""
    dtype = next(loop.parameters()).dtype
    tx = torch.from_numpy(x).to(dtype).requires_grad_()
    y = loop(tx, dy.shape[-1])
    loop.zero_grad()
    y.backward(torch.from_numpy(dy).to(dtype))
    found = {f"{name}_l0": p.grad for name, p in loop.named_parameters()} | {"x": tx.grad, "y": y.detach()}
    return {name: a.numpy() for name, a in found.items()}
