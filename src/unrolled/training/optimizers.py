"""Update rules, clipping and learning-rate schedules; each rule in its paper's equations and PyTorch's conventions.

A rule is handed the rate at every update, so a schedule always reaches it. Its memory is explicit: named arrays that a
checkpoint can hold. Updates are in place, on the training loop's own parameters; gradients are never changed.
Letters: p parameter, g gradient, a and b scratch; m, v, s, u the moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from .. import backends
from ..checks import Array, as_array, check_number, check_size, check_weight, is_number
from ..errors import UnrolledError, brief, listed, suggest

_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = (
    dict.fromkeys(("momentum", "alpha", "rho", "beta1", "beta2"), ("at least 0 and below 1", lambda v: 0 <= v < 1))
    | dict.fromkeys(("eps", "weight_decay", "after"), ("0 or more", lambda v: v >= 0))
    | dict.fromkeys(("decay", "factor"), ("above 0 and at most 1", lambda v: 0 < v <= 1))
    | dict.fromkeys(("warmup", "patience"), ("a whole number, 0 or more", lambda v: v >= 0 and v == int(v)))
    | {"every": ("above 0", lambda v: v > 0), "floor": ("from 0 to 1", lambda v: 0 <= v <= 1)}
    | {"total": ("a whole number, 1 or more", lambda v: v >= 1 and v == int(v))}
)
"""What an option may be, in words and as a test."""

PART = 1 << 16
"""Numbers that NumPy updates at a time, about: the scratch is then small, and stays in the cache."""


def _checked(owner: str, defaults: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Return the defaults with the given options in their places, once every one is known and in its range."""
    for option, value in given.items():
        if option not in defaults:
            known = suggest(f"option of {owner}", option, list(defaults))
            raise UnrolledError(known if defaults else f"{owner} takes no options; got {brief(option)}")
        words, fits = _RANGES[option]
        if not (is_number(value) and fits(float(value))):
            raise UnrolledError(f"{option} of {owner} is {brief(value)}; it must be {words}")
    return dict(defaults) | {option: float(value) for option, value in given.items()}


def _arrays(what: str, arrays: object) -> Mapping[str, Array]:
    """Return a dictionary of arrays of floats, or say what is wrong with it."""
    if not isinstance(arrays, Mapping):
        raise UnrolledError(f"{what}s are a {type(arrays).__name__}; expected a dictionary of arrays by their names")
    for name, a in arrays.items():
        if not isinstance(a, np.ndarray) or isinstance(a, np.ma.MaskedArray):
            raise UnrolledError(
                f"{what} {listed([name])} is a {type(a).__name__}; expected an array of float32 or float64"
            )
        if a.dtype.kind != "f":
            raise UnrolledError(f"{what} {name} has dtype {a.dtype}; expected float32 or float64")
    return arrays


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
    """What it is good for, in a line."""
    rate: ClassVar[float]
    """Learning rate that suits the rule when none is asked for."""
    defaults: ClassVar[dict[str, float]] = {}
    slot_names: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str]
    """Name of the rule among the native engine's."""
    decoupled: ClassVar[bool] = False
    """Whether weight decay stays out of the gradient."""

    def __init__(self, params: dict[str, Array], *, backend: str = "auto", **options: float) -> None:
        self.options = _checked(self.name, {"weight_decay": 0.0} | self.defaults, options)
        for name, p in _arrays("parameter", params).items():
            if not p.flags.writeable:
                raise UnrolledError(f"parameter {name} is read-only, and updates are in place; copy it first")
        backends.choose(backend)
        self.params, self.backend = params, backend
        self.step = 0
        self.slots = {slot: {name: np.zeros_like(p) for name, p in params.items()} for slot in self.slot_names}
        self._made_for = {name: (p.shape, p.dtype, p.flags.carray) for name, p in params.items()}

    def __repr__(self) -> str:
        options = "".join(f"{name}={value:g}, " for name, value in self.options.items())
        size = sum(math.prod(shape) for shape, _, _ in self._made_for.values())
        return f"{type(self).__name__}({options}{size:,} parameters, step {self.step})"

    def update(self, grads: Mapping[str, Array], rate: float) -> None:
        """Change the parameters in place by one step.

        Parameters
        ----------
        grads : dict
            Name -> gradient, at least one for each parameter, of its shape; not changed.
        rate : float
            Learning rate of this step.

        Raises
        ------
        UnrolledError
            If a gradient is missing, misshapen or no array of floats, the rate is negative or not finite, or the
            parameters are no longer those that the rule was made for; nothing has changed then.
        """
        rate, grads = check_weight("learning rate", rate), _arrays("gradient", grads)
        self._check_params()
        for name, (shape, _, _) in self._made_for.items():
            if name not in grads:
                raise UnrolledError(f"{name} has no gradient; got those of {listed(grads) or 'nothing'}")
            if grads[name].shape != shape:
                raise UnrolledError(f"the gradient of {name} has shape {grads[name].shape}; expected {shape}")
        # paired by name: the caller's dictionaries may come in any order
        params, given = [self.params[name] for name in self._made_for], [grads[name] for name in self._made_for]
        moments = [[self.slots[slot][name] for name in self._made_for] for slot in self.slot_names]
        native = backends.kernels(self.backend, *params, *given)
        self.step += 1
        if native and all(whole for _, _, whole in self._made_for.values()):  # then the moments are, too
            native.update(
                self.kernel,
                params,
                given,
                moments,
                self._numbers(rate),
                0.0 if self.decoupled else self.options["weight_decay"],
            )
            return
        self._update(grads, rate)

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

    @cached_property
    def _scratch(self) -> dict[Any, Array]:
        sizes: dict[Any, int] = {}
        for p in self.params.values():
            for part in _parts(p):
                sizes[p.dtype] = max(p[part].size, sizes.get(p.dtype, 0))
        return {dtype: np.empty((3, size), dtype) for dtype, size in sizes.items()}

    def _numbers(self, rate: float) -> list[float]:
        """Return the numbers of the rule's kernel, in its order."""
        raise NotImplementedError

    def _update(self, grads: Mapping[str, Array], rate: float) -> None:
        for name, whole in self.params.items():
            for part in _parts(whole):  # each entry is on its own, and the scratch is small
                p, g = whole[part], grads[name][part]
                a, b, decayed = (row[: p.size].reshape(p.shape) for row in self._scratch[p.dtype])
                if self.options["weight_decay"] and not self.decoupled:
                    np.multiply(p, self.options["weight_decay"], out=decayed)
                    g = np.add(decayed, g, out=decayed)
                self._apply(p, g, rate, [self.slots[slot][name][part] for slot in self.slot_names], a, b)

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        """Change p and its moments by the rule's equation; a and b are scratch of p's shape, g only to be read."""
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

    kernel = "sgd"
    name, paper, rate = "sgd", "Robbins & Monro 1951", 1.0
    about = "stochastic gradient descent, for a rate tuned by hand and clipped gradients"

    def _numbers(self, rate: float) -> list[float]:
        return [rate]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        p -= np.multiply(g, rate, out=a)


class Momentum(Optimizer):
    """v <- momentum v + g; p <- p - rate v."""

    kernel = "momentum"
    name, paper, rate = "momentum", "Polyak 1964", 0.1
    about = "SGD that keeps rolling: a velocity evens the gradients out"
    defaults: ClassVar = {"momentum": 0.9}
    slot_names = ("velocity",)

    def _numbers(self, rate: float) -> list[float]:
        return [rate, self.options["momentum"]]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (v,) = moments
        v *= self.options["momentum"]
        v += g
        p -= np.multiply(v, rate, out=a)


class Nesterov(Optimizer):
    """v <- momentum v + g; p <- p - rate (g + momentum v)."""

    kernel = "nesterov"
    name, paper, rate = "nesterov", "Nesterov 1983; Sutskever et al. 2013", 0.1
    about = "momentum that looks ahead, and so brakes sooner"
    defaults: ClassVar = {"momentum": 0.9}
    slot_names = ("velocity",)

    def _numbers(self, rate: float) -> list[float]:
        return [rate, self.options["momentum"]]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (v,) = moments
        v *= self.options["momentum"]
        v += g
        np.multiply(v, self.options["momentum"], out=a)
        a += g
        a *= rate
        p -= a


class Adagrad(Optimizer):
    """s <- s + g^2; p <- p - rate g / (sqrt(s) + eps)."""

    kernel = "adagrad"
    name, paper, rate = "adagrad", "Duchi, Hazan & Singer 2011", 0.01
    about = "a rate per entry that only falls; good for rare symbols"
    defaults: ClassVar = {"eps": 1e-10}
    slot_names = ("square_sum",)

    def _numbers(self, rate: float) -> list[float]:
        return [rate, self.options["eps"]]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (s,) = moments
        s += np.multiply(g, g, out=a)
        _descend(p, g, s, rate, self.options["eps"], a)


class RMSprop(Optimizer):
    """s <- alpha s + (1 - alpha) g^2; p <- p - rate g / (sqrt(s) + eps).

    char-rnn's is alpha=0.95.
    """

    kernel = "rmsprop"
    name, paper, rate = "rmsprop", "Tieleman & Hinton 2012", 2e-3
    about = "gradients divided by their recent size; char-rnn's rule"
    defaults: ClassVar = {"alpha": 0.99, "eps": 1e-8}
    slot_names = ("square_average",)

    def _numbers(self, rate: float) -> list[float]:
        return [rate, self.options["eps"], self.options["alpha"], 1 - self.options["alpha"]]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        (s,) = moments
        _average(s, np.multiply(g, g, out=a), self.options["alpha"], a)
        _descend(p, g, s, rate, self.options["eps"], a)


class Adadelta(Optimizer):
    """s <- rho s + (1 - rho) g^2; d = g sqrt(u + eps) / sqrt(s + eps); u <- rho u + (1 - rho) d^2; p <- p - rate d."""

    kernel = "adadelta"
    name, paper, rate = "adadelta", "Zeiler 2012", 1.0
    about = "RMSprop in the parameters' own units; needs no tuned rate, starts slowly"
    defaults: ClassVar = {"rho": 0.9, "eps": 1e-6}
    slot_names = ("square_average", "delta_average")

    def _numbers(self, rate: float) -> list[float]:
        return [rate, self.options["eps"], self.options["rho"], 1 - self.options["rho"]]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        s, u = moments
        rho, eps = self.options["rho"], self.options["eps"]
        _average(s, np.multiply(g, g, out=a), rho, a)
        np.sqrt(np.add(u, eps, out=a), out=a)
        a /= np.sqrt(np.add(s, eps, out=b), out=b)
        a *= g
        _average(u, np.multiply(a, a, out=b), rho, b)
        a *= rate
        p -= a


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- p - rate mhat / (sqrt(vhat) + eps).

    The corrected moments mhat = m / (1 - b1^t) and vhat = v / (1 - b2^t) are used, never stored.
    """

    kernel = "adam"
    name, paper, rate = "adam", "Kingma & Ba 2015", 2e-3
    about = "momentum with RMSprop's scaling; the usual choice"
    defaults: ClassVar = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    slot_names = ("m", "v")

    def _numbers(self, rate: float) -> list[float]:
        b1, b2, kept = self.options["beta1"], self.options["beta2"], 1.0
        if self.decoupled:
            kept = 1 - rate * self.options["weight_decay"]
        corrected = rate / (1 - b1**self.step)
        return [corrected, self.options["eps"], b1, 1 - b1, b2, 1 - b2, math.sqrt(1 - b2**self.step), kept]

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        m, v = moments
        b1, b2 = self.options["beta1"], self.options["beta2"]
        _average(m, g, b1, a)
        _average(v, np.multiply(g, g, out=a), b2, a)
        np.sqrt(v, out=a)
        a /= math.sqrt(1 - b2**self.step)
        a += self.options["eps"]
        np.divide(m, a, out=a)
        a *= rate / (1 - b1**self.step)
        p -= a


class AdamW(Adam):
    """p <- p (1 - rate weight_decay), then Adam's step: the decay does not pass through the moments."""

    name, paper, rate = "adamw", "Loshchilov & Hutter 2019", 2e-3
    about = "Adam with weight decay that acts on all entries alike"
    defaults: ClassVar = Adam.defaults | {"weight_decay": 0.01}
    decoupled = True

    def _apply(self, p: Array, g: Array, rate: float, moments: list[Array], a: Array, b: Array) -> None:
        p *= 1 - rate * self.options["weight_decay"]
        super()._apply(p, g, rate, moments, a, b)


def _parts(p: Array) -> Iterator[Any]:
    """Yield indices that cut an array along its first axis into parts of about `PART` numbers."""
    if p.size <= PART:
        yield ...
        return
    rows = max(1, PART * len(p) // p.size)
    yield from (slice(start, start + rows) for start in range(0, len(p), rows))


def _average(mean: Array, new: Array, keep: float, scratch: Array) -> None:
    """mean <- keep mean + (1 - keep) new, in place; `scratch` may be `new`."""
    np.multiply(new, 1 - keep, out=scratch)
    mean *= keep
    mean += scratch


def _descend(p: Array, g: Array, s: Array, rate: float, eps: float, scratch: Array) -> None:
    """p <- p - rate g / (sqrt(s) + eps), in place."""
    np.sqrt(s, out=scratch)
    scratch += eps
    np.divide(g, scratch, out=scratch)
    scratch *= rate
    p -= scratch


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


def global_norm(grads: Mapping[str, Array], backend: str = "auto") -> float:
    """Euclidean norm of all gradients together, summed in float64 in the order of the names.

    Examples
    --------
    >>> global_norm({"a": np.array([3.0]), "b": np.array([4.0])})
    5.0
    """
    native = backends.kernels(backend, *_arrays("gradient", grads).values())
    if native:
        return math.sqrt(native.sum_of_squares(grads[name] for name in sorted(grads)))
    with np.errstate(over="ignore"):  # an infinite norm says it
        return math.sqrt(sum(_sum_of_squares(grads[name].ravel("K")) for name in sorted(grads)))


def _sum_of_squares(flat: Array) -> float:
    """Sum of the squares in float64 of (N,): halves are added as NumPy itself does, without a copy of the whole."""
    if len(flat) <= PART:
        return float(np.square(flat, dtype=np.float64).sum())
    half = len(flat) // 16 * 8
    return _sum_of_squares(flat[:half]) + _sum_of_squares(flat[half:])


def clip_by_norm(grads: dict[str, Array], limit: float, backend: str = "auto") -> float:
    """g <- g limit / (norm + 1e-6), in place, where the norm of all together is above `limit` (Pascanu et al. 2013).

    Returns the norm before. If that is not finite, nothing is changed, so that `first_nonfinite` can name the culprit.

    Examples
    --------
    >>> grads = {"a": np.array([3.0]), "b": np.array([4.0])}
    >>> clip_by_norm(grads, 1.0), grads["a"].round(3)
    (5.0, array([0.6]))
    """
    limit, norm = _check_limit(limit, grads), global_norm(grads, backend)
    scale = limit / (norm + 1e-6)  # PyTorch's guard
    if math.isfinite(norm) and scale < 1:
        native = backends.kernels(backend, *grads.values())
        if native and all(g.flags.c_contiguous for g in grads.values()):
            native.scale(list(grads.values()), scale)
        else:
            for g in grads.values():
                g *= scale
    return norm


def clip_by_value(grads: dict[str, Array], limit: float, backend: str = "auto") -> float:
    """Cut every entry in place to [-limit, limit] (char-rnn's way); return the norm before.

    If that is not finite, nothing is changed, so that `first_nonfinite` can name the culprit.

    Examples
    --------
    >>> grads = {"a": np.array([3.0, -1.0]), "b": np.array([-6.0])}
    >>> clip_by_value(grads, 2.0) ** 2, grads["a"], grads["b"]
    (46.0, array([ 2., -1.]), array([-2.]))
    """
    limit, norm = _check_limit(limit, grads), global_norm(grads, backend)
    if math.isfinite(norm) and limit < norm:  # no entry is larger than the norm
        for g in grads.values():
            np.clip(g, -limit, limit, out=g)
    return norm


def _check_limit(limit: float, grads: Mapping[str, Array]) -> float:
    """Return the largest norm or entry that stays as it is, as a float; gradients must be what can be changed."""
    for name, g in _arrays("gradient", grads).items():
        if not g.flags.writeable:
            raise UnrolledError(f"gradient {name} is read-only, and clipping is in place; copy it first")
    unlimited = isinstance(limit, (float, np.floating)) and limit == math.inf
    if not unlimited and not (is_number(limit) and limit >= 0):
        raise UnrolledError(f"clipping limit is {brief(limit)}; it must be 0 or more (infinity: no limit)")
    return float(limit)


def first_nonfinite(arrays: Mapping[str, Array]) -> str | None:
    """Name the first array that holds a NaN or an infinity; None if there is none.

    Examples
    --------
    >>> first_nonfinite({"a": np.ones(2), "b": np.array([1.0, np.nan])})
    'b'
    """
    return next((name for name, a in arrays.items() if not np.isfinite(a).all()), None)


class Schedule:
    """A learning rate as a function of how far a run has come; constant, unless it says otherwise.

    Parameters
    ----------
    base_rate : float
        Rate at the start.
    **options
        Those of the schedule (see `defaults`).
    """

    name: ClassVar[str] = "constant"
    defaults: ClassVar[dict[str, float]] = {}

    def __init__(self, base_rate: float, **options: float) -> None:
        self.base = check_weight("learning rate", base_rate)
        self.options = _checked(f"the {self.name} schedule", self.defaults, options)

    def __repr__(self) -> str:
        options = "".join(f", {name}={value:g}" for name, value in self.options.items())
        return f"{type(self).__name__}(base_rate={self.base:g}{options})"

    def rate(self, step: int, epoch: float, time: float = 0.0) -> float:
        """Return the learning rate of an update.

        Parameters
        ----------
        step : int
            Number of the update; the first is 0.
        epoch : float
            Epochs done.
        time : float
            Share of the time of the run that is used, where it has a limit.

        Raises
        ------
        UnrolledError
            If one is no number, or negative.
        """
        return self._rate(check_size("step", step, 0), check_weight("epoch", epoch), check_weight("time", time))

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""

    def state_dict(self) -> dict[str, float | None]:
        """Return what the schedule remembers, as JSON-able numbers."""
        return {}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Restore `state_dict`'s numbers."""
        if not isinstance(state, Mapping):
            raise UnrolledError(f"the state is a {type(state).__name__}; expected a dictionary, as state_dict gives it")
        if state.keys() != self.state_dict().keys():
            raise UnrolledError(
                f"the state holds {listed(state) or 'nothing'}; "
                f"the {self.name} schedule's holds {', '.join(sorted(self.state_dict())) or 'nothing'}"
            )


class Exponential(Schedule):
    """rate = base decay^n: decayed at the end of every epoch from number `after` on (char-rnn: 0.97 from the 10th).

    As char-rnn decays at the end of whole epochs only, the first one has the full rate, even with after=0.
    """

    name = "exponential"
    defaults: ClassVar = {"decay": 0.97, "after": 10}

    def _rate(self, step: int, epoch: float, time: float) -> float:
        first = max(1, math.ceil(self.options["after"]))
        return self.base * float(self.options["decay"] ** max(0, math.floor(epoch) - first + 1))


class Step(Schedule):
    """rate = base factor^n, n the times that `every` epochs are done."""

    name = "step"
    defaults: ClassVar = {"every": 5, "factor": 0.5}

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base * float(self.options["factor"] ** (epoch // self.options["every"]))


class Cosine(Schedule):
    """Linear warm-up over `warmup` steps, then half a cosine down to `floor` x base at step `total`.

    The arc is that of Loshchilov & Hutter 2017 (SGDR) without restarts. `total` has to be given. Where `warmup` is not
    below it, all is warm-up. Of a run with a time limit, the larger of the shares of steps and of time is what is done.

    Examples
    --------
    >>> schedule = make_schedule("cosine", 0.1, total=100)
    >>> [round(schedule.rate(step, 0, time), 6) for step, time in [(50, 0), (50, 0.25), (2, 0.5), (2, 1.1)]]
    [0.05, 0.05, 0.05, 0.0]
    """

    name = "cosine"
    defaults: ClassVar = {"warmup": 0, "total": 0, "floor": 0.0}

    def __init__(self, base_rate: float, **options: float) -> None:
        super().__init__(base_rate, **options)
        if not self.options["total"]:
            raise UnrolledError("the cosine schedule needs total, the number of steps it runs over")

    def _rate(self, step: int, epoch: float, time: float) -> float:
        warmup, total, floor = self.options["warmup"], self.options["total"], self.options["floor"]
        if step < warmup:
            return self.base * (step + 1) / warmup
        done = min(1.0, max(time, (step - warmup) / max(1, total - warmup)))
        return self.base * (floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2)


class Plateau(Schedule):
    """Multiply the rate by `factor` when the loss has not fallen for more than `patience` evaluations.

    Examples
    --------
    >>> schedule = make_schedule("plateau", 0.1, factor=0.5, patience=1)
    >>> for loss in (2.0, 2.1, 2.2):
    ...     schedule.observe(loss)
    >>> schedule.rate(300, 1.5), schedule.state_dict()
    (0.05, {'best': 2.0, 'bad': 0, 'scale': 0.5})
    """

    name = "plateau"
    defaults: ClassVar = {"factor": 0.5, "patience": 0}

    def __init__(self, base_rate: float, **options: float) -> None:
        super().__init__(base_rate, **options)
        self.best, self.bad, self.scale = math.inf, 0, 1.0

    def _rate(self, step: int, epoch: float, time: float) -> float:
        return self.base * self.scale

    def observe(self, loss: float) -> None:
        """Take note of a validation loss."""
        if not is_number(loss) and not isinstance(loss, (float, np.floating)):  # these may be infinite, or no number
            raise UnrolledError(f"the loss is {brief(loss)}; expected a number")
        if loss < self.best:
            self.best, self.bad = float(loss), 0
            return
        self.bad += 1
        if self.bad > self.options["patience"]:
            self.bad, self.scale = 0, self.scale * self.options["factor"]

    def state_dict(self) -> dict[str, float | None]:
        """Return the best loss (None before the first), evaluations since, and scale."""
        return {"best": self.best if math.isfinite(self.best) else None, "bad": self.bad, "scale": self.scale}

    def load_state_dict(self, state: Mapping[str, float | None]) -> None:
        """Restore `state_dict`'s numbers."""
        super().load_state_dict(state)
        best, bad, scale = state["best"], state["bad"], state["scale"]
        of = "of the plateau schedule's state"
        best = math.inf if best is None else check_number(f"best {of}", best)
        self.best, self.bad, self.scale = best, check_size(f"bad {of}", bad, 0), check_weight(f"scale {of}", scale)


SCHEDULES: dict[str, type[Schedule]] = {s.name: s for s in (Schedule, Exponential, Step, Cosine, Plateau)}


def make_schedule(name: str, base_rate: float, **options: float) -> Schedule:
    """Return the schedule of that name.

    Examples
    --------
    >>> schedule = make_schedule("exponential", 2e-3, decay=0.97, after=10)
    >>> schedule.rate(0, 9.9), round(schedule.rate(0, 10), 6)
    (0.002, 0.00194)
    """
    if not isinstance(name, str) or name not in SCHEDULES:
        raise UnrolledError(suggest("schedule", name, list(SCHEDULES)))
    return SCHEDULES[name](base_rate, **options)
