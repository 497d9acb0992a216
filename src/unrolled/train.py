"""The one training loop: batch -> tape -> gradients -> clip -> update -> report."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from . import backends, checkpoint, sample, storage
from .checks import Array
from .data.batches import Lanes, Tokens, lanes
from .data.text import Vocabulary
from .errors import UnrolledError
from .nn.masks import Masks, part_masks
from .nn.network import Network
from .options import Options
from .score import evaluate
from .storage import Arrays, Stored
from .training.clipping import clip_by_norm, clip_by_value, first_nonfinite
from .training.state import Evaluation, Snapshot, TrainingState, copied, map_state

MODEL, LAST, CHECKPOINT = "model.safetensors", "last.safetensors", "checkpoint.safetensors"
"""Files of a run: the model with the lowest validation loss, the one of the last checkpoint, and all it takes to go on
from there."""

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a run, with everything saved."""

LANES, LANE_LENGTH = 64, 1000
"""Lanes that a held-out part is read in, at most, and the steps that each has at least: few enough starts from an empty
state that they hardly show."""

ROLLBACKS = 3
"""Divergences of a run that lead back to the last good step, each halving the learning rate; one more ends it."""

EXPLODED = 10
"""A loss above this many times that of guessing (ln V) has diverged: no text is that hard to predict."""


@dataclass(frozen=True)
class Progress:
    """One step's figures: losses in nats a symbol, the gradient's norm before clipping, times in seconds."""

    step: int
    steps: int
    epoch: float
    loss: float
    rate: float
    gradient_norm: float
    symbols_per_second: float
    seconds: float
    seconds_left: float


@dataclass
class Result:
    """What came of a run."""

    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    symbols_per_second: float = 0.0
    interrupted: bool = False
    signal: int | None = None
    """What interrupted it, if it was a signal."""
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    test_loss: float | None = None


class Listener:
    """Is told how a run goes; every method may be overridden."""

    def started(self, facts: Facts) -> None:
        """Called once, before the first step."""

    def stepped(self, progress: Progress) -> None:
        """Called after every step."""

    def resumed(self, progress: Progress) -> None:
        """Called once where a run goes on, with the figures of its last step; the gradient's norm is not known."""

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Called after every validation."""

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Called when a divergence led back to an earlier step, at `factor` times the scheduled rate."""

    def sampled(self, text: str) -> None:
        """Called with a line from the model, after a validation."""

    def saved(self, step: int) -> None:
        """Called after every checkpoint: first before the first step, or where a run goes on."""

    def finished(self, result: Result, out: Path | None) -> None:
        """Called once, when the run is over or interrupted and all is saved."""


class Chained(Listener):
    """Passes everything on to another listener."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def started(self, facts: Facts) -> None:
        """Pass it on."""
        self.listener.started(facts)

    def stepped(self, progress: Progress) -> None:
        """Pass it on."""
        self.listener.stepped(progress)

    def resumed(self, progress: Progress) -> None:
        """Pass it on."""
        self.listener.resumed(progress)

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Pass it on."""
        self.listener.evaluated(evaluation, best)

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Pass it on."""
        self.listener.rolled_back(why, step, factor)

    def sampled(self, text: str) -> None:
        """Pass it on."""
        self.listener.sampled(text)

    def saved(self, step: int) -> None:
        """Pass it on."""
        self.listener.saved(step)

    def finished(self, result: Result, out: Path | None) -> None:
        """Pass it on."""
        self.listener.finished(result, out)


@dataclass(frozen=True)
class Facts:
    """What is known before the first step; counts are in symbols, entropies in nats a symbol."""

    name: str
    notes: tuple[str, ...]
    level: str
    symbols: int
    vocabulary_size: int
    split: tuple[int, int, int]
    unigram_entropy: float
    bigram_entropy: float
    network: Network
    options: Options
    out: Path | None
    step: int = 0
    """Above 0 where a run goes on."""
    documents: bool = False
    """Whether the text has documents that are kept apart."""


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


def make_folder(path: Path, *, new: bool = False) -> Path:
    """Make a run's folder; a `new` one is the first of path, path-2, path-3, ... that nobody has made before."""
    n, base = 1, path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while new and os.path.lexists(path):  # a link to nowhere is there too
            n += 1
            path = base.with_name(f"{base.name}-{n}")
        path.mkdir(exist_ok=not new)
    except (FileExistsError, NotADirectoryError):
        if new and base.parent.is_dir():  # another run took the name just now
            return make_folder(base, new=True)
        there = next(p for p in (path, *path.parents) if os.path.lexists(p))
        what = "a link to nowhere" if not there.exists() else "a link to a file" if there.is_symlink() else "a file"
        raise UnrolledError(f"can't make the folder {path}: {there} is {what}; move it away first") from None
    except OSError as error:
        raise UnrolledError(f"can't make the folder {path}: {error.strerror}") from None
    return path


def held_out_lanes(part: Array, options: Options, documents: Tokens | None = None) -> Lanes | None:
    """Cut a held-out part into lanes; None if it is empty.

    How many there are is up to the part alone, so that its loss is the same whatever the batch: every lane starts from
    an empty state, and many short ones would be a harder text. Chunks hold about as many symbols as a batch does, which
    bounds the memory and changes no result.
    """
    if len(part) < 2:
        return None
    count = max(1, min(LANES, (len(part) - 1) // LANE_LENGTH))
    steps = max(1, min(options.batch_size * options.seq_length // count, (len(part) - 1) // count))
    return lanes(part, count, steps, documents=documents)


def fit(
    network: Network,
    vocabulary: Vocabulary,
    train: Array,
    val: Array,
    options: Options,
    *,
    out: Path | None = None,
    listener: Listener | None = None,
    rng: np.random.Generator,
    about: Mapping[str, Any] | None = None,
    resume: Snapshot | None = None,
    documents: tuple[Tokens | None, Tokens | None] = (None, None),
) -> Result:
    """Train a network in place.

    Parameters
    ----------
    network : Network
        Its parameters change in place; at the end they are those with the lowest validation loss.
    vocabulary : Vocabulary
    train, val : (N,) integers
        Training and validation tokens; `val` may be empty, then the last parameters count as best.
    options : Options
    out : Path, optional
        Folder for the models and the checkpoint; it must exist.
    listener : Listener, optional
    rng : numpy.random.Generator
        Draws the dropout masks.
    about : dict, optional
        What else the checkpoint says, as JSON: where the text came from.
    resume : pair of dicts, optional
        What `checkpoint.load_run` gave: the run goes on from there, to the bit.
    documents : pair of arrays, optional
        Where documents begin in `train` and in `val`, if their states are to be kept apart.

    Returns
    -------
    Result

    Raises
    ------
    UnrolledError
        If the text is too short, or the loss keeps becoming NaN or exploding; files saved before stay.
    """
    listener = listener or Listener()
    sizes = options.batch_size, options.seq_length
    batches = lanes(train, *sizes, name="the training part", unit=vocabulary.unit, documents=documents[0])
    val_lanes = held_out_lanes(val, options, documents[1])
    steps = max(1, round(options.epochs * len(batches)))
    eval_every = options.eval_every or max(100, math.ceil(4 * len(val) / (options.batch_size * options.seq_length)))
    optimizer = options.make_optimizer(network.params, network.recurrent.backend)
    state = TrainingState(network, optimizer, options.make_schedule(steps), rng)
    good: Snapshot | None = None  # the last scheduled checkpoint: where a divergence leads back to
    copies, best_copies = dict[str, Array](), dict[str, Array]()  # what is not in files; their memory serves the next
    if resume is not None:
        arrays, content = resume
        state.restore((_part(arrays, "now."), content["now"]), options.batch_size)
        which = "good" if "good" in content else "now"
        good = _part(arrays, f"{which}."), content[which]
    began, seconds_before, kept = time.perf_counter(), state.seconds, state.step if resume else -1
    torn = False  # whether a step has begun that did not end

    def seconds() -> float:
        return seconds_before + time.perf_counter() - began

    def due() -> bool:
        """Whether a scheduled checkpoint is due; what was saved at a stop, before its time, does not count."""
        return kept < 0 or (state.step % options.checkpoint_every == 0 and _step_of(good) < state.step)

    def save(*, scheduled: bool) -> None:
        """Keep all of the run; between the scheduled steps also what a divergence leads back to."""
        nonlocal good, kept
        if bad := first_nonfinite(network.params):
            raise _Diverged(f"stopped at step {state.step}: {bad} holds values that are not finite")
        state.seconds = seconds()
        old = None if scheduled else good
        now = state.content()
        if out is None:
            good = old or state.snapshot(copies)
        else:
            content: dict[str, Any] = {"options": asdict(options), "vocabulary": vocabulary.to_json(), "now": now}
            arrays = {f"now.{name}": a for name, a in state.arrays().items()}
            if old is not None and old[1]["step"] < state.step:
                content["good"] = old[1]
                arrays |= {f"good.{name}": a for name, a in old[0].items() if not name.startswith("best.")}
            stored = checkpoint.save_run(out / CHECKPOINT, arrays, content | dict(about or {}))
            if storage.HOLDS_FILES:
                good = (_part(stored, "good."), old[1]) if old and "good" in content else (_part(stored, "now."), now)
            else:
                good = old or state.snapshot(copies)
            save_models()
        kept = state.step

    def save_models() -> None:
        if out is not None:
            checkpoint.save(out / LAST, network, vocabulary)
            stored = checkpoint.save(out / MODEL, network, vocabulary, state.best_params or None)
            if state.best_params and storage.HOLDS_FILES:
                state.best_params = stored

    def best_of(shown: Network, stored: dict[str, Stored] | None) -> dict[str, Array] | dict[str, Stored]:
        """Return parameters as they are now: in their file, since copies take as much memory as the network."""
        if stored is not None and storage.HOLDS_FILES:
            return stored
        return copied(shown.params, best_copies)

    def validate() -> None:
        shown = network.with_params(state.average) if state.average else network
        loss = None if val_lanes is None else evaluate(shown, val_lanes)
        if loss is not None and not math.isfinite(loss):
            raise _Diverged(_diverged(state.step, "validation loss", loss, network, {}))
        epoch = state.step / len(batches)
        now = Evaluation(state.step, epoch, sum(state.recent) / max(1, len(state.recent)), loss, seconds())
        is_best = loss is None or state.best is None or loss < (state.best.val_loss or math.inf)
        with whole():
            if loss is not None:
                state.schedule.observe(loss)
            state.history.append(now)
            state.recent.clear()
            state.evaluated = state.step
            if options.average == "asgd" and not state.average and loss is not None:
                earlier = [e.val_loss for e in state.history[: -options.average_after - 1] if e.val_loss is not None]
                if earlier and loss > min(earlier):
                    state.averaged = 1
                    state.update_average(1.0)
            if is_best:
                stored = None if out is None else checkpoint.save(out / MODEL, shown, vocabulary)
                state.best, state.best_params = now, best_of(shown, stored)
            listener.evaluated(now, is_best)  # what is in the history has been told, whatever comes between
        if options.sample_length:
            backends.trim()  # a line's packed weights take the place of what a step keeps, and go again
            line = _line(shown, vocabulary, options, state.step)
            backends.trim()
            listener.sampled(line)

    def rate_at(step: int) -> float:
        time_used = 0.0 if options.minutes is None else min(1.0, seconds() / (60 * options.minutes))
        return state.schedule.rate(step, step / len(batches), time_used) * state.rate_scale

    def step() -> tuple[float, float]:
        """Make one update; return its learning rate and the norm of its gradient."""
        tick = time.perf_counter()
        k = state.step % len(batches)
        x, y = batches[k]
        masks, starts = network.draw_masks(x.shape[0], x.shape[1], rng), batches.starts(k)
        before = None if k == 0 else state.carried
        if options.accumulate == 1:
            loss, grads, carried = network.loss_and_gradients(x, y, before, masks=masks, starts=starts)
        else:
            loss, grads, carried = _accumulate(network, x, y, before, masks, starts, options.accumulate)
        norm = _clip(grads, options, network.recurrent.backend)
        limit = EXPLODED * math.log(network.spec.vocabulary_size + 1)
        if not (math.isfinite(loss) and math.isfinite(norm) and loss < limit):
            raise _Diverged(_diverged(state.step + 1, "training loss", loss, network, grads))
        rate = rate_at(state.step)
        state.optimizer.update(grads, rate)
        state.step += 1
        if options.average == "ema":
            # The first average is the weights themselves, so that the start leaves no trace.
            state.update_average(1 - options.ema_decay if state.average else 1.0)
        elif state.average:
            state.averaged += 1
            state.update_average(1 / state.averaged)
        state.carried = carried
        state.recent.append(loss)
        state.smooth = loss if math.isnan(state.smooth) else state.smooth + 0.05 * (loss - state.smooth)
        state.busy += time.perf_counter() - tick
        return rate, norm

    def roll_back(why: _Diverged) -> None:
        """Return to the last good step with half the rate, or give up."""
        if good is None or state.rollbacks >= ROLLBACKS:
            tried = f" ({ROLLBACKS} lower rates were tried)" if state.rollbacks else ""
            raise UnrolledError(
                f"{why}{tried}. {_what_is_kept(out, state)}; try a lower --learning-rate or --grad-clip"
            )
        nonlocal kept
        rollbacks, scale = state.rollbacks + 1, state.rate_scale / 2
        best, best_params = state.best, state.best_params
        with whole():
            state.restore(good, options.batch_size)
            state.rollbacks, state.rate_scale = rollbacks, scale
            state.best, state.best_params = best, best_params
            kept = state.step
            listener.rolled_back(str(why), state.step, scale)

    def over() -> bool:
        in_time = options.minutes is None or state.step == 0 or seconds() < 60 * options.minutes
        return state.step >= steps or not in_time or out_of_patience()

    def out_of_patience() -> bool:
        since = sum(e.step > state.best.step for e in state.history) if state.best else 0
        return 0 < options.patience <= since

    def speed() -> float:
        """Return symbols a second; a step may take no time that the clock shows."""
        return batches.tokens_per_epoch * state.step / len(batches) / max(state.busy, 1e-9)

    def progress(rate: float, norm: float) -> Progress:
        now = seconds()
        left = (steps - state.step) * state.busy / state.step
        limit = math.inf if options.minutes is None else max(0.0, 60 * options.minutes - now)
        epoch = state.step / len(batches)
        return Progress(state.step, steps, epoch, state.smooth, rate, norm, speed(), now, min(left, limit))

    interrupts, interrupted = Interrupts(), False
    whole = interrupts.whole
    # Overflow is looked for above, and reported by step and tensor instead of by a warning.
    with interrupts, np.errstate(all="ignore"), backends.undisturbed(network.recurrent.backend):
        try:
            if resume is not None:
                with whole():
                    if resume[1].get("options") == json.loads(json.dumps(asdict(options))):
                        save_models()  # a run may have been killed after its checkpoint and before its models
                    else:
                        save(scheduled=False)
                    listener.saved(state.step)
                    if state.step:
                        listener.resumed(progress(rate_at(state.step - 1), math.nan))
            while True:
                try:
                    done = over()
                    if state.evaluated < state.step and (state.step % eval_every == 0 or done):
                        validate()
                        done = done or out_of_patience()
                    if due() or (done and kept < state.step):
                        with whole():
                            save(
                                scheduled=due()
                            )  # the first finds out now, not after an hour, that the folder can't be written
                        listener.saved(state.step)
                    if done:
                        break
                    with whole():
                        torn = True
                        made = step()
                        torn = False
                except _Diverged as why:
                    torn = True
                    roll_back(why)
                    torn = False
                else:
                    listener.stepped(progress(*made))
        except KeyboardInterrupt:
            interrupted = True
            # Another signal must not tear what the first one saves; what has diverged is not saved.
            with suppress(KeyboardInterrupt, _Diverged), whole():
                save(scheduled=False)
                listener.saved(state.step)
        except Exception:  # a listener's, whose output is full, say: that is no reason to lose the run
            if kept >= 0 and not torn:
                with suppress(_Diverged, UnrolledError), whole():
                    save(scheduled=False)
            raise
    backends.trim()
    if state.best_params:
        for name, p in network.params.items():
            p[...] = np.asarray(state.best_params[name])
    return Result(
        steps=state.step,
        epochs=state.step / len(batches),
        seconds=seconds(),
        symbols_per_second=speed(),
        interrupted=interrupted,
        signal=interrupts.number if interrupted else None,
        history=state.history,
        best=state.best,
    )


class _Diverged(Exception):
    """The numbers went wrong; the message says where."""


def _step_of(snapshot: Snapshot | None) -> int:
    return -1 if snapshot is None else int(snapshot[1]["step"])


def _part(arrays: Arrays, prefix: str) -> dict[str, Array | Stored]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _what_is_kept(out: Path | None, state: TrainingState) -> str:
    if out is None:
        return "Nothing was saved, since no folder was given"
    if state.best is None:
        return f"No model had been validated; {out} holds the untrained one"
    return f"The best model so far, of step {state.best.step:,}, is kept in {out / MODEL}"


def _accumulate(
    network: Network, x: Array, y: Array, state: Any, masks: Masks | None, starts: Array | None, parts: int
) -> tuple[float, dict[str, Array], Any]:
    """`network.loss_and_gradients` of x, y (T, B), a group of B / parts lanes at a time."""
    loss, total, states, size = 0.0, dict[str, Array](), [], x.shape[1] // parts
    for start in range(0, x.shape[1], size):
        lanes_ = slice(start, start + size)
        mine = state if state is None else map_state(lambda a: np.ascontiguousarray(a[:, lanes_]), state)  # noqa: B023
        kept = part_masks(masks, rows=lanes_)
        begins = None if starts is None else starts[:, lanes_]
        part, grads, new = network.loss_and_gradients(
            np.ascontiguousarray(x[:, lanes_]), np.ascontiguousarray(y[:, lanes_]), mine, masks=kept, starts=begins
        )
        loss += part / parts
        states.append(new)
        for name in list(grads):  # which are ours; each goes once it is added
            g = grads.pop(name)
            g /= parts
            total[name] = np.add(total[name], g, out=total[name]) if name in total else g
    return loss, total, map_state(lambda *a: np.concatenate(a, axis=1), *states)


def _clip(grads: dict[str, Array], options: Options, backend: str) -> float:
    """Clip the gradients in place as asked; return their norm before."""
    clip = clip_by_norm if options.clip == "norm" else clip_by_value
    return clip(grads, options.grad_clip or math.inf, backend)


def _line(network: Network, vocabulary: Vocabulary, options: Options, step: int) -> str:
    """Sample one line; its random numbers are its own, so that looking does not change the run."""
    rng = np.random.default_rng([options.seed, step])
    start = np.array([vocabulary.first_token(rng)])
    drawn = list(sample.tokens(network, start, options.sample_length, 0.7, rng, end=vocabulary.end))
    return vocabulary.decode(drawn)


def _diverged(step: int, what: str, loss: float, network: Network, grads: dict[str, Array]) -> str:
    """Say at which step and in which tensor the numbers went wrong."""
    bad = first_nonfinite(network.params)
    where = f"{bad} holds values that are not finite" if bad else ""
    if not where and (bad := first_nonfinite(grads)):
        where = f"the gradient of {bad} is not finite"
    if not where and grads:
        norms = {name: float(np.linalg.norm(g)) for name, g in grads.items()}
        largest = max(norms, key=norms.__getitem__)
        where = f"the largest gradient is that of {largest}, norm {norms[largest]:.3g}"
    if not where:
        peaks = {name: float(np.abs(p).max()) for name, p in network.params.items()}
        largest = max(peaks, key=peaks.__getitem__)
        where = f"the largest parameter, {peaks[largest]:.3g}, is in {largest}"
    said = "is not a number" if math.isnan(loss) else f"exploded to {loss:.4g} nats"
    if math.isfinite(loss) and loss < EXPLODED:
        said = f"is {loss:.4g} nats"
    return f"stopped at step {step}: the {what} {said}; {where}"
