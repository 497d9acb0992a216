"""A trial: a setting trained for so many minutes' work, as an ordinary run."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import declared
from ..data.text import default_corpus, read
from ..errors import UnrolledError, UnrolledWarning
from ..models import files
from ..models.tasks import LANGUAGE
from ..training.callbacks import Callback, Facts
from ..training.checkpoints import Kind
from ..training.divergence import KeptDiverging
from ..training.optimizers import OPTIMIZERS
from ..training.trainer import CHECKPOINT
from .space import FIRST, SPACE, Setting
from .state import State, Trial


class _Seen(Exception):
    """All is known that was to be seen."""


class _Look(Callback):
    """Ends a run before its first step."""

    facts: Facts

    def started(self, facts: Facts) -> None:
        """Keep what is known of it."""
        self.facts = facts
        raise _Seen


def look(kind: Kind, source: Any, **how: Any) -> Facts:
    """Return what is known of a run before its first step: what was chosen automatically, for one. None is made.

    Where patience would end a run, its passes are chosen too, so that its work is that of its minutes at most.
    """
    found = _Look()
    with suppress(_Seen):
        kind.model.train(source, callbacks=[found], auto=True, **how | {"patience": 0, "tensorboard": False})
    usual = kind.options()
    asked = {name: how.get(name, getattr(usual, name)) for name in ("patience", "tensorboard")}
    return replace(found.facts, options=replace(found.facts.options, **asked))


def chosen(kind: Kind, source: Any, setting: Setting, **how: Any) -> tuple[Any, dict[str, Any]]:
    """Return the options of a setting, and those of them that it has changed.

    Size comes first; the rest is changed from what is chosen automatically for that size.
    """
    options, changed = look(kind, source, **how).options, dict[str, Any]()
    for first in (True, False):
        anew = {}
        for name, draw in setting.items():
            if (name in FIRST) is first:
                usual = getattr(options, name)
                if name == "learning_rate" and usual is None:
                    usual = OPTIMIZERS[options.optimizer].rate
                anew[name] = SPACE[kind.task][name].of(usual, draw)
        changed |= anew
        if options.tied and "hidden_size" in anew and "embedding_size" not in how:
            changed["embedding_size"] = anew["hidden_size"]
        if anew:
            options = look(kind, source, **how | changed).options
    return options, changed


class Trials:
    """What makes the trials of a search.

    Parameters
    ----------
    state : State
    source : data in memory, or None where the search names files or none
    cell : str, optional
        The cell, where it is a user's own.
    """

    def __init__(self, state: State, source: Any = None, cell: Any = None) -> None:
        self.kind = files.kinds()[state.task]
        self.fixed = {**state.fixed, **({} if cell is None else {"cell": cell}), "seed": state.seed}
        self.how: dict[str, Any] = {"backend": state.backend, "val": state.val or None, "test": state.test or None}
        self.cell, self.state = cell, state
        if source is not None:
            self.how |= state.how
        elif state.task == LANGUAGE:
            level = self.fixed.get("level", self.kind.options.level)
            source = read(state.files, level, stream=True, **state.how) if state.files else default_corpus(level=level)
        else:
            source = list(state.files)
        self.source = source

    def facts(self) -> Facts:
        """Return what is known of the first trial before its first step."""
        return look(self.kind, self.source, **self.how, **self.fixed, minutes=self.state.rungs[0].minutes)

    def made(self, rung: int, number: int, folder: Path) -> Trial:
        """Train a setting in its folder, or go on there; return what came of it.

        Raises
        ------
        UnrolledError
            If there is nothing to validate on, or it can't be trained for a reason that is none of the setting's.
        Interrupted
            By Ctrl-C, with all saved.
        """
        minutes, setting = self.state.rungs[rung].minutes, self.state.settings[number]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)  # the search itself has said them
            fixed = self.fixed | {"minutes": minutes}
            try:
                options, _ = chosen(self.kind, self.source, setting, **self.how, **fixed)
            except UnrolledError as error:
                if not setting:
                    raise
                return Trial(rung, number, {}, failed=str(error))
            names = [name for name in SPACE[self.state.task] if name not in self.state.fixed]
            shown = {name: getattr(options, name) for name in names}
            try:
                model = self._trained(options, folder)
            except KeptDiverging as error:
                return Trial(rung, number, shown, failed=error.why)  # of its folder nothing will be kept
        result = model.result
        if result.best is None or result.best.val_loss is None:
            raise UnrolledError("there is nothing to validate on, by which settings are compared; give --val-file")
        return Trial(rung, number, shown, result.best, result.epochs, result.seconds)

    def _trained(self, options: Any, folder: Path) -> Any:
        if (folder / CHECKPOINT).is_file():
            return self.kind.model.resume(folder, self.source, cell=self.cell)
        every = {name: getattr(options, name) for name in declared.options(self.kind.options)}
        return self.kind.model.train(self.source, out=folder, overwrite=True, **self.how, **every)
