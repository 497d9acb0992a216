"""A run's metrics: a line of JSON a validation, in the run's folder."""

from __future__ import annotations

import errno
import json
import os
import stat
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import storage
from ..checks import is_number
from ..errors import UnrolledError, UnrolledWarning
from .callbacks import Callback, Progress
from .state import Evaluation

METRICS = "metrics.jsonl"
DAMAGED = "metrics.jsonl.damaged"
"""Lines that were no metrics when the run went on."""
LARGEST = 1e100
"""No figure of a run is so large; what is drawn from larger ones would overflow."""


def set_aside(folder: Path | None) -> tuple[str, ...]:
    """Return a note where a run's metrics have lines that are damaged."""
    if folder is None or not os.path.lexists(folder / METRICS):
        return ()
    damaged = len(read_metrics(folder)[1])
    lines = "a damaged line" if damaged == 1 else f"{damaged} damaged lines"
    return (f"{lines} of {METRICS} set aside in {DAMAGED}",) if damaged else ()


def metrics(folder: Path, *, validated: bool = False) -> list[dict[str, Any]]:
    """Return a run's metrics; a damaged line is left out, with a warning, and a last one that was cut off without.

    Raises
    ------
    UnrolledError
        If they can't be read, or it is to have been `validated` and has not been yet.
    """
    found, damaged = read_metrics(folder)
    lines = "a line is" if len(damaged) == 1 else f"{len(damaged)} lines are"
    if validated and not any("val_loss" in entry for entry in found):
        said = f" ({lines} damaged)" if damaged else ""
        raise UnrolledError(f"{folder} has no validation yet, so there is nothing to draw{said}")
    if damaged:
        warnings.warn(f"{folder / METRICS}: {lines} damaged and left out", UnrolledWarning, stacklevel=2)
    return found


def read_metrics(folder: Path) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return a run's metrics, and the lines that are none.

    Raises
    ------
    UnrolledError
        If they can't be read.
    """
    try:
        lines = storage.read_file(folder / METRICS, "metrics").splitlines(keepends=True)
    except UnrolledError as error:
        raise UnrolledError(f"{error}; is this a run's folder?") from None
    found, damaged = [], []
    for line in lines:
        try:
            entry = json.loads(line.decode())
        except (ValueError, RecursionError):
            entry = None
        if _is_entry(entry):
            found.append(entry)
        elif line.endswith(b"\n"):
            damaged.append(line)
    return found, damaged


def _is_entry(entry: Any) -> bool:
    """Whether this is what `Log` writes: a validation's figures, or what else happened at a step."""
    if not isinstance(entry, dict) or type(entry.get("step")) is not int or not 0 <= entry["step"] < 1 << 53:
        return False
    numbers = {"epoch", "train_loss", "seconds"} if "val_loss" in entry else set[str]()
    if entry.get("val_loss") is not None:
        numbers.add("val_loss")
    given = entry.keys() & {"rate", "symbols_per_second", "rate_factor"}
    return all(is_number(entry.get(name)) and abs(entry[name]) < LARGEST for name in numbers | given)


class Log(Callback):
    """Writes `metrics.jsonl`.

    Parameters
    ----------
    folder : Path
    begin : function of this log, optional
        Called once the first checkpoint is there, or has been gone on from: nothing is written before.
    """

    def __init__(self, folder: Path, begin: Callable[[Log], None] | None = None) -> None:
        self.path, self.begin = folder / METRICS, begin
        self.rate = self.speed = 0.0

    def forget_after(self, step: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Leave out what a run that goes on from a step will write again; put in what `history` has more.

        Damaged lines are kept in a file beside.
        """
        found, damaged = read_metrics(self.path.parent) if self.path.exists() else ([], [])
        kept = [entry for entry in found if entry["step"] <= step]
        there = {entry["step"] for entry in kept if "val_loss" in entry}
        kept += [dict(entry) for entry in history if entry["step"] not in there]
        lines = [json.dumps(entry) + "\n" for entry in sorted(kept, key=lambda entry: int(entry["step"]))]
        if damaged:
            beside = self.path.with_name(DAMAGED)
            old = storage.read_file(beside, "damaged metrics") if beside.exists() else b""
            storage.write_atomically(beside, old + b"".join(damaged))
        storage.write_atomically(self.path, "".join(lines).encode())

    def write(self, **entry: Any) -> None:
        """Add a line; only to a file, never through a link or into a pipe that has taken its place."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            with open(os.open(self.path, flags, 0o666), "a", encoding="utf-8") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnrolledError(f"can't write {self.path}: it is no file any more; the run is saved")
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            said = "it is a link now" if error.errno == errno.ELOOP else error.strerror
            raise UnrolledError(f"can't write {self.path}: {said}; the run is saved") from None

    def saved(self, step: int) -> None:
        """Write what the run is, if it has just begun or goes on."""
        begin, self.begin = self.begin, None
        if begin is not None:
            begin(self)

    def stepped(self, progress: Progress) -> None:
        """Remember the rate and the speed for the next line."""
        self.rate, self.speed = progress.rate, progress.symbols_per_second

    def resumed(self, progress: Progress) -> None:
        """Remember the rate and the speed: a validation may be the first that happens."""
        self.rate, self.speed = progress.rate, progress.symbols_per_second

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Write a line."""
        self.write(**evaluation.to_json(), best=best, rate=self.rate, symbols_per_second=round(self.speed, 1))

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Leave out what came after the step, and write why."""
        self.forget_after(step)
        self.write(step=step, rolled_back=why, rate_factor=factor)
