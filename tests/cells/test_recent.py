"""What defines the cells since 2021: closed forms and laws, what they begin with, numbers at the ends of range."""

from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.reference import scan

T, B, I, H = 7, 3, 4, 5
NAMES = ("slstm", "lru", "rg_lru", "lem", "cornn", "cfc", "cfc_backbone")
ROUNDINGS = 200 * np.finfo(np.float64).eps  # some hundred operations one behind the other


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def layer(name, inputs=I, seed=0, **options):
    """Return a cell, a layer's parameters by their local names, and inputs (T, B, inputs)."""
    rng = np.random.default_rng(seed)
    options = {"dtype": "float64", "init": "uniform:0.7", "rng": rng, "backend": "reference"} | options
    net = ur.Recurrent(name, inputs, H, **options)
    w = {key.removesuffix("_l0"): p for key, p in net.params.items()}
    return net.cell, w, rng.normal(size=(T, B, inputs)), net.zero_state(B)


def start(cell):
    """Return a state of zeros of one layer."""
    return cell.state(*(np.zeros((B, H)) for _ in cell.state_fields))


def rescaled(s, by):
    """Return an sLSTM's state with another stabiliser."""
    return s._replace(c=s.c * np.exp(-by), n=s.n * np.exp(-by), m=s.m + by)


def by_heads(weight, h):
    """Products (4, B, H) of weights (4, H, J), where a unit sees the J units of its own head."""
    units = weight.shape[-1]
    blocks = [slice(k, k + units) for k in range(0, H, units)]
    parts = [np.einsum("gun,bn->gbu", weight[:, k, : h[:, k].shape[1]], h[:, k]) for k in blocks]
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize("log_forget", ["log_sigmoid", "identity"])
def test_the_stabiliser_of_an_slstm_cancels(log_forget):
    cell, w, x, _ = layer(CELLS["slstm"].with_settings(log_forget=log_forget))
    begun, s, _ = scan.forward(cell, w, x, start(cell))
    y, _, _ = scan.forward(cell, w, x, s)
    assert begun.shape == y.shape
    by = np.random.default_rng(1).normal(size=(B, H))
    shifted, _, _ = scan.forward(cell, w, x, rescaled(s, by))
    np.testing.assert_allclose(shifted, y, rtol=0, atol=ROUNDINGS)
    # The same as one gate between the old mean and the candidate, which knows the sum of all weights.
    h, q, total = s.h, s.c / s.n, s.m + np.log(s.n)
    for t in range(T):
        ah = by_heads(w["weight_hh"].reshape(4, H, -1), h)
        i, f, z, o = np.split(x[t] @ w["weight_ih"].T + w["bias_ih"], 4, axis=-1)
        i, f, z, o = i + ah[0], f + ah[1], z + ah[2], o + ah[3]
        log_f = np.log(sigmoid(f)) if log_forget == "log_sigmoid" else f
        kept = sigmoid(log_f + total - i)
        q = kept * q + (1 - kept) * np.tanh(z)
        h, total = sigmoid(o) * q, np.logaddexp(log_f + total, i)
        np.testing.assert_allclose(y[t], h, rtol=0, atol=ROUNDINGS)


def test_an_lru_is_a_sum_of_powers():
    cell, w, u, _ = layer("lru")
    y, _, _ = scan.forward(cell, w, u, start(cell))
    nu, theta, gamma, skip = w["weight_recurrence"]
    power = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    (b_re, b_im), (c_re, c_im) = np.split(w["weight_ih"], 2), np.split(w["weight_hh"], 2, axis=1)
    driven = np.exp(gamma) * (u @ (b_re + 1j * b_im).T)
    for t in range(T):
        x = sum(power ** (t - k) * driven[k] for k in range(t + 1))
        expected = (x @ (c_re - 1j * c_im).T).real + skip * (u[t] @ w["weight_x"].T)
        np.testing.assert_allclose(y[t], expected, rtol=0, atol=ROUNDINGS)


def test_an_rg_lru_is_a_sum_of_products_and_keeps_digits_of_a_shut_gate():
    cell, w, x, _ = layer("rg_lru", inputs=H)
    assert "weight_x" not in w
    y, _, tape = scan.forward(cell, w, x, start(cell))
    a, i = tape.gates.a, tape.gates.i
    r = tape.gates.r
    np.testing.assert_allclose(a, sigmoid(w["weight_recurrence"][0]) ** (8 * r), rtol=ROUNDINGS)
    driven = np.sqrt(1 - a**2) * i * x
    expected = sum(a[k + 1 : T].prod(axis=0) * driven[k] for k in range(T))
    np.testing.assert_allclose(y[-1], expected, rtol=0, atol=ROUNDINGS)
    # -log a = 1e-6 and so 1 - a^2 = 2e-6, of which float32's 1 - a * a has one digit
    small = {name: np.zeros_like(p, np.float32) for name, p in w.items()}
    small["bias_ih"][:H] = -np.log(1e6)
    small["weight_recurrence"] += np.float32(-np.log(np.expm1(1 / 8)))  # 8 softplus(-decay) is 1
    h, _, _ = scan.forward(cell, small, np.ones((1, B, H), np.float32), cell.state(np.zeros((B, H), np.float32)))
    np.testing.assert_allclose(h, 0.5 * np.sqrt(-np.expm1(-2 / (1 + 1e6))), rtol=4 * np.finfo(np.float32).eps * 8)


def test_the_output_of_a_lem_sees_the_new_z():
    cell, w, x, _ = layer(CELLS["lem"].with_settings(dt=0.5))
    y, s, tape = scan.forward(cell, w, x, start(cell))
    before, z = tape.states.h[:-1], tape.states.z
    a = x @ w["weight_ih"][3 * H :].T + w["bias_ih"][3 * H :]
    new, old = (np.tanh(a + seen @ w["weight_hh"][3 * H :].T) for seen in (z[1:], z[:-1]))
    step = tape.gates.step_h
    np.testing.assert_allclose(y, (1 - step) * before + step * new, rtol=0, atol=ROUNDINGS)
    assert abs(y - ((1 - step) * before + step * old)).max() > 0.03  # as a public library has it
    assert step.max() < 0.5
    assert abs(s.h).max() <= 1


def test_a_cornn_without_force_is_a_damped_spring():
    """h'' = -gamma h - epsilon h' has a closed form; half the step gives half the error."""
    gamma, epsilon, time = 2.0, 0.4, 1.0
    errors = []
    for dt in (0.02, 0.01):
        cell, w, _, _ = layer(CELLS["cornn"].with_settings(dt=dt, gamma=gamma, epsilon=epsilon))
        zero = {name: np.zeros_like(p) for name, p in w.items()}
        s = cell.state(h=np.ones((B, H)), z=np.zeros((B, H)))
        y, _, _ = scan.forward(cell, zero, np.zeros((round(time / dt), B, I)), s)
        rate, turn = epsilon / 2, np.sqrt(gamma - epsilon**2 / 4)
        exact = np.exp(-rate * time) * (np.cos(turn * time) + rate / turn * np.sin(turn * time))
        errors.append(abs(y[-1] - exact).max())
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("name", ["cfc", "cfc_backbone"])
def test_time_gaps_of_a_cfc_stretch_its_rate(name):
    """Gaps of two are gaps of one with twice the rate; gaps of no time leave the shift; each row has its own."""
    cell, w, x, _ = layer(name)
    s = start(cell)
    assert cell.sees_time
    twice = {key: p.copy() for key, p in w.items()}
    for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        if "rate" in cell.parts(key, H):
            twice[key][cell.parts(key, H)["rate"]] *= 2
    gaps = scan.ScanMasks(dt=np.full((T, B), 2.0))
    y, _, tape = scan.forward(cell, w, x, s, gaps)
    np.testing.assert_allclose(scan.forward(cell, twice, x, s)[0], y, rtol=0, atol=ROUNDINGS)
    assert abs(scan.forward(cell, w, x, s)[0] - y).max() > 0.01
    k = tape.gates
    np.testing.assert_allclose(y, k.start + k.time * (k.end - k.start), rtol=0, atol=ROUNDINGS)
    own = scan.ScanMasks(dt=np.random.default_rng(1).uniform(0, 3, (T, B)))
    together = scan.forward(cell, w, x, s, own)[0]
    for b in range(B):
        row = scan.ScanMasks(dt=own.dt[:, b : b + 1])
        alone = scan.forward(cell, w, x[:, b : b + 1], cell.state(*(f[b : b + 1] for f in s)), row)[0]
        np.testing.assert_allclose(together[:, b : b + 1], alone, rtol=0, atol=ROUNDINGS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_pre_activations_of_a_hundred_overflow_nothing(name, backend):
    """In float32, where exp(89) is inf: outputs and gradients are finite whichever way each row is driven."""
    why = ur.backends.reason(CELLS[name]) if backend == "cpu" else None
    if why:
        pytest.skip(why)
    net = ur.Recurrent(name, I, H, backend=backend, init="uniform:100", rng=np.random.default_rng(3))
    x = np.random.default_rng(4).choice([-1, 0, 1], (T, B, I)).astype(np.float32)
    y, _, tape = net.forward(x, net.zero_state(B))
    dx, ds, grads = net.backward(tape, np.ones_like(y))
    assert all(np.isfinite(a).all() for a in (y, dx, *ds, *grads.values()))


def test_initial_weights_are_the_papers():
    wide = {name: ur.Recurrent(name, 300, 256, rng=np.random.default_rng(0), dtype="float64").params for name in NAMES}
    slstm, lru, gated = wide["slstm"], wide["lru"], wide["rg_lru"]
    assert not slstm["weight_hh_l0"].any()
    np.testing.assert_allclose(slstm["weight_ih_l0"].std(), np.sqrt(2 / (5 * 300)), rtol=0.01)
    forget = slstm["bias_ih_l0"][256:512].reshape(4, 64)
    np.testing.assert_allclose(forget[:, [0, -1]], [[5, -7]] * 4)
    assert not np.delete(slstm["bias_ih_l0"].reshape(4, 256), 1, axis=0).any()
    nu, theta, gamma, _ = lru["weight_recurrence_l0"]
    size = np.exp(-np.exp(nu))
    quarters = np.histogram(size**2, 4, (0, 1))[0], np.histogram(np.exp(theta), 4, (0, 2 * np.pi))[0]
    assert min(map(min, quarters)) > 64 - 4 * 7  # 256 in four parts: 64, and a deviation of 7
    np.testing.assert_allclose(np.exp(gamma), np.sqrt(1 - size**2), rtol=1e-6)
    np.testing.assert_allclose(lru["weight_ih_l0"].std(), np.sqrt(1 / 600), rtol=0.02)
    np.testing.assert_allclose(lru["weight_hh_l0"].std(), np.sqrt(1 / 256), rtol=0.02)
    power = sigmoid(gated["weight_recurrence_l0"][0]) ** 8
    assert 0.9 < power.min() < 0.91 < 0.99 < power.max() < 0.999
    np.testing.assert_allclose(gated["weight_x_l0"].std(), np.sqrt(1 / 300), rtol=0.02)
    rows = CELLS["cfc"].parts("weight_hh", 256)
    assert abs(wide["cfc"]["weight_hh_l0"][rows["rate"]]).max() == pytest.approx(np.sqrt(6 / 512), rel=0.01)
    assert abs(wide["cornn"]["weight_hh_l0"]).max() == pytest.approx(np.sqrt(1 / 512), rel=0.01)


@pytest.mark.parametrize(
    "cell",
    [
        CELLS["slstm"].with_settings(log_forget="identity"),
        replace(CELLS["slstm"], heads=1),
        CELLS["lem"].with_settings(dt=0.3),
        CELLS["cfc_backbone"].with_settings(activation="silu"),
    ],
    ids=lambda cell: f"{cell.name}, {cell.settings}, {cell.heads}",
)
def test_other_settings_are_proven_too(cell):
    net = ur.Recurrent(cell, I, H, dtype="float64", init="uniform:0.7", backend="reference")
    assert not ur.gradcheck.check_derivatives(net, steps=2).failed
