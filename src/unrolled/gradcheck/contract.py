"""The contract of a cell's functions, what they take and give, tried by calling every stage by hand.

What a cell is made of is checked when it is made (`cells.check_contract`). Here its functions run: they must give what
the scan expects, change no argument, and be elementwise, so that what runs on arrays runs on the engine's symbols too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import numpy as np

from ..cells import Back, Cell, Stage
from ..cells.contract import defined_at, field_names, stage_name
from ..checks import Array
from ..codegen.derive import complete
from ..codegen.trace import line_of
from ..codegen.traced import flat
from ..errors import Unsupported, raised
from .report import Proof, proof
from .sizes import B, H


class _BrokenError(Exception):
    """A cell does not keep its contract; the message says where and how."""


def contract(cell: Cell, rng: np.random.Generator) -> Proof:
    """Call every stage by hand, on arrays (B, H), as the scan does."""
    subject = f"stages of {cell.name}"
    try:
        _call_stages(cell, rng)
    except (_BrokenError, Unsupported) as broken:  # what can't be derived of it is told as well
        return Proof("contract", subject, 1.0, 0.0, "failed", str(broken))
    return proof("contract", subject, 0.0, 0.0)


def _call(function: Callable[..., Any], what: str, *args: Any, **kw: Any) -> Any:
    """Call a stage's function; it must neither raise nor change an argument, and be elementwise."""
    arrays = _arrays((args, tuple(kw.values())))
    before = [a.copy() for a in arrays]
    result = _run(function, what, *args, **kw)
    if any(not np.array_equal(a, b) for a, b in zip(arrays, before, strict=True)):
        raise _BrokenError(f"{what} changed one of its arguments; write `dc = dc + ...`, not `dc += ...`")
    if not _same(result, _run(function, what, *args, **kw)):
        raise _BrokenError(f"{what} gives another result at the second call; it must give the same at each")
    for apart in (_first_row, _first_unit):
        for sign in (FAR, -FAR):
            moved_args, moved_kw = apart((args, kw), sign)
            moved = _run(function, what, *moved_args, **moved_kw)
            if not _same(_untouched(result), _untouched(moved)):
                raise _BrokenError(
                    f"{what} mixes units or rows of the batch; it must be elementwise: no product, sum or if"
                )
    return result


FAR = 40
"""How far the numbers of one row or unit are moved: any sum, largest number or comparison of many notices."""


def _run(function: Callable[..., Any], what: str, *args: Any, **kw: Any) -> Any:
    try:
        with np.errstate(all="ignore"):
            return function(*args, **kw)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _BrokenError(f"{what} raised {raised(error)}") from error


def _first_row(tree: Any, factor: float) -> Any:
    """Change the first row of every (B, H) array in nested tuples and dictionaries."""
    return _mapped(tree, lambda a: np.concatenate([factor * np.abs(a[:1]), a[1:]]) if a.ndim == 2 else a)


def _first_unit(tree: Any, factor: float) -> Any:
    """Change the first unit's numbers in every array."""
    return _mapped(tree, lambda a: np.concatenate([factor * np.abs(a[..., :1]), a[..., 1:]], axis=-1))


def _mapped(tree: Any, change: Callable[[Array], Array]) -> Any:
    """Return nested tuples and dictionaries with every array changed."""
    if isinstance(tree, dict):
        return {name: _mapped(branch, change) for name, branch in tree.items()}
    if isinstance(tree, tuple):
        branches = [_mapped(branch, change) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return change(tree) if isinstance(tree, np.ndarray) else tree


def _arrays(tree: Any) -> list[Array]:
    """Every array in nested tuples."""
    if isinstance(tree, tuple):
        return [a for branch in tree for a in _arrays(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def _untouched(tree: Any) -> tuple[Array, ...]:
    """Every (B, H) array without its first row and unit, where arguments were changed."""
    return tuple(a[1:, 1:] for a in _arrays(tree) if a.ndim == 2)


def _same(a: Any, b: Any) -> bool:
    """Whether two results agree, but for how a vector of the processor's may round what stands beside what."""
    ours, theirs = _arrays(a), _arrays(b)
    return [x.shape for x in ours] == [y.shape for y in theirs] and all(
        np.allclose(x, y, rtol=1e-9, atol=1e-9, equal_nan=True) for x, y in zip(ours, theirs, strict=True)
    )


def _agree(a: Any, b: Any) -> bool:
    """Whether two results agree, leaf by leaf, each an array or a plain number."""
    pairs = list(zip_longest(flat(a), flat(b)))
    with np.errstate(all="ignore"):
        return all(
            np.shape(x) == np.shape(y) and np.allclose(x, y, rtol=1e-9, atol=1e-9, equal_nan=True) for x, y in pairs
        )


def _expect(what: str, got: Any, fields: Sequence[str], *, zero: bool = False, units: int = H) -> None:
    """`got` must be a tuple of one (B, units) array a field; where `zero`, a plain 0 will do."""
    if not isinstance(got, tuple):
        raise _BrokenError(f"{what} is {got!r}; expected ({', '.join(fields)})")
    names = field_names(type(got)) or tuple(fields)
    if len(got) != len(fields) or names != tuple(fields):
        said = f"({', '.join(names)})" if field_names(type(got)) else f"{len(got)} values"
        raise _BrokenError(f"{what} is {said}; expected ({', '.join(fields)})")
    for name, value in zip(fields, got, strict=True):
        if np.shape(value) != (B, units) and not (zero and np.shape(value) == ()):
            raise _BrokenError(f"{what}.{name} has shape {np.shape(value)}; expected an array (B, H) = {(B, units)}")


def _call_stages(own: Cell, rng: np.random.Generator) -> None:
    """Call all functions of a cell; those that it lacks are derived, and called as well."""

    def draw(count: int, units: int = H) -> list[Array]:
        return [rng.standard_normal((B, units)) for _ in range(count)]

    cell = complete(own)
    p = {} if cell.params is None else {"p": cell.params(*rng.standard_normal((len(cell.param_fields), H)))}
    extras = [_keywords(cell, stage, p, draw) for stage in cell.stages]
    drops = [
        extra | ({"m": draw(1)[0]} if cell.candidate and cell.candidate in stage.rows else {})
        for stage, extra in zip(cell.stages, extras, strict=True)
    ]
    s, kept = cell.state(*draw(len(cell.state_fields))), []
    values: Any = None
    kinds: list[Any] = []
    for n, stage in enumerate(cell.stages):
        with _placed(own.stages[n].forward):
            values, held = _forward(cell, n, draw, s, {"k": values} if n else {}, (extras[n], drops[n]), own.stages[n])
        kinds.append(type(values))
        kept.append({"kept": held} if stage.keeps else {})
    new, k = cell.state(*values[0]), cell.gates(*values[1])  # plain tuples will do, as they do where a cell is run
    d: Any = cell.state(*draw(len(cell.state_fields)))
    for n in reversed(range(len(cell.stages))):
        states = (s, new) if cell.stages[n].width == 1 else (None, None)
        earlier: Any = kinds[n - 1] if n else None
        given = own.stages[n].backward
        with _placed(given or own.stages[n].forward):
            _backward(cell, n, earlier, (d, k, *states), (extras[n] | kept[n], drops[n] | kept[n]), zero=given is None)
        if n:
            d = earlier(*draw(len(earlier._fields), cell.stages[n - 1].units(H)))


@contextmanager
def _placed(function: Callable[..., Any]) -> Iterator[None]:
    """Let what is broken end with the line that broke it, or with that at which a user's function begins."""
    try:
        yield
    except _BrokenError as broken:
        line = line_of(broken.__cause__) if broken.__cause__ else ""
        raise _BrokenError(f"{broken}{line or defined_at(function)}") from broken


Draw = Callable[..., list[Array]]


def _forward(
    cell: Cell, n: int, draw: Draw, s: Any, before: Any, given: tuple[Any, Any], own: Stage
) -> tuple[Any, Any]:
    """Call a stage's forward function, without and with m and dt; return what it gives, and what is kept.

    What was traced must give on arrays what its user's own function gives.
    """
    stage, (extra, drop) = cell.stages[n], given
    place, units = stage_name(stage, n), stage.units(H)
    what = f"{place}: forward"
    for name in stage.operand or ():
        known = (*cell.state_fields, *(field_names(type(before["k"])) or () if n else ()))
        if name not in known:
            raise _BrokenError(
                f"{stage_name(stage, n)}: operand {name} is unknown; it can be one of {', '.join(known)}"
            )
    ax, ah = tuple(draw(len(stage.rows) * stage.inputs, units)), tuple(draw(stage.blocks, units))
    args = ax, ah, s if stage.width == 1 else None
    plain = _call(stage.forward, what, *args, **before, **extra)
    result = _call(stage.forward, what, *args, **before, **drop)
    if "m" in drop:
        ones = _call(stage.forward, what, *args, **before, **(drop | {"m": np.ones((B, H))}))
        if _arrays(result) and _same(plain, result):
            raise _BrokenError(f"{what} makes nothing of m, which multiplies the candidate {cell.candidate}")
        if not _same(plain, ones):
            raise _BrokenError(f"{what} without m is not that with m = 1; write m=1 as its default")
    if "dt" in stage.sees:  # without timespans it is a plain number
        _call(stage.forward, what, *args, **before, **(extra | {"dt": 1}))
    values, held = result if stage.keeps else (result, None)
    if own.forward is not stage.forward and not _agree(_call(own.forward, what, *args, **before, **drop), values):
        raise _BrokenError(f"{what} gives one result on arrays, another on symbols; it must not ask what it is given")
    if n + 1 < len(cell.stages):
        _expect(f"{what}'s result", values, field_names(type(values)) or ("a named tuple",), units=units)
        return values, held
    if not isinstance(values, tuple) or len(values) != 2:
        got = f"{len(values)} values" if type(values) is tuple else type(values).__name__
        raise _BrokenError(f"{what} gave {got}; the last stage gives (State, Gates)")
    _expect(f"{what}'s state", values[0], cell.state_fields)
    _expect(f"{what}'s gates", values[1], cell.gate_fields)
    return values, held


def _backward(cell: Cell, n: int, earlier: Any, args: tuple[Any, ...], given: tuple[Any, Any], *, zero: bool) -> None:
    """Call a stage's backward function, without and with m; where `zero`, a row's gradient may be a plain 0."""
    stage, (extra, drop) = cell.stages[n], given
    what, units = f"{stage_name(stage, n)}: backward", stage.units(H)
    assert stage.backward is not None
    _call(stage.backward, what, *args, **extra)
    b = _call(stage.backward, what, *args, **drop)
    if not isinstance(b, Back):
        raise _BrokenError(f"{what} gave {type(b).__name__}; expected Back(ax, ah, state, values, params)")
    _expect(f"{what}'s ax", b.ax, stage.rows if stage.inputs else (), units=units, zero=zero)
    if stage.blocks or b.ah is not b.ax:
        rows = stage.rows if stage.product else stage.operand or ()
        _expect(f"{what}'s ah", b.ah, rows if stage.blocks else (), units=units, zero=zero)
    if stage.width == 1:
        _expect(f"{what}'s state", b.state, cell.state_fields, zero=True)
    if "x" in stage.sees:
        _expect(f"{what}'s x", (b.x,), ("x",), zero=True)
    if n:
        wide = cell.stages[n - 1].units(H)
        _expect(f"{what}'s values", b.values, field_names(earlier) or (), zero=True, units=wide)
    if "p" in extra and b.params is not None:
        _expect(f"{what}'s params", b.params, cell.param_fields, zero=True)


def _keywords(cell: Cell, stage: Stage, own: dict[str, Any], draw: Callable[..., list[Array]]) -> dict[str, Any]:
    """Return what a stage's functions get by name, but for the values before it, m, and what the tape keeps."""
    extra = {} if stage.width != 1 else own
    extra = extra | ({} if cell.settings is None else {"c": cell.constants})
    drawn = {"x": draw(1)[0], "dt": np.abs(draw(1, stage.units(H))[0])}
    return extra | {name: drawn[name] for name in stage.sees}
