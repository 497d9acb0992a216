"""What of a book of Project Gutenberg is no part of it."""

import numpy as np
import pytest

from unrolled.data.text import Corpus, read, strip_gutenberg
from unrolled.data.text.gutenberg import Stripper

BOOK = "CHAPTER I\n\n  It is a truth\n"


def gutenberg(start, end, body=BOOK):
    return f"The Project Gutenberg EBook of X\n\n{start}\n\n\n{body}\n\n{end}\n\nA licence of Project Gutenberg.\n"


@pytest.mark.parametrize(
    "start",
    [
        "*** START OF THE PROJECT GUTENBERG EBOOK PRIDE AND PREJUDICE ***",
        "*** START OF THIS PROJECT GUTENBERG EBOOK PRIDE AND PREJUDICE ***",
        "***START OF THE PROJECT GUTENBERG EBOOK X***",
        "*** START OF PROJECT GUTENBERG ETEXT X ***",
        "*** START OF THE COPYRIGHTED PROJECT GUTENBERG EBOOK, X ***",
        "*** Start of the Project Gutenberg E-text X",
        "*** START OF THE PROJECT GUTENBERG EBOOK A VERY LONG TITLE, WHICH\nGOES ON HERE ***",
        "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n*END THE SMALL PRINT! FOR EBOOKS*Ver.02/11/02*END*",
    ],
)
@pytest.mark.parametrize(
    "end",
    [
        "*** END OF THE PROJECT GUTENBERG EBOOK PRIDE AND PREJUDICE ***",
        "*** END OF THIS PROJECT GUTENBERG EBOOK X ***",
        "***END OF THE PROJECT GUTENBERG EBOOK X***",
        "End of the Project Gutenberg EBook of X, by Y\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***",
        "End of Project Gutenberg's X, by Y",
        "End of Project Gutenberg’s X, by Y",
        "End of The Project Gutenberg Etext of X",
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_header_and_footer_are_left_out_in_every_variant(start, end, line_end):
    text = gutenberg(start, end).replace("\n", line_end)
    kept, removed = strip_gutenberg(text)
    assert kept == BOOK.replace("\n", line_end)
    assert removed == len(text) - len(kept)


def test_a_missing_marker_means_the_texts_own_end():
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    assert strip_gutenberg(f"header\n{start}\n{BOOK}") == (BOOK, len(f"header\n{start}\n"))
    assert strip_gutenberg(f"{BOOK}{end}\nfooter\n") == (BOOK, len(f"{end}\nfooter\n"))


def test_each_of_several_books_is_kept():
    one, two = (
        gutenberg("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***", b)
        for b in ("one\n", "two\n")
    )
    assert strip_gutenberg(one + two) == ("one\ntwo\n", len(one + two) - 8)


@pytest.mark.parametrize(
    "text",
    [
        "",
        BOOK,
        "I read of Project Gutenberg.\n*** END OF CHAPTER ***\n",
        "A line that says *** START OF THE PROJECT GUTENBERG EBOOK X *** in its middle.\n",
        "*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n",
    ],
)
def test_a_text_without_markers_or_a_book_is_returned_whole(text):
    assert strip_gutenberg(text) == (text, 0)


def test_read_strips_file_by_file_unless_told_not_to(tmp_path):
    text = gutenberg("*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    for name, content in {"a.txt": text, "b.txt": "plain\n", "c.txt": text}.items():
        (tmp_path / name).write_bytes(content.encode())
    removed = len(text) - len(BOOK)
    assert read(tmp_path / "a.txt", keep_gutenberg=True) == Corpus(text, "char", "a")
    stripped = read(tmp_path / "a.txt")
    assert stripped.text == BOOK
    assert stripped.notes == (
        f"Project Gutenberg header and footer left out: {removed} characters; --keep-gutenberg leaves them in",
    )
    three = read(tmp_path)
    assert three.text == BOOK + "plain\n" + BOOK
    assert three.notes == (
        "3 files read",
        f"Project Gutenberg header and footer left out in 2 files: {2 * removed} characters; "
        "--keep-gutenberg leaves them in",
    )
    assert read(tmp_path / "b.txt").notes == ()
    assert read(tmp_path / "a.txt", "byte").text == text.encode()


@pytest.mark.parametrize("size", [1, 7, 2048, 5000, 1 << 17])
def test_books_are_found_alike_wherever_a_text_is_cut(size):
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    rng = np.random.default_rng(3)
    body = "".join(rng.choice(list("ab  \n"), 9000)) + " Project Gutenberg.\n" * 300
    for text in (
        gutenberg(start, end, body) * 2,
        f"{body}\n{end}\nfooter",
        f"header\n{start}\n\n{end}\n",
        gutenberg(start, end, body) + "a text of its own\n" * 9000,  # behind the first book: too long for a licence
        "no header is so long\n" * 9000 + gutenberg(start, end, body),
        body,
    ):
        whole = strip_gutenberg(text)
        stripper = Stripper()
        pieces = [text[k : k + size] for k in range(0, len(text), size)] if size > 1 or len(text) < 20_000 else [text]
        assert ("".join(stripper.kept(pieces)), stripper.removed) == whole


def test_what_is_too_long_for_a_licence_is_kept():
    start, end = "*** START OF THE PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
    book, more = gutenberg(start, end), "a text of its own\n" * 9000
    kept, removed = strip_gutenberg(book + more)
    assert kept == BOOK + "\n\nA licence of Project Gutenberg.\n" + more
    kept, removed = strip_gutenberg(more + book)
    assert kept.startswith(more + "The Project Gutenberg EBook of X\n" + BOOK)
    assert removed == len(more + book) - len(kept)
