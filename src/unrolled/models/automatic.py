"""Settings that fit data and time: how large a network, how many passes, at what rate.

They follow from counted work alone, never from a clock: a run on them goes on to the same bits, and the same command
chooses the same on every machine. docs/results.md has the runs that the rules rest on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from ..data.batches import Batches
from ..nn.heads import Head
from ..nn.spec import Spec
from .options import ModelOptions, Options

O = TypeVar("O", bound=ModelOptions)

MINUTES = 5.0
"""Time that is planned for where none is named."""
SPEED = 1.8e11
"""Operations a second that are planned with: about what two threads of the engine do (docs/benchmarks.md)."""
WORK = 6
"""Operations that a symbol costs for each number that multiplies it: two forward, four backward."""
A_SYMBOL, AN_UPDATE, A_PARAMETER = 4e-7, 4e-4, 1e-9
"""Seconds that each costs besides; a parameter, in every update."""
WIDTHS = (32, 48, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024)
SHOWN, SHOWN_WORDS = 5, 3
"""Symbols and words that a network is to be shown for each number that multiplies them: fewer, and it is too large to
learn."""
PASSES, PASSES_WORDS, ONE_MORE = 40, 3, 700_000
"""Passes over a text, at most; over words, and for how many of them one more: they are learnt by heart within more,
however much dropout there is."""
FEW, ENOUGH, BY_HEART = 6, 10, 150
"""Passes over a text, if not by words. A wide network learns more in `ENOUGH` than a narrow one in any number, and is
chosen where there is time for them. It makes fewer, but `FEW`, where these times numbers for each symbol come to
`BY_HEART`."""
LANES, STEPS, UPDATES = 16, 64, 1500
"""Lanes and steps of a batch, and updates: fewer lanes, where passes over a short text would make fewer updates."""
FEWEST, SHORTEST = 2, 16
"""Lanes and steps, at least: shorter texts are no texts to learn from."""
SIZES = ("batch_size", "seq_length")
OWN = 25
"""Numbers that multiply, at most, for each symbol of the text: nothing is gained by more."""
DROPOUT, OF_ENOUGH = ((2.5, 0.0), (7, 0.1), (15, 0.2), (40, 0.3), (60, 0.4), (math.inf, 0.5)), 0.3
"""Passes over the text, times those numbers for each of its symbols, and the dropout for fewer than that: what is seen
often by many is learnt by heart. It is that number at most where no more than `ENOUGH` passes are made."""
DROPOUT_WORDS = 30, {"dropout": 0.5, "input_dropout": 0.5, "embedding_dropout": 0.1}
"""From how much of that on words are dropped too, and how much of all: the fourth pass over two million learns them by
heart."""
ENDS, ENDS_WORDS = 0.5, 8
"""Numbers for each token of many kinds and each word, at least, that count so: their embedding and decoder learn by
heart too."""
INIT_WORDS = "uniform:0.1"
"""First weights for words, most of which are rare: a row of N(0, 1) that few updates move stays noise."""
USUAL = {"cell": "gru_reset_after", "num_layers": 1, "schedule": "cosine"}
"""What is chosen for every text."""
MEMORY_CELL, OF_MEMORY = "lstm", ("proj_size", "zoneout_cell", "forget_bias")
"""The cell that is chosen instead, where one of these options is asked for: they are of a memory or its forget gate."""
CHOSEN: dict[str, dict[str, str]] = {
    "language": {name: str(value) for name, value in USUAL.items()}
    | dict.fromkeys(("hidden_size", "embedding_size", "tied", "softmax", "dropout", "unigram_bias", "init"), "chosen")
    | dict.fromkeys((*SIZES, "epochs", "learning_rate", "input_dropout", "embedding_dropout"), "chosen"),
    "tag": {"epochs": "chosen"},
    "classify": {},  # patience ends it
    "forecast": {"epochs": "chosen"},
}
"""Options that are chosen for each task, where nothing is asked for: what each is, or that it follows from the data."""
LOOKED_AT = 20
"""Batches, at most, that the steps of a pass are estimated from."""
WORDS, MANY_WORDS = 1000, 5000
"""Symbols from which on a vocabulary is a large one, and words from which on their softmax is an adaptive one."""
IN_CLUSTERS = 0.15
"""Share of the words of a text that are in a cluster of it (by Zipf's law a seventh)."""


class Chosen(NamedTuple):
    """Options, some of them chosen.

    Attributes
    ----------
    options : ModelOptions
        A run with them is the same run.
    why : tuple of str
        What was chosen, and why, a line each.
    """

    options: Any
    why: tuple[str, ...]


def for_text(options: Options, asked: Collection[str], symbols: int, vocabulary_size: int) -> Chosen:
    """Choose what isn't asked for, to train a language model.

    Parameters
    ----------
    options : Options
        Its `minutes` are planned for; where epochs are asked for too, they end the run by the clock.
    asked : collection of str
        Options that stay as they are.
    symbols : int
        N, to train on.
    vocabulary_size : int
        V.

    Returns
    -------
    Chosen

    Examples
    --------
    A novel and a minute:

    >>> options = for_text(Options(minutes=1), [], symbols=650_000, vocabulary_size=76).options
    >>> options.cell, options.hidden_size, options.batch_size, options.minutes
    ('gru_reset_after', 384, 16, None)
    """
    minutes, symbols = options.minutes or MINUTES, max(1, symbols)  # of none, whoever trains says that there are none
    asked = {*asked, *(["num_layers"] if isinstance(options.hidden_size, tuple) else [])}  # the widths say it
    of_memory = [name for name in OF_MEMORY if getattr(options, name) != getattr(Options, name)]
    of_words = _of_words(options, vocabulary_size)
    usual = USUAL | ({"cell": MEMORY_CELL} if of_memory else {}) | ({"init": INIT_WORDS} if of_words else {})
    usual |= {"unigram_bias": options.level == "byte"}  # most of which never occur
    sizes = _sizes(_set(options, asked, **usual), asked, symbols, vocabulary_size, minutes)
    size, why = _widest(sizes, symbols, vocabulary_size)
    lanes = max(FEWEST, min(LANES, round(size.passes * symbols / (STEPS * UPDATES)), symbols // (2 * STEPS)))
    chosen = _set(
        size.options,
        asked,
        epochs=float(f"{size.passes:.3g}"),
        batch_size=lanes,
        seq_length=max(SHORTEST, min(STEPS, (symbols - 1) // lanes)),
        learning_rate=_rate(size.options),
        **_dropout(size, symbols, vocabulary_size),
    )
    if "epochs" not in asked:
        chosen = replace(chosen, minutes=None)
    own = size.numbers / symbols
    seen = "what is seen often is learnt by heart" if chosen.dropout else "too few to learn anything by heart"
    often = f"for {size.passes:.1f} passes, {own:.1f} numbers for each symbol: {seen}"
    epochs = "more would learn the text by heart" if size.passes == size.most else "as many as the time allows"
    wanted = " and ".join(of_memory).replace("_", " ")
    has = {"cell": f"it has what {wanted} need{'s' if len(of_memory) == 1 else ''}"} if of_memory else {}
    said = _said(chosen, asked, hidden_size=why, epochs=epochs, dropout=often, **has)
    as_asked = f"for {size.most:g} pass{'' if size.most == 1 else 'es'}, as asked"
    planned = _planned(minutes) if size.passes < size.most or "epochs" not in asked else as_asked
    return Chosen(chosen, (planned, *said))


def for_rows(options: O, asked: Collection[str], batches: Batches, spec: Spec, head: Head) -> Chosen:
    """Choose how often sentences, examples or windows are passed, where that isn't asked for.

    The other defaults of a kind of model were chosen on data of its kind. Where patience ends a run, nothing is chosen.

    Parameters
    ----------
    options : ModelOptions
    asked : collection of str
    batches : Batches
        Of one pass.
    spec : Spec
    head : Head
    """
    if "epochs" in asked or options.patience:
        return Chosen(options, ())
    minutes, usual = options.minutes or MINUTES, options.epochs
    some = [batches[k] for k in range(0, len(batches), -(-len(batches) // LOOKED_AT))]
    steps = sum(len(batch.x) * batch.size for batch in some) / len(some) * len(batches)
    in_time = 60 * minutes / seconds(spec, steps, len(batches), head)
    passes = max(1, math.floor(min(max(usual, UPDATES / len(batches)), 10 * usual, in_time)))
    why = f"{passes * len(batches):,} updates, within {minutes:g} minutes' work"
    return Chosen(replace(options, epochs=float(passes), minutes=None), (_planned(minutes), f"epochs {passes}: {why}"))


def seconds(spec: Spec, symbols: float, updates: float, head: Head | None = None) -> float:
    """Return how long is planned for: so many symbols in so many updates of a network."""
    numbers, parameters = multiplied(spec, head), sum(map(math.prod, spec.shapes(head).values()))
    return symbols * (WORK * numbers / SPEED + A_SYMBOL) + updates * (AN_UPDATE + parameters * A_PARAMETER)


def multiplied(spec: Spec, head: Head | None = None, *, ends: bool = True) -> float:
    """Return how many numbers multiply what a step reads: those of all matrices but embeddings, which are looked up.

    Those of a cluster count as often as words are in it; without the `ends`, those of the stack alone do.
    """
    shapes = spec.shapes(head)
    looked_up = "embedding.weight", "characters.embedding.weight"
    found = math.prod(shapes.get("embedding.weight", (0,))) if spec.tied and ends else 0.0
    for name, shape in shapes.items():
        if len(shape) > 1 and name not in looked_up and (ends or "recurrent." in name):
            found += math.prod(shape) * (IN_CLUSTERS if name.startswith("head.cluster") else 1)
    return found


class Size(NamedTuple):
    """A network that a text may get.

    Attributes
    ----------
    options : Options
    numbers : float
        How many of its stack's multiply what a step reads; those around it too, where there are few symbols.
    most, passes : float
        Passes over the text at most, and those of them that there is time for.
    """

    options: Options
    numbers: float
    most: float
    passes: float


def _of_words(options: Options, vocabulary_size: int) -> bool:
    """Return whether a text is of many kinds of words, most of them rare."""
    return vocabulary_size > WORDS and options.level == "word"


def _sizes(options: Options, asked: Collection[str], symbols: int, vocabulary_size: int, minutes: float) -> list[Size]:
    """Return the networks that a text may get, narrow ones first; where a width is asked for, one."""
    few, of_words = vocabulary_size <= WORDS, _of_words(options, vocabulary_size)
    wide_enough = [width for width in WIDTHS if width > options.proj_size] or WIDTHS[-1:]
    a_batch = math.prod(getattr(_set(options, asked, batch_size=LANES, seq_length=STEPS), name) for name in SIZES)
    sizes = []
    for width in wide_enough[:1] if "hidden_size" in asked else wide_enough:
        size = _of_width(options, asked, width, vocabulary_size)
        numbers = multiplied(replace(size, proj_size=0).spec(vocabulary_size), ends=few)  # it makes no wider network
        if "epochs" in asked:
            most = options.epochs
        elif of_words:
            most = min(PASSES, round(PASSES_WORDS + symbols / ONE_MORE, 1))
        else:
            most = min(PASSES if "hidden_size" in asked else ENOUGH, max(FEW, round(BY_HEART * symbols / numbers, 1)))
        in_time = 60 * minutes / seconds(size.spec(vocabulary_size), symbols, symbols / a_batch)
        sizes.append(Size(size, numbers, most, min(most, in_time)))
    return sizes


def _widest(sizes: Sequence[Size], symbols: int, vocabulary_size: int) -> tuple[Size, str]:
    """Return the widest network that the text can teach in its passes, and why it is this one."""
    of_words = _of_words(sizes[0].options, vocabulary_size)
    shown = SHOWN_WORDS if of_words else SHOWN
    taught = [
        s for s in sizes if s.passes * symbols >= shown * s.numbers or (not of_words and s.passes == s.most)
    ] or sizes[:1]
    size = ([s for s in sizes[: sizes.index(taught[-1]) + 1] if s.numbers <= OWN * symbols] or sizes[:1])[-1]
    if size is not taught[-1]:
        return size, f"as wide as a text of this length can use: {size.numbers / symbols:.1f} numbers for each symbol"
    if not of_words and size.passes == size.most:
        return size, f"as wide as there is time for {size.passes:g} {'pass' if size.passes == 1 else 'passes'}"
    what = "passes" if size.passes == size.most else "the time"
    each = size.passes * symbols / size.numbers
    return size, f"as wide as {what} can teach: {each:.1f} symbols for each number of its matrices"


def _dropout(size: Size, symbols: int, vocabulary_size: int) -> dict[str, float]:
    """Return how much is dropped, and what else: the more, the oftener a text is seen and the less there is of it."""
    of_words = _of_words(size.options, vocabulary_size)
    ends = 0 if vocabulary_size <= WORDS else ENDS_WORDS if of_words else ENDS
    by_heart = size.passes * max(size.numbers / symbols, ends)
    if of_words and by_heart >= DROPOUT_WORDS[0]:
        return DROPOUT_WORDS[1]
    dropout = next(rate for below, rate in DROPOUT if by_heart < below)
    return {"dropout": min(dropout, OF_ENOUGH) if size.passes <= ENOUGH else dropout}


def _of_width(options: Options, asked: Collection[str], width: int, vocabulary_size: int) -> Options:
    """Return the options with a width, and what stands around the stack: where there are many symbols, less of it."""
    options, large = _set(options, asked, hidden_size=width), vocabulary_size > WORDS
    many = options.level == "word" and vocabulary_size > MANY_WORDS and not (options.tied or options.label_smoothing)
    options = _set(options, asked, softmax="adaptive" if many else "full")
    width = options.spec(vocabulary_size).widths[-1]
    options = _set(options, asked, embedding_size=width if large or options.tied else 64)
    fits = options.softmax == "full" and options.embedding_size == width and not options.proj_size
    return _set(options, asked, tied=large and fits)


def _set(options: O, asked: Collection[str], **chosen: Any) -> O:
    """Return the options with what was chosen of those that aren't asked for."""
    return replace(options, **{name: value for name, value in chosen.items() if name not in asked})


def _rate(options: Options) -> float | None:
    """Return the learning rate: Adam's falls with the width."""
    if options.optimizer not in ("adam", "adamw"):
        return options.learning_rate
    width = options.spec(2).widths[-1]
    return float(f"{min(0.01, max(0.001, 1.25 / width)):.1g}")


def _planned(minutes: float) -> str:
    plural = "" if minutes == 1 else "s"
    return f"for {minutes:g} minute{plural} of counted work, as two threads do it; one or NumPy takes longer"


def _said(options: Options, asked: Collection[str], **why: str) -> Iterator[str]:
    """Yield what was chosen for a text, and why."""
    why = {
        "cell": "learns most in a given time of the cells that PyTorch has",
        "batch_size": "small batches make many updates",
        "learning_rate": "1.25 over the width, from 0.001 to 0.01",
        "unigram_bias": "it begins with how often each symbol occurs",
        "init": "a rare word's first row is small, for few updates move it",
        "softmax": "rare words are predicted in clusters, which takes a fraction of the time",
    } | why
    unlike = {"unigram_bias": False, "init": Options.init, "softmax": Options.softmax}
    for name in ("cell", "hidden_size", "epochs", "batch_size", "learning_rate", "dropout", *unlike):
        value = getattr(options, name)
        if name not in asked and value != unlike.get(name):
            yield f"{name.replace('_', ' ')} {'on' if value is True else value}: {why[name]}"
    rest = ("num_layers", "embedding_size", "tied", "input_dropout", "embedding_dropout", "seq_length", "schedule")
    also = [
        f"{name.replace('_', ' ')} {value}" for name in rest if name not in asked and (value := getattr(options, name))
    ]
    if also:
        yield f"besides: {', '.join(also).replace('tied True', 'tied')}"
