"""The contract of a cell: the part of it that can be told without running its functions.

(`unrolled.check_cell` runs them: on what they give, on arrays that show whether they are elementwise, and in every
derivative.)
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from ..errors import UnrolledError, brief, one_line
from .cell import Cell, Stage


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
    if cell.candidate and cell.candidate not in cell.rows:
        yield f"candidate is {brief(cell.candidate)}; it must be one of its rows, {', '.join(cell.rows)}"
    for n, stage in enumerate(stages):
        for problem in _call_problems(cell, stage, n):
            yield f"{stage_name(stage, n)}: {problem}"


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and name for name in value)


def _safe_name(stage: Stage, n: int) -> str:
    return stage_name(stage, n) if _are_names(stage.rows) else f"stage {n}"


def _stage_problems(cell: Cell, stage: Stage, n: int) -> Iterator[str]:
    """Yield what is wrong with one stage's products."""
    state = field_names(cell.state) or ()
    if not _are_names(stage.rows):
        yield f"rows is {brief(stage.rows)}; expected a tuple of names, such as ('n',)"
    if not (stage.operand is None or (_are_names(stage.operand) and stage.operand)):
        yield f"operand is {brief(stage.operand)}; expected a tuple of names, such as ('h',), or None for no product"
    for name in ("inputs", "product"):
        if not isinstance(getattr(stage, name), (bool, np.bool_)):
            yield f"{name} is {brief(getattr(stage, name))}; it must be True or False"
    if not (isinstance(stage.norm, tuple) and all(type(size) is int and size > 0 for size in stage.norm)):
        yield f"norm is {brief(stage.norm)}; expected a tuple of whole numbers, () for none"
    if not stage.product:
        if stage.rows or stage.operand is None or len(stage.operand) != 1 or stage.norm != (1,):
            yield "a stage without a product normalises one operand: rows=(), operand=(name,), norm=(1,)"
    elif not stage.rows and stage.operand is not None:
        yield "it has no rows, so there is no product: write operand=None"
    elif stage.norm and (stage.operand is None or sum(stage.norm) != len(stage.rows)):
        blocks = 0 if stage.operand is None else len(stage.rows)
        yield f"norm={stage.norm} names {sum(stage.norm)} blocks of {blocks}"
    if stage.inputs and not stage.rows:
        yield "it has no rows, so it sees no x: write inputs=False"
    for name in stage.operand or ():
        if name not in state and not n:
            yield f"operand {name} is unknown; it can be one of {', '.join(state)}"
        if name not in state and stage.product and name not in (field_names(cell.gates) or ()):
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
    own = [name for stage in cell.stages if not stage.product for name in stage.operand or ()]
    names = [f"{kind}_{half}" for kind in ("weight", "bias", "gain") for half in ("ih", "hh")] + ["weight_hr"]
    names += [f"{kind}_{name}" for name in own for kind in ("gain", "bias")]
    names += [f"initial_{name}" for name in field_names(cell.state) or ()]
    names += [cell.params_name] if cell.params_name else []
    for name in names:
        if names.count(name) > 1:
            yield f"{name} would name two parameters; give one of them another name"


def _call_problems(cell: Cell, stage: Stage, n: int) -> Iterator[str]:
    """Yield which function does not take what the scan calls it with."""
    by_name = ["p"] * (cell.params is not None)
    held = bool(cell.candidate) and cell.candidate in stage.rows
    for what, function, given in (
        ("forward", stage.forward, ["ax", "ah", "s", *["k"] * bool(n), *by_name]),
        ("backward", stage.backward, ["d", "k", "s", "new", *by_name]),
    ):
        if not callable(function):
            yield f"{what} is {brief(function)}; expected a function"
        with suppress(ValueError):  # what is written in C tells nothing of itself
            signature = inspect.signature(function)
            if not _takes(signature, given) or (held and not _takes(signature, [*given, "m"])):
                why = f": m is what recurrent dropout multiplies {cell.candidate} with" if held else ""
                yield f"{what} takes {_shown(signature)}; expected ({', '.join(given)}{', m=1' * held}){why}"


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
