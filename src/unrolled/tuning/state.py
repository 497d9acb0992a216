"""The state of a search: what it tries, for how long, and what has come of it; one file, JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, replace
from numbers import Rational
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..declared import check_option, options
from ..errors import UnrolledError, brief, figure, one_line
from ..models import files
from ..schema import Kind, each, either, entries, flag, maybe, named, number, objects, one_of, text, whole
from ..storage import is_missing, read_file, write_atomically
from ..training.run_folder import SEARCH
from ..training.state import Evaluation
from .space import SPACE

STATE = SEARCH
VERSION = 1
KEPT = 3
"""One setting in so many goes on to the next rung, which gives it so many times the time."""
MOST = 4
"""Rungs, at most."""
LEAST = 0.1
"""Minutes of work of a trial, at least: less says nothing of a setting."""
SHORTEST = 2 * KEPT * LEAST
"""Minutes of work of a search, at least: one of two rungs."""
LONGEST = 365 * 24 * 60.0
"""Minutes of work of a search, at most."""
OWN = ("minutes", "seed", "epochs", "folds")
"""Options of training that are the search's own, or that it can't fix."""
FAILED = (-math.inf, -math.inf)
"""Merit of a trial that diverged: there is no worse."""


class Rung(NamedTuple):
    """So many settings, each trained for so many minutes' work."""

    settings: int
    minutes: float


def rungs(minutes: float) -> list[Rung]:
    """Return the rungs of a search, which cost the same each; the shorter the time, the fewer.

    Li et al. 2018 (Hyperband), section 2: successive halving, here by three.

    Examples
    --------
    >>> [(rung.settings, round(rung.minutes, 2)) for rung in rungs(60)]
    [(27, 0.56), (9, 1.67), (3, 5.0), (1, 15.0)]
    """
    n = max((n for n in range(2, MOST + 1) if round(minutes / n / KEPT ** (n - 1), 9) >= LEAST), default=0)
    if minutes > LONGEST:
        raise UnrolledError(f"minutes is {figure(minutes)}; a search takes {LONGEST:,.0f} at most, a year")
    if not n:
        raise UnrolledError(
            f"minutes is {figure(minutes)}; the shortest search, of {KEPT} settings, takes {SHORTEST:g}. To train on "
            "the automatic choice: unrolled train"
        )
    return [Rung(KEPT ** (n - 1 - k), minutes / n / KEPT ** (n - 1 - k)) for k in range(n)]


@dataclass(frozen=True)
class Trial:
    """A setting that was trained in a rung.

    Attributes
    ----------
    rung, setting : int
        From 0; setting 0 is the automatic choice.
    options : dict
        What the options that differ between settings were in it.
    best : Evaluation or None
        Figures of its best model; None of a trial that failed.
    epochs, seconds : float
        Passes that it made, and the time that they took on the clock, which decides nothing.
    failed : str or None
        Why it failed.
    """

    rung: int
    setting: int
    options: dict[str, Any]
    best: Evaluation | None = None
    epochs: float = 0.0
    seconds: float = 0.0
    failed: str | None = None

    def merit(self, decides: str) -> tuple[float, float]:
        """Return how good it is, by the figure that decides."""
        return FAILED if self.best is None else self.best.merit(decides)


@dataclass(frozen=True)
class State:
    """A search.

    Attributes
    ----------
    task : str
        Which kind of model: "language".
    decides : str
        Name of the figure that settings are ranked by.
    minutes : float
        Work of the whole search.
    seed : int
        Draws the settings, and is that of every trial.
    rungs : list of Rung
    space : dict of str
        What was drawn from, in words.
    fixed : dict
        Options that all trials have.
    settings : list of Setting
    files, val, test : list of str
        The data; without files it was in memory, or the built-in corpus.
    how : dict
        How files are read.
    sha256 : str
        Of the data as a network sees it.
    backend : str
    keep : bool
        Whether the models of all trials are kept.
    trials : list of Trial
        Those that are over.
    """

    task: str
    decides: str
    minutes: float
    seed: int
    rungs: list[Rung]
    space: dict[str, str]
    fixed: dict[str, Any]
    settings: list[dict[str, Any]]
    files: list[str]
    val: list[str]
    test: list[str]
    how: dict[str, Any]
    sha256: str
    backend: str = "auto"
    keep: bool = False
    trials: list[Trial] = field(default_factory=list)

    @property
    def plan(self) -> State:
        """The search before any trial."""
        return replace(self, trials=[])

    def of_rung(self, k: int) -> list[Trial]:
        """Return the trials of a rung, the best first; of equal ones the one that was drawn first."""
        found = [trial for trial in self.trials if trial.rung == k]
        return sorted(found, key=lambda trial: (*(-m for m in trial.merit(self.decides)), trial.setting))

    def todo(self) -> list[tuple[int, int]]:
        """Return the rung and the setting of each trial that is to be made next; none where the search is over.

        Raises
        ------
        UnrolledError
            If all trials of a rung failed.
        """
        chosen = list(range(self.rungs[0].settings))
        for k in range(len(self.rungs)):
            if k:
                good = [trial for trial in self.of_rung(k - 1) if trial.failed is None]
                if not good:
                    first = self.of_rung(k - 1)[0]
                    raise UnrolledError(f"every trial of rung {k} failed. Setting {first.setting}: {first.failed}")
                chosen = [trial.setting for trial in good[: self.rungs[k].settings]]
            done = {trial.setting for trial in self.trials if trial.rung == k}
            if left := sorted(set(chosen) - done):
                return [(k, setting) for setting in left]
        return []

    def ranked(self) -> list[Trial]:
        """Return all trials, the best first; of equal ones that of the later rung, then what was drawn first."""
        order = sorted(self.trials, key=lambda trial: trial.setting)
        return sorted(order, key=lambda trial: (trial.merit(self.decides), trial.rung), reverse=True)

    def written(self, folder: Path) -> None:
        """Write the state into the search's folder, in the place of the one before."""
        content = {"version": VERSION} | _plain(asdict(self) | {"rungs": [rung._asdict() for rung in self.rungs]})
        content |= {"digest": _digest(content)}
        write_atomically(folder / STATE, (json.dumps(content, indent=1) + "\n").encode())


def read(folder: Path) -> State:
    """Read a search's state.

    Raises
    ------
    UnrolledError
        With one line: there is none, or it is damaged.
    """
    path = folder / STATE
    if folder.is_dir() and is_missing(path):
        raise UnrolledError(f"{folder} holds no search: {STATE} is missing. unrolled tune DATA --out begins one")
    try:
        content = json.loads(read_file(path, "state of a search").decode())
    except UnrolledError:
        raise
    except (ValueError, RecursionError) as error:
        raise UnrolledError(f"{path} is damaged: it is not JSON ({one_line(str(error), 80)})") from None
    try:
        if objects("the state", content).get("version", VERSION) != VERSION:
            raise UnrolledError(f"it is of version {brief(content['version'])}, not {VERSION}; update unrolled")
        said = entries(_STATE)("", content)
        if said["digest"] != _digest({name: value for name, value in content.items() if name != "digest"}):
            raise UnrolledError("its contents are not those that its digest is of")
        _check_options(said)
        drawn = len(said["settings"])
        if [rung["settings"] for rung in said["rungs"][:1]] != [drawn]:
            raise UnrolledError(f"it has {drawn} settings, which its first rung has not")
        if any(trial["setting"] >= drawn or trial["rung"] >= len(said["rungs"]) for trial in said["trials"]):
            raise UnrolledError(f"it has a trial of none of its {drawn} settings, or of no rung")
    except UnrolledError as error:
        raise UnrolledError(f"{path} is damaged or no state of a search: {error}") from None
    del said["version"], said["digest"]
    trials = [Trial(**t | {"best": t["best"] and Evaluation(**t["best"])}) for t in said.pop("trials")]
    said["fixed"] = {name: tuple(v) if isinstance(v, list) else v for name, v in said["fixed"].items()}
    return State(**said | {"rungs": [Rung(**rung) for rung in said["rungs"]], "trials": trials})


def _check_options(said: Mapping[str, Any]) -> None:
    """Refuse names and values of options that the task's kind of model does not have, or that are not searched."""
    kind = files.kinds()[said["task"]]
    reading = options(kind.reading) if kind.reading else {}
    fixed = {name: declared for name, declared in options(kind.options).items() if name not in OWN}
    for part, known in (("how", reading), ("fixed", fixed)):
        kinds = {name: _kind_of(declared) for name, declared in known.items()}
        kinds |= {"cell": text()} if part == "fixed" else {}  # it may be a user's own, which is given again
        entries(kinds, optional=kinds)(part, said[part])
    drawn = {name: dimension.kind for name, dimension in SPACE[said["task"]].items() if name not in said["fixed"]}
    each(entries(drawn, optional=drawn))("settings", said["settings"])


def _kind_of(declared: Field[Any]) -> Kind:
    """Return the kind of an option's values."""
    return lambda _, value: check_option(declared, value)


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back, without figures that are not finite."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not (isinstance(v, float) and not math.isfinite(v))}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Rational) and not isinstance(value, int):  # a fraction
        return float(value)
    return str(value) if isinstance(value, str) else value


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_SINGLE = either(flag(), either(text(10_000), either(whole(), number())))
_VALUE = maybe(either(each(_SINGLE, most=1000), _SINGLE))
_EVALUATION = {
    "step": whole(),
    "epoch": number(0),
    "train_loss": number(),
    "val_loss": number(),
    "seconds": number(0),
    "metrics": named(number()),
}
_TRIAL = {
    "rung": whole(most=MOST - 1),
    "setting": whole(most=KEPT ** (MOST - 1) - 1),
    "options": named(_VALUE),
    "best": maybe(entries(_EVALUATION)),
    "epochs": number(0),
    "seconds": number(0),
    "failed": maybe(text(2000)),
}
_STATE = {
    "version": whole(),
    "digest": text(64),
    "task": one_of(tuple(SPACE)),
    "decides": text(100),
    "minutes": number(0, LONGEST),
    "seed": whole(),
    "rungs": each(entries({"settings": whole(1, KEPT ** (MOST - 1)), "minutes": number(0, LONGEST)}), most=MOST),
    "space": named(text(1000)),
    "fixed": named(_VALUE),
    "settings": each(named(_VALUE), most=KEPT ** (MOST - 1)),
    "files": each(text()),
    "val": each(text()),
    "test": each(text()),
    "how": named(_VALUE),
    "sha256": text(64),
    "backend": text(20),
    "keep": flag(),
    "trials": each(entries(_TRIAL), most=MOST * KEPT ** (MOST - 1)),
}
"""The schema of the file."""
