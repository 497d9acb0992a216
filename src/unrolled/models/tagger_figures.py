"""How well words are tagged, as the command says it: in all, by type of spans, by tag, and what is taken for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import Array
from ..errors import count
from . import metrics, spans
from .metrics import Hits
from .of_data import Scored

SHOWN = 30
"""Tags up to which a confusion matrix is printed."""


def scored(
    found: Mapping[str, float], counts: Array, hits: Sequence[Hits] | None, tags: Sequence[str], sentences: int
) -> Scored:
    """Return figures and lines for people.

    Parameters
    ----------
    found : dict
        Figures by name; all but the loss are shares.
    counts : (K, K) array
        How often each tag was taken for each.
    hits : list of Hits or None
        What was found of each type of spans; None where tags are no spans.
    tags : list of str
    sentences : int
    """
    by_tag = metrics.by_class(counts, tags)
    found = {**found, "macro_f1": metrics.macro_f1(by_tag)}
    figures: dict[str, Any] = {"words": int(counts.sum()), "sentences": sentences, **found}
    figures["tags"] = {one.name: metrics.figures(one) for one in by_tag}
    figures["confusion"] = {"labels": list(tags), "counts": counts.tolist()}
    shares = ((name.replace("_", " ").replace("f1", "F1"), v) for name, v in found.items() if name != "loss")
    said = ", ".join(f"{name} {share:.2%}" for name, share in shares)
    size = f"{count(figures['words'], 'word')} in {count(sentences, 'sentence')}"
    lines = [f"{size}: {said}, loss {found['loss']:.4f} nats a word"]
    if hits is not None:
        figures["spans"] = {one.name: metrics.figures(one) for one in hits}
        lines += ["", *metrics.table([spans.together(hits), *hits], "span")]
    seen = [one for one in by_tag if one.there or one.predicted]
    lines += ["", *metrics.table(seen, "tag"), "", *metrics.confusions(counts, tags)]
    if len(tags) <= SHOWN:
        lines += ["", *metrics.matrix(counts, tags)]
    return Scored(figures, lines)
