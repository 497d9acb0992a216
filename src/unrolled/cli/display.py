"""How a training run looks: two live lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import os
import shlex
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..errors import count
from ..state import Evaluation
from ..text import UNITS
from ..train import LAST, MODEL, Facts, Listener, Progress, Result

PLAIN_EVERY = 10.0
"""Seconds between two progress lines where there is no terminal."""


def losses(nats: float, unit: str) -> str:
    """Nats and bits side by side: '1.386 nats = 2.000 bits a character'."""
    return f"{nats:.4f} nats = {nats / math.log(2):.4f} bits a {unit}"


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss.

    Examples
    --------
    >>> clock(75), clock(3700)
    ('1:15', '1:01:40')
    """
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def quoted(path: Path) -> str:
    """A path as a shell takes it, also where it begins with a dash."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


class Output(Console):
    """A console that lets a closed pipe be an error, so that the run can be saved."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would turn into a silent exit."""
        raise BrokenPipeError


def redrawn(console: Console) -> bool:
    """Whether lines can be drawn anew: on a terminal that a person looks at, and that knows how to.

    A dumb terminal (an editor's shell) does not; a log of continuous integration may come from a terminal that no one
    looks at; and a variable such as FORCE_COLOR makes no terminal of a file.
    """
    return console.is_interactive and console.file.isatty() and not os.environ.get("CI")


class Display(Listener):
    """Prints a run to a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.unit = "character"
        self.bigram = math.nan
        self.val_loss: float | None = None
        self.said = time.monotonic()
        self.live = Live(console=console, refresh_per_second=8, transient=True) if redrawn(console) else None

    def _print(self, label: str, text: str) -> None:
        self.console.print(Text.assemble((f"{label:<11}", "bold"), text), soft_wrap=True)

    def started(self, facts: Facts) -> None:
        """Print what was read, the network and the plan."""
        self.unit, self.bigram = UNITS[facts.level], facts.bigram_entropy
        net, options = facts.network, facts.options
        for note in facts.notes:
            self._print("read", note)
        train, val, test = facts.split
        parts = [f"{train:,} to train", f"{val:,} to validate"] + ([f"{test:,} to test"] if test else [])
        self._print(
            "text", f"{count(facts.symbols, self.unit)}, {count(facts.vocabulary_size, 'symbol')}; {', '.join(parts)}"
        )
        self._print(
            "entropy",
            f"of single symbols {facts.unigram_entropy:.4f} nats, of bigrams {losses(facts.bigram_entropy, self.unit)}",
        )
        spec = net.spec
        equal = isinstance(spec.hidden_size, int)
        units = f"{spec.num_layers} x {spec.hidden_size}" if equal else " and ".join(map(str, spec.widths))
        embedding = f"embedding {spec.embedding_size}" if spec.embedding_size else "one-hot input"
        self._print(
            "network",
            f"{spec.cell}, {units} hidden units, {embedding}, "
            f"{net.parameter_count:,} parameters, {net.recurrent.backend} backend",
        )
        limit = f" or {options.minutes:g} minutes" if options.minutes else ""
        self._print(
            "training",
            f"{options.batch_size} lanes x {options.seq_length} steps, {options.optimizer}, "
            f"up to {options.epochs:g} epochs{limit}" + (f", saved in {facts.out}" if facts.out else ""),
        )
        if facts.step:
            self._print("resumed", f"at step {facts.step:,}")
        if self.live:
            self.live.start()

    def stepped(self, progress: Progress) -> None:
        """Refresh the live lines, or print them as one now and then."""
        lines = [
            f"epoch {progress.epoch:.2f}  step {progress.step:,}/{progress.steps:,}  "
            f"{progress.symbols_per_second:,.0f} {self.unit}s/s  {clock(progress.seconds_left)} left",
            f"training {progress.loss:.4f} nats = {progress.loss / math.log(2):.4f} bits",
        ]
        if self.val_loss is not None:
            lines[1] += f"  validation {self.val_loss:.4f} nats = {self.val_loss / math.log(2):.4f} bits"
        if self.live:
            self.live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self.said >= PLAIN_EVERY:
            self.said = time.monotonic()
            self._print("step", "  ".join(lines))

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Print a line a validation."""
        self.val_loss = evaluation.val_loss
        val = "no validation part" if evaluation.val_loss is None else losses(evaluation.val_loss, self.unit)
        star = "  (best so far)" if best and evaluation.val_loss is not None else ""
        self._print(
            "validation",
            f"epoch {evaluation.epoch:.2f}  step {evaluation.step:,}  training {evaluation.train_loss:.4f} nats  "
            f"validation {val}{star}  {clock(evaluation.seconds)}",
        )

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Say what happened and what is tried next."""
        self._print("diverged", f"{why}; back to step {step:,}, with {factor:g} times the learning rate")

    def sampled(self, text: str) -> None:
        """Show what the model writes, as one line."""
        shown = "".join(c if c.isprintable() else "⏎" if c == "\n" else "·" for c in text)
        self.console.print(Text.assemble((f"{'sample':<11}", "bold"), (shown, "italic cyan")), soft_wrap=True)

    def close(self) -> None:
        """Take the live line away."""
        if self.live:
            self.live.stop()

    def finished(self, result: Result, out: Path | None) -> None:
        """Print the result, where it is, and what to do next."""
        self.close()
        if result.interrupted:
            self._print("stopped", f"at step {result.steps:,}, epoch {result.epochs:.2f}; everything is saved")
        if result.best and result.best.val_loss is not None:
            than = "below" if result.best.val_loss < self.bigram else "above"
            self._print(
                "best",
                f"validation {losses(result.best.val_loss, self.unit)} at step {result.best.step:,}: "
                f"{than} the text's bigram entropy, {self.bigram:.4f} nats",
            )
        if result.test_loss is not None:
            self._print("test", f"of the best model: {losses(result.test_loss, self.unit)}")
        self._print(
            "speed",
            f"{result.symbols_per_second:,.0f} {self.unit}s/s; {result.steps:,} steps in {clock(result.seconds)}",
        )
        if out is not None:
            model = out / MODEL
            self._print("model", f"{model}" + (f" (the last step's: {out / LAST})" if result.interrupted else ""))
            self._print("next", f"unrolled sample {quoted(model)} --length 400 --temperature 0.7")
            if result.interrupted:
                self._print("or", f"unrolled train --resume {quoted(out)}")
