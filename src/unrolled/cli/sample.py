"""`unrolled sample`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UnrolledError, count, printable
from .help import GroupedCommand
from .options import cell_option, option, weights_option

if TYPE_CHECKING:
    from ..data.text import Vocabulary


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@option("Options", "--prompt", default="", help="Text to continue; it primes the state.")
@option("Options", "--length", "-n", type=int, help="Symbols to draw, of a document at most. [default: 400]")
@option(
    "Options", "--count", "texts", type=click.IntRange(min=1), help="Draw so many texts; whole documents, a line each."
)
@option("Options", "--documents", type=click.IntRange(min=1), help="Draw so many whole documents, new ones marked.")
@option("Options", "--temperature", default=1.0, help="0 is greedy, 1 the model's own distribution.")
@cell_option()
@weights_option()
@option("Options", "--seed", default=None, type=click.IntRange(min=0), help="Same seed, same text.")
def sample(
    model: Path,
    prompt: str,
    length: int | None,
    texts: int | None,
    documents: int | None,
    temperature: float,
    cell: str | None,
    weights: str | None,
    seed: int | None,
) -> None:
    """Write text with a trained model, symbol by symbol.

    A model of documents of one line each (--documents lines; or records of one line, such as names in a table) begins
    each line anew. With --count, each text continues the prompt; those of other models have --length symbols, and an
    empty line between. They are drawn together, and the first ones of a seed are the same whatever the --count. With
    --documents, whole ones are written, a line each; * is before those that the files which the model was trained on
    don't have.
    """
    from ..models.language_model import load, written

    if texts is not None and documents is not None:
        raise UnrolledError("--count draws texts and --documents documents; leave out one of the two")
    language_model = load(model, cell=cell, weights=weights)
    how: dict[str, Any] = {"temperature": temperature, "seed": seed} | ({} if length is None else {"length": length})
    if documents is not None:
        _write_documents(language_model.sample_documents(documents, prompt, **how), model, language_model.vocabulary)
        return
    begin = written(prompt, language_model.vocabulary)
    if texts is None:
        stream = language_model.stream(prompt, **how)
        first = next(stream, "")  # errors come before anything is printed
        _write(begin + first)
        for piece in stream:
            _write(piece)
        click.echo()
        return
    for n, text in enumerate(language_model.samples(texts, prompt, **how)):
        _write(("" if language_model.vocabulary.end is not None or not n else "\n") + begin + text + "\n")


def _write_documents(drawn: list[str], model: Path, vocabulary: Vocabulary) -> None:
    """Write documents, those marked that are new; how many these are, or why that isn't known, to standard error."""
    from ..models.trained_on import documents_of_run

    try:
        known = documents_of_run(model, vocabulary)
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
