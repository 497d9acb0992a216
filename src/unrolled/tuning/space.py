"""The settings that a search draws from, declared for each kind of model.

A setting says how it differs from what is chosen automatically (`unrolled.models.automatic`), as a factor, a step up or
down, or another name. So it fits every rung of a search: more time makes a larger network of it, as of the automatic
choice, and none wins a short rung because it is small. The setting that changes nothing is the automatic choice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..nn.pools import POOLS
from ..schema import Kind, number, one_of

Setting = Mapping[str, Any]
"""Options by name, each with what was drawn for it."""


class Dimension(Protocol):
    """A dimension of a space: what is drawn for an option, and what comes of it."""

    def drawn(self, rng: np.random.Generator) -> Any:
        """Return a draw, as JSON holds it."""

    @property
    def kind(self) -> Kind:
        """The kind of a draw in a file."""

    def of(self, usual: Any, draw: Any) -> Any:
        """Return the option's value: its usual one, changed by a draw."""

    def __str__(self) -> str:
        """Return the dimension in words."""


@dataclass(frozen=True)
class Times:
    """A number times a factor whose logarithm is uniform; whole numbers are rounded to multiples of `unit`."""

    least: float
    most: float
    unit: int = 1

    def drawn(self, rng: np.random.Generator) -> float:
        """Return a factor of three digits."""
        return float(f"{math.exp(rng.uniform(math.log(self.least), math.log(self.most))):.3g}")

    @property
    def kind(self) -> Kind:
        """Factors in the range, whose ends have three digits too."""
        return number(float(f"{self.least:.3g}"), float(f"{self.most:.3g}"))

    def of(self, usual: Any, draw: Any) -> Any:
        """Return the product."""
        if isinstance(usual, int):
            return max(1, round(usual * draw / self.unit)) * self.unit
        return float(f"{usual * draw:.3g}")

    def __str__(self) -> str:
        """Return the range."""
        return f"{self.least:.3g} to {self.most:.3g} times the automatic one"


@dataclass(frozen=True)
class Plus:
    """A share, higher or lower by one of some steps; never below 0 or above `most`."""

    steps: tuple[float, ...]
    most: float = 0.8

    def drawn(self, rng: np.random.Generator) -> float:
        """Return a step."""
        return self.steps[int(rng.integers(len(self.steps)))]

    @property
    def kind(self) -> Kind:
        """Numbers from the least step to the largest."""
        return number(min(self.steps), max(self.steps))

    def of(self, usual: Any, draw: Any) -> float:
        """Return the sum."""
        return round(min(self.most, max(0.0, float(usual + draw))), 3)

    def __str__(self) -> str:
        """Return the steps."""
        return f"the automatic one {', '.join(f'{step:+g}' for step in self.steps)}"


@dataclass(frozen=True)
class Among:
    """One of some values, whatever the usual one is; the likelier, the more often it is named."""

    values: tuple[Any, ...]

    def drawn(self, rng: np.random.Generator) -> Any:
        """Return a value."""
        return self.values[int(rng.integers(len(self.values)))]

    @property
    def kind(self) -> Kind:
        """The values."""
        return one_of(self.values)

    def of(self, usual: Any, draw: Any) -> Any:
        """Return what was drawn."""
        return draw

    def __str__(self) -> str:
        """Return the values."""
        return " or ".join(dict.fromkeys(map(str, self.values)))


FIRST = ("cell", "num_layers", "hidden_size")
"""Options that are changed first: what is chosen of the others follows from them."""
_NETWORK: dict[str, Dimension] = {
    "cell": Among(("gru_reset_after", "lstm")),
    "num_layers": Among((1, 1, 2)),
    "hidden_size": Times(1 / 2, 2, unit=8),
}
_SHARE = Plus((-0.2, -0.1, 0.0, 0.1, 0.2))
_LEARNING: dict[str, Dimension] = {
    "learning_rate": Times(1 / 3, 3),
    "dropout": _SHARE,
    "batch_size": Times(1 / 2, 2),
}
SPACE: dict[str, dict[str, Dimension]] = {
    "language": _NETWORK | _LEARNING | {"seq_length": Times(1 / 2, 2)},
    "tag": _NETWORK | _LEARNING | {"input_dropout": _SHARE},
    "classify": _NETWORK | _LEARNING | {"word_dropout": _SHARE, "pooling": Among(tuple(POOLS))},
    "forecast": _NETWORK | _LEARNING | {"instance": Among(("last", "mean"))},
}
"""Dimensions of the options of each kind of model, by its task."""


def settings(task: str, fixed: Mapping[str, Any], count: int, seed: int) -> list[Setting]:
    """Return settings to try: the automatic choice, which changes nothing, and others, drawn by the seed.

    The k-th is the same however many there are, and whatever is fixed, which is left out of it.

    Examples
    --------
    >>> automatic, one = settings("language", {"cell": "lstm", "num_layers": 1}, count=2, seed=1)
    >>> automatic, sorted(one)
    ({}, ['batch_size', 'dropout', 'hidden_size', 'learning_rate', 'seq_length'])
    """
    out = {*fixed, *(["num_layers"] if isinstance(fixed.get("hidden_size"), tuple) else [])}
    drawn: list[Setting] = [{}]
    for k in range(1, count):
        rng = np.random.default_rng([seed, k])
        every = {name: dimension.drawn(rng) for name, dimension in SPACE[task].items()}
        drawn.append({name: value for name, value in every.items() if name not in out})
    return drawn
