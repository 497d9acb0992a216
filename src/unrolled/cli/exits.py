"""The net around every command: its exit status, what stops it, an output that is closed, and notes."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from ..errors import UnrolledError, UnrolledWarning, failure
from ..training.interrupts import stops
from .help import OutputClosed


def run(command: Callable[[], Any]) -> NoReturn:
    """Run a command and exit; whatever goes wrong is one line on standard error.

    The exit status is 0, 1 where a proof fails, 2 for a mistake, 130 after Ctrl-C, 70 for a fault of this program. With
    UNROLLED_TRACEBACK=1 what has led there is printed too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    with stopping(), _notes():
        try:
            status, line = _outcome(command)
        except KeyboardInterrupt as error:
            status, line = failure(error)
        if line:
            _say(line)
    sys.exit(status)


def _outcome(command: Callable[[], Any]) -> tuple[int, str]:
    """Run a command; return its exit status and what to say on standard error."""
    try:
        status = command()
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
        return status if isinstance(status, int) else 0, ""
    except click.ClickException as error:
        return failure(UnrolledError(error.format_message()))
    except click.exceptions.Abort:
        return failure(KeyboardInterrupt())
    except (OutputClosed, BrokenPipeError):  # a reader such as `head` has gone: no fault
        let_go_of_output()
        return 0, ""
    except BaseException as error:  # a user's own function may raise SystemExit, too
        if isinstance(error, KeyboardInterrupt):
            raise
        if os.environ.get("UNROLLED_TRACEBACK"):
            traceback.print_exc()
        if isinstance(error, OSError):
            let_go_of_output()
        return failure(error)


@contextmanager
def stopping() -> Iterator[None]:
    """Let the signals of `stops` end a command like Ctrl-C, a second one at once: nothing half said, no traceback."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(130)

    def stop(number: int, frame: FrameType | None) -> None:
        for other in old:
            signal.signal(other, leave)
        raise KeyboardInterrupt

    old = {number: signal.getsignal(number) for number in stops()}
    try:
        for number in old:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _notes() -> Iterator[None]:
    """Show what the library warns of as a line, each once."""
    said = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnrolledWarning)
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            line = f"note: {failure(UnrolledError(str(message)))[1]}"
            if not issubclass(category, UnrolledWarning):
                other(message, category, *where)
            elif line not in said:
                said.add(line)
                _say(line)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _say(line: str) -> None:
    with suppress(OSError):  # standard error is full or gone: the status still says it
        click.echo(f"unrolled: {line}", err=True)


def let_go_of_output() -> None:
    """Nothing more can be written: let Python's own last flush go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
