"""Leave out the licence around Project Gutenberg's books."""

from __future__ import annotations

import re

# A marker of *** lines may run over up to three lines when the title is long.
_GUTENBERG_MARKER = r"""
    ^[ \t]*(?:
      (?P<start> \*{2,3}[ \t]*START[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b
                 (?: [^\n*]* (?:\n[^\n*]*[^\s*][^\n*]*){0,2} \*{3} )? [^\n]*
               | \*+[ \t]*END[ *]*THE[ ]SMALL[ ]PRINT\b[^\n]* )
    | (?P<end>   \*{2,3}[ \t]*END[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b[^\n]*
               | END[ ]OF[ ](?:TH(?:E|IS)[ ])?PROJECT[ ]GUTENBERG(?:['’]S)?[ ,][^\n]* )
    )"""


def strip_gutenberg(text: str) -> tuple[str, int]:
    r"""Leave out Project Gutenberg's header and footer -> (text, number of characters left out).

    The book is what stands between a line "*** START OF THE (or THIS) PROJECT GUTENBERG EBOOK ... ***", or the end of
    the "small print" in the oldest files, and the next line "*** END OF ..." or "End of (the) Project Gutenberg...".
    Blank lines around it go too. Several books in one text are each kept. A missing start marker means the text's
    beginning, a missing end marker its end; a text without markers, or with nothing between them, is returned whole.

    Examples
    --------
    >>> strip_gutenberg("A licence.\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nIt was.\n")
    ('It was.\n', 59)
    >>> strip_gutenberg("It was.\n")
    ('It was.\n', 0)
    """
    if "gutenberg" not in text and "Gutenberg" not in text and "GUTENBERG" not in text:
        return text, 0  # spares a long text the search below
    books: list[str] = []
    start: int | None = 0  # None outside of a book
    marked = False
    for marker in re.finditer(_GUTENBERG_MARKER, text, re.VERBOSE | re.MULTILINE | re.IGNORECASE):
        marked = True
        if marker["start"]:
            start = marker.end()
        elif start is not None:
            books.append(text[start : marker.start()])
            start = None
    if not marked:
        return text, 0
    if start is not None:
        books.append(text[start:])
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    kept = "".join(book.lstrip("\r\n").rstrip() + end_of_line for book in books if book.strip())
    return (kept, len(text) - len(kept)) if kept else (text, 0)
