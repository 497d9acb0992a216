"""Where the recurrence runs: `choose(name)` gives a backend, or says why not."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

from .. import layers, losses, scan
from ..cells import Cell
from ..checks import Array
from ..errors import UnrolledError, Unsupported, suggest


class Backend(Protocol):
    """Where a network's work is done: the recurrence (contract in `unrolled.scan`), and what stands around it."""

    name: str

    def forward(
        self,
        cell: Cell,
        w: scan.Params,
        x: Array,
        s: Any,
        *,
        live: Array | None = None,
        keep: Any = None,
        record: bool = True,
        drop: Array | None = None,
    ) -> tuple[Array, Any, Any]:
        """Run all steps: outputs, final state, tape."""

    def backward(self, tape: Any, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """Carry gradients back: dx, gradient of the initial state, gradients of the parameters."""

    def linear(self, weight: Array, bias: Array | None, x: Array) -> Array:
        """See `unrolled.layers.linear`."""

    def linear_backward(self, weight: Array, x: Array, dy: Array) -> tuple[Array, Array, Array]:
        """See `unrolled.layers.linear_backward`."""

    def embed_backward(self, tokens: Array, dx: Array, size: int) -> Array:
        """See `unrolled.layers.embed_backward`."""

    def cross_entropy(
        self,
        logits: Array,
        targets: Array,
        *,
        gradient: bool = True,
        overwrite: bool = False,
        smoothing: float = 0,
    ) -> tuple[float, Array]:
        """See `unrolled.losses.cross_entropy`."""


class Reference:
    """NumPy, any dtype, any cell."""

    name = "reference"
    forward = staticmethod(scan.forward)
    backward = staticmethod(scan.backward)
    linear = staticmethod(layers.linear)
    linear_backward = staticmethod(layers.linear_backward)
    embed_backward = staticmethod(layers.embed_backward)
    cross_entropy = staticmethod(losses.cross_entropy)


REFERENCE = Reference()


def _load() -> tuple[dict[str, Backend], str, str]:
    """Return the backends of this installation, why the native one is not among them, and what its settings have wrong.

    Nothing is raised here: a mistake in an environment variable is said when a backend is chosen.
    """
    if find_spec("._engine", __package__) is None:
        why = "the native engine was not built when this was installed, since no C++ compiler worked"
        return {"auto": REFERENCE, "reference": REFERENCE}, why, ""
    try:
        from . import cpu
    except ImportError as error:
        return {"auto": REFERENCE, "reference": REFERENCE}, f"the native engine did not load ({error})", ""
    backends: dict[str, Backend] = {"auto": cpu.Auto(), "cpu": cpu.Cpu(), "reference": REFERENCE}
    try:
        cpu.use_environment()
    except UnrolledError as error:
        return backends, "", str(error)
    return backends, "", ""


BACKENDS, _missing, _mistake = _load()


def choose(name: str) -> Backend:
    """Return the backend of that name; `auto` is the fastest that works here.

    Raises
    ------
    UnrolledError
        If there is no such backend, or the native engine is asked for and was not built; the message says why.

    Examples
    --------
    >>> choose("reference").name
    'reference'
    """
    if _mistake and name != "reference":
        raise UnrolledError(_mistake)
    if name == "cpu" and _missing:
        raise Unsupported(f"backend 'cpu': {_missing}. Install with a C++ compiler at hand, or use 'auto'.")
    if not isinstance(name, str) or name not in BACKENDS:
        raise UnrolledError(suggest("backend", str(name), list(BACKENDS)))
    return BACKENDS[name]


def set_threads(n: int) -> None:
    """Let the native engine use `n` threads; its results are the same, to the bit, for every number.

    Raises
    ------
    UnrolledError
        If `n` is no number of threads, or the engine is not there.
    """
    if _missing:
        raise Unsupported(f"the number of threads is the native engine's, but {_missing}")
    from . import cpu

    cpu.set_threads(n)


def kernels(backend: str, *arrays: Any) -> ModuleType | None:
    """Return the engine's functions around the recurrence, or None where NumPy works on these arrays.

    Examples
    --------
    >>> kernels("reference") is None
    True
    """
    if choose(backend).name == "reference":
        return None
    from . import cpu_layers

    return cpu_layers if cpu_layers.runs(*arrays) else None


def drawer(
    backend: str, cell: Cell, layers: Any, embedding: Any, weight: Any, bias: Any, state: Any, length: int
) -> Any:
    """Return the engine's `cpu_draw.Drawer` of a network, or None where it has no kernels for it."""
    arrays = [p for layer in layers for p in layer.values()]
    if kernels(backend, weight, bias, embedding, *arrays) is None or not has_kernel(cell):
        return None
    from .cpu_draw import Drawer

    return Drawer(cell, layers, embedding, weight, bias, state, length)


def threads() -> int:
    """Return how many threads the native engine uses; 1 without it."""
    if _missing:
        return 1
    from . import cpu

    return cpu.get_threads()


def undisturbed(backend: str) -> AbstractContextManager[Any]:
    """Keep BLAS to one thread where the engine's threads do the work: two pools that spin slow each other down.

    Examples
    --------
    >>> with undisturbed("reference"):
    ...     pass
    """
    if backend == "reference":
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")  # type: ignore[no-any-return]


def describe() -> str:
    """Say in a line what runs the recurrence here.

    Examples
    --------
    >>> describe().split(":")[0]
    'engine'
    """
    if _missing:
        return f"engine: none, NumPy runs instead: {_missing}"
    from . import cpu

    count = cpu.get_threads()
    return f"engine: native, {cpu.instruction_set()}, {count} thread{'s' if count > 1 else ''}"


def has_kernel(cell: Cell) -> bool:
    """Whether the engine has kernels of a cell's own; what else it runs, its block evaluator interprets.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> has_kernel(CELLS["lstm_use_gate"])
    False
    """
    if _missing:
        return False
    from . import cpu

    return cpu.has_kernel(cell)


def reason(cell: Cell, dtype: Any = "float32") -> str | None:
    """Say why `auto` runs a cell on the reference; None if the native engine runs it.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> reason(CELLS["lstm"], "complex128") is None
    False
    """
    if _missing:
        return _missing
    from . import cpu

    return cpu.reason(cell, dtype)
