"""A person's mistakes, as one kind of exception."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

MOST = 1000
"""Characters of a line about an error."""


class UnrolledError(ValueError):
    """A user's mistake: the message says what, got, expected, where, and what to do.

    The command line prints it as one line and exits with status 2.

    Examples
    --------
    >>> raise UnrolledError("hidden_size is 0; it must be 1 or more")
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: hidden_size is 0; it must be 1 or more
    """

    def __init__(self, said: str = "") -> None:
        # whatever a message quotes, what it begins with and what it advises at its end are seen
        super().__init__(said if len(said) <= MOST else f"{said[: MOST * 3 // 4]} ... {said[-MOST // 5 :]}")


class Unsupported(UnrolledError):
    """A combination that does not exist on a backend, with the reason."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or another signal, after everything had been saved.

    It ends a program as Ctrl-C does, so that a loop over several trainings ends too.

    Attributes
    ----------
    model : LanguageModel
        What had been learnt, with the parameters of the lowest validation loss.
    """

    def __init__(self, model: object) -> None:
        super().__init__("training was interrupted; the exception's `model` is the best one so far")
        self.model = model


class UnrolledWarning(UserWarning):
    """Something that is allowed and probably not meant: an option that changes nothing, a slower way that was taken."""


def one_line(text: str, most: int = 400) -> str:
    r"""Return a text as one line that can be printed, cut where it is long: a damaged file may name anything.

    Examples
    --------
    >>> one_line("a\nlong name", 6)
    'a long...'
    """
    line = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return line if len(line) <= most else f"{line[:most]}..."


def said_by(error: BaseException) -> str:
    r"""Return what an exception says, as one line, whatever it is: a user's own may raise where it is printed.

    Examples
    --------
    >>> said_by(StopIteration("a\nb")), said_by(SystemExit(0)), said_by(GeneratorExit())
    ('a b', '0', '')
    """
    try:
        return one_line(" ".join(str(error).split()), MOST)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""


def raised(error: BaseException) -> str:
    r"""Return an exception's type and what it says, as one line, whatever it is.

    Examples
    --------
    >>> raised(StopIteration("a\nb")), raised(SystemExit(0)), raised(GeneratorExit())
    ('StopIteration: a b', 'SystemExit: 0', 'GeneratorExit')
    """
    said = said_by(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def brief(value: object, most: int = 80) -> str:
    """Return a value's repr as a short line, whatever it is.

    Examples
    --------
    >>> brief("abc"), brief(10**5000), brief("x" * 100, 9)
    ("'abc'", 'a number of 16,610 bits', "'xxxxxxxx...")
    """
    try:
        return one_line(repr(value), most)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    except Exception:  # nested too deep, or a repr of the caller's own
        return f"a {type(value).__name__}"


def listed(names: Iterable[object], most: int = 8) -> str:
    """Return names in a line that is not long, however many there are.

    Examples
    --------
    >>> listed(["a", "b"]), listed(range(1000), 3)
    ('a, b', '0, 1, 2 and 997 more')
    """
    texts = [one_line(name, 80) if isinstance(name, str) else brief(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")


def warn(message: str) -> None:
    """Warn of something at the user's own line, however deep in the library it was noticed."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and Path(frame.f_code.co_filename).is_relative_to(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UnrolledWarning, stacklevel=level)


_PACKAGE = Path(__file__).parent


def check_path(what: str, path: object) -> str:
    """Return a path as a str, or say what is wrong with it.

    Examples
    --------
    >>> from pathlib import Path
    >>> check_path("the path of a model", Path("book.safetensors"))
    'book.safetensors'
    """
    try:
        plain = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    except Exception:  # an object's own, which may be wrong in any way
        plain = None
    if not isinstance(plain, str):
        raise UnrolledError(f"{what} is {brief(path)}; expected a path")
    if not plain:
        raise UnrolledError(f"{what} has no name: the path is empty")
    if "\0" in plain:
        raise UnrolledError(f"{brief(plain)}: a path can't hold a NUL character; check the path")
    try:
        os.lstat(plain)
    except UnicodeEncodeError:
        raise UnrolledError(f"{brief(plain)}: no name of a file has such characters here; check the path") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UnrolledError(f"{brief(plain)}: the path is too long for this system; check the path") from None
    return plain


def figure(number: float) -> str:
    """Return a number as short as it can be, and with all digits that tell it from its neighbours.

    Examples
    --------
    >>> figure(1), figure(0.5), figure(1.0000001), figure(float("inf"))
    ('1', '0.5', '1.0000001', 'inf')
    """
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def count(number: int, noun: str) -> str:
    """Return a number and its noun, one or several.

    Examples
    --------
    >>> count(1, "file"), count(1200, "file"), count(2, "hidden file or folder"), count(2, "series")
    ('1 file', '1,200 files', '2 hidden files or folders', '2 series')
    """
    if number != 1:
        noun = " or ".join(word if word.endswith("series") else f"{word}s" for word in noun.split(" or "))
    return f"{number:,} {noun}"


def printable(text: str, keep: str = "") -> str:
    r"""Return a text with escapes for what a terminal would obey or can't show, but for the characters in `keep`.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\n"), printable("a\tb\n", keep="\n"), end="")
    a\x1b[2Jb\n a\tb
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def failure(error: BaseException) -> tuple[int, str]:
    r"""Return what a command ends with: its exit status, and a line that says why.

    The status is 2 for what a user can put right, 130 (the shell's) for Ctrl-C, 70 (`EX_SOFTWARE`) for a fault of ours.

    Examples
    --------
    >>> failure(UnrolledError("hidden_size is 0;\nit must be 1 or more"))
    (2, 'hidden_size is 0; it must be 1 or more')
    """
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted"
    if isinstance(error, MemoryError):
        status, said = 2, f"not enough memory: {str(error) or 'choose smaller sizes'}"
    elif isinstance(error, UnrolledError):
        status, said = 2, str(error)
    elif not isinstance(error, Exception):  # the program ends itself when it is done, and nothing else does
        status, said = 2, f"a function that was run asked Python to end ({raised(error)}); leave that out"
    elif isinstance(error, OSError) and error.strerror:  # the output is full, a name is too long, ...
        status, said = 2, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        what = raised(error)[: MOST // 2]
        status, said = 70, f"internal error, please report it with what UNROLLED_TRACEBACK=1 prints: {what}"
    line = printable(" ".join(said.split()))
    return status, line if len(line) <= MOST else f"{line[:MOST]}..."


def suggest(kind: str, got: object, known: list[str]) -> str:
    """Return a line that says that `got` is no `kind`, names the nearest one and lists them, all where they are few.

    Examples
    --------
    >>> suggest("cell", "lstn", ["gru_reset_after", "lstm", "rnn_tanh"])
    "no cell is called 'lstn'; did you mean 'lstm'? Known: gru_reset_after, lstm, rnn_tanh"
    """
    from difflib import get_close_matches

    text = got if isinstance(got, str) else ""
    near = get_close_matches(text[:100], known, n=1, cutoff=0.5)  # a file may name anything, at any length
    hint = f"; did you mean {near[0]!r}?" if near else "."
    few = next((most for most in (len(known), 20, 8) if len(listed(known, most)) <= MOST // 4), 3)
    return f"no {kind} is called {brief(got)}{hint} Known: {listed(known, few)}"
