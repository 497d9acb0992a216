"""A network's weights: its parameters by name, the stack that shares them, states and masks to begin with."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from .. import backends
from ..checks import ROUNDED, Array, array_dtype, check_memory, check_rng, check_size
from ..errors import UnrolledError, brief
from ..seeding import generator
from . import rounding
from .adaptive import of_spec
from .heads import LANGUAGE, Head, as_scores, check_head
from .initializers import initialise_ends, table_of
from .masks import Masks, Rates, outer_rates, sample_masks, stack_rates
from .params import Parametric, Params, usable
from .recurrent import Recurrent
from .spec import Spec

TABLE = "embedding.weight"


class WeightedNetwork(Parametric, derived=("recurrent",)):
    """A network and its weights; `Network` runs it, and says what it is made of."""

    weights: str = "float32"
    """Form of the weights in a file, and for sampling (`rounding.WEIGHTS`); the arrays are float32 of those values."""

    def __init__(
        self,
        spec: Spec,
        *,
        backend: str = "auto",
        rng: np.random.Generator | int | None = None,
        head: Head = LANGUAGE,
    ) -> None:
        if not isinstance(spec, Spec):
            raise UnrolledError(f"spec is {brief(spec)}; expected a Spec, such as unrolled.Spec(vocabulary_size=65)")
        head = check_head(head, spec)
        spec.check()
        self.spec, self.head = spec, of_spec(spec, head) or head
        head = self.head
        size, width = spec.vocabulary_size, spec.embedding_size
        shapes = spec.shapes(head)
        check_memory(sum(map(math.prod, shapes.values())), array_dtype(spec.dtype))
        rng, dtype = generator(rng), array_dtype(spec.dtype)
        table = rng.standard_normal((size, width)).astype(dtype) if width else None
        how: dict[str, Any] = {"backend": backend, "rng": rng}
        params, self._speller = dict[str, Array](), None
        if spec.characters:
            width, units = spec.characters_embedding_size, spec.characters_hidden_size
            params[f"characters.{TABLE}"] = table_of(spec.init, (spec.characters, width), rng, dtype)
            self._speller = Recurrent(spec.cell, width, units, **spec.speller_options(), **how)
            params |= {f"characters.recurrent.{name}": p for name, p in self._speller.params.items()}
        self._recurrent = Recurrent(spec.cell, spec.input_size, spec.widths, **spec.stack_options(), **how)
        params |= {f"recurrent.{name}": p for name, p in self._recurrent.params.items()}
        shape = head.outputs or size, self._recurrent.output_size
        params = initialise_ends(spec.init, table, params, shape, rng, dtype, tied=spec.tied)
        params |= {name: np.zeros(shape, dtype) for name, shape in shapes.items() if name not in params}
        self._params = Params(params)
        self._backend = backends.of_dtype(backends.choose(backend), spec.dtype)
        self._warned = False

    @property
    def recurrent(self) -> Recurrent:
        """The stack; its parameters are these arrays."""
        return self._recurrent

    def _decoder(self, params: Mapping[str, Array]) -> Array:
        """The decoder's weight (V, H)."""
        return params["embedding.weight" if self.spec.tied else "decoder.weight"]

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(p.size for p in self._params.values())

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Self:
        """Return the same network on other arrays, used as they are (the proofs pass complex ones)."""
        other = self._on(usable(params, self._params), backend)
        for stack in (other._recurrent, other._speller):
            if stack is not None:
                stack._complex = True
        return other

    def _on(self, params: Params, backend: str | None = None) -> Self:
        """Return the same network on these very arrays."""
        other = copy.copy(self)
        other._params = params
        other._recurrent = self._recurrent._on(self._own("recurrent.", params), backend)
        if self._speller is not None:
            other._speller = self._speller._on(self._own("characters.recurrent.", params), backend)
        chosen = self._backend if backend is None else backends.choose(backend)
        other._backend = backends.of_dtype(chosen, other._recurrent.dtype)
        return other

    @staticmethod
    def _own(prefix: str, params: Mapping[str, Array]) -> Params:
        """The parameters of a stack within the network's."""
        return Params({name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)})

    def zero_state(self, batch: int) -> Any:
        """State of zeros, as `Recurrent.zero_state`."""
        return self.recurrent.zero_state(batch)

    def initial_state(self, batch: int) -> Any:
        """Return the state that a text begins with: zeros, or the trained one."""
        return self.recurrent.initial_state(batch)

    def draw_masks(self, steps: int, batch: int, rng: np.random.Generator | int) -> Masks | None:
        """Draw the masks of one forward pass: the stack's, those behind its last layer, and those before it.

        `embedding` (V,), `words` (T, B) and `input` (T, B, I) are True where symbols, words and numbers are kept.
        """
        steps, batch, rng = check_size("steps", steps, 0), check_size("batch", batch, 0), check_rng(rng)
        return sample_masks(stack_rates(self._recurrent, steps, batch) | self._outer_rates(steps, batch), rng)

    def _outer_rates(self, steps: int, batch: int) -> Rates:
        """Masks between the last layer and the head, and before the first."""
        spec = self.spec
        dropped = {"dropout": (steps, spec.dropout), "locked": (1, spec.locked_dropout)}
        before: Rates = {
            "embedding": ((spec.vocabulary_size,), spec.embedding_dropout),
            "words": ((steps, batch), spec.word_dropout),
            "input": ((steps, batch, spec.input_size), spec.input_dropout),
        }
        return outer_rates(self._recurrent, batch, dropped, before)

    def sampler(self, state: Any, length: int, rows: int = 1) -> Any:
        """Return what samples about `length` tokens from this state (L, 1, H), many a call; None without the engine.

        It has several rows, each with a state of its own, where many texts are drawn at once.

        The state None is the network's own initial one.
        The engine's knows plain stacks: no mixtures of zoneout, no projection, no residual layers, one width.
        """
        spec, length, rows = self.spec, check_size("length", length, least=0), check_size("rows", rows, least=1)
        states, cast = self._recurrent.states, self._recurrent._cast
        if spec.bidirectional:
            raise UnrolledError("a bidirectional network samples nothing: it reads whole sequences")
        state = self.initial_state(1) if state is None else states.take(state, 1, cast)
        if not self._plain or self._recurrent.dtype == ROUNDED or self.head.scores is not as_scores:
            return None
        return backends.choose(self.recurrent.backend).sampler(
            self.recurrent.cell,
            self.recurrent.layer_params(),
            self.params.get("embedding.weight"),
            self._decoder(self._params),
            self.params["decoder.bias"],
            state,
            length,
            rounding.form_of(self.params, self.weights),
            rows,
        )

    @property
    def _plain(self) -> bool:
        """Whether the stack is one that the engine's sampler knows."""
        spec = self.spec
        return not (spec.zoneout or spec.zoneout_cell or spec.proj_size or spec.residual or len(set(spec.widths)) > 1)

    def __repr__(self) -> str:
        spec, size = self.spec, self.spec.vocabulary_size
        return (
            f"Network({spec.cell!r}, vocabulary_size={size}, embedding_size={spec.embedding_size}, "
            f"hidden_size={spec.hidden_size}, num_layers={spec.num_layers}, {self.parameter_count:,} parameters, "
            f"{self.recurrent.backend})"
        )
