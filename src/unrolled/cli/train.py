"""`unrolled train`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from .. import backends
from ..checks import check_widths
from ..data.text import Reading, default_corpus, read
from ..data.text.packed import plain_name
from ..declared import anew
from ..declared import options as declared_options
from ..errors import UnrolledError, check_path, count
from ..models import files as model_files
from ..models.automatic import CHOSEN
from ..models.options import Options
from ..models.tasks import kind_for, options_of
from ..training.checkpoints import Kind, kind_of
from ..training.run_folder import make_folder
from ..training.trainer import CHECKPOINT
from .display import Display, Output, quoted
from .exits import let_go_of_output
from .help import GroupedCommand
from .kinds import configured, flags_of_kinds
from .options import flag_of, given, option, sources

DEFAULT_MINUTES = 1.0
"""Time that is planned for on the built-in default corpus when nothing else is asked for."""
GROUPS = (
    "Data",
    "Text",
    "Series",
    "Network",
    "Words",
    "Head",
    "Weights",
    "Dropout",
    "Training",
    "Learning",
    "Rule",
    "Penalties",
    "Rate",
    "Output",
)
TASKS = ", ".join(model_files.kinds())
SIZES = ("cell", "hidden_size", "num_layers", "embedding_size", "proj_size")
WEIGHTS = ("learn_state", "tied", "forget_bias", "init")


def _begins(task: str, name: str, default: str) -> str:
    """Return what an option is where it is not given: chosen, or its default."""
    chosen = CHOSEN[task].get(name)
    return default if chosen is None else f"{chosen}, --no-auto {default or 'off'}"


@click.command(cls=GroupedCommand, groups=GROUPS)
@click.argument("files", nargs=-1, metavar="[FILE | FOLDER | -]...")
@option("Data", "--task", metavar="TASK", help=f"What is learnt: {TASKS}.  [default: seen from files and options]")
@option("Data", "--val-file", multiple=True, metavar="FILE", help="Validate on this instead of on a share.")
@option("Data", "--test-file", multiple=True, metavar="FILE", help="Test on this instead of on a share.")
@flags_of_kinds(begins=_begins, ahead=(*SIZES, *WEIGHTS, "patience"))
@option("Network", "--init-from", metavar="MODEL", help="Start from this model; its network grows by new symbols.")
@option("Output", "--out", help="Folder of the run. [default: runs/NAME]")
@option("Output", "--resume", metavar="RUN", help="Go on with the run in this folder; FILE only if it has moved.")
@option(
    "Output",
    "--config",
    is_eager=True,
    callback=configured,
    help="Options as TOML, such as a run's config.toml; those given here win.",
)
@option("Output", "--overwrite", is_flag=True, help="Let --out replace the models of an earlier run.")
@option(
    "Training",
    "--auto/--no-auto",
    default=None,
    help="Choose cell, sizes, passes, batch, rate and dropout by data and time where they aren't given, instead of "
    "their defaults. [default: on; off with --config]",
)
@option("Training", "--backend", default="auto", help="auto, cpu or reference.")
@option("Training", "--threads", type=int, help="Threads of the native engine. [default: all physical cores]")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    backend: str,
    threads: int | None,
    resume: str | None,
    config: Path | None,
    task: str | None,
    **options: Any,
) -> None:
    """Train a model: of language on text, a tagger, a classifier, a forecaster.

    What is learnt is seen from the files and the options, or named with --task. Files and folders are read as UTF-8; -
    is standard input. Without any, it is a language model of the source of the Python standard library on this machine.
    Ctrl-C saves and stops, with exit status 130; --resume goes on.
    """
    if threads is not None:
        backends.set_threads(threads)
    display = Display(Output(highlight=False, emoji=False))
    if resume is not None:
        named = given(ctx)
        _go_on(resume, files, display, {name: ctx.params[name] for name in ctx.params if name in named})
        return
    asked = given(ctx) | set(ctx.default_map or ())
    if options["auto"] is None:
        options["auto"] = config is None  # which, of a run, says all of its options
    if options["overwrite"] and options["out"] is None:
        raise UnrolledError("--overwrite replaces the run in --out; name that folder (without, a new one is made)")
    if "num_layers" in asked:
        check_widths(options["hidden_size"], options["num_layers"])
    if not files and not asked & {"minutes", "epochs"}:
        options["minutes"] = DEFAULT_MINUTES
        asked.add("minutes")
    task = task or ctx.meta.get("task")
    kinds = model_files.kinds()
    kind = kind_for(files, {name for name in asked if any(name in options_of(other) for other in kinds.values())}, task)
    if kind.options is Options:
        _begin(files, display, backend, options, asked)
    else:
        _begin_kind(kind, files, display, backend, options, asked)


def _go_on(folder: str, files: tuple[str, ...], display: Display, named: Mapping[str, Any]) -> None:
    """Go on with a run, as what is `named` on the command line says."""
    kind = model_files.kind_named(kind_of(Path(check_path("the folder of a run", folder))))
    free = anew(kind.options)
    if odd := sorted(named.keys() - {"files", "resume", "backend", "threads", "cell", *free}):
        raise UnrolledError(f"--resume goes on with the options of the run; leave out {flag_of(odd[0])}")
    options = {name: named[name] for name in free if name in named}
    source = sources(files)
    with closing(display), _output_closed(Path(folder)):
        how = {name: named.get(name) for name in ("backend", "cell")}
        kind.model.resume(folder, source, callbacks=[display], **how, **options)


def _begin(files: tuple[str, ...], display: Display, backend: str, chosen: Mapping[str, Any], asked: set[str]) -> None:
    """Begin a run with the options chosen, of which some were asked for."""
    from ..models.language_model import LanguageModel, load

    options = {name: chosen[name] for name in declared_options(Options) if name in asked}
    how = {name: chosen[name] for name in declared_options(Reading)}
    cell = chosen["cell"] if "cell" in asked else None
    start = None if chosen["init_from"] is None else load(chosen["init_from"], backend=backend, cell=cell)
    if start is not None:  # what isn't asked for is the model's
        options.setdefault("level", start.vocabulary.level)
    Options(**options)  # before anything is read or made
    if not files and (odd := [name for name, value in how.items() if value != getattr(Reading(), name)]):
        raise UnrolledError(f"--{odd[0].replace('_', '-')} is about files; name some")
    level = options.get("level", Options.level)
    what = count(len(files), "file or folder") if files else "the standard library"
    with display.patience(f"reading {what}"):
        corpus = read(files, level, stream=True, **how) if files else default_corpus(level=level)
    _run(LanguageModel, corpus, corpus.name, display, backend, chosen, options | {"init_from": start})


def _begin_kind(
    kind: Kind, files: tuple[str, ...], display: Display, backend: str, chosen: Mapping[str, Any], asked: set[str]
) -> None:
    """Begin a run of another kind than a language model, with the options that were asked for."""
    if chosen["init_from"] is not None:
        raise UnrolledError(f"--init-from is an option of language; this trains {kind.noun}")
    if not files:
        raise UnrolledError(f"{kind.noun} learns from files; name some")
    options = {name: chosen[name] for name in declared_options(kind.options) if name in asked}
    kind.options(**options)  # before anything is read or made
    name = Path(plain_name(os.path.abspath(files[0]))).stem
    _run(kind.model, list(files), name, display, backend, chosen, options)


def _run(
    model: Any,
    source: Any,
    name: str,
    display: Display,
    backend: str,
    chosen: Mapping[str, Any],
    options: Mapping[str, Any],
) -> None:
    """Train a model, a class, on a source of this name, in the run's folder."""
    if chosen["out"] == "":
        raise UnrolledError("--out is empty; name a folder")
    with _folder(chosen["out"], name) as folder, closing(display), _output_closed(folder):
        model.train(
            source,
            val=sources(chosen["val_file"]),
            test=sources(chosen["test_file"]),
            out=folder,
            overwrite=chosen["overwrite"],
            auto=chosen["auto"],
            callbacks=[display],
            backend=backend,
            **options,
        )


@contextmanager
def _folder(out: str | None, name: str) -> Iterator[Path]:
    """Make a folder in runs/ where none is named, and take it away again where nothing came to be in it."""
    wanted = Path("runs") / name
    made = [path for path in (wanted, *wanted.parents) if out is None and not os.path.lexists(path)]
    folder = make_folder(wanted, new=True) if out is None else Path(out)
    try:
        yield folder
    finally:
        for path in made if out is not None else [folder, *made]:
            with suppress(OSError):  # a folder that something is in stays
                path.rmdir()


@contextmanager
def _output_closed(folder: Path) -> Iterator[None]:
    """Refuse to go on where a reader has closed the output, with what has become of the run."""
    try:
        yield
    except BrokenPipeError:
        let_go_of_output()
        if (folder / CHECKPOINT).exists():
            raise UnrolledError(
                f"the output was closed; the run is saved: unrolled train --resume {quoted(folder)} goes on"
            ) from None
        raise UnrolledError("the output was closed before training began") from None
