"""A pass through all layers of a stack, forward beside backward: no door, no documents, only layers and directions.

Letters: T steps, B rows, I inputs, H hidden units, D directions. A State of (B, H) arrays, weights and a scan's tape
are one of each layer and direction, in the order of `Stack.passes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import backends
from ..backends.base import Backend
from ..checks import Array
from ..reference.scan import ScanMasks
from .masks import Masks, drop_outputs, drop_weight, keep_and_drop
from .stack import Stack, suffix
from .tape import StackTape


def run(
    stack: Stack,
    backend: Backend,
    weights: Sequence[Mapping[str, Array]],
    x: Array,
    begin: Sequence[Any],
    live: Array | None,
    masks: Masks | None,
    dt: Array | None = None,
    *,
    record: bool,
) -> tuple[Array, list[Any], tuple[Any, ...]]:
    """x (T, B, I) -> y (T, B, D H), final States, scans' tapes."""
    finals: list[Any] = []
    scans: list[Any] = []
    directions, kept = range(stack.directions), masks or stack.zoneout or stack.zoneout_cell
    for layer in range(stack.num_layers):
        outputs, given = [], x
        for d in directions:
            n, flip = len(scans), slice(None, None, -1 if d else 1)
            keep, drop = keep_and_drop(masks, stack, layer, d) if kept else (None, None)
            there = None if live is None else live[flip]
            scanned = ScanMasks(there, keep, drop, dt if dt is None or not d else _reversed(dt))
            y, final, scan = backend.forward(stack.cell, weights[n], x[flip], begin[n], scanned, record=record)
            outputs.append(y[flip])
            finals.append(final)
            scans.append(scan)
        x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
        if stack.residual and layer:
            x = x + given
        x = drop_outputs(x, masks, stack, layer) if masks else x
    return x, finals, tuple(scans)


def _reversed(dt: Array) -> Array:
    """Return the time between a step and the one behind it, in the order of a pass that reads time from its end."""
    return np.concatenate([dt[1:], np.ones_like(dt[:1])])[::-1]


def run_backward(
    stack: Stack, tape: StackTape, dy: Array, dfinals: Sequence[Any]
) -> tuple[Array | None, list[Any], dict[str, Array]]:
    """dy (T, B, D H) -> dx (T, B, I), or None where x was integers; of the initial States, and of all parameters."""
    dbegin: list[Any] = [None] * len(dfinals)
    grads: dict[str, Array] = {}
    dx: Array | None = None
    for layer in range(stack.num_layers - 1, -1, -1):
        dy = drop_outputs(dy, tape.masks, stack, layer)
        parts, dx = [dy] if stack.directions == 1 else np.split(dy, stack.directions, axis=-1), None
        for d in range(stack.directions):
            n, end, flip = layer * stack.directions + d, suffix(layer, d), slice(None, None, -1 if d else 1)
            scan = tape.scans[n]
            dx_d, dbegin[n], local = backends.BACKENDS[scan.backend].backward(scan, parts[d][flip], dfinals[n])
            grads |= {name + end: g for name, g in local.items()}
            if tape.masks and stack.weight_drop:
                grads[f"weight_hh{end}"] = drop_weight(local["weight_hh"], tape.masks, stack, end)
            if stack.learn_state:
                fields = zip(stack.cell.state_fields, dbegin[n], strict=True)
                grads |= {f"initial_{name}{end}": f[tape.anew(d, len(f))].sum(axis=0) for name, f in fields}
            if dx_d is not None:
                dx = dx_d[flip] if dx is None else dx + dx_d[flip]
        if layer:
            assert dx is not None
            dy = dx + dy if stack.residual else dx
    return dx, dbegin, grads
