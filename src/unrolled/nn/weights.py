"""A stack with weights: its parameters by PyTorch's names, and the states that it begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from .. import backends
from ..cells import Cell
from ..checks import Array, Kept, array_dtype, check_size, read_only
from ..codegen.derive import complete
from ..errors import UnrolledError, suggest
from ..keywords import keyword, keywords_of, named
from ..seeding import generator
from .initializers import initialise
from .masks import Masks, drop_weight
from .params import Parametric, Params, usable
from .stack import Stack, suffix

KEYWORDS = [
    *keywords_of(Stack.__init__),
    keyword("backend", "auto", "str"),
    keyword("rng", None, "np.random.Generator | int | None"),
]
"""Options of `Recurrent`."""


class Weighted(Parametric, Stack, derived=("hidden_sizes",)):
    """A stack and its weights; `Recurrent` runs it, and says what its options are."""

    @named(KEYWORDS)
    def __init__(
        self,
        cell: str | Cell,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int | None = None,
        **options: Any,
    ) -> None:
        known = {p.name for p in KEYWORDS}
        for name in (name for name in options if name not in known):
            raise UnrolledError(suggest("option", name, list(self._options)))
        backend, rng = options.pop("backend", "auto"), options.pop("rng", None)
        super().__init__(cell, input_size, hidden_size, num_layers, **options)
        complete(self.cell)  # what it lacks and can't be derived is refused here
        self._backend = backends.choose_for(self.cell, self.dtype, backend)
        rng = generator(rng)
        self.check_memory()
        self._scanned = self.scanned()
        params: dict[str, Array] = {}
        for layer, d in self.passes():
            rule, shapes, hidden = self.init, self.local_shapes(layer), self.hidden_sizes[layer]
            drawn = initialise(rule, self.cell, shapes, hidden, rng, array_dtype(self.dtype), self.forget_bias)
            params |= {name + suffix(layer, d): p for name, p in drawn.items()}
        self._params = Params(params)
        self._complex = False
        self._warned = False
        self._made_by: Mapping[str, Any] | None = None
        """What its tapes say of it, once that is known."""

    @property
    def backend(self) -> str:
        """Name of the backend that runs this cell; `unrolled.backends.reason` says why it is not the engine."""
        return "reference" if backends.reason(self.cell, self.dtype) else self._backend.name

    def _param(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return a parameter after a look at its shape, which can be changed in place."""
        p = self._params[name]
        shape = (shape[0], self.input_size) if name in self.first else shape  # of a folded embedding: V columns
        if p.shape != shape:
            raise UnrolledError(f"{name} has shape {p.shape}; this network takes {shape}")
        return p

    def _weights(self, masks: Masks | None) -> list[dict[str, Array]]:
        """Return the parameters of every layer and direction by their local names, what masks drop of them left out."""
        found = [{name: self._param(full, shape) for name, full, shape in scanned} for scanned in self._scanned]
        if masks and self.weight_drop:
            for w, (layer, d) in zip(found, self.passes(), strict=True):
                w["weight_hh"] = read_only(drop_weight(w["weight_hh"], masks, self, suffix(layer, d)))
        return [Kept(w) for w in found]

    def layer_params(self) -> list[dict[str, Array]]:
        """Each layer's (and direction's) parameters, by their local names."""
        return self._weights(None)

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are, in their precision (proofs pass complex ones)."""
        other = self._on(usable(params, self._params), backend)
        other._complex = True
        return other

    def _on(self, params: Params, backend: str | None = None) -> Self:
        """Return the same network on these very arrays."""
        if all(p.dtype == np.float32 for p in params.values()):
            dtype = self.dtype if array_dtype(self.dtype) == "float32" else "float32"
        else:
            dtype = "float64"
        chosen = self._backend if backend is None else backends.choose(backend)
        return self._with(params, dtype=dtype, _backend=backends.of_dtype(chosen, dtype))

    def _with(self, params: Params, **other_than_here: Any) -> Self:
        """As `_on`, of arrays of the same precision."""
        other = object.__new__(type(self))
        other.__dict__ |= self.__dict__ | other_than_here | {"_params": params}
        if other_than_here:
            other._made_by = None
        return other

    def _reading(self, symbols: int, columns: Mapping[str, Array]) -> Self:
        """Return the same network that reads one-hot vectors of `symbols`, by these columns of its first weights."""
        return self._with(Params({**self._params, **columns}), input_size=symbols)

    def zero_state(self, batch: int) -> Any:
        """State of zeros: each field (L D, B, H); a tuple of one such State a layer where widths differ."""
        return self.states.zero(check_size("batch", batch, least=0), array_dtype(self.dtype))

    def initial_state(self, batch: int) -> Any:
        """Return the state that None stands for: zeros, or the parameters."""
        if not self.learn_state:
            return self.zero_state(batch)
        batch = check_size("batch", batch, least=0)
        self.states.check_memory(batch, array_dtype(self.dtype))
        states = []
        for layer, d in self.passes():
            widths = self.states.widths[layer]
            row = [self._param(f"initial_{name}{suffix(layer, d)}", (width,)) for name, width in widths.items()]
            states.append(self.cell.state(*[np.broadcast_to(a, (batch, len(a))) for a in row]))
        return self.states.join(states)

    def _begin(self, batch: int) -> list[Any]:
        """Return the state that None stands for, one State a pass."""
        if self.learn_state:
            return self.states.part(self.initial_state(batch))
        return self.states.zeros(batch, array_dtype(self.dtype))
