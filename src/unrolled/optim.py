"""Update rules, clipping and learning-rate schedules; each rule in its paper's equations and PyTorch's conventions.

A rule is handed the rate at every update, so a schedule always reaches it. Its memory is explicit: named arrays that a
checkpoint can hold. Updates are in place, on the training loop's own parameters; gradients are never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .errors import UnrolledError, suggest
from .scan import Array


class Optimizer:
    """One update rule and its moments.

    Parameters
    ----------
    params : dict
        Name -> array, changed in place by `update`.
    **options
        Those of the rule (see `defaults`), and `weight_decay`: the L2 penalty that is added to the gradient
        (AdamW: the decay that is not).

    Attributes
    ----------
    slots : dict
        Slot -> parameter name -> array; what the rule remembers.
    steps : int
        Updates made.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    rate: ClassVar[float]
    """Learning rate that suits the rule when none is asked for."""
    defaults: ClassVar[dict[str, float]] = {}
    slot_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: dict[str, Array], **options: float) -> None:
        known = {"weight_decay": 0.0} | self.defaults
        for option, value in options.items():
            if option not in known:
                raise UnrolledError(suggest(f"option of {self.name}", option, list(known)))
            upper = 1.0 if option in ("momentum", "alpha", "rho", "beta1", "beta2") else math.inf
            if not (isinstance(value, (int, float)) and 0 <= value < upper):
                bound = "at least 0" + (" and below 1" if upper == 1 else "")
                raise UnrolledError(f"{option} of {self.name} is {value!r}; it must be {bound}")
        self.params = params
        self.options = known | options
        self.steps = 0
        self.slots = {slot: {name: np.zeros_like(p) for name, p in params.items()} for slot in self.slot_names}
        largest = max((p.size for p in params.values()), default=0)
        dtype = next(iter(params.values())).dtype if params else np.dtype(float)
        self._scratch = np.empty((2, largest), dtype)

    def update(self, grads: Mapping[str, Array], rate: float) -> None:
        """Change the parameters in place by one step at this learning rate."""
        self.steps += 1
        for name, p in self.params.items():
            g, scratch = grads[name], self._scratch[:, : p.size]
            if self.options["weight_decay"] and self.name != "adamw":
                decayed = np.multiply(p, self.options["weight_decay"])
                g = np.add(decayed, g, out=decayed)
            moments = [self.slots[slot][name] for slot in self.slot_names]
            self._step(p, g, rate, moments, scratch[0].reshape(p.shape), scratch[1].reshape(p.shape))

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the moments as flat names "slot.parameter", and "steps"."""
        flat = {f"{slot}.{name}": m.copy() for slot, moments in self.slots.items() for name, m in moments.items()}
        return flat | {"steps": np.array(self.steps)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Restore `state_dict`'s arrays; a name or shape that does not fit is an error and changes nothing."""
        flat = {f"{slot}.{name}": m for slot, moments in self.slots.items() for name, m in moments.items()}
        if state.keys() != flat.keys() | {"steps"}:
            names = sorted(state.keys() ^ (flat.keys() | {"steps"}))
            raise UnrolledError(f"the state is not one of {self.name} for these parameters: {', '.join(names[:5])}")
        for name, m in flat.items():
            if state[name].shape != m.shape:
                raise UnrolledError(f"{name} has shape {state[name].shape}; expected {m.shape}")
        for name, m in flat.items():
            m[...] = state[name]
        self.steps = int(state["steps"])


class SGD(Optimizer):
    """p <- p - rate g."""

    name, paper, rate = "sgd", "Robbins & Monro 1951", 1.0

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        p -= np.multiply(g, rate, out=a)


class Momentum(Optimizer):
    """v <- momentum v + g; p <- p - rate v."""

    name, paper, rate = "momentum", "Polyak 1964", 0.1
    defaults: ClassVar = {"momentum": 0.9}
    slot_names = ("velocity",)

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (v,) = moments
        v *= self.options["momentum"]
        v += g
        p -= np.multiply(v, rate, out=a)


class Nesterov(Optimizer):
    """v <- momentum v + g; p <- p - rate (g + momentum v)."""

    name, paper, rate = "nesterov", "Nesterov 1983; Sutskever et al. 2013", 0.1
    defaults: ClassVar = {"momentum": 0.9}
    slot_names = ("velocity",)

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (v,) = moments
        v *= self.options["momentum"]
        v += g
        np.multiply(v, self.options["momentum"], out=a)
        a += g
        a *= rate
        p -= a


class Adagrad(Optimizer):
    """s <- s + g^2; p <- p - rate g / (sqrt(s) + eps)."""

    name, paper, rate = "adagrad", "Duchi, Hazan & Singer 2011", 0.01
    defaults: ClassVar = {"eps": 1e-10}
    slot_names = ("square",)

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (s,) = moments
        s += np.multiply(g, g, out=a)
        np.sqrt(s, out=a)
        a += self.options["eps"]
        np.divide(g, a, out=a)
        a *= rate
        p -= a


class RMSprop(Optimizer):
    """s <- alpha s + (1 - alpha) g^2; p <- p - rate g / (sqrt(s) + eps)."""

    name, paper, rate = "rmsprop", "Tieleman & Hinton 2012", 2e-3
    defaults: ClassVar = {"alpha": 0.99, "eps": 1e-8}
    slot_names = ("square",)

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (s,) = moments
        _average(s, np.multiply(g, g, out=a), self.options["alpha"])
        np.sqrt(s, out=a)
        a += self.options["eps"]
        np.divide(g, a, out=a)
        a *= rate
        p -= a


class Adadelta(Optimizer):
    """s <- rho s + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(s + eps); u <- rho u + (1 - rho) d^2; p <- p - rate d."""

    name, paper, rate = "adadelta", "Zeiler 2012", 1.0
    defaults: ClassVar = {"rho": 0.9, "eps": 1e-6}
    slot_names = ("square", "update")

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        s, u = moments
        rho, eps = self.options["rho"], self.options["eps"]
        _average(s, np.multiply(g, g, out=a), rho)
        np.sqrt(np.add(u, eps, out=a), out=a)
        np.sqrt(np.add(s, eps, out=b), out=b)
        a /= b
        a *= g
        _average(u, np.multiply(a, a, out=b), rho)
        a *= rate
        p -= a


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- p - rate mhat / (sqrt(vhat) + eps).

    The corrected moments mhat = m / (1 - b1^t) and vhat = v / (1 - b2^t) are used, never stored.
    """

    name, paper, rate = "adam", "Kingma & Ba 2015", 2e-3
    defaults: ClassVar = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    slot_names = ("m", "v")

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        m, v = moments
        b1, b2 = self.options["beta1"], self.options["beta2"]
        _average(m, np.multiply(g, 1, out=a), b1)
        _average(v, np.multiply(g, g, out=a), b2)
        np.sqrt(v, out=a)
        a /= math.sqrt(1 - b2**self.steps)
        a += self.options["eps"]
        np.divide(m, a, out=a)
        a *= rate / (1 - b1**self.steps)
        p -= a


class AdamW(Adam):
    """p <- p (1 - rate weight_decay), then Adam's step: the decay does not pass through the moments."""

    name, paper, rate = "adamw", "Loshchilov & Hutter 2019", 2e-3
    defaults: ClassVar = Adam.defaults | {"weight_decay": 0.01}

    def _step(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        p *= 1 - rate * self.options["weight_decay"]
        super()._step(p, g, rate, moments, a, b)


def _average(mean: Array, new: Array, keep: float) -> None:
    """Move an exponential average in place, mean <- keep mean + (1 - keep) new; `new` is scratch and changes."""
    mean *= keep
    new *= 1 - keep
    mean += new


OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.name: rule for rule in (SGD, Momentum, Nesterov, Adagrad, RMSprop, Adadelta, Adam, AdamW)
}


def make_optimizer(name: str, params: dict[str, Array], **options: float) -> Optimizer:
    """Return the update rule of that name on these parameters.

    Examples
    --------
    >>> params = {"w": np.array([1.0, -2.0])}
    >>> make_optimizer("sgd", params).update({"w": np.array([0.5, 0.5])}, rate=0.1)
    >>> params["w"]
    array([ 0.95, -2.05])
    """
    if name not in OPTIMIZERS:
        raise UnrolledError(suggest("optimizer", name, list(OPTIMIZERS)))
    return OPTIMIZERS[name](params, **options)


def global_norm(grads: Mapping[str, Array]) -> float:
    """Euclidean norm of all gradients together, summed in float64 in the order of the names.

    Examples
    --------
    >>> global_norm({"a": np.array([3.0]), "b": np.array([4.0])})
    5.0
    """
    return math.sqrt(sum(float(np.square(grads[name], dtype=np.float64).sum()) for name in sorted(grads)))


def clip_by_norm(grads: dict[str, Array], limit: float) -> float:
    """Scale the gradients in place so that their norm is at most `limit`; return the norm before (Pascanu 2013).

    Examples
    --------
    >>> grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    >>> clip_by_norm(grads, 1.0), grads["a"].round(3)
    (5.0, array([0.6]))
    """
    norm = global_norm(grads)
    scale = limit / (norm + 1e-6)  # PyTorch's guard
    if scale < 1:
        for g in grads.values():
            g *= scale
    return norm


def clip_by_value(grads: dict[str, Array], limit: float) -> float:
    """Cut every entry in place to [-limit, limit] (char-rnn's way); return the norm before."""
    norm = global_norm(grads)
    for g in grads.values():
        np.clip(g, -limit, limit, out=g)
    return norm


def first_nonfinite(arrays: Mapping[str, Array]) -> str | None:
    """Name the first array that holds a NaN or an infinity.

    Examples
    --------
    >>> first_nonfinite({"a": np.ones(2), "b": np.array([1.0, np.nan])})
    'b'
    """
    return next((name for name, a in arrays.items() if not np.isfinite(a).all()), None)


class Schedule:
    """A learning rate as a function of the update's number and of the epochs done; constant, unless it says otherwise.

    Parameters
    ----------
    base : float
        Rate at the start.
    """

    name: ClassVar[str] = "constant"
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, base: float, **options: float) -> None:
        if not (isinstance(base, (int, float)) and 0 <= base < math.inf):
            raise UnrolledError(f"learning rate is {base!r}; it must be a number, 0 or more")
        for option, value in options.items():
            if option not in self.defaults:
                raise UnrolledError(suggest(f"option of the {self.name} schedule", option, list(self.defaults)))
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise UnrolledError(f"{option} of the {self.name} schedule is {value!r}; it must be 0 or more")
        self.base = float(base)
        self.options = self.defaults | options

    def rate(self, step: int, epoch: float) -> float:
        """Learning rate of update `step` (the first is 0) when `epoch` epochs are done."""
        return self.base

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""

    def state_dict(self) -> dict[str, float]:
        """Return what the schedule remembers, as JSON-able numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore `state_dict`'s numbers."""


class Exponential(Schedule):
    """rate = base decay^n: decayed when `after` epochs are done, and after each one more (char-rnn: 0.97 after 10)."""

    name = "exponential"
    defaults: ClassVar = {"decay": 0.97, "after": 10}

    def rate(self, step: int, epoch: float) -> float:
        """Learning rate of update `step` when `epoch` epochs are done."""
        return self.base * float(self.options["decay"] ** max(0, math.floor(epoch - self.options["after"]) + 1))


class Step(Schedule):
    """rate = base factor^n, n the times that `every` epochs are done (torch-rnn: halved every 5)."""

    name = "step"
    defaults: ClassVar = {"every": 5, "factor": 0.5}

    def rate(self, step: int, epoch: float) -> float:
        """Learning rate of update `step` when `epoch` epochs are done."""
        return self.base * float(self.options["factor"] ** (epoch // max(1, self.options["every"])))


class Cosine(Schedule):
    """Linear warm-up over `warmup` steps, then half a cosine down to `floor` x base at `total` steps (SGDR's arc)."""

    name = "cosine"
    defaults: ClassVar = {"warmup": 0, "total": 1000, "floor": 0.0}

    def rate(self, step: int, epoch: float) -> float:
        """Learning rate of update `step`."""
        warmup, total, floor = self.options["warmup"], self.options["total"], self.options["floor"]
        if step < warmup:
            return self.base * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return self.base * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


class Plateau(Schedule):
    """Multiply the rate by `factor` when the loss has not fallen for more than `patience` evaluations."""

    name = "plateau"
    defaults: ClassVar = {"factor": 0.5, "patience": 0}

    def __init__(self, base: float, **options: float) -> None:
        super().__init__(base, **options)
        self.best, self.bad, self.scale = math.inf, 0, 1.0

    def rate(self, step: int, epoch: float) -> float:
        """Learning rate after the losses observed so far."""
        return self.base * self.scale

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""
        if loss < self.best:
            self.best, self.bad = loss, 0
            return
        self.bad += 1
        if self.bad > self.options["patience"]:
            self.bad, self.scale = 0, self.scale * self.options["factor"]

    def state_dict(self) -> dict[str, float]:
        """Return best loss, evaluations since, and scale."""
        return {"best": self.best, "bad": self.bad, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore `state_dict`'s numbers."""
        self.best, self.bad, self.scale = float(state["best"]), int(state["bad"]), float(state["scale"])


SCHEDULES: dict[str, type[Schedule]] = {s.name: s for s in (Schedule, Exponential, Step, Cosine, Plateau)}


def make_schedule(name: str, base: float, **options: Any) -> Schedule:
    """Return the schedule of that name.

    Examples
    --------
    >>> schedule = make_schedule("exponential", 2e-3, decay=0.97, after=10)
    >>> schedule.rate(0, 9.9), round(schedule.rate(0, 10), 6)
    (0.002, 0.00194)
    """
    if name not in SCHEDULES:
        raise UnrolledError(suggest("schedule", name, list(SCHEDULES)))
    return SCHEDULES[name](base, **options)
