"""Leave out the licence around Project Gutenberg's books."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from ...checks import check_a

# A marker of *** lines may run over up to three lines when the title is long. Its length is bounded, by MARGIN.
_MARKER = re.compile(
    r"""
    ^[ \t]{0,80}(?:
      (?P<start> \*{2,3}[ \t]{0,9}START[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b
                 (?: [^\n*]{0,300} (?:\n[^\n*]{0,200}[^\s*][^\n*]{0,200}){0,2} \*{3} )? [^\n]{0,300}
               | \*{1,9}[ \t]{0,9}END[ *]{0,9}THE[ ]SMALL[ ]PRINT\b[^\n]{0,300} )
    | (?P<end>   \*{2,3}[ \t]{0,9}END[ ]OF[ ](?:TH(?:E|IS)[ ])?(?:COPYRIGHTED[ ])?PROJECT[ ]GUTENBERG\b[^\n]{0,300}
               | END[ ]OF[ ](?:TH(?:E|IS)[ ])?PROJECT[ ]GUTENBERG(?:['’]S)?[ ,][^\n]{0,300} )
    )""",
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
MARGIN = 2048
"""Characters that no marker exceeds."""

LICENCE = 1 << 17
"""Characters that no header and no licence exceeds: what is longer is a text of its own, and kept."""


class Stripper:
    """Leaves out Project Gutenberg's header and footer, of a text that comes in pieces, wherever it is cut.

    Attributes
    ----------
    removed : characters that were left out
    """

    def __init__(self, line_end: str = "\n") -> None:
        self.line_end, self.removed = line_end, 0

    def kept(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield what is left of a text."""
        given, dropped = 0, list[str]()

        def counted() -> Iterator[str]:
            nonlocal given
            for piece in pieces:
                given += len(piece)
                yield piece

        left = 0
        for body in self._bodies(counted(), dropped):
            left += len(body)
            dropped.clear()
            yield body
        if not left and dropped:  # nothing is between the markers: then they are the text
            left = sum(map(len, dropped))
            yield from dropped
        self.removed += given - left

    def _bodies(self, pieces: Iterable[str], dropped: list[str]) -> Iterator[str]:
        """Yield the books; what was dropped before the first of them is kept in `dropped`, up to 1 MB."""
        text, place, fresh, line = "", "header", False, True  # place: in what could be a header, a footer, or in a book
        for piece in chain(pieces, [None]):
            last, text = piece is None, text + (piece or "")
            while True:
                sure = len(text) if last else len(text) - MARGIN  # a marker that begins before this is seen whole
                if not last and sure < (LICENCE if place != "book" else MARGIN):
                    break
                marker = _marker(text, sure if place == "book" else min(sure, LICENCE), line)
                if marker is not None:
                    body, ends = text[: marker.start()], marker["start"] is None
                    if place == "book" or (place == "header" and ends and body.strip()):
                        yield (body.lstrip("\r\n") if fresh else body).rstrip() + self.line_end
                    elif sum(map(len, dropped)) < 1 << 20:
                        dropped.append(text[: marker.end()])
                    text, line = text[marker.end() :], False
                    place, fresh = ("footer", False) if ends else ("header", True)
                    continue
                if place == "footer" and last:
                    dropped.append(text)
                    return
                if place != "book":  # no marker where one would be
                    place = "book"
                    continue
                if fresh:
                    text = text.lstrip("\r\n")
                    fresh = not text
                    sure = len(text) if last else len(text) - MARGIN
                body = text if last else text[: max(0, sure)].rstrip()
                if sure - len(body) > LICENCE:  # that many blanks are the text's own
                    body = text[:sure]
                if body:
                    yield body
                    text, line = text[len(body) :], body.endswith("\n")
                break


def _marker(text: str, before: int, line: bool) -> re.Match[str] | None:
    """Return the first marker that begins before a place; `line` says whether the text begins a line."""
    if not any(word in text for word in ("gutenberg", "Gutenberg", "GUTENBERG")):
        return None  # spares a long text the search below
    for marker in _MARKER.finditer(text):
        if marker.start() >= before:
            return None
        if line or marker.start():
            return marker
    return None


def strip_gutenberg(text: str) -> tuple[str, int]:
    r"""Leave out Project Gutenberg's header and footer -> (text, number of characters left out).

    The book is what stands between a line "*** START OF THE (or THIS) PROJECT GUTENBERG EBOOK ... ***", or the end of
    the "small print" in the oldest files, and the next line "*** END OF ..." or "End of (the) Project Gutenberg...".
    Blank lines around it go too. Several books in one text are each kept. A missing start marker means the text's
    beginning, a missing end marker its end; a text without markers, or with nothing between them, is returned whole.
    So is more than 131,072 characters before a start or after an end, which can't be a header or a licence.

    Examples
    --------
    >>> strip_gutenberg("A licence.\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nIt was.\n")
    ('It was.\n', 59)
    >>> strip_gutenberg("It was.\n")
    ('It was.\n', 0)
    """
    check_a("text", text, str, "a text")
    stripper = Stripper("\r\n" if "\r\n" in text else "\n")
    return "".join(stripper.kept([text])), stripper.removed


def is_whole(text: str) -> bool:
    r"""Return whether a text has both markers of Project Gutenberg, that of its start before that of its end.

    Examples
    --------
    >>> book = "*** START OF THE PROJECT GUTENBERG EBOOK X ***\nIt was.\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n"
    >>> is_whole(book), is_whole(book[:60])
    (True, False)
    """
    found = [marker["start"] is not None for marker in _MARKER.finditer(text)]
    return True in found and found[-1] is False
