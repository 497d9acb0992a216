"""A hash of what a cell computes: by it a model file knows its cell again, without holding any code.

The forward functions run on terms, each the hash of an operation and of what it acts on, down to what the functions are
given. So comments, names, the order of lines and helpers that are moved elsewhere change nothing; an equation, a
constant or a row that is another one does. Backward functions are left out: they say how a cell learns, not what a
trained one computes. The hash is part of the files' format: it stands on NumPy's names of operations and on nothing
that may change with the engine.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnrolledError, brief, raised, said_by
from .cell import Cell, Stage, signature_of

COMMUTE = ("add", "multiply", "maximum", "minimum", "equal", "not_equal")
"""Operations to which the order of their arguments is nothing, to the bit."""
BESIDE = ("name", "paper", "state", "gates", "stages", "params", "settings", "initial", "prepare")
BESIDE_STAGES = ("forward", "backward", "keeps")
"""Fields of cells and stages that no value is taken of: names, what is run, and how weights begin."""
PACKAGE = str(Path(__file__).parents[1])


class Term(np.lib.mixins.NDArrayOperatorsMixin):
    """A number that is known by how it is computed.

    Examples
    --------
    >>> x, y = Term("x"), Term("y")
    >>> (x * y + 1).digest == (1.0 + y * x).digest, (x - y).digest == (y - x).digest
    (True, False)
    """

    def __init__(self, text: str) -> None:
        self.digest = hashlib.sha256(text.encode()).hexdigest()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Term:
        """Return the term of a ufunc's result."""
        if method != "__call__" or options:
            raise UnrolledError(f"numpy.{ufunc.__name__} is not called as a plain function of numbers")
        return _applied(ufunc.__name__, inputs)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Term:
        """Return the term of what another function of NumPy's gives, such as `where`."""
        if options:
            raise UnrolledError(f"numpy.{function.__name__} is not called as a plain function of numbers")
        return _applied(function.__name__, args)

    def __bool__(self) -> bool:
        """Refuse what Python would decide once for all units."""
        raise UnrolledError("a cell's function asks whether a value is true; write where(a > 0, x, y) instead of if")

    def __float__(self) -> float:
        """Refuse to become a number of Python's."""
        raise UnrolledError("a cell's function makes a Python number of one unit's")


def fingerprint(cell: Cell) -> str:
    """Return the SHA-256 of what a cell computes of its inputs, state and parameters, and of how these are laid out.

    Raises
    ------
    UnrolledError
        If one of its functions does not run on any numbers but asks what they are; names the line.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> fingerprint(CELLS["lstm"])[:12], fingerprint(CELLS["gru_reset_after"])[:12]
    ('2cd50c601f3d', 'f02fc8d30bda')
    """
    laid_out = [
        _plain(cell),
        *(_plain(stage) for stage in cell.stages),
        list(cell.state_fields),
        list(cell.param_fields),
    ]
    try:
        state, again = _computed(cell), _computed(cell)
        if state != again:
            raise UnrolledError("its functions give another result at the second call; they must give the same at each")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        where = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(PACKAGE)]
        at = f"{where[-1].filename}, line {where[-1].lineno}: " if where else ""
        said = said_by(error) if isinstance(error, UnrolledError) else raised(error)
        raise UnrolledError(f"{at}cell {brief(cell.name)} can't be told by what it computes: {said}") from None
    return hashlib.sha256(json.dumps([laid_out, state], sort_keys=True).encode()).hexdigest()


def _plain(part: Cell | Stage) -> dict[str, Any]:
    """Return what is said of a cell or a stage as plain data, without what is as it is by default.

    (So fields that later versions add change no hash.)
    """
    said = {f.name: (getattr(part, f.name), f.default) for f in fields(part) if f.name not in (*BESIDE, *BESIDE_STAGES)}
    return {name: value for name, (value, default) in said.items() if default is MISSING or value != default}


def _computed(cell: Cell) -> list[str]:
    """Return the hashes of the new state."""
    values: Any = ()
    constants = {} if cell.settings is None else {"c": cell.constants}
    own = {} if cell.params is None else {"p": _terms(cell.params, "p")}
    if cell.prepare is not None:
        own = {"p": cell.prepare(*own.values(), **(constants if "c" in signature_of(cell.prepare) else {}))}
    s = _terms(cell.state, "s")
    for n, stage in enumerate(cell.stages):
        ax = tuple(Term(f"ax {row}") for row in stage.rows * stage.inputs)
        operand = [_digest(getattr(s if name in cell.state_fields else values, name)) for name in stage.operand or ()]
        ah = tuple(Term(f"ah {n} {i} {operand}") for i in range(stage.blocks))
        more = constants | (own if stage.width == 1 else {}) | ({"k": values} if n else {})
        more |= {name: Term(name) for name in stage.sees}
        more |= {"m": Term("m")} if cell.candidate and cell.candidate in stage.rows else {}
        values = stage.forward(ax, ah, s if stage.width == 1 else None, **more)
    if not isinstance(values, tuple) or len(values) != 2 or not _is(values[0], cell.state):
        raise UnrolledError("the last stage gives no pair (State, Gates)")
    return [_digest(value) for value in values[0]]


def _is(values: Any, kind: type[Any]) -> bool:
    """Whether values are those of a named tuple; a plain tuple of as many will do, as where a cell is run."""
    return isinstance(values, tuple) and len(values) == len(kind._fields)


def _terms(kind: type[Any], letter: str) -> Any:
    """Return a named tuple of terms."""
    return kind(*(Term(f"{letter}.{name}") for name in kind._fields))


def _applied(name: str, args: Iterable[Any]) -> Term:
    """Return the term of a function's result."""
    digests = [_digest(arg) for arg in args]
    return Term(f"{name} {sorted(digests) if name in COMMUTE else digests}")


def _digest(value: Any) -> str:
    """Return the hash of a term, or of a plain number."""
    return value.digest if isinstance(value, Term) else Term(f"number {float(value).hex()}").digest
