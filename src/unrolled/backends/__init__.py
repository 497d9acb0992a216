"""Where the recurrence runs: `choose(name)` gives a backend, or says why not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

from ..cells import Cell
from ..checks import Array
from ..errors import UnrolledError, Unsupported, brief, suggest, warn
from ..reference import layers, losses, scan


class Backend(Protocol):
    """Where a network's work is done: the recurrence (see `unrolled.reference.scan`), and what stands around it."""

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
        """See `unrolled.reference.layers.linear`."""

    def linear_backward(self, weight: Array, x: Array, dy: Array) -> tuple[Array, Array, Array]:
        """See `unrolled.reference.layers.linear_backward`."""

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
    ) -> tuple[float, Array]:
        """See `unrolled.reference.losses.cross_entropy`."""


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
    if find_spec(".cpu._engine", __package__) is None:
        why = "the native engine was not built when this was installed, since no C++ compiler worked"
        return {"auto": REFERENCE, "reference": REFERENCE}, why, ""
    try:
        from .cpu import kernels
    except ImportError as error:
        return {"auto": REFERENCE, "reference": REFERENCE}, f"the native engine did not load ({error})", ""
    backends: dict[str, Backend] = {"auto": kernels.Auto(), "cpu": kernels.Cpu(), "reference": REFERENCE}
    try:
        kernels.use_environment()
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
    if not isinstance(name, str):  # an array has no truth to compare with
        raise UnrolledError(f"backend is {brief(name)}; expected one of {', '.join(BACKENDS)}")
    if _mistake and name != "reference":
        raise UnrolledError(_mistake)
    if name == "cpu" and _missing:
        raise Unsupported(f"backend 'cpu': {_missing}. Install with a C++ compiler at hand, or use 'auto'.")
    if name not in BACKENDS:
        raise UnrolledError(suggest("backend", name, list(BACKENDS)))
    return BACKENDS[name]


def choose_for(cell: Cell, dtype: Any, name: str) -> Backend:
    """Return the backend of that name for a cell, with a warning where `auto` has to take NumPy instead of the engine.

    Raises
    ------
    UnrolledError
        As `choose`; or if the cell is none that the backend runs.
    """
    backend = choose(name)
    if backend.name == "reference" or (why := reason(cell, dtype)) is None:
        return backend
    if name == "cpu":
        raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")
    warn(f"{why}. NumPy runs it instead, which is slower; backend='reference' asks for that.")
    return backend


def set_threads(n: int) -> None:
    """Let the native engine use `n` threads; its results are the same, to the bit, for every number.

    Raises
    ------
    UnrolledError
        If `n` is no number of threads, or the engine is not there.
    """
    if _missing:
        raise Unsupported(f"the number of threads is the native engine's, but {_missing}")
    from .cpu import kernels

    kernels.set_threads(n)


def kernels(backend: str, *arrays: Any) -> ModuleType | None:
    """Return the engine's functions around the recurrence, or None where NumPy works on these arrays.

    Examples
    --------
    >>> kernels("reference") is None
    True
    """
    if choose(backend).name == "reference":
        return None
    from .cpu import layers

    return layers if layers.runs(*arrays) else None


def drawer(
    backend: str, cell: Cell, layers: Any, embedding: Any, weight: Any, bias: Any, state: Any, length: int
) -> Any:
    """Return the engine's `sampler.Drawer` of a network, or None where it has no kernels for it."""
    arrays = [p for layer in layers for p in layer.values()]
    if kernels(backend, weight, bias, embedding, *arrays) is None or not has_kernel(cell):
        return None
    from .cpu.sampler import Drawer

    return Drawer(cell, layers, embedding, weight, bias, state, length)


def trim() -> None:
    """Give the memory that the native engine keeps for its next step back to the system.

    Examples
    --------
    >>> trim()
    """
    if not _missing:
        from .cpu import _engine

        _engine.trim()


def threads() -> int:
    """Return how many threads the native engine uses; 1 without it."""
    if _missing:
        return 1
    from .cpu import kernels

    return kernels.get_threads()


class _OneBlasThread:
    """BLAS at one thread while anybody is in: the first notes what it had, the last gives it back.

    Saved and restored by each alone, two that overlap would give back what the other one had set, for ever.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.before: list[tuple[Any, int]] = []

    def enter(self) -> list[tuple[Any, int]]:
        """Return what the calling thread itself has to give back: the numbers of libraries that keep one a thread."""
        from threadpoolctl import ThreadpoolController

        with self.lock:
            found = [(lib, lib.num_threads) for lib in ThreadpoolController().select(user_api="blas").lib_controllers]
            if not self.inside:
                self.before = [(lib, n) for lib, n in found if not _per_thread(lib)]
            self.inside += 1
            _set((lib, 1) for lib, _ in found)
        return [(lib, n) for lib, n in found if _per_thread(lib)]

    def leave(self, own: list[tuple[Any, int]]) -> None:
        with self.lock:
            self.inside -= 1
            _set(own if self.inside else [*own, *self.before])


def _per_thread(lib: Any) -> bool:
    return lib.internal_api == "openblas" and getattr(lib, "threading_layer", "") == "openmp"


def _set(numbers: Iterable[tuple[Any, int]]) -> None:
    for lib, n in numbers:
        free = getattr(
            lib, "clear_controlling_thread", None
        )  # threadpoolctl lets one thread of the process set OpenBLAS:
        if free is not None:  # the first that did; but who leaves last may be another one
            free(force=True)
        lib.set_num_threads(n)
        if free is not None:
            free(force=True)


_one_blas_thread = _OneBlasThread()


@contextmanager
def undisturbed(backend: str) -> Iterator[None]:
    """Keep BLAS to one thread where the engine's threads do the work: two pools that spin slow each other down.

    Examples
    --------
    >>> with undisturbed("reference"):
    ...     pass
    """
    if backend == "reference":
        yield
        return
    own = _one_blas_thread.enter()
    try:
        yield
    finally:
        _one_blas_thread.leave(own)


def instruction_set() -> str:
    """Return the instruction set that the native engine runs on here, which its roundings depend on; "none" without it.

    Examples
    --------
    >>> instruction_set() == "none" or instruction_set() in describe()
    True
    """
    if _missing:
        return "none"
    from .cpu import kernels

    return kernels.instruction_set()


def describe() -> str:
    """Say in a line what runs the recurrence here.

    Examples
    --------
    >>> describe().split(":")[0]
    'engine'
    """
    if _missing:
        return f"engine: none, NumPy runs instead: {_missing}"
    from .cpu import kernels

    count = kernels.get_threads()
    return f"engine: native, {kernels.instruction_set()}, {count} thread{'s' if count > 1 else ''}"


def build_info() -> dict[str, Any]:
    """Return how the native engine was built and what it picked; only `reason` where there is none.

    Keys are `compiler`, `build_type`, `system`, `nanobind`, `flags` (the kernels' compiler flags by set; the
    sets that were built, best first), `runs` (those that this processor has), `picked` and `threads`.

    Examples
    --------
    >>> "reason" in build_info() or build_info()["picked"] in build_info()["flags"]
    True
    """
    if _missing:
        return {"reason": _missing}
    from .cpu import kernels

    return kernels.build_info()


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
    from .cpu import kernels

    return kernels.has_kernel(cell)


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
    from .cpu import kernels

    return kernels.reason(cell, dtype)
