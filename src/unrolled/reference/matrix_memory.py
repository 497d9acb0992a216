"""A layer with a matrix memory, mLSTM (Beck et al. 2024, *xLSTM*, equations 19 to 27), for any dtype.

Every step's queries, keys, values and gates are one product over all steps; only the memory goes from step to step, and
it sees no output. So it is a contract of its own, beside the stages of cells: `Memory`, a pair of functions.
`RECURRENT` is the paper's, step by step; any other (`backends.chunkwise`) is compared with it.

Letters: T steps, B rows of the batch, I inputs, N heads, K the width of a head's keys, V that of its values; H = N V.

Parameters `w` by their local names, with the paper's letters: `weight_q` and `weight_k` (N K, I), `weight_v` and
`weight_o` (N V, I), `weight_i` and `weight_f` (N, I), and a bias beside each, `bias_q` (N K,) and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..cells.ops import sigmoid
from ..checks import Array
from .products import scatter_add


class State(NamedTuple):
    """What a layer remembers. In truth the memory is C exp(m), the normaliser n exp(m)."""

    C: Array
    """Memory (B, N, K, V)."""
    n: Array
    """Normaliser (B, N, K): the memory of a value that is always 1."""
    m: Array
    """Stabiliser (B, N): logarithm of the largest factor that any step's value still has."""


class Steps(NamedTuple):
    """What every step brings; a gradient of it has the same fields."""

    q: Array
    """Queries (T, B, N, K)."""
    k: Array
    """Keys (T, B, N, K)."""
    v: Array
    """Values (T, B, N, V)."""
    o: Array
    """Output gates (T, B, N, V)."""
    i: Array
    """Logarithms of input gates (T, B, N)."""
    f: Array
    """Logarithms of forget gates (T, B, N)."""


def widths(heads: int, keys: int, values: int) -> dict[str, int]:
    """Return how many numbers of each kind a step brings, in the order of `Steps`."""
    return {"q": heads * keys, "k": heads * keys, "v": heads * values, "o": heads * values, "i": heads, "f": heads}


def shapes(inputs: int, heads: int, keys: int, values: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter of a layer.

    Examples
    --------
    >>> shapes(5, 2, 3, 4)["weight_v"]
    (8, 5)
    """
    found: dict[str, tuple[int, ...]] = {}
    for row, width in widths(heads, keys, values).items():
        found |= {f"weight_{row}": (width, inputs), f"bias_{row}": (width,)}
    return found


class Memory(NamedTuple):
    """A way to run the memory, and its gradient."""

    forward: Callable[..., tuple[Array, State, Any]]
    """Steps, State, record -> what is read (T, B, N, V), the new State, and what backward needs if it is to record."""
    backward: Callable[..., State]
    """Steps, what was read, what was kept, its gradient, that of the new State, Steps to fill -> that of the State."""


@dataclass(frozen=True)
class Tape:
    """The tape of a layer's forward pass; plain data.

    Attributes
    ----------
    w : dict of the parameters
    x : (T, B, I) array, or (T, B) integers that stand for one-hot inputs
    live : (T, B) bool or None; False where a row's sequence is over
    steps : Steps; o is the gate itself, i and f are logarithms
    read : (T, B, N, V), what the memory answered to q: y before the output gate
    kept : whatever the memory's backward needs
    memory : Memory
    """

    w: Mapping[str, Array]
    x: Array
    live: Array | None
    steps: Steps
    read: Array
    kept: Any
    memory: Memory


def log_sigmoid(a: Array) -> Array:
    """log(1 / (1 + exp(-a))), of complex numbers too.

    Examples
    --------
    >>> log_sigmoid(np.array([-800.0, 0.0])).tolist()
    [-800.0, -0.6931471805599453]
    """
    negative = a < 0
    return np.asarray(np.where(negative, a, 0) - np.log1p(np.exp(np.where(negative, a, -a))))


def recurrent(s: Steps, start: State, record: bool = True) -> tuple[Array, State, Any]:
    """Run the memory step by step; equations 19 to 21, with the stabiliser of equation 15."""
    steps, dtype = len(s.q), s.v.dtype
    state, read = start, np.empty(s.v.shape, dtype)
    states = State(*(np.empty((steps + 1, *field.shape), dtype) for field in start)) if record else None
    denominators = np.empty((steps, *start.m.shape, 1), dtype)
    for t in range(steps + 1):
        if states is not None:
            for fields, field in zip(states, state, strict=True):
                fields[t] = field
        if t == steps:
            break
        m = np.maximum(s.f[t] + state.m, s.i[t])
        f, i = _gates(s, t, state.m, m)
        n = f * state.n + i * s.k[t]
        C = f[..., None] * state.C + (i * s.k[t])[..., None] * s.v[t][..., None, :]
        state = State(C, n, m)
        shown = (s.q[t] * n).sum(axis=-1, keepdims=True)
        denominators[t] = np.maximum(np.where(shown < 0, -shown, shown), np.exp(-m)[..., None])
        read[t] = (s.q[t][..., None, :] @ C)[..., 0, :] / denominators[t]
    return read, state, (states, denominators)


def _gates(s: Steps, t: int, old: Array, m: Array) -> tuple[Array, Array]:
    """Return the stabilised gates f and i of a step, (B, N, 1)."""
    return np.exp(s.f[t] + old - m)[..., None], np.exp(s.i[t] - m)[..., None]


def recurrent_backward(s: Steps, read: Array, kept: Any, d_read: Array, end: State, d: Steps) -> State:
    """Carry gradients back through all steps; fill those of q, k, v, i and f.

    What is read depends on C exp(m) and n exp(m) alone, not on how m was chosen (docs/maths/mlstm.md): within the
    sequence m is held fixed, and its gradient is that of the two ends.
    """
    states, denominators = kept
    dC, dn, dm = end
    scale = _scaled(State(*(field[-1] for field in states)), dC, dn)
    for t in range(len(s.q) - 1, -1, -1):
        old, new = (State(*(field[at] for field in states)) for at in (t, t + 1))
        f, i = _gates(s, t, old.m, new.m)
        shown = (s.q[t] * new.n).sum(axis=-1, keepdims=True)
        d_product = d_read[t] / denominators[t]
        d_shown = -(d_product * read[t]).sum(axis=-1, keepdims=True) * np.sign(shown)
        d_shown = np.where(abs(shown) > np.exp(-new.m)[..., None], d_shown, 0)
        d.q[t] = (new.C @ d_product[..., None])[..., 0] + d_shown * new.n
        dC = dC + s.q[t][..., None] * d_product[..., None, :]
        dn = dn + d_shown * s.q[t]
        d_key = (dC @ s.v[t][..., None])[..., 0] + dn
        d.k[t] = i * d_key
        d.v[t] = i * (s.k[t][..., None, :] @ dC)[..., 0, :]
        dC, dn = f[..., None] * dC, f * dn
        largest = s.i[t] > s.f[t] + old.m
        d.i[t] = (d.k[t] * s.k[t]).sum(axis=-1) + np.where(largest, dm - scale, 0)
        d.f[t] = _scaled(old, dC, dn) + np.where(largest, 0, dm - scale)
        dm, scale = np.where(largest, 0, dm), np.where(largest, 0, scale)
    first = _scaled(State(*(field[0] for field in states)), dC, dn)
    return State(dC, dn, dm + (first - scale))


def _scaled(s: State, dC: Array, dn: Array) -> Array:
    """Return the gradient (B, N) of the logarithm of a factor of both C and n."""
    total: Array = (s.C * dC).sum(axis=(-2, -1)) + (s.n * dn).sum(axis=-1)
    return total


RECURRENT = Memory(recurrent, recurrent_backward)


def forward(
    w: Mapping[str, Array],
    x: Array,
    start: State,
    live: Array | None = None,
    memory: Memory = RECURRENT,
    *,
    record: bool = True,
) -> tuple[Array, State, Tape | None]:
    """Run a layer.

    Parameters
    ----------
    x : (T, B, I), or (T, B) integers below I
    start : State, which says N, K and V
    live : (T, B) bool, optional
        Steps that are not live change no state; their output is 0.

    Returns
    -------
    y : (T, B, H)
    state : State
    tape : Tape or None
    """
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    weight, bias = _joined(w, start)
    dtype = np.result_type(weight, bias, *start, *([] if x.dtype.kind in "iu" else [x]))
    if x.dtype.kind in "iu":
        product = weight.T[x]
    else:
        product = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], len(bias))
    start = State(*(field.astype(dtype, copy=False) for field in start))
    memory = RECURRENT if dtype.kind == "c" else memory  # which alone takes complex numbers
    with np.errstate(over="ignore"):  # exp(-x) = inf is a closed gate, not a mistake
        a = parts((product + bias).astype(dtype, copy=False), start)
        s = a._replace(o=sigmoid(a.o), f=log_sigmoid(a.f))
        if live is not None:  # a step that isn't there forgets nothing and adds nothing
            s = s._replace(i=np.where(live[..., None], s.i, -np.inf), f=np.where(live[..., None], s.f, 0))
        read, end, kept = memory.forward(s, start, record)
    y = _select(live, (s.o * read).reshape(*x.shape[:2], len(w["bias_o"])))
    return y, end, Tape(w, x, live, s, read, kept, memory) if record else None


def backward(tape: Tape, dy: Array, end: State) -> tuple[Array | None, State, dict[str, Array]]:
    """Carry gradients back through a layer.

    Parameters
    ----------
    dy : (T, B, H)
    end : State
        Gradient of the final state.

    Returns
    -------
    dx : (T, B, I), or None where the inputs were integers
    start : State
        Gradient of the initial state.
    grads : dict
        Gradient of every parameter, under its local name.
    """
    s, x, live = tape.steps, tape.x, tape.live
    weight, bias = _joined(tape.w, end)
    da = np.empty((*x.shape[:2], len(bias)), s.v.dtype)
    d = parts(da, end)
    dh = _select(live, dy).reshape(s.v.shape)
    with np.errstate(over="ignore"):
        start = tape.memory.backward(s, tape.read, tape.kept, dh * s.o, end, d)
    d.o[...] = dh * tape.read * s.o * (1 - s.o)
    d.f[...] *= -np.expm1(s.f)  # of log(sigmoid(a)): 1 - f
    if live is not None:
        d.f[...] = np.where(live[..., None], d.f, 0)
    flat = da.reshape(-1, len(bias))
    if x.dtype.kind in "iu":
        dx, d_weight = None, scatter_add(x.ravel(), flat, weight.shape[1]).T
    else:
        dx, d_weight = (flat @ weight).reshape(x.shape), flat.T @ x.reshape(-1, x.shape[-1])
    grads: dict[str, Array] = {}
    for row, dw, db in zip(Steps._fields, _split(d_weight.T, end), _split(flat.sum(axis=0), end), strict=True):
        grads |= {f"weight_{row}": dw.T, f"bias_{row}": db}
    grads["weight_k"] = grads["weight_k"] * _key_scale(end, weight.dtype)
    return dx, start, grads


def parts(a: Array, like: State) -> Steps:
    """Part (..., 2 N K + 2 N V + 2 N) into views: q, k (..., N, K), v, o (..., N, V), i, f (..., N)."""
    heads = like.C.shape[-3]
    q, k, v, o, i, f = _split(a, like)
    q, k, v, o = (part.reshape(*part.shape[:-1], heads, part.shape[-1] // heads) for part in (q, k, v, o))
    return Steps(q, k, v, o, i, f)


def _split(a: Array, like: State) -> list[Array]:
    """Split the last axis by what a step brings."""
    return np.split(a, np.cumsum([*widths(*like.C.shape[-3:]).values()])[:-1], axis=-1)


def _joined(w: Mapping[str, Array], like: State) -> tuple[Array, Array]:
    """Return weight and bias of all that a step brings; keys are divided by sqrt(K), their biases not (equation 23)."""
    weights = {row: w[f"weight_{row}"] for row in Steps._fields}
    weights["k"] = weights["k"] * _key_scale(like, weights["k"].dtype)
    return np.concatenate(list(weights.values())), np.concatenate([w[f"bias_{row}"] for row in Steps._fields])


def _key_scale(like: State, dtype: Any) -> Any:
    return np.asarray(like.n.shape[-1] ** -0.5, dtype)


def _select(live: Array | None, a: Array) -> Array:
    return a if live is None else np.where(live[..., None], a, a.dtype.type(0))
