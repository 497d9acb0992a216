"""How a training run looks: two live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import re
import shlex
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import count, printable
from ..training import lines as said
from ..training.callbacks import Callback, Facts, Progress, Result
from ..training.lines import clock, figures
from ..training.state import Evaluation
from ..training.trainer import LAST, MODEL

LABEL = 11
"""Columns of what a line is about."""

SIZES = ("COLUMNS", "LINES", "JUPYTER_COLUMNS", "JUPYTER_LINES")
"""Variables that rich takes a console's size from; it takes "²" for a number."""

PLAIN_EVERY = 10.0
"""Seconds between two progress lines where there is no terminal."""

PATIENCE = 3.0
"""Seconds after which a text that is still being read is spoken of."""


def wrapped(text: str, width: int) -> list[str]:
    """Return a text as lines of a width: cut between its phrases, which have two blanks between, else between words.

    Examples
    --------
    >>> wrapped("epoch 0.42  step 320  validation 1.9963 nats", 24)
    ['epoch 0.42  step 320', 'validation 1.9963 nats']
    >>> wrapped("one phrase", 8)
    ['one', 'phrase']
    """
    phrases = (phrase if len(phrase) > width else phrase.replace(" ", "\0") for phrase in text.split("  "))
    lines = textwrap.wrap("  ".join(phrases), max(1, width), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines] or [""]


def quoted(path: Path) -> str:
    r"""A path as a shell takes it, also where it begins with a dash; bash's quotes hold what can't be printed.

    Examples
    --------
    >>> print(quoted(Path("a b")), quoted(Path("-x")), quoted(Path("it's\udcff")))
    'a b' ./-x $'it\x27s\xff'
    """
    text = f"./{path}" if str(path).startswith("-") else str(path)
    if text.isprintable():
        return shlex.quote(text)
    plain = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(plain)}'"


class Output(Console):
    """A console that lets a closed pipe be an error, so that the run can be saved, and a size be a number."""

    def __init__(self, **options: Any) -> None:
        environ = options.pop("_environ", os.environ)
        odd = {name for name in SIZES if not re.fullmatch("[1-9][0-9]{0,4}", environ.get(name, ""))}
        super().__init__(**options, _environ={name: v for name, v in environ.items() if name not in odd})

    def on_broken_pipe(self) -> None:
        """Raise what rich would turn into a silent exit."""
        raise BrokenPipeError


def redrawn(console: Console) -> bool:
    """Whether lines can be drawn anew: on a terminal that a person looks at, and that knows how to.

    A dumb terminal (an editor's shell) does not; a log of continuous integration may come from a terminal that no one
    looks at; and a variable such as FORCE_COLOR makes no terminal of a file.
    """
    return console.is_interactive and console.file.isatty() and not os.environ.get("CI")


class Display(Callback):
    """Prints a run to a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.unit = self.noun = "character"
        self.use = self.cell = ""
        self.options: Any = None
        self.last: Evaluation | None = None
        self.said = time.monotonic()
        self.live = Live(console=console, refresh_per_second=8, transient=True) if redrawn(console) else None

    def _print(self, label: str, text: str, *, whole: bool = False) -> None:
        """Print a line; on a terminal cut where it is too long, unless it is a command that is to be copied whole."""
        text = printable(text)
        if self.console.is_terminal and not whole:
            text = f"\n{'':<{LABEL}}".join(wrapped(text, self.console.width - LABEL))
        self.console.print(Text.assemble((f"{label:<{LABEL}}", "bold"), text), soft_wrap=True)

    @contextmanager
    def patience(self, what: str) -> Iterator[None]:
        """Print what is being done if it takes longer than a moment."""
        timer = Timer(PATIENCE, self._print, ("read", f"{what} ..."))
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def started(self, facts: Facts) -> None:
        """Print what was read, the network and the plan."""
        self.unit, self.use, self.options = facts.unit, facts.use, facts.options
        given = getattr(facts.model.spec.cell, "given", "")
        self.cell = f" --cell {shlex.quote(given)}" if ":" in given else ""
        self.noun = facts.unit or "target"
        for note in facts.notes:
            self._print("read", note)
        for label, line in facts.about:
            self._print(label, line)
        self._print("network", said.network(facts))
        self._print("training", said.plan(facts))
        if facts.step:
            self._print("resumed", f"at step {facts.step:,}")
        if self.live:
            self.live.start()

    def stepped(self, progress: Progress) -> None:
        """Refresh the live lines, or print them as one now and then."""
        lines = [
            f"epoch {progress.epoch:.2f}  step {progress.step:,}/{progress.steps:,}  "
            f"{progress.symbols_per_second:,.0f} {self.noun}s/s  {clock(progress.seconds_left)} left",
            f"training {self._loss(progress.loss)}",
        ]
        if self.last is not None and self.last.val_loss is not None:
            lines[1] += f"  validation {self._loss(self.last.val_loss)}{said.others(self.last.metrics)}"
        if self.live:
            lines = [part for line in lines for part in wrapped(line, self.console.width)]
            self.live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self.said >= PLAIN_EVERY:
            self.said = time.monotonic()
            self._print("step", "  ".join(lines))

    def _loss(self, value: float) -> str:
        """Return a loss in its units."""
        return f"{value:.4f} nats = {value / math.log(2):.4f} bits" if self.unit else f"{value:.4f}"

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Print a line a validation."""
        self.last = evaluation
        self._print("validation", said.validation(evaluation, best, self.unit))

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Print what happened and what is tried next."""
        self._print("diverged", said.divergence(why, step, factor))

    def sampled(self, text: str) -> None:
        """Show what the model writes, as one line."""
        shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in text)
        self.console.print(Text.assemble((f"{'sample':<11}", "bold"), (shown, "italic cyan")), soft_wrap=True)

    def noted(self, label: str, line: str) -> None:
        """Print a line."""
        self._print(label, line)

    def close(self) -> None:
        """Take the live line away."""
        if self.live:
            self.live.stop()

    def finished(self, result: Result, out: Path | None) -> None:
        """Print the result, where it is, and what to do next."""
        self.close()
        cut = "" if result.interrupted else said.cut_short(result.epochs, result.seconds, self.options)
        if result.interrupted:
            self._print("stopped", f"at step {result.steps:,}, epoch {result.epochs:.2f}; everything is saved")
        elif cut:
            self._print("stopped", cut)
        if result.best and result.best.val_loss is not None:
            val = figures(result.best.val_loss, self.unit)
            val += said.others(result.best.metrics)
            self._print("best", f"validation {val} at step {result.best.step:,}")
            if result.history and (rose := said.overfitted(result.history, result.best)):
                self._print("", rose)
            if result.yardsticks is not None:
                bits = result.best.val_loss * result.yardsticks["predicted"] / math.log(2)
                known = {unit: bits / number for unit, number in result.yardsticks["units"].items() if number}
                if others := said.rates(known, self.unit):
                    self._print("", others)
                phrases = said.beside(result.yardsticks, result.best.val_loss, self.unit)
                for k, phrase in enumerate(phrases):
                    self._print("" if k else "beside it", phrase)
                for k, phrase in enumerate(said.usually(result.yardsticks, result.best.val_loss)):
                    self._print("" if k else "usually", phrase)
        if result.test is not None:
            tested = figures(result.test["loss"], self.unit) + said.others(result.test)
            self._print("test", f"of the best model: {tested}")
        rate = f"{result.symbols_per_second:,.0f} {self.noun}s/s"
        self._print("speed", f"{rate}; {count(result.steps, 'step')} in {clock(result.seconds)}")
        if out is not None:
            model = out / MODEL
            self._print("model", f"{model}" + (f" (the last step's: {out / LAST})" if result.interrupted else ""))
            if self.use:
                self._print("next", self.use.format(model=quoted(model)) + self.cell, whole=True)
            if result.interrupted or cut:
                more = " --minutes MORE" if cut else ""
                self._print("go on", f"unrolled train --resume {quoted(out)}{self.cell}{more}", whole=True)
