"""The one training loop: batch -> tape -> gradients -> clip -> update -> report.

It knows no kind of model: it sees batches, a loss, gradients and figures, and keeps all of it in files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from .. import backends, storage
from ..checks import Array
from ..data.batches import Batch, Batches
from ..errors import UnrolledError, count
from ..nn.masks import Masks, part_masks
from ..storage import Arrays, Stored
from .callbacks import Callback, Progress, Result, tell
from .clipping import clip_by_norm, clip_by_value, first_nonfinite
from .divergence import EXPLODED, ROLLBACKS, Diverged, KeptDiverging, described
from .interrupts import Interrupts
from .optimizers import Optimizer
from .schedules import Schedule
from .state import Evaluation, Snapshot, TrainingState, copied, map_state

MODEL, LAST, CHECKPOINT = "model.safetensors", "last.safetensors", "checkpoint.safetensors"
"""Files of a run: the model with the lowest validation loss, the one of the last checkpoint, and all it takes to go on
from there."""

Metrics = dict[str, float]
"""Figures by name; `loss` (nats a target, unless a kind of model says otherwise) is always there."""


class Model(Protocol):
    """A model as the loop sees it: numbers, and files that it can be read from again."""

    @property
    def params(self) -> Mapping[str, Array]:
        """Parameters by name; the loop changes them in place."""

    @property
    def backend(self) -> str:
        """Name of the backend that runs it."""

    @property
    def spec(self) -> Any:
        """Description of its network."""

    @property
    def guess(self) -> float:
        """Loss of guessing: what "exploded" is measured by."""

    @property
    def decides(self) -> str:
        """Name of the figure that says which model is the best."""

    def with_params(self, params: Mapping[str, Array]) -> Self:
        """Return the same model on other arrays."""

    def zero_state(self, batch: int) -> Any:
        """Return the state that B rows carry, all zeros; None where none is carried."""

    def draw_masks(self, batch: Batch, rng: np.random.Generator) -> Masks | None:
        """Draw the masks of one pass; None where nothing is dropped."""

    def loss_and_gradients(self, batch: Batch, state: Any, masks: Masks | None) -> tuple[float, dict[str, Array], Any]:
        """Return the mean loss of a batch, the gradient of what is minimised, and the state to carry on."""

    def evaluate(self, batches: Batches) -> Metrics:
        """Return the figures of a held-out part."""

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return a line that shows what the model does now."""

    def write(self, path: Path, params: Arrays | None = None) -> dict[str, Stored]:
        """Write a model file, of the parameters or of these; return them as they are in it."""


class Options(Protocol):
    """Options of a run that the loop reads."""

    batch_size: int
    epochs: float
    minutes: float | None
    patience: int
    accumulate: int
    average: str
    ema_decay: float
    average_after: int
    grad_clip: float
    clip: str
    checkpoint_every: int
    sample_length: int
    seed: int

    def make_optimizer(self, params: Any, backend: str) -> Optimizer:
        """Return the update rule on these parameters."""

    def make_schedule(self, steps: int) -> Schedule:
        """Return the learning-rate schedule of a run of that many steps."""


class Trainer:
    """One run of the loop.

    Parameters
    ----------
    model : Model
        Its parameters change in place; at the end they are those of the best validation.
    train : Batches
    val : Batches or None
        Without them the last parameters count as best.
    options : Options
    eval_every : int
        Steps between two validations.
    out : Path, optional
        Folder for the models and the checkpoint; it must exist.
    callbacks : sequence of Callback
    rng : numpy.random.Generator
        Draws the dropout masks.
    about : dict, optional
        What the checkpoint says beside the state, as JSON: options, codec, where the data came from.
    resume : pair of dicts, optional
        Arrays and content of a checkpoint: the run goes on from there, to the bit.
    changed : bool
        Whether a run that goes on has other options than its checkpoint says.
    """

    def __init__(
        self,
        model: Model,
        train: Batches,
        val: Batches | None,
        options: Options,
        *,
        eval_every: int,
        out: Path | None = None,
        callbacks: Sequence[Callback] = (),
        rng: np.random.Generator,
        about: Mapping[str, Any] | None = None,
        resume: Snapshot | None = None,
        changed: bool = False,
    ) -> None:
        self.model, self.train, self.val, self.options = model, train, val, options
        self.out, self.callbacks, self.about = out, tuple(callbacks), dict(about or {})
        self.resume, self.changed = resume, changed
        self.steps = max(1, round(options.epochs * len(train)))
        self.eval_every = eval_every
        optimizer = options.make_optimizer(model.params, model.backend)
        self.state = TrainingState(model, optimizer, options.make_schedule(self.steps), rng)
        self.good: Snapshot | None = None
        """The last scheduled checkpoint: where a divergence leads back to."""
        self.kept = -1
        """Step of the last checkpoint, scheduled or not."""
        self.torn = False
        """Whether a step has begun that did not end."""
        self.ended = False
        """Whether a callback has ended the run."""
        self.interrupts = Interrupts()
        self.rate = self.norm = 0.0
        # What is not in files is copied; the memory of a copy serves the next.
        self._copies, self._best_copies = dict[str, Array](), dict[str, Array]()
        if resume is not None:
            self._go_on_from(*resume)
        self._began, self._seconds_before = time.perf_counter(), self.state.seconds

    def _go_on_from(self, arrays: Arrays, content: Mapping[str, Any]) -> None:
        self.state.restore((part(arrays, "now."), content["now"]), self.options.batch_size)
        which = "good" if "good" in content else "now"
        self.good = part(arrays, f"{which}."), content[which]
        self.kept = self.state.step

    def run(self) -> Result:
        """Train until it is over or interrupted; everything is saved then.

        Raises
        ------
        UnrolledError
            If the loss keeps becoming NaN or exploding; files saved before stay.
        """
        interrupted = False
        # Overflow is looked for below, and reported by step and tensor instead of by a warning.
        with self.interrupts, np.errstate(all="ignore"), backends.undisturbed(self.model.backend):
            try:
                self._loop()
            except KeyboardInterrupt:
                interrupted = True
                # Another signal must not tear what the first one saves; what has diverged is not saved.
                with suppress(KeyboardInterrupt, Diverged), self.interrupts.whole():
                    self.save(scheduled=False)
                    self._tell("saved", self.state.step)
            except Exception:  # a callback's, whose output is full, say: that is no reason to lose the run
                if self.kept >= 0 and not self.torn:
                    with suppress(Diverged, UnrolledError), self.interrupts.whole():
                        self.save(scheduled=False)
                raise
        backends.trim()
        state = self.state
        for name, p in state.best_params.items():
            self.model.params[name][...] = np.asarray(p)
        return Result(
            steps=state.step,
            epochs=self.epoch,
            seconds=self.seconds,
            symbols_per_second=self.speed,
            interrupted=interrupted,
            signal=self.interrupts.number if interrupted else None,
            history=state.history,
            best=state.best,
        )

    def _loop(self) -> None:
        if self.resume is not None:
            with self.interrupts.whole():
                if self.changed:
                    self.save(scheduled=False)
                else:
                    self.write_models()  # a run may have been killed after its checkpoint and before its models
                self._tell("saved", self.state.step)
                if self.state.step:
                    self.rate, self.norm = self._rate(self.state.step - 1), math.nan
                    self._tell("resumed", self.progress())
                if self.over():
                    self._tell("noted", "over", self._why_over())
        while True:
            try:
                if self._stop():
                    break
                with self.interrupts.whole():
                    self.torn = True
                    self.step()
                    self.torn = False
            except Diverged as why:
                self.torn = True
                self.roll_back(why)
                self.torn = False
            else:
                self._tell("stepped", self.progress())

    def _stop(self) -> bool:
        """Validate and save where it is time to; return whether the run is over."""
        state = self.state
        done = self.over()
        if state.evaluated < state.step and (state.step % self.eval_every == 0 or done):
            self.validate()
            done = done or self.ended or self.out_of_patience()
        if self.due() or (done and self.kept < state.step):
            with self.interrupts.whole():  # the first finds out now, not after an hour, that nothing can be written
                self.save(scheduled=self.due())
            self._tell("saved", state.step)
        return done

    def _tell(self, event: str, *args: Any) -> None:
        self.ended |= tell(self.callbacks, event, *args)

    # --- where it stands

    @property
    def seconds(self) -> float:
        """Seconds of the run, all its starts together."""
        return self._seconds_before + time.perf_counter() - self._began

    @property
    def epoch(self) -> float:
        """Passes over the training part so far."""
        return self.state.step / len(self.train)

    @property
    def speed(self) -> float:
        """Targets a second; a step may take no time that the clock shows."""
        return self.train.targets * self.state.step / len(self.train) / max(self.state.busy, 1e-9)

    def progress(self) -> Progress:
        """Return the figures of the last step."""
        state, now, minutes = self.state, self.seconds, self.options.minutes
        left = (self.steps - state.step) * state.busy / state.step
        limit = math.inf if minutes is None else max(0.0, 60 * minutes - now)
        return Progress(
            state.step, self.steps, self.epoch, state.smooth, self.rate, self.norm, self.speed, now, min(left, limit)
        )

    def over(self) -> bool:
        """Whether steps, time or patience have run out, or a callback has ended the run."""
        minutes = self.options.minutes
        in_time = minutes is None or self.state.step == 0 or self.seconds < 60 * minutes
        return self.ended or self.state.step >= self.steps or not in_time or self.out_of_patience()

    def _why_over(self) -> str:
        """Return why a run that is over has no more to do, and what gives it more."""
        if self.state.step >= self.steps:
            return f"nothing is left to do in {self.options.epochs:g} epochs; --epochs gives it more in all"
        checked = count(self.options.patience, "validation")
        return f"nothing is left to do: {checked} found nothing better; --patience waits for more, 0 for all"

    def out_of_patience(self) -> bool:
        """Whether too many validations have found nothing better."""
        state = self.state
        since = sum(e.step > state.best.step for e in state.history) if state.best else 0
        return 0 < self.options.patience <= since

    def due(self) -> bool:
        """Whether a scheduled checkpoint is due; what was saved at a stop, before its time, does not count."""
        on_time = self.state.step % self.options.checkpoint_every == 0
        return self.kept < 0 or (on_time and step_of(self.good) < self.state.step)

    # --- a step

    def step(self) -> None:
        """Make one update."""
        tick, state, model, options = time.perf_counter(), self.state, self.model, self.options
        k = state.step % len(self.train)
        batch = self._of_epoch(state.step // len(self.train))(k)
        masks = model.draw_masks(batch, state.rng)
        before = state.carried if self.train.carries and k else None
        loss, grads, carried = accumulated(model, batch, before, masks, options.accumulate)
        clip = clip_by_norm if options.clip == "norm" else clip_by_value
        norm = clip(grads, options.grad_clip or math.inf, model.backend)
        if not (math.isfinite(loss) and math.isfinite(norm) and loss < EXPLODED * model.guess):
            raise described(state.step + 1, "training loss", loss, model.params, grads)
        rate = self._rate(state.step)
        state.optimizer.update(grads, rate * batch.share)
        state.step += 1
        self._average()
        state.carried = carried if self.train.carries else None
        state.recent.append(loss)
        state.smooth = loss if math.isnan(state.smooth) else state.smooth + 0.05 * (loss - state.smooth)
        state.busy += time.perf_counter() - tick
        self.rate, self.norm = rate, norm

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        minutes = self.options.minutes
        time_used = 0.0 if minutes is None else min(1.0, self.seconds / (60 * minutes))
        return self.state.schedule.rate(step, step / len(self.train), time_used) * self.state.rate_scale

    def _of_epoch(self, epoch: int) -> Callable[[int], Batch]:
        """Return what gives the batches of an epoch.

        What is drawn follows from the seed and the epoch alone, so that a run which goes on finds it again.
        """
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self.train.of_epoch([self.options.seed, epoch])
        return self._epoch[1]

    _epoch: tuple[int, Callable[[int], Batch]] | None = None

    def _average(self) -> None:
        """Take the weights into their average, if there is one."""
        state = self.state
        if self.options.average == "ema":
            # The first average is the weights themselves, so that the start leaves no trace.
            state.update_average(1 - self.options.ema_decay if state.average else 1.0)
        elif state.average:
            state.averaged += 1
            state.update_average(1 / state.averaged)

    # --- validation

    def validate(self) -> None:
        """Measure the model on the held-out part; keep it if it is the best so far."""
        state, model = self.state, self.model
        shown = model.with_params(state.average) if state.average else model
        metrics = None if self.val is None else shown.evaluate(self.val)
        loss = None if metrics is None else metrics.pop("loss")
        if loss is not None and not math.isfinite(loss):
            raise described(state.step, "validation loss", loss, model.params, {})
        recent = sum(state.recent) / max(1, len(state.recent))
        now = Evaluation(state.step, self.epoch, recent, loss, self.seconds, metrics or {})
        best = loss is None or state.best is None or now.merit(model.decides) > state.best.merit(model.decides)
        with self.interrupts.whole():
            if loss is not None:
                state.schedule.observe(loss)
            state.history.append(now)
            state.recent.clear()
            state.evaluated = state.step
            self._begin_asgd(loss)
            if best:
                stored = None if self.out is None else shown.write(self.out / MODEL)
                state.best, state.best_params = now, self._best_of(shown, stored)
            self._tell("evaluated", now, best)  # what is in the history has been told, whatever comes between
        if self.options.sample_length:
            backends.trim()  # a line's packed weights take the place of what a step keeps, and go again
            # its random numbers are its own, so that looking does not change the run
            line = shown.preview(np.random.default_rng([self.options.seed, state.step]), self.options.sample_length)
            backends.trim()
            if line:
                self._tell("sampled", line)

    def _begin_asgd(self, loss: float | None) -> None:
        """Begin to average once validation has stopped getting better (NT-ASGD, Merity et al. 2018)."""
        state, after = self.state, self.options.average_after
        if self.options.average != "asgd" or state.average or loss is None:
            return
        earlier = [e.val_loss for e in state.history[: -after - 1] if e.val_loss is not None]
        if earlier and loss > min(earlier):
            state.averaged = 1
            state.update_average(1.0)

    def _best_of(self, shown: Model, stored: dict[str, Stored] | None) -> dict[str, Array] | dict[str, Stored]:
        """Return parameters as they are now: in their file, since copies take as much memory as the network."""
        if stored is not None and storage.HOLDS_FILES:
            return stored
        return copied(shown.params, self._best_copies)

    # --- files

    def save(self, *, scheduled: bool) -> None:
        """Keep all of the run; between the scheduled steps also what a divergence leads back to."""
        state = self.state
        if bad := first_nonfinite(self.model.params):
            raise Diverged(f"stopped at step {state.step}: {bad} holds values that are not finite")
        state.seconds = self.seconds
        old = None if scheduled else self.good
        now = state.content()
        if self.out is None:
            self.good = old or state.snapshot(self._copies)
        else:
            content: dict[str, Any] = {"now": now}
            arrays = {f"now.{name}": a for name, a in state.arrays().items()}
            if old is not None and step_of(old) < state.step:
                content["good"] = old[1]
                arrays |= {f"good.{name}": a for name, a in old[0].items() if not name.startswith("best.")}
            stored = storage.write_arrays(self.out / CHECKPOINT, "unrolled_run", arrays, content | self.about)
            if storage.HOLDS_FILES:
                kept = old if old and "good" in content else None
                self.good = (part(stored, "good."), kept[1]) if kept else (part(stored, "now."), now)
            else:
                self.good = old or state.snapshot(self._copies)
            self.write_models()
        self.kept = state.step

    def write_models(self) -> None:
        """Write the last model and the best one, if there is a folder."""
        if self.out is None:
            return
        self.model.write(self.out / LAST)
        stored = self.model.write(self.out / MODEL, self.state.best_params or None)
        if self.state.best_params and storage.HOLDS_FILES:
            self.state.best_params = stored

    def roll_back(self, why: Diverged) -> None:
        """Return to the last good step with half the rate, or give up."""
        state, good = self.state, self.good
        if good is None or state.rollbacks >= ROLLBACKS:
            tried = f" ({ROLLBACKS} lower rates were tried)" if state.rollbacks else ""
            kept = f"{self._what_is_kept()}; try a lower --learning-rate or --grad-clip"
            raise KeptDiverging(f"{why}{tried}", kept)
        rollbacks, scale = state.rollbacks + 1, state.rate_scale / 2
        best, best_params = state.best, state.best_params
        with self.interrupts.whole():
            state.restore(good, self.options.batch_size)
            state.rollbacks, state.rate_scale = rollbacks, scale
            state.best, state.best_params = best, best_params
            self.kept = state.step
            self._tell("rolled_back", str(why), state.step, scale)

    def _what_is_kept(self) -> str:
        if self.out is None:
            return "Nothing was saved, since no folder was given"
        if self.state.best is None and not (self.out / MODEL).is_file():
            return f"No model had been validated, and nothing is saved in {self.out} yet"
        if self.state.best is None:
            return f"No model had been validated; {self.out} holds the untrained one"
        return f"The best model so far, of step {self.state.best.step:,}, is kept in {self.out / MODEL}"


def step_of(snapshot: Snapshot | None) -> int:
    """Return the step of a snapshot, -1 of none."""
    return -1 if snapshot is None else int(snapshot[1]["step"])


def part(arrays: Arrays, prefix: str) -> dict[str, Array | Stored]:
    """Return the arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def accumulated(
    model: Model, batch: Batch, state: Any, masks: Masks | None, parts: int
) -> tuple[float, dict[str, Array], Any]:
    """Return `model.loss_and_gradients` of a batch, run in so many groups of rows at most, one after another."""
    if parts == 1:
        return model.loss_and_gradients(batch, state, masks)
    loss, total, states, size = 0.0, dict[str, Array](), list[Any](), -(-batch.size // parts)
    for start in range(0, batch.size, size):
        rows = slice(start, start + size)
        mine = state if state is None else map_state(lambda a: np.ascontiguousarray(a[:, rows]), state)  # noqa: B023
        group = batch.rows(rows)
        if not group.targets and mine is None:
            continue  # rows that count nothing
        shares = batch.targets / group.targets  # of a mean over all targets
        one, grads, new = model.loss_and_gradients(group, mine, part_masks(masks, rows=rows))
        loss += one / shares
        states.append(new)
        for name in list(grads):  # which are ours; each goes once it is added
            g = grads.pop(name)
            g /= shares
            total[name] = np.add(total[name], g, out=total[name]) if name in total else g
    carried = None if states[0] is None else map_state(lambda *a: np.concatenate(a, axis=1), *states)
    return loss, total, carried
