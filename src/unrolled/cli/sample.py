"""`unrolled sample`."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import click

from ..drawing import Drawing
from ..errors import UnrolledError, count, printable
from .help import GroupedCommand
from .options import cell_option, flags, option, weights_option

if TYPE_CHECKING:
    from ..data.text import Vocabulary
    from ..models.language_model import LanguageModel


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path())
@option("Options", "--prompt", default="", help="Text to continue; it primes the state.")
@option("Options", "--length", type=int, help="Symbols to draw, of a document at most. [default: 400]")
@option("Options", "--n", "-n", type=click.IntRange(min=1), help="Draw so many texts; whole documents, a line each.")
@option("Options", "--documents", type=click.IntRange(min=1), help="Draw so many whole documents, new ones marked.")
@option(
    "Options", "--json", "as_json", is_flag=True, help="As --n 1 or more: a JSON object a text, with log-probabilities."
)
@cell_option()
@weights_option()
@option("Options", "--seed", default=None, type=click.IntRange(min=0), help="Same seed, same text.")
@flags(Drawing)
def sample(
    model: str,
    prompt: str,
    length: int | None,
    n: int | None,
    documents: int | None,
    as_json: bool,
    cell: str | None,
    weights: str | None,
    seed: int | None,
    **options: Any,
) -> None:
    """Write text with a trained model, symbol by symbol: a file, a run's folder, or pride, which is built in.

    A model of documents of one line each (--documents lines; or records of one line, such as names in a table) begins
    each line anew. With --n, each text continues the prompt; those of other models have --length symbols, and an
    empty line between. They are drawn together, and the first ones of a seed are the same whatever --n. With
    --documents, whole ones are written, a line each; * is before those that the files which the model was trained on
    don't have.

    Options cut what is drawn from, in the order in which they are listed below, and --json says how likely each symbol
    was: docs/guides/drawing.md.
    """
    if documents is not None and (n is not None or as_json):
        other = "--json" if n is None else "--n"
        raise UnrolledError(f"{other} draws texts and --documents documents; leave out one of the two")
    drawing = Drawing(**options)
    drawing.check_number(n or documents or 1)
    from ..models.language_model import load
    from ..models.writer import written

    language_model = load(model, cell=cell, weights=weights)
    how = drawing.to_json() | {"seed": seed} | ({} if length is None else {"length": length})
    if documents is not None:
        drawn = language_model.sample_documents(documents, prompt, **how)
        _write_documents(drawn, model, language_model.vocabulary, cell)
        return
    if as_json:
        _write_json(language_model, n or 1, prompt, how)
        return
    begin = written(prompt, language_model.vocabulary)
    if n is None:
        stream = language_model.stream(prompt, **how)
        first = next(stream, "")  # errors come before anything is printed
        _write(begin + first)
        try:
            for piece in stream:
                _write(piece)
        except UnrolledError:
            click.echo()  # what is wrong has a line of its own
            raise
        click.echo()
        return
    for k, text in enumerate(language_model.samples(n, prompt, **how)):
        _write(("" if language_model.vocabulary.end is not None or not k else "\n") + begin + text + "\n")


def _write_json(language_model: LanguageModel, n: int, prompt: str, how: dict[str, Any]) -> None:
    """Write a JSON object a text; a seed that was not given is drawn, and said."""
    import numpy as np

    if how["seed"] is None:
        how = how | {"seed": int(np.random.SeedSequence().generate_state(1)[0])}
    settings = {"length": 400} | {name: value for name, value in how.items() if name != "seed"}
    for drawn in language_model.draw(n, prompt, **how):
        record: dict[str, Any] = {"prompt": prompt, **drawn._asdict()}
        record["log_probability"] = math.fsum(drawn.log_probabilities)
        record["drawn_log_probability"] = math.fsum(drawn.drawn_log_probabilities)
        record |= {"seed": how["seed"], "settings": settings}
        click.echo(json.dumps(record))


def _write_documents(drawn: list[str], model: str, vocabulary: Vocabulary, cell: str | None) -> None:
    """Write documents, those marked that are new; how many these are, or why that isn't known, to standard error."""
    from ..models.trained_on import documents_of_run

    try:
        known = documents_of_run(model, vocabulary, cell)
    except UnrolledError as error:
        _write("".join(f"{text}\n" for text in drawn))
        click.echo(f"{count(len(drawn), 'document')}; which are new is not known: {error}", err=True)
        return
    new = {text for text in drawn if text and text not in known}  # nothing drawn is no new document
    _write("".join(f"{'*' if text in new else ' '} {text}\n" for text in drawn))
    many = sum(text in new for text in drawn)
    said = f"{count(len(drawn), 'document')}, {many:,} of them new (*)"
    click.echo(f"{said}: not among the {len(known):,} of the training files", err=True)


def _write(text: str) -> None:
    """Write a model's text: as it is, but for what would speak to a terminal where that is one."""
    terminal = sys.stdout is not None and sys.stdout.isatty()  # it may be closed
    # (without its `color` click would take out what looks like colours.)
    click.echo(printable(text, keep="\n\t") if terminal else text, nl=False, color=True)
