"""Masks of dropout and zoneout: what they are called and how large they are, how they are drawn, checked and used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..backends.base import Backend
from ..checks import Array, Kept, array_dtype, as_array, read_only
from ..errors import UnrolledError, brief, listed
from ..reference.layers import draw_mask, dropout
from .stack import DROPPING, Stack, suffix

Masks = dict[str, Array]
"""Masks by name, as `Recurrent.draw_masks` draws them; True is kept (in zoneout: keeps its old value)."""


BEFORE = ("embedding", "words", "input")
"""Masks of what stands before a stack: of symbols (V,), of words (T, B), and of what its first layer reads."""

Rates = dict[str, tuple[tuple[int, ...], float]]
"""Shape and rate of every mask of a pass, by name."""


def stack_rates(stack: Stack, steps: int, batch: int) -> Rates:
    """Return the masks of a stack's pass."""
    found: Rates = {}
    for layer in range(stack.num_layers - 1):
        width = stack.width(layer)
        found[f"dropout_l{layer}"] = (steps, batch, width), stack.dropout
        found[f"locked_l{layer}"] = (1, batch, width), stack.locked_dropout
    for layer, d in stack.passes():
        end = suffix(layer, d)
        found[f"recurrent{end}"] = (steps, batch, stack.hidden_sizes[layer]), stack.recurrent_dropout
        if stack.weight_drop:
            found[f"weight_hh{end}"] = stack.local_shapes(layer)["weight_hh"], stack.weight_drop
        for name, width in stack.states.widths[layer].items():
            rate = {"h": stack.zoneout, "c": stack.zoneout_cell}.get(name, 0.0)
            found[f"zoneout_{name}{end}"] = (steps, batch, width), rate
    return {name: (shape, rate) for name, (shape, rate) in found.items() if rate}


def outer_rates(stack: Stack, batch: int, dropped: Mapping[str, tuple[int, float]], around: Rates) -> Rates:
    """Return the masks around a stack: `dropped` behind its last layer, of so many steps each, and those before it."""
    last, width = stack.num_layers - 1, stack.output_size
    rates: Rates = {f"{kind}_l{last}": ((steps, batch, width), rate) for kind, (steps, rate) in dropped.items()}
    rates |= around
    return {name: (shape, rate) for name, (shape, rate) in rates.items() if rate}


def drop_outer(backend: Backend, y: Array, masks: Masks | None, outer: Rates) -> Array:
    """Dropout between the last layer and the head; its own gradient."""
    for name, (_, rate) in outer.items():
        y = y if masks is None or name in BEFORE else backend.dropout(y, masks[name], rate)
    return y


def drop_input(backend: Backend, x: Array, masks: Masks | None, rate: float) -> Array:
    """Dropout of what the first layer reads; its own gradient."""
    return x if masks is None or "input" not in masks else backend.dropout(x, masks["input"], rate)


def drop_words(tokens: Array, masks: Masks | None) -> Array:
    """Tokens (T, B), 0 where a word is dropped."""
    return tokens if masks is None or "words" not in masks else np.where(masks["words"], tokens, tokens.dtype.type(0))


def sample_masks(rates: Rates, rng: np.random.Generator) -> Masks | None:
    """Draw masks, in this order; None if there is nothing to draw."""
    kept = {name: draw_mask(rng, shape, rate) for name, (shape, rate) in rates.items()}
    return {name: ~m if name.startswith("zoneout") else m for name, m in kept.items()} or None


def check_masks(masks: Any, rates: Rates, *, own: bool) -> Masks | None:
    """Check the masks of a pass, and copy them to `own`; an empty dictionary says that nothing is to be dropped."""
    expected = {name: shape for name, (shape, _) in rates.items()}
    if isinstance(masks, dict) and not masks:
        return None
    given = as_masks(masks) if isinstance(masks, dict) else None
    got = type(masks).__name__ if given is None else {listed([name]): m.shape for name, m in given.items()}
    if given is None or got != expected:
        raise UnrolledError(f"masks are {got}; expected {expected}, as draw_masks gives them")
    return {name: read_only(m.copy()) for name, m in given.items()} if own else given


def check_outer(masks: Any, outer: Rates, *, own: bool) -> tuple[Masks | None, Masks | None]:
    """Check the masks around a stack, copied to `own`; return all masks, and the stack's."""
    if masks is None or (isinstance(masks, Mapping) and not masks):
        return None, None
    if not isinstance(masks, Mapping):
        raise UnrolledError(f"masks are {brief(masks)}; expected what draw_masks gives")
    given = as_masks(masks)
    for name, (shape, _) in outer.items():
        if name not in given or given[name].shape != shape:
            raise UnrolledError(f"masks have no {name} of shape {shape}; draw them for these steps and rows")
    given = Kept({name: read_only(m.copy()) for name, m in given.items()}) if own else given
    return given, {name: mask for name, mask in given.items() if name not in outer} or None


def drop_outputs(x: Array, masks: Masks | None, stack: Stack, layer: int) -> Array:
    """Dropout behind a layer; its own gradient."""
    if not masks:
        return x
    for kind, rate in (("dropout", stack.dropout), ("locked", stack.locked_dropout)):
        mask = masks.get(f"{kind}_l{layer}")
        x = x if mask is None else dropout(x, mask, rate)
    return x


def drop_weight(weight: Array, masks: Masks | None, stack: Stack, end: str) -> Array:
    """DropConnect of a layer's `weight_hh`; its own gradient."""
    mask = (masks or {}).get(f"weight_hh{end}")
    return weight if mask is None else dropout(weight, mask, stack.weight_drop)


def keep_and_drop(masks: Masks | None, stack: Stack, layer: int, direction: int) -> tuple[Any, Array | None]:
    """Return a scan's `keep` (masks, or rates where there are none) and `drop`, in the order in which it reads time."""
    if not (stack.zoneout or stack.zoneout_cell or stack.recurrent_dropout):
        return None, None
    masks, end, flip = masks or {}, suffix(layer, direction), slice(None, None, -1 if direction else 1)
    rates = {"h": stack.zoneout, "c": stack.zoneout_cell}
    kept = [
        masks[name][flip] if (name := f"zoneout_{field}{end}") in masks else rates.get(field) or None
        for field in stack.cell.state_fields
    ]
    mask, drop = masks.get(f"recurrent{end}"), None
    if mask is not None:
        drop = read_only(np.where(mask[flip], 1 / (1 - stack.recurrent_dropout), 0).astype(array_dtype(stack.dtype)))
    return stack.cell.state(*kept) if any(m is not None for m in kept) else None, drop


def why_idle(stack: Stack, rng: Any) -> str | None:
    """Return which rate of dropout changes nothing in a pass without masks, and why."""
    rates = [name for name in DROPPING if getattr(stack, name)]
    between = [name for name in rates if name in ("dropout", "locked_dropout") and stack.num_layers == 1]
    if between:
        why = "it acts between layers, and this network has one"
    elif rates and rng is None:
        why = "forward was given neither rng nor masks (masks={} says that this is meant)"
    else:
        return None
    name = (between or rates)[0]
    return f"{name} is {getattr(stack, name)}, and nothing is dropped: {why}"


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
