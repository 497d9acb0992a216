"""A cell's settings as one text, as options, files and the command line have them."""

import math
import re

from ..errors import UnrolledError, brief


def parse_settings(text: str) -> dict[str, float | str]:
    """Return what "dt=0.05,activation=relu" says: numbers, and names of activations.

    Raises
    ------
    UnrolledError
        If a part is not NAME=VALUE, or a name comes twice.

    Examples
    --------
    >>> parse_settings("dt=0.05,activation=relu")
    {'dt': 0.05, 'activation': 'relu'}
    >>> parse_settings("dt")
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: cell_settings has 'dt'; expected NAME=VALUE, such as dt=0.05
    """
    parts = [part.strip().partition("=") for part in text.split(",")] if text.strip() else []
    wrong = [name + sign + value for name, sign, value in parts if not (name.strip() and value.strip())]
    names = [name.strip() for name, _, _ in parts]
    if wrong:
        raise UnrolledError(f"cell_settings has {brief(wrong[0])}; expected NAME=VALUE, such as dt=0.05")
    if len(set(names)) < len(names):
        raise UnrolledError(f"cell_settings names {brief(max(names, key=names.count))} twice")
    return dict(zip(names, (_value(value.strip()) for _, _, value in parts), strict=True))


def _value(text: str) -> float | str:
    """Return a number, or the name of an activation."""
    value = float(text) if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text) else math.inf
    return value if math.isfinite(value) else text
