"""Options of reading a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...declared import Declared, documented, one_of, option
from ...errors import UnrolledError
from ...keywords import suggesting
from .levels import LEVELS

GROUP = "Text"
DOCUMENTS = ("none", "files", "lines")


@suggesting
@documented
@dataclass(frozen=True)
class Reading(Declared):
    """How a text is read.

    Attributes
    ----------
    **options
    """

    keep_gutenberg: bool = option(False, "Leave Project Gutenberg's header and footer in.", GROUP)
    json_field: str = option("", "Files are JSON lines; the text is this field of each.", GROUP)
    column: str = option("", "Files are tables (CSV, TSV); the text is this column: name or number.", GROUP)
    skip_null: bool = option(False, "Leave out lines and rows that have no text there.", GROUP)
    documents: str = option(
        "none",
        "Start each from zero state: none; files, JSON lines or rows (files); lines.",
        GROUP,
        one_of("kind of documents", DOCUMENTS),
        bare="files",
        about="What starts from the initial state, each by itself: none; files (each file, or the field of each JSON "
        "line or row of a table); lines (each line of the text: its end is learnt, and what is held out is drawn).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        records = self.json_field or self.column
        if self.json_field and self.column:
            raise UnrolledError("--json-field is of JSON lines and --column of tables; leave out one of the two")
        if self.skip_null and not records:
            raise UnrolledError("--skip-null leaves out records; name their field with --json-field or --column")

    def check_level(self, level: str) -> None:
        """Refuse options of texts of characters at a level of others."""
        usual = Reading()
        for name in ("json_field", "column", "skip_null", "documents"):
            if getattr(self, name) != getattr(usual, name) and LEVELS[level].takes is not str:
                option = f"--{name.replace('_', '-')}"
                raise UnrolledError(f"{option} works on characters, and the level is {level}; leave out one of the two")


def recorded(how: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of reading that were written down once, as they are called now.

    Runs once said `strip_gutenberg`, which was off unless it was asked for, and whether documents are kept apart.

    Examples
    --------
    >>> recorded({"strip_gutenberg": False, "json_field": "", "documents": True})
    {'json_field': '', 'documents': 'files', 'keep_gutenberg': True}
    """
    now = dict(how)
    if isinstance(now.get("strip_gutenberg"), bool):
        now["keep_gutenberg"] = not now.pop("strip_gutenberg")
    if isinstance(now.get("documents"), bool):
        now["documents"] = "files" if now["documents"] else "none"
    return now
