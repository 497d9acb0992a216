"""A cell as a user may write one, with what no cell of the library has: three stages, log, maximum, division, where."""

from typing import NamedTuple

from unrolled.cells import Back, Cell, Stage
from unrolled.cells.ops import exp, log, maximum, sigmoid, tanh, where


class State(NamedTuple):
    h: object
    c: object


class Gates(NamedTuple):
    i: object
    f: object
    fc: object
    u: object
    g: object


class First(NamedTuple):
    i: object
    f: object
    fc: object


class Second(NamedTuple):
    f: object
    i: object
    u: object


class Own(NamedTuple):
    u: object


def first_forward(ax, ah, s, p):
    i = sigmoid(ax[0] + ah[0] + p.u * s.c)
    f = exp(-log(1 + exp(ax[1] + ah[1])))
    return First(i, f, f * s.c)


def first_backward(d, k, s, new, p):
    ai = d.i * k.i * (1 - k.i)
    da = (ai, -(d.f + d.fc * s.c) * k.f * (1 - k.f))
    return Back(da, da, State(h=0, c=d.fc * k.f + ai * p.u), None, Own(ai * s.c))


def second_forward(ax, ah, s, k, p):
    return Second(k.f, k.i, tanh(ah[0]))


def second_backward(d, k, s, new, p):
    return Back((), (d.u * (1 - k.u * k.u),), State(0, 0), First(i=d.i, f=d.f, fc=0), Own(0 * k.u))


def third_forward(ax, ah, s, k, p, m=1):
    a = ax[0] + 2 * ah[0]
    g = a / (1 + maximum(a, -a))
    c = k.f * s.c + k.i * (m * g)
    return State(h=k.u * c, c=c), Gates(k.i, k.f, k.f * s.c, k.u, g)


def third_backward(d, k, s, new, p, m=1):
    dc = d.c + d.h * k.u
    slope = where(k.g > 0, 1 - k.g, 1 + k.g)
    a = dc * m * k.i * slope * slope
    return Back((a,), (2 * a,), State(h=0, c=dc * k.f), Second(i=dc * m * k.g, f=dc * s.c, u=d.h * new.c), Own(0 * dc))


OWN = Cell(
    "own",
    State,
    Gates,
    (
        Stage(("i", "f"), first_forward, first_backward, operand=("h", "c")),
        Stage(("u",), second_forward, second_backward, operand=("fc",), inputs=False),
        Stage(("g",), third_forward, third_backward),
    ),
    "none",
    params=Own,
    params_name="weight_own",
    candidate="g",
)
