"""`unrolled.tune`: a search for settings by successive halving, from what is asked for to what was found."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import declared, storage
from ..cells import CellName, find_cell, name_of
from ..checks import as_kind, check_positive, check_size
from ..data.text import recorded
from ..data.text.files import is_pipe
from ..data.text.packed import plain_name
from ..errors import UnrolledError, brief, check_path
from ..models import files
from ..models.tasks import kind_for, options_of
from ..training import run_folder as run
from ..training.checkpoints import Kind
from ..training.trainer import MODEL
from . import state as states
from .report import PICTURE, Tuned
from .space import SPACE, settings
from .state import State
from .trials import Trials
from .work import carry_out

MINUTES = 60.0
"""Work of a search where none is named."""
REFUSED = {
    "epochs": "the passes of a trial follow from minutes, which all of them share",
    "folds": "a search compares by one part to validate on",
}
"""Options of training that a search can't fix."""


def tune(
    source: Any = None,
    *,
    minutes: float = MINUTES,
    out: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    processes: int = 1,
    threads: int | None = None,
    seed: int = 1,
    task: str | None = None,
    val: Any = (),
    test: Any = (),
    keep: bool = False,
    backend: str = "auto",
    verbose: bool = False,
    **options: Any,
) -> Tuned:
    """Search settings that train well: at random, by successive halving (Li et al. 2018).

    Of the settings of a rung, a third goes on to the next one, where each is trained anew with three times the work.
    The first setting is what is chosen automatically; the others differ from it (`unrolled.tuning.space`). Work is
    counted, never timed: a seed gives the same search on every machine of one kind, whatever the processes.

    Parameters
    ----------
    source : path, list of paths, or data in memory as the kind's `train` takes it, optional
    minutes : float
        Work of the whole search; it takes that long where training is as fast as is planned for.
    out : path, optional
        Folder of the search; where one is in it, that is shared or gone on with. None makes a new one in tunes/.
    resume : path, optional
        Folder of a search to go on with, or to share; it has all that is not given here.
    processes : int
        How many train at a time. A script that asks for several must be one that can be imported (`if __name__ ==
        "__main__":`).
    threads : int, optional
        Threads of the engine, of all processes together.
    seed : int
        Draws the settings; of every trial, too.
    task : str, optional
        "language", "tag", "classify" or "forecast"; by default as the data and the options say.
    val, test : path or list of paths, optional
    keep : bool
        Whether the models of all trials are kept, not only those of the best.
    backend : str
    verbose : bool
        Whether a line a trial is printed to standard error.
    **options
        Any option of the kind's `train`, which all trials then have.

    Returns
    -------
    Tuned
        The ranks, and where the best run is.

    Raises
    ------
    UnrolledError
        If an option makes no sense, the data is not that of the search in the folder, or all trials of a rung fail.
    KeyboardInterrupt
        After Ctrl-C, once everything is saved.

    Examples
    --------
    >>> import tempfile, unrolled as ur
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = ur.tune("the cat sat on the mat. " * 12, minutes=0.6, out=f"{folder}/cat", hidden_size=8)
    ...     model = ur.load(found.best)
    >>> len(found.rows), model.network.spec.hidden_size
    (4, 8)
    """
    processes, verbose = check_size("processes", processes, most=256), as_kind("verbose", verbose, "bool")
    threads = None if threads is None else check_size("threads", threads, most=1024)
    given = None if _paths(source) is not None else source
    if resume is None:
        _check_processes(processes, options.get("cell"))
        folder, state = _begun(source, minutes, out, seed, task, val, test, keep, backend, options)
        cell = options.get("cell")
    else:
        folder, cell = Path(check_path("the folder of a search", resume)), options.pop("cell", None)
        _check_processes(processes, cell)
        usual: dict[str, Any] = {"minutes": MINUTES, "out": None, "seed": 1, "task": None}
        usual |= {"val": (), "test": (), "keep": False, "backend": "auto"}
        asked = {"minutes": minutes, "out": out, "seed": seed, "task": task}
        asked |= {"val": val, "test": test, "keep": keep, "backend": backend}
        options |= {name: value for name, value in asked.items() if str(value) not in (str(usual[name]), "None")}
        if options:
            raise UnrolledError(f"{min(options)} can't change when a search goes on; it has the options it began with")
        state = _gone_on(folder, source, cell)
    carry_out(folder, state, given, cell, processes=processes, threads=threads, verbose=verbose)
    if _lacks_its_best(folder, cell, verbose=verbose):
        carry_out(folder, state, given, cell, processes=1, threads=threads, verbose=verbose)
    return Tuned(folder, states.read(folder))


def _begun(
    source: Any,
    minutes: float,
    out: str | os.PathLike[str] | None,
    seed: int,
    task: str | None,
    val: Any,
    test: Any,
    keep: bool,
    backend: str,
    options: Mapping[str, Any],
) -> tuple[Path, State]:
    """Write the state of a new search, or find the same one in its folder."""
    paths = _paths(source)
    known = {name for kind in files.kinds().values() for name in options_of(kind)}
    kind = kind_for(paths or (), known & options.keys(), task)
    reading = declared.options(kind.reading) if kind.reading else {}
    how = recorded({name: options[name] for name in reading if name in options})
    fixed = {name: value for name, value in options.items() if name not in how}
    _check_options(kind, fixed, seed, val)
    rungs = states.rungs(check_positive("minutes", as_kind("minutes", minutes, "float")))
    cell = fixed.get("cell")
    fixed |= {} if cell is None else {"cell": name_of(cell)}
    state = State(
        task=kind.task,
        decides="loss",
        minutes=float(minutes),
        seed=seed,
        rungs=rungs,
        space={name: str(of) for name, of in SPACE[kind.task].items() if name not in fixed},
        fixed=fixed,
        settings=[dict(setting) for setting in settings(kind.task, fixed, rungs[0].settings, seed)],
        files=run.absolute(paths or []),
        val=_held_out("val", val),
        test=_held_out("test", test),
        how=how,
        sha256="",
        backend=backend,
        keep=as_kind("keep", keep, "bool"),
    )
    facts = Trials(state, None if paths is not None else source, cell).facts()
    state = replace(state, sha256=facts.sha256, decides=facts.model.decides)
    name = Path(plain_name(state.files[0])).stem if state.files else facts.name
    wanted = Path("tunes") / name if out is None else Path(check_path("the folder of a search", out))
    with storage.only_if_filled(wanted):
        folder = run.make_folder(wanted, new=out is None)
        with run.held(folder, wait=True):
            if (folder / states.STATE).exists():
                _check_same(folder, states.read(folder), state)
            elif there := run.holds(folder):
                raise UnrolledError(f"{folder} holds a run ({there[0]}); choose another --out")
            elif trial := next((path for path in sorted(folder.glob("[0-9][0-9]/[0-9]")) if run.holds(path)), None):
                raise UnrolledError(
                    f"{folder} holds the run {trial.relative_to(folder)}, but no search that it is of "
                    f"({states.STATE}); choose another --out"
                )
            else:
                _check_places(folder, len(state.settings))
                state.written(folder)
                state = states.read(folder)
    return folder, state


def _check_places(folder: Path, settings: int) -> None:
    """Refuse what a search's files can't take the place of, before any of them is written."""
    if os.path.lexists(folder / PICTURE):
        raise UnrolledError(f"{folder} holds {PICTURE} already; choose another --out")
    for k in range(settings):
        place = folder / f"{k:02}"
        if os.path.lexists(place) and not place.is_dir():
            raise UnrolledError(f"{place} is no folder, and a trial's run goes there; choose another --out")


def _check_options(kind: Kind, fixed: Mapping[str, Any], seed: int, val: Any) -> None:
    """Refuse options that no search can have, before anything is read."""
    for name, why in REFUSED.items():
        if name in fixed:
            raise UnrolledError(f"{name} can't be fixed: {why}")
    options = kind.options(**fixed, seed=seed)
    if not options.val_fraction and not val:
        raise UnrolledError("val_fraction is 0; settings are compared by a part to validate on")


def _check_same(folder: Path, old: State, new: State) -> None:
    """Refuse to share a search of something else."""
    mine, theirs = (vars(state.plan) for state in (new, old))
    for name in ("task", "sha256", "minutes", "seed", "how", "backend", "keep", "fixed"):
        if mine[name] != theirs[name]:
            what = "data" if name == "sha256" else "options" if name == "fixed" else name
            raise UnrolledError(f"{folder} holds a search with other {what}; choose another --out, or --resume it")


def _gone_on(folder: Path, source: Any, cell: Any) -> State:
    """Return the state of a search that goes on, if its data is the one that it began with."""
    state = states.read(folder)
    paths = _paths(source)
    _check_cell(state, cell)
    if source is None and not state.files and state.task != "language":
        raise UnrolledError(f"the data of {folder} was no file; give it again")
    if paths:
        state = replace(state, files=run.absolute(paths))
    _several_times([*state.files, *state.val, *state.test])
    if Trials(state, None if paths is not None else source, cell).facts().sha256 != state.sha256:
        odd = "" if source is not None or state.files else "; it was the standard library, as it was then, or in memory"
        raise UnrolledError(
            f"the data is not that of the search in {folder}{odd}. Give the old data, or start a new search"
        )
    if paths:
        with run.held(folder, wait=True):
            replace(states.read(folder), files=state.files).written(folder)
    return state


def _lacks_its_best(folder: Path, cell: Any, *, verbose: bool) -> bool:
    """Return whether a search that was over is not: the model of its best trial is gone, which is to be made anew."""
    with run.held(folder, wait=True):
        state = states.read(folder)
        if state.todo():
            return True
        place = Tuned(folder, state).best
        try:
            files.described(place / MODEL, cell)
        except UnrolledError as error:
            if verbose:
                print(f"the best trial is made anew: {error}", file=sys.stderr, flush=True)
            if place.is_dir():
                run.remove_models(place)
            state.trials.remove(state.ranked()[0])
            state.written(folder)
            return True
    return False


def _check_cell(state: State, cell: Any) -> None:
    """Refuse another cell than the search's, or none where that is a user's own."""
    name = state.fixed.get("cell")
    if cell is not None and name_of(cell) != name:
        raise UnrolledError(f"cell is {brief(name_of(cell))}; that of the search is {brief(name or 'not fixed')}")
    if cell is None and name is not None:
        try:
            find_cell(name)
        except UnrolledError as error:
            raise UnrolledError(f"{error}; a cell of your own is given again: --cell my_cell.py:NAME") from None


def _paths(source: Any) -> list[str] | None:
    """Return the paths that data is in, none for the built-in corpus; None of data in memory."""
    several = list(source) if isinstance(source, list | tuple) else [] if source is None else [source]
    if source is not None and not several:
        raise UnrolledError("there is nothing to learn from: the list is empty; without one it is the built-in corpus")
    if not all(isinstance(path, os.PathLike) for path in several):
        return None
    return _several_times([check_path("a file to read", path) for path in several])


def _held_out(name: str, given: Any) -> list[str]:
    """Return the absolute paths of files to validate or to test on."""
    several = list(given) if isinstance(given, list | tuple) else [] if given is None else [given]
    return run.absolute(_several_times([check_path(f"a file of {name}", path) for path in several]))


def _several_times(paths: list[str]) -> list[str]:
    """Return paths of files that can be read as often as a search does."""
    if "-" in paths:
        raise UnrolledError("a search reads its data more than once, which standard input can't be; name a file")
    if pipe := next((path for path in paths if is_pipe(path)), None):
        raise UnrolledError(f"a search reads its data more than once, which the pipe {pipe} can't be; name a file")
    return paths


def _check_processes(processes: int, cell: Any) -> None:
    """Refuse processes that could not share a search."""
    if processes > 1 and sys.platform == "win32":
        raise UnrolledError(f"processes is {processes}; folders can't be locked on Windows, so one process searches")
    if processes > 1 and isinstance(cell, CellName):
        raise UnrolledError(
            f"processes is {processes}; other processes don't have your own cell {cell}. Start the command several "
            "times with one --out instead"
        )
