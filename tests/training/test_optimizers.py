"""Update rules against PyTorch's numbers, clipping, and schedules that really reach the optimiser."""

import copy
import json
import math
import pickle
import sys
import tracemalloc
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from unrolled import backends
from unrolled.errors import UnrolledError
from unrolled.reference import updates
from unrolled.training.clipping import clip_by_norm, clip_by_value, first_nonfinite, global_norm
from unrolled.training.optimizers import OPTIMIZERS, make_optimizer
from unrolled.training.schedules import SCHEDULES, make_schedule

ORACLE = Path(__file__).parents[1] / "oracle"
sys.path.insert(0, str(ORACLE))
from optim_problem import CASES, RATE, STEPS, gradients, params  # noqa: E402

# 50 steps of about ten roundings each, on values near 1, where one step amplifies an error by at most
# 1 + rate * |g'| = 1.2 (SGD): in practice 1e-14; the bound leaves two orders.
TOLERANCE = 1e-12

DECAYED = {
    "momentum": ({"momentum": 0.5, "dampening": 0.2}, "SGD", {"momentum": 0.5, "dampening": 0.2}),
    "nesterov": ({"momentum": 0.5}, "SGD", {"momentum": 0.5, "nesterov": True}),
    "adagrad": ({"eps": 1e-6}, "Adagrad", {"eps": 1e-6}),
    "rmsprop": ({"alpha": 0.95}, "RMSprop", {"alpha": 0.95}),
    "adadelta": ({"rho": 0.8, "eps": 1e-5}, "Adadelta", {"rho": 0.8, "eps": 1e-5}),
    "adam": ({"beta1": 0.8, "beta2": 0.99, "eps": 1e-6}, "Adam", {"betas": (0.8, 0.99), "eps": 1e-6}),
    "adamw": ({"beta2": 0.98}, "AdamW", {"betas": (0.9, 0.98)}),
    "sgd": ({}, "SGD", {}),
}
"""Every rule with weight decay and with options that are not its defaults."""


def begin(case, dtype="float64"):
    p = params(dtype)
    return p, make_optimizer(case.split("_")[0], p, **CASES[case][0])


def descend(p, optimizer, steps):
    for step in steps:
        optimizer.update(gradients(p, step), RATE)


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_the_committed_numbers_of_pytorch(case):
    p, optimizer = begin(case)
    descend(p, optimizer, range(STEPS))
    with np.load(ORACLE / "optim.npz") as oracle:
        for name, a in p.items():
            np.testing.assert_allclose(a, oracle[f"{case}.{name}"], rtol=0, atol=TOLERANCE)


def test_every_rule_is_compared():
    assert {case.split("_")[0] for case in CASES} == set(DECAYED) == set(OPTIMIZERS)


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_the_installed_pytorch(case):
    pytest.importorskip("torch", reason="torch is not installed; the committed numbers are compared instead")
    from make_optim import run

    p, optimizer = begin(case)
    descend(p, optimizer, range(STEPS))
    theirs = run(*CASES[case][1:])
    for name, a in p.items():
        np.testing.assert_allclose(a, theirs[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", DECAYED)
def test_decay_and_falling_rates_equal_the_installed_pytorch(rule, dtype):
    """On L = 1/2 sum (tanh(w M + b) - y)^2, with gradients by hand here and by autograd there."""
    torch = pytest.importorskip("torch", reason="torch is not installed; the committed numbers are compared instead")
    rng = np.random.default_rng(7)
    shapes = {"w": (3, 5), "b": (4,), "M": (5, 4), "y": (3, 4)}
    given = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    options, torch_class, torch_options = DECAYED[rule]
    p = {"w": given["w"].copy(), "b": given["b"].copy()}
    ours = make_optimizer(rule, p, weight_decay=0.1, **options)
    tensors = {name: torch.tensor(a) for name, a in given.items()}
    w, b = tensors["w"].requires_grad_(), tensors["b"].requires_grad_()
    theirs = getattr(torch.optim, torch_class)([w, b], weight_decay=0.1, lr=RATE, **torch_options)
    # 20 roundings a step, of the gradient and the rule; this descent contracts, so that they only add
    tolerance = STEPS * 20 * np.finfo(dtype).eps
    for step in range(STEPS):
        rate = RATE * 0.98**step
        t = np.tanh(p["w"] @ given["M"] + p["b"])
        da = (t - given["y"]) * (1 - t * t)
        ours.update({"w": da @ given["M"].T, "b": da.sum(axis=0)}, rate)
        theirs.param_groups[0]["lr"] = rate
        theirs.zero_grad()
        (0.5 * (torch.tanh(w @ tensors["M"] + b) - tensors["y"]).square().sum()).backward()
        theirs.step()
        for name, tensor in (("w", w), ("b", b)):
            assert p[name].dtype == dtype
            np.testing.assert_allclose(p[name], tensor.detach().numpy(), rtol=0, atol=tolerance, err_msg=f"step {step}")
    assert np.abs(p["w"] - given["w"]).max() > 0.01  # it went somewhere
    assert all(m.dtype == dtype for moments in ours.slots.values() for m in moments.values())


@pytest.mark.parametrize("rule", sorted(OPTIMIZERS.keys() - {"adamw"}))
def test_weight_decay_is_a_term_of_the_gradient(rule):
    decayed, plain = params(), params()
    first, second = make_optimizer(rule, decayed, weight_decay=0.3), make_optimizer(rule, plain)
    for step in range(5):
        first.update(gradients(decayed, step), RATE)
        second.update({name: 0.3 * plain[name] + g for name, g in gradients(plain, step).items()}, RATE)
    assert_same_bits(decayed, plain)


def test_adamw_without_decay_is_adam():
    decoupled, plain = params(), params()
    first, second = make_optimizer("adamw", decoupled, weight_decay=0), make_optimizer("adam", plain)
    descend(decoupled, first, range(5))
    descend(plain, second, range(5))
    assert_same_bits(decoupled, plain)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_float32_follows_float64(rule):
    wide, narrow = params(), params("float32")
    descend(wide, make_optimizer(rule, wide), range(5))
    descend(narrow, make_optimizer(rule, narrow), range(5))
    for name, a in narrow.items():
        assert a.dtype == np.float32
        # 5 steps of ten roundings of values up to 4; Adadelta's and Adam's quotients lose two more digits
        np.testing.assert_allclose(a, wide[name], rtol=0, atol=5e-5)


# What an update touches


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_updates_are_in_place_and_leave_gradients_alone(rule):
    p = params()
    arrays, grads = dict(p), gradients(p, 0)
    before = {name: g.copy() for name, g in grads.items()}
    for g in grads.values():
        g.flags.writeable = False
    make_optimizer(rule, p, weight_decay=0.1).update(grads, RATE)
    for name in p:
        assert p[name] is arrays[name]
        assert not np.array_equal(p[name], params()[name])
        np.testing.assert_array_equal(grads[name], before[name])


@pytest.mark.parametrize("rule", OPTIMIZERS)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_warm_update_takes_little_memory(rule, backend):
    params, grads = {"w": np.ones((400, 1000))}, {"w": np.full((400, 1000), 0.5)}
    optimizer = make_optimizer(rule, params, weight_decay=0.1, backend=backend)
    optimizer.update(grads, 0.1)
    tracemalloc.start()
    try:
        optimizer.update(grads, np.float64(0.1))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # the engine: views and numbers only; NumPy: what stands between a few operations on one part
    engine = backend == "auto" and backends.choose("auto").name == "cpu"
    assert peak < (params["w"].nbytes / 100 if engine else 12 * 8 * updates.PART)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_an_update_in_parts_is_that_of_the_whole(rule, monkeypatch):
    rng, found = np.random.default_rng(5), []
    start, g = rng.normal(size=(2, 7, 11, 3))
    for part in (updates.PART, 1, 50):  # all at once; a row; the last one is shorter
        monkeypatch.setattr(updates, "PART", part)
        p = {"w": start.copy(), "none": np.ones((3, 0)), "number": np.array(2.0)}
        optimizer = make_optimizer(rule, p, weight_decay=0.1, backend="reference")
        for _ in range(3):
            optimizer.update({"w": g, "none": p["none"].copy(), "number": np.array(0.5)}, 0.1)
        found.append(p)
    for other in found[1:]:
        for name, p in found[0].items():
            np.testing.assert_array_equal(other[name], p)


def test_a_norm_takes_little_memory_and_is_the_sum_of_all_squares():
    for shape in ((300, 401), (updates.PART + 1,), (2, updates.PART // 2 - 1), (3, 5 * updates.PART + 7)):
        g = np.random.default_rng(7).normal(size=shape).astype("float32")
        for laid_out in (g, np.asfortranarray(g)):
            # to the bit with newer NumPys; 2.0 brackets its own sums otherwise, by some roundings of 1e-16
            expected = pytest.approx(math.sqrt(np.square(laid_out, dtype=np.float64).sum()), rel=1e-14, abs=0)
            tracemalloc.start()
            try:
                assert global_norm({"w": laid_out}, "reference") == expected
                assert tracemalloc.get_traced_memory()[1] < 16 * updates.PART  # one part in float64 is 8
            finally:
                tracemalloc.stop()


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_changed_rate_reaches_the_parameters(rule):
    schedule = make_schedule("step", 0.25, every=1, factor=0.5)
    moved = []
    for epoch in (0, 1):
        params = {"w": np.zeros((2, 3))}  # from zero, halving is exact
        make_optimizer(rule, params).update({"w": np.arange(1.0, 7).reshape(2, 3)}, schedule.rate(0, epoch))
        moved.append(params["w"])
    assert np.all(moved[0] < 0)
    assert np.array_equal(moved[1], moved[0] / 2)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_a_numpy_rate_does_not_change_the_bits(rule):
    plain, numpy = params("float32"), params("float32")
    make_optimizer(rule, plain).update(gradients(plain, 0), 0.1)
    make_optimizer(rule, numpy).update(gradients(numpy, 0), np.float64(0.1))
    assert_same_bits(plain, numpy)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_layout_and_company_do_not_matter(rule):
    """Transposed, strided and 0-d parameters, and one of another dtype beside, move as each would alone."""
    rng = np.random.default_rng(3)
    start, g = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    params = {
        "fortran": np.asfortranarray(start),
        "strided": np.repeat(start, 2, axis=1)[:, ::2],
        "single": start.astype("float32"),
        "scalar": np.array(start[0, 0]),
    }
    grads = {"fortran": g, "strided": g, "single": g.astype("float32"), "scalar": np.array(g[0, 0])}
    alone, single = {"w": start.copy()}, {"w": start.astype("float32")}
    together = make_optimizer(rule, params, weight_decay=0.1)
    apart = make_optimizer(rule, alone, weight_decay=0.1), make_optimizer(rule, single, weight_decay=0.1)
    for _ in range(3):
        together.update(grads, 0.1)
        apart[0].update({"w": g}, 0.1)
        apart[1].update({"w": grads["single"]}, 0.1)
    assert np.array_equal(params["fortran"], alone["w"])
    assert np.array_equal(params["strided"], alone["w"])
    assert np.array_equal(params["single"], single["w"])
    assert np.array_equal(params["scalar"], alone["w"][0, 0])


def test_parameters_outside_the_rule_are_frozen():
    params, grads = {"w": np.ones(2)}, {"w": np.ones(2), "frozen": np.ones(3)}
    make_optimizer("sgd", params).update(grads, 0.5)
    assert np.array_equal(params["w"], [0.5, 0.5])


# Memory


def test_adam_stores_its_moments_uncorrected():
    p = params()
    g = gradients(p, 0)
    adam = make_optimizer("adam", p, beta1=0.75, beta2=0.5)  # 1 - beta is exact
    adam.update(g, 0.1)
    for name in p:
        np.testing.assert_array_equal(adam.slots["m"][name], 0.25 * g[name])
        np.testing.assert_array_equal(adam.slots["v"][name], 0.5 * g[name] ** 2)
        # corrected, they are g and g^2: the first step is the rate, but for eps / |g| and the rounding of p
        np.testing.assert_allclose(params()[name] - p[name], 0.1 * np.sign(g[name]), rtol=1e-6)
        assert np.abs(g[name]).min() > 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_optimizer_continues_to_the_bit(case, dtype):
    whole, optimizer = begin(case, dtype)
    descend(whole, optimizer, range(STEPS))
    parts, first = begin(case, dtype)
    descend(parts, first, range(25))
    state, saved = first.state_dict(), {name: a.copy() for name, a in parts.items()}
    first.update(gradients(parts, 99), 0.5)  # the state is a copy: going on does not reach it
    second = make_optimizer(case.split("_")[0], saved, **CASES[case][0])
    second.load_state_dict(state)
    assert second.step == 25
    descend(saved, second, range(25, STEPS))
    assert_same_bits(saved, whole)


def test_the_state_is_flat_and_named():
    rule = make_optimizer("adadelta", {"w": np.zeros((2, 3)), "b": np.zeros(4)})
    rule.update({"w": np.ones((2, 3)), "b": np.ones(4)}, 1.0)
    state = rule.state_dict()
    assert sorted(state) == [
        "delta_average.b",
        "delta_average.w",
        "square_average.b",
        "square_average.w",
        "step",
    ]
    assert state["step"] == 1
    assert state["square_average.b"] == pytest.approx(np.full(4, 0.1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"velocity.w": None}, "the state is not one of momentum for these parameters: velocity.w is missing"),
        ({"m.w": np.zeros(3)}, "the state is not one of momentum for these parameters: m.w is unknown"),
        ({"velocity.w": np.zeros(4)}, "velocity.w is float64 (4,); expected float64 (3,)"),
        ({"velocity.w": np.zeros(3, "float32")}, "velocity.w is float32 (3,); expected float64 (3,)"),
        ({"step": np.array(-1)}, "step is -1; it must be a whole number, 0 or more"),
        ({"step": np.array(1.5)}, "step is 1.5; it must be a whole number, 0 or more"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    rule = make_optimizer("momentum", {"b": np.zeros(2), "w": np.zeros(3)})
    rule.update({"b": np.ones(2), "w": np.ones(3)}, 1.0)
    state = {"velocity.b": np.full(2, 5.0), "velocity.w": np.full(3, 5.0), "step": np.array(7)} | change
    with pytest.raises(UnrolledError) as error:
        rule.load_state_dict({key: a for key, a in state.items() if a is not None})
    assert str(error.value) == message
    assert rule.step == 1
    assert np.array_equal(rule.slots["velocity"]["b"], np.ones(2))


def test_a_state_of_sums_is_not_taken_for_one_of_averages():
    params = {"w": np.zeros(3)}
    with pytest.raises(UnrolledError, match=r"square_average\.w is missing, square_sum.w is unknown"):
        make_optimizer("rmsprop", params).load_state_dict(make_optimizer("adagrad", params).state_dict())


# Mistakes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "adamm",
            {},
            "no optimizer is called 'adamm'; did you mean 'adam'? "
            "Known: sgd, momentum, nesterov, adagrad, rmsprop, adadelta, adam, adamw",
        ),
        (
            "adam",
            {"beta": 0.9},
            "no option of adam is called 'beta'; did you mean 'beta2'? Known: weight_decay, beta1, beta2, eps",
        ),
        ("sgd", {"momentum": 0.9}, "no option of sgd is called 'momentum'. Known: weight_decay"),
        ("adam", {"beta1": 1.0}, "beta1 of adam is 1.0; it must be at least 0 and below 1"),
        ("momentum", {"momentum": -0.1}, "momentum of momentum is -0.1; it must be at least 0 and below 1"),
        ("momentum", {"dampening": 1.5}, "dampening of momentum is 1.5; it must be from 0 to 1"),
        ("rmsprop", {"alpha": "0.95"}, "alpha of rmsprop is '0.95'; it must be at least 0 and below 1"),
        ("adadelta", {"eps": math.nan}, "eps of adadelta is nan; it must be 1.18e-38 or more"),
        ("adam", {"eps": 0.0}, "eps of adam is 0.0; it must be 1.18e-38 or more"),
        ("sgd", {"weight_decay": -1}, "weight_decay of sgd is -1; it must be 0 or more"),
        ("sgd", {"weight_decay": True}, "weight_decay of sgd is True; it must be 0 or more"),
    ],
)
def test_a_wrong_rule_or_option_is_named(name, options, message):
    with pytest.raises(UnrolledError) as error:
        make_optimizer(name, {"w": np.zeros(3)}, **options)
    assert str(error.value) == message


def test_parameters_are_floats():
    with pytest.raises(UnrolledError) as error:
        make_optimizer("adam", {"w": np.zeros(3, int)})
    assert str(error.value) == "parameter w has dtype int64; expected float32 or float64"


@pytest.mark.parametrize(
    ("grads", "rate", "message"),
    [
        ({"w": np.ones(3)}, 1.0, "b has no gradient; got those of w"),
        ({"w": np.ones(3), "b": np.ones(1)}, 1.0, "the gradient of b has shape (1,); expected (2,)"),
        ({"w": np.ones(3), "b": np.ones(2)}, math.nan, "learning rate is nan; it must be a number, 0 or more"),
        ({"w": np.ones(3), "b": np.ones(2)}, -0.1, "learning rate is -0.1; it must be a number, 0 or more"),
        ({"w": np.ones(3), "b": np.ones(2)}, "0.1", "learning rate is '0.1'; it must be a number, 0 or more"),
        ({"w": np.ones(3), "b": [1, 2]}, 1.0, "gradient b is a list; expected an array of float32 or float64"),
        ({"w": np.ones(3) * 1j, "b": np.ones(2)}, 1.0, "gradient w has dtype complex128; expected float32 or float64"),
        ({"w": np.ones(3, int), "b": np.ones(2)}, 1.0, "gradient w has dtype int64; expected float32 or float64"),
        (
            {"w": np.ma.masked_equal([0.0, 1.0, 2.0], 1.0), "b": np.ones(2)},
            1.0,
            "gradient w is a MaskedArray; expected an array of float32 or float64",
        ),
        ([np.ones(3), np.ones(2)], 1.0, "gradients are a list; expected a dictionary of arrays by their names"),
    ],
)
def test_an_update_that_cannot_be_right_changes_nothing(grads, rate, message):
    params = {"w": np.zeros(3), "b": np.zeros(2)}
    rule = make_optimizer("momentum", params)
    with pytest.raises(UnrolledError) as error:
        rule.update(grads, rate)
    assert str(error.value) == message
    assert rule.step == 0
    assert not any(a.any() for a in (*params.values(), *rule.slots["velocity"].values()))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([np.zeros(3)], "parameters are a list; expected a dictionary of arrays by their names"),
        ({"w": [0.0, 0.0]}, "parameter w is a list; expected an array of float32 or float64"),
        (
            {"w": np.broadcast_to(0.0, (3,))},
            "parameter w is read-only, and updates are in place; copy it first",
        ),
    ],
)
def test_parameters_are_what_can_be_changed_in_place(params, message):
    with pytest.raises(UnrolledError) as error:
        make_optimizer("adam", params)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m.w": [0.0, 0.0]}, "m.w is float64 (2,); expected float64 (3,)"),
        ({"m.w": np.ma.masked_equal([0.0, 1, 1], 0.0)}, "m.w has masked entries; fill them"),
        ({"m.w": object()}, "m.w is object (); expected float64 (3,)"),
        ({"step": 2.5}, "step is 2.5; it must be a whole number, 0 or more"),
        ({"step": "two"}, "step is 'two'; it must be a whole number, 0 or more"),
        ({"step": -1}, "step is -1; it must be a whole number, 0 or more"),
        ({7: np.zeros(3)}, "the state is not one of adam for these parameters: 7 is "),
    ],
)
def test_a_state_of_wrong_kinds_changes_nothing(change, message):
    rule = make_optimizer("adam", {"w": np.zeros(3)})
    rule.update({"w": np.array([1.0, -2.0, 3.0])}, 0.1)
    before = rule.state_dict()
    with pytest.raises(UnrolledError) as error:
        rule.load_state_dict(before | change)
    assert str(error.value).startswith(message)
    assert {name: a.tolist() for name, a in rule.state_dict().items()} == {n: a.tolist() for n, a in before.items()}
    with pytest.raises(UnrolledError, match=r"^the state is a list; expected a dictionary, as state_dict gives it$"):
        rule.load_state_dict([1])


def unaligned(size):
    return np.zeros(8 * size + 1, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_moments_belong_to_names_in_whatever_order_the_dictionaries_come(name, backend):
    """The two have one shape, so that moments taken by position would fit, and be wrong."""
    found = []
    for turned in (False, True):
        params = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([-1.0, 5.0, 2.0])}
        rule = make_optimizer(name, params, backend=backend)
        rule.update({"a": np.array([1.0, -2.0, 3.0]), "b": np.zeros(3)}, 0.1)
        if turned:
            params["a"] = params.pop("a")
        rule.update({"b": np.zeros(3), "a": np.zeros(3)}, 0.1)
        assert list(params) == (["b", "a"] if turned else ["a", "b"])
        found.append({key: p.tolist() for key, p in sorted(params.items())})
    assert found[0] == found[1]
    if name != "adamw":  # which decays what has no gradient, too
        assert found[1]["b"] == [-1.0, 5.0, 2.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.pop("w"),
            "the parameters are not those momentum was made for: w is missing; make another for them",
        ),
        (
            lambda p: p.clear(),
            "the parameters are not those momentum was made for: b is missing, w is missing; make another for them",
        ),
        (
            lambda p: p.update(c=np.zeros(4)),
            "the parameters are not those momentum was made for: c is new; make another for them",
        ),
        (
            lambda p: p.update({7: p.pop("b")}),
            "the parameters are not those momentum was made for: 7 is new, b is missing; make another for them",
        ),
        (lambda p: p.update(w=[0.0] * 3), "parameter w is now a list; FITS"),
        (lambda p: p.update(w=np.ma.zeros(3)), "parameter w is now a MaskedArray; FITS"),
        (lambda p: p.update(w=np.zeros(3, int)), "parameter w is now int64 (3,); FITS"),
        (lambda p: p.update(w=np.zeros(3, "f4")), "parameter w is now float32 (3,); FITS"),
        (lambda p: p.update(w=np.zeros(3, ">f8")), "parameter w is now >f8 (3,); FITS"),
        (lambda p: p.update(w=np.zeros(5)), "parameter w is now float64 (5,); FITS"),
        (lambda p: p.update(w=p["w"].reshape(3, 1)), "parameter w is now float64 (3, 1); FITS"),
        (lambda p: p["w"].resize(4, refcheck=False), "parameter w is now float64 (4,); FITS"),
        (lambda p: p["w"].setflags(write=False), "parameter w is now read-only; FITS"),
        (lambda p: p.update(w=np.zeros(6)[::2]), "parameter w is now not contiguous; FITS"),
        (lambda p: p.update(w=unaligned(3)), "parameter w is now not aligned; FITS"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_parameters_that_are_no_longer_those_of_the_moments_are_refused(backend, change, message):
    params, grads = {"w": np.zeros(3), "b": np.zeros(2)}, {"w": np.ones(3), "b": np.ones(2)}
    rule = make_optimizer("momentum", params, backend=backend)
    rule.update(grads, 0.5)
    change(params)
    before = repr((params, rule.slots))
    with pytest.raises(UnrolledError) as error:
        rule.update(grads, 0.5)
    fits = "momentum was made for float64 (3,) that it can change in place"
    assert str(error.value) == message.replace("FITS", fits)
    assert rule.step == 1
    assert repr((params, rule.slots)) == before
    assert repr(rule) == "Momentum(weight_decay=0, momentum=0.9, dampening=0, 5 parameters, step 1)"


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(
    "odd", [lambda: unaligned(6), lambda: np.zeros(12)[::2], lambda: np.zeros((2, 3), order="F"), lambda: np.zeros(6)]
)
def test_a_parameter_of_any_layout_is_updated_and_so_is_one_put_in_its_place(backend, odd):
    params = {"w": odd(), "b": np.zeros(2)}
    grads = {"w": np.full(params["w"].shape, 2.0), "b": np.ones(2)}
    rule = make_optimizer("momentum", params, backend=backend, momentum=0.5)
    rule.update(grads, 0.5)
    copied = copy.deepcopy(rule)  # NumPy's copies are contiguous and aligned
    params["w"] = params["w"].copy("C")
    for one in (rule, copied):
        one.update(grads, 0.5)
        assert set(one.params["w"].ravel()) == {-1.0 - 1.5}  # velocity 2, then 0.5 2 + 2
        assert one.params["b"].tolist() == [-1.25, -1.25]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pickled_and_a_copied_rule_go_on_to_the_same_bits(name, backend):
    rng = np.random.default_rng(0)
    draw = lambda: {"w": rng.normal(size=(3, 2)).astype("f4"), "b": rng.normal(size=5).astype("f4")}  # noqa: E731
    rule = make_optimizer(name, draw(), backend=backend, weight_decay=0.1)
    rule.update(draw(), 0.1)
    copies = [pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)]
    grads = draw()
    for one in (rule, *copies):
        one.update(grads, 0.1)
        assert {p: a.tolist() for p, a in one.params.items()} == {p: a.tolist() for p, a in rule.params.items()}
        assert {s: a.tolist() for s, a in one.state_dict().items()} == {
            s: a.tolist() for s, a in rule.state_dict().items()
        }
        assert repr(one) == repr(rule)


def test_rules_and_schedules_say_what_they_are():
    rule = make_optimizer("adam", {"w": np.zeros((3, 500)), "b": np.zeros(7)})
    rule.update({"w": np.ones((3, 500)), "b": np.ones(7)}, 0.1)
    assert repr(rule) == "Adam(weight_decay=0, beta1=0.9, beta2=0.999, eps=1e-08, 1,507 parameters, step 1)"
    assert repr(make_schedule("step", 0.1, every=3)) == "Step(base_rate=0.1, every=3, factor=0.5)"
    assert repr(make_schedule("constant", 0.1)) == "Schedule(base_rate=0.1)"


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, Fraction])
def test_options_and_rates_become_pythons_own_numbers(kind):
    """NumPy's would raise the precision of a float32 update, and can't be written as JSON."""
    rule = make_optimizer("adam", {"w": np.zeros(3, "f4")}, weight_decay=kind(0), eps=kind(1))
    schedule = make_schedule("cosine", kind(1), total=kind(9), warmup=kind(2))
    plateau = make_schedule("plateau", kind(1))
    plateau.observe(kind(2))
    numbers = [*rule.options.values(), schedule.base, *schedule.options.values(), schedule.rate(3, 0.1)]
    numbers += plateau.state_dict().values()
    assert {type(value) for value in numbers} <= {int, float}
    rule.update({"w": np.ones(3, "f4")}, kind(1))
    assert rule.params["w"].dtype == np.float32
    grads = {"w": np.full(3, 2, "f4")}
    assert (type(clip_by_norm(grads, kind(1))), type(clip_by_value(grads, kind(1)))) == (float, float)
    assert grads["w"].dtype == np.float32


def test_a_numpy_rate_gives_the_bits_of_pythons():
    """A float32 rate of 0.1 is another number than 0.1, the same whatever updates with it."""
    results = []
    for rate in (np.float32(0.1), float(np.float32(0.1))):
        for backend in ("auto", "reference"):
            params = {"w": np.linspace(-1, 1, 7, dtype="f4")}
            make_optimizer("adam", params, backend=backend).update({"w": np.linspace(2, 3, 7, dtype="f4")}, rate)
            results.append(params["w"].tolist())
    assert results == [results[0]] * 4


# Clipping


def some_gradients(dtype="float64"):
    rng = np.random.default_rng(5)
    return {"w": (3 * rng.standard_normal((4, 3))).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [0.0, 0.5, 5.0, 100.0, math.inf])
@pytest.mark.parametrize("mode", ["norm", "value"])
def test_clipping_is_pytorchs(mode, limit, dtype):
    torch = pytest.importorskip("torch", reason="compares with PyTorch live")
    grads = some_gradients(dtype)
    arrays = dict(grads)
    theirs = {name: torch.zeros(g.shape, dtype=getattr(torch, dtype)) for name, g in grads.items()}
    for name, p in theirs.items():
        p.grad = torch.tensor(grads[name])
    expected = float(np.linalg.norm(np.concatenate([g.ravel() for g in grads.values()]).astype("float64")))
    if mode == "norm":
        norm = clip_by_norm(grads, limit)
        torch.nn.utils.clip_grad_norm_(list(theirs.values()), limit)
    else:
        norm = clip_by_value(grads, limit)
        torch.nn.utils.clip_grad_value_(list(theirs.values()), limit)
    assert norm == pytest.approx(expected, rel=20 * np.finfo(float).eps)  # 17 squares are added
    for name, p in theirs.items():
        assert grads[name] is arrays[name]
        # PyTorch adds the 17 squares in the gradients' dtype
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=20 * np.finfo(dtype).eps)


def test_clipped_gradients_have_the_norm_asked_for():
    grads = some_gradients()
    before = global_norm(grads)
    assert clip_by_norm(grads, 2.0) == before
    assert global_norm(grads) == pytest.approx(2.0, rel=1e-6)  # PyTorch's 1e-6 keeps it just below
    assert global_norm(grads) < 2


def test_the_norm_does_not_overflow_float32_nor_depend_on_the_order():
    big = {"b": np.full(4, 1e30, "float32"), "a": np.full(5, 1e-3, "float32")}
    assert global_norm(big) == pytest.approx(2e30, rel=1e-6)  # 1e30 in float32
    rng = np.random.default_rng(1)
    grads = {name: rng.standard_normal(7) for name in "abcde"}
    assert len({global_norm(dict(order)) for order in permutations(grads.items())}) == 1
    assert global_norm({}) == 0


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_can_be_named_after_clipping(clip, bad):
    grads = some_gradients()
    assert first_nonfinite(grads) is None
    grads["b"][3] = bad
    before = grads["w"].copy()
    assert not math.isfinite(clip(grads, 1.0))
    assert first_nonfinite(grads) == "b"
    assert np.array_equal(grads["w"], before)


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize("limit", [-1.0, math.nan, "1", None, 1j, True, -math.inf])
def test_a_limit_is_not_negative(clip, limit):
    with pytest.raises(UnrolledError) as error:
        clip(some_gradients(), limit)
    assert str(error.value) == f"clipping limit is {limit!r}; it must be 0 or more (infinity: no limit)"


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
@pytest.mark.parametrize(
    ("grads", "message"),
    [
        ([np.ones(3)], "gradients are a list; expected a dictionary of arrays by their names"),
        ({"w": [1.0]}, "gradient w is a list; expected an array of float32 or float64"),
        ({"w": np.ones(3, int)}, "gradient w has dtype int64; expected float32 or float64"),
        ({"w": np.broadcast_to(3.0, (4,))}, "gradient w is read-only, and clipping is in place; copy it first"),
    ],
)
def test_what_can_not_be_clipped_is_said(clip, grads, message):
    with pytest.raises(UnrolledError) as error:
        clip(grads, 0.5)
    assert str(error.value) == message


# Schedules


@pytest.mark.parametrize(
    ("name", "options", "values"),
    [
        ("constant", {}, {(0, 0): 0.4, (999, 50.5): 0.4}),
        (
            "exponential",
            {"decay": 0.5, "after": 3},
            {(0, 0): 0.4, (0, 2.99): 0.4, (0, 3): 0.2, (0, 3.99): 0.2, (0, 4): 0.1, (0, 5.5): 0.05},
        ),
        ("exponential", {"decay": 0.5, "after": 0}, {(0, 0): 0.4, (0, 0.9): 0.4, (0, 1): 0.2, (0, 2): 0.1}),
        ("exponential", {"decay": 0.5, "after": 2.5}, {(0, 2.9): 0.4, (0, 3): 0.2}),
        (
            "step",
            {"every": 2, "factor": 0.5},
            {(0, 0): 0.4, (0, 1.99): 0.4, (0, 2): 0.2, (0, 3.9): 0.2, (0, 4): 0.1},
        ),
        ("step", {"every": 0.5, "factor": 0.5}, {(0, 0.49): 0.4, (0, 0.5): 0.2, (0, 1): 0.1}),
        (
            "cosine",
            {"warmup": 4, "total": 12, "floor": 0.1},
            # halfway between 0.4 and 0.04; at a quarter cos is 1 / sqrt(2)
            {(0, 0): 0.1, (1, 0): 0.2, (3, 0): 0.4, (4, 0): 0.4, (8, 0): 0.22, (12, 0): 0.04, (99, 0): 0.04}
            | {(6, 0): 0.04 + 0.18 * (1 + math.sqrt(0.5))},
        ),
        ("cosine", {"warmup": 4, "total": 2}, {(0, 0): 0.1, (1, 0): 0.2}),
    ],
)
def test_rates_by_hand(name, options, values):
    schedule = make_schedule(name, 0.4, **options)
    for (step, epoch), rate in values.items():
        assert schedule.rate(step, epoch) == pytest.approx(rate, rel=1e-14), (step, epoch)
        schedule.observe(1.0)  # only the plateau listens
        assert schedule.rate(step, epoch) == pytest.approx(rate, rel=1e-14), (step, epoch)


def test_the_cosine_follows_the_larger_of_the_shares_of_steps_and_of_time():
    schedule = make_schedule("cosine", 0.4, warmup=4, total=12, floor=0.1)
    rates = {(2, 0.9): 0.3, (4, 0.5): 0.22, (8, 0.25): 0.22, (6, 0.5): 0.22, (6, 1.0): 0.04, (6, 7.0): 0.04}
    for (step, time), rate in rates.items():
        assert schedule.rate(step, 0, time) == pytest.approx(rate, rel=1e-14), (step, time)
    for name in set(SCHEDULES) - {"cosine"}:
        schedule = make_schedule(name, 0.4)
        assert schedule.rate(7, 20.5, 0.9) == schedule.rate(7, 20.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("a", 0), "step is 'a'; it must be a whole number, 0 or more"),
        ((-1, 0), "step is -1; it must be a whole number, 0 or more"),
        ((0, None), "epoch is None; it must be a number, 0 or more"),
        ((0, 1, math.nan), "time is nan; it must be a number, 0 or more"),
    ],
)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_is_of_numbers(name, given, message):
    schedule = make_schedule(name, 0.4, **({"total": 9} if name == "cosine" else {}))
    with pytest.raises(UnrolledError, match=f"^{message}$"):
        schedule.rate(*given)


@pytest.mark.parametrize("after", [0, 1, 2.5, 3, 10])
def test_exponential_decay_is_char_rnns(after):
    """char-rnn counts updates from 1 and looks for a decay after each whole epoch."""
    updates, rate, theirs = 7, 2e-3, []
    for i in range(1, 14 * updates + 1):
        theirs.append(rate)
        if i % updates == 0 and i / updates >= after:
            rate *= 0.97
    schedule = make_schedule("exponential", 2e-3, decay=0.97, after=after)
    ours = [schedule.rate(step, step / updates) for step in range(14 * updates)]
    assert ours == pytest.approx(theirs, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "options", "theirs", "their_options"),
    [
        ("exponential", {"decay": 0.9, "after": 1}, "ExponentialLR", {"gamma": 0.9}),
        ("step", {"every": 5, "factor": 0.5}, "StepLR", {"step_size": 5, "gamma": 0.5}),
        ("cosine", {"total": 30, "floor": 0.05}, "CosineAnnealingLR", {"T_max": 30, "eta_min": 0.05 * 0.4}),
    ],
)
def test_rates_are_pytorchs(name, options, theirs, their_options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch live")
    rule = torch.optim.SGD([torch.zeros(2)], lr=0.4)
    scheduler = getattr(torch.optim.lr_scheduler, theirs)(rule, **their_options)
    schedule = make_schedule(name, 0.4, **options)
    for n in range(30):
        # PyTorch's are recurrences: each rate comes of the one before, with its rounding
        assert schedule.rate(n, n) == pytest.approx(rule.param_groups[0]["lr"], rel=1e-12), n
        rule.step()
        scheduler.step()


@pytest.mark.parametrize("patience", [0, 2])
def test_a_plateau_is_pytorchs(patience):
    torch = pytest.importorskip("torch", reason="compares with PyTorch live")
    rule = torch.optim.SGD([torch.zeros(2)], lr=0.4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(rule, factor=0.5, patience=patience, threshold=0)
    schedule = make_schedule("plateau", 0.4, factor=0.5, patience=patience)
    rates = []
    for loss in (3.0, 2.5, 2.6, 2.5, 2.7, 2.4, 2.8, 2.8, 2.8, 2.8, math.nan, 2.8, 2.3, 2.3):
        schedule.observe(loss)
        scheduler.step(loss)
        rates.append(schedule.rate(0, 0))
        assert rates[-1] == rule.param_groups[0]["lr"]
    assert rates[0] == 0.4
    assert rates[-1] < 0.4


def test_a_loss_is_a_number():
    with pytest.raises(UnrolledError, match=r"^the loss is '2.0'; expected a number$"):
        make_schedule("plateau", 0.4).observe("2.0")
    with pytest.raises(UnrolledError, match=r"^the loss is a number of 16,610 bits; expected a number$"):
        make_schedule("plateau", 0.4).observe(10**5000)


def test_a_plateau_by_hand():
    schedule = make_schedule("plateau", 0.4, factor=0.25, patience=1)
    rates = []
    for loss in (3.0, 3.1, 3.0, 2.9, 3.0, 3.0, 3.0):
        schedule.observe(loss)
        rates.append(schedule.rate(0, 0))
    assert rates == [0.4, 0.4, 0.1, 0.1, 0.1, 0.025, 0.025]


@pytest.mark.parametrize("seen", [0, 4])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_resumes_from_strict_json(name, seen):
    options = {"total": 9} if name == "cosine" else {}
    whole, resumed = make_schedule(name, 0.4, **options), make_schedule(name, 0.4, **options)
    losses = [3.0, 3.1, 2.9, 3.0, 2.95, 2.8, 2.9]
    for loss in losses[:seen]:
        whole.observe(loss)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict(), allow_nan=False)))
    for n, loss in enumerate(losses[seen:]):
        whole.observe(loss)
        resumed.observe(loss)
        assert resumed.rate(n, n) == whole.rate(n, n)
    assert resumed.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("constant", {"best": 1.0}, "the state holds best; the constant schedule's holds nothing"),
        ("plateau", {}, "the state holds nothing; the plateau schedule's holds bad, best, scale"),
        ("plateau", [], "the state is a list; expected a dictionary, as state_dict gives it"),
        (
            "plateau",
            {"best": "low", "bad": 0, "scale": 1.0},
            "best of the plateau schedule's state is 'low'; it must be a finite number",
        ),
        (
            "plateau",
            {"best": 1.0, "bad": None, "scale": 1.0},
            "bad of the plateau schedule's state is None; it must be a whole number, 0 or more",
        ),
    ],
)
def test_a_schedule_refuses_the_state_of_another(name, state, message):
    with pytest.raises(UnrolledError) as error:
        make_schedule(name, 0.4).load_state_dict(state)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "base", "options", "message"),
    [
        (
            "cosin",
            0.1,
            {},
            "no schedule is called 'cosin'; did you mean 'cosine'? Known: constant, exponential, step, cosine, plateau",
        ),
        ("constant", -1.0, {}, "learning rate is -1.0; it must be a number, 0 or more"),
        ("constant", math.nan, {}, "learning rate is nan; it must be a number, 0 or more"),
        ("constant", "0.1", {}, "learning rate is '0.1'; it must be a number, 0 or more"),
        ("constant", 0.1, {"decay": 0.9}, "the constant schedule takes no options; got 'decay'"),
        (
            "step",
            0.1,
            {"evry": 2},
            "no option of the step schedule is called 'evry'; did you mean 'every'? Known: every, factor",
        ),
        ("step", 0.1, {"every": 0}, "every of the step schedule is 0; it must be above 0"),
        (
            "exponential",
            0.1,
            {"decay": 97},
            "decay of the exponential schedule is 97; it must be above 0 and at most 1",
        ),
        ("exponential", 0.1, {"after": -1}, "after of the exponential schedule is -1; it must be 0 or more"),
        ("cosine", 0.1, {}, "the cosine schedule needs total, the number of steps it runs over"),
        ("cosine", 0.1, {"total": 0}, "total of the cosine schedule is 0; it must be a whole number, 1 or more"),
        ("cosine", 0.1, {"total": 9, "floor": 2}, "floor of the cosine schedule is 2; it must be from 0 to 1"),
        (
            "plateau",
            0.1,
            {"patience": 1.5},
            "patience of the plateau schedule is 1.5; it must be a whole number, 0 or more",
        ),
        ("plateau", 0.1, {"factor": 0}, "factor of the plateau schedule is 0; it must be above 0 and at most 1"),
    ],
)
def test_a_wrong_schedule_or_option_is_named(name, base, options, message):
    with pytest.raises(UnrolledError) as error:
        make_schedule(name, base, **options)
    assert str(error.value) == message


def test_the_registry_says_what_each_rule_is():
    for name, rule in OPTIMIZERS.items():
        assert rule.name == name
        assert rule.rate > 0
        assert rule.paper
        assert rule.about
        assert "\n" not in rule.about
