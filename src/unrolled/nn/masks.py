"""Masks of dropout and zoneout by name, as `draw_masks` of a stack or a network gives them, and parts of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..checks import Array, as_array
from ..errors import UnrolledError, listed

Masks = dict[str, Array]
"""Masks by name, as `Recurrent.draw_masks` draws them; True is kept (in zoneout: keeps its old value)."""


def as_masks(masks: Mapping[str, Any]) -> Masks:
    """Return masks as arrays; what is not bool would be weights, not a selection."""
    arrays = {name: as_array(f"mask {listed([name])}", m) for name, m in masks.items()}
    for name, m in arrays.items():
        if m.dtype != bool:
            raise UnrolledError(f"mask {listed([name])} is {m.dtype}; expected bool, as draw_masks gives it")
    return arrays


def part_masks(masks: Masks | None, steps: slice = slice(None), rows: Any = slice(None)) -> Masks | None:
    """Return the masks of some steps and rows of the batch; those of weights and symbols hold for a whole pass.

    Examples
    --------
    >>> masks = {"dropout_l0": np.ones((7, 3, 5), bool), "locked_l0": np.ones((1, 3, 5), bool)}
    >>> {name: mask.shape for name, mask in part_masks(masks, slice(2, 4)).items()}
    {'dropout_l0': (2, 3, 5), 'locked_l0': (1, 3, 5)}
    """
    if masks is None:
        return None
    return mapped(masks, lambda m: m[steps][:, rows], lambda m: m[:, rows])


def mapped(masks: Masks, stepwise: Callable[[Array], Array], shared: Callable[[Array], Array]) -> Masks:
    """Return masks put through functions: those of single steps (T, B, ...), and those shared by all steps (1, B, ...).

    Those of weights and symbols hold for a whole pass, whatever its rows.
    """
    whole_pass = ("weight_", "embedding")
    return {
        name: m if name.startswith(whole_pass) else shared(m) if name.startswith("locked") else stepwise(m)
        for name, m in masks.items()
    }
