"""The matrix memory: the paper's equations as they stand, and the chunkwise form against the recurrent one."""

import math

import numpy as np
import pytest

from unrolled.backends.chunkwise import chunkwise
from unrolled.reference import matrix_memory
from unrolled.reference.matrix_memory import RECURRENT, State, Steps

B, I, N, K, V = 3, 5, 2, 4, 7
EXACT = 1e-12
"""Some hundred roundings of float64, relative to an array's largest entry."""


def parameters(rng):
    shapes = matrix_memory.shapes(I, N, K, V)
    return {name: rng.standard_normal(shape) / math.sqrt(shape[-1]) for name, shape in shapes.items()}


def state(rng):
    return State(*(rng.standard_normal(shape) for shape in ((B, N, K, V), (B, N, K), (B, N))))


def test_a_layer_is_the_papers_equations_without_the_stabiliser():
    """Equations 19 to 27, a row, a head and a step at a time; the initial state is C exp(m), n exp(m)."""
    rng = np.random.default_rng(0)
    w, start, x = parameters(rng), state(rng), rng.standard_normal((6, B, I))
    y, end, _ = matrix_memory.forward(w, x, start)
    for b in range(B):
        for head in range(N):
            C, n = (f[b, head] * math.exp(start.m[b, head]) for f in (start.C.swapaxes(-1, -2), start.n))
            keys, values = slice(head * K, (head + 1) * K), slice(head * V, (head + 1) * V)
            for t in range(6):
                q = w["weight_q"][keys] @ x[t, b] + w["bias_q"][keys]
                k = w["weight_k"][keys] @ x[t, b] / math.sqrt(K) + w["bias_k"][keys]
                v = w["weight_v"][values] @ x[t, b] + w["bias_v"][values]
                i = math.exp(w["weight_i"][head] @ x[t, b] + w["bias_i"][head])
                f = 1 / (1 + math.exp(-w["weight_f"][head] @ x[t, b] - w["bias_f"][head]))
                o = 1 / (1 + np.exp(-w["weight_o"][values] @ x[t, b] - w["bias_o"][values]))
                C = f * C + i * np.outer(v, k)
                n = f * n + i * k
                h = o * (C @ q) / max(abs(n @ q), 1)
                np.testing.assert_allclose(y[t, b, values], h, rtol=0, atol=EXACT)
            factor = math.exp(end.m[b, head])
            np.testing.assert_allclose(end.C[b, head].T * factor, C, rtol=EXACT, atol=EXACT)
            np.testing.assert_allclose(end.n[b, head] * factor, n, rtol=EXACT, atol=EXACT)


def run(memory, steps, lengths, gates=1.0):
    """Everything that a layer gives, forward and backward, by name."""
    rng = np.random.default_rng(steps)
    w, start, x = parameters(rng), state(rng), rng.standard_normal((steps, B, I))
    w |= {name: gates * w[name] for name in ("weight_i", "weight_f", "bias_i", "bias_f")}
    live = None if lengths is None else np.arange(steps)[:, None] < np.array(lengths)
    y, end, tape = matrix_memory.forward(w, x, start, live, memory)
    d = [rng.standard_normal(a.shape) for a in (y, *end)]
    dx, dstart, grads = matrix_memory.backward(tape, d[0], State(*d[1:]))
    fields = {f"{of}{name}": f for of, s in (("", end), ("d", dstart)) for name, f in s._asdict().items()}
    return {"y": y, "dx": dx} | fields | grads


@pytest.mark.parametrize("size", [1, 2, 5, 64])
@pytest.mark.parametrize(("steps", "lengths"), [(0, None), (1, None), (11, None), (11, (7, 0, 11))])
@pytest.mark.parametrize("gates", [1.0, 30.0], ids=["usual gates", "extreme gates"])
def test_any_chunks_equal_the_recurrent_form_forward_and_backward(size, steps, lengths, gates):
    ours, theirs = (run(memory, steps, lengths, gates) for memory in (chunkwise(size), RECURRENT))
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape
        error = np.abs(ours[name] - expected).max(initial=0)
        assert error <= EXACT * max(1, np.abs(expected).max(initial=0)) * gates, name


@pytest.mark.parametrize("memory", [RECURRENT, chunkwise(3)], ids=["recurrent", "chunkwise"])
def test_what_is_read_does_not_depend_on_the_stabiliser(memory):
    rng = np.random.default_rng(0)
    w, start, x = parameters(rng), state(rng), rng.standard_normal((8, B, I))
    moved = State(start.C * math.exp(-3), start.n * math.exp(-3), start.m + 3)
    y, other = (matrix_memory.forward(w, x, s, memory=memory)[0] for s in (start, moved))
    np.testing.assert_allclose(other, y, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("memory", [RECURRENT, chunkwise(3)], ids=["recurrent", "chunkwise"])
@pytest.mark.parametrize("gate", [-500.0, 500.0])
def test_gates_that_exp_can_not_hold_leave_everything_finite(memory, gate):
    rng = np.random.default_rng(0)
    shapes = [(8, B, N, K)] * 2 + [(8, B, N, V)] * 2
    q, k, v, o = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    i, f = (np.full((8, B, N), a, np.float32) for a in (gate, -1.0))
    s, start = Steps(q, k, v, o, i, f), State(*(np.zeros_like(a, dtype=np.float32) for a in state(rng)))
    with np.errstate(over="ignore"):
        read, end, kept = memory.forward(s, start)
        d = Steps(*(np.zeros_like(a) for a in s))
        dstart = memory.backward(s, read, kept, np.ones_like(read), end, d)
    assert all(np.isfinite(a).all() for a in (read, *end, *d, *dstart))
    assert (abs(read).max() > 0.1) == (gate > 0)


def test_float32_by_chunks_is_as_near_as_step_by_step_where_much_is_forgotten():
    """Sums of log f over a chunk are far below 0 then: in float32 what is read was off by 3e-6, and crossed kinks."""
    rng = np.random.default_rng(1)
    w, start, x = parameters(rng), state(rng), rng.standard_normal((128, B, I)).astype(np.float32)
    w = {name: (5 * p if name in ("weight_i", "weight_f") else p).astype(np.float32) for name, p in w.items()}
    w["bias_f"] -= 20
    start = State(*(f.astype(np.float32) for f in start))
    exact, *found = (
        matrix_memory.forward({name: p.astype(dtype) for name, p in w.items()}, x, start, memory=memory)[0]
        for dtype, memory in ((np.float64, RECURRENT), (np.float32, RECURRENT), (np.float32, chunkwise()))
    )
    steps, chunks = (np.linalg.norm(y - exact) / np.linalg.norm(exact) for y in found)
    assert chunks < max(2 * steps, 1e-6)
