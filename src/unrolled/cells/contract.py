"""The contract of a cell: the part of it that can be told without running its functions.

(`unrolled.check_cell` runs them: on what they give, on arrays that show whether they are elementwise, and in every
derivative.)
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from keyword import iskeyword
from typing import Any

import numpy as np

from ..errors import UnrolledError, brief, one_line, suggest
from .activations import ACTIVATIONS
from .cell import ROWED, WEIGHT_X, Cell, Stage


def check_contract(cell: Cell) -> None:
    """Refuse what no backend could run, or would take for something else; every cell passes here when it is made.

    Raises
    ------
    UnrolledError
        If a part is missing, of another kind, or does not fit the others; the message says which.
    """
    for problem in _problems(cell):
        raise UnrolledError(f"cell {brief(cell.name)}: {one_line(problem)}")


def field_names(kind: Any) -> tuple[str, ...] | None:
    """Return the fields of a named tuple's type; None for anything else."""
    named = isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")
    return tuple(kind._fields) if named else None


def stage_name(stage: Stage, n: int) -> str:
    """Return what messages call a stage."""
    return f"stage {n} (rows {', '.join(stage.rows)})"


def defined_at(function: Callable[..., Any] | None) -> str:
    """Return the line that a function of a cell begins at; nothing of what is written in C.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> defined_at(CELLS["lstm"].stages[0].forward).startswith(" (") and defined_at(max)
    ''
    """
    code = getattr(function, "__code__", None)
    return "" if code is None else f" ({code.co_filename}, line {code.co_firstlineno})"


def _problems(cell: Cell) -> Iterator[str]:
    """Yield what is wrong; what comes later takes for granted that nothing came before."""
    for what in ("name", "paper", "params_name", "candidate"):
        if not isinstance(text := getattr(cell, what), str) or not (text or what != "name"):
            yield f"{what} is {brief(text)}; expected a text"
    state, gates = field_names(cell.state), field_names(cell.gates)
    if state is None or state[:1] != ("h",):
        got = brief(cell.state) if state is None else f"({', '.join(state)})"
        yield f"state is {got}; it must be a named tuple that begins with h, the output"
    if gates is None:
        yield f"gates is {brief(cell.gates)}; it must be a named tuple, without fields where the tape keeps none"
    stages = cell.stages
    if not (isinstance(stages, tuple) and stages and all(isinstance(s, Stage) for s in stages)):
        yield f"stages is {brief(stages)}; expected a tuple of one Stage or more"
    for n, stage in enumerate(stages):
        for problem in _stage_problems(cell, stage, n):
            yield f"{_safe_name(stage, n)}: {problem}"
    if len(set(cell.rows)) < len(cell.rows):
        yield f"rows are ({', '.join(cell.rows)}); each needs a name of its own"
    if not cell.input_rows:
        yield "no stage sees x; at least one has rows and inputs=True"
    if len({bool(stage.norm) for stage in stages if stage.inputs}) > 1:
        yield "some of its stages that see x are normalised, others are not"
    yield from _parameter_problems(cell)
    yield from _setting_problems(cell)
    yield from _initial_problems(cell)
    if cell.candidate and cell.candidate not in cell.rows:
        yield f"candidate is {brief(cell.candidate)}; it must be one of its rows, {', '.join(cell.rows)}"
    for n, stage in enumerate(stages):
        for problem in _call_problems(cell, stage, n):
            yield f"{stage_name(stage, n)}: {problem}"


def _are_names(value: Any) -> bool:
    """Whether a value is a tuple of names that a named tuple's fields can have."""
    return isinstance(value, tuple) and all(
        isinstance(name, str) and name.isidentifier() and not iskeyword(name) and not name.startswith("_")
        for name in value
    )


def _safe_name(stage: Stage, n: int) -> str:
    return stage_name(stage, n) if _are_names(stage.rows) else f"stage {n}"


def _stage_problems(cell: Cell, stage: Stage, n: int) -> Iterator[str]:
    """Yield what is wrong with one stage's products."""
    state = field_names(cell.state) or ()
    yield from _function_problems("forward", stage.forward)
    if stage.backward is not None:
        yield from _function_problems("backward", stage.backward)
    if not _are_names(stage.rows):
        yield f"rows is {brief(stage.rows)}; expected a tuple of names, such as ('n',), of letters, digits and _"
    if not (stage.operand is None or (_are_names(stage.operand) and stage.operand)):
        yield f"operand is {brief(stage.operand)}; expected a tuple of names, such as ('h',), or None for no product"
    halves = [("ih",), ("hh",), ("ih", "hh"), ("hh", "ih")]
    if not isinstance(stage.biases, tuple) or (stage.biases and stage.biases not in halves):
        yield f"biases is {brief(stage.biases)}; expected a tuple of 'ih', 'hh', both or none"
    if stage.keeps is not None and field_names(stage.keeps) is None:
        yield f"keeps is {brief(stage.keeps)}; expected a named tuple, or None"
    if not _is_number(stage.width) or not 0 < stage.width <= MOST:
        yield f"width is {brief(stage.width)}; expected a multiple of H above 0, and at most {MOST}"
    if stage.width != 1 and (n + 1 == len(cell.stages) or stage.norm or not stage.product or "x" in stage.sees):
        yield "a stage of another width is none of: the last one, normalised, one that sees x="
    if stage.width != 1 and cell.candidate in stage.rows:
        yield f"it holds the candidate {cell.candidate}, so it is as wide as the state: width=1"
    for name in ("inputs", "product"):
        if not isinstance(getattr(stage, name), bool):
            yield f"{name} is {brief(getattr(stage, name))}; it must be True or False"
    if not (isinstance(stage.norm, tuple) and all(type(size) is int and size > 0 for size in stage.norm)):
        yield f"norm is {brief(stage.norm)}; expected a tuple of whole numbers, () for none"
    if not stage.product:
        if stage.rows or stage.operand is None or len(stage.operand) != 1 or stage.norm != (1,):
            yield "a stage without a product normalises one operand: rows=(), operand=(name,), norm=(1,)"
    elif not stage.rows and stage.operand is not None:
        yield "it has no rows, so there is no product: write operand=None"
    elif stage.norm and cell.heads > 1:
        yield "rows are normalised over all units, but the cell has heads"
    elif stage.norm and (stage.operand is None or sum(stage.norm) != len(stage.rows)):
        blocks = 0 if stage.operand is None else len(stage.rows)
        yield f"norm={stage.norm} names {sum(stage.norm)} blocks of {blocks}"
    if stage.inputs and not stage.rows:
        yield "it has no rows, so it sees no x: write inputs=False"
    for name in stage.operand or ():
        if name not in state and not n:
            yield f"operand {name} is unknown; it can be one of {', '.join(state)}"
        given = all(s.backward is not None for s in cell.stages)
        kept = {*(field_names(cell.gates) or ()), *(field_names(cell.stages[n - 1].keeps) or ())}
        if name not in state and stage.product and given and name not in kept:
            yield f"operand {name} must be a field of the gates, for the tape to keep it"


def _parameter_problems(cell: Cell) -> Iterator[str]:
    """Yield what is wrong with the per-unit parameters, and with names that mean two things."""
    if cell.params is None:
        if cell.params_name:
            yield f"params_name is {brief(cell.params_name)}, but there are no params"
    elif not field_names(cell.params):
        yield f"params is {brief(cell.params)}; expected a named tuple of one weight a unit or more"
    elif not (isinstance(cell.params_name, str) and cell.params_name.isidentifier()):
        yield f"params_name is {brief(cell.params_name)}; the parameter needs a name, such as 'weight_own'"
    if cell.prepare is not None:
        yield from _function_problems("prepare", cell.prepare)
        if cell.params is None:
            yield "prepare is a function of the per-unit parameters; there are no `params`"
    own = [name for stage in cell.stages if not stage.product for name in stage.operand or ()]
    names = [*ROWED, "weight_hr", WEIGHT_X]
    names += [f"{kind}_{name}" for name in own for kind in ("gain", "bias")]
    names += [f"initial_{name}" for name in field_names(cell.state) or ()]
    names += [cell.params_name] if cell.params_name else []
    for name in names:
        if names.count(name) > 1:
            yield f"{name} would name two parameters; give one of them another name"


MOST = 64
"""Largest multiple of H that a stage may have, and largest number of heads."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(float(value))
    except OverflowError:
        return False


def _setting_problems(cell: Cell) -> Iterator[str]:
    """Yield what is wrong with the settings, and with the number of heads."""
    if type(cell.heads) is not int or not 1 <= cell.heads <= MOST:
        yield f"heads is {brief(cell.heads)}; expected a whole number from 1 to {MOST}"
    wide = [s for s in cell.stages if s.product and s.operand and len(s.operand) > 1]
    if cell.heads > 1 and wide:
        yield f"it has heads, and a product of {' and '.join(wide[0].operand or ())}; with heads there is one operand"
    if cell.settings is None:
        return
    if field_names(type(cell.settings)) is None or not cell.settings:
        yield f"settings is {brief(cell.settings)}; expected an instance of a named tuple, such as Settings(dt=0.1)"
        return
    for name, value in zip(cell.settings._fields, cell.settings, strict=True):
        if isinstance(value, str):
            if value not in ACTIVATIONS:
                yield suggest(f"activation of {name}", value, list(ACTIVATIONS))
        elif not _is_finite(value):
            yield f"setting {name} is {brief(value)}; expected a finite number, or the name of an activation"


def changed_settings(cell: Cell, changes: dict[str, Any]) -> Any:
    """Return a cell's settings with some of them changed."""
    fields = () if cell.settings is None else cell.settings._fields
    for name, value in changes.items():
        if name not in fields:
            known = f"; it has {', '.join(fields)}" if fields else ""
            raise UnrolledError(f"cell {brief(cell.name)} has no setting {brief(name)}{known}")
        if isinstance(value, str) is not isinstance(getattr(cell.settings, name), str):
            what = "the name of an activation" if isinstance(getattr(cell.settings, name), str) else "a number"
            raise UnrolledError(f"cell {brief(cell.name)}: setting {name} is {brief(value)}; expected {what}")
    return cell.settings._replace(**changes)


def _initial_problems(cell: Cell) -> Iterator[str]:
    """Yield which initialiser is of no parameter."""
    if not isinstance(cell.initial, tuple):
        yield f"initial is {brief(cell.initial)}; expected a dictionary of functions (rng, shape)"
        return
    for entry in cell.initial:
        if not (isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            yield f"initial has {brief(entry)}; expected the name of a parameter and a function (rng, shape)"
            return
        yield from _function_problems(f"the initialiser of {entry[0] or brief('')}", entry[1])
        parameter, dot, part = entry[0].partition(".")
        if parameter not in cell.shapes(2, 3):
            yield f"initial names {entry[0] or brief('')}; it has {', '.join(cell.shapes(2, 3))}"
        elif dot and part not in cell.parts(parameter, 3):
            yield f"initial names {entry[0]}; {parameter} has {', '.join(cell.parts(parameter, 3)) or 'no parts'}"


def _function_problems(what: str, function: Any) -> Iterator[str]:
    """Yield why something is no function that caches can find again and that says what it takes."""
    if not callable(function):
        yield f"{what} is {brief(function)}; expected a function"
    try:
        hash(function)
    except Exception:
        yield f"{what} is {brief(function)}, which has no hash; expected a function, or an object with __hash__"
    try:
        with suppress(ValueError):  # what is written in C tells nothing of itself
            inspect.signature(function)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        yield f"{what} is {brief(function)}, whose signature can't be read ({one_line(why, 100)}); expected a function"


def _call_problems(cell: Cell, stage: Stage, n: int) -> Iterator[str]:
    """Yield which function does not take what the scan calls it with."""
    by_name = ["p"] * (cell.params is not None and stage.width == 1) + ["c"] * (cell.settings is not None)
    by_name += sorted(stage.sees)
    kept = ["kept"] * (stage.keeps is not None)
    held = bool(cell.candidate) and cell.candidate in stage.rows
    for what, function, given in (
        ("forward", stage.forward, ["ax", "ah", "s", *["k"] * bool(n), *by_name]),
        ("backward", stage.backward, ["d", "k", "s", "new", *by_name, *kept]),
    ):
        if function is None and what == "backward":
            continue
        assert function is not None
        with suppress(ValueError):  # what is written in C tells nothing of itself
            signature = inspect.signature(function)
            if not _takes(signature, given) or (held and not _takes(signature, [*given, "m"])):
                why = f": m is what recurrent dropout multiplies {cell.candidate} with" if held else ""
                expected = f"({', '.join(given)}{', m=1' * held})"
                yield f"{what} takes {_shown(signature)}; expected {expected}{why}{defined_at(function)}"


def _takes(signature: inspect.Signature, names: list[str]) -> bool:
    """Whether a function can be called so: what the scan hands on by position first, the rest by name."""
    positional = 4 if names[0] == "d" else 3
    try:
        signature.bind(*names[:positional], **dict.fromkeys(names[positional:]))
    except TypeError:
        return False
    return True


def _shown(signature: inspect.Signature) -> str:
    """Return a signature without its types."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))
