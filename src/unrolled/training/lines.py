"""Plain lines on a run: figures as people compare them, and a callback that prints them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import count, printable
from .callbacks import Callback, Facts
from .state import Evaluation

YARDSTICKS = {"unigram": "unigram counts", "bigram": "bigram counts", "fivegram": "5-gram counts", "xz": "xz"}
"""What a loss is set beside, by name, as it is called."""
ROSE = 0.02
"""By how much of itself a validation loss has to rise to be told of: less is noise."""


def losses(nats: float, unit: str) -> str:
    """Nats and bits side by side: '1.386 nats = 2.000 bits a character'; a loss of no unit is a number."""
    nats += 0.0  # of a text that is certain it is -0.0
    if not unit:
        return f"{nats:.4f}"
    return f"{nats:.4f} nats = {nats / math.log(2):.4f} bits a {unit}"


def figures(nats: float, unit: str) -> str:
    """Return a loss as people compare it: of words and of byte pairs with the perplexity too; of no unit, as it is.

    Examples
    --------
    >>> figures(4.0, "word")
    '4.0000 nats = 5.7708 bits a word, perplexity 54.60'
    """
    perplexity = f", perplexity {math.exp(nats):.2f}" if unit in ("word", "token") and nats < 100 else ""
    return losses(nats, unit) + perplexity


def beside(found: Mapping[str, Any], nats: float, unit: str) -> list[str]:
    """Return yardsticks beside a loss, each a phrase, and which of them the model predicts better than.

    Examples
    --------
    >>> found = {"unigram": 3.0, "bigram": 2.5, "fivegram": 1.5, "xz": 1.75, "predicted": 900, "counted": 8100}
    >>> for phrase in beside(found, 1.6, "character"):
    ...     print(phrase)
    the same 900 characters, by 8,100 of the training part
    unigram counts 3.0000 nats = 4.3281 bits a character
    bigram counts 2.5000 nats = 3.6067 bits a character
    5-gram counts 1.5000 nats = 2.1640 bits a character
    xz 1.7500 nats = 2.5247 bits a character
    the model is better than unigram counts, bigram counts and xz, worse than 5-gram counts
    """
    known = {name: found[key] for key, name in YARDSTICKS.items() if found[key] is not None}
    worse = [name for name, value in known.items() if nats >= value]
    better = [name for name in known if name not in worse]
    said = [f"{how} than {_listed(of)}" for how, of in (("better", better), ("worse", worse)) if of]
    if not worse or not better:
        said = [f"{'worse' if worse else 'better'} than all of them"]
    same = f"the same {count(found['predicted'], unit)}, by {found['counted']:,} of the training part"
    lines = [same, *(f"{name} {figures(value, unit)}" for name, value in known.items())]
    lines.append(f"the model is {', '.join(said)}")
    if nats >= found["unigram"]:
        lines.append(
            "it knows no more than how often each symbol occurs: too short a text, too few updates, a wrong rate?"
        )
    return lines


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def usually(found: Mapping[str, Any], nats: float) -> list[str]:
    """Return what a network of a model's size usually reaches, where it is known, and that a loss lies far above it.

    Examples
    --------
    >>> known = {"usual": {"low": 1.25, "middle": 1.3, "high": 1.35, "runs": 24, "texts": 3}}
    >>> for phrase in usually(known, 1.5):
    ...     print(phrase)
    networks of this size, trained on so long a text, reach 1.2500 to 1.3500 nats (24 runs on 3 texts)
    the model is 15 % above the middle, worse than usual: a run cut short is, or one of few passes
    if it was a whole one, look at its rate, its dropout, a cell of your own (`unrolled check`)
    """
    if found["usual"] is None:
        return []
    low, middle, high, runs, texts = (found["usual"][name] for name in ("low", "middle", "high", "runs", "texts"))
    within = f"{low:.4f} to {high:.4f} nats ({runs} runs on {texts} texts)"
    said = [f"networks of this size, trained on so long a text, reach {within}"]
    if nats > 2 * high - middle:
        above = f"{100 * (nats / middle - 1):.0f} % above the middle, worse than usual"
        said.append(f"the model is {above}: a run cut short is, or one of few passes")
        said.append("if it was a whole one, look at its rate, its dropout, a cell of your own (`unrolled check`)")
    return said


def overfitted(history: Sequence[Evaluation], best: Evaluation) -> str:
    """Return that the validation loss rose while that of training fell, where it did by the end of a run; else "".

    Examples
    --------
    >>> history = [Evaluation(100, 2.0, 2.5, 2.25, 1.0), Evaluation(200, 4.0, 1.5, 2.75, 2.0)]
    >>> overfitted(history, history[0])
    'then up to 2.7500 at step 200, while training fell to 1.5000: it learnt by heart; more --dropout, fewer --epochs'
    >>> overfitted(history, history[1])
    ''
    """
    last = history[-1]
    if best.val_loss is None or last.val_loss is None or last.val_loss < (1 + ROSE) * best.val_loss:
        return ""
    if not last.train_loss < best.train_loss:
        return ""
    fell = f"while training fell to {last.train_loss:.4f}: it learnt by heart; more --dropout, fewer --epochs"
    return f"then up to {last.val_loss:.4f} at step {last.step:,}, {fell}"


def cut_short(epochs: float, seconds: float, options: Any) -> str:
    """Return that the clock ended a run before its passes were over, where it did; else "".

    Examples
    --------
    >>> from unrolled.training.options import TrainingOptions
    >>> cut_short(0.21, 12.3, TrainingOptions(epochs=1, minutes=0.2))
    'by the clock at epoch 0.21 of 1: its 0.2 minutes are over'
    >>> cut_short(1.0, 12.3, TrainingOptions(epochs=1, minutes=0.2))
    ''
    """
    if options is None or options.minutes is None or seconds < 60 * options.minutes:
        return ""
    if round(epochs, 2) >= round(float(options.epochs), 2):
        return ""
    return f"by the clock at epoch {epochs:.2f} of {options.epochs:g}: its {options.minutes:g} minutes are over"


def rates(bits: Mapping[str, float], unit: str) -> str:
    """Return bits a character, a byte and a word between blanks, but for those of a symbol.

    Examples
    --------
    >>> rates({"character": 2.0, "byte": 1.75, "word": 9.5}, "character")
    '1.7500 bits a byte, 9.5000 bits a word between blanks'
    """
    names = {"character": "a character", "byte": "a byte", "word": "a word between blanks"}
    shown = (f"{bits[name]:.4f} bits {what}" for name, what in names.items() if bits.get(name) and name != unit)
    return ", ".join(shown)


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


def network(facts: Facts) -> str:
    """Return what is trained."""
    spec = facts.model.spec
    equal = isinstance(spec.hidden_size, int)
    units = f"{spec.num_layers} x {spec.hidden_size}" if equal else " and ".join(map(str, spec.widths))
    ways = " both ways" if spec.bidirectional else ""
    embedding = f"embedding {spec.embedding_size}" if spec.embedding_size else facts.model.reads
    return (
        f"{spec.cell}, {units} hidden units{ways}, {embedding}, "
        f"{sum(p.size for p in facts.model.params.values()):,} parameters, {facts.model.backend} backend"
    )


def plan(facts: Facts) -> str:
    """Return how it is trained, and how long."""
    options = facts.options
    limit = f" or {_counted(options.minutes, 'minute')}" if options.minutes else ""
    return f"{facts.plan}, {options.optimizer}, up to {_counted(options.epochs, 'epoch')}{limit}" + (
        f", saved in {facts.out}" if facts.out else ""
    )


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def validation(evaluation: Evaluation, best: bool, unit: str) -> str:
    """Return the figures of a validation."""
    val = "no validation part" if evaluation.val_loss is None else f"validation {figures(evaluation.val_loss, unit)}"
    val += others(evaluation.metrics)
    star = "  (best so far)" if best and evaluation.val_loss is not None else ""
    training = f"{evaluation.train_loss:.4f}{' nats' if unit else ''}"
    return (
        f"epoch {evaluation.epoch:.2f}  step {evaluation.step:,}  training {training}  "
        f"{val}{star}  {clock(evaluation.seconds)}"
    )


def others(metrics: Mapping[str, float]) -> str:
    """Return the figures beside the loss, each behind two blanks.

    Examples
    --------
    >>> others({"loss": 0.5, "accuracy": 0.75, "macro_f1": 0.5})
    '  accuracy 0.7500  macro F1 0.5000'
    """
    shown = ((name.replace("_", " ").replace("f1", "F1"), value) for name, value in metrics.items() if name != "loss")
    return "".join(f"  {name} {value:.4f}" for name, value in shown)


def divergence(why: str, step: int, factor: float) -> str:
    """Return what happened and what is tried next."""
    return f"{why}; back to step {step:,}, with {factor:g} times the learning rate"


class Lines(Callback):
    """Prints a line at the start of a run and one a validation to standard error."""

    def started(self, facts: Facts) -> None:
        """Print what is trained, from which step on."""
        self.unit = facts.unit
        begins = f"goes on at step {facts.step:,}: " if facts.step else ""
        _say(f"{begins}{facts.size}; {network(facts)}; {plan(facts)}")

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Print its figures."""
        _say(validation(evaluation, best, self.unit))

    def rolled_back(self, why: str, step: int, factor: float) -> None:
        """Print what happened and what is tried next."""
        _say(divergence(why, step, factor))

    def noted(self, label: str, line: str) -> None:
        """Print a line."""
        _say(f"{label} {line}")


def _say(line: str) -> None:
    if sys.stderr is not None:  # a program without a console has none
        print(printable(line), file=sys.stderr, flush=True)
