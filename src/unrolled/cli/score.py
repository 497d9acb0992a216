"""`unrolled score`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.text import Reading, encode, read
from ..errors import UnrolledError, count
from .help import GroupedCommand
from .options import cell_option, flag_of, flags, given, option, weights_option

if TYPE_CHECKING:
    from ..models.language_model import LanguageModel
    from ..models.scoring import Score


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, metavar="(FILE | FOLDER | -)...")
@option("Options", "--json", "as_json", is_flag=True, help="Print JSON.")
@option("Options", "--per-token", is_flag=True, help="Print each symbol's probability too.")
@flags(Reading, group="Options")
@option("Options", "--window", default=0, help="Start every so many symbols anew; 0 for never.")
@cell_option()
@weights_option()
@click.pass_context
def score(
    ctx: click.Context,
    /,
    model: Path,
    files: tuple[str, ...],
    as_json: bool,
    per_token: bool,
    window: int,
    cell: str | None,
    weights: str | None,
    **how: Any,
) -> None:
    """Say how well a model does on files: how it predicts a text, tags, labels, forecasts.

    Of a language model, the state starts at zero and is carried through the whole text; the first symbol is not
    predicted. With --documents, JSON has the figures of each too, and null for one in which nothing is predicted.
    """
    from ..models.base import load
    from ..models.language_model import LanguageModel

    loaded = load(model, cell=cell, weights=weights)
    if isinstance(loaded, LanguageModel):
        _of_text(loaded, files, as_json, per_token, window, **how)
        return
    if odd := sorted(given(ctx) & {"per_token", "window", *how}):
        raise UnrolledError(f"{flag_of(odd[0])} is for language models; {model} is none: {loaded!r}")
    figures, lines = loaded.scored(list(files))
    click.echo(json.dumps(figures) if as_json else "\n".join(lines))


def _of_text(
    language_model: LanguageModel,
    files: tuple[str, ...],
    as_json: bool,
    per_token: bool,
    window: int,
    **how: Any,
) -> None:
    """Print how well a language model predicts a text."""
    from ..training.lines import losses

    vocabulary = language_model.vocabulary
    corpus = read(files, vocabulary.level, **how)
    tokens, unit = encode(corpus, vocabulary).tokens, vocabulary.unit
    result = language_model.score(corpus, window=window)
    figures = _figures(result)
    bits = vocabulary.bits_per_character(corpus.text, int(tokens[0]), result.bits * result.predicted)
    if bits is not None:
        figures["bits_per_character"] = bits
    if result.documents is not None:
        figures["documents"] = [part and _figures(part) for part in result.by_document()]
    pairs: list[tuple[str, float]] = []
    if per_token:
        pairs = list(zip(map(vocabulary.label, tokens[1:].tolist()), result.log_probs.tolist(), strict=True))
        figures["tokens"] = [{"symbol": s, "probability": math.exp(p), "nats": -p} for s, p in pairs]
    if as_json:
        click.echo(json.dumps(figures))
        return
    for symbol, p in pairs:
        click.echo(f"{symbol!r}\t{math.exp(p):.6f}\t{-p:.4f}")
    click.echo(f"{count(result.predicted, unit)}: {losses(result.nats, unit)}, perplexity {result.perplexity:.4f}")
    if bits is not None:
        charged = ", with words that the model doesn't list charged their spelling"
        click.echo(f"{bits:.4f} bits a character{charged if vocabulary.spells else ''}")


def _figures(score: Score) -> dict[str, Any]:
    """Return the figures of a score for JSON, which has no infinity."""
    perplexity = score.perplexity if math.isfinite(score.perplexity) else None
    return {"predicted": score.predicted, "nats": score.nats, "bits": score.bits, "perplexity": perplexity}
