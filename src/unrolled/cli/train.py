"""`unrolled train`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from .. import backends
from ..cells import CELLS
from ..checks import check_widths
from ..data.text import default_corpus, read
from ..errors import UnrolledError, count
from ..nn.initializers import INITS
from ..options import ANEW, Options
from ..train import CHECKPOINT, make_folder
from ..training.optimizers import OPTIMIZERS
from ..training.schedules import SCHEDULES
from .display import Display, Output, quoted
from .exits import let_go_of_output
from .help import GroupedCommand
from .options import HOW_TO_READ, Widths, configured, given, how_to_read, option

DEFAULT_EPOCHS = 4.0
"""Passes over the built-in default corpus when nothing else is asked for; about two minutes."""


@click.command(cls=GroupedCommand)
@click.argument("files", nargs=-1, metavar="[FILE | FOLDER | -]...")
@option("Text", "--level", help="What a symbol is: char, byte (any file), word, bpe, or tokens (a .npy file).")
@option("Text", "--min-count", help="word: occurrences that a word needs to be listed.")
@option("Text", "--max-symbols", help="word: symbols listed at most, 0 for all; bpe: tokens, 0 for 1,024.")
@option("Text", "--lower", is_flag=True, help="word: make words lower-case.")
@option("Text", "--words", help="word: cut lines at whitespace, or into words and punctuation.")
@how_to_read("Text")
@option("Text", "--val-file", multiple=True, metavar="FILE", help="Validate on this instead of on a share.")
@option("Text", "--test-file", multiple=True, metavar="FILE", help="Test on this instead of on a share.")
@option("Text", "--val-fraction", help="Share of the text, at its end, to validate on.")
@option("Text", "--test-fraction", help="Share of the text, behind that, left untouched.")
@option("Network", "--init-from", metavar="MODEL", help="Start from this model; its network grows by new symbols.")
@option("Network", "--cell", help=f"{', '.join(CELLS)}.")
@option("Network", "--hidden-size", "--rnn-size", type=Widths(), help="Hidden units a layer; 256,128: of each layer.")
@option("Network", "--num-layers", help="Layers.")
@option("Network", "--embedding-size", help="Width of the embedding; 0 feeds one-hot vectors.")
@option("Network", "--proj-size", help="Project the hidden state to so many numbers; 0 for no projection.")
@option("Network", "--residual", is_flag=True, help="Add a layer's input to its output, from the second layer on.")
@option("Weights", "--learn-state", is_flag=True, help="Train the initial state too.")
@option("Weights", "--tied", is_flag=True, help="Let the decoder use the embedding's weight.")
@option("Weights", "--forget-bias", type=float, help="Forget-gate bias at the start. [default: as --init has it]")
@option("Dropout", "--dropout", help="After each layer.")
@option("Dropout", "--locked-dropout", help="After each layer, the same units at all steps.")
@option("Dropout", "--embedding-dropout", help="Of symbols: whole rows of the embedding.")
@option("Dropout", "--recurrent-dropout", help="Of what a cell adds to its memory.")
@option("Dropout", "--weight-drop", help="Of single recurrent weights.")
@option("Dropout", "--zoneout", help="Share of units that keep their old hidden state.")
@option("Dropout", "--zoneout-cell", help="Share of units that keep their old memory cell.")
@option("Weights", "--init", help=f"Initial weights: {', '.join(INITS)}.")
@option("Weights", "--dtype", help="float32 or float64.")
@option("Training", "--seq-length", help="Steps of truncated back-propagation.")
@option("Training", "--batch-size", help="Lanes of text side by side.")
@option("Training", "--epochs", help="Passes over the training part; 4 without a FILE.")
@option(
    "Training",
    "--minutes",
    type=float,
    help="Stop after so long, all starts together; cosine ends then. [default: none]",
)
@option("Training", "--patience", help="Stop after so many validations without a better one; 0 for never.")
@option("Training", "--seed", help="Of everything random.")
@option("Training", "--backend", default="auto", help="auto, cpu or reference.")
@option("Training", "--threads", type=int, help="Threads of the native engine. [default: all physical cores]")
@option("Learning", "--optimizer", help=f"{', '.join(OPTIMIZERS)}.")
@option(
    "Learning",
    "--learning-rate",
    "--lr",
    type=float,
    help="Rate; one for a loss summed over n steps: times n. [default: 0.002 for adam; see the docs]",
)
@option("Learning", "--momentum", type=float, help="Of momentum and nesterov. [default: 0.9]")
@option("Learning", "--decay-rate", type=float, help="Moving average of rmsprop (0.99) and adadelta (0.9).")
@option("Learning", "--average", help="Weights to validate and keep: none (as they are), ema, asgd.")
@option("Learning", "--ema-decay", help="ema: share of the old average that a step keeps.")
@option("Learning", "--average-after", help="asgd: validations without a better one before it begins.")
@option("Learning", "--accumulate", help="Parts that the lanes are run in: less memory, the same update.")
@option(
    "Learning",
    "--grad-clip",
    help="Largest gradient; one for a loss summed over n steps: divided by n; 0 for no limit.",
)
@option("Learning", "--clip", help="Clip the norm of all gradients together, or every value.")
@option("Penalties", "--weight-decay", type=float, help="L2 penalty (adamw: decoupled). [default: 0; adamw 0.01]")
@option("Penalties", "--ar", help="Activation regularisation: weight of the outputs' mean square.")
@option("Penalties", "--tar", help="Temporal activation regularisation: weight of that of their changes.")
@option("Penalties", "--label-smoothing", help="Share of a target's probability spread over all symbols.")
@option("Rate", "--schedule", help=f"{', '.join(SCHEDULES)}.")
@option("Rate", "--lr-decay", type=float, help="Factor. [default: exponential 0.97; step and plateau 0.5]")
@option("Rate", "--lr-decay-after", help="exponential: first epoch whose end decays the rate.")
@option("Rate", "--lr-decay-every", help="step: epochs between two decays.")
@option("Rate", "--warmup", help="cosine: steps of linear warm-up.")
@option("Output", "--out", help="Folder of the run. [default: runs/NAME]")
@option("Output", "--resume", metavar="RUN", help="Go on with the run in this folder; FILE only if it has moved.")
@option(
    "Output",
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    callback=configured,
    help="Options as TOML, such as a run's config.toml; those given here win.",
)
@option("Output", "--overwrite", is_flag=True, help="Let --out replace the models of an earlier run.")
@option("Output", "--checkpoint-every", help="Steps between two checkpoints.")
@option("Output", "--eval-every", help="Steps between two validations; 0 chooses.")
@option("Output", "--sample-length", help="Symbols of the sampled line; 0 for none.")
@option("Output", "--tensorboard", is_flag=True, help="Write TensorBoard's event files into the folder too.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    val_file: tuple[str, ...],
    test_file: tuple[str, ...],
    init_from: str | None,
    backend: str,
    threads: int | None,
    out: str | None,
    resume: str | None,
    config: Path | None,
    overwrite: bool,
    minutes: float | None,
    **options: Any,
) -> None:
    """Train a language model on text.

    Files and folders are read as UTF-8; - is standard input. Without any, the text is the source of the Python
    standard library on this machine. Ctrl-C saves and stops, with exit status 130; --resume goes on.
    """
    from ..language_model import LanguageModel, load

    named = given(ctx)
    how = {name: options.pop(name) for name in HOW_TO_READ}
    if threads is not None:
        backends.set_threads(threads)
    display = Display(Output(highlight=False, emoji=False))
    if resume is not None:
        if odd := sorted(named - {"files", "resume", "backend", "threads", *ANEW}):
            raise UnrolledError(f"--resume goes on with the options of the run; leave out --{odd[0].replace('_', '-')}")
        anew = {name: ctx.params[name] for name in ANEW if name in named}
        source = [Path(file) for file in files] or None
        with closing(display), _output_closed(Path(resume)):
            chosen = backend if "backend" in named else None
            LanguageModel.resume(resume, source, listener=display, backend=chosen, **anew)
        return
    if overwrite and out is None:
        raise UnrolledError("--overwrite replaces the run in --out; name that folder (without, a new one is made)")
    if "num_layers" in named | set(ctx.default_map or ()):
        check_widths(options["hidden_size"], options["num_layers"])
    if not files and minutes is None and not named & {"epochs"} and config is None:
        options["epochs"] = DEFAULT_EPOCHS
    options["minutes"] = minutes
    start = None if init_from is None else load(init_from, backend=backend)
    if start is not None:  # what isn't asked for is the model's
        asked = named | set(ctx.default_map or ())
        options = {name: value for name, value in options.items() if name in asked}
        options.setdefault("level", start.vocabulary.level)
    Options(**options)  # before anything is read or made
    if not files and (odd := [name for name in HOW_TO_READ if how[name]]):
        raise UnrolledError(f"--{odd[0].replace('_', '-')} is about files; name some")
    level = options["level"]
    what = count(len(files), "file or folder") if files else "the standard library"
    with display.patience(f"reading {what}"):
        corpus = read(files, level, stream=True, **how) if files else default_corpus(level=level)
    if out == "":
        raise UnrolledError("--out is empty; name a folder")
    wanted = Path("runs") / corpus.name
    missing = [path for path in (wanted, *wanted.parents) if out is None and not os.path.lexists(path)]
    folder = make_folder(wanted, new=True) if out is None else Path(out)
    try:
        with closing(display), _output_closed(folder):
            LanguageModel.train(
                corpus,
                val=val_file,
                test=test_file,
                out=folder,
                overwrite=overwrite,
                init_from=start,
                listener=display,
                backend=backend,
                **options,
            )
    finally:
        for path in missing if out is not None else [folder, *missing]:
            with suppress(OSError):  # a folder that something is in stays
                path.rmdir()


@contextmanager
def _output_closed(folder: Path) -> Iterator[None]:
    """Say on standard error what has become of a run whose output a reader has closed."""
    try:
        yield
    except BrokenPipeError:
        let_go_of_output()
        if (folder / CHECKPOINT).exists():
            raise UnrolledError(
                f"the output was closed; the run is saved: unrolled train --resume {quoted(folder)} goes on"
            ) from None
        raise UnrolledError("the output was closed before training began") from None
