"""Where the recurrence runs: `choose(name)` gives a backend, or says why not."""

from __future__ import annotations

from typing import Any, Protocol

from .. import scan
from ..cells import Cell
from ..errors import UnrolledError, suggest


class Backend(Protocol):
    """One layer, one direction: see `unrolled.scan.forward` and `unrolled.scan.backward` for the contract."""

    name: str

    def forward(
        self,
        cell: Cell,
        w: scan.Params,
        x: scan.Array,
        s: Any,
        *,
        live: scan.Array | None = None,
        keep: Any = None,
        record: bool = True,
    ) -> tuple[scan.Array, Any, Any]:
        """Run all steps: outputs, final state, tape."""

    def backward(self, tape: Any, dy: scan.Array, ds: Any) -> tuple[scan.Array | None, Any, dict[str, scan.Array]]:
        """Carry gradients back: dx, gradient of the initial state, gradients of the parameters."""


class Reference:
    """NumPy, any dtype, any cell."""

    name = "reference"
    forward = staticmethod(scan.forward)
    backward = staticmethod(scan.backward)


BACKENDS: dict[str, Backend] = {"reference": Reference()}


def choose(name: str) -> Backend:
    """Return the backend of that name; `auto` is the fastest that works here.

    Examples
    --------
    >>> choose("auto").name
    'reference'
    """
    if name == "auto":
        return BACKENDS["reference"]
    if name not in BACKENDS:
        raise UnrolledError(suggest("backend", name, ["auto", *BACKENDS]))
    return BACKENDS[name]
