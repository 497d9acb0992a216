"""What a training run is asked for: every option with its default, and what of it makes sense."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypedDict, get_type_hints

from .cells import find_cell
from .checks import Array, as_kind, check_fraction, check_positive, check_size, check_weight, check_widths
from .data.text import LEVELS, WORDS
from .errors import UnrolledError, suggest
from .keywords import keyword, suggesting
from .nn.initializers import check_forget_bias, check_init_name
from .nn.recurrent import DTYPES
from .nn.spec import Spec
from .training.optimizers import OPTIMIZERS, Optimizer, make_optimizer
from .training.schedules import SCHEDULES, Schedule, make_schedule


class Anew(TypedDict, total=False):
    """Options that a run which goes on may be asked for anew: all that its state does not depend on."""

    epochs: float
    minutes: float | None
    patience: int
    learning_rate: float | None
    schedule: str
    lr_decay: float | None
    lr_decay_after: float
    lr_decay_every: float
    warmup: int
    grad_clip: float
    clip: str
    checkpoint_every: int
    eval_every: int
    sample_length: int
    tensorboard: bool


class Asked(Anew, total=False):
    """Every option, all optional: the fields of `Options`, for editors and type checkers."""

    level: str
    min_count: int
    max_symbols: int
    lower: bool
    words: str
    cell: str
    embedding_size: int
    hidden_size: int | tuple[int, ...]
    num_layers: int
    dropout: float
    dtype: str
    locked_dropout: float
    embedding_dropout: float
    recurrent_dropout: float
    weight_drop: float
    zoneout: float
    zoneout_cell: float
    residual: bool
    proj_size: int
    learn_state: bool
    tied: bool
    ar: float
    tar: float
    label_smoothing: float
    init: str
    forget_bias: float | None
    seq_length: int
    batch_size: int
    optimizer: str
    momentum: float | None
    decay_rate: float | None
    weight_decay: float | None
    average: str
    ema_decay: float
    average_after: int
    accumulate: int
    val_fraction: float
    test_fraction: float
    seed: int


ANEW = tuple(get_type_hints(Anew))

AVERAGES = ("none", "ema", "asgd")


def _of(kind: str, known: Sequence[str], hint: str = "") -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in known:
            raise UnrolledError(suggest(kind, value, list(known)) + hint)
        return value

    return check


_LIMIT = 1_000_000

CHECKS: dict[str, Callable[[str, Any], Any]] = (
    dict.fromkeys(
        ("seq_length", "batch_size", "checkpoint_every", "min_count", "accumulate", "average_after"), check_size
    )
    | dict.fromkeys(
        ("embedding_size", "proj_size", "eval_every", "seed", "warmup", "patience", "max_symbols"),
        partial(check_size, least=0),
    )
    | dict.fromkeys(
        ("val_fraction", "test_fraction", "ema_decay", "label_smoothing", "momentum", "decay_rate"), check_fraction
    )
    | dict.fromkeys(
        (
            "dropout",
            "locked_dropout",
            "embedding_dropout",
            "recurrent_dropout",
            "weight_drop",
            "zoneout",
            "zoneout_cell",
        ),
        check_fraction,
    )
    | dict.fromkeys(("ar", "tar", "weight_decay", "lr_decay_after", "grad_clip"), check_weight)
    | dict.fromkeys(("minutes", "learning_rate", "lr_decay_every"), check_positive)
    | {
        "epochs": partial(check_positive, most=_LIMIT),
        "lr_decay": partial(check_positive, most=1),
        "sample_length": partial(check_size, least=0, most=_LIMIT),
        "forget_bias": lambda name, value: check_forget_bias(value),
        "init": lambda name, value: check_init_name(value),
        "cell": lambda name, value: find_cell(value).name,
        "clip": _of("clip mode", ("norm", "value"), " (how gradients are clipped; grad_clip is the limit)"),
        "level": _of("level", tuple(LEVELS)),
        "average": _of("average", AVERAGES),
        "words": _of("way to cut words", WORDS),
        "dtype": _of("dtype", DTYPES),
        "optimizer": _of("optimizer", list(OPTIMIZERS)),
        "schedule": _of("schedule", list(SCHEDULES)),
    }
)
"""What an option may be by itself, whatever the others are."""


def check_option(name: str, value: object) -> Any:
    """Return an option's value as Python's own, or say why it can't be one.

    Examples
    --------
    >>> check_option("dropout", np.float32(0.25)), check_option("hidden_size", [np.int64(8), 6])
    (0.25, (8, 6))
    """
    value = as_kind(name, value, str(Options.__dataclass_fields__[name].type))
    return value if value is None or name not in CHECKS else CHECKS[name](name, value)


@suggesting
@dataclass(frozen=True)
class Options:
    """How to build and train a language model.

    Attributes
    ----------
    level : str
        What a symbol is: "char", "byte", "word", a byte pair ("bpe"), or a number of "tokens".
    min_count, max_symbols : int
        At word level: how often a word must occur to be listed, and how many symbols are listed at most (0: all); at
        the level bpe `max_symbols` is the number of tokens (0: 1,024).
    lower : bool
        At word level: whether words are made lower-case.
    words : str
        At word level: whether lines are cut at "whitespace", or into words and "punctuation" marks.
    cell, embedding_size, hidden_size, num_layers, dropout, dtype, and what follows them
        As in `unrolled.nn.spec.Spec`.
    init : str
        Initial weights: a name in `unrolled.nn.initializers.INITS`; "uniform:0.1" draws all from U(-0.1, 0.1).
    seq_length, batch_size : int
        T steps of truncated back-propagation and B lanes side by side.
    epochs : float
        Passes over the training part.
    minutes : float or None
        Stop after this time, or after `epochs` if they are over sooner; None for no limit. The schedule "cosine" then
        ends with whichever comes first.
    optimizer : str
        Update rule; `momentum`, `decay_rate` (the moving average of RMSprop or Adadelta) and `weight_decay` are its
        options, None for the rule's own default.
    learning_rate : float or None
        For a loss that is the mean over steps and rows; None for the rule's own default.
    schedule : str
        "constant"; "exponential" (`lr_decay` each epoch from `lr_decay_after` on); "step" (`lr_decay` every
        `lr_decay_every` epochs); "cosine" (after `warmup` steps); "plateau" (`lr_decay` when validation stops falling).
    average : str
        Averaged weights, which are then validated and kept: "none"; "ema", an exponential moving average with
        `ema_decay`; "asgd", the mean of all weights since the validation loss last was no better than that of
        `average_after` validations before (NT-ASGD, Merity et al. 2018).
    accumulate : int
        Parts that the lanes are run in, one after another, their gradients added up: less memory, the same update.
    grad_clip : float
        Largest gradient (of that mean), 0 for no limit; `clip` says whether of the norm of all ("norm") or of every
        entry ("value").
    val_fraction, test_fraction : float
        Shares of the text kept out of training: validation before test, both at the end.
    seed : int
        Of everything random.
    patience : int
        Stop after that many validations without a better one; 0 for never.
    checkpoint_every : int
        Steps between two checkpoints.
    eval_every : int
        Steps between two validations; 0 chooses, so that validation takes a small share of the time.
    sample_length : int
        Symbols of the line sampled at each validation; 0 for none.
    tensorboard : bool
        Whether the run's folder gets event files, as `unrolled.events` says.
    """

    level: str = "char"
    min_count: int = 1
    max_symbols: int = 0
    lower: bool = False
    words: str = "whitespace"
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
    ar: float = 0.0
    tar: float = 0.0
    label_smoothing: float = 0.0
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
    average: str = "none"
    ema_decay: float = 0.999
    average_after: int = 5
    accumulate: int = 1
    grad_clip: float = 5.0
    clip: str = "norm"
    val_fraction: float = 0.05
    test_fraction: float = 0.0
    seed: int = 1
    patience: int = 0
    checkpoint_every: int = 1000
    eval_every: int = 0
    sample_length: int = 80
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, check_option(f.name, getattr(self, f.name)))
        if isinstance(self.hidden_size, tuple):  # the widths say how many layers there are
            usual = type(self).__dataclass_fields__["num_layers"].default
            widths = check_widths(self.hidden_size, None if self.num_layers == usual else self.num_layers)
            object.__setattr__(self, "num_layers", len(widths))
        if self.val_fraction + self.test_fraction >= 1:
            raise UnrolledError("val_fraction and test_fraction leave nothing to train on; their sum must be below 1")
        if self.batch_size % self.accumulate:
            raise UnrolledError(f"accumulate is {self.accumulate}; it must divide the batch size, {self.batch_size}")
        self.make_optimizer({}, "reference")  # checks its options; no engine is chosen for that
        self.make_schedule(steps=1)

    def spec(self, vocabulary_size: int) -> Spec:
        """Return the network's description."""
        ours = {f.name: getattr(self, f.name) for f in fields(Spec) if hasattr(self, f.name)}
        return Spec(vocabulary_size, **ours)

    def make_optimizer(self, params: dict[str, Array], backend: str = "auto") -> Optimizer:
        """Return the update rule on these parameters."""
        if (
            self.decay_rate is not None
            and self.optimizer in OPTIMIZERS
            and self.optimizer not in ("rmsprop", "adadelta")
        ):
            raise UnrolledError(f"decay_rate is an option of rmsprop and adadelta; {self.optimizer} has none")
        decay = "rho" if self.optimizer == "adadelta" else "alpha"
        given = {"momentum": self.momentum, decay: self.decay_rate, "weight_decay": self.weight_decay}
        return make_optimizer(
            self.optimizer, params, backend=backend, **{k: v for k, v in given.items() if v is not None}
        )

    def make_schedule(self, steps: int) -> Schedule:
        """Return the learning-rate schedule of a run of that many steps."""
        base = OPTIMIZERS[self.optimizer].rate if self.learning_rate is None else self.learning_rate
        decay = {} if self.lr_decay is None else {"decay": self.lr_decay}
        factor = {} if self.lr_decay is None else {"factor": self.lr_decay}
        options: dict[str, dict[str, float]] = {
            "exponential": decay | {"after": self.lr_decay_after},
            "step": factor | {"every": self.lr_decay_every},
            "cosine": {"warmup": self.warmup, "total": steps},
            "plateau": factor,
        }
        return make_schedule(self.schedule, base, **options.get(self.schedule, {}))


KEYWORDS = [keyword(f.name, f.default, f.type) for f in fields(Options)]
"""The options as a signature shows them."""
