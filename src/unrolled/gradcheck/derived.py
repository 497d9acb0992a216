"""Hand-written backward functions, compared with those that are derived from the same forward functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from ..cells import Back, Cell, Stage
from ..cells.contract import defined_at, field_names
from ..checks import Array
from ..codegen.derive import complete
from ..codegen.unused import unused
from ..errors import Unsupported
from .report import Proof, proof, unsupported
from .sizes import EXACT, B, H

NAME = "derived backward"


def derived(cell: Cell, rng: np.random.Generator) -> Iterator[Proof]:
    """Compare each hand-written backward function of a cell with the derived one, one step, entry by entry."""
    if all(stage.backward is None for stage in cell.stages):
        return
    try:
        ours = complete(replace(cell, stages=tuple(replace(stage, backward=None) for stage in cell.stages)))
    except Unsupported as why:
        yield unsupported(NAME, f"stages of {cell.name}", str(why))
        return
    theirs = complete(cell)
    step = _Step(ours, rng)
    d: Any = cell.state(*(step.draw() for _ in cell.state_fields))
    for n in reversed(range(len(cell.stages))):
        back = step.backward(ours.stages[n], n, d)
        if cell.stages[n].backward is not None:
            own = theirs.stages[n]
            kept = (
                {"kept": own.keeps(*(getattr(step.values[n], name) for name in own.keeps._fields))} if own.keeps else {}
            )
            yield _compared(cell, n, step.backward(own, n, d, kept), back)
        if n:  # what reaches a value: from the later stage, and from its product if it is an operand
            operand = cell.stages[n].operand or ()
            fields = zip(back.values._fields, back.values, strict=True)
            d = type(back.values)(*(part + step.draw(n - 1) * (name in operand) for name, part in fields))


def used(cell: Cell) -> Iterator[Proof]:
    """Prove that something reads every row, per-unit parameter and field of the state, where they can be traced."""
    with suppress(Unsupported):
        found = unused(cell)
        yield proof("nothing unused", f"parts of {cell.name}", float(len(found)), 0.0, "; ".join(found))


class _Step:
    """One step of a complete cell on random arrays, and all that its functions read on the way back."""

    def __init__(self, cell: Cell, rng: np.random.Generator) -> None:
        self.cell, self.rng = cell, rng
        own = {} if cell.params is None else {"p": cell.params(*rng.standard_normal((len(cell.param_fields), H)))}
        self.s = cell.state(*(self.draw() for _ in cell.state_fields))
        self.given: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []
        self.values: list[Any] = []
        for n, stage in enumerate(cell.stages):
            given = self._keywords(stage, own)
            ax = tuple(self.draw(n) for _ in range(len(stage.rows) * stage.inputs))
            ah = tuple(self.draw(n) for _ in range(stage.blocks))
            earlier = {"k": self.values[-1]} if n else {}
            result = stage.forward(ax, ah, self.s if stage.width == 1 else None, **earlier, **given)
            values, kept = result if stage.keeps else (result, None)
            self.given.append(given)
            self.kept.append({"kept": kept} if stage.keeps else {})
            self.values.append(values)
        self.new, self.k = self.values[-1]

    def draw(self, n: int = -1) -> Array:
        """Draw N(0, 1), as many units as stage n has."""
        return np.asarray(self.rng.standard_normal((B, self.cell.stages[n].units(H))))

    def _keywords(self, stage: Stage, own: dict[str, Any]) -> dict[str, Any]:
        given = dict(own) if stage.width == 1 else {}
        given |= {} if self.cell.settings is None else {"c": self.cell.constants}
        given |= {"m": self.draw()} if self.cell.candidate and self.cell.candidate in stage.rows else {}
        drawn = {"x": self.draw(), "dt": np.abs(self.draw()[:, :1])}
        return given | {name: drawn[name] for name in stage.sees}

    def backward(self, stage: Stage, n: int, d: Any, kept: dict[str, Any] | None = None) -> Back:
        """Return what a backward function of stage n gives."""
        assert stage.backward is not None
        states = (self.s, self.new) if stage.width == 1 else (None, None)
        return stage.backward(d, self.k, *states, **self.given[n], **(self.kept[n] if kept is None else kept))


def _compared(cell: Cell, n: int, yours: Back, exact: Back) -> Proof:
    """Return the proof of a stage: the largest difference, relative to the derived gradient's largest entry."""
    found = [(*_difference(a, b), what) for what, a, b in _named(cell, n, yours, exact)]
    found.sort(key=lambda one: -one[0])
    wrong = [what for error, _, what in found if not error <= EXACT]
    worst, numbers, what = found[0]
    more = f"; wrong too: {', '.join(wrong[1:])}" if wrong[1:] else ""
    detail = f"backward of stage {n}, gradient of {what}: {numbers}{more}{defined_at(cell.stages[n].backward)}"
    return proof(NAME, f"backward of stage {n} of {cell.name}", worst, EXACT, detail)


def _difference(yours: Any, exact: Any) -> tuple[float, str]:
    """Return how far two gradients are apart, infinitely for NaN, and both numbers where they differ most."""
    shape = np.broadcast_shapes(np.shape(yours), np.shape(exact), (1, 1))
    a, b = (np.broadcast_to(np.asarray(value, float), shape) for value in (yours, exact))
    error = np.nan_to_num(np.abs(a - b) / max(float(np.abs(b).max()), 1e-3), nan=np.inf)
    row, unit = np.unravel_index(int(np.argmax(error)), shape)
    where = f"(unit {unit}, row {row} of the batch)"
    return float(error[row, unit]), f"yours {a[row, unit]:.9g}, derived {b[row, unit]:.9g} {where}"


def _named(cell: Cell, n: int, yours: Back, exact: Back) -> Iterator[tuple[str, Any, Any]]:
    """Yield every gradient by name, a user's and the derived one."""
    stage = cell.stages[n]
    blocks = stage.rows if stage.product else stage.operand or ()
    yield from _pairs([f"ax of row {row}" for row in stage.rows], yours.ax, exact.ax)
    yield from _pairs([f"ah of row {row}" for row in blocks], yours.ah, exact.ah)
    yield from _pairs([f"the old state's {name}" for name in cell.state_fields], yours.state, exact.state)
    values = [f"the earlier value {name}" for name in field_names(type(exact.values)) or ()]
    yield from _pairs(values, yours.values, exact.values)
    params = [
        f"{cell.params_name}.{name}"
        for name in field_names(type(exact.params)) or field_names(type(yours.params)) or ()
    ]
    yield from _pairs(params, yours.params, exact.params)
    if "x" in stage.sees:
        yield "x", 0 if yours.x is None else yours.x, exact.x


def _pairs(names: list[str], yours: Any, exact: Any) -> Iterator[tuple[str, Any, Any]]:
    zeros = (0,) * len(names)
    yield from zip(names, yours or zeros, exact or zeros, strict=False)
