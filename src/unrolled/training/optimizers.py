"""Update rules, each in its paper's equations and PyTorch's conventions.

A rule is handed the rate at every update, so a schedule always reaches it. Its memory is explicit: named arrays that a
checkpoint can hold. Updates are in place, on the training loop's own parameters; gradients are never changed. What a
rule does to one number is said in `unrolled.rules`; here are its options, its memory and its constants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from .. import backends, rules
from ..checks import Array, Ranges, as_array, check_floats, check_options, check_size, check_weight
from ..errors import UnrolledError, figure, listed, suggest

LEAST = float(np.finfo(np.float32).tiny)
"""What is added to a divisor is no less: where a gradient has been 0, a rule would divide 0 by 0."""

_RANGES: Ranges = (
    dict.fromkeys(("momentum", "alpha", "rho", "beta1", "beta2"), ("at least 0 and below 1", lambda v: 0 <= v < 1))
    | {"weight_decay": ("0 or more", lambda v: v >= 0), "eps": (f"{LEAST:.3g} or more", lambda v: v >= LEAST)}
    | {"dampening": ("from 0 to 1", lambda v: 0 <= v <= 1)}
)


class Optimizer:
    """One update rule and its moments.

    Parameters
    ----------
    params : dict
        Name -> array of floats, changed in place by `update`.
    backend : str
        Where updates run, as in `Recurrent`. They are the same to the bit (but for denormals, which the engine takes
        for 0): each entry is on its own.
    **options
        Those of the rule (see `defaults`), and `weight_decay`: the L2 penalty, weight_decay p added to g
        (AdamW: the decay that is not).

    Attributes
    ----------
    options : dict
        Every option's value.
    slots : dict
        Slot -> parameter name -> array of the parameter's shape and dtype; what the rule remembers.
    step : int
        Updates made.

    Raises
    ------
    UnrolledError
        If an option is unknown or out of range, or a parameter holds no floats.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    about: ClassVar[str]
    """Its use, in a line."""
    rate: ClassVar[float]
    """Learning rate that suits the rule when none is asked for."""
    defaults: ClassVar[dict[str, float]] = {}
    rule: ClassVar[rules.Rule]
    """Its function, and the names of its moments, which are the slots."""
    decoupled: ClassVar[bool] = False
    """Whether weight decay stays out of the gradient."""

    def __init__(self, params: dict[str, Array], *, backend: str = "auto", **options: float) -> None:
        self.options = check_options(self.name, {"weight_decay": 0.0} | self.defaults, options, _RANGES)
        for name, p in check_floats("parameter", params).items():
            if not p.flags.writeable:
                raise UnrolledError(f"parameter {name} is read-only, and updates are in place; copy it first")
        backends.choose(backend)
        self.params, self.backend = params, backend
        self.step = 0
        self.slots = {slot: {name: np.zeros_like(p) for name, p in params.items()} for slot in self.rule.moments}
        self._made_for = {name: (p.shape, p.dtype, p.flags.carray) for name, p in params.items()}

    def __repr__(self) -> str:
        options = "".join(f"{name}={value:g}, " for name, value in self.options.items())
        size = sum(math.prod(shape) for shape, _, _ in self._made_for.values())
        return f"{type(self).__name__}({options}{size:,} parameters, step {self.step})"

    def update(self, grads: Mapping[str, Array], rate: float | None = None) -> None:
        """Change the parameters in place by one step.

        Parameters
        ----------
        grads : dict
            Name -> gradient, at least one for each parameter, of its shape; not changed.
        rate : float, optional
            Learning rate of this step; by default the one that suits the rule.

        Raises
        ------
        UnrolledError
            If a gradient is missing, misshapen or no array of floats, the rate is negative or not finite, or the
            parameters are no longer those that the rule was made for; nothing has changed then.
        """
        rate = check_weight("learning rate", self.rate if rate is None else rate)
        grads = check_floats("gradient", grads)
        self._check_params()
        for name, (shape, _, _) in self._made_for.items():
            if name not in grads:
                raise UnrolledError(f"{name} has no gradient; got those of {listed(grads) or 'nothing'}")
            if grads[name].shape != shape:
                raise UnrolledError(f"the gradient of {name} has shape {grads[name].shape}; expected {shape}")
        # paired by name: the caller's dictionaries may come in any order
        params, given = [self.params[name] for name in self._made_for], [grads[name] for name in self._made_for]
        moments = [[of[name] for name in self._made_for] for of in self.slots.values()]
        self.step += 1
        decay = 0.0 if self.decoupled else self.options["weight_decay"]
        backends.choose(self.backend).update(self.rule, params, given, moments, self._constants(rate), decay)

    def _check_params(self) -> None:
        """Refuse parameters that are not those the moments are of: the dictionary is the caller's, who can change it.

        A copy of a rule may have its parameters in better order (contiguous, aligned) than they were, never in worse.
        """
        if not isinstance(self.params, Mapping) or self.params.keys() != self._made_for.keys():
            names = self.params.keys() if isinstance(self.params, Mapping) else ()
            odd = sorted(names ^ self._made_for.keys(), key=str)
            said = listed((f"{listed([name])} is {'new' if name in names else 'missing'}" for name in odd), 5)
            raise UnrolledError(f"the parameters are not those {self.name} was made for: {said}; make another for them")
        for name, (shape, dtype, whole) in self._made_for.items():
            p = self.params[name]
            if not isinstance(p, np.ndarray) or isinstance(p, np.ma.MaskedArray):
                found = f"a {type(p).__name__}"
            elif p.shape != shape or p.dtype != dtype:
                found = f"{p.dtype} {p.shape}"
            elif not p.flags.writeable:
                found = "read-only"
            elif whole and not p.flags.carray:
                found = "not contiguous" if p.flags.aligned else "not aligned"
            else:
                continue
            raise UnrolledError(
                f"parameter {name} is now {found}; {self.name} was made for {dtype} {shape} that it can change in place"
            )

    def _constants(self, rate: float) -> list[float]:
        """Return the constants of the rule's next step, in its order."""
        raise NotImplementedError

    def _flat(self) -> dict[str, Array]:
        return {f"{slot}.{name}": m for slot, moments in self.slots.items() for name, m in moments.items()}

    def state_dict(self) -> dict[str, Array]:
        """Return copies of the moments as flat names "slot.parameter", and the updates made as "step".

        Examples
        --------
        >>> rule = make_optimizer("adam", {"w": np.zeros(2)})
        >>> rule.update({"w": np.array([1.0, -2.0])}, rate=0.1)
        >>> sorted(rule.state_dict())
        ['m.w', 'step', 'v.w']
        >>> rule.state_dict()["m.w"].round(3)  # (1 - beta1) g: stored as it is, not bias-corrected
        array([ 0.1, -0.2])
        """
        return {name: m.copy() for name, m in self._flat().items()} | {"step": np.array(self.step)}

    def load_state_dict(self, state: Mapping[str, Array]) -> None:
        """Restore `state_dict`'s arrays; a name, shape or dtype that does not fit is an error and changes nothing."""
        flat = self._flat()
        if not isinstance(state, Mapping):
            raise UnrolledError(f"the state is a {type(state).__name__}; expected a dictionary, as state_dict gives it")
        if odd := sorted(map(str, state.keys() ^ (flat.keys() | {"step"}))):
            said = listed((f"{listed([name])} is {'unknown' if name in state else 'missing'}" for name in odd), 5)
            raise UnrolledError(f"the state is not one of {self.name} for these parameters: {said}")
        arrays = {name: as_array(name, state[name]) for name in [*flat, "step"]}
        for name, m in flat.items():
            got = arrays[name]
            if (got.shape, got.dtype) != (m.shape, m.dtype):
                raise UnrolledError(f"{name} is {got.dtype} {got.shape}; expected {m.dtype} {m.shape}")
        step = arrays["step"]
        steps = check_size("step", step.item() if step.shape == () else step, least=0)
        for name, m in flat.items():
            m[...] = arrays[name]
        self.step = steps


class SGD(Optimizer):
    """p <- p - rate g."""

    rule = rules.SGD
    name, paper, rate = "sgd", "Robbins & Monro 1951", 1.0
    about = "stochastic gradient descent, for a rate tuned by hand and clipped gradients"

    def _constants(self, rate: float) -> list[float]:
        return [rate]


class Momentum(Optimizer):
    """v <- momentum v + (1 - dampening) g; p <- p - rate v. The first gradient is not dampened, as in PyTorch."""

    rule = rules.MOMENTUM
    name, paper, rate = "momentum", "Polyak 1964", 0.1
    about = "SGD that keeps rolling: a velocity evens the gradients out"
    defaults: ClassVar = {"momentum": 0.9, "dampening": 0.0}

    def _constants(self, rate: float) -> list[float]:
        new = 1.0 if self.step == 1 else 1 - self.options["dampening"]
        return [rate, self.options["momentum"], new]


class Nesterov(Optimizer):
    """v <- momentum v + g; p <- p - rate (g + momentum v)."""

    rule = rules.NESTEROV
    name, paper, rate = "nesterov", "Nesterov 1983; Sutskever et al. 2013", 0.1
    about = "momentum that looks ahead, and so brakes sooner"
    defaults: ClassVar = {"momentum": 0.9}

    def _constants(self, rate: float) -> list[float]:
        return [rate, self.options["momentum"]]


class Adagrad(Optimizer):
    """s <- s + g^2; p <- p - rate g / (sqrt(s) + eps)."""

    rule = rules.ADAGRAD
    name, paper, rate = "adagrad", "Duchi, Hazan & Singer 2011", 0.01
    about = "a rate per entry that only falls; good for rare symbols"
    defaults: ClassVar = {"eps": 1e-10}

    def _constants(self, rate: float) -> list[float]:
        return [rate, self.options["eps"]]


class RMSprop(Optimizer):
    """s <- alpha s + (1 - alpha) g^2; p <- p - rate g / (sqrt(s) + eps).

    char-rnn's is alpha=0.95.
    """

    rule = rules.RMSPROP
    name, paper, rate = "rmsprop", "Tieleman & Hinton 2012", 2e-3
    about = "gradients divided by their recent size; char-rnn's rule"
    defaults: ClassVar = {"alpha": 0.99, "eps": 1e-8}

    def _constants(self, rate: float) -> list[float]:
        return [rate, self.options["eps"], self.options["alpha"], 1 - self.options["alpha"]]


class Adadelta(Optimizer):
    """s <- rho s + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(s + eps); u <- rho u + (1 - rho) d^2; p <- p - rate d."""

    rule = rules.ADADELTA
    name, paper, rate = "adadelta", "Zeiler 2012", 1.0
    about = "RMSprop in the parameters' own units; needs no tuned rate, starts slowly"
    defaults: ClassVar = {"rho": 0.9, "eps": 1e-6}

    def _constants(self, rate: float) -> list[float]:
        return [rate, self.options["eps"], self.options["rho"], 1 - self.options["rho"]]


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- p - rate mhat / (sqrt(vhat) + eps).

    The corrected moments mhat = m / (1 - b1^t) and vhat = v / (1 - b2^t) are used, never stored.
    """

    rule = rules.ADAM
    name, paper, rate = "adam", "Kingma & Ba 2015", 2e-3
    about = "momentum with RMSprop's scaling; the usual choice"
    defaults: ClassVar = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

    def _constants(self, rate: float) -> list[float]:
        b1, b2, kept = self.options["beta1"], self.options["beta2"], 1.0
        if self.decoupled:
            kept = 1 - rate * self.options["weight_decay"]
        corrected = rate / (1 - b1**self.step)
        return [corrected, self.options["eps"], b1, 1 - b1, b2, 1 - b2, math.sqrt(1 - b2**self.step), kept]


class AdamW(Adam):
    """p <- p (1 - rate weight_decay), then Adam's step: the decay does not pass through the moments."""

    name, paper, rate = "adamw", "Loshchilov & Hutter 2019", 2e-3
    about = "Adam with weight decay that acts on all entries alike"
    defaults: ClassVar = Adam.defaults | {"weight_decay": 0.01}
    decoupled = True


def check_least(name: str, value: object) -> float:
    """Return what is added to a divisor as a float, or say that it is too small to keep it from 0."""
    if (number := check_weight(name, value)) < LEAST:
        raise UnrolledError(
            f"{name} is {figure(number)}; it must be {LEAST:.3g} or more, so that nothing is divided by 0"
        )
    return number


OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.name: rule for rule in (SGD, Momentum, Nesterov, Adagrad, RMSprop, Adadelta, Adam, AdamW)
}


def make_optimizer(name: str, params: dict[str, Array], *, backend: str = "auto", **options: float) -> Optimizer:
    """Return the update rule of that name on these parameters.

    Examples
    --------
    >>> params = {"w": np.array([1.0, -2.0])}
    >>> make_optimizer("sgd", params).update({"w": np.array([0.5, 0.5])}, rate=0.1)
    >>> params["w"]
    array([ 0.95, -2.05])
    """
    if not isinstance(name, str) or name not in OPTIMIZERS:
        raise UnrolledError(suggest("optimizer", name, list(OPTIMIZERS)))
    return OPTIMIZERS[name](params, backend=backend, **options)
