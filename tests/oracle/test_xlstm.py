"""The matrix memory beside its authors' plain PyTorch, where that is installed: the packages xlstm and mlstm_kernels.

Theirs add `eps` (1e-6) to the denominator; it is 0 here, and what it changes is a test. The kernels divide queries by
sqrt(K) instead of keys, as does xlstm's chunkwise form, so their C and n are ours times sqrt(K).
"""

import numpy as np
import pytest

from unrolled.backends.chunkwise import chunkwise
from unrolled.reference.matrix_memory import RECURRENT, State, Steps, log_sigmoid

torch = pytest.importorskip("torch")
simple = pytest.importorskip("xlstm.blocks.mlstm.backends")
native = pytest.importorskip("mlstm_kernels.torch.chunkwise.native.fwbw")
sequence = pytest.importorskip("mlstm_kernels.torch.recurrent.native_sequence")

T, B, N, K = 12, 3, 2, 4
EXACT = 1e-13
"""Some hundred roundings of float64, relative to an array's largest entry; 1e-15 is typical."""
INPUTS, STATE = ("q", "k", "v", "i", "f"), State._fields


def problem(given=True, values=6):
    """Inputs (T, B, N, ...), f before its sigmoid; a state, and gradients of what is read and of the final state."""
    rng = np.random.default_rng(0)
    shapes = [(T, B, N, K)] * 2 + [(T, B, N, values)] + [(T, B, N)] * 2
    x = {name: rng.standard_normal(shape) for name, shape in zip(INPUTS, shapes, strict=True)}
    start = State(*(rng.standard_normal(s) for s in ((B, N, K, values), (B, N, K), (B, N))))
    end = State(*(rng.standard_normal(f.shape) for f in start))
    if not given:
        start, end = (State(*(np.zeros_like(f) for f in s)) for s in (start, end))
    return x, start, rng.standard_normal(x["v"].shape), end


def ours(x, start, dy, end, memory=RECURRENT):
    """What is read and the final state, and gradients of all that went in."""
    f = log_sigmoid(x["f"])
    s = Steps(x["q"], x["k"] / K**0.5, x["v"], np.ones_like(x["v"]), x["i"], f)
    read, new, kept = memory.forward(s, start)
    d = Steps(*(np.empty_like(a) for a in s))
    dstart = memory.backward(s, read, kept, dy, end, d)
    d = d._replace(k=d.k / K**0.5, f=d.f * (1 - np.exp(f)))
    found = {"y": read} | new._asdict() | {f"d{name}": getattr(d, name) for name in INPUTS}
    return found | {f"d{name}": f for name, f in dstart._asdict().items()}


def theirs(function, x, start, dy, end, **how):
    """The same of a function of theirs, (B, N, T, ...), by autograd."""
    heads = {name: torch.from_numpy(np.moveaxis(a, 0, 2).copy()).requires_grad_() for name, a in x.items()}
    fields = {name: torch.from_numpy(f.copy()).requires_grad_() for name, f in start._asdict().items()}
    h, new = function(*heads.values(), *fields.values(), **how)
    loss = (h * torch.from_numpy(np.moveaxis(dy, 0, 2).copy())).sum()
    found = {"y": h}
    if new is not None:
        found |= {name: f.reshape(getattr(start, name).shape) for name, f in zip(STATE, new, strict=True)}
        loss = loss + sum((found[name] * torch.from_numpy(getattr(end, name))).sum() for name in STATE)
    loss.backward()
    found |= {f"d{name}": a.grad for name, a in (heads | (fields if new is not None else {})).items()}
    arrays = {name: a.detach().numpy() for name, a in found.items()}
    return {name: np.moveaxis(a, 2, 0) if name.strip("d") in (*INPUTS, "y") else a for name, a in arrays.items()}


def parallel(q, k, v, i, f, C, n, m, eps=0.0):
    return simple.parallel_stabilized_simple(q, k, v, i[..., None], f[..., None], eps=eps), None


def recurrent(q, k, v, i, f, C, n, m, eps=0.0):
    state, read = (C, n[..., None], m[..., None, None]), []
    for t in range(T):
        at = slice(t, t + 1)  # theirs writes to the shapes of what it is given
        step = (a[:, :, at].clone() for a in (q, k, v))
        h, state = simple.recurrent_step_stabilized_simple(*state, *step, i[:, :, at, None], f[:, :, at, None], eps=eps)
        read.append(h)
    return torch.cat(read, 2), state


def chunks(q, k, v, i, f, C, n, m):
    h, (C, n, m) = simple.chunkwise_simple(
        *(q, k, v, i, f, C * K**0.5, n * K**0.5, m), chunk_size=4, return_last_state=True, eps=0.0
    )
    return h, (C / K**0.5, n / K**0.5, m)


def kernel(run):
    """A kernel, with keys in the state as ours."""

    def function(q, k, v, i, f, C, n, m, eps=0.0):
        more = {"dtype_state": torch.float64} if run is sequence.mlstm_recurrent_sequence__native_fw else {}
        h, (C, n, m) = run(
            *(q, k, v, i, f, C * K**0.5, n * K**0.5, m[..., None]), return_last_states=True, eps=eps, **more
        )
        return h, (C / K**0.5, n / K**0.5, m)

    return function


def chunked(run):
    return kernel(lambda *args, **kw: run(*args, chunk_size=4, **kw))


def errors(ours, theirs):
    """Largest difference of each array, relative to its largest entry."""
    return {name: abs(a - ours[name]).max() / abs(ours[name]).max() for name, a in theirs.items()}


@pytest.mark.parametrize(
    ("function", "given", "values"),
    [
        pytest.param(parallel, False, 6, id="xlstm, parallel"),
        pytest.param(recurrent, True, 6, id="xlstm, recurrent"),
        pytest.param(chunks, True, K, id="xlstm, chunkwise"),  # of keys as wide as values alone
        pytest.param(kernel(sequence.mlstm_recurrent_sequence__native_fw), True, 6, id="mlstm_kernels, recurrent"),
        pytest.param(chunked(native.mlstm_chunkwise__native_autograd), True, 6, id="mlstm_kernels, chunkwise"),
    ],
)
@pytest.mark.parametrize("memory", [RECURRENT, chunkwise(5)], ids=["recurrent", "chunkwise"])
def test_outputs_states_and_gradients_are_the_authors(function, given, values, memory):
    case = problem(given, values)
    found = theirs(function, *case)
    assert len(found) == (12 if given else 6)
    wrong = {name: error for name, error in errors(ours(*case, memory), found).items() if not error < EXACT}
    assert wrong == {}


def test_their_eps_is_a_difference_of_some_millionths():
    case = problem(given=False)
    apart = errors(ours(*case), theirs(parallel, *case, eps=1e-6))
    assert 1e-7 < apart["y"] < 1e-5
    assert max(apart.values()) < 1e-4


def test_their_own_backward_leaves_the_normaliser_out():
    """Right where a norm of each head follows, which is blind to the length of h; else it is another gradient."""
    x, start, dy, end = problem(given=False)
    read = ours(x, start, dy, end)["y"]
    custom, autograd = (
        chunked(f) for f in (native.mlstm_chunkwise__native_custbw, native.mlstm_chunkwise__native_autograd)
    )

    def apart(function, dy):
        found = theirs(lambda *a, **kw: (function(*a, **kw)[0], None), x, start, dy, end)
        return errors(ours(x, start, dy, end), found)

    assert max(apart(autograd, dy).values()) < EXACT
    assert apart(custom, dy)["df"] > 0.1
    across = dy - read * ((dy * read).sum(axis=-1) / (read * read).sum(axis=-1))[..., None]
    assert max(apart(custom, across).values()) < 1e-12
