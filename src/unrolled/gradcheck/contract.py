"""What a cell's functions take and give, tried by calling every stage once by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..cells import Back, Cell, Stage
from ..checks import Array
from .report import Proof, proof
from .sizes import B, H


class _BrokenError(Exception):
    """A cell does not keep its contract; the message says where and how."""


def contract(cell: Cell, rng: np.random.Generator) -> Proof:
    """Call every stage once by hand, on arrays (B, H), as the scan does."""
    subject = f"stages of {cell.name}"
    try:
        _call_stages(cell, rng)
    except _BrokenError as broken:
        return Proof("contract", subject, 1.0, 0.0, "failed", str(broken))
    return proof("contract", subject, 0.0, 0.0)


def field_names(kind: type | None) -> tuple[str, ...]:
    """Fields of a named tuple's type; none of another."""
    return getattr(kind, "_fields", ())


def _call(function: Callable[..., Any], what: str, *args: Any, **kw: Any) -> Any:
    """Call a stage's function; it must neither raise nor change an argument."""
    arrays = _arrays((args, tuple(kw.values())))
    before = [a.copy() for a in arrays]
    try:
        with np.errstate(over="ignore"):
            result = function(*args, **kw)
    except Exception as error:
        raise _BrokenError(f"{what} raised {type(error).__name__}: {error}") from error
    if any(not np.array_equal(a, b) for a, b in zip(arrays, before, strict=True)):
        raise _BrokenError(f"{what} changed one of its arguments; write `dc = dc + ...`, not `dc += ...`")
    return result


def _arrays(tree: Any) -> list[Array]:
    """Every array in nested tuples."""
    if isinstance(tree, tuple):
        return [a for branch in tree for a in _arrays(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def _expect(what: str, got: Any, fields: Sequence[str], *, zero: bool = False) -> None:
    """`got` must be a tuple of one (B, H) array a field; where `zero`, a plain 0 will do."""
    if not isinstance(got, tuple):
        raise _BrokenError(f"{what} is {got!r}; expected ({', '.join(fields)})")
    names = field_names(type(got)) or tuple(fields)
    if len(got) != len(fields) or names != tuple(fields):
        said = f"({', '.join(names)})" if field_names(type(got)) else f"{len(got)} values"
        raise _BrokenError(f"{what} is {said}; expected ({', '.join(fields)})")
    for name, value in zip(fields, got, strict=True):
        if np.shape(value) != (B, H) and not (zero and np.shape(value) == ()):
            raise _BrokenError(f"{what}.{name} has shape {np.shape(value)}; expected an array (B, H) = {(B, H)}")


def _call_stages(cell: Cell, rng: np.random.Generator) -> None:
    def draw(count: int) -> list[Array]:
        return [rng.standard_normal((B, H)) for _ in range(count)]

    state = field_names(cell.state)
    if not state or state[0] != "h":
        raise _BrokenError(f"state is ({', '.join(state)}); it must be a named tuple that begins with h, the output")
    extra = {} if cell.params is None else {"p": cell.params(*rng.standard_normal((len(field_names(cell.params)), H)))}
    s, values, kinds = cell.state(*draw(len(state))), None, []
    for n, stage in enumerate(cell.stages):
        what = _stage_name(stage, n)
        for name in stage.operand or ():
            known = (*state, *(field_names(type(values)) if n else ()))
            if name not in known:
                raise _BrokenError(f"{what}: operand {name} is unknown; it can be one of {', '.join(known)}")
            if stage.product and name not in state and name not in field_names(cell.gates):
                raise _BrokenError(f"{what}: operand {name} must be a field of the gates, for the tape to keep it")
        ax, ah = tuple(draw(len(stage.rows) * stage.inputs)), tuple(draw(stage.blocks))
        values = _call(stage.forward, f"{what}: forward", ax, ah, s, **({"k": values} if n else {}), **extra)
        if stage is not cell.stages[-1]:
            _expect(f"{what}: forward's result", values, field_names(type(values)) or ("a named tuple",))
            kinds.append(type(values))
    if not isinstance(values, tuple) or len(values) != 2:
        raise _BrokenError(f"{what}: forward gave {type(values).__name__}; the last stage gives (State, Gates)")
    new, k = values
    _expect(f"{what}: forward's state", new, state)
    _expect(f"{what}: forward's gates", k, field_names(cell.gates))
    d: Any = cell.state(*draw(len(state)))
    for n in reversed(range(len(cell.stages))):
        stage = cell.stages[n]
        what = f"{_stage_name(stage, n)}: backward"
        b = _call(stage.backward, what, d, k, s, new, **extra)
        if not isinstance(b, Back):
            raise _BrokenError(f"{what} gave {type(b).__name__}; expected Back(ax, ah, state, values, params)")
        _expect(f"{what}'s ax", b.ax, stage.rows if stage.inputs else ())
        _expect(f"{what}'s ah", b.ah, stage.rows if stage.product else stage.operand or ())
        _expect(f"{what}'s state", b.state, state, zero=True)
        if n:
            _expect(f"{what}'s values", b.values, field_names(kinds[n - 1]), zero=True)
            d = kinds[n - 1](*draw(len(b.values)))
        if cell.params is not None and b.params is not None:
            _expect(f"{what}'s params", b.params, field_names(cell.params))


def _stage_name(stage: Stage, n: int) -> str:
    return f"stage {n} (rows {', '.join(stage.rows)})"
