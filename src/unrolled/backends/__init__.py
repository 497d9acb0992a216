"""Where the recurrence runs: `choose(name)` gives a backend, or says why not."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from ..cells import Cell
from ..checks import ROUNDED, array_dtype
from ..errors import UnrolledError, Unsupported, brief, suggest, warn
from .base import Backend, Reference, Rounding
from .blas import undisturbed as undisturbed

if TYPE_CHECKING:
    from .cpu.limits import Limits

REFERENCE = Reference()


def _load() -> tuple[dict[str, Backend], str, str]:
    """Return the backends of this installation, why the native one is not among them, and what its settings have wrong.

    Nothing is raised here: a mistake in an environment variable is said when a backend is chosen.
    """
    if find_spec(".cpu._engine", __package__) is None:
        why = "the native engine was not built when this was installed, since no C++ compiler worked"
        return {"auto": REFERENCE, "reference": REFERENCE}, why, ""
    try:
        from .cpu import auto, kernels, threads
    except ImportError as error:
        return {"auto": REFERENCE, "reference": REFERENCE}, f"the native engine did not load ({error})", ""
    backends: dict[str, Backend] = {"auto": auto.Auto(), "cpu": kernels.Cpu(), "reference": REFERENCE}
    try:
        threads.use_environment()
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
    backend = of_dtype(choose(name), dtype)
    if backend.name == "reference" or (why := reason(cell, dtype)) is None:
        return backend
    if name == "cpu":
        raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")
    warn(f"{why}. NumPy runs it instead, which is slower; backend='reference' asks for that.")
    return backend


def of_dtype(backend: Backend, dtype: Any) -> Backend:
    """Return a backend as networks of a dtype use it: of bfloat16, one whose products round.

    Examples
    --------
    >>> of_dtype(of_dtype(REFERENCE, "bfloat16"), "float64") is REFERENCE
    True
    """
    exact = backend.exact if isinstance(backend, Rounding) else backend
    return cast(Backend, Rounding(exact)) if dtype == ROUNDED else exact


def set_threads(n: int) -> None:
    """Let the native engine use `n` threads; its results are the same, to the bit, for every number.

    Raises
    ------
    UnrolledError
        If `n` is no number of threads, or the engine is not there.
    """
    if _missing:
        raise Unsupported(f"the number of threads is the native engine's, but {_missing}")
    from .cpu import threads

    threads.set_threads(n)


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
    from .cpu import threads

    return threads.get_threads()


def instruction_set() -> str:
    """Return the instruction set that the native engine runs on here, which its roundings depend on; "none" without it.

    Examples
    --------
    >>> instruction_set() == "none" or instruction_set() in describe()
    True
    """
    if _missing:
        return "none"
    from .cpu import threads

    return threads.instruction_set()


def limits() -> Limits | None:
    """Return what a core can do at most: multiply, and read from each level of its caches. None without the engine.

    Examples
    --------
    >>> limits() is None or limits().flops > 0
    True
    """
    if _missing:
        return None
    from .cpu.limits import measure

    return measure()


def describe() -> str:
    """Return a line about what runs the recurrence here.

    Examples
    --------
    >>> describe().split(":")[0]
    'engine'
    """
    if _missing:
        return f"engine: none, NumPy runs instead: {_missing}"
    from .cpu import threads

    count = threads.get_threads()
    return f"engine: native, {threads.instruction_set()}, {count} thread{'s' if count > 1 else ''}"


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
    from .cpu import threads

    return threads.build_info()


def has_kernel(cell: Cell) -> bool:
    """Whether the engine has kernels of a cell's own; any other is interpreted.

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
    """Return why `auto` runs a cell on the reference; None if the native engine runs it.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> reason(CELLS["lstm"], "complex128") is None
    False
    """
    if _missing:
        return _missing
    from .cpu import kernels

    return kernels.reason(cell, array_dtype(dtype) if isinstance(dtype, str) else dtype)
