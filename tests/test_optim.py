"""Update rules against PyTorch's numbers, clipping, and schedules that really reach the optimiser."""

import sys
from pathlib import Path

import numpy as np
import pytest

from unrolled.errors import UnrolledError
from unrolled.optim import (
    OPTIMIZERS,
    clip_by_norm,
    clip_by_value,
    first_nonfinite,
    global_norm,
    make_optimizer,
    make_schedule,
)

ORACLE = Path(__file__).parent / "oracle"
sys.path.insert(0, str(ORACLE))
from optim_problem import CASES, RATE, STEPS, gradients, params  # noqa: E402

# 50 steps of about ten roundings each, on values near 1, where one step amplifies an error by at most
# 1 + rate * |g'| = 1.2 (SGD): in practice 1e-14; the bound leaves two orders.
TOLERANCE = 1e-12


def ours(case, options, dtype="float64", steps=range(STEPS)):
    p = params(dtype)
    optimizer = make_optimizer(case.split("_")[0], p, **options)
    for step in steps:
        optimizer.update(gradients(p, step), RATE)
    return p


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_the_committed_numbers_of_pytorch(case):
    with np.load(ORACLE / "optim.npz") as oracle:
        for name, a in ours(case, CASES[case][0]).items():
            np.testing.assert_allclose(a, oracle[f"{case}.{name}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_equal_the_installed_pytorch(case):
    pytest.importorskip("torch", reason="torch is not installed; the committed numbers are compared instead")
    from make_optim import run

    options, torch_class, torch_options = CASES[case]
    theirs = run(torch_class, torch_options)
    for name, a in ours(case, options).items():
        np.testing.assert_allclose(a, theirs[name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_follows_float64(name):
    wide, narrow = ours(name, {}, steps=range(5)), ours(name, {}, "float32", steps=range(5))
    for key, a in narrow.items():
        assert a.dtype == np.float32
        # 5 steps of ten roundings of values up to 4; Adadelta's and Adam's quotients lose two more digits
        np.testing.assert_allclose(a, wide[key], rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_in_place_and_leave_gradients_alone(name):
    p = params()
    arrays, grads = dict(p), gradients(p, 0)
    before = {key: g.copy() for key, g in grads.items()}
    make_optimizer(name, p, weight_decay=0.1).update(grads, RATE)
    for key in p:
        assert p[key] is arrays[key]
        np.testing.assert_array_equal(grads[key], before[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimizer_continues_to_the_bit(name):
    whole = ours(name, {}, steps=range(20))
    p = params()
    first = make_optimizer(name, p)
    for step in range(8):
        first.update(gradients(p, step), RATE)
    second = make_optimizer(name, p)
    second.load_state_dict(first.state_dict())
    for step in range(8, 20):
        second.update(gradients(p, step), RATE)
    for key in p:
        np.testing.assert_array_equal(p[key], whole[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_halved_rate_halves_the_first_step(name):
    moved = []
    for rate in (0.02, 0.01):
        p = params()
        make_optimizer(name, p, weight_decay=0.0).update(gradients(p, 0), rate)
        moved.append(p["w"] - params()["w"])
    np.testing.assert_allclose(moved[0], 2 * moved[1], rtol=1e-10)  # differences of values near 1: 1e-16 / 1e-5


def test_adam_keeps_its_stored_moments_uncorrected():
    p = params()
    g = gradients(p, 0)
    adam = make_optimizer("adam", p, beta1=0.9)
    adam.update(g, RATE)
    np.testing.assert_allclose(adam.slots["m"]["w"], 0.1 * g["w"], rtol=1e-15)
    np.testing.assert_allclose(adam.slots["v"]["w"], 0.001 * g["w"] ** 2, rtol=1e-12)  # 1 - 0.999 loses 3 digits


def test_errors_of_optimizers():
    p = params()
    with pytest.raises(UnrolledError, match=r"^no optimizer is called 'adma'; did you mean 'adam'\? Known: sgd, "):
        make_optimizer("adma", p)
    with pytest.raises(UnrolledError, match=r"^no option of sgd is called 'momentum'\. Known: weight_decay$"):
        make_optimizer("sgd", p, momentum=0.9)
    with pytest.raises(UnrolledError, match=r"^beta1 of adam is 1\.0; it must be at least 0 and below 1$"):
        make_optimizer("adam", p, beta1=1.0)
    with pytest.raises(UnrolledError, match=r"^the state is not one of adam for these parameters: m\.b, m\.w, v\.b"):
        make_optimizer("adam", p).load_state_dict({"steps": np.array(3)})
    state = make_optimizer("momentum", p).state_dict()
    state["velocity.b"] = np.zeros(6)
    with pytest.raises(UnrolledError, match=r"^velocity\.b has shape \(6,\); expected \(5,\)$"):
        make_optimizer("momentum", p).load_state_dict(state)


def test_clipping_equals_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for limit in (0.5, 100.0):
        grads = gradients(params(), 3)
        tensors = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in grads.values()]
        for t, g in zip(tensors, grads.values(), strict=True):
            t.grad = torch.tensor(g)
        norm = torch.nn.utils.clip_grad_norm_(tensors, limit)
        assert clip_by_norm(grads, limit) == pytest.approx(float(norm), rel=1e-14)
        for t, g in zip(tensors, grads.values(), strict=True):
            np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-14)


def test_clipping_by_hand():
    grads = {"a": np.array([3.0, -0.5]), "b": np.array([[-4.0]])}
    assert clip_by_value(grads, 1.0) == pytest.approx(np.sqrt(25.25))
    np.testing.assert_array_equal(grads["a"], [1.0, -0.5])
    np.testing.assert_array_equal(grads["b"], [[-1.0]])
    assert global_norm({"a": np.full(3, 1e30, np.float32)}) == pytest.approx(np.sqrt(3) * 1e30, rel=1e-6)  # no overflow
    assert first_nonfinite({"a": np.ones(2), "b": np.array([np.inf])}) == "b"
    assert first_nonfinite({"a": np.ones(2)}) is None


def test_schedules_by_hand():
    assert make_schedule("constant", 0.1).rate(1000, 77.7) == 0.1
    exponential = make_schedule("exponential", 1.0, decay=0.9, after=2)
    assert [exponential.rate(0, e) for e in (0, 1.99, 2, 2.5, 3)] == pytest.approx([1, 1, 0.9, 0.9, 0.81], rel=1e-15)
    step = make_schedule("step", 1.0, every=3, factor=0.5)
    assert [step.rate(0, e) for e in (0, 2.9, 3, 6)] == [1, 1, 0.5, 0.25]
    cosine = make_schedule("cosine", 1.0, warmup=4, total=14, floor=0.2)
    assert [cosine.rate(s, 0) for s in (0, 3, 4, 9, 14, 99)] == pytest.approx([0.25, 1, 1, 0.6, 0.2, 0.2], rel=1e-15)
    plateau = make_schedule("plateau", 1.0, factor=0.5, patience=1)
    rates = []
    for loss in (3.0, 2.0, 2.1, 2.2, 1.9, 1.9, 1.9):
        plateau.observe(loss)
        rates.append(plateau.rate(0, 0))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    other = make_schedule("plateau", 1.0, factor=0.5, patience=1)
    other.load_state_dict(plateau.state_dict())
    assert other.rate(0, 0) == 0.25


def test_errors_of_schedules():
    with pytest.raises(UnrolledError, match=r"^no schedule is called 'cosin'; did you mean 'cosine'\?"):
        make_schedule("cosin", 0.1)
    with pytest.raises(UnrolledError, match=r"^learning rate is nan; it must be a number, 0 or more$"):
        make_schedule("constant", float("nan"))
    with pytest.raises(UnrolledError, match=r"^factor of the step schedule is -1; it must be 0 or more$"):
        make_schedule("step", 0.1, factor=-1)
