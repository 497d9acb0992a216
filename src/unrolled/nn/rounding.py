"""Weights of fewer bits: float32 matrices rounded to bfloat16, or to int8 with a scale a row, and their small form.

bfloat16 is the upper half of a float32, rounded to the nearest, to even between two. Of int8, each row w has one scale

    s = max |w| / 127, rounded up to 16 significant bits;    q = the whole number nearest to w / s, from -127 to 127

and its values are q s: 7 bits times 16 bits, exact in the 24 of a float32. So the small form and float32 arrays are one
and the same numbers: `rounded` of what is rounded changes nothing, and s is the largest |w| of a row / 127 again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..checks import Array, check_choice
from ..errors import UnrolledError
from ..reference.operands import upper_half

WEIGHTS = ("float32", "bfloat16", "int8")
"""Forms of weights, by their names."""

SCALE = ".scale"
"""What the name of an int8 matrix's scales ends with."""

_MATRIX = re.compile(r"(.*\.)?(embedding\.weight|decoder\.weight|weight_(ih|hh|hr|x)_l\d+(_reverse)?)")
_LARGEST = 127
_BITS: dict[str, np.dtype[Any]] = {"bfloat16": np.dtype("<u2"), "int8": np.dtype("i1")}


def check_weights(weights: str, dtype: str) -> str:
    """Return the name of a form that a network of this dtype can have, or say which it can."""
    check_choice("form of weights", weights, WEIGHTS)
    if weights != "float32" and dtype != "float32":
        raise UnrolledError(f"weights={weights!r} rounds models of float32; this one is {dtype}")
    return weights


def is_matrix(name: str) -> bool:
    """Whether this is the name of a parameter that is rounded: one that vectors are multiplied with, or looked up in.

    Biases, what a cell has for each unit, norms and a head's own parameters stay float32.

    Examples
    --------
    >>> [is_matrix(f"recurrent.{name}_l0") for name in ("weight_hh", "bias_hh", "weight_peephole")]
    [True, False, False]
    """
    return _MATRIX.fullmatch(name) is not None


def rounded(params: Mapping[str, Array], weights: str) -> dict[str, Array]:
    """Return float32 parameters whose values are exactly those that the small form holds.

    Parameters
    ----------
    params : dict of float32 arrays by name
    weights : str
        "float32" changes nothing, "bfloat16" or "int8" the matrices (`is_matrix`).

    Raises
    ------
    UnrolledError
        If there is no such form, or a number is not finite, or too large for it.

    Examples
    --------
    >>> w = {"decoder.weight": np.float32([[127, 1.4, -0.6], [0, 0, 0]])}
    >>> rounded(w, "int8")["decoder.weight"].tolist()
    [[127.0, 1.0, -1.0], [0.0, 0.0, 0.0]]
    """
    return unpacked(packed(params, weights), weights)


def form_of(params: Mapping[str, Array], weights: str) -> str:
    """Return the form whose numbers these are: `weights`, but "float32" once training or a caller has changed them."""
    if check_choice("form of weights", weights, WEIGHTS) == "float32":
        return weights
    try:
        same = all(np.array_equal(p, params[name]) for name, p in rounded(params, weights).items())
    except UnrolledError:
        return "float32"
    return weights if same else "float32"


def packed(params: Mapping[str, Array], weights: str) -> dict[str, Array]:
    """Return the small form: bfloat16 as its 16 bits (uint16); int8, and `<name>.scale` (rows,) in float32."""
    arrays = dict(params)
    for name in _matrices(params, weights):
        if not np.isfinite(params[name]).all():
            raise UnrolledError(f"{name} holds values that are not finite")
        with np.errstate(over="ignore", invalid="ignore"):
            small = {name: upper_half(params[name])} if weights == "bfloat16" else _int8(name, params[name])
            large = not all(np.isfinite(p).all() for p in unpacked(small, weights).values())
        if large:
            raise UnrolledError(f"{name} has numbers too large for {weights}")
        arrays |= small
    return arrays


def unpacked(arrays: Mapping[str, Array], weights: str) -> dict[str, Array]:
    """Return the float32 arrays of a small form."""
    params = {name: array for name, array in arrays.items() if not _is_scale(name)}
    for name in _matrices(params, weights):
        if weights == "bfloat16":
            params[name] = (arrays[name].astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            params[name] = arrays[name].astype(np.float32) * arrays[name + SCALE][:, None]
    return params


def packed_layout(
    shapes: Mapping[str, tuple[int, ...]], weights: str
) -> tuple[dict[str, tuple[int, ...]], dict[str, np.dtype[Any]]]:
    """Return the shapes of the small form's arrays, and the numbers of those that are not the network's."""
    layout, small = dict(shapes), dict[str, np.dtype[Any]]()
    for name in _matrices(shapes, weights):
        small[name] = _BITS[weights]
        if weights == "int8":
            layout[name + SCALE] = shapes[name][:1]
    return layout, small


def check_packed(arrays: Mapping[str, Array], weights: str) -> None:
    """Refuse int8 that rounding does not make: its products would be inexact, or its scales not be found again."""
    for name in _matrices(arrays, weights) if weights == "int8" else ():
        q, scale = arrays[name], arrays[name + SCALE]
        if not _is_scales(scale):
            raise UnrolledError(
                f"{name}{SCALE} holds what is no scale: each is 0, or positive, of 16 significant bits, 127 s finite"
            )
        largest = np.abs(q.astype(np.int16)).max(axis=1)
        if not np.array_equal(largest, np.where(scale > 0, _LARGEST, 0)):
            raise UnrolledError(
                f"{name} holds rows whose largest number is not 127, as rounding makes it; 0 at scale 0"
            )


def _matrices(names: Iterable[str], weights: str) -> list[str]:
    return [name for name in names if weights != "float32" and is_matrix(name)]


def _is_scale(name: str) -> bool:
    return name.endswith(SCALE) and is_matrix(name.removesuffix(SCALE))


def _is_scales(scale: Array) -> bool:
    kinds = np.finfo(np.float32)
    normal = (scale == 0) | ((scale >= kinds.tiny) & (scale <= kinds.max / np.float32(_LARGEST)))
    return bool((normal & (scale.view(np.uint32) & np.uint32(0x800000FF) == 0)).all())


def _int8(name: str, w: Array) -> dict[str, Array]:
    """Round the rows of w (R, C): q (R, C) and the scales s (R,); a row of less than float32's normal numbers is 0."""
    scale = np.abs(w).max(axis=1).astype(np.float32) / np.float32(_LARGEST)
    up = (scale.view(np.uint32) + np.uint32(0xFF)) & ~np.uint32(0xFF)  # of 24 significant bits the last 8 are cut off
    scale = np.where(scale >= np.finfo(np.float32).tiny, up.view(np.float32), np.float32(0))
    q = np.rint(w / np.where(scale > 0, scale, np.float32(1))[:, None])
    return {name: np.where(scale[:, None] > 0, q, 0).astype(np.int8), name + SCALE: scale}
