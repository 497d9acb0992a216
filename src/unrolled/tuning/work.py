"""The processes of a search, which share its folder.

| path | what is there |
|---|---|
| `tune.json` | the state of the search (`unrolled.tuning.state`) |
| `07/1` | the run of setting 7 in rung 1, an ordinary one; the models of all but the best are removed |
| `tune.png` | loss against work, where matplotlib is installed |

Whoever holds the folder of a setting makes its trial; whoever holds that of the search writes down what came of it.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, NoReturn

from .. import backends
from ..errors import UnrolledError, printable
from ..training import run_folder as run
from ..training.interrupts import stops
from . import state as states
from .report import begins, line, plan
from .state import State, Trial
from .trials import Trials

LONG = 1.0
"""Minutes of work of a trial from which on its begin is told, too."""


def carry_out(
    folder: Path, state: State, source: Any, cell: Any, *, processes: int, threads: int | None, verbose: bool
) -> None:
    """Make all trials that are left, by several processes if so asked."""
    if verbose and state.todo():
        print(*plan(folder, state), sep="\n", file=sys.stderr, flush=True)
    with _threads(processes, threads) as each, _saved(folder, verbose):
        search = Search(folder, Trials(state, source, cell), verbose)
        with _helped(processes - 1, (folder, source, cell, each, verbose)):
            search.work()


class Search:
    """A search in its folder, as one process works at it."""

    def __init__(self, folder: Path, trials: Trials, verbose: bool) -> None:
        self.folder, self.trials, self.verbose = folder, trials, verbose

    def work(self) -> None:
        """Make trials until none is left; where others make the last ones of a rung, wait for them."""
        while todo := states.read(self.folder).todo():
            if not any(self.attempt(*trial) for trial in todo):
                self.attempt(*todo[0], wait=True)

    def attempt(self, rung: int, setting: int, *, wait: bool = False) -> bool:
        """Make a trial unless another process does; return whether it is over."""
        place = run.make_folder(self.folder / f"{setting:02}")
        if place.samefile(self.folder):
            raise UnrolledError(f"{place} leads back to the folder of the search; remove that link")
        with ExitStack() as stack:
            try:
                stack.enter_context(run.held(place, wait=wait))
            except run.Held:
                return False
            state = states.read(self.folder)
            if (rung, setting) not in {(trial.rung, trial.setting) for trial in state.trials}:
                if self.verbose and state.rungs[rung].minutes >= LONG:
                    print(begins(state, rung, setting), file=sys.stderr, flush=True)
                self.record(self.trials.made(rung, setting, place / str(rung)))
        return True

    def record(self, trial: Trial) -> None:
        """Write down what came of a trial, and remove the models of all but the best one so far."""
        with run.held(self.folder, wait=True):
            state = states.read(self.folder)
            state.trials.append(trial)
            state.written(self.folder)
            if not state.keep:
                best = state.ranked()[0]
                for other in state.trials:
                    if other is not best:
                        run.remove_models(self.folder / f"{other.setting:02}" / str(other.rung))
        if self.verbose:
            print(line(state, trial), file=sys.stderr, flush=True)


@contextmanager
def _threads(processes: int, threads: int | None) -> Iterator[int]:
    """Divide the engine's threads among processes; yield how many each has."""
    before = backends.threads()
    each = max(1, (threads or before) // processes)
    if each == before:
        yield each
        return
    backends.set_threads(each)
    try:
        yield each
    finally:
        backends.set_threads(before)


@contextmanager
def _saved(folder: Path, verbose: bool) -> Iterator[None]:
    """Say how a search goes on that is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        if verbose:
            again = f"unrolled tune --resume {printable(shlex.quote(str(folder)))}"
            print(f"the search is saved: {again} goes on", file=sys.stderr, flush=True)
        raise


@contextmanager
def _helped(number: int, arguments: tuple[Any, ...]) -> Iterator[None]:
    """Let other processes work at the search too; what ends this one ends them, with all saved."""
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=_help, args=arguments, daemon=True) for _ in range(number)]
    heard = helpers and signal.SIGINT in stops()
    old = signal.signal(signal.SIGINT, signal.SIG_IGN) if heard else None  # they inherit that: Ctrl-C is for this one
    try:
        for helper in helpers:
            helper.start()
    finally:
        if heard:
            signal.signal(signal.SIGINT, old)
    try:
        yield
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            if helper.is_alive():
                helper.terminate()
        for helper in helpers:
            helper.join()


def _help(folder: Path, source: Any, cell: Any, threads: int, verbose: bool) -> None:
    """Work at a search that another process has begun, until it is over or that one ends."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    def ended() -> None:
        multiprocessing.parent_process().join()  # type: ignore[union-attr]  # it is a child
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    Thread(target=ended, daemon=True).start()
    with suppress(KeyboardInterrupt):
        if backends.threads() != threads:
            backends.set_threads(threads)
        try:
            Search(folder, Trials(states.read(folder), source, cell), verbose).work()
        except UnrolledError as error:
            print(f"a helping process has stopped: {error}", file=sys.stderr, flush=True)
