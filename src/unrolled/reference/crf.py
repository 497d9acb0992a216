"""A linear-chain conditional random field: sequences of tags, each pair of neighbours with a score of its own.

Letters: T steps, B rows, K tags; e (T, B, K) emissions, A (K, K) transitions from row to column, b, f (K,) scores of
beginning and of ending with a tag. Of tags y in n steps:

    score(y) = b[y_1] + sum_t e[t, y_t] + sum_t A[y_(t-1), y_t] + f[y_n];    p(y) = exp(score(y)) / Z

Z sums over all K^n sequences, by the forward recursion (Rabiner 1989, section III), in logarithms:

    alpha[1, j] = b[j] + e[1, j];    alpha[t, j] = e[t, j] + log sum_i exp(alpha[t-1, i] + A[i, j])
    beta[n, i] = f[i];               beta[t, i] = log sum_j exp(A[i, j] + e[t+1, j] + beta[t+1, j])

so that log Z = log sum_j exp(alpha[n, j] + f[j]), and exp(alpha + beta - log Z) is the probability of a tag at a step.
Sources: Lafferty, McCallum & Pereira 2001; as the last layer of a network, Collobert et al. 2011 (section 3.3.2) and
Lample et al. 2016 (section 2.3).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array, as_floats, as_numbers, check_indices, check_shape
from ..errors import UnrolledError

SCORES = "transitions", "begin", "end"
"""The parameters of a chain, (K, K), (K,) and (K,)."""


class _Chain(NamedTuple):
    """What is given, checked: emissions with zeros in padding; all scores in float64, or complex128 in proofs."""

    emissions: Array
    transitions: Array
    begin: Array
    end: Array
    lengths: Array
    live: Array
    """Steps within their row's length, (T, B)."""
    dtypes: list[Any]
    """Those of the scores as they were given; where one is complex, of all."""

    @property
    def scores(self) -> tuple[Array, ...]:
        """Emissions, transitions, begin and end."""
        return self[:4]


def _take(emissions: Any, lengths: Any, transitions: Any, begin: Any, end: Any) -> _Chain:
    """Check what is given; sums over many steps are taken in float64, whatever the emissions' precision."""
    e = as_floats("emissions", emissions, 3)
    if e.ndim != 3 or not e.shape[-1]:
        raise UnrolledError(f"emissions have shape {e.shape}; expected (T, B, K), of one tag or more")
    steps, rows, tags = e.shape
    scores = [e]
    for name, given, shape in zip(SCORES, (transitions, begin, end), ((tags, tags), (tags,), (tags,)), strict=True):
        scores.append(as_floats(name, given))
        check_shape(name, scores[-1], shape, f"emissions of shape {e.shape}")
    n = np.full(rows, steps) if lengths is None else check_indices("lengths", lengths, steps + 1).astype(np.int64)
    check_shape("lengths", n, (rows,), f"emissions of shape {e.shape}")
    live = np.arange(steps)[:, None] < n
    dtype = np.result_type(np.float64, *scores)
    dtypes = [dtype if dtype.kind == "c" else a.dtype for a in scores]
    scores[0] = np.where(live[..., None], e, e.dtype.type(0))
    e, transitions, begin, end = (a.astype(dtype) for a in scores)
    return _Chain(e, transitions, begin, end, n, live, dtypes)


def _log_sum(scores: Array, axis: int) -> Array:
    """Return log sum exp over an axis; of complex scores (the proofs), the largest is that of the real parts."""
    most = scores.max(axis=axis, keepdims=True)
    return np.asarray(np.log(np.exp(scores - most).sum(axis=axis)) + most.squeeze(axis))


class _Links:
    """log sum_i exp(s[b, i] + A[i, j]) for all rows b at once, and the sum over pairs that is its gradient.

    One product of matrices, exp(s - max s) @ exp(A - max A), is many times as fast as K x K exponentials a row. No sum
    in it is below exp(-r), r the range of A, and what is lost of a sum by underflow is less than K times the least
    normal number, m; so where exp(-r) >= sqrt(m) (r <= 354 in float64) the error is below K sqrt(m) = K 1e-154 of each
    sum. Beyond that (forbidden transitions of -10,000) every pair is an exponential of its own.
    """

    def __init__(self, transitions: Array) -> None:
        self.transitions, self.top = transitions, transitions.max()
        least = np.finfo(transitions.dtype).tiny
        self.safe = bool(np.ptp(transitions.real) <= -math.log(least) / 2)  # of NaN: not, and NaN comes out
        self.weight = np.exp(transitions - self.top) if self.safe else None

    def onward(self, scores: Array) -> Array:
        """Scores (B, K) of tags at a step -> those of the tags after it."""
        if self.weight is None:
            return _log_sum(scores[:, :, None] + self.transitions, axis=1)
        most = scores.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.exp(scores - most) @ self.weight) + (most + self.top))

    def pairs(self, before: Array, after: Array) -> Array:
        """Return the sum over rows of exp(before[n, i] + A[i, j] + after[n, j]), (K, K), each at most 1."""
        if self.weight is None:
            chunks = (slice(k, k + 64) for k in range(0, len(before), 64))  # rows at a time, for the memory
            parts = (before[rows, :, None] + self.transitions + after[rows, None, :] for rows in chunks)
            return np.asarray(sum((np.exp(part).sum(axis=0) for part in parts), np.zeros_like(self.transitions)))
        most = before.max(axis=1, keepdims=True)
        return np.asarray(self.weight * (np.exp(before - most).T @ np.exp(after + (most + self.top))))


def _forward(chain: _Chain, links: _Links) -> tuple[Array, Array]:
    """Return alpha (T, B, K), which behind a row's end stays what it was there, and log Z (B,)."""
    alpha = np.empty_like(chain.emissions)
    for t, (e, live) in enumerate(zip(chain.emissions, chain.live[..., None], strict=True)):
        alpha[t] = np.where(live, links.onward(alpha[t - 1]) + e, alpha[t - 1]) if t else chain.begin + e
    return alpha, _log_sum(alpha[-1] + chain.end, axis=1)


def _backward(chain: _Chain) -> Array:
    """Return beta (T, B, K); behind a row's end it is `end`, as at its last step."""
    links, beta = _Links(np.ascontiguousarray(chain.transitions.T)), np.empty_like(chain.emissions)
    beta[-1] = chain.end
    for t in reversed(range(len(beta) - 1)):
        beta[t] = np.where(chain.live[t + 1, :, None], links.onward(chain.emissions[t + 1] + beta[t + 1]), chain.end)
    return beta


def crf(
    emissions: Any,
    targets: Any,
    lengths: Any,
    transitions: Any,
    begin: Any,
    end: Any,
    *,
    gradient: bool = True,
) -> tuple[Any, Array, dict[str, Array]]:
    """Negative log-likelihood of tagged sequences, in nats a step: sum over rows of log Z - score(y), over all steps.

    Its gradient is that of softmax cross-entropy with other probabilities: what is expected, less what is there.

    Parameters
    ----------
    emissions : (T, B, K)
    targets : (T, B) integers below K
    lengths : (B,) integers or None
        Steps of each row. What stands behind them is never looked at; a row of 0 steps counts nothing.
    transitions : (K, K)
        Scores from row to column.
    begin, end : (K,)
        Scores of the first tag and of the last.
    gradient : bool
        Without it only the loss is worked out, and the gradients hold zeros.

    Returns
    -------
    loss : float
    demissions : (T, B, K)
    gradients : dict
        Of "transitions", "begin" and "end".

    Raises
    ------
    UnrolledError
        If shapes don't fit, a target is no tag, or there is no step.

    Examples
    --------
    >>> e, zero = np.zeros((3, 1, 4)), np.zeros(4)
    >>> loss, demissions, gradients = crf(e, [[2], [0], [1]], None, np.zeros((4, 4)), zero, zero)
    >>> round(loss, 4), gradients["begin"].round(4)  # all tags are as likely: log 4 a step
    (1.3863, array([ 0.0833,  0.0833, -0.25  ,  0.0833]))
    """
    chain = _take(emissions, lengths, transitions, begin, end)
    y = as_numbers("targets", targets)
    check_shape("targets", y, chain.live.shape, f"emissions of shape {chain.emissions.shape}")
    y = check_indices("targets", np.where(chain.live, y, y.dtype.type(0)), chain.emissions.shape[-1])
    words = int(chain.lengths.sum())
    if not words:
        raise UnrolledError(f"emissions have shape {chain.emissions.shape}, and no live step; a mean needs 1 or more")
    links = _Links(chain.transitions)
    alpha, log_z = _forward(chain, links)
    there = chain.lengths > 0
    loss = (log_z[there].sum() - _score(chain, y)) / words
    sums = _slopes(chain, links, y, alpha, log_z) if gradient else [np.zeros_like(a) for a in chain.scores]
    de, *rest = ((d / words).astype(kind) for d, kind in zip(sums, chain.dtypes, strict=True))
    return (loss if np.iscomplexobj(loss) else float(loss)), de, dict(zip(SCORES, rest, strict=True))


def _score(chain: _Chain, y: Array) -> Any:
    """Return the sum of the scores of all rows' targets."""
    rows = np.flatnonzero(chain.lengths)
    pairs = chain.live[1:]
    picked = np.take_along_axis(chain.emissions, y[..., None], axis=-1)[chain.live].sum()
    ends = chain.begin[y[0, rows]].sum() + chain.end[y[chain.lengths[rows] - 1, rows]].sum()
    return picked + ends + chain.transitions[y[:-1][pairs], y[1:][pairs]].sum()


def _slopes(chain: _Chain, links: _Links, y: Array, alpha: Array, log_z: Array) -> list[Array]:
    """Return gradients of the sum over rows: how often each tag and each pair is expected, less how often it is."""
    rows, tags, pairs = np.flatnonzero(chain.lengths), chain.emissions.shape[-1], chain.live[1:]
    beta = _backward(chain)
    more = np.where(chain.live[..., None], np.exp(alpha + beta - log_z[:, None]) - np.eye(tags)[y], 0)
    expected = links.pairs(alpha[:-1][pairs], (chain.emissions[1:] + beta[1:] - log_z[:, None])[pairs])
    counts = np.bincount(y[:-1][pairs] * tags + y[1:][pairs], minlength=tags * tags).reshape(tags, tags)
    return [more, expected - counts, more[0, rows].sum(axis=0), more[chain.lengths[rows] - 1, rows].sum(axis=0)]


def marginals(emissions: Any, lengths: Any, transitions: Any, begin: Any, end: Any) -> Array:
    """Return the probability of each tag at each step, (T, B, K), all others left open; 0 in padding.

    Parameters
    ----------
    emissions, lengths, transitions, begin, end
        As in `crf`.

    Examples
    --------
    >>> e = np.log([[[1.0, 3.0]], [[1.0, 1.0]]])
    >>> marginals(e, None, np.log([[1.0, 1.0], [2.0, 1.0]]), np.zeros(2), np.zeros(2))[:, 0].round(4).tolist()
    [[0.1818, 0.8182], [0.6364, 0.3636]]
    """
    chain = _take(emissions, lengths, transitions, begin, end)
    if not chain.live.size:
        return chain.emissions
    alpha, log_z = _forward(chain, _Links(chain.transitions))
    return np.where(chain.live[..., None], np.exp(alpha + _backward(chain) - log_z[:, None]), 0)


def viterbi(emissions: Any, lengths: Any, transitions: Any, begin: Any, end: Any) -> Array:
    """Return the likeliest tags of each row, (T, B), all together (Viterbi 1967); 0 in padding.

    Of several that are as likely, one. Where marginals choose each tag by itself, this chooses a sequence.

    Parameters
    ----------
    emissions, lengths, transitions, begin, end
        As in `crf`.

    Examples
    --------
    >>> never_twice = np.array([[-9.0, 0.0], [0.0, -9.0]])
    >>> viterbi(np.array([[[2.0, 0.0]], [[1.0, 0.0]], [[2.0, 0.0]]]), None, never_twice, np.zeros(2), np.zeros(2)).T
    array([[0, 1, 0]])
    """
    chain = _take(emissions, lengths, transitions, begin, end)
    e, transitions, begin, end = (a.real for a in chain.scores)
    paths, best = np.zeros(chain.live.shape, np.int64), np.empty_like(e)
    if not chain.live.size:
        return paths
    best[0] = begin + e[0]  # (T, B, K), the score of the best sequence so far that ends with a tag
    for t in range(1, len(e)):
        onward = (best[t - 1][:, :, None] + transitions).max(axis=1) + e[t]
        best[t] = np.where(chain.live[t, :, None], onward, best[t - 1])
    tag = (best[-1] + end).argmax(axis=1)
    for t in reversed(range(len(e))):  # which tag led there is looked up for the tags of the path alone
        paths[t] = np.where(chain.live[t], tag, 0)
        if t:
            tag = np.where(chain.live[t], (best[t - 1] + transitions[:, tag].T).argmax(axis=1), tag)
    return paths
