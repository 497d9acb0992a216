"""A backend: the work of a network that can be done in more than one way; and the one that all are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from ..cells import Cell
from ..checks import Array
from ..reference import layers, losses, scan, updates
from ..rules import Rule

Arrays = Sequence[Array]

PAYS = 8
"""A table of the first layer's pre-activations by symbol pays where symbols are at most so many times the tokens."""


class Backend(Protocol):
    """Where a network's work is done: the recurrence (see `unrolled.reference.scan`), and what stands around it."""

    name: str

    def forward(
        self,
        cell: Cell,
        w: scan.Params,
        x: Array,
        s: Any,
        masks: scan.ScanMasks = scan.UNMASKED,
        *,
        record: bool = True,
        rounds: bool = False,
    ) -> tuple[Array, Any, Any]:
        """Run all steps: outputs, final state, tape."""

    def backward(self, tape: Any, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """Carry gradients back: dx, gradient of the initial state, gradients of the parameters."""

    def linear(self, weight: Array, bias: Array | None, x: Array, *, rounds: bool = False) -> Array:
        """See `unrolled.reference.layers.linear`."""

    def linear_backward(
        self, weight: Array, x: Array, dy: Array, *, rounds: bool = False
    ) -> tuple[Array, Array, Array]:
        """See `unrolled.reference.layers.linear_backward`."""

    def dropout(self, x: Array, mask: Array, rate: float) -> Array:
        """See `unrolled.reference.layers.dropout`."""

    def embed(self, weight: Array, tokens: Array) -> Array:
        """See `unrolled.reference.layers.embed`."""

    def embed_backward(self, tokens: Array, dx: Array, size: int) -> Array:
        """See `unrolled.reference.layers.embed_backward`."""

    def cross_entropy(
        self,
        logits: Array,
        targets: Array,
        *,
        gradient: bool = True,
        overwrite: bool = False,
        smoothing: float = 0,
        weights: Array | None = None,
    ) -> tuple[float, Array]:
        """See `unrolled.reference.losses.cross_entropy`."""

    def update(
        self,
        rule: Rule,
        params: Arrays,
        grads: Arrays,
        moments: Sequence[Arrays],
        constants: Sequence[float],
        decay: float,
    ) -> None:
        """See `unrolled.reference.updates.update`."""

    def norm(self, arrays: Arrays) -> float:
        """See `unrolled.reference.updates.norm`."""

    def scale(self, arrays: Arrays, factor: float) -> None:
        """See `unrolled.reference.updates.scale`."""

    def sampler(
        self,
        cell: Cell,
        layers: Sequence[scan.Params],
        embedding: Array | None,
        weight: Array,
        bias: Array,
        state: Any,
        length: int,
        weights: str = "float32",
        rows: int = 1,
    ) -> Any:
        """Return what samples many tokens a call (see `unrolled.backends.cpu.sampler`); None where nothing does."""


class Rounding:
    """A backend whose products round what they multiply to bfloat16 (see `unrolled.reference.operands`)."""

    def __init__(self, exact: Backend) -> None:
        self.exact, self.name = exact, exact.name
        self.forward = partial(exact.forward, rounds=True)
        self.linear = partial(exact.linear, rounds=True)
        self.linear_backward = partial(exact.linear_backward, rounds=True)

    def __getattr__(self, name: str) -> Any:
        """Return what holds no product, as it is."""
        return getattr(self.exact, name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it is made of."""
        return Rounding, (self.exact,)


class Reference:
    """NumPy, any dtype, any cell."""

    name = "reference"
    forward = staticmethod(scan.forward)
    backward = staticmethod(scan.backward)
    linear = staticmethod(layers.linear)
    linear_backward = staticmethod(layers.linear_backward)
    dropout = staticmethod(layers.dropout)
    embed = staticmethod(layers.embed)
    embed_backward = staticmethod(layers.embed_backward)
    cross_entropy = staticmethod(losses.cross_entropy)
    update = staticmethod(updates.update)
    norm = staticmethod(updates.norm)
    scale = staticmethod(updates.scale)

    @staticmethod
    def sampler(*_: Any) -> None:
        """Return None: a token is a step of the network here, as any other."""


REFERENCE = Reference()
