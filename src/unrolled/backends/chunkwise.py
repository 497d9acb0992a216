"""A matrix memory by chunks of steps: products within a chunk, and one from chunk to chunk (docs/maths/mlstm.md).

Within a chunk that begins with the memory C and the stabiliser m, b being the sum of log f so far and r = log i - b,

    u_t = max(m, r_1, ..., r_t)          m_t = b_t + u_t
    W_tj = exp(r_j - u_t), j <= t        w_t = exp(m - u_t)
    numerators = (q k^T * W) v + w * (q C)

The normaliser is one more column of v, all ones, and of C. Letters as in `reference.matrix_memory`, and L steps a
chunk; arrays within one are (B, N, L, ...).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array
from ..reference.matrix_memory import Memory, State, Steps

CHUNK = 32
"""Steps a chunk. The products within grow with it, those from chunk to chunk shrink (benchmarks/mlstm.py)."""


class Chunk(NamedTuple):
    """What is kept of a chunk."""

    memory: Array
    """C and n at its beginning, side by side (B, N, K, V + 1)."""
    weights: Array
    """W (B, N, L, L): what is left of each step's value at each later one."""
    mixed: Array
    """q k^T * W."""
    through: Array
    """w (B, N, L): what is left of the memory at each step."""
    denominators: Array
    """(B, N, L)."""
    sign: Array
    """That of what the normaliser shows, (B, N, L); 0 where the denominator is exp(-m)."""
    largest: Array
    """(B, N): the step whose r is the largest; -1 where it is m."""


def forward(s: Steps, start: State, record: bool = True, size: int = CHUNK) -> tuple[Array, State, Any]:
    """Run the memory, as `reference.matrix_memory.recurrent`."""
    memory, m = np.concatenate([start.C, start.n[..., None]], axis=-1), start.m
    dtype, kept = s.v.dtype, []
    read = np.empty(s.v.shape, dtype)
    for at in _chunks(len(read), size):
        q, k, v, i, f = _part(s, at)
        b = np.cumsum(f, axis=-1, dtype=np.float64)  # may be far below 0, and all that counts are differences
        r = i - b
        u = np.maximum(np.maximum.accumulate(r, axis=-1), m[..., None])
        largest = np.where(r.max(axis=-1) > m, r.argmax(axis=-1), -1)
        new = (b[..., -1] + u[..., -1]).astype(dtype)
        u[..., -1] = new - b[..., -1]  # what is handed on is scaled by this very m
        weights = (r[..., None, :] - u[..., None]).astype(dtype)
        weights += _future(weights.shape[-1], dtype)
        np.exp(weights, out=weights)
        through = np.exp(m[..., None] - u).astype(dtype)
        mixed = q @ k.mT
        mixed *= weights
        numerators = mixed @ v + through[..., None] * (q @ memory)
        shown, least = numerators[..., -1], np.exp(-b - u).astype(dtype)
        denominators = np.maximum(abs(shown), least)
        read[at] = _in_time(numerators[..., :-1] / denominators[..., None])
        if record:
            sign = np.where(abs(shown) > least, np.sign(shown), 0)
            kept.append(Chunk(memory, weights, mixed, through, denominators, sign, largest))
        memory = through[..., -1, None, None] * memory + k.mT @ (weights[..., -1, :, None] * v)
        m = new
    end = State(memory[..., :-1].copy(), memory[..., -1].copy(), m)
    return read, end, (memory, kept)


def backward(s: Steps, read: Array, kept: Any, d_read: Array, end: State, d: Steps, size: int = CHUNK) -> State:
    """Carry gradients back through all chunks, as `reference.matrix_memory.recurrent_backward`."""
    memory, chunks = kept
    d_memory, dm = np.concatenate([end.C, end.n[..., None]], axis=-1), end.m
    total = scale = _sum(memory * d_memory)
    for at, c in zip(list(_chunks(len(read), size))[::-1], chunks[::-1], strict=True):
        q, k, v, _, _ = _part(s, at)
        g, g_read = _by_head(d_read[at]), _by_head(d_read[at] * read[at]).sum(axis=-1)
        down = np.concatenate([g, (-c.sign * g_read)[..., None]], axis=-1) / c.denominators[..., None]
        last, through = c.weights[..., -1, :, None], c.through[..., None]
        d_values = c.mixed.mT @ down + last * (k @ d_memory)
        d_mixed = down @ v.mT
        d_mixed *= c.weights
        d.q[at] = _in_time(d_mixed @ k + through * (down @ c.memory.mT))
        d.k[at] = _in_time(d_mixed.mT @ q + (last * v) @ d_memory.mT)
        d.v[at] = _in_time(d_values[..., :-1])
        di = (d_values * v).sum(axis=-1, dtype=np.float64)  # i_j is a factor of all that value j goes into,
        db = np.where(c.sign == 0, g_read, 0) - di  # b_t of all that is read at t; but 1 / b_t of value t
        df = np.cumsum(db[..., ::-1], axis=-1)[..., ::-1] + total[..., None]
        step, top = np.arange(df.shape[-1]), c.largest[..., None]
        share = (dm - scale)[..., None]
        d.i[at] = _in_time(di + np.where(step == top, share, 0))
        d.f[at] = _in_time(df + np.where(step > top, share, 0))
        dm, scale = (np.where(c.largest < 0, a, 0) for a in (dm, scale))
        d_memory = (through * q).mT @ down + through[..., -1:, :] * d_memory
        total = _sum(c.memory * d_memory)
    return State(d_memory[..., :-1].copy(), d_memory[..., -1].copy(), dm + (total - scale))


def _chunks(steps: int, size: int) -> Iterator[slice]:
    """Yield the steps of each chunk."""
    return (slice(begin, min(begin + size, steps)) for begin in range(0, steps, size))


def _part(s: Steps, at: slice) -> tuple[Array, Array, Array, Array, Array]:
    """Return q, k (B, N, L, K), v (B, N, L, V + 1) with its column of ones, log i and log f (B, N, L) of some steps."""
    q, k, v, i, f = (_by_head(a[at]) for a in (s.q, s.k, s.v, s.i, s.f))
    return q, k, np.concatenate([v, np.ones((*v.shape[:-1], 1), v.dtype)], axis=-1), i, f


def _by_head(a: Array) -> Array:
    """(L, B, N, ...) -> (B, N, L, ...)."""
    return a.transpose(1, 2, 0, *range(3, a.ndim))


def _in_time(a: Array) -> Array:
    """(B, N, L, ...) -> (L, B, N, ...)."""
    return a.transpose(2, 0, 1, *range(3, a.ndim))


def _future(size: int, dtype: Any) -> Array:
    """Return what is added to logarithms (L, L): 0, and -inf where a step has not come yet."""
    return np.triu(np.full((size, size), -np.inf, dtype), 1)


def _sum(a: Array) -> Array:
    total: Array = a.sum(axis=(-2, -1))
    return total


def chunkwise(size: int = CHUNK) -> Memory:
    """Return the memory by chunks of so many steps."""
    return Memory(partial(forward, size=size), partial(backward, size=size))
