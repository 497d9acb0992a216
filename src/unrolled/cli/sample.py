"""`unrolled sample`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..errors import printable
from .help import GroupedCommand
from .options import option


@click.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@option("Options", "--prompt", default="", help="Text to continue; it primes the state.")
@option("Options", "--length", "-n", default=400, help="Symbols to draw; with --count, of each text at most.")
@option("Options", "--count", type=click.IntRange(min=1), help="Draw so many texts; whole documents, a line each.")
@option("Options", "--temperature", default=1.0, help="0 is greedy, 1 the model's own distribution.")
@option("Options", "--seed", default=None, type=click.IntRange(min=0), help="Same seed, same text.")
def sample(model: Path, prompt: str, length: int, count: int | None, temperature: float, seed: int | None) -> None:
    """Write text with a trained model, symbol by symbol.

    A model trained with --documents on records of one line (JSON lines or a table's rows, such as names) begins each
    line anew. With --count, each text continues the prompt; those of other models have --length symbols, and an empty
    line between.
    """
    from ..models.language_model import load

    language_model = load(model)
    vocabulary = language_model.vocabulary
    written = prompt
    if prompt and not prompt[-1].isspace():
        written += vocabulary.separator
    if count is None:
        stream = language_model.stream(prompt, length, temperature=temperature, seed=seed)
        first = next(stream, "")  # errors come before anything is printed
        _write(written + first)
        for piece in stream:
            _write(piece)
        click.echo()
        return
    for n, text in enumerate(language_model.samples(count, prompt, length, temperature=temperature, seed=seed)):
        _write(("" if vocabulary.end is not None or not n else "\n") + written + text + "\n")


def _write(text: str) -> None:
    """Write a model's text: as it is, but for what would speak to a terminal where that is one."""
    terminal = sys.stdout is not None and sys.stdout.isatty()  # it may be closed
    # (without its `color` click would take out what looks like colours.)
    click.echo(printable(text, keep="\n\t") if terminal else text, nl=False, color=True)
