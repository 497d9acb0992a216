"""Functions of a cell that are refused with their line, and what folds to plain numbers."""

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import Cell, Stage, fingerprint
from unrolled.cells.ops import tanh, where
from unrolled.cells.rnn import State
from unrolled.codegen.derive import complete, prepared, prepared_backward
from unrolled.errors import UnrolledError, Unsupported
from unrolled.gradcheck import check_derivatives
from unrolled.gradcheck.contract import contract


class Gates(NamedTuple):
    a: Any


class Own(NamedTuple):
    a: Any


class Settings(NamedTuple):
    r: float = 0.0
    act: str = "relu"


def a_cell(forward: Any, **more: Any) -> Cell:
    return Cell("mine", State, Gates, (Stage(("h",), forward),), **more)


def both(h: Any) -> Any:
    return State(h), Gates(h)


RNG = np.random.default_rng(0)
CALLS: list[Any] = [0.0]


def drawn(ax: Any, ah: Any, s: State) -> Any:
    return both(tanh(ax[0] + ah[0]) * RNG.random())


def counted(ax: Any, ah: Any, s: State, calls: list[int] = [0]) -> Any:  # noqa: B006
    calls[0] += 1
    return both(tanh(ax[0] + ah[0]) * calls[0])


def remembered(ax: Any, ah: Any, s: State) -> Any:
    h = tanh(ax[0] + ah[0]) + CALLS[0]
    CALLS[0] = h
    return both(h)


def on_arrays(ax: Any, ah: Any, s: State) -> Any:
    return both(tanh(ax[0] + ah[0]) if isinstance(ax[0], np.ndarray) else ax[0] + ah[0])


@pytest.mark.parametrize("forward", [drawn, counted, remembered])
def test_what_differs_at_the_second_call_is_refused_before_it_is_run_or_written(forward: Any) -> None:
    cell = a_cell(forward)
    with pytest.raises(Unsupported, match=f"must give the same at e.* call|{__file__}"):
        complete(cell)
    with pytest.raises(UnrolledError, match="cell 'mine' can't be told by what it computes"):
        fingerprint(cell)


def test_a_function_that_asks_what_it_is_given_breaks_its_contract() -> None:
    proof = contract(a_cell(on_arrays), np.random.default_rng(0))
    line = on_arrays.__code__.co_firstlineno
    assert not proof.passed
    assert "one result on arrays, another on symbols" in proof.detail
    assert proof.detail.endswith(f"({__file__}, line {line})")


def by_time(ax: Any, ah: Any, s: State, dt: Any = 1) -> Any:
    return both(where(dt > 1.5, s.h, tanh(ax[0] + ah[0])))


def by_mask(ax: Any, ah: Any, s: State, m: Any = 1) -> Any:
    return both(m * where(m > 0.5, tanh(ax[0] + ah[0]), s.h))


def by_setting(ax: Any, ah: Any, s: State, c: Any) -> Any:
    return both(where(c.r > 1, s.h, tanh(c.act(c.r) + ax[0] + ah[0])))


def starred(*a: Any, **k: Any) -> Any:
    return both(tanh(a[0][0] + a[1][0]) * k["c"].r * k.get("m", 1))


def half_starred(ax: Any, ah: Any, *rest: Any, c: Any, m: Any = 1) -> Any:
    return both(tanh(ax[0] + ah[0]) * c.r * m + 0.5 * rest[0].h)


def over(ax: Any, ah: Any, s: State, c: Any) -> Any:
    return both(tanh(c.r / (1 + ax[0] * ax[0]) + ah[0]))


@pytest.mark.parametrize(
    "cell",
    [
        a_cell(by_time),
        a_cell(by_mask, candidate="h"),
        a_cell(by_setting, settings=Settings(0.5)),
        a_cell(starred, candidate="h", settings=Settings(0.5)),
        a_cell(half_starred, candidate="h", settings=Settings(0.5)),
        a_cell(over, settings=Settings(0.0)),
    ],
    ids=lambda cell: cell.stages[0].forward.__name__,
)
def test_numbers_fold_and_starred_arguments_run_on_the_engine_as_by_numpy(cell: Cell) -> None:
    assert contract(cell, np.random.default_rng(0)).passed
    x = np.random.default_rng(1).standard_normal((3, 2, 4))
    found = {}
    for backend in ("cpu", "reference"):
        net = ur.Recurrent(cell, 4, 5, backend=backend, dtype="float64", rng=0)
        y, _, tape = net.forward(x)
        dx, _, grads = net.backward(tape, np.cos(y))
        found[backend] = y, dx, *grads.values()
    assert check_derivatives(net, steps=2).passed
    for a, b in zip(found["cpu"], found["reference"], strict=True):
        assert np.abs(a - b).max() < 1e-12  # some tens of roundings


def test_the_gradient_of_a_quotient_keeps_the_range_of_single_precision() -> None:
    """The gradient of y = 1e-30 / b is -d y / b; in d y y / 1e-30 the square is too small for a float32."""

    def tiny(ax: Any, ah: Any, s: State) -> Any:
        return both(1e-30 / (2 + tanh(ax[0] + ah[0])) * 1e30)

    stage = complete(a_cell(tiny)).stages[0]
    a, zero, one = np.full((2, 3), 0.5, np.float32), np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    (new, k), kept = stage.forward((a,), (zero,), State(zero))
    back = stage.backward(State(one), k, State(zero), new, kept=kept)
    t = np.tanh(0.5)
    assert np.allclose(back.ax[0], -(1 - t * t) / (2 + t) ** 2, rtol=1e-5)  # single precision

    none = a_cell(
        lambda ax, ah, s, p: both(tanh(ax[0] + ah[0] + p.a)),
        params=Own,
        params_name="weight_own",
        prepare=lambda p: Own(0 / p.a),
    )
    w = {"weight_own": np.array([[2.0, -3.0]])}
    assert not prepared(none, w)["weight_own"].any()
    assert not prepared_backward(none, w, {"weight_own": np.ones((1, 2))})["weight_own"].any()


def test_an_unknown_operand_and_a_swapped_pair_are_named() -> None:
    def first(ax: Any, ah: Any, s: State) -> Any:
        return Own(tanh(ax[0] + ah[0]))

    def second(ax: Any, ah: Any, s: State, k: Own) -> Any:
        return both(k.a + ah[0])

    def swapped(ax: Any, ah: Any, s: State) -> Any:
        return both(tanh(ax[0] + ah[0]))[::-1]

    stages = Stage(("a",), first), Stage(("b",), second, operand=("zzz",), inputs=False)
    for cell, said in (
        (Cell("mine", State, Gates, stages), "operand 'zzz' is unknown; it can be one of h, a ("),
        (a_cell(swapped), "gives as state Gates(a); expected State(h) ("),
    ):
        with pytest.raises(Unsupported) as raised:
            complete(cell)
        assert said in str(raised.value)
        assert "\n" not in str(raised.value)


def test_a_derived_backward_names_what_it_takes() -> None:
    cell = complete(a_cell(starred, candidate="h", settings=Settings(0.5)))
    names = list(inspect.signature(cell.stages[0].backward).parameters)
    assert names == ["d", "k", "s", "new", "c", "kept", "m"]


def test_a_long_function_is_derived_soon_and_keeps_every_second_tanh(few_lines: Any) -> None:
    def chain(ax: Any, ah: Any, s: State) -> Any:
        v = ax[0] + ah[0]
        for _ in range(600):
            v = tanh(v) * 0.9
        return both(v)

    with few_lines(600 * 12_000):  # a search that begins anew at every node takes far more
        keeps = complete(a_cell(chain)).stages[0].keeps
    assert len(keeps._fields) == 300
