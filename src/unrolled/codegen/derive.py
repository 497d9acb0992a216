"""Complete cells: what a cell's writer left out is derived from what is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cells import Cell
from ..errors import Unsupported


def complete(cell: Cell) -> Cell:
    """Return the cell with a backward function in every stage."""
    if cell.prepare is None and all(stage.backward is not None for stage in cell.stages):
        return cell
    raise Unsupported(f"cell {cell.name!r} has a stage without a backward function")


def prepared(cell: Cell, w: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters with what `prepare` makes of the per-unit ones in their place."""
    return w


def prepared_backward(cell: Cell, w: Mapping[str, Any], grads: dict[str, Any]) -> dict[str, Any]:
    """Return gradients of the parameters themselves."""
    return grads
