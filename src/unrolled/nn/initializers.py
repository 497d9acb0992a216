"""Initial weights: the rules people know by name, for every parameter of a layer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..cells import Cell
from ..cells.cell import WEIGHT_X
from ..cells.contract import defined_at
from ..cells.initial import orthogonal
from ..checks import Array, is_number
from ..errors import UnrolledError, brief, one_line, suggest
from ..reference.layers import uniform

INITS = {
    "pytorch": "everything U(-1/sqrt(H), 1/sqrt(H)), embeddings N(0, 1)",
    "char-rnn": "everything U(-0.08, 0.08), forget-gate biases 1 (half of it in each of the two bias vectors)",
    "glorot": "input weights uniform (Glorot & Bengio 2010), recurrent blocks orthogonal (Saxe et al. 2014), biases 0",
    "identity": "recurrent weight the identity, input weights N(0, 0.001), biases 0 (Le et al. 2015; simple cells)",
    "uniform:B": "everything U(-B, B), such as uniform:0.1 (Zaremba et al. 2014)",
}
CHAR_RNN = 0.08
LARGEST = 1000
"""Largest weight or bias that may be asked for: more is a slip, and float32 has little left of it."""


def check_init_name(init: object) -> str:
    """Return the name of a rule, or say what is wrong with it.

    Examples
    --------
    >>> check_init_name("uniform:0.1")
    'uniform:0.1'
    >>> check_init_name("uniform:nan")
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: init is 'uniform:nan'; its bound must be a number above 0, and at most 1,000
    """
    if not isinstance(init, str) or init == "uniform:B" or (init not in INITS and not init.startswith("uniform:")):
        raise UnrolledError(suggest("init", init, list(INITS)))
    if init.startswith("uniform:"):
        bound(init, 1)
    return str(init)


def bound(init: str, width: int) -> float:
    """Return b of the U(-b, b) that a rule draws from where it says nothing else; `width` is the layer's.

    Examples
    --------
    >>> bound("char-rnn", 100), bound("pytorch", 100), bound("uniform:0.25", 100)
    (0.08, 0.1, 0.25)
    """
    if not init.startswith("uniform:"):
        return CHAR_RNN if init == "char-rnn" else float(1 / np.sqrt(width))
    text = init.partition(":")[2]
    value = float(text) if re.fullmatch(r"[0-9.]{1,20}(e-?[0-9]{1,2})?", text) and text.count(".") < 2 else math.nan
    if not 0 < value <= LARGEST:
        raise UnrolledError(f"init is {brief(init)}; its bound must be a number above 0, and at most {LARGEST:,}")
    return value


def check_forget_bias(value: float | None) -> float | None:
    """Return what the forget gate's biases are to add up to, or say what is wrong with it."""
    if value is not None and not (is_number(value) and abs(float(value)) <= LARGEST):
        raise UnrolledError(f"forget_bias is {brief(value)}; it must be a number from -{LARGEST:,} to {LARGEST:,}")
    return None if value is None else float(value)


def check_init(init: str, cell: Cell, *, forget_bias: float | None, bias: bool, proj: int) -> None:
    """Refuse what makes no sense with this cell."""
    check_init_name(init)
    forget_bias = check_forget_bias(forget_bias)
    simple = len(cell.rows) == 1 and cell.operand_width == 1 and cell.heads == 1
    if init == "identity" and not (simple and not proj):
        raise UnrolledError(f"init 'identity' is for cells of one product, rnn_relu and rnn_tanh, not for {cell.name}")
    if forget_bias is not None and not (bias and has_forget_gate(cell)):
        why = "has no forget gate" if not has_forget_gate(cell) else "has no biases here"
        raise UnrolledError(f"forget_bias is {forget_bias:g}, but {cell.name} {why}; leave it out")


def has_forget_gate(cell: Cell) -> bool:
    """Whether f says what a memory cell keeps (the one gate of `mgu` says the opposite)."""
    return "f" in cell.rows and "c" in cell.state_fields


def glorot(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """U(-b, b) with b = sqrt(6 / (rows + columns)) (Glorot & Bengio 2010, equation 16)."""
    return uniform(rng, shape, float(np.sqrt(6 / sum(shape))), dtype)


def initialise(
    init: str,
    cell: Cell,
    shapes: dict[str, tuple[int, ...]],
    hidden: int,
    rng: np.random.Generator,
    dtype: str,
    forget_bias: float | None = None,
) -> dict[str, Array]:
    """Draw the parameters of one layer and direction, by their local names.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> cell = CELLS["rnn_relu"]
    >>> w = initialise("identity", cell, cell.shapes(3, 2), 2, np.random.default_rng(0), "float32")
    >>> w["weight_hh"]
    array([[1., 0.],
           [0., 1.]], dtype=float32)
    """
    params = {name: _draw(init, cell, name, shape, hidden, rng, dtype) for name, shape in shapes.items()}
    for name, rule in cell.initial:
        parameter, _, part = name.partition(".")
        if parameter in params and (init == "pytorch" or parameter == cell.params_name):
            rows = cell.parts(parameter, hidden)[part] if part else slice(None)
            whole = params[parameter][rows]
            whole[...] = _initial(cell, name, rule, rng, whole[0] if part and parameter == cell.params_name else whole)
    if forget_bias is None and init == "char-rnn" and has_forget_gate(cell):
        forget_bias = 1.0
    if forget_bias is not None:
        biases = [name for name in ("bias_ih", "bias_hh") if name in params and "f" in cell.parts(name, hidden)]
        for name in biases:
            params[name][cell.parts(name, hidden)["f"]] = forget_bias / len(biases)
    return params


def _initial(cell: Cell, name: str, rule: Callable[..., Any], rng: np.random.Generator, like: Array) -> Array:
    """Run an initialiser of a cell's own, and refuse what makes no weights."""
    said = f"cell {brief(cell.name)}: the initialiser of {name}{defined_at(rule)}"
    expected = f"expected finite real numbers of shape {like.shape}, or one number for all of them"
    try:
        given = rule(rng, like.shape)
        values = np.asarray(given)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:  # a user's function, which may be wrong in any way
        why = f"{type(error).__name__}: {error}"
        raise UnrolledError(f"{said}, called with (rng, shape), raised {one_line(why, 200)}; {expected}") from None
    if isinstance(given, np.ma.MaskedArray) or values.dtype.kind not in "fiu":
        kind = f"a {type(given).__name__} of {values.dtype}" if values.ndim else brief(given)
        raise UnrolledError(f"{said} gave {kind}; {expected}")
    if values.shape not in ((), like.shape):
        raise UnrolledError(f"{said} gave shape {values.shape}; {expected}")
    with np.errstate(over="ignore"):
        drawn = values.astype(like.dtype)
    if not np.isfinite(drawn).all():
        raise UnrolledError(f"{said} gave {drawn[~np.isfinite(drawn)][0]} in {like.dtype}; {expected}")
    return drawn


def _orthogonal_block(cell: Cell, rng: np.random.Generator, rows: slice, columns: int) -> Array:
    """Draw a row block of recurrent weights: as a whole, or each head's by itself."""
    units = rows.stop - rows.start
    if cell.heads == 1:
        return orthogonal(rng, (units, columns))
    size = cell.head(units)
    return np.concatenate([orthogonal(rng, (min(size, units - at), columns)) for at in range(0, units, size)])


BOUNDED = ("char-rnn", "uniform:")
"""Rules that draw embeddings too from within their bound."""


def table_of(init: str, shape: tuple[int, int], rng: np.random.Generator, dtype: str) -> Array:
    """Draw an embedding: from N(0, 1), or as a rule with a bound of its own has it."""
    if init.startswith(BOUNDED):
        return uniform(rng, shape, bound(init, shape[1]), dtype)
    return rng.standard_normal(shape).astype(dtype)


def initialise_ends(
    init: str,
    table: Array | None,
    params: dict[str, Array],
    decoder: tuple[int, int],
    rng: np.random.Generator,
    dtype: str,
    *,
    tied: bool,
) -> dict[str, Array]:
    """Put an embedding, from N(0, 1), before a stack's parameters, and a decoder (K, H) drawn behind them."""
    limit = bound(init, decoder[1])
    if table is not None and (tied or init.startswith(BOUNDED)):
        table = uniform(rng, table.shape, limit, dtype)  # N(0, 1) is too large for a decoder
    params = params if table is None else {"embedding.weight": table} | params
    if not tied:
        weight = glorot(rng, decoder, dtype) if init == "glorot" else None
        params["decoder.weight"] = uniform(rng, decoder, limit, dtype) if weight is None else weight
    bias = uniform(rng, decoder[:1], limit, dtype)
    return params | {"decoder.bias": 0 * bias if init in ("glorot", "identity") else bias}


def _draw(
    init: str, cell: Cell, name: str, shape: tuple[int, ...], hidden: int, rng: np.random.Generator, dtype: str
) -> Array:
    if name.startswith("gain"):
        return np.ones(shape, dtype)
    if name.startswith("initial"):
        return np.zeros(shape, dtype)
    if init in ("glorot", "identity") and name.startswith("bias"):
        return np.zeros(shape, dtype)
    if init == "glorot" and name == "weight_hh":
        blocks = [_orthogonal_block(cell, rng, rows, shape[1]) for rows in cell.parts(name, hidden).values()]
        return np.concatenate(blocks).astype(dtype)
    if init == "glorot" and name in ("weight_ih", "weight_hr", WEIGHT_X):
        return glorot(rng, shape, dtype)
    if init == "identity" and name == "weight_hh":
        return np.eye(shape[0], dtype=dtype)
    if init == "identity" and name == "weight_ih":
        return (0.001 * rng.standard_normal(shape)).astype(dtype)
    return uniform(rng, shape, bound(init, hidden), dtype)
