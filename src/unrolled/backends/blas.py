"""BLAS beside the engine: one thread for it while the engine's own threads do the work."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


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
