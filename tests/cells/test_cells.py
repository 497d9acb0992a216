"""The maths of each cell against its paper's equations, written out again for single numbers, unit by unit."""

import re
from dataclasses import FrozenInstanceError, replace
from functools import wraps
from math import exp, tanh
from pathlib import Path

import numpy as np
import pytest
from equations import EQUATIONS
from recent import RECENT

import unrolled
import unrolled as ur
from unrolled.cells import CELLS
from unrolled.cells.ops import sigmoid as array_sigmoid
from unrolled.codegen.derive import complete, prepared
from unrolled.reference import scan

T, B, I, H = 7, 3, 4, 5
EVERY_CELL = pytest.mark.parametrize("name", CELLS)


def sigmoid(x):
    return 1 / (1 + exp(-x))


def row(w, block, unit, x, h):
    """W x + b and U h + b' of one unit of a row block, as two numbers."""
    r = block * H + unit
    ax = sum(w["weight_ih"][r, n] * x[n] for n in range(I)) + w["bias_ih"][r]
    ah = sum(w["weight_hh"][r, n] * h[n] for n in range(H)) + w["bias_hh"][r]
    return float(ax), float(ah)


def by_hand(name, w, x, s):
    """One step for one row of the batch, with loops and the math module alone: new state and gates, lists of H."""
    if name in RECENT:
        return RECENT[name](w, x, s)
    if name in EQUATIONS:
        return EQUATIONS[name](w, x, {key: np.array(f) for key, f in s.items()})
    h, c = s["h"], s.get("c")
    out = {}

    def put(**values):
        for key, value in values.items():
            out.setdefault(key, []).append(value)

    if name == "gru_reset_before":
        r, z = ([sigmoid(sum(row(w, block, u, x, h))) for u in range(H)] for block in (0, 1))
        rh = [r[u] * h[u] for u in range(H)]
    if name == "mgu":
        f = [sigmoid(sum(row(w, 0, u, x, h))) for u in range(H)]
        fh = [f[u] * h[u] for u in range(H)]
    if name == "lstm_use_gate":
        fc = [sigmoid(sum(row(w, 1, u, x, h))) * c[u] for u in range(H)]
    if name == "lstm_full_gate_recurrence":
        return full_gate_recurrence(w, x, s)
    if name.endswith("_layer_norm"):
        return layer_norm(name, w, x, s)
    if name.startswith("lstm_no_"):
        return ablation(name, w, x, s)
    for u in range(H):
        if name == "rnn_tanh":
            put(h=tanh(sum(row(w, 0, u, x, h))))
        elif name == "rnn_relu":
            put(h=max(sum(row(w, 0, u, x, h)), 0.0))
        elif name in ("lstm", "lstm_peephole"):
            p = w["weight_peephole"][:, u] if name == "lstm_peephole" else [0.0, 0.0, 0.0]
            i = sigmoid(sum(row(w, 0, u, x, h)) + p[0] * c[u])
            f = sigmoid(sum(row(w, 1, u, x, h)) + p[1] * c[u])
            g = tanh(sum(row(w, 2, u, x, h)))
            new = f * c[u] + i * g
            o = sigmoid(sum(row(w, 3, u, x, h)) + p[2] * new)
            put(i=i, f=f, g=g, o=o, c=new, h=o * tanh(new))
        elif name == "gru_reset_after":
            r = sigmoid(sum(row(w, 0, u, x, h)))
            z = sigmoid(sum(row(w, 1, u, x, h)))
            ax, ah = row(w, 2, u, x, h)
            n = tanh(ax + r * ah)
            put(r=r, z=z, n=n, ah_n=ah, h=(1 - z) * n + z * h[u])
        elif name == "indrnn":
            ax = sum(w["weight_ih"][u, n] * x[n] for n in range(I)) + w["bias_ih"][u] + w["bias_hh"][u]
            put(h=max(float(ax + w["weight_own"][0, u] * h[u]), 0.0))
        elif name == "lstm_coupled":
            f, o = sigmoid(sum(row(w, 0, u, x, h))), sigmoid(sum(row(w, 2, u, x, h)))
            g = tanh(sum(row(w, 1, u, x, h)))
            new = f * c[u] + (1 - f) * g
            put(f=f, g=g, o=o, c=new, h=o * tanh(new))
        elif name == "lstm_use_gate":
            i, f, o = (sigmoid(sum(row(w, block, u, x, h))) for block in (0, 1, 3))
            g = tanh(sum(row(w, 2, u, x, h)))
            used = tanh(sum(w["weight_hh"][4 * H + u, n] * fc[n] for n in range(H)) + w["bias_hh"][4 * H + u])
            put(i=i, f=f, g=g, o=o, fc=fc[u], u=used, c=fc[u] + i * g, h=o * used)
        elif name == "mgu":
            n = tanh(sum(row(w, 1, u, x, fh)))
            put(f=f[u], fh=fh[u], n=n, h=(1 - f[u]) * h[u] + f[u] * n)
        elif name == "gru_reset_before":
            n = tanh(sum(row(w, 2, u, x, rh)))
            put(r=r[u], z=z[u], rh=rh[u], n=n, h=(1 - z[u]) * n + z[u] * h[u])
        else:
            raise AssertionError(f"{name} has no equations here: write them")
    return out


def ablation(name, w, x, s):
    """Greff et al. 2015, section 3 and appendix A: the peephole LSTM with one part missing."""
    h, c, rows, out = s["h"], s["c"], CELLS[name].rows, {}
    for u in range(H):
        a = {gate: sum(row(w, block, u, x, h)) for block, gate in enumerate(rows)}
        p = dict(zip(CELLS[name].param_fields, w["weight_peephole"][:, u].tolist(), strict=True))
        i = sigmoid(a["i"] + p["i"] * c[u]) if "i" in rows else 1
        f = sigmoid(a["f"] + p["f"] * c[u]) if "f" in rows else 1
        g = a["g"] if name == "lstm_no_input_activation" else tanh(a["g"])
        new = f * c[u] + i * g
        o = sigmoid(a["o"] + p["o"] * new) if "o" in rows else 1
        shown = new if name == "lstm_no_output_activation" else tanh(new)
        for key, value in {"i": i, "f": f, "g": g, "o": o, "c": new, "h": o * shown}.items():
            out.setdefault(key, []).append(value)
    return out


def full_gate_recurrence(w, x, s):
    """The three gates also see all gates of the step before, the candidate does not: rows i, f, o, g."""
    out = {}
    wide = s["h"] + s["i"] + s["f"] + s["o"]
    for u in range(H):
        ax = [w["weight_ih"][b * H + u] @ x + w["bias_ih"][b * H + u] + w["bias_hh"][b * H + u] for b in range(4)]
        a = [float(ax[b] + sum(w["weight_hh"][b * H + u, n] * wide[n] for n in range(4 * H))) for b in range(3)]
        pi, pf, po = w["weight_peephole"][:, u].tolist()
        i, f = sigmoid(a[0] + pi * s["c"][u]), sigmoid(a[1] + pf * s["c"][u])
        g = tanh(float(ax[3] + w["weight_hh"][3 * H + u, :H] @ s["h"]))
        new = f * s["c"][u] + i * g
        o = sigmoid(a[2] + po * new)
        for key, value in {"i": i, "f": f, "g": g, "o": o, "c": new, "h": o * tanh(new)}.items():
            out.setdefault(key, []).append(value)
    return out


def layer_norm(name, w, x, s):
    """Ba et al. 2016: each product, and the LSTM's cell, with mean 0 and variance 1, times a gain, plus a bias."""

    def norm(a, size):
        parts = [np.array(a[n : n + size]) for n in range(0, len(a), size)]
        return np.concatenate([(p - p.mean()) / np.sqrt(p.var() + 1e-5) for p in parts])

    h = np.array(s["h"])
    size = 4 * H if name == "lstm_layer_norm" else None
    halves = []
    for product, half in ((w["weight_ih"] @ x, "ih"), (w["weight_hh"] @ h, "hh")):
        hat = (
            norm(product, size) if size else np.concatenate([norm(product[: 2 * H], 2 * H), norm(product[2 * H :], H)])
        )
        halves.append(hat * w[f"gain_{half}"] + w[f"bias_{half}"])
    ax, ah = halves
    if name == "lstm_layer_norm":
        i, f, g, o = np.split(ax + ah, 4)
        i, f, o = (1 / (1 + np.exp(-a)) for a in (i, f, o))
        c = f * np.array(s["c"]) + i * np.tanh(g)
        n = norm(c, H) * w["gain_cell"] + w["bias_cell"]
        return {"i": i, "f": f, "g": np.tanh(g), "o": o, "n": n, "c": c.tolist(), "h": (o * np.tanh(n)).tolist()}
    r, z = (1 / (1 + np.exp(-(ax + ah)[k : k + H])) for k in (0, H))
    n = np.tanh(ax[2 * H :] + r * ah[2 * H :])
    return {"r": r, "z": z, "n": n, "ah_n": ah[2 * H :], "h": ((1 - z) * n + z * h).tolist()}


def problem(name, seed=0):
    cell = CELLS[name]
    options = {"dtype": "float64", "init": "uniform:0.45", "backend": "reference"}
    net = ur.Recurrent(cell, I, H, rng=np.random.default_rng(seed), **options)
    w = {key.removesuffix("_l0"): 2 * p for key, p in net.params.items()}
    rng = np.random.default_rng(seed)
    s = cell.state(*(rng.normal(size=(B, H)) for _ in cell.state_fields))
    return cell, w, rng.normal(size=(T, B, I)), s


@EVERY_CELL
def test_a_pass_equals_the_equations_written_out(name):
    cell, w, x, s = problem(name)
    _, _, tape = scan.forward(cell, w, x, s)
    for b in range(B):
        state = {key: list(map(float, f[b])) for key, f in zip(s._fields, s, strict=True)}
        for t in range(T):
            expected = by_hand(name, w, x[t, b], state)
            for key in cell.state_fields:
                got = getattr(tape.states, key)[t + 1, b]
                # nine products and a few functions, seven steps: some ten roundings
                np.testing.assert_allclose(got, expected[key], rtol=0, atol=1e-14, err_msg=key)
            for key in cell.gate_fields:
                np.testing.assert_allclose(getattr(tape.gates, key)[t, b], expected[key], rtol=0, atol=1e-14)
            state = {key: expected[key] for key in state}


def test_identities_of_the_lstm_hold_on_the_tape():
    cell, w, x, s = problem("lstm")
    _, _, tape = scan.forward(cell, w, x, s)
    k, c, h = tape.gates, tape.states.c, tape.states.h
    np.testing.assert_array_equal(c[1:], k.f * c[:-1] + k.i * k.g)
    np.testing.assert_array_equal(h[1:], k.o * np.tanh(c[1:]))
    for gate in (k.i, k.f, k.o):
        assert 0 < gate.min() < 0.5 < gate.max() < 1
    assert -1 < k.g.min() < 0 < k.g.max() < 1


@pytest.mark.parametrize("name", ["gru_reset_after", "gru_reset_before"])
def test_the_gru_is_a_mixture_of_its_candidate_and_its_old_state(name):
    cell, w, x, s = problem(name)
    _, _, tape = scan.forward(cell, w, x, s)
    k, h = tape.gates, tape.states.h
    np.testing.assert_allclose(h[1:], (1 - k.z) * k.n + k.z * h[:-1], rtol=0, atol=1e-15)  # a rounding or two
    between = (np.minimum(k.n, h[:-1]), np.maximum(k.n, h[:-1]))
    assert (between[0] - 1e-15 <= h[1:]).all()
    assert (h[1:] <= between[1] + 1e-15).all()


def test_a_peephole_of_zero_is_no_peephole():
    cell, w, x, s = problem("lstm_peephole")
    w["weight_peephole"][:] = 0
    plain = {key: p for key, p in w.items() if key != "weight_peephole"}
    for a, b in zip(
        scan.forward(cell, w, x, s)[2].states, scan.forward(CELLS["lstm"], plain, x, s)[2].states, strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_with_an_open_reset_gate_both_grus_are_one():
    """r = 1 wherever it acts, and the biases of the candidate's halves just add."""
    _, w, x, s = problem("gru_reset_after")
    w["bias_ih"][:H] = 800  # sigmoid(800) is 1 to the last bit
    after, before = (scan.forward(CELLS[f"gru_reset_{kind}"], w, x, s)[0] for kind in ("after", "before"))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-15)


def test_closed_gates_keep_a_cell_for_ever():
    """Input gate shut, forget gate open: c stays to the bit, which is what the LSTM was made for."""
    cell, w, x, s = problem("lstm")
    w["bias_ih"][:H], w["bias_ih"][H : 2 * H] = -800, 800
    with np.errstate(over="ignore"):
        _, final, tape = scan.forward(cell, w, x, s)
    np.testing.assert_array_equal(final.c, s.c)
    dc = np.random.default_rng(0).normal(size=(B, H))
    _, ds, _ = scan.backward(tape, np.zeros((T, B, H)), cell.state(h=np.zeros((B, H)), c=dc))
    np.testing.assert_array_equal(ds.c, dc)


def test_the_rectifier_keeps_nan_and_has_no_slope_at_zero():
    stage = CELLS["rnn_relu"].stages[0]
    a = np.array([-1.0, -0.0, 0.0, 2.0, np.nan, np.inf])
    new, k = stage.forward((a,), (0 * a[:1],), None)
    np.testing.assert_array_equal(new.h, [0, 0, 0, 2, np.nan, np.inf])
    one = CELLS["rnn_relu"].state(h=np.ones(6))
    np.testing.assert_array_equal(stage.backward(one, k, None, new).ax[0][:4], [0, 0, 0, 1])


def test_sigmoid_is_exact_at_both_ends():
    with np.errstate(over="ignore"):
        got = array_sigmoid(np.array([-1000.0, -40.0, -1.0, 0.0, 1.0, 40.0, 1000.0]))
    # 1 / (1 + e^x) with e^40 = 235385266837019985.4...: 4.248354255291589e-18
    expected = [0, 4.248354255291589e-18, 0.2689414213699951, 0.5, 0.7310585786300049, 1, 1]
    np.testing.assert_allclose(got, expected, rtol=4e-16, atol=0)  # two roundings


def arrays_of(tree):
    """Every array in nested tuples."""
    if isinstance(tree, tuple):
        return [a for branch in tree for a in arrays_of(branch)]
    return [tree] if isinstance(tree, np.ndarray) else []


def frozen(tree):
    """Nested tuples with views in the place of arrays, which cannot be written to."""
    if isinstance(tree, tuple):
        branches = map(frozen, tree)
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    if isinstance(tree, np.ndarray):
        tree = tree.view()
        tree.flags.writeable = False
    return tree


def watched(function):
    """A stage's function that gets what it cannot change, and must give nothing but float32."""

    @wraps(function)
    def run(*args, **kw):
        result = function(*frozen(args), **{name: frozen(value) for name, value in kw.items()})
        assert {a.dtype for a in arrays_of(result)} <= {np.dtype("float32")}
        return result

    return run


@EVERY_CELL
def test_stages_keep_float32_and_change_no_argument(name):
    cell, w, x, s = problem(name)
    w, x, s = ({k: p.astype("float32") for k, p in w.items()}, x.astype("float32"), [f.astype("float32") for f in s])
    whole, w = complete(cell), prepared(cell, w)
    stages = (replace(st, forward=watched(st.forward), backward=watched(st.backward)) for st in whole.stages)
    y, _, tape = scan.forward(replace(whole, stages=tuple(stages)), w, x, cell.state(*s))
    dx, ds, grads = scan.backward(tape, np.ones_like(y), cell.state(*s))
    assert {a.dtype for a in (y, dx, *ds, *grads.values())} == {np.dtype("float32")}


GOLDEN_ROWS = {
    "rnn_tanh": "h",
    "rnn_relu": "h",
    "indrnn": "h",
    "lstm": "ifgo",
    "lstm_peephole": "ifgo",
    "lstm_coupled": "fgo",
    "lstm_use_gate": "ifgou",
    "lstm_layer_norm": "ifgo",
    "lstm_no_input_gate": "fgo",
    "lstm_no_forget_gate": "igo",
    "lstm_no_output_gate": "ifg",
    "lstm_no_input_activation": "ifgo",
    "lstm_no_output_activation": "ifgo",
    "lstm_full_gate_recurrence": "ifog",
    "gru_reset_after": "rzn",
    "gru_reset_before": "rzn",
    "gru_layer_norm": "rzn",
    "mgu": "fn",
    "slstm": "ifzo",
    "lru": "reimh",
    "rg_lru": "ri",
    "lem": "step_zstep_hzh",
    "cornn": "z",
    "cfc": "startendrateshift",
    "cfc_backbone": "backbonestartendrateshift",
    "min_gru": "zn",
    "min_lstm": "fin",
    "sru": "gfr",
    "qrnn_f": "zf",
    "qrnn_fo": "zfo",
    "qrnn_ifo": "zfoi",
    "qrnn_f_w2": "z_beforef_beforezf",
    "qrnn_fo_w2": "z_beforef_beforeo_beforezfo",
    "qrnn_ifo_w2": "z_beforef_beforeo_beforei_beforezfoi",
    "ligru": "zn",
    "ligru_layer_norm": "zn",
    "star": "zk",
    "hgrn": "fgo",
}


def test_rows_of_the_weights_stand_in_pytorchs_order():
    assert {name: "".join(cell.rows) for name, cell in CELLS.items()} == GOLDEN_ROWS
    assert CELLS["lstm_peephole"].param_fields == ("i", "f", "o")
    assert all(cell.state_fields[0] == "h" for cell in CELLS.values())
    other = {"indrnn": 0, "rg_lru": 0, "lru": 2, "cornn": 2, "lstm_full_gate_recurrence": 4}
    other |= dict.fromkeys(("min_gru", "min_lstm", "sru", "hgrn", *(n for n in CELLS if n.startswith("qrnn"))), 0)
    assert {name: cell.operand_width for name, cell in CELLS.items()} == dict.fromkeys(CELLS, 1) | other
    assert "".join(CELLS["lstm_use_gate"].input_rows) == "ifgo"


@EVERY_CELL
def test_a_cell_is_frozen_data_that_names_its_paper(name):
    cell = CELLS[name]
    assert cell.name == name
    assert re.search(r"\b(19|20)\d\d\b", cell.paper)
    with pytest.raises(FrozenInstanceError):
        cell.name = "other"


def test_a_cell_without_a_product_has_no_recurrent_weight():
    """Units that see nothing but themselves: no `weight_hh`, and all proofs hold."""
    from typing import NamedTuple

    from unrolled.cells import Back, Cell, Stage

    class State(NamedTuple):
        h: object

    class Gates(NamedTuple):
        n: object

    class Own(NamedTuple):
        u: object

    def forward(ax, ah, s, p):
        n = np.tanh(ax[0] + ah[0] + p.u * s.h)
        return State(n), Gates(n)

    def backward(d, k, s, new, p):
        da = (d.h * (1 - k.n * k.n),)
        return Back(da, da, State(da[0] * p.u), params=Own(da[0] * s.h))

    stage = Stage(("n",), forward, backward, operand=None)
    cell = Cell("independent", State, Gates, (stage,), "Li et al. 2018", params=Own, params_name="weight_own")
    net = ur.Recurrent(cell, I, H, 2)
    assert list(net.params)[:4] == ["weight_ih_l0", "bias_ih_l0", "bias_hh_l0", "weight_own_l0"]
    ur.check_cell(cell).raise_if_failed()
    ur.check_network(net).raise_if_failed()


def test_a_cell_with_a_wide_operand_is_proven():
    """The product may see h and c side by side (a gate recurrence): `weight_hh` is then (R H, 2 H)."""
    wide = replace(CELLS["lstm"], name="wide", stages=(replace(CELLS["lstm"].stages[0], operand=("h", "c")),))
    net = ur.Recurrent(wide, I, H, 2, bidirectional=True)
    assert net.params["weight_hh_l1"].shape == (4 * H, 2 * H)
    ur.check_cell(wide).raise_if_failed()
    ur.check_network(net).raise_if_failed()


PAGES = Path(__file__).parents[2] / "docs" / "maths"


def test_code_in_the_derivations_is_the_code():
    files = Path(unrolled.__file__).parent.glob("cells/*.py")
    source = {line.strip() for path in files for line in path.read_text().splitlines()}
    quoted = [
        line.strip()
        for page in sorted(PAGES.glob("*.md"))
        if page.name != "derived.md"  # what is derived stands in no file: tests/codegen/test_readable.py compares it
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
        for line in block.splitlines()
    ]
    assert len(quoted) > 15
    assert [line for line in quoted if line not in source] == []


@EVERY_CELL
def test_every_cell_has_a_page(name):
    table = re.findall(r"^\| (.*?) \| \[\w+\]\((\w+\.md)\)", (PAGES / "cells.md").read_text(), re.M)
    (page,) = (page for names, page in table if f"`{name}`" in names.split(", "))
    assert name in (PAGES / page).read_text().splitlines()[0].removeprefix("# ").split(", ")
