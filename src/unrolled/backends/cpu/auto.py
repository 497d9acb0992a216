"""The backend that `auto` names: the engine for what it runs, NumPy for everything else."""

from __future__ import annotations

from typing import Any

from ...cells import Cell
from ...checks import Array
from ...reference import layers, losses, scan
from .arrays import runs
from .kernels import Cpu, dtype_of, reason, run


class Auto(Cpu):
    """The engine where it runs the cell and the dtype, else the reference; `reason` says which."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a name, which means the reference where there is no engine."""
        from .. import choose

        return choose, ("auto",)

    @staticmethod
    def forward(
        cell: Cell,
        w: scan.Params,
        x: Array,
        s: Any,
        masks: scan.ScanMasks = scan.UNMASKED,
        *,
        record: bool = True,
        rounds: bool = False,
    ) -> tuple[Array, Any, Any]:
        """Run all steps where that is fastest."""
        dtype = dtype_of(w, x, s)
        if reason(cell, dtype):
            return scan.forward(cell, w, x, s, masks, record=record, rounds=rounds)
        return run(cell, w, x, s, masks, dtype, record=record, rounds=rounds)

    @staticmethod
    def backward(tape: Any, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """Carry gradients back on the backend that ran forward."""
        return (scan if tape.backend == "reference" else Cpu).backward(tape, dy, ds)

    @staticmethod
    def linear(weight: Array, bias: Array | None, x: Array, *, rounds: bool = False) -> Array:
        """x W^T + b."""
        better = Cpu.linear if runs(weight, bias, x) else layers.linear
        return better(weight, bias, x, rounds=rounds)

    @staticmethod
    def linear_backward(weight: Array, x: Array, dy: Array, *, rounds: bool = False) -> tuple[Array, Array, Array]:
        """Gradients of x, the weight and the bias."""
        better = Cpu.linear_backward if runs(weight, x, dy) else layers.linear_backward
        return better(weight, x, dy, rounds=rounds)

    @staticmethod
    def embed_backward(tokens: Array, dx: Array, size: int) -> Array:
        """Gradient of an embedding."""
        better = Cpu.embed_backward if runs(dx) else layers.embed_backward
        return better(tokens, dx, size)

    @staticmethod
    def cross_entropy(
        logits: Array,
        targets: Array,
        *,
        gradient: bool = True,
        overwrite: bool = False,
        smoothing: float = 0.0,
        weights: Array | None = None,
    ) -> tuple[float, Array]:
        """Mean loss in nats and its gradient."""
        better = Cpu.cross_entropy if runs(logits) else losses.cross_entropy
        return better(logits, targets, gradient=gradient, overwrite=overwrite, smoothing=smoothing, weights=weights)
