"""Cells whose gates see the input alone, and light ones: the law that defines each, and how its weights begin."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, find_cell
from unrolled.reference import scan

T, B, I, H = 13, 3, 4, 5


def problem(cell, seed=0, inputs=I):
    """A cell's parameters, twice as large as they begin, x, and a state."""
    cell = find_cell(cell)
    net = ur.Recurrent(cell, inputs, H, dtype="float64", rng=seed)
    w = {name.removesuffix("_l0"): 2 * p for name, p in net.params.items()}
    rng = np.random.default_rng(seed)
    s = cell.state(*(np.abs(rng.normal(size=(B, H))) for _ in cell.state_fields))
    return cell, w, rng.normal(size=(T, B, inputs)), s


def side_by_side(a, b, first):
    """All of h' = a h + b in log2(T) rounds: one step after another is a step, and that is associative."""
    a, b = np.concatenate([0 * a[:1], a]), np.concatenate([first[None], b])
    reach = 1
    while reach < len(a):
        b = np.concatenate([b[:reach], a[reach:] * b[:-reach] + b[reach:]])
        a = np.concatenate([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b[1:]


STEPS = {  # what the memory is multiplied with, and what is added to it
    "min_gru": lambda k: (1 - k.z, k.z * k.n),
    "min_lstm": lambda k: (k.f, k.i * k.n),
    "qrnn_f": lambda k: (k.f, (1 - k.f) * k.z),
    "qrnn_fo_w2": lambda k: (k.f, (1 - k.f) * k.z),
    "qrnn_ifo": lambda k: (k.f, k.i * k.z),
    "hgrn": lambda k: (k.f, (1 - k.f) * k.g),
}


@pytest.mark.parametrize("name", STEPS)
def test_all_steps_side_by_side_are_the_steps_one_after_another(name):
    cell, w, x, s = problem(name)
    _, _, tape = scan.forward(cell, w, x, s)
    memory, first = (tape.states.c, s.c) if "c" in cell.state_fields else (tape.states.h, s.h)
    together = side_by_side(*STEPS[name](tape.gates), first)
    np.testing.assert_allclose(together, memory[1:], rtol=0, atol=1e-14 * np.abs(memory).max())  # log2(13) rounds


def test_a_state_that_begins_positive_stays_so_and_its_logarithms_can_be_added_up():
    """Feng et al. 2024, log-space form: log h = a + log(h0 + sum of exp(log b - a)), a the sum of the logs of 1 - z."""
    cell, w, x, s = problem("min_gru")
    _, _, tape = scan.forward(cell, w, x, s)
    k, h = tape.gates, tape.states.h
    assert h.min() > 0
    a = np.cumsum(np.log(1 - k.z), axis=0)
    terms = np.concatenate([np.log(s.h)[None], np.log(k.z) + np.log(k.n) - a])
    np.testing.assert_allclose(np.exp(a + np.logaddexp.accumulate(terms)[1:]), h[1:], rtol=1e-12, atol=0)


def test_gates_of_the_minimal_lstm_share_out_a_whole_however_far_both_are_shut():
    cell = CELLS["min_lstm"]
    pairs = np.array([[-800.0, -800], [-800, -801], [800, -800], [-800, 800], [800, 800], [0, 0]])
    ax = (*pairs.T, np.zeros(6))
    _, k = cell.stages[0].forward(ax, (), cell.state(np.ones(6)), c=cell.constants)
    # sigmoid(a) is exp(a) out there, so their ratio is e; one that is shut leaves all to the other
    np.testing.assert_allclose(k.f, [0.5, 1 / (1 + np.exp(-1)), 1, 0, 0.5, 0.5], rtol=1e-15, atol=0)
    np.testing.assert_allclose(k.f + k.i, 1, rtol=1e-15)


def test_the_highway_of_the_sru_carries_x_where_its_gate_is_shut_and_the_cell_where_it_is_open():
    cell, w, x, s = problem("sru", inputs=H)
    assert "weight_x" not in w
    for bias, expected in ((-800, lambda tape: np.sqrt(3) * x), (800, lambda tape: tape.states.c[1:])):
        w["bias_ih"] = np.concatenate([w["bias_ih"][:H], np.full(H, bias)])
        w["weight_c"] = w["weight_c"] * [[1], [0]]
        y, _, tape = scan.forward(cell, w, x, s)
        np.testing.assert_array_equal(y, expected(tape))


def test_a_highway_that_is_scaled_keeps_the_variance_of_an_input():
    """Lei et al. 2018: by sqrt(1 + 2 exp(b)); without it, outputs of a deep network fade from the beginning."""
    net, bare = (ur.Recurrent(c, 64, 64, rng=1) for c in ("sru", CELLS["sru"].with_settings(alpha=1)))
    x = np.random.default_rng(0).normal(size=(200, 20, 64)).astype("float32")
    assert 0.9 < net.forward(x)[0].var() < 1.3
    assert bare.forward(x)[0].var() < 0.6


@pytest.mark.parametrize("pooling", ["f", "fo", "ifo"])
def test_a_window_of_two_is_a_window_of_one_over_pairs_of_steps(pooling):
    cell, w, x, s = problem(f"qrnn_{pooling}_w2")
    wide = CELLS[f"qrnn_{pooling}"]
    s = s._replace(**{name: 0 * s.h for name in s._fields if name.endswith("_before")})
    pairs = np.concatenate([np.concatenate([0 * x[:1], x[:-1]]), x], axis=-1)
    joined = {"weight_ih": np.concatenate(np.split(w["weight_ih"], 2), axis=1), "bias_ih": w["bias_ih"]}
    y, _, _ = scan.forward(cell, w, x, s)
    expected, _, _ = scan.forward(wide, joined, pairs, wide.state(*s[: len(wide.state_fields)]))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-15)


def test_a_name_of_the_family_finds_its_representative():
    assert find_cell("qrnn").name == "qrnn_fo_w2"


def test_the_gate_of_star_that_is_shut_lets_h_fade_and_open_lets_nothing_stay():
    cell, w, x, s = problem("star")
    w["weight_hh"] = 0 * w["weight_hh"]
    for bias, expected in ((-800, lambda tape: np.tanh(tape.states.h[:-1])), (800, lambda tape: np.tanh(tape.gates.z))):
        w["bias_ih"] = np.concatenate([w["bias_ih"][:H], np.full(H, bias)])
        y, _, tape = scan.forward(cell, w, x, s)
        np.testing.assert_allclose(y, expected(tape), rtol=0, atol=1e-15)


def test_the_forget_gate_of_hgrn_has_a_lower_bound_and_at_1_nothing_changes():
    cell, w, x, s = problem(CELLS["hgrn"].with_settings(lower=0.75))
    _, _, tape = scan.forward(cell, w, x, s)
    assert 0.75 < tape.gates.f.min() < 0.8 < tape.gates.f.max() < 1
    _, final, _ = scan.forward(cell.with_settings(lower=1), w, x, s)
    np.testing.assert_array_equal(final.c, s.c)


def test_the_light_gru_is_a_mixture_and_its_activation_can_be_chosen():
    cell, w, x, s = problem("ligru")
    _, _, tape = scan.forward(cell, w, x, s)
    assert (tape.gates.n == 0).any()
    assert (tape.states.h >= 0).all()
    y, _, _ = scan.forward(cell.with_settings(activation="tanh"), w, x, s)
    assert -1 < y.min() < 0


VARIANCES = {  # of columns of entries: 1/3 is PyTorch's Linear
    "min_gru": {"weight_ih": 1 / 3},
    "min_lstm": {"weight_ih": 1 / 3},
    "sru": {"weight_ih.g": 1, "weight_ih.f": 1 / 2, "weight_ih.r": 1 / 2, "weight_x": 1, "bias_ih": 0},
    "qrnn_fo": {"weight_ih": 1 / 3},
    "qrnn_fo_w2": {"weight_ih": 1 / 6},
    "ligru": {"weight_ih.z": 2 * 60 / (60 + 50), "weight_hh.n": 1, "bias_ih": 0},
    "star": {"weight_hh": 1, "bias_ih": 0},
    "hgrn": {"weight_ih": 1 / 3},
}


@pytest.mark.parametrize("name", VARIANCES)
def test_weights_begin_as_the_paper_has_them(name):
    inputs, hidden = 60, 50
    cell = CELLS[name]
    net = ur.Recurrent(name, inputs, hidden, rng=3)
    for which, variance in VARIANCES[name].items():
        parameter, _, part = which.partition(".")
        p = net.params[f"{parameter}_l0"]
        p = p[cell.parts(parameter, hidden)[part]] if part else p
        columns = p.shape[-1] if p.ndim == 2 else 1
        assert p.var() * columns == pytest.approx(variance, rel=0.07), which  # 3,000 numbers or so: four deviations
    if name == "sru":
        assert net.params["weight_c_l0"].var() == pytest.approx(1 / 2, rel=0.4)
    if name in ("ligru", "star"):
        block = net.params["weight_hh_l0"][-hidden:].astype(float)
        np.testing.assert_allclose(block @ block.T, np.eye(hidden), rtol=0, atol=1e-6)
