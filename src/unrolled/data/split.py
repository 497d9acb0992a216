"""A text's tokens cut into parts to train on, to validate and to test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from ..checks import is_number
from ..errors import UnrolledError, brief
from .batches import Tokens, as_tokens


def split(
    tokens: Sequence[int] | NDArray[Any], val_fraction: float, test_fraction: float = 0.0
) -> tuple[Tokens, Tokens, Tokens]:
    """Cut tokens (N,) into (train, val, test): contiguous views in this order, val and test rounded to whole tokens.

    Raises
    ------
    UnrolledError
        If a fraction is negative or not a number, or the two leave nothing to train on.

    Examples
    --------
    >>> [part.tolist() for part in split([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0.2, 0.1)]
    [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9]]
    """
    ids = as_tokens(tokens)
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not is_number(fraction) or not 0 <= float(fraction) < 1:
            option = f"--{name.replace('_', '-')}"
            raise UnrolledError(f"{name} is {brief(fraction)}; it must be at least 0 and below 1 ({option})")
    if val_fraction + test_fraction >= 1:
        raise UnrolledError(
            f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing to train on; "
            "their sum must be below 1"
        )
    val, test = round(len(ids) * val_fraction), round(len(ids) * test_fraction)
    train = len(ids) - val - test
    return ids[:train], ids[train : train + val], ids[train + val :]
