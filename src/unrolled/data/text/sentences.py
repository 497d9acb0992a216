"""Plain text -> sentences of words, as a tagger reads them: a small rule, and nothing learnt.

A word is a run of letters, digits and marks above or below them, with apostrophes inside (`don't`); a number keeps its
points, commas and colons (`1,000.5`, `10:30`); an address (`https://...`, `a@b.org`) and letters with points (`U.S.`)
are one word; any other sign is a word, and a run of the same sign is one (`...`, `--`, `!!`). A line's end ends a
sentence; within a line a sentence ends behind `.`, `!`, `?` or `…`, and what closes a quotation or a bracket there, if
a blank and then no small letter follows; a point behind one letter (`J.`) or a title (`Mr.`) ends none.
"""

from __future__ import annotations

import re

_MARKS = "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065f\u0900-\u0903\u093a-\u094f\u200c\u200d\u3099\u309a"
WORD = re.compile(
    rf"""\w+://\S*[\w/] | www\.\S*[\w/]        # an address
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | \d+(?:[.,:/]\d+)+                        # a number
    | (?:[^\W\d_]\.){{2,}}                     # letters with points
    | \w[\w{_MARKS}]*(?:['’][\w{_MARKS}]+)*    # a word
    | ([^\w\s])\1*                             # the same sign once or more""",
    re.VERBOSE,
)
_END = re.compile(r"[.!?…。！？]+")
_TITLES = {"Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Sr", "Jr", "vs"}
_CLOSING = "\"'”’»)]}"


def sentences(text: str) -> list[list[str]]:
    r"""Return the words of each sentence of a text.

    Examples
    --------
    >>> for words in sentences('He said "No." J. Smith paid $1,000.50 (in the U.S.)...\nDon\'t mail a@b.org!'):
    ...     print(*words)
    He said " No . "
    J . Smith paid $ 1,000.50 ( in the U.S. ) ...
    Don't mail a@b.org !
    """
    found = []
    for line in text.splitlines():
        found += [words for words in _of_line(line) if words]
    return found


def _of_line(line: str) -> list[list[str]]:
    """Return the words of each sentence of a line."""
    found, ended = [list[str]()], False
    for match in WORD.finditer(line):
        word, before = match[0], line[match.start() - 1 : match.start()]
        if ended and before.isspace() and not word[0].islower():
            found.append([])
            ended = False
        ended = ended and word[0] in _CLOSING and not before.isspace()
        if _END.fullmatch(word):
            last = found[-1][-1] if found[-1] else ""
            ended = not (word == "." and ((len(last) == 1 and last.isalpha()) or last in _TITLES))
        found[-1].append(word)
    return found
