"""Options of training: its loop, its update rule, its rate, and what is written of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..checks import Array, check_fraction, check_positive, check_size, check_weight
from ..declared import Declared, one_of, option
from ..errors import UnrolledError
from .optimizers import OPTIMIZERS, Optimizer, check_least, make_optimizer
from .schedules import SCHEDULES, Schedule, make_schedule

OF_RULES: dict[str, tuple[str, ...]] = {name: (name,) for name in ("momentum", "dampening", "beta1", "beta2", "eps")}
OF_RULES |= {"decay_rate": ("alpha", "rho")}
"""Options that only some update rules have, and what these call them."""
AVERAGES = ("none", "ema", "asgd")
LIMIT = 1_000_000


@dataclass(frozen=True)
class TrainingOptions(Declared):
    """Options of the loop, the update rule and the learning rate."""

    seq_length: int = option(50, "Steps of truncated back-propagation.", "Training", check_size)
    batch_size: int = option(50, "Lanes of text side by side.", "Training", check_size)
    epochs: float = option(
        50.0,
        "Passes over the training part.",
        "Training",
        partial(check_positive, most=LIMIT),
        anew=True,
    )
    minutes: float | None = option(
        None,
        "Time to choose settings for: so many minutes' work; with --no-auto or --epochs, the clock ends the run.",
        "Training",
        check_positive,
        unset="5; 1 without a FILE; --no-auto none",
        anew=True,
        about="Stop after this time, all starts together, or after `epochs` if they are over sooner. The schedule "
        "cosine then ends with whichever comes first.",
    )
    optimizer: str = option(
        "adam",
        f"Rule, and its usual rate: {', '.join(f'{name} {rule.rate:g}' for name, rule in OPTIMIZERS.items())}.",
        "Learning",
        one_of("optimizer", list(OPTIMIZERS)),
    )
    learning_rate: float | None = option(
        None,
        "Rate; one for a loss summed over n steps: times n.",
        "Learning",
        check_positive,
        unset="that of the optimizer",
        also=("--lr",),
        anew=True,
        about="Rate, for a loss that is the mean over steps and rows.",
    )
    momentum: float | None = option(None, "Of momentum and nesterov.", "Learning", check_fraction, unset="0.9")
    dampening: float | None = option(
        None, "momentum: share of a gradient that is left out, but for the first.", "Rule", check_weight, unset="0"
    )
    decay_rate: float | None = option(
        None, "Moving average of rmsprop (0.99) and adadelta (0.9).", "Learning", check_fraction
    )
    beta1: float | None = option(
        None,
        "adam, adamw: share of the old mean of gradients that a step keeps.",
        "Rule",
        check_fraction,
        unset="0.9",
    )
    beta2: float | None = option(
        None, "adam, adamw: the same of the mean of their squares.", "Rule", check_fraction, unset="0.999"
    )
    eps: float | None = option(
        None,
        "Added to what a rule divides by.",
        "Rule",
        check_least,
        unset="1e-8; adagrad 1e-10, adadelta 1e-6",
    )
    weight_decay: float | None = option(
        None, "L2 penalty (adamw: decoupled).", "Penalties", check_weight, unset="0; adamw 0.01"
    )
    schedule: str = option(
        "constant",
        f"{', '.join(SCHEDULES)}.",
        "Rate",
        one_of("schedule", list(SCHEDULES)),
        anew=True,
        about="constant; exponential (`lr_decay` each epoch from `lr_decay_after` on); step (`lr_decay` every "
        "`lr_decay_every` epochs); cosine (after `warmup` steps); plateau (`lr_decay` when validation stops falling).",
    )
    lr_decay: float | None = option(
        None,
        "Factor.",
        "Rate",
        partial(check_positive, most=1),
        unset="exponential 0.97; step and plateau 0.5",
        anew=True,
    )
    lr_decay_after: float = option(
        10.0, "exponential: first epoch whose end decays the rate.", "Rate", check_weight, anew=True
    )
    lr_decay_every: float = option(5.0, "step: epochs between two decays.", "Rate", check_positive, anew=True)
    warmup: int = option(0, "cosine: steps of linear warm-up.", "Rate", partial(check_size, least=0), anew=True)
    average: str = option(
        "none",
        "Weights to validate and keep: none (as they are), ema, asgd.",
        "Learning",
        one_of("average", AVERAGES),
        about="Averaged weights, which are then validated and kept: none; ema, an exponential moving average with "
        "`ema_decay`; asgd, the mean of all weights since the validation loss last was no better than that of "
        "`average_after` validations before (NT-ASGD).",
        source="Merity et al. 2018",
    )
    ema_decay: float = option(0.999, "ema: share of the old average that a step keeps.", "Learning", check_fraction)
    average_after: int = option(5, "asgd: validations without a better one before it begins.", "Learning", check_size)
    accumulate: int = option(
        1,
        "Parts, at most, that the lanes are run in: less memory, the same update.",
        "Learning",
        check_size,
        about="Parts, at most, that the lanes are run in, one after another, their gradients added up: less memory, "
        "the same update.",
    )
    grad_clip: float = option(
        5.0,
        "Largest gradient; one for a loss summed over n steps: divided by n; 0 for no limit.",
        "Learning",
        check_weight,
        anew=True,
        about="Largest gradient, of a loss that is a mean; 0 for no limit.",
    )
    clip: str = option(
        "norm",
        "Clip the norm of all gradients together, or every value.",
        "Learning",
        one_of("clip mode", ("norm", "value"), " (how gradients are clipped; grad_clip is the limit)"),
        anew=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.make_optimizer({}, "reference")  # checks its options; no engine is chosen for that
        self.make_schedule(steps=1)

    def make_optimizer(self, params: dict[str, Array], backend: str = "auto") -> Optimizer:
        """Return the update rule on these parameters."""
        given = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        for name, theirs in OF_RULES.items():
            having = {rule: one for rule, made in OPTIMIZERS.items() for one in theirs if one in made.defaults}
            value = getattr(self, name)
            if value is not None and self.optimizer not in having:
                raise UnrolledError(f"{name} is an option of {' and '.join(having)}; {self.optimizer} has none")
            if value is not None:
                given[having[self.optimizer]] = value
        return make_optimizer(self.optimizer, params, backend=backend, **given)

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


@dataclass(frozen=True)
class RunOptions(Declared):
    """Options of a run: its seed, its end, and what is written of it."""

    seed: int = option(1, "Of everything random.", "Training", partial(check_size, least=0))
    patience: int = option(
        0,
        "Stop after so many validations without a better one; 0 for never.",
        "Training",
        partial(check_size, least=0),
        anew=True,
    )
    checkpoint_every: int = option(1000, "Steps between two checkpoints.", "Output", check_size, anew=True)
    eval_every: int = option(
        0,
        "Steps between two validations; 0 chooses.",
        "Output",
        partial(check_size, least=0),
        anew=True,
        about="Steps between two validations; 0 chooses, so that validation takes a small share of the time.",
    )
    sample_length: int = option(
        80,
        "Symbols of the sampled line; 0 for none.",
        "Output",
        partial(check_size, least=0, most=LIMIT),
        anew=True,
        about="Symbols of the line sampled at each validation; 0 for none.",
    )
    tensorboard: bool = option(False, "Write TensorBoard's event files into the folder too.", "Output", anew=True)
