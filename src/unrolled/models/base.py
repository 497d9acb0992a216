"""The training that all kinds of models share: a run is prepared by its kind, and carried out here.

A kind is a class that the loop can train (`unrolled.training.trainer.Model`), with a reader and options of its own. It
prepares a run (`Prepared`): the model, its batches, and what is said of them. `carry_out` does what is the same for
all: it writes the run's folder, tells the callbacks, trains, tests, and passes an interruption on.
"""

from __future__ import annotations

import copy
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from .. import declared
from ..backends import choose
from ..cells import Cell
from ..checks import Array, as_kind, check_a
from ..data.batches import Batch, Batches
from ..errors import Interrupted, UnrolledError, brief, check_path
from ..nn import own_cells
from ..nn.masks import Masks
from ..nn.network import Network
from ..training import checkpoints, metrics_log
from ..training import run_folder as run
from ..training.callbacks import Callback, Facts, Result, tell
from ..training.interrupts import send_again
from ..training.lines import Lines
from ..training.tensorboard import Events
from ..training.trainer import MODEL, Model, Trainer
from . import files

M = TypeVar("M")


class OfNetwork:
    """A model that is a network, and what makes numbers of data: the part of `Model` that is the same for all.

    Parameters
    ----------
    network : Network
    """

    kind: ClassVar[str] = checkpoints.LANGUAGE_MODEL
    """Name of the kind in files."""
    nats: ClassVar[bool] = True
    """Whether its loss is in nats."""
    decides: str = "loss"
    """Name of the figure that says which model is the best."""
    reads: str = "one-hot input"
    """What it reads where there is no embedding."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.params, self.backend, self.spec = network.params, network.recurrent.backend, network.spec

    @property
    def guess(self) -> float:
        """Loss of guessing, which is that of one more class than there are."""
        return math.log(len(self.params["decoder.bias"]) + 1)

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same model on other arrays."""
        other = copy.copy(self)
        OfNetwork.__init__(other, self.network.with_params(params))
        return other

    def settle(self, val: Batches | None) -> bool:
        """Find what follows from trained parameters, before they are tested; return whether the file says it too."""
        return False

    def zero_state(self, batch: int) -> Any:
        """Return the state of B rows, all zeros."""
        return self.network.zero_state(batch)

    def draw_masks(self, batch: Batch, rng: np.random.Generator) -> Masks | None:
        """Draw the masks of one pass."""
        return self.network.draw_masks(len(batch.x), batch.size, rng)

    def loss_and_gradients(self, batch: Batch, state: Any, masks: Masks | None) -> tuple[float, dict[str, Array], Any]:
        """Return the mean loss of a batch, every gradient, and the state to carry on."""
        how: dict[str, Any] = {
            "masks": masks,
            "starts": batch.starts,
            "lengths": batch.lengths,
            "weights": batch.weights,
        }
        return self.network.loss_and_gradients(batch.x, batch.y, state, **how)


@dataclass(frozen=True)
class Prepared:
    """A run that may begin, or go on.

    Attributes
    ----------
    facts : Facts
        What is told of it; its model is the one that is trained.
    train : Batches
    val, test : Batches or None
    eval_every : int
        Steps between two validations.
    rng : numpy.random.Generator
        The run's own: what is left of it after the weights were drawn draws the masks.
    codec : dict
        What the checkpoint says of how data becomes numbers, as JSON: {"vocabulary": ...}.
    source : dict
        Where the data came from, as JSON, with a hash of it.
    backend : str
        What was asked for.
    resume : Reopened, optional
        The checkpoint that it goes on from.
    yardsticks : function, optional
        Finds what the validation part gives to simple models of the training part, in the end.
    """

    facts: Facts
    train: Batches
    val: Batches | None
    test: Batches | None
    eval_every: int
    rng: np.random.Generator
    codec: Mapping[str, Any]
    source: Mapping[str, Any]
    backend: str
    resume: checkpoints.Reopened | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)
    yardsticks: Callable[[], dict[str, Any] | None] | None = None

    def content(self) -> dict[str, Any]:
        """Return what the checkpoint says beside the state."""
        return {
            "options": asdict(self.facts.options),
            **own_cells.entry(self.facts.model.spec),
            **self.codec,
            "text": dict(self.source),
            "backend": self.backend if choose(self.backend).name == "cpu" else "reference",
            "made_with": dict(self.made_with),
        }


def told(callbacks: Sequence[Callback], verbose: bool) -> list[Callback]:
    """Return who is told how a run goes, or say what is none."""
    given: Any = callbacks
    if isinstance(given, Callback) or not isinstance(given, Sequence):
        raise UnrolledError(f"callbacks are {brief(given)}; expected a sequence of Callbacks")
    for callback in given:
        check_a("a callback", callback, Callback, "a Callback")
    return [*([Lines()] if as_kind("verbose", verbose, "bool") else []), *given]


def begin(
    kind: checkpoints.Kind,
    prepare: Callable[[Any, Path | None], Prepared],
    asked: Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None,
    overwrite: bool,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> tuple[Any, Result]:
    """Train a new model of a kind; return it as the loop had it, and how it went.

    `prepare` makes a run of the options and the folder, which is held by then.
    """
    out = None if out is None else Path(check_path("the folder of a run", out))
    callbacks, overwrite = told(callbacks, verbose), as_kind("overwrite", overwrite, "bool")
    chosen = kind.options(**asked)
    if chosen.tensorboard and out is None:
        raise UnrolledError("tensorboard writes into the folder of the run: name one (out)")
    with nullcontext() if out is None else run.claimed(out, overwrite=overwrite):
        prepared = prepare(chosen, out)
        return prepared.facts.model, carry_out(prepared, callbacks)


def go_on(
    kind: checkpoints.Kind,
    folder: str | os.PathLike[str],
    prepare: Callable[[Any, Path, str, checkpoints.Reopened], Prepared],
    anew: Mapping[str, Any],
    *,
    backend: str | None,
    cell: str | Cell | None,
    callbacks: Sequence[Callback],
    verbose: bool,
) -> tuple[Any, Result]:
    """Go on with a run of a kind, with some options anew; return the model as the loop had it, and how it went.

    `prepare` makes a run of the options, the folder, the backend and the checkpoint.
    """
    folder = Path(check_path("the folder of a run", folder))
    callbacks = told(callbacks, verbose)
    free = declared.anew(kind.options)
    for name in anew:
        if name not in free:
            raise UnrolledError(f"{name} can't change when a run goes on; what can: {', '.join(free)}")
    with run.held(folder) if folder.is_dir() else nullcontext():
        before = checkpoints.reopen(folder, kind, cell)
        chosen = replace(before.options, **anew)
        if chosen.minutes is not None and before.seconds >= 60 * chosen.minutes:
            raise UnrolledError(
                f"the run in {folder} has had its {chosen.minutes:g} minutes; --minutes gives it more in all"
            )
        run.check_places(folder)
        before.begin_anew(chosen, anew)
        if backend is None:
            backend = before.backend
            choose("cpu" if backend == "auto" else backend)  # a run that had the engine needs it, or says why not
        prepared = prepare(chosen, folder, backend, before)
        had = before.step / len(prepared.train)
        if "epochs" in anew and chosen.epochs < min(had, before.options.epochs):
            said = f"--epochs {chosen.epochs} is less than the {had:.3g}"
            raise UnrolledError(f"{said} that the run in {folder} has had; give it more in all")
        return prepared.facts.model, carry_out(prepared, callbacks)


def carry_out(prepared: Prepared, callbacks: Sequence[Callback]) -> Result:
    """Train, from the start or from where it was; the model is then the best one, and its test figures are known."""
    facts, resume = prepared.facts, prepared.resume
    about = prepared.content()  # what no file can say is refused before anything is told
    with ExitStack() as stack:
        all_of_them = list(callbacks)
        if facts.out is not None:
            if facts.options.tensorboard:
                all_of_them.insert(0, stack.enter_context(closing(Events(facts.out))))
            all_of_them.insert(0, metrics_log.Log(facts.out, lambda log: _begin(prepared, log)))
        tell(all_of_them, "started", facts)
        result = Trainer(
            facts.model,
            prepared.train,
            prepared.val,
            facts.options,
            eval_every=prepared.eval_every,
            out=facts.out,
            callbacks=all_of_them,
            rng=prepared.rng,
            about=about,
            resume=None if resume is None else resume.snapshot,
            changed=resume is not None and resume.options != facts.options,
        ).run()
        if result.signal in (None, signal.SIGINT):  # others leave no time for it
            try:
                if facts.model.settle(prepared.val) and facts.out is not None:
                    facts.model.write(facts.out / MODEL)
                if prepared.test is not None:
                    result.test = facts.model.evaluate(prepared.test)
                if callbacks and prepared.yardsticks is not None and not result.interrupted:
                    result.yardsticks = prepared.yardsticks()
            except KeyboardInterrupt:
                result.interrupted = True
        tell(all_of_them, "finished", result, facts.out)
    return result


def _begin(prepared: Prepared, log: metrics_log.Log) -> None:
    """Write what the run is, or goes on as; called when its first checkpoint is there."""
    facts, resume = prepared.facts, prepared.resume
    folder = log.path.parent
    if resume is None:
        run.begin(folder, facts, prepared.source, prepared.made_with)
        return
    had = asdict(resume.options)
    anew = {name: value for name, value in asdict(facts.options).items() if value != had[name]}
    run.go_on(folder, facts, prepared.source, prepared.made_with, anew)
    log.forget_after(facts.step, resume.states["now"]["history"])
    if anew:
        log.write(step=facts.step, anew=anew)


def load(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    cell: str | Cell | None = None,
    weights: str | None = None,
) -> Any:
    """Read a model file, of whatever kind; in a run's folder, that of the best model.

    Parameters
    ----------
    path : path
        "pride", a str, is the built-in language model of *Pride and Prejudice*, wherever that is called from; a file
        or folder of that name is "./pride", or a `Path`.
    backend : str
    cell : Cell or str, optional
        The cell, where it is a user's own: a file names it and holds none of its code. One that was registered
        (`unrolled.cells.register`) is found by its name.
    weights : str, optional
        "bfloat16" or "int8" (a scale a row) rounds the matrices of a float32 model, which `save` then writes in half
        or a quarter of the bytes. By default they are as the file has them; "float32" keeps the numbers of a small
        file, and writes them as float32. A small model that is trained on is a float32 model.

    Returns
    -------
    LanguageModel, Tagger, Classifier, Regressor or Forecaster

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file, which cell is missing, or why it can't be rounded.
    """
    kind, network, codec = files.read(files.model_file(path), backend, cell, weights)
    return kind.model(network, **codec)


def ended(model: M, result: Result) -> M:
    """Return the model, or let the interruption that ended its training go on.

    Raises
    ------
    Interrupted
        With the model.
    """
    if result.interrupted:
        with suppress(KeyboardInterrupt):
            send_again(result.signal)
        raise Interrupted(model)
    return model


__all__ = ["Model", "OfNetwork", "Prepared", "begin", "ended", "go_on", "load"]
