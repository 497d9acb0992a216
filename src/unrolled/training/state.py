"""Everything a training run carries from step to step, as named arrays and JSON: enough to go on to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..checks import Array
from ..errors import UnrolledError
from ..schema import each, entries, maybe, named, number, one_of, whole
from ..storage import Arrays, Stored
from .optimizers import Optimizer
from .schedules import Schedule

_EVALUATION = entries(
    {
        "step": whole(),
        "epoch": number(0),
        "train_loss": number(),
        "val_loss": maybe(number()),
        "seconds": number(0),
        "metrics": named(number()),
    },
    optional=("metrics",),
)
_PCG64 = entries(
    {
        "bit_generator": one_of(["PCG64"]),
        "state": entries({"state": whole(most=2**128 - 1), "inc": whole(most=2**128 - 1)}),
        "has_uint32": whole(most=1),
        "uinteger": whole(most=2**32 - 1),
    }
)
STATE = entries(
    {
        "step": whole(),
        "updates": whole(),
        "schedule": entries(
            {"best": maybe(number()), "bad": whole(), "scale": number(0, 1)}, optional=("best", "bad", "scale")
        ),
        "rng": _PCG64,
        "recent": each(number()),
        "smooth": maybe(number()),
        "evaluated": whole(),
        "history": each(_EVALUATION),
        "best": maybe(_EVALUATION),
        "averaged": whole(),
        "rate_scale": number(0, 1),
        "rollbacks": whole(most=1000),
        "seconds": number(0),
        "busy": number(0),
    }
)
"""The schema of a `TrainingState` in a file, beside its arrays; `restore` takes what was checked against it."""

FALLING = ("loss", "mse", "mae")
"""Figures of which less is better; of all others more is."""

Snapshot = tuple[Arrays, dict[str, Any]]
"""Arrays by name, in memory or in a file, and what `json.dumps` takes."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a validation: training loss since the last one, validation loss, both in nats a target; and others."""

    step: int
    epoch: float
    train_loss: float
    val_loss: float | None
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def merit(self, decides: str) -> tuple[float, float]:
        """Return how good a model these figures are of, by the one that decides, and by the loss where that is equal.

        Examples
        --------
        >>> evaluation = Evaluation(3, 1.0, 0.5, 0.25, 2.0, {"accuracy": 0.75})
        >>> evaluation.merit("loss"), evaluation.merit("accuracy")
        ((-0.25, -0.25), (0.75, -0.25))
        """
        loss = math.inf if self.val_loss is None else self.val_loss
        value = loss if decides == "loss" else self.metrics.get(decides, math.nan)
        merit = -value if decides in FALLING else value
        return -math.inf if math.isnan(merit) else merit, -loss

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; without `metrics` where there are none."""
        return {name: value for name, value in asdict(self).items() if name != "metrics" or value}


@dataclass
class TrainingState:
    """Everything that changes while a model trains.

    Attributes
    ----------
    model, optimizer, schedule, rng
        Parameters, moments, what the schedule has observed, and the source of the masks.
    step : int
        Updates made; it is also the position in the data, whose order is fixed.
    carried : State or None
        State of every lane after the last chunk, each field (L, B, H).
    recent : list of float
        Training losses since the last validation.
    smooth : float
        Their exponential average; NaN before the first.
    evaluated : int
        Step of the last validation.
    history, best, best_params
        All validations, the best one and its parameters.
    average : dict
        Averaged parameters; empty where nothing is averaged (yet). `averaged` counts what is in them.
    rate_scale : float
        Factor of the schedule's rate, below 1 after a divergence; `rollbacks` counts those.
    seconds, busy : float
        Time of the run and of its steps, over all its starts. They decide nothing, unless `minutes` is given.
    """

    model: Any
    optimizer: Optimizer
    schedule: Schedule
    rng: np.random.Generator
    step: int = 0
    carried: Any = None
    recent: list[float] = field(default_factory=list)
    smooth: float = math.nan
    evaluated: int = 0
    history: list[Evaluation] = field(default_factory=list)
    best: Evaluation | None = None
    best_params: dict[str, Array] | dict[str, Stored] | dict[str, Array | Stored] = field(default_factory=dict)
    average: dict[str, Array] = field(default_factory=dict)
    averaged: int = 0
    rate_scale: float = 1.0
    rollbacks: int = 0
    seconds: float = 0.0
    busy: float = 0.0

    def update_average(self, share: float) -> None:
        """average <- average + share (parameter - average), of every parameter."""
        for name, p in self.model.params.items():
            if name not in self.average:
                self.average[name] = p.copy()
            change = p - self.average[name]
            change *= p.dtype.type(share)
            self.average[name] += change

    def arrays(self) -> dict[str, Array | Stored]:
        """Return all arrays by their names, as they are: nothing is copied."""
        groups: dict[str, Mapping[str, Array | Stored]] = {
            "network": self.model.params,
            "optimizer": self._moments(),
            "best": self.best_params,
            "average": self.average,
            "carried": {str(n): leaf for n, leaf in enumerate(_leaves(self.carried))},
        }
        return {f"{group}.{name}": a for group, named in groups.items() for name, a in named.items()}

    def _moments(self) -> dict[str, Array]:
        slots = self.optimizer.slots
        return {f"{slot}.{name}": m for slot, moments in slots.items() for name, m in moments.items()}

    def snapshot(self, into: dict[str, Array] | None = None) -> Snapshot:
        """Return copies that `restore` takes, but for the best parameters: those a return to an earlier step keeps.

        They take the memory of the copies in `into`, which are gone then.
        """
        arrays = {name: np.asarray(a) for name, a in self.arrays().items() if not name.startswith("best.")}
        return copied(arrays, {} if into is None else into), self.content()

    def content(self) -> dict[str, Any]:
        """Return what is no array, as `json.dumps` takes it."""
        return {
            "step": self.step,
            "updates": self.optimizer.step,
            "schedule": self.schedule.state_dict(),
            "rng": self.rng.bit_generator.state,
            "recent": list(self.recent),
            "smooth": None if math.isnan(self.smooth) else self.smooth,
            "evaluated": self.evaluated,
            "history": [e.to_json() for e in self.history],
            "best": None if self.best is None else self.best.to_json(),
            "averaged": self.averaged,
            "rate_scale": self.rate_scale,
            "rollbacks": self.rollbacks,
            "seconds": self.seconds,
            "busy": self.busy,
        }

    def restore(self, snapshot: Snapshot, batch_size: int) -> None:
        """Go back to a snapshot of B lanes; the network's and the optimiser's own arrays are filled again.

        Raises
        ------
        UnrolledError
            If it is one of another network, optimiser or batch.
        """
        arrays, content = snapshot
        groups: dict[str, dict[str, Array | Stored]] = {}
        for name, array in arrays.items():
            group, _, rest = name.partition(".")
            groups.setdefault(group, {})[rest] = array
        content = STATE("the training state", content)
        params = groups.get("network", {})
        _check_like(params, self.model.params, "network")
        _check_like(groups.get("optimizer", {}), self._moments(), "optimizer")
        for group in ("best", "average"):
            if group in groups:
                _check_like(groups[group], self.model.params, group)
        carried = _fill(self.model.zero_state(batch_size), groups.get("carried", {}))
        self.optimizer.step = content["updates"]
        self.schedule.load_state_dict(content["schedule"])
        self.rng.bit_generator.state = content["rng"]
        self.carried = carried
        for name in ("step", "evaluated", "recent", "averaged", "rollbacks", "rate_scale", "seconds", "busy"):
            setattr(self, name, content[name])
        self.smooth = math.nan if content["smooth"] is None else content["smooth"]
        self.history = [Evaluation(**e) for e in content["history"]]
        self.best = None if content["best"] is None else Evaluation(**content["best"])
        for name, m in self._moments().items():
            m[...] = np.asarray(groups["optimizer"][name])
        for name, p in self.model.params.items():
            p[...] = np.asarray(params[name])  # one at a time: there may be room for no more
        self.best_params = groups.get("best", {})
        self.average = {name: np.array(a) for name, a in groups.get("average", {}).items()}


def copied(arrays: Mapping[str, Array], into: dict[str, Array]) -> dict[str, Array]:
    """Copy arrays into those of the same names, which are made where there are none; return them.

    Examples
    --------
    >>> old = copied({"a": np.zeros(2), "b": np.zeros(3)}, {})
    >>> new = copied({"a": np.ones(2)}, old)
    >>> new, new is old
    ({'a': array([1., 1.])}, True)
    """
    for name in into.keys() - arrays.keys():
        del into[name]
    for name, a in arrays.items():
        if name in into:
            into[name][...] = a
        else:
            into[name] = a.copy()
    return into


def shapes(
    names: Iterable[str],
    params: Mapping[str, tuple[int, ...]],
    carried: Sequence[tuple[int, ...]],
    slots: Sequence[str],
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays of a `TrainingState`, of those groups that occur in these names.

    Parameters
    ----------
    names : iterable of str
        Names of a snapshot's arrays.
    params : dict
        Shapes of the parameters.
    carried : sequence
        Shapes of the arrays of the state that rows carry, in order.
    slots : sequence of str
        What the update rule remembers of each parameter.
    """
    moments = {f"{slot}.{name}": shape for slot in slots for name, shape in params.items()}
    states = {str(n): shape for n, shape in enumerate(carried)}
    groups = {"network": dict(params), "optimizer": moments}
    optional = {"best": dict(params), "average": dict(params), "carried": states}
    groups |= {group: optional[group] for group in {name.partition(".")[0] for name in names} & optional.keys()}
    return {f"{group}.{name}": shape for group, arrays in groups.items() for name, shape in arrays.items()}


def _check_like(got: Arrays, expected: Mapping[str, Array], group: str) -> None:
    if got.keys() != expected.keys():
        odd = min(got.keys() ^ expected.keys())
        raise UnrolledError(f"{group}.{odd} is {'unknown' if odd in got else 'missing'}: this is of another network")
    for name, array in got.items():
        like = expected[name]
        if (array.shape, array.dtype) != (like.shape, like.dtype):
            raise UnrolledError(
                f"{group}.{name} is {array.dtype} {array.shape}; expected {like.dtype} {like.shape}, "
                "so this is of another network"
            )


def _leaves(state: Any) -> list[Array]:
    """Arrays of a state, which may be nested, in a fixed order."""
    if state is None:
        return []
    return [leaf for part in state for leaf in _leaves(part)] if isinstance(state, tuple) else [state]


def _fill(template: Any, arrays: Arrays) -> Any:
    """Build a state of the template's kind from its leaves; None from none."""
    if not arrays:
        return None
    expected = _leaves(template)
    _check_like(arrays, {str(n): leaf for n, leaf in enumerate(expected)}, "carried")
    leaves = iter([np.array(arrays[str(n)]) for n in range(len(expected))])
    return map_state(lambda _: next(leaves), template)


def map_state(function: Callable[..., Array], *states: Any) -> Any:
    """Apply a function to the arrays of states of one kind, which may be nested, side by side."""
    first = states[0]
    if not isinstance(first, tuple):
        return function(*states)
    built = [map_state(function, *parts) for parts in zip(*states, strict=True)]
    return type(first)(*built) if hasattr(first, "_fields") else tuple(built)
