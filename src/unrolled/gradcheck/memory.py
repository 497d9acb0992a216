"""mLSTM as the proofs see any stack: without masks, in one direction, from an initial state that is not trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ..checks import Array
from ..nn.mlstm import MLSTM

MATRIX: Any = SimpleNamespace(name="mlstm", params=None, normalised=True, sees_time=False)
"""What the proofs ask of a cell. What is read is divided by what the normaliser shows, which may happen to be small and
makes few directions steep, as normalised rows do. Parameters are one a gate, so that a name says which one is wrong."""
OPTIONS: dict[str, dict[str, Any]] = {
    "the cell itself": {},
    "two layers": {"num_layers": 2},
    "one head": {"heads": 1},
    "chunks of three": {"chunk_size": 3},
    "batch first": {"batch_first": True},
    "float64": {"dtype": "float64", "chunk_size": 4, "num_layers": 2},
}
"""Options of mLSTM. (The default chunk holds all steps of a proof.)"""
BACKENDS = ("reference", "chunkwise")


@dataclass(frozen=True)
class Maskless:
    """A network of mLSTM with what else the proofs ask of a stack."""

    net: MLSTM
    cell = MATRIX
    directions, bidirectional, learn_state = 1, False, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)

    def __call__(self, x: Any, state: Any = None) -> tuple[Array, Any]:
        """Inference."""
        return self.net(x, state)

    def forward(self, x: Any, state: Any = None, lengths: Any = None, *, masks: Any = None) -> tuple[Array, Any, Any]:
        """Forward, with no masks."""
        return self.net.forward(x, state, lengths)

    def draw_masks(self, *_: Any) -> None:
        """There is nothing to drop."""

    def with_params(self, params: Mapping[str, Array], backend: str | None = None) -> Maskless:
        """Return the same network on other arrays."""
        return Maskless(self.net.with_params(params, backend))


def build(options: dict[str, Any], backend: str) -> MLSTM:
    """Return a small network with these options."""
    return MLSTM(4, 6, **({"heads": 2, "key_size": 5} | options), backend=backend, rng=0)
