"""Figures of classes: accuracy, precision, recall and F1 of each class, their mean, the confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..checks import Array


class Hits(NamedTuple):
    """What was found of a class, or of a type of spans.

    Attributes
    ----------
    name : str
    right : int
        How many were predicted, and are.
    predicted : int
    there : int

    Examples
    --------
    >>> hits = Hits("NOUN", right=3, predicted=4, there=6)
    >>> hits.precision, hits.recall, round(hits.f1, 4)
    (0.75, 0.5, 0.6)
    """

    name: str
    right: int
    predicted: int
    there: int

    @property
    def precision(self) -> float:
        """Share of what was predicted that is right; 0 where nothing was."""
        return self.right / max(1, self.predicted)

    @property
    def recall(self) -> float:
        """Share of what is there that was found; 0 where nothing is."""
        return self.right / max(1, self.there)

    @property
    def f1(self) -> float:
        """Harmonic mean of both, 2 right / (predicted + there)."""
        return 2 * self.right / max(1, self.predicted + self.there)


def confusion(true: Any, predicted: Any, classes: int) -> Array:
    """Return how often each class (a row) was taken for each (a column), (K, K).

    Examples
    --------
    >>> confusion([0, 1, 1, 2], [0, 1, 2, 2], 3).tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    """
    pairs = np.asarray(true, np.int64) * classes + np.asarray(predicted, np.int64)
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def accuracy(counts: Array) -> float:
    """Return the share of a confusion matrix that is right."""
    return float(np.trace(counts) / max(1, counts.sum()))


def by_class(counts: Array, names: Sequence[str]) -> list[Hits]:
    """Return what was found of each class, from a confusion matrix.

    Examples
    --------
    >>> [hits.right for hits in by_class(np.array([[3, 1], [0, 2]]), ["a", "b"])]
    [3, 2]
    """
    numbers = zip(np.diag(counts).tolist(), counts.sum(axis=0).tolist(), counts.sum(axis=1).tolist(), strict=True)
    return [Hits(name, *row) for name, row in zip(names, numbers, strict=True)]


def macro_f1(hits: Iterable[Hits]) -> float:
    """Return the mean of the F1 of all classes that are there, or were predicted.

    Examples
    --------
    >>> macro_f1(by_class(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), "abc")) == (6 / 7 + 4 / 5) / 2
    True
    """
    seen = [one.f1 for one in hits if one.predicted or one.there]
    return sum(seen) / max(1, len(seen))


def table(hits: Sequence[Hits], what: str) -> list[str]:
    r"""Return a table of precision, recall and F1 as lines, most frequent first.

    Examples
    --------
    >>> print(*table([Hits("V", 1, 2, 2), Hits("NOUN", 3, 4, 6)], "tag"), sep="\n")
    tag   precision  recall      F1   there  predicted
    NOUN     75.00%  50.00%  60.00%       6          4
    V        50.00%  50.00%  50.00%       2          2
    """
    wide = max([len(what), *(len(one.name) for one in hits)])
    lines = [f"{what:<{wide}}  precision  recall      F1   there  predicted"]
    for one in sorted(hits, key=lambda one: -one.there):
        figures = f"{one.precision:>10.2%} {one.recall:>7.2%} {one.f1:>7.2%} {one.there:>7,} {one.predicted:>10,}"
        lines.append(f"{one.name:<{wide}} {figures}")
    return lines


def figures(hits: Hits) -> dict[str, float]:
    """Return what JSON says of a class.

    Examples
    --------
    >>> figures(Hits("V", 1, 2, 4))
    {'precision': 0.5, 'recall': 0.25, 'f1': 0.3333333333333333, 'there': 4, 'predicted': 2}
    """
    found = {"precision": hits.precision, "recall": hits.recall, "f1": hits.f1}
    return found | {"there": hits.there, "predicted": hits.predicted}


def confusions(counts: Array, names: Sequence[str], most: int = 10) -> list[str]:
    """Return the most frequent mistakes of a confusion matrix as lines; none where there are none.

    Examples
    --------
    >>> confusions(np.array([[8, 1], [3, 6]]), ["NOUN", "VERB"])
    ['most frequent mistakes:', '  VERB taken for NOUN: 3', '  NOUN taken for VERB: 1']
    """
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most].tolist()
    found = [(names[k // len(counts)], names[k % len(counts)], int(wrong.flat[k])) for k in order if wrong.flat[k]]
    lines = [f"  {true} taken for {other}: {times:,}" for true, other, times in found]
    return ["most frequent mistakes:", *lines] if lines else []


def matrix(counts: Array, names: Sequence[str]) -> list[str]:
    r"""Return a confusion matrix as lines: a row for each true class, a column for each predicted one.

    Examples
    --------
    >>> print(*matrix(np.array([[13, 1], [0, 2]]), ["glad", "sad"]), sep="\n")
    true \ predicted  glad  sad
    glad                13    1
    sad                  0    2
    """
    corner = "true \\ predicted"
    first = max([len(corner), *map(len, names)])
    wide = [max(len(name), len(f"{counts[:, k].max():,}")) + 2 for k, name in enumerate(names)]
    head = "".join(f"{name:>{width}}" for name, width in zip(names, wide, strict=True))
    rows = [
        f"{name:<{first}}" + "".join(f"{n:>{width},}" for n, width in zip(row, wide, strict=True))
        for name, row in zip(names, counts.tolist(), strict=True)
    ]
    return [f"{corner:<{first}}{head}", *rows]
