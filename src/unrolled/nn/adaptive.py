"""The adaptive softmax: frequent classes in one softmax, rare ones in clusters behind it, with fewer numbers a class.

Source: Grave, Joulin, Cissé, Grangier & Jégou 2017, Efficient softmax approximation for GPUs. Classes are numbered by
falling frequency. Those below the first limit, and a stand-in for each cluster, share a softmax; a class w of cluster i
has p(w) = p(stand-in of i) p(w | i), and the softmax of p(w | i) reads the state through a projection to few numbers:
most steps never touch it.

The decoder's K outputs are the logits of the first softmax, (l_0 + n), and behind them the projections for each of the
n clusters, widths d_1 to d_n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Backend
from ..checks import Array, as_numbers, check_size
from ..errors import UnrolledError, brief
from ..reference import losses
from .heads import LANGUAGE, Head
from .inputs import known
from .pools import EVERY, Params, Shapes
from .spec import Spec

SHRINK = 4
"""How many times fewer numbers a cluster reads than the one before it."""
FEWEST = SHRINK**2
"""Symbols, at least, for limits of its own choice to rise."""


class Clusters(NamedTuple):
    """How classes are cut.

    Attributes
    ----------
    limits : tuple of int
        l_0, l_1, ..., V: class w is in cluster i if l_(i - 1) <= w < l_i, in the first softmax if w < l_0.
    widths : tuple of int
        d_i, numbers that cluster i reads.
    """

    limits: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def first(self) -> int:
        """Outputs of the first softmax."""
        return self.limits[0] + len(self.widths)

    @property
    def outputs(self) -> int:
        """K, outputs of the decoder."""
        return self.first + sum(self.widths)

    def parts(self) -> Iterator[tuple[int, int, slice, str]]:
        """Yield of every cluster its first class, the one behind its last, its columns of the outputs, its weight."""
        at = self.first
        for i, width in enumerate(self.widths):
            yield self.limits[i], self.limits[i + 1], slice(at, at + width), f"head.cluster_{i + 1}"
            at += width


def adaptive(limits: Sequence[int], widths: Sequence[int]) -> Head:
    """Return the head of one of V classes at every step, by falling frequency, with an adaptive softmax.

    Parameters
    ----------
    limits : n + 1 whole numbers, rising
        Where clusters end: l_0, ..., V.
    widths : n whole numbers
        Numbers that each cluster reads.

    Raises
    ------
    UnrolledError
        If limits do not rise, or there is not one more of them than of widths.

    Examples
    --------
    >>> head = adaptive((5, 9, 20), (4, 2))
    >>> head.outputs, head.shapes(8, head.outputs)
    (13, {'head.cluster_1': (4, 4), 'head.cluster_2': (11, 2)})
    """
    cut = Clusters(
        tuple(check_size("a limit", limit) for limit in limits), tuple(check_size("a width", width) for width in widths)
    )
    if len(cut.limits) != len(cut.widths) + 1 or not cut.widths or sorted(set(cut.limits)) != list(cut.limits):
        said = f"limits are {brief(list(limits))}, widths {brief(list(widths))}"
        raise UnrolledError(f"{said}; expected rising limits, one more than widths")
    return Head(
        *EVERY[:2],
        partial(adaptive_cross_entropy, clusters=cut),
        cut.outputs,
        partial(likeliest_of_clusters, clusters=cut),
        partial(_shapes, clusters=cut),
        scores=partial(log_probabilities, clusters=cut),
        classes=cut.limits[-1],
    )


def of_first(head: Head, counts: Array) -> Array:
    """Return counts (V,) of classes as those of what the first softmax tells apart: with clusters, each of them is one.

    Examples
    --------
    >>> of_first(adaptive((2, 4, 6), (2, 1)), np.array([9, 5, 3, 2, 1, 1]))
    array([9, 5, 5, 2])
    """
    if not head.classes:
        return counts
    cut: Clusters = head.scores.keywords["clusters"]  # type: ignore[attr-defined]  # a partial, above
    return np.append(counts[: cut.limits[0]], [counts[first:end].sum() for first, end, _, _ in cut.parts()])


def of_spec(spec: Spec, head: Head | None) -> Head | None:
    """Return the head of a network: a language model's softmax is its description's, any other head stays.

    Raises
    ------
    UnrolledError
        If an adaptive softmax is asked for where there are no symbols to predict, or too few, or the decoder is tied.
    """
    if spec.softmax == "full" or (head is not None and head.classes):
        return head
    if head not in (None, LANGUAGE):
        raise UnrolledError(f"softmax is {spec.softmax!r}; only language models have it, for their many words")
    if spec.tied:
        raise UnrolledError("an adaptive softmax has no weight of the embedding's shape; leave out tied, or softmax")
    size, width = spec.vocabulary_size, spec.stack().output_size
    given = [int(limit) for limit in spec.softmax.partition(":")[2].split(",") if limit]
    limits = [*(given or (size // SHRINK**2, size // SHRINK)), size]
    if not given and size < FEWEST:
        raise UnrolledError(f"an adaptive softmax needs {FEWEST} symbols or more; there are {size}")
    if sorted(set(limits)) != limits or not limits[0]:
        raise UnrolledError(
            f"limits of the softmax are {brief(limits[:-1])}; expected rising ones, below {size:,} symbols"
        )
    return adaptive(limits, [max(1, width // SHRINK**i) for i in range(1, len(limits))])


def _shapes(width: int, outputs: int, *, clusters: Clusters) -> Shapes:
    """Return the weight of every cluster, (classes, d)."""
    return {name: (last - first, at.stop - at.start) for first, last, at, name in clusters.parts()}


def adaptive_cross_entropy(
    backend: Backend,
    outputs: Array,
    targets: Any,
    weights: Any = None,
    *,
    params: Params,
    clusters: Clusters,
    gradient: bool = True,
    **_: Any,
) -> tuple[Any, Array, Params]:
    """Mean cross-entropy in nats, its gradient by outputs (..., K), and that of the clusters' weights.

    -log p(w) = CE(first softmax, w or its cluster) + CE(the cluster's softmax, w), this for rows whose target is there.
    """
    rows, y = outputs.reshape(-1, outputs.shape[-1]), as_numbers("targets", targets)
    if y.shape != outputs.shape[:-1] or not y.size:
        raise UnrolledError(f"targets have shape {y.shape}, outputs {outputs.shape}; expected the same, not empty")
    w = np.ones(y.size) if weights is None else as_numbers("weights", weights).ravel()
    live = np.flatnonzero(w > 0)  # of the others, targets may be anything
    rows, y, w = rows[live], known("targets", y.ravel()[live][None], clusters.limits[-1])[0], w[live]
    cluster = np.searchsorted(clusters.limits, y, side="right")
    stand_ins = np.where(cluster, clusters.limits[0] + cluster - 1, y)
    loss, first = backend.cross_entropy(rows[:, : clusters.first], stand_ins, weights=w, gradient=gradient)
    d: Array = np.zeros_like(rows)
    grads: dict[str, Array] = {}
    d[:, : clusters.first] = first
    for i, (begin, _end, at, name) in enumerate(clusters.parts(), 1):
        mine, grads[name] = np.flatnonzero(cluster == i), np.zeros_like(params[name])
        if not len(mine):
            continue
        read, share = np.ascontiguousarray(rows[mine, at]), w[mine].sum() / w.sum()
        logits = backend.linear(params[name], None, read)
        more, dlogits = backend.cross_entropy(
            logits, y[mine] - begin, weights=w[mine], gradient=gradient, overwrite=True
        )
        loss += share * more
        if gradient:
            dlogits = dlogits * d.real.dtype.type(share)
            d[mine, at], grads[name], _bias = backend.linear_backward(params[name], read, dlogits)
    whole = np.zeros(outputs.shape, d.dtype)
    whole.reshape(-1, outputs.shape[-1])[live] = d
    return loss if np.iscomplexobj(loss) else float(loss), whole, grads


def log_probabilities(outputs: Array, params: Params, *, clusters: Clusters) -> Array:
    """Return the logarithm of every class's probability, (..., V)."""
    first = losses.log_softmax(outputs[..., : clusters.first])
    found = [first[..., : clusters.limits[0]]]
    for i, (_, _, at, name) in enumerate(clusters.parts()):
        stand_in = first[..., clusters.limits[0] + i, None]
        found.append(stand_in + losses.log_softmax(outputs[..., at] @ params[name].T))
    return np.concatenate(found, axis=-1)


def likeliest_of_clusters(
    outputs: Array, lengths: Array | None = None, params: Params | None = None, *, clusters: Clusters
) -> Array:
    """Return the likeliest class (...)."""
    return np.asarray(log_probabilities(outputs, params or {}, clusters=clusters).argmax(axis=-1))
