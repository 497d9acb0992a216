"""`unrolled score`."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..data.text import Reading, encode, read
from ..errors import UnrolledError, brief, check_path, count, one_line, printable
from ..storage import replaced
from ..training.lines import beside, losses, rates, usually
from .help import GroupedCommand
from .options import cell_option, check_out, flag_of, flags, given, option, weights_option
from .own_cell import files_of

if TYPE_CHECKING:
    from ..data.text import Encoded, Vocabulary
    from ..models.scoring import Score
    from ..nn.spec import Spec

TABLES = {".tsv": "\t", ".csv": ","}
"""What stands between the fields of a table, by the ending of its file's name."""


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path())
@click.argument("files", nargs=-1, required=True, metavar="(FILE | FOLDER | -)...")
@option("Options", "--json", "as_json", is_flag=True, help="Print JSON.")
@option(
    "Options",
    "--per-token",
    metavar="FILE",
    help="Write each symbol's and word's surprisal to this .tsv or .csv; - is standard output.",
)
@option("Options", "--yardsticks/--no-yardsticks", default=True, help="Say what simple models reach on the text.")
@flags(Reading, group="Options")
@option("Options", "--window", default=0, help="Start every so many symbols anew; 0 for never.")
@option(
    "Options",
    "--dynamic",
    default=0.0,
    metavar="RATE",
    help="Learn from what has been scored, such as 0.0003 (dynamic evaluation); 0 does not.",
)
@cell_option()
@weights_option()
@click.pass_context
def score(
    ctx: click.Context,
    /,
    model: str,
    files: tuple[str, ...],
    as_json: bool,
    per_token: str | None,
    yardsticks: bool,
    window: int,
    dynamic: float,
    cell: str | None,
    weights: str | None,
    **how: Any,
) -> None:
    """Say how well a model does on files: how it predicts a text, tags, labels, forecasts.

    Of a language model, the state starts at zero and is carried through the whole text; the first symbol is not
    predicted. Where its run is there, counts of n-grams of the text that it was trained on, and xz, predict the text
    too. A model that has learnt lines as documents reads lines so (--documents none: one text). With documents, JSON
    has the figures of each, and null for one in which nothing is predicted.
    """
    from ..models import surprisal
    from ..models.base import load
    from ..models.files import model_file
    from ..models.language_data import as_learnt
    from ..models.language_model import LanguageModel

    loaded = load(model, cell=cell, weights=weights)
    if not isinstance(loaded, LanguageModel):
        if odd := sorted(given(ctx) & {"per_token", "yardsticks", "window", "dynamic", *how}):
            raise UnrolledError(f"{flag_of(odd[0])} is for language models; {model} is none: {loaded!r}")
        figures, lines = loaded.scored(list(files))
        click.echo(json.dumps(figures) if as_json else "\n".join(lines))
        return
    if per_token not in (None, "-"):
        _check_table(Path(check_path("--per-token", per_token)), model_file(model), *files_of(cell), *files)
    vocabulary = loaded.vocabulary
    asked = {name: how[name] for name in given(ctx) & set(how)}
    corpus = read(files, vocabulary.level, **(as_learnt(vocabulary) | asked))
    text = encode(corpus, vocabulary)
    result = loaded.score(corpus, window=window, dynamic=dynamic)
    figures = _figures(result) | result.rates(corpus.text, int(text.tokens[0]), vocabulary)
    figures |= {"window": window, "dynamic": dynamic, "notes": list(corpus.notes)}
    if result.documents is not None:
        figures["documents"] = [part and _figures(part) for part in result.by_document()]
    spec = None if window else loaded.network.spec  # a state that begins anew has no usual loss
    found, why = _yardsticks(model_file(model), text, vocabulary, cell, spec) if yardsticks else (None, "")
    if yardsticks:
        figures["yardsticks"] = found
    if per_token is not None:
        _write_table(per_token, surprisal.table(result, text.tokens, vocabulary))
    lines = [json.dumps(figures)] if as_json else _lines(figures, vocabulary, why, corpus.of_lines)
    if per_token not in (None, "-") and not as_json:
        lines.append(f"each {vocabulary.unit}'s surprisal is in {printable(str(per_token))}")
    click.echo("\n".join(lines), err=per_token == "-")


def _lines(figures: Mapping[str, Any], vocabulary: Vocabulary, why: str, of_lines: bool) -> list[str]:
    """Return the figures of a text, perhaps `of_lines`, in words; `why` there are no yardsticks, where it is known."""
    unit = vocabulary.unit
    perplexity = math.inf if figures["perplexity"] is None else figures["perplexity"]
    lines = [f"{count(figures['predicted'], unit)}: {losses(figures['nats'], unit)}, perplexity {perplexity:.4f}"]
    names = [name for name in figures if name.startswith("bits_per_")]
    others = rates({name.removeprefix("bits_per_"): figures[name] for name in names}, "" if vocabulary.spells else unit)
    if others:
        lines.append(others + "; words that the model doesn't list are charged their spelling" * vocabulary.spells)
    ends = ", ends of lines too" if vocabulary.spells else ""
    ends += ", the newline between two documents with the one that it ends" if "documents" in figures else ""
    first = "" if of_lines else " but the first"  # which is predicted behind the newline that begins its line
    how = f"; the state begins anew every {count(figures['window'], unit)}" if figures["window"] else ""
    how += f"; the model learnt from what it had scored, at {figures['dynamic']:g}" if figures["dynamic"] else ""
    lines.append(f"counted are all {unit}s{first}{ends}{how}")
    lines += map(printable, figures["notes"])
    if vocabulary.documents and not of_lines:
        lines.append("the model has learnt lines that are a document each; they are one text here (--documents none)")
    if figures.get("yardsticks"):
        lines += [f"  {phrase}" for phrase in beside(figures["yardsticks"], figures["nats"], unit)]
        phrases = usually(figures["yardsticks"], figures["nats"])
        lines += [f"  {'' if k else 'usually '}{phrase}" for k, phrase in enumerate(phrases)]
    elif why:
        lines.append(f"no yardsticks: {why}")
    return lines


def _yardsticks(
    file: Path, text: Encoded, vocabulary: Vocabulary, cell: str | None, spec: Spec | None
) -> tuple[dict[str, Any] | None, str]:
    """Return what simple models of a run's training part give on a text, or why that is not known."""
    from ..data.batches import Lanes
    from ..models.trained_on import training_part
    from ..models.yardsticks import COUNTED, yardsticks

    try:
        part = training_part(file, vocabulary, cell)
    except UnrolledError as error:
        return None, one_line(str(error))
    found = yardsticks(part, Lanes(text.tokens, 1, 1, documents=text.documents), vocabulary, spec)
    if found is None:
        return None, f"the text has more than {COUNTED:,} {vocabulary.unit}s"
    return found.to_json(), ""


def _check_table(path: Path, *read: str | os.PathLike[str]) -> None:
    """Refuse a name that says no kind of table, and to write over what is read."""
    if path.suffix.lower() not in TABLES:
        raise UnrolledError(f"--per-token is {brief(str(path))}; its name must end in .tsv or .csv (or it is -)")
    check_out(path, *read, flag="--per-token")


def _write_table(name: str, rows: Iterable[Sequence[str | int | float]]) -> None:
    """Write a table to a file, or to standard output as TSV."""
    between = TABLES[".tsv" if name == "-" else Path(name).suffix.lower()]
    text = "".join(_line(row, between) for row in rows)
    if name == "-":
        click.echo(text, nl=False)
        return
    with replaced(name) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def _line(row: Sequence[str | int | float], between: str) -> str:
    """Return a row of a table; with CRLF as the end of a line, both of its characters are quoted within one."""
    line = StringIO()
    csv.writer(line, delimiter=between, lineterminator="\r\n").writerow(row)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _figures(score: Score) -> dict[str, Any]:
    """Return the figures of a score for JSON, which has no infinity."""
    perplexity = score.perplexity if math.isfinite(score.perplexity) else None
    return {"predicted": score.predicted, "nats": score.nats, "bits": score.bits, "perplexity": perplexity}
