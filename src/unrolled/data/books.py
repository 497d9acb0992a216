"""Texts in the public domain that `unrolled fetch` knows, and any other of Project Gutenberg's by its number."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from .. import storage
from ..checks import check_a
from ..errors import UnrolledError, brief, check_path, one_line, suggest
from .download import download, sha256
from .text import is_whole
from .text.files import user_folder


class Book(NamedTuple):
    """A text, and where it is to be had.

    Attributes
    ----------
    title, author : str
    number : int
        Project Gutenberg's; 0 of a text that is not theirs.
    file : str
        Where it lies in the folder of data.
    url : str
    sha256 : str
        Of the file that is there for good; empty for Project Gutenberg's own, which they correct now and then.
    """

    title: str
    author: str
    number: int
    file: str
    url: str
    sha256: str = ""


def _gutenberg(title: str, author: str, number: int, name: str = "") -> Book:
    url = f"https://www.gutenberg.org/cache/epub/{number}/pg{number}.txt"
    return Book(title, author, number, f"{name or f'pg{number}'}.txt", url)


BOOKS = {
    "pride": Book(
        "Pride and Prejudice",
        "Jane Austen",
        1342,
        "pride/1342-0.txt",
        "https://raw.githubusercontent.com/GITenberg/Pride-and-Prejudice_1342/master/1342-0.txt",
        "48e0522844402a86a3ea98f0947ba85ea54838db3c59022299298ed968a5a163",
    ),
    "tinyshakespeare": Book(
        "Plays, a selection of 1.1 million characters",
        "William Shakespeare",
        0,
        "tinyshakespeare/input.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
} | {
    name: _gutenberg(title, author, number, name)
    for name, title, author, number in (
        ("alice", "Alice's Adventures in Wonderland", "Lewis Carroll", 11),
        ("dracula", "Dracula", "Bram Stoker", 345),
        ("emma", "Emma", "Jane Austen", 158),
        ("frankenstein", "Frankenstein", "Mary Wollstonecraft Shelley", 84),
        ("holmes", "The Adventures of Sherlock Holmes", "Arthur Conan Doyle", 1661),
        ("moby-dick", "Moby Dick", "Herman Melville", 2701),
        ("persuasion", "Persuasion", "Jane Austen", 105),
        ("sense", "Sense and Sensibility", "Jane Austen", 161),
        ("two-cities", "A Tale of Two Cities", "Charles Dickens", 98),
        ("war-and-peace", "War and Peace", "Leo Tolstoy", 2600),
    )
}
"""Name -> text. What Project Gutenberg has under these numbers is in the public domain in the United States."""


class Fetched(NamedTuple):
    """A file, and what became of it: `there` if it was there already, `changed` if an earlier one was another."""

    path: Path
    url: str
    sha256: str
    known: bool
    there: bool = False
    changed: bool = False


def find(name: str) -> Book:
    """Return a text by its name, or by Project Gutenberg's number.

    Raises
    ------
    UnrolledError
        If there is none of this name.

    Examples
    --------
    >>> find("1342").title, find("76").file
    ('Pride and Prejudice', 'pg76.txt')
    """
    check_a("name", name, str, "a name or a number of Project Gutenberg's")
    if name in BOOKS:
        return BOOKS[name]
    if re.fullmatch("[1-9][0-9]{0,5}", name):
        number = int(name)
        listed = (book for book in BOOKS.values() if book.number == number)
        return next(listed, _gutenberg(f"Project Gutenberg's number {number}", "", number))
    if re.fullmatch("[0-9]+", name):
        raise UnrolledError(f"Project Gutenberg has no number {brief(name)}: these have up to 6 digits, no 0 first")
    raise UnrolledError(f"{suggest('text', name, list(BOOKS))}; or a number of Project Gutenberg's")


def data_folder() -> Path:
    """Return where texts are kept: UNROLLED_DATA, else `unrolled` in the user's folder for data.

    Raises
    ------
    UnrolledError
        If the user has no folder.
    """
    return user_folder("UNROLLED_DATA", "XDG_DATA_HOME", "~/.local/share", "for texts")


def fetch(name: str, output: str | os.PathLike[str] | None = None, *, force: bool = False) -> Fetched:
    """Download a text, unless it is there, and return where it is.

    A file whose SHA-256 is known is compared with it. Of others it is looked at that they are Project Gutenberg's and
    whole; the SHA-256 of the first one is written beside it, in `FILE.sha256`, which `sha256sum --check` reads, and
    later ones are compared with that.

    Parameters
    ----------
    name : str
        A name of `BOOKS`, or a number of Project Gutenberg's.
    output : path, optional
        The file, or an existing folder for it. Default: in `data_folder()`.
    force : bool
        Download it anew, over what is there.

    Raises
    ------
    UnrolledError
        If it can't be reached, written, or is not what is wanted; a file that is there is left as it is, as is one
        of another kind in the place of `FILE.sha256` or where a download would lie.
    """
    book = find(name)
    path = data_folder() / book.file if output is None else Path(check_path("output", output))
    path = path / Path(book.file).name if output is not None and path.is_dir() else path
    first = path.with_name(f"{path.name}.sha256")
    before = book.sha256 or _recorded(first, path.name)
    result = Fetched(path, book.url, "", bool(book.sha256))
    if os.path.lexists(path) and not force:
        digest = _looked_at(book, storage.read_file(path, "text"), path, before)
        return result._replace(sha256=digest, there=True)
    digests: list[str] = []
    download(book.url, path, lambda data: digests.append(_looked_at(book, data, book.url, book.sha256)))
    if not book.sha256:
        storage.write_atomically(first, f"{digests[0]}  {path.name}\n".encode())
    return result._replace(sha256=digests[0], changed=before not in ("", digests[0]))


def _looked_at(book: Book, data: bytes, where: object, expected: str) -> str:
    """Return the SHA-256 of a text, once it is what is wanted."""
    digest = sha256(data)
    anew = "; --force downloads it again" if isinstance(where, Path) else "; nothing of it is kept"
    if expected and digest != expected:
        raise UnrolledError(f"{where} is another text than expected: its SHA-256 is {digest}, not {expected}{anew}")
    if not book.sha256:
        try:
            whole = is_whole(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            whole = False
        if not whole:
            begins = one_line(data[:60].decode("utf-8", "replace"), 60)
            raise UnrolledError(f"{where} is no whole text of Project Gutenberg's; it begins {brief(begins)}{anew}")
    return digest


def _recorded(first: Path, name: str) -> str:
    """Return the SHA-256 that was written down of the first file; nothing where none was."""
    if not os.path.lexists(first):
        return ""
    said = storage.read_file(first, "checksum").decode("utf-8", "replace")
    found = re.fullmatch(rf"([0-9a-f]{{64}})  {re.escape(name)}\r?\n?", said)
    if not found:
        raise UnrolledError(f"{first} is no checksum of {name}; move it away, or --output names another place")
    return found[1]
