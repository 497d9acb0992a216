"""The command line: parses, calls, prints."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from .. import __version__, backends
from ..cells import CELLS
from ..errors import UnrolledError, UnrolledWarning, brief, count, failure, printable
from ..nn.initializers import INITS
from ..options import ANEW, Options
from ..score import Score
from ..train import stops
from ..training.optimizers import OPTIMIZERS
from ..training.schedules import SCHEDULES
from .bench import TABLES, bench
from .help import GroupedCommand, GroupedOption, OutputClosed, QuietGroup

F = TypeVar("F", bound=Callable[..., Any])
DEFAULTS = Options()
DEFAULT_EPOCHS = 4.0
"""Passes over the built-in default corpus when nothing else is asked for; about two minutes."""


SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
    "token_normalize_func": lambda name: name if name in TABLES else name.replace("_", "-"),  # --hidden_size is taken
}


@click.group(cls=QuietGroup, invoke_without_command=True, context_settings=SETTINGS)
@click.version_option(__version__, prog_name="unrolled")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Recurrent neural networks you can read, prove, and run fast."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


cli.add_command(bench)


def option(group: str, *names: str, help: str, **kwargs: Any) -> Callable[[F], F]:
    """An option in a group; its default is shown, and is that of `Options`."""
    field = next(name for name in names if name.startswith("--"))[2:].replace("-", "_")
    if hasattr(DEFAULTS, field):
        kwargs.setdefault("default", getattr(DEFAULTS, field))
        kwargs.setdefault("type", None if kwargs["default"] is None else type(kwargs["default"]))
    shown = kwargs.get("default") is not None
    return click.option(*names, cls=GroupedOption, group=group, help=help, show_default=shown, **kwargs)


HOW_TO_READ = ("keep_gutenberg", "json_field", "column", "skip_null", "documents")


def how_to_read(group: str) -> Callable[[F], F]:
    """Options of `unrolled.data.text.read`."""
    options = [
        option(group, "--keep-gutenberg", is_flag=True, help="Leave Project Gutenberg's header and footer in."),
        option(group, "--json-field", default="", help="Files are JSON lines; the text is this field of each."),
        option(
            group, "--column", default="", help="Files are tables (CSV, TSV); the text is this column: name or number."
        ),
        option(group, "--skip-null", is_flag=True, help="Leave out lines and rows that have no text there."),
        option(group, "--documents", is_flag=True, help="Start each file, JSON line or row from zero state."),
    ]

    def decorate(command: F) -> F:
        for one in reversed(options):
            command = one(command)
        return command

    return decorate


class Widths(click.ParamType):  # type: ignore[type-arg]
    """A width, or one a layer with commas between."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        """Return an int, or a tuple of them."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            widths = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{brief(value)} is no whole number, nor several with commas between", param, ctx)
        return widths if len(widths) > 1 else widths[0]


def configured(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Let the values of a configuration stand in for the defaults."""
    if path is not None:
        from ..run import read_toml

        ctx.default_map = {name: value for name, value in read_toml(path).items() if value != []}
    return path


@cli.command(cls=GroupedCommand)
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
    from ..checks import check_widths
    from ..data.text import default_corpus, read
    from ..language_model import LanguageModel, load
    from ..train import make_folder
    from .display import Display, Output

    how = {name: options.pop(name) for name in HOW_TO_READ}
    if threads is not None:
        backends.set_threads(threads)
    display = Display(Output(highlight=False, emoji=False))
    if resume is not None:
        given = _given(ctx)
        if odd := sorted(given - {"files", "resume", "backend", "threads", *ANEW}):
            raise UnrolledError(f"--resume goes on with the options of the run; leave out --{odd[0].replace('_', '-')}")
        anew = {name: ctx.params[name] for name in ANEW if name in given}
        source = [Path(file) for file in files] or None
        with closing(display), _output_closed(Path(resume)):
            chosen = backend if "backend" in given else None
            LanguageModel.resume(resume, source, listener=display, backend=chosen, **anew)
        return
    if overwrite and out is None:
        raise UnrolledError("--overwrite replaces the run in --out; name that folder (without, a new one is made)")
    if "num_layers" in _given(ctx) | set(ctx.default_map or ()):
        check_widths(options["hidden_size"], options["num_layers"])
    if not files and minutes is None and not _given(ctx) & {"epochs"} and config is None:
        options["epochs"] = DEFAULT_EPOCHS
    options["minutes"] = minutes
    start = None if init_from is None else load(init_from, backend=backend)
    if start is not None:  # what isn't asked for is the model's
        asked = _given(ctx) | set(ctx.default_map or ())
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
    from ..train import CHECKPOINT
    from .display import quoted

    try:
        yield
    except BrokenPipeError:
        _let_go_of_output()
        if (folder / CHECKPOINT).exists():
            raise UnrolledError(
                f"the output was closed; the run is saved: unrolled train --resume {quoted(folder)} goes on"
            ) from None
        raise UnrolledError("the output was closed before training began") from None


def _given(ctx: click.Context) -> set[str]:
    """Names of what stands on the command line."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE}


@cli.command(cls=GroupedCommand)
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
    from ..language_model import load

    language_model = load(model)
    vocabulary = language_model.vocabulary
    written = prompt
    if prompt and not prompt[-1].isspace() and vocabulary.level in ("word", "tokens"):
        written += " "
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


@cli.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, metavar="(FILE | FOLDER | -)...")
@option("Options", "--json", "as_json", is_flag=True, help="Print JSON.")
@option("Options", "--per-token", is_flag=True, help="Print each symbol's probability too.")
@how_to_read("Options")
@option("Options", "--window", default=0, help="Start every so many symbols anew; 0 for never.")
def score(model: Path, files: tuple[str, ...], as_json: bool, per_token: bool, window: int, **how: Any) -> None:
    """Say how well a model predicts a text.

    The state starts at zero and is carried through the whole text; the first symbol is not predicted. With --documents,
    JSON has the figures of each too, and null for one in which nothing is predicted.
    """
    from ..data.text import UNITS, encode, read
    from ..language_model import load
    from ..lines import losses

    language_model = load(model)
    vocabulary = language_model.vocabulary
    corpus = read(files, vocabulary.level, **how)
    text, unit = corpus.text, UNITS[vocabulary.level]
    encoded, result = encode(corpus, vocabulary).tokens, language_model.score(corpus, window=window)
    figures = _figures(result)
    bits = None
    if vocabulary.level in ("word", "bpe") and isinstance(text, str):
        unseen = vocabulary.unpredicted(text, int(encoded[0]))
        spelled = vocabulary.spelling_bits(text[unseen:])
        bits = (result.bits * result.predicted + spelled) / max(1, len(text) - unseen)
        figures["bits_per_character"] = bits
    if result.documents is not None:
        figures["documents"] = [part and _figures(part) for part in result.by_document()]
    symbols: list[str] = []
    if per_token and vocabulary.level in ("word", "bpe", "tokens"):
        symbols = [vocabulary.piece(token).rstrip(" ") for token in encoded.tolist()[1:]]
    elif per_token and isinstance(text, (str, bytes)):
        symbols = [chr(s) if isinstance(s, int) and s < 128 else str(s) for s in text[1:]]
    pairs = list(zip(symbols, result.log_probs.tolist(), strict=True)) if per_token else []
    if as_json:
        tokens = {"tokens": [{"symbol": s, "probability": math.exp(p), "nats": -p} for s, p in pairs]}
        click.echo(json.dumps(figures | (tokens if per_token else {})))
        return
    for symbol, p in pairs:
        click.echo(f"{symbol!r}\t{math.exp(p):.6f}\t{-p:.4f}")
    click.echo(f"{count(result.predicted, unit)}: {losses(result.nats, unit)}, perplexity {result.perplexity:.4f}")
    if bits is not None:
        charged = ", with words that the model doesn't list charged their spelling"
        click.echo(f"{bits:.4f} bits a character{charged if vocabulary.level == 'word' else ''}")


def _figures(score: Score) -> dict[str, Any]:
    """What JSON says of a score; it has no infinity."""
    perplexity = score.perplexity if math.isfinite(score.perplexity) else None
    return {"predicted": score.predicted, "nats": score.nats, "bits": score.bits, "perplexity": perplexity}


@cli.command(cls=GroupedCommand)
@option("Options", "--cell", default=None, type=str, help="Only this cell. [default: all]")
@option("Options", "--quick", is_flag=True, help="A choice of the proofs, in some seconds.")
@option("Options", "--seed", type=click.IntRange(min=0), default=0, help="Of the numbers, and of the pairs of options.")
def check(cell: str | None, quick: bool, seed: int) -> int:
    """Prove every gradient: every cell, option and backend.

    The backward pass is compared with derivatives that are taken in another way (complex steps, central differences,
    random projections), and held to laws. The exit status is 1 if a proof fails.
    """
    from ..gradcheck.suite import check_all
    from .check import Tally
    from .display import Output

    backends.choose("auto")  # says what the environment has wrong before anything is printed
    tally = Tally(Output(highlight=False, emoji=False, markup=False))
    try:
        for outcome in check_all(cell, quick=quick, seed=seed):
            tally.add(outcome)
    except BaseException:
        tally.close()
        raise
    return tally.finish()


@cli.command(cls=GroupedCommand)
@click.argument("model", type=click.Path(path_type=Path), required=False)
@option("Options", "--cells", is_flag=True, help="Describe every cell.")
@option("Options", "--build", is_flag=True, help="Say how the native engine was built.")
def info(model: Path | None, cells: bool, build: bool) -> None:
    """Describe a model file; without one, this installation."""
    if build:
        for name, value in backends.build_info().items():
            click.echo(f"{name:<11} {_in_words(value)}")
        return
    if cells:
        from ..gradcheck.catalogue import describe

        for cell in CELLS.values():
            click.echo(cell.name)
            for label, text in describe(cell):
                click.echo(f"  {label:<11} {text}")
        return
    if model is None:
        auto = backends.choose("auto").name  # before anything is printed: the environment may be wrong
        click.echo(f"unrolled {__version__}")
        click.echo(f"python {platform.python_version()}, numpy {version('numpy')}, {platform.machine()}")
        click.echo(f"backends: {', '.join(backends.BACKENDS)}; auto is {auto}")
        click.echo(backends.describe())
        click.echo(f"cells: {', '.join(CELLS)}")
        return
    from ..language_model import load, model_file

    model = model_file(model)
    language_model = load(model)
    vocabulary, network = language_model.vocabulary, language_model.network
    click.echo(f"{printable(str(model))}: {os.path.getsize(model):,} bytes")
    for name, value in network.spec.to_json().items():
        click.echo(f"  {name:<17} {value}")
    click.echo(f"  {'level':<17} {vocabulary.level}")
    if vocabulary.level == "char":
        click.echo(f"  {'symbols':<17} {''.join(vocabulary.symbols)!r}")
    click.echo(f"  {'parameters':<17} {network.parameter_count:,}")
    for name, p in network.params.items():
        click.echo(f"    {name:<32} {' x '.join(map(str, p.shape))}")


def _in_words(value: object) -> str:
    """Lists and tables as a line."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_in_words(part)}" for name, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@cli.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@option("Options", "--out", type=click.Path(path_type=Path), help="Picture to draw: .png or .svg. [default: none]")
def plot(runs: tuple[Path, ...], out: Path | None) -> None:
    """Draw the losses of runs: as lines of the terminal, or as a picture."""
    from . import plots

    curves = {str(folder): plots.curve(folder) for folder in runs}
    if out is None:
        for name, curve in curves.items():
            click.echo(plots.sparkline(printable(name), curve))
    else:
        plots.picture(curves, out)
        click.echo(f"drawn in {printable(str(out))}")


@cli.command(cls=GroupedCommand)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@option("Options", "--json", "as_json", is_flag=True, help="Print JSON.")
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Set runs side by side: what differs between their options, and how far they came; the best run first."""
    from . import plots

    rows = plots.comparison(runs)
    click.echo(json.dumps(rows) if as_json else plots.table(rows))


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit; whatever goes wrong is one line on standard error.

    The exit status is 0, 1 where a proof fails, 2 for a mistake, 130 after Ctrl-C, 70 for a fault of this program. With
    UNROLLED_TRACEBACK=1 what has led there is printed too.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter is no reason to stop
    with _stops(), _notes():
        try:
            status, line = _outcome(argv)
        except KeyboardInterrupt as error:
            status, line = failure(error)
        if line:
            _say(line)
    sys.exit(status)


def _outcome(argv: list[str] | None) -> tuple[int, str]:
    """Run a command; return its exit status and what to say on standard error."""
    try:
        status = cli.main(args=argv, prog_name="unrolled", standalone_mode=False)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
        return status if isinstance(status, int) else 0, ""
    except click.ClickException as error:
        return failure(UnrolledError(error.format_message()))
    except click.exceptions.Abort:
        return failure(KeyboardInterrupt())
    except (OutputClosed, BrokenPipeError):  # a reader such as `head` has gone: no fault
        _let_go_of_output()
        return 0, ""
    except Exception as error:
        if os.environ.get("UNROLLED_TRACEBACK"):
            traceback.print_exc()
        if isinstance(error, OSError):
            _let_go_of_output()
        return failure(error)


@contextmanager
def _stops() -> Iterator[None]:
    """Let the signals of `stops` end a command like Ctrl-C, a second one at once: nothing half said, no traceback."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(130)

    def stop(number: int, frame: FrameType | None) -> None:
        for other in old:
            signal.signal(other, leave)
        raise KeyboardInterrupt

    old = {number: signal.getsignal(number) for number in stops()}
    try:
        for number in old:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _notes() -> Iterator[None]:
    """Show what the library warns of as a line."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", UnrolledWarning)
        other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, UnrolledWarning):
                _say(f"note: {failure(UnrolledError(str(message)))[1]}")
            else:
                other(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _say(line: str) -> None:
    with suppress(OSError):  # standard error is full or gone: the status still says it
        click.echo(f"unrolled: {line}", err=True)


def _let_go_of_output() -> None:
    """Nothing more can be written: let Python's own last flush go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
