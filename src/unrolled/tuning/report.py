"""What a search has found: a line a trial, a table of the settings, a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import printable
from ..pictures import draw_rungs
from .state import State, Trial

PICTURE = "tune.png"
AUTOMATIC = "the automatic choice"


@dataclass(frozen=True)
class Tuned:
    """What a search has found.

    Attributes
    ----------
    folder : Path
        Of the search.
    state : State
    """

    folder: Path
    state: State

    @property
    def best(self) -> Path:
        """Folder of the best run, an ordinary one."""
        return self.run(self.state.ranked()[0])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of a table, a trial each, the best first."""
        return [self._row(rank, trial) for rank, trial in enumerate(self.state.ranked(), 1)]

    def run(self, trial: Trial) -> Path:
        """Return the folder of a trial's run."""
        return self.folder / f"{trial.setting:02}" / str(trial.rung)

    def draw(self) -> Any:
        """Return loss against work, a line a setting, as a figure of matplotlib's."""
        lines = []
        for setting in dict.fromkeys(trial.setting for trial in self.state.ranked()):
            made = sorted((t for t in self.state.trials if t.setting == setting), key=lambda t: t.rung)
            points = [(self.state.rungs[t.rung].minutes, t.best.val_loss) for t in made if t.best]
            lines.append((_named(setting), [x for x, _ in points], [loss for _, loss in points if loss is not None]))
        return draw_rungs(lines, AUTOMATIC, "minutes of work, of a trial", "validation loss")

    def _row(self, rank: int, trial: Trial) -> dict[str, Any]:
        best = trial.best
        first = {"rank": rank, "run": os.fspath(self.run(trial))}
        row = first | {name: trial.options.get(name) for name in self.state.space}
        row |= {"minutes": float(f"{self.state.rungs[trial.rung].minutes:.3g}"), "passes": float(f"{trial.epochs:.3g}")}
        row |= {"val_loss": best and best.val_loss}
        row |= {name: best and best.metrics.get(name) for name in self._metrics()}
        return row | first | {"seconds": round(trial.seconds, 1)}  # whatever a metric is called

    def _metrics(self) -> list[str]:
        return list(dict.fromkeys(name for t in self.state.trials if t.best for name in t.best.metrics))


def plan(folder: Path, state: State) -> list[str]:
    """Return what a search is going to do, and where, in lines."""
    sizes = ", then ".join(f"{rung.settings} for {rung.minutes:.3g}" for rung in state.rungs)
    where = printable(os.fspath(folder))
    lines = [f"settings to try: {sizes} minutes of work each; the best run so far is kept in {where}"]
    space = [f"{name} {of.replace('the automatic one', '').strip()}" for name, of in state.space.items()]
    lines.append(f"searched, around the automatic choice: {'; '.join(space)}")
    if state.trials:
        lines.append(f"trials that are over: {len(state.trials)} of {sum(rung.settings for rung in state.rungs)}")
    return lines


def begins(state: State, rung: int, setting: int) -> str:
    """Return a line about a trial that begins."""
    minutes = state.rungs[rung].minutes
    return f"rung {rung + 1} of {len(state.rungs)}, {_named(setting)}: begins {minutes:.3g} minutes of work"


def line(state: State, trial: Trial) -> str:
    """Return a line about a trial that is over."""
    done = len([t for t in state.trials if t.rung == trial.rung])
    said = f"rung {trial.rung + 1} of {len(state.rungs)}, trial {done}, {_named(trial.setting)}: "
    if trial.best is None:
        return f"{said}failed: {trial.failed}"
    figures = {"validation": trial.best.val_loss, **({} if state.decides == "loss" else trial.best.metrics)}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
    return f"{said}{shown}, {trial.epochs:.3g} passes, {trial.seconds:.1f} s"


def _named(setting: int) -> str:
    return f"setting {setting}" if setting else AUTOMATIC
