"""Linear recurrent units: the complex LRU (Orvieto et al. 2023), and Griffin's real, gated one (De et al. 2024)."""

from typing import Any, NamedTuple

import numpy as np
from numpy import cos, log1p, sin

from .cell import Cell, Stage, Value
from .initial import normal, zeros
from .ops import exp, maximum, sigmoid, sqrt, tanh
from .rnn import State as Hidden

SHARPNESS = 8
"""The c of Griffin's a^(c r): the recurrence gate's reach."""
LEAST = 1e-30
"""What is left of 1 - a^2 where the recurrence gate is shut: 0 has no root that a gradient could pass."""


class State(NamedTuple):
    """State of an LRU: the output h, and the real and imaginary part of the linear recurrence; all (B, H)."""

    h: Value
    re: Value
    im: Value


class NoGates(NamedTuple):
    """An LRU has no gates; its tape keeps the states alone."""


class Turned(NamedTuple):
    """The recurrence's new real and imaginary part, which C reads."""

    real: Value
    imag: Value


class Exponents(NamedTuple):
    """Per-unit parameters of an LRU, each (H,).

    nu and theta are logarithms of decay and phase, gamma that of the input's scale; skip is D, the way past the
    recurrence.
    """

    nu: Value
    theta: Value
    gamma: Value
    skip: Value


class Eigenvalues(NamedTuple):
    """Real and imaginary part of an LRU's eigenvalues, the input's scale, and D; each (H,)."""

    re: Value
    im: Value
    gamma: Value
    skip: Value


class Gates(NamedTuple):
    """Recurrence gate r, input gate i, and the decay a that comes of r."""

    r: Value
    i: Value
    a: Value


class Lambda(NamedTuple):
    """A unit's decay, as the pre-activation of a sigmoid, (H,)."""

    decay: Value


class Rate(NamedTuple):
    """A unit's decay as c log(1 / a), (H,)."""

    rate: Value


def eigenvalues(p: Exponents) -> Eigenvalues:
    """Return lambda = exp(-exp(nu) + i exp(theta)), inside the unit circle whatever is learnt."""
    size, phase = exp(-exp(p.nu)), exp(p.theta)
    return Eigenvalues(size * cos(phase), size * sin(phase), exp(p.gamma), p.skip)


def turn_forward(ax: Any, ah: Any, s: State, p: Eigenvalues) -> Turned:
    """First stage: lambda x + gamma (B u), a complex product in two real parts."""
    return Turned(p.re * s.re - p.im * s.im + p.gamma * ax[0], p.re * s.im + p.im * s.re + p.gamma * ax[1])


def read_forward(ax: Any, ah: Any, s: State, k: Turned, p: Eigenvalues, x: Value) -> tuple[State, NoGates]:
    """Second stage: h' = Re(C x') + D u; its product is Re(C) x'_re - Im(C) x'_im."""
    return State(h=ah[0] + p.skip * x, re=k.real, im=k.imag), NoGates()


def ring(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Draw eigenvalues uniform on the unit disc (lemma 3.2), gamma = sqrt(1 - |lambda|^2), and D of N(0, 1)."""
    nu = -np.log(rng.uniform(1e-6, 1, shape[-1])) / 2
    phase = rng.uniform(1e-6, 2 * np.pi, shape[-1])
    scale = np.log(-np.expm1(-2 * nu)) / 2
    return np.stack([np.log(nu), np.log(phase), scale, rng.standard_normal(shape[-1])])


def rates(p: Lambda) -> Rate:
    """Return -c log(sigmoid(decay)), with all digits where a is near 1, and without overflow where it is near 0."""
    return Rate(SHARPNESS * (maximum(-p.decay, 0) + log1p(exp(-maximum(p.decay, -p.decay)))))


def rg_lru_forward(ax: Any, ah: Any, s: Hidden, p: Rate, x: Value) -> tuple[Hidden, Gates]:
    """Return h' = a h + sqrt(1 - a^2) (i x) with a = exp(-rate r)."""
    r, i = sigmoid(ax[0]), sigmoid(ax[1])
    passed = p.rate * r
    a, t = exp(-passed), tanh(passed)
    scale = sqrt(maximum(2 * t / (1 + t), LEAST))  # 1 - exp(-2 u) = 2 tanh(u) / (1 + tanh(u)), and loses no digits
    return Hidden(h=a * s.h + scale * (i * x)), Gates(r, i, a)


def slow(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Draw the decay whose a^c is uniform in [0.9, 0.999]."""
    a = rng.uniform(0.9, 0.999, shape) ** (1 / SHARPNESS)
    return np.log(a) - np.log1p(-a)


LRU = Cell(
    "lru",
    State,
    NoGates,
    (
        Stage(("re", "im"), turn_forward, operand=None, biases=()),
        Stage(("h",), read_forward, operand=("real", "imag"), inputs=False, biases=()),
    ),
    "Orvieto et al. 2023, Resurrecting recurrent neural networks for long sequences",
    params=Exponents,
    params_name="weight_recurrence",
    prepare=eigenvalues,
    initial={"weight_ih": normal(0.5), "weight_hh": normal(2), "weight_recurrence": ring},
)
RG_LRU = Cell(
    "rg_lru",
    Hidden,
    Gates,
    (Stage(("r", "i"), rg_lru_forward, operand=None, biases=("ih",)),),
    "De et al. 2024, Griffin, equations 1 to 4",
    params=Lambda,
    params_name="weight_recurrence",
    prepare=rates,
    initial={"weight_ih": normal(1), "weight_x": normal(1), "bias_ih": zeros, "weight_recurrence": slow},
)
