"""The one training loop: batch -> tape -> gradients -> clip -> update -> report."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from . import backends, checkpoint, sample
from .batches import Lanes, lanes
from .errors import UnrolledError, suggest
from .initial import INITS
from .network import Network, Spec
from .optim import (
    OPTIMIZERS,
    Optimizer,
    Schedule,
    clip_by_norm,
    clip_by_value,
    first_nonfinite,
    make_optimizer,
    make_schedule,
)
from .recurrent import DTYPES, check_fraction, check_size, find_cell
from .scan import Array
from .score import evaluate
from .text import LEVELS, Vocabulary

MODEL, LAST = "model.safetensors", "last.safetensors"
"""Files of a run: the model with the lowest validation loss, and the one of the last checkpoint."""

EXPLODED = 10
"""A loss above this many times that of guessing (ln V) has diverged: no text is that hard to predict."""


@dataclass(frozen=True)
class Options:
    """How to build and train a language model.

    Attributes
    ----------
    level : str
        What a symbol is: "char" or "byte".
    cell, embedding_size, hidden_size, num_layers, dropout, dtype, and what follows them
        As in `unrolled.network.Spec`.
    init : str
        Initial weights: a name in `unrolled.initial.INITS`.
    seq_length, batch_size : int
        T steps of truncated back-propagation and B lanes side by side.
    epochs : float
        Passes over the training part.
    minutes : float or None
        Stop after this time; None for no limit.
    optimizer : str
        Update rule; `momentum`, `decay_rate` (the moving average of RMSprop or Adadelta) and `weight_decay` are its
        options, None for the rule's own default.
    learning_rate : float or None
        None for the rule's own default.
    schedule : str
        "constant"; "exponential" (`lr_decay` each epoch from `lr_decay_after` on); "step" (`lr_decay` every
        `lr_decay_every` epochs); "cosine" (after `warmup` steps); "plateau" (`lr_decay` when validation stops falling).
    grad_clip : float
        Largest gradient, 0 for no limit; `clip` says whether of the norm of all ("norm") or of every entry ("value").
    val_fraction, test_fraction : float
        Shares of the text kept out of training: validation before test, both at the end.
    seed : int
        Of everything random.
    checkpoint_every : int
        Steps between two saves.
    eval_every : int
        Steps between two validations; 0 chooses, so that validation takes a small share of the time.
    sample_length : int
        Symbols of the line sampled at each validation; 0 for none.
    """

    level: str = "char"
    cell: str = "lstm"
    embedding_size: int = 64
    hidden_size: int | tuple[int, ...] = 128
    num_layers: int = 2
    dropout: float = 0.0
    dtype: str = "float32"
    locked_dropout: float = 0.0
    embedding_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_drop: float = 0.0
    zoneout: float = 0.0
    zoneout_cell: float = 0.0
    residual: bool = False
    proj_size: int = 0
    learn_state: bool = False
    tied: bool = False
    init: str = "pytorch"
    forget_bias: float | None = None
    seq_length: int = 50
    batch_size: int = 50
    epochs: float = 50.0
    minutes: float | None = None
    optimizer: str = "adam"
    learning_rate: float | None = None
    momentum: float | None = None
    decay_rate: float | None = None
    weight_decay: float | None = None
    schedule: str = "constant"
    lr_decay: float | None = None
    lr_decay_after: float = 10
    lr_decay_every: float = 5
    warmup: int = 0
    grad_clip: float = 5.0
    clip: str = "norm"
    val_fraction: float = 0.05
    test_fraction: float = 0.0
    seed: int = 1
    checkpoint_every: int = 1000
    eval_every: int = 0
    sample_length: int = 80

    def __post_init__(self) -> None:
        for name in ("seq_length", "batch_size", "checkpoint_every"):
            check_size(name, getattr(self, name))
        for name in ("embedding_size", "eval_every", "sample_length", "seed", "warmup"):
            check_size(name, getattr(self, name), least=0)
        for name in ("val_fraction", "test_fraction", "dropout", "embedding_dropout"):
            check_fraction(name, getattr(self, name))
        if self.val_fraction + self.test_fraction >= 1:
            raise UnrolledError("val_fraction and test_fraction leave nothing to train on; their sum must be below 1")
        if self.sample_length > 1_000_000:
            raise UnrolledError(f"sample_length is {self.sample_length}; it must be at most a million")
        if self.lr_decay is not None and not 0 < self.lr_decay <= 1:
            raise UnrolledError(f"lr_decay is {self.lr_decay}; it must be above 0 and at most 1")
        if not (self.lr_decay_every > 0 and self.lr_decay_after >= 0):
            raise UnrolledError(
                f"lr_decay_every is {self.lr_decay_every}, lr_decay_after is {self.lr_decay_after}; "
                "they must be above 0, and 0 or more"
            )
        if self.epochs > 1e6:
            raise UnrolledError(f"epochs is {self.epochs:g}; it must be at most a million")
        for name, least in (("epochs", "above 0"), ("minutes", "above 0"), ("grad_clip", "0 or more")):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (value > 0 or (value == 0 and name == "grad_clip"))):
                raise UnrolledError(f"{name} is {value}; it must be {least}")
        if self.clip not in ("norm", "value"):
            raise UnrolledError(suggest("clip mode", self.clip, ["norm", "value"]))
        if self.level not in LEVELS:
            raise UnrolledError(suggest("level", self.level, list(LEVELS)))
        if self.dtype not in DTYPES:
            raise UnrolledError(suggest("dtype", str(self.dtype), list(DTYPES)))
        if self.init not in INITS:
            raise UnrolledError(suggest("init", str(self.init), list(INITS)))
        find_cell(self.cell)
        self.make_optimizer({})
        self.make_schedule(steps=1)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Options:
        """Build from keywords; an unknown one is named with its nearest neighbour."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise UnrolledError(suggest("option", name, known))
        return cls(**options)

    def spec(self, vocabulary_size: int) -> Spec:
        """Return the network's description."""
        ours = {f.name: getattr(self, f.name) for f in fields(Spec) if hasattr(self, f.name)}
        return Spec(vocabulary_size, **ours)

    def make_optimizer(self, params: dict[str, Array], backend: str = "auto") -> Optimizer:
        """Return the update rule on these parameters."""
        decay = "rho" if self.optimizer == "adadelta" else "alpha"
        given = {"momentum": self.momentum, decay: self.decay_rate, "weight_decay": self.weight_decay}
        return make_optimizer(
            self.optimizer, params, backend=backend, **{k: v for k, v in given.items() if v is not None}
        )

    def make_schedule(self, steps: int) -> Schedule:
        """Return the learning-rate schedule of a run of that many steps."""
        base = OPTIMIZERS[self.optimizer].rate if self.learning_rate is None else self.learning_rate
        if not (math.isfinite(base) and base > 0):
            raise UnrolledError(f"learning_rate is {base}; it must be above 0")
        decay = {} if self.lr_decay is None else {"decay": self.lr_decay}
        factor = {} if self.lr_decay is None else {"factor": self.lr_decay}
        options: dict[str, dict[str, float]] = {
            "exponential": decay | {"after": self.lr_decay_after},
            "step": factor | {"every": self.lr_decay_every},
            "cosine": {"warmup": self.warmup, "total": steps},
            "plateau": factor,
        }
        return make_schedule(self.schedule, base, **options.get(self.schedule, {}))


@dataclass(frozen=True)
class Progress:
    """One step's figures: losses in nats a symbol, times in seconds."""

    step: int
    steps: int
    epoch: float
    loss: float
    rate: float
    symbols_per_second: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of a validation: training loss since the last one, validation loss, both in nats a symbol."""

    step: int
    epoch: float
    train_loss: float
    val_loss: float | None
    seconds: float


@dataclass
class Result:
    """What came of a run."""

    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    symbols_per_second: float = 0.0
    interrupted: bool = False
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    test_loss: float | None = None


class Listener:
    """Is told how a run goes; every method may be overridden."""

    def started(self, facts: Facts) -> None:
        """Called once, before the first step."""

    def stepped(self, progress: Progress) -> None:
        """Called after every step."""

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Called after every validation."""

    def sampled(self, text: str) -> None:
        """Called with a line from the model, after a validation."""

    def finished(self, result: Result, out: Path | None) -> None:
        """Called once, when the run is over or interrupted and all is saved."""


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


@contextmanager
def _interrupts() -> Iterator[Callable[[], Any]]:
    """Turn Ctrl-C and SIGTERM into KeyboardInterrupt, but never in the middle of a block that changes something.

    Yields a context manager for such blocks.
    """
    blocked, pending = False, False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal pending
        if blocked:
            pending = True
        else:
            raise KeyboardInterrupt

    @contextmanager
    def whole() -> Iterator[None]:
        nonlocal blocked, pending
        blocked = True
        try:
            yield
        finally:
            blocked = False
        if pending:
            pending = False
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread alone
        yield whole
        return
    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield whole
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def make_folder(path: Path, *, new: bool = False) -> Path:
    """Make a run's folder; a `new` one is the first of path, path-2, path-3, ... that nobody has made before."""
    n, base = 1, path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while new and path.exists():
            n += 1
            path = base.with_name(f"{base.name}-{n}")
        path.mkdir(exist_ok=not new)
    except FileExistsError:
        if new and base.parent.is_dir():  # another run took the name just now
            return make_folder(base, new=True)
        raise UnrolledError(f"can't make the folder {path}: a file of that name is in the way") from None
    except OSError as error:
        raise UnrolledError(f"can't make the folder {path}: {error.strerror}") from None
    return path


def held_out_lanes(part: Array, options: Options) -> Lanes | None:
    """Cut a held-out part into as many lanes as the batch has, or fewer where it is short; None if it is empty."""
    if len(part) < 2:
        return None
    seq_length = min(options.seq_length, len(part) - 1)
    return lanes(part, max(1, min(options.batch_size, (len(part) - 1) // seq_length)), seq_length)


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
        Folder for the models; it must exist.
    listener : Listener, optional
    rng : numpy.random.Generator
        Draws the dropout masks.

    Returns
    -------
    Result

    Raises
    ------
    UnrolledError
        If the text is too short, or the loss becomes NaN or explodes; files saved before stay.
    """
    listener = listener or Listener()
    batches = lanes(train, options.batch_size, options.seq_length, name="the training part")
    val_lanes = held_out_lanes(val, options)
    steps = max(1, round(options.epochs * len(batches)))
    optimizer = options.make_optimizer(network.params, network.recurrent.backend)
    schedule = options.make_schedule(steps)
    eval_every = options.eval_every or max(100, math.ceil(4 * len(val) / (options.batch_size * options.seq_length)))
    result, best_params, best_saved = Result(), dict[str, Array](), False
    recent: list[float] = []
    smooth, state, busy = math.nan, None, 0.0
    start = time.perf_counter()
    deadline = math.inf if options.minutes is None else start + 60 * options.minutes

    def save(name: str) -> None:
        if out is not None:
            checkpoint.save(out / name, network, vocabulary)

    def validate() -> None:
        nonlocal best_params, best_saved
        if not recent:
            return
        loss = None if val_lanes is None else evaluate(network, val_lanes)
        if loss is not None and not math.isfinite(loss):
            raise UnrolledError(_diverged(result.steps, "validation loss", loss, network, {}))
        now = Evaluation(result.steps, result.epochs, sum(recent) / len(recent), loss, time.perf_counter() - start)
        is_best = loss is None or result.best is None or loss < (result.best.val_loss or math.inf)
        with whole():
            result.history.append(now)
            recent.clear()
            if is_best:
                result.best = now
                save(MODEL)
                best_saved = True
                best_params = {name: p.copy() for name, p in network.params.items()}
        if loss is not None:
            schedule.observe(loss)
        listener.evaluated(now, is_best)
        if options.sample_length:
            listener.sampled(_line(network, vocabulary, options, result.steps))

    # Overflow is looked for below, and reported by step and tensor instead of by a warning.
    with _interrupts() as whole, np.errstate(all="ignore"), backends.undisturbed(network.recurrent.backend):
        try:
            with whole():
                save(LAST)  # finds out now, not after an hour, that the folder can't be written
            while result.steps < steps and (result.steps == 0 or time.perf_counter() < deadline):
                tick = time.perf_counter()
                k = result.steps % len(batches)
                x, y = batches[k]
                masks = network.draw_masks(x.shape[0], x.shape[1], rng)
                loss, grads, state = network.loss_and_gradients(x, y, None if k == 0 else state, masks=masks)
                norm = _clip(grads, options, network.recurrent.backend)
                limit = EXPLODED * math.log(network.spec.vocabulary_size + 1)
                if not (math.isfinite(loss) and math.isfinite(norm) and loss < limit):
                    raise UnrolledError(_diverged(result.steps + 1, "training loss", loss, network, grads))
                rate = schedule.rate(result.steps, result.steps / len(batches))
                with whole():
                    optimizer.update(grads, rate)
                    result.steps += 1
                    result.epochs = result.steps / len(batches)
                recent.append(loss)
                smooth = loss if math.isnan(smooth) else smooth + 0.05 * (loss - smooth)
                now = time.perf_counter()
                busy += now - tick
                result.symbols_per_second = batches.tokens_per_epoch * result.epochs / busy
                left = (steps - result.steps) * (now - start) / result.steps
                listener.stepped(
                    Progress(
                        result.steps,
                        steps,
                        result.epochs,
                        smooth,
                        rate,
                        result.symbols_per_second,
                        now - start,
                        min(left, max(0.0, deadline - now)),
                    )
                )
                if result.steps % options.checkpoint_every == 0:
                    with whole():
                        save(LAST)
                if result.steps % eval_every == 0:
                    validate()
            validate()
            with whole():
                save(LAST)
        except KeyboardInterrupt:
            result.interrupted = True
            with suppress(KeyboardInterrupt), whole():  # another signal must not tear what the first one saves
                save(LAST)
                if not best_saved:
                    save(MODEL)
        except OSError:  # the listener's output is gone or full: that is no reason to lose the run
            with whole():
                save(LAST)
                if not best_saved:
                    save(MODEL)
            raise
    if not result.interrupted and best_params:
        for name, p in network.params.items():
            p[...] = best_params[name]
    result.seconds = time.perf_counter() - start
    return result


def _clip(grads: dict[str, Array], options: Options, backend: str) -> float:
    """Clip the gradients in place as asked; return their norm before."""
    clip = clip_by_norm if options.clip == "norm" else clip_by_value
    return clip(grads, options.grad_clip or math.inf, backend)


def _line(network: Network, vocabulary: Vocabulary, options: Options, step: int) -> str:
    """Sample one line; its random numbers are its own, so that looking does not change the run."""
    rng = np.random.default_rng([options.seed, step])
    start = np.array([first_token(vocabulary, rng)])
    drawn = list(sample.tokens(network, start, options.sample_length, 0.7, rng))
    return vocabulary.decode(drawn)


def first_token(vocabulary: Vocabulary, rng: np.random.Generator) -> int:
    """Token to start from without a prompt: a newline, or any symbol where the vocabulary has none."""
    try:
        return int(vocabulary.encode("\n")[0])
    except UnrolledError:
        return int(rng.integers(len(vocabulary)))


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
    return (
        f"stopped at step {step}: the {what} {said}; {where}. "
        "The models saved before are kept; try a lower --learning-rate or --grad-clip"
    )
