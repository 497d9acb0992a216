"""Cells with all of the contract: widths, heads, x, time, settings, prepared parameters, biases, derived backwards."""

from dataclasses import replace
from typing import NamedTuple

from numpy import cos

from unrolled.cells import Cell, Stage
from unrolled.cells.ops import exp, maximum, sigmoid, sqrt, tanh, where


class State(NamedTuple):
    h: object
    c: object
    n: object


class Gates(NamedTuple):
    i: object
    g: object


class Wide(NamedTuple):
    z: object
    unused: object


class Opened(NamedTuple):
    i: object
    f: object
    g: object


class Own(NamedTuple):
    u: object
    v: object


class Prepared(NamedTuple):
    decay: object
    scale: object


class Settings(NamedTuple):
    rate: float
    squash: str


def prepare(p, c):
    """A rate of decay below 1, and what keeps the norm (the linear recurrent unit's parametrisation)."""
    decay = exp(-exp(p.u)) * cos(0.1 * p.v)
    return Prepared(decay, c.rate * sqrt(1 - decay * decay))


def wide_forward(ax, ah, s, c, dt):
    """Another width, sees time: no state, no parameters of a unit."""
    a = ax[0] + ah[0]
    return Wide(c.squash(a / (1 + dt * dt)) * sigmoid(ah[1] + ax[1]), 3 * ax[1])


def narrow_forward(ax, ah, s, c):
    """The same without a bias of ah, without time."""
    return Wide(c.squash(ax[0] + ah[0]) * maximum(ax[1], -1), 2 * ah[1])


def opened_forward(ax, ah, s, k, p, c, x, m=1):
    i = sigmoid(ax[0] + ah[0] + p.decay * s.c)
    f = sigmoid(ax[1] - ah[1]) * p.decay
    return Opened(i, f, m * c.squash(ax[2] + ah[2] + p.scale * x))


def last_forward(ax, ah, s, k, p, c, x, dt):
    """No product: ah is empty without a bias of it, else that bias alone."""
    o = sigmoid(ax[0] + (ah[0] if ah else 0))
    new = k.f * s.c + dt * k.i * k.g
    n = maximum(s.n * k.f, 0.5) + where(x > 0, c.rate * x, 0)
    return State(o * tanh(new) + (1 - o) * x, new, n), Gates(k.i, k.g)


def cell(name, wide, **options):
    """A cell of three stages, the first of another width."""
    stages = (
        Stage(
            ("a", "b"), wide["forward"], operand=("h",), width=wide["width"], biases=wide.get("biases", ("ih", "hh"))
        ),
        Stage(("i", "f", "g"), opened_forward, operand=wide.get("operand", ("z",)), biases=wide.get("second", ("hh",))),
        Stage(("o",), last_forward, operand=None, biases=wide.get("last", ("ih",))),
    )
    own = {"params": Own, "params_name": "weight_own", "candidate": "g", "prepare": prepare}
    return Cell(name, State, Gates, stages, **own, settings=Settings(0.7, "tanh"), **options)


GROWN = cell("grown", {"forward": wide_forward, "width": 1.5, "operand": ("z", "c", "h")})
NARROW = cell(
    "narrow", {"forward": narrow_forward, "width": 0.4, "biases": ("ih",), "second": (), "last": ("ih", "hh")}
)
HEADS = cell("heads", {"forward": wide_forward, "width": 2.3, "last": ("hh",)}, heads=3)


def single_forward(ax, ah, s, p, c, x, dt, m=1):
    """One stage that asks for everything, and reads no h: it can be projected."""
    i, g = sigmoid(ax[0] + ah[0]), m * c.squash(ax[1] + ah[1])
    new = p.decay * s.c + dt * i * g
    return State(tanh(new) * x, new, sqrt(s.n * s.n + 1) * p.scale), Gates(i, g)


SINGLE = replace(
    cell("single", {"forward": wide_forward, "width": 2}), stages=(Stage(("i", "g"), single_forward, biases=("hh",)),)
)
STREAM = replace(
    cell("stream", {"forward": wide_forward, "width": 2}),
    candidate="",
    stages=(
        Stage(
            ("i", "g"),
            lambda ax, ah, s, p, c, x, dt: single_forward(ax, (0, 0), s, p, c, x, dt),
            operand=None,
            biases=("ih",),
        ),
    ),
)


def around_last(ax, ah, s, k, p, c):
    """After stages of other widths, whose values are operands; one before them is as wide as the state."""
    g = c.squash(ax[0] + ah[0])
    return State(g, p.v * s.c + g, s.n + g), Gates(g, g * g)


AROUND = replace(
    SINGLE,
    name="around",
    candidate="",
    prepare=None,
    stages=(
        Stage(("r",), lambda ax, ah, s, p, c: Wide(sigmoid(ax[0] + ah[0]) * s.h * p.u, ah[0] * s.c)),
        Stage(("a",), lambda ax, ah, s, k, c: Wide(c.squash(ax[0] + ah[0]), ax[0]), operand=("z", "h"), width=2),
        Stage(("b",), lambda ax, ah, s, k, c: Wide(tanh(ah[0]), ah[0]), operand=("z",), inputs=False, width=0.5),
        Stage(("o",), around_last, operand=("unused", "c")),
    ),
)
CELLS = {one.name: one for one in (GROWN, NARROW, HEADS, SINGLE, STREAM, AROUND)}
