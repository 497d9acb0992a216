"""Names of cells that are a user's own: texts that have their cell with them, or say what to do where it is not here.

Options, descriptions and files name a cell. A built-in is found by its name alone; a user's own is nowhere to be found,
so its name brings it along, through every option and every copy, and nothing has to be remembered for it.
"""

from __future__ import annotations

from typing import Any, Self

from ..errors import UnrolledError, brief
from .cell import Cell
from .fingerprint import fingerprint

LONGEST = 100
"""Characters of a name in a file."""


class CellName(str):
    """The name of a user's own cell.

    Attributes
    ----------
    cell : Cell or None
        None where it is not here: a file names it, and loading a file runs no code.
    given : str
        How the user named it, "my_cell.py:MUT1", for their own reading; the name where it was handed in as an object.
    why : str
        Where it is not here, what is missing and what to do.
    """

    cell: Cell | None
    given: str
    why: str

    def __new__(cls, cell: Cell, given: str = "") -> Self:
        """Return the name of a cell."""
        if len(cell.name) > LONGEST:
            raise UnrolledError(
                f"cell {brief(cell.name)}: its name has more than {LONGEST} characters; give a short one"
            )
        return cls._made(cell.name, cell, given or cell.name, "")

    @classmethod
    def absent(cls, name: str, why: str) -> Self:
        """Return the name of a cell that is not here; whoever looks for it is told why."""
        return cls._made(name, None, name, why)

    @classmethod
    def _made(cls, name: str, cell: Cell | None, given: str, why: str) -> Self:
        self = super().__new__(cls, name)
        self.cell, self.given, self.why = cell, given, why
        return self

    def __eq__(self, other: object) -> bool:
        """Whether the text is the same, and both cells compute the same where both have theirs with them."""
        if not isinstance(other, CellName) or self.cell is None or other.cell is None:
            return str.__eq__(self, other)
        return str.__eq__(self, other) and same(self.cell, other.cell)

    def __ne__(self, other: object) -> bool:
        """Whether it is not equal."""
        return not self == other

    __hash__ = str.__hash__

    def __copy__(self) -> Self:
        """Return the name itself: nothing of it ever changes."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the name itself."""
        return self

    def __reduce__(self) -> Any:
        """Pickle the text and the cell, as cells are pickled."""
        return type(self)._made, (str(self), self.cell, self.given, self.why)


def same(one: Cell, other: Cell) -> bool:
    """Whether two cells of one name are the same: their functions are, or what these compute."""
    if one == other:
        return True
    try:
        return one.name == other.name and fingerprint(one) == fingerprint(other)
    except UnrolledError:  # what can't be run on terms is only the same as itself
        return False
