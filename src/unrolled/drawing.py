"""How text is drawn: the options of it, declared once for Python and for the command."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from .checks import check_positive, check_size, is_number
from .declared import Declared, check_plain, documented, option, options
from .errors import UnrolledError, brief
from .expressions import Expression
from .keywords import suggesting

GROUP = "What is drawn from"

MOST_TEXTS = 1024
"""Texts that a search keeps, at most: each has a row of probabilities of all symbols."""


def check_temperature(value: Any) -> float:
    """Return a temperature as a float, or say what is wrong with it."""
    if not is_number(value) or float(value) < 0:
        raise UnrolledError(f"temperature is {brief(value)}; it must be 0 (greedy) or a positive number")
    return float(value)


def _share(name: str, value: Any) -> float:
    """Return a share of a probability, above 0 and at most 1, or say what is wrong with it."""
    return check_positive(name, value, most=1)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """Return one text or several, none of them empty."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (tuple, list)) or not all(isinstance(text, str) and text for text in texts):
        shown = brief(value[0] if isinstance(value, (tuple, list)) and len(value) == 1 else value)
        raise UnrolledError(f"{name} is {shown}; it must be a text, or several, and none of them empty")
    return tuple(texts)


def _pattern(_: str, value: Any) -> str:
    """Return a regular expression that can be matched, or say what is wrong with it."""
    Expression(value)
    return str(value)


@suggesting
@documented
@dataclass(frozen=True)
class Drawing(Declared):
    """How the symbols of a text are drawn; what is left out is done in the order of the options.

    Attributes
    ----------
    **options

    Raises
    ------
    UnrolledError
        If an option makes no sense.

    Examples
    --------
    >>> Drawing(top_k=3).plain, Drawing(temperature=0.5).plain
    (False, True)
    """

    temperature: float = option(
        1.0,
        "0 is greedy, 1 the model's own distribution.",
        GROUP,
        lambda _, value: check_temperature(value),
        about="0 always takes the likeliest symbol; 1 draws from the model's own probabilities; higher is more varied.",
    )
    repetition_penalty: float = option(
        1.0,
        "Makes symbols less likely that the text has already.",
        GROUP,
        check_positive,
        about="Logits above 0 of symbols that the prompt or the text so far has are divided by this, those below 0 "
        "multiplied. Keskar et al. 2019.",
    )
    allow: str | None = option(
        None,
        "Only what goes on to a match of this regular expression, as '[a-z ]*'.",
        GROUP,
        _pattern,
        about="Only symbols with which the text can still become a match of this regular expression, as '[a-z ]*'.",
    )
    top_k: int | None = option(
        None,
        "Only the likeliest symbols, so many.",
        GROUP,
        check_size,
        about="Only the likeliest symbols, so many. Fan et al. 2018.",
    )
    top_p: float | None = option(
        None,
        "Only the fewest likeliest symbols that have this probability together.",
        GROUP,
        _share,
        about="Only the fewest likeliest ones whose probabilities reach this together. Holtzman et al. 2020.",
    )
    min_p: float | None = option(
        None,
        "Only symbols that have this share of the likeliest one's probability.",
        GROUP,
        _share,
        about="Only those whose probability is at least this share of the likeliest one's. Nguyen et al. 2024.",
    )
    stop: tuple[str, ...] = option(
        (),
        "End the text before this, which is not written; may be repeated.",
        GROUP,
        _texts,
        about="Text, or several, that what is drawn ends before; it is not written.",
    )

    beam: int | None = option(
        None,
        f"Draw nothing: search a likely text, and keep so many, at most {MOST_TEXTS:,}, at each symbol.",
        GROUP,
        partial(check_size, most=MOST_TEXTS),
        about="Search a text that is likely as a whole instead of drawing one: so many are kept at each symbol, at "
        f"most {MOST_TEXTS:,}.",
    )

    def __post_init__(self) -> None:
        for name, declared in options(type(self)).items():
            object.__setattr__(self, name, check_plain(declared, getattr(self, name)))
        if self.beam is not None:
            chance = ("temperature", "repetition_penalty", "top_k", "top_p", "min_p")
            usual = Drawing()
            if odd := [name for name in chance if getattr(self, name) != getattr(usual, name)]:
                raise UnrolledError(f"beam searches a likely text, and draws nothing; leave out {odd[0]}, or beam")

    def check_number(self, n: int) -> None:
        """Refuse to search several texts."""
        if self.beam is not None and n > 1:
            raise UnrolledError(f"beam finds one text, and {n:,} are asked for; leave out n, or beam")

    @property
    def plain(self) -> bool:
        """Whether all symbols are drawn from, by their temperature alone, and nothing but the length ends a text."""
        return self == Drawing(temperature=self.temperature)

    def to_json(self) -> dict[str, Any]:
        """Return what was chosen, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
