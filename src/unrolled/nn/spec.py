"""`Spec`: the description of a network, as a file keeps it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

from ..cells.name import LONGEST
from ..checks import MOST_LAYERS, as_dtype, as_kind, check_size, check_widths
from ..declared import check_option, documented, options
from ..errors import UnrolledError
from ..keywords import suggesting
from ..schema import each, entries, flag, maybe, number, text, whole
from .options import DTYPES, STACK, NetworkOptions, SpellingOptions
from .stack import Stack

if TYPE_CHECKING:
    from .heads import Head

LATER = "bidirectional"
"""The first of the options that came after the first release: files name them where they are not at their default."""


@dataclass(frozen=True)
class _Sized:
    vocabulary_size: int


@suggesting
@documented
@dataclass(frozen=True)
class Spec(SpellingOptions, NetworkOptions, _Sized):
    """Everything needed to rebuild a network; stored as JSON in the model file.

    Attributes
    ----------
    vocabulary_size : int
        V, number of symbols.
    characters : int
        Distinct characters of words that are read with their spelling: x is (T, B, 1 + C) then, the word and its
        characters' numbers from 1, with 0 behind its end. 0: x is (T, B).
    **options

    Examples
    --------
    >>> Spec(vocabulary_size=65, hidden_size=128).to_json()["cell"]
    'lstm'
    """

    characters: int = 0

    @property
    def widths(self) -> tuple[int, ...]:
        """Hidden units of every layer."""
        several = isinstance(self.hidden_size, (tuple, list))
        return check_widths(self.hidden_size, None if several else self.num_layers)

    @property
    def parameter_count(self) -> int:
        """Number of parameters, without making them."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    def shapes(self, head: Head | None = None) -> dict[str, tuple[int, ...]]:
        """Return every parameter's name and shape, without making them; by default of a head that predicts symbols.

        Examples
        --------
        >>> Spec(vocabulary_size=11, hidden_size=5, num_layers=1).shapes()["decoder.weight"]
        (11, 5)
        """
        if self.softmax != "full":
            from .adaptive import of_spec  # which knows this class

            head = of_spec(self, head)
        size, stack = self.vocabulary_size, self.stack()
        shapes: dict[str, tuple[int, ...]] = {}
        if self.embedding_size:
            shapes["embedding.weight"] = size, self.embedding_size
        if self.characters:
            shapes["characters.embedding.weight"] = self.characters, self.characters_embedding_size
            shapes |= {f"characters.recurrent.{name}": shape for name, shape in self.speller().shapes().items()}
        shapes |= {f"recurrent.{name}": shape for name, shape in stack.shapes().items()}
        outputs = (head and head.outputs) or size
        weight = {} if self.tied else {"decoder.weight": (outputs, stack.output_size)}
        own = head.shapes(stack.output_size, outputs) if head else {}
        return shapes | weight | {"decoder.bias": (outputs,)} | own

    def state_shapes(self, batch: int) -> list[tuple[int, ...]]:
        """Return the shape of every array of the state of B rows, in order, without making them."""
        return [shape for layer in self.stack().states.shapes(batch) for shape in layer.values()]

    def stack(self) -> Stack:
        """Return the recurrent stack, without weights."""
        return Stack(self.cell, self.input_size, self.widths, **self.stack_options())

    @property
    def input_size(self) -> int:
        """I, numbers that the first layer reads a step."""
        spelled = 2 * self.characters_hidden_size if self.characters else 0
        return (self.embedding_size or self.vocabulary_size) + spelled

    def speller(self) -> Stack:
        """Return the encoder of spellings, without weights."""
        sizes = self.characters_embedding_size, self.characters_hidden_size
        return Stack(self.cell, *sizes, **self.speller_options())

    def speller_options(self) -> dict[str, Any]:
        """Return the options that the encoder of spellings shares with the stack."""
        shared = {name: getattr(self, name) for name in ("bias", "dtype", "init", "forget_bias", "cell_settings")}
        return shared | {"bidirectional": True}

    def stack_options(self) -> dict[str, Any]:
        """Return the options of the recurrent stack."""
        return {name: getattr(self, name) for name in STACK}

    def check(self) -> None:
        """Refuse sizes, shares and names that make no sense."""
        check_size("vocabulary_size", self.vocabulary_size)
        check_size("characters", self.characters, least=0)
        for name, declared in options(type(self)).items():
            check_option(declared, getattr(self, name))
        check_widths(self.hidden_size, self.num_layers)
        width, last = self.embedding_size, self.stack().output_size if self.tied else 0
        if self.tied and width != last:
            raise UnrolledError(
                f"tied weights need an embedding as wide as the last layer: embedding_size is {width}, that is {last}"
            )
        if self.embedding_dropout and not width:
            raise UnrolledError("embedding_dropout drops rows of the embedding; embedding_size is 0, there is none")
        if (self.characters or self.word_dropout) and not width:
            raise UnrolledError("words are read by a table, with their spelling or without; embedding_size is 0")

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary; without what later versions have added, where it is at its default.

        So files that need no more stay as they were, and earlier versions read them.
        """
        names = [f.name for f in fields(self)]
        later = {f.name: f.default for f in fields(self)[names.index(LATER) :]}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Rebuild from `to_json`'s dictionary; unknown, missing or ill-typed entries are errors.

        (What files of earlier versions lack has its default: those versions knew nothing else.)
        """
        kinds = {f.name: _KINDS[str(f.type)] for f in fields(cls)}
        names = list(kinds)
        return cls(**entries(kinds, optional=names[names.index("locked_dropout") :])("spec", data))

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", as_dtype(self.dtype, DTYPES))
        for f in fields(self):
            object.__setattr__(self, f.name, as_kind(f.name, getattr(self, f.name), str(f.type)))
        if isinstance(self.hidden_size, tuple):  # one width is a number
            object.__setattr__(self, "num_layers", len(self.hidden_size))
            object.__setattr__(self, "hidden_size", _plain(self.hidden_size))


def _widths(name: str, value: Any) -> Any:
    """Take the width of all layers, or of each."""
    return each(whole(1), most=MOST_LAYERS)(name, value) if isinstance(value, list) else whole(1)(name, value)


_KINDS = {
    "int": whole(),
    "int | tuple[int, ...]": _widths,
    "float": number(),
    "float | None": maybe(number()),
    "str": text(100),
    "str | Cell": text(LONGEST),
    "bool": flag(),
}
"""Kinds of entries of a file's description of a network, by types of `Spec`; ranges are checked with the network."""


def _plain(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    """Widths of layers as a tuple, or as one number where all are equal."""
    return sizes[0] if len(set(sizes)) == 1 else sizes
