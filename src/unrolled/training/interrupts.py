"""Signals that end a run, held back while something changes that must stay whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a run, with everything saved."""


def stops() -> list[int]:
    """Return the signals that Python hears here: those of `STOPS` that are not ignored and have no handler of a host's.

    Only the main thread hears any. One that is ignored (SIGHUP under nohup, SIGINT in the background of a shell) stays
    ignored; a handler that a host installed in C, such as R or uwsgi, could not be put back, so it stays as well.
    """
    if threading.current_thread() is not threading.main_thread():
        return []
    return [number for number in STOPS if signal.getsignal(number) not in (None, signal.SIG_IGN)]


class Interrupts:
    """Turns the signals of `stops` into KeyboardInterrupt, but never in the middle of a block that changes something.

    Attributes
    ----------
    number : int or None
        The signal that came first.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._blocked = self._pending = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._old = {number: signal.signal(number, self._handle) for number in stops()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if not self._blocked:
            raise KeyboardInterrupt
        self._pending = True

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Hold signals back until the end of the block."""
        self._blocked = True
        try:
            yield
        finally:
            self._blocked = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt


def send_again(number: int | None) -> None:
    """Let a signal that ended a run do what it does without us: it came to end the program, not this run alone."""
    if number is not None:
        signal.raise_signal(number)
