"""Reading, cleaning, vocabularies, entropies, the split: exact values and exact messages."""

import dataclasses
import errno
import inspect
import io
import json
import math
import os
import re
import socket
import sys
import sysconfig

import numpy as np
import pytest

from unrolled.data.split import split
from unrolled.data.text import (
    Bytes,
    Characters,
    Corpus,
    Vocabulary,
    bigram_entropy,
    default_corpus,
    files,
    of_documents,
    read,
    strip_gutenberg,
    unigram_entropy,
)
from unrolled.data.text.gutenberg import Stripper
from unrolled.errors import UnrolledError

EPS = np.finfo(np.float64).eps
needs_unprivileged = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the administrator may read every file"
)


def message(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


def write(folder, **files):
    """Files of a folder by name (`__` is a dot, `_in_` a slash) with their bytes."""
    for name, data in files.items():
        path = folder / name.replace("_in_", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@pytest.fixture
def stdin(monkeypatch):
    def feed(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))

    return feed


# --- reading files ---


def test_a_clean_file_is_read_as_it_is(tmp_path):
    path = write(tmp_path, book__txt="naïve\ttext 😀\n".encode()) / "book.txt"
    assert read([path]) == Corpus("naïve\ttext 😀\n", "char", "book", 1, ())
    assert read(str(path)) == read(path) == read([str(path)])


def test_a_corpus_is_frozen_and_does_not_print_its_text():
    corpus = Corpus("x" * 10**6, "char", "long")
    assert repr(corpus) == "Corpus(level='char', name='long', sources=1, notes=())"
    with pytest.raises(dataclasses.FrozenInstanceError):
        corpus.name = "other"


def test_marks_and_line_ends_are_cleaned_and_counted(tmp_path):
    path = write(tmp_path, a__txt=b"\xef\xbb\xbf" + b"one\r\n" * 1200 + b"two\rthree\r\rfour\n\r\n") / "a.txt"
    corpus = read(path)
    assert corpus.text == "one\n" * 1200 + "two\nthree\n\nfour\n\n"
    assert corpus.notes == (
        "byte-order mark dropped",
        "1,201 CRLF line ends folded to LF",
        "3 CR line ends folded to LF",
    )


def test_only_a_leading_mark_is_dropped(tmp_path):
    path = write(tmp_path, a__txt="\ufeff\ufeffa\ufeffb\r\n".encode()) / "a.txt"
    assert read(path).text == "\ufeffa\ufeffb\n"
    assert read(path).notes == ("byte-order mark dropped", "1 CRLF line end folded to LF")


def test_byte_level_keeps_every_byte(tmp_path):
    data = b"\xef\xbb\xbfa\r\nb\rc\0\xff*** START OF THE PROJECT GUTENBERG EBOOK X ***\n"
    folder = write(tmp_path, a__bin=data, b__bin=b"no newline", c__bin=b"end")
    assert read(folder / "a.bin", "byte") == Corpus(data, "byte", "a", 1, ())
    three = read([folder / "b.bin", folder / "a.bin", folder / "c.bin"], level="byte")
    assert three == Corpus(b"no newline" + data + b"end", "byte", "b+2", 3, ("3 files read",))


def test_files_are_joined_in_the_order_given_each_ending_a_line(tmp_path):
    folder = write(tmp_path, z__txt=b"\xef\xbb\xbfz\r", a__txt=b"\xef\xbb\xbfa", m__txt=b"m\n")
    corpus = read([folder / "z.txt", folder / "a.txt", folder / "m.txt", folder / "a.txt"])
    assert corpus.text == "z\na\nm\na"
    assert (corpus.name, corpus.sources) == ("z+3", 4)
    assert corpus.notes == ("4 files read", "3 byte-order marks dropped", "1 CR line end folded to LF")


def test_names_fit_a_folder(tmp_path, monkeypatch):
    folder = write(tmp_path / "my texts", a__b__txt=b"x", __hidden=b"x", README=b"x")
    (folder / "a b*c.txt").write_bytes(b"x")
    assert read(folder).name == "my-texts"
    assert read(folder / "a.b.txt").name == "a.b"
    assert read(folder / ".hidden").name == "hidden"
    assert read(folder / "README").name == "README"
    assert read(folder / "a b*c.txt").name == "a-b-c"
    monkeypatch.chdir(folder)
    assert read(".").name == "my-texts"


# --- standard input ---


def test_standard_input_is_read_as_bytes_whatever_its_encoding(stdin):
    stdin("\ufeffé\r\n".encode())
    corpus = read(["-"])
    assert corpus == Corpus("é\n", "char", "stdin", 1, ("byte-order mark dropped", "1 CRLF line end folded to LF"))
    stdin(b"\xff\r\n")
    assert read("-", "byte") == Corpus(b"\xff\r\n", "byte", "stdin")


def test_standard_input_may_stand_among_files(stdin, tmp_path):
    path = write(tmp_path, a__txt=b"file") / "a.txt"
    stdin(b"piped")
    assert read([path, "-", path]).text == "file\npiped\nfile"


def test_bad_standard_input_is_named(stdin, monkeypatch):
    stdin(b"")
    assert message(read, "-") == "standard input: the file is empty; expected some text"
    stdin(b"caf\xe9")
    assert message(read, "-") == (
        "standard input: byte 0xe9 at offset 3 is not UTF-8; convert it to UTF-8, or read it with --level byte"
    )
    assert message(read, ["-", "a.txt", "-"]) == (
        "standard input (-) is named more than once; it can be read only once"
    )
    monkeypatch.setattr(sys, "stdin", None)
    assert message(read, "-") == "standard input is closed; pipe a text in, or name a file"


# --- directories ---


def test_a_directory_is_walked_in_sorted_order_and_says_what_it_skipped(tmp_path):
    folder = write(
        tmp_path / "texts",
        b__txt=b"b",
        a__txt=b"a\n",
        sub_in_deep_in_d__txt=b"d",
        sub_in_c__txt=b"c",
        __git_in_x__txt=b"hidden",
        __env=b"hidden",
        picture__png=b"PNG\0\xff",
        late__bin=b"text" * 20_000 + b"\0",
        latin__txt=b"caf\xe9",
        empty__txt=b"",
        mark__txt=b"\xef\xbb\xbf",
    )
    (folder / "broken").symlink_to(folder / "nowhere")
    (folder / "linked").symlink_to(folder / "sub")
    corpus = read([folder])
    assert corpus.text == "a\nb\nc\nd"
    assert (corpus.name, corpus.sources) == ("texts", 4)
    assert corpus.notes == (
        "4 files read",
        f"{folder}: skipped 3 binary files, 2 empty files, 2 hidden files or folders, 1 linked folder, 1 special file",
    )


def test_a_folder_of_any_depth_with_links_in_loops_is_walked(tmp_path):
    inner = tmp_path
    for _ in range(40):  # a path has at most 4,096 bytes; deeper folders are made and read from within
        inner = inner / "d"
    inner.mkdir(parents=True)
    (inner / "a.txt").write_bytes(b"deep")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 30)
    try:
        corpus = read(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert (corpus.text, corpus.notes) == ("deep", (f"{tmp_path}: skipped 1 linked folder, 1 special file",))


def test_what_may_not_be_read_is_skipped_in_a_folder(tmp_path, monkeypatch):
    folder = write(tmp_path / "d", a__txt=b"a", secret__txt=b"b", sub_in_c__txt=b"c")
    scan = os.scandir
    monkeypatch.setattr(os, "access", lambda path, mode: "secret" not in str(path))

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert read(folder).text == "a"
    assert read(folder).notes == (f"{folder}: skipped 2 unreadable files or folders",)
    said = f"{folder / 'sub'}: permission denied; make the folder readable"
    assert message(read, folder / "sub") == said


def test_byte_level_takes_every_file_of_a_directory_that_is_not_hidden(tmp_path):
    folder = write(tmp_path / "d", b__bin=b"\0\xff", a__txt=b"a", __hidden=b"h", empty=b"", mark=b"\xef\xbb\xbf")
    corpus = read(folder, "byte")
    assert corpus.text == b"a\0\xff\xef\xbb\xbf"
    assert corpus.notes == ("3 files read", f"{folder}: skipped 1 empty file, 1 hidden file or folder")


def test_a_directory_with_nothing_to_skip_has_no_note_of_it(tmp_path):
    assert read(write(tmp_path / "d", a__txt=b"a")).notes == ()


def test_a_directory_with_no_text_is_refused(tmp_path):
    folder = write(tmp_path / "d", a__bin=b"\0", __hidden=b"h")
    assert message(read, folder) == (
        f"{folder}: no text in this directory (skipped: 1 binary file, 1 hidden file or folder); "
        "expected at least one UTF-8 text file"
    )
    (tmp_path / "bare").mkdir()
    assert message(read, tmp_path / "bare", "byte") == (
        f"{tmp_path / 'bare'}: no text in this directory; expected at least one file"
    )
    book = write(tmp_path, book__txt=b"x") / "book.txt"
    assert message(read, [book, tmp_path / "bare"]).startswith(f"{tmp_path / 'bare'}: no text in this directory")


# --- bad files ---


def test_a_missing_file_is_named(tmp_path):
    assert message(read, [tmp_path / "no.txt"]) == f"{tmp_path / 'no.txt'}: no such file; check the path"
    file = write(tmp_path, a__txt=b"a") / "a.txt"
    assert message(read, file / "b.txt") == f"{file / 'b.txt'}: not a directory; expected a file that can be read"


def test_paths_that_are_none_are_refused():
    assert message(read, []) == "no file given; name at least one file or directory, or - for standard input"
    assert message(read, [""]) == "a path is empty; name a file or directory, or - for standard input"
    assert message(read, "a\0b") == "'a\\x00b': a path can't hold a NUL character; check the path"
    assert message(read, "two\nlines") == "'two\\nlines': no such file; check the path"


@pytest.mark.parametrize("level", ["char", "byte"])
def test_an_empty_file_is_named(tmp_path, level):
    path = write(tmp_path, a__txt=b"") / "a.txt"
    assert message(read, path, level) == f"{path}: the file is empty; expected some text"


def test_a_file_of_a_mark_alone_is_refused(tmp_path):
    path = write(tmp_path, a__txt=b"\xef\xbb\xbf") / "a.txt"
    assert message(read, path) == f"{path}: there is only a byte-order mark in it; expected some text"


@pytest.mark.parametrize(
    ("data", "byte", "offset", "hint"),
    [
        (b"caf\xe9", "e9", 3, ""),
        ("é".encode() * 5 + b"\xc3", "c3", 10, ""),
        (b"\xef\xbb\xbfab\x80", "80", 5, ""),
        (b"\xed\xa0\x80", "ed", 0, ""),  # a surrogate's bytes
        ("text".encode("utf-16"), "ff", 0, " (the file looks like UTF-16)"),
        (b"\xfe\xff\0t", "fe", 0, " (the file looks like UTF-16)"),
        (b"\x1f\x8b\x09", "8b", 1, " (the file looks like gzip)"),
        ("text".encode("utf-32-le"), "00", 1, " (the file looks like UTF-32)"),
        ("text".encode("utf-32-be"), "00", 0, " (the file looks like UTF-32)"),
        ("text".encode("utf-16-le"), "00", 1, " (the file looks like UTF-16)"),
        ("text".encode("utf-16-be"), "00", 0, " (the file looks like UTF-16)"),
        ("text".encode("utf-32"), "ff", 0, " (the file looks like UTF-32)"),
        (b"a\0b text of a program, \x01\x02", "00", 1, ""),
        (b"PK\x03\x04\x14\0", "00", 5, " (the file looks like zip)"),
        (b"%PDF-1.7\n%\xe2\xe3", "e2", 10, " (the file looks like PDF)"),
        (b"\x93NUMPY\x01\0", "93", 0, " (the file looks like a .npy array)"),
    ],
)
def test_bytes_that_are_not_utf8_are_located(tmp_path, data, byte, offset, hint):
    path = write(tmp_path, a__txt=data) / "a.txt"
    if sys.byteorder == "big" and hint and byte == "ff":
        pytest.skip("the machine's UTF-16 begins with another byte")
    what = "is no character of a text" if byte == "00" else "is not UTF-8"
    advice = {
        "zip)": "unzip it, and name what is in it (documents of offices and e-books are zip files too)",
        "PDF)": "take its text out first, say with pdftotext",
        "gzip)": "unpack it first",
        "array)": "read it with --level tokens",
    }.get(hint.split(" ")[-1], "convert it to UTF-8, or read it with --level byte")
    assert message(read, path) == f"{path}: byte 0x{byte} at offset {offset} {what}{hint}; {advice}"
    assert message(read, tmp_path).startswith(f"{tmp_path}: no text in this directory (skipped: 1 binary file)")
    assert read(path, "byte").text == data


@needs_unprivileged
def test_what_may_not_be_read_is_named(tmp_path):
    folder = write(tmp_path / "d", a__txt=b"a", sub_in_b__txt=b"b")
    (folder / "a.txt").chmod(0)
    try:
        said = f"{folder / 'a.txt'}: permission denied; expected a file that can be read"
        assert message(read, folder / "a.txt") == said
        assert read(folder).text == "b"
    finally:
        (folder / "a.txt").chmod(0o600)
    (folder / "sub").chmod(0)
    try:
        assert read(folder).text == "a"
        assert message(read, folder / "sub" / "b.txt") == (
            f"{folder / 'sub' / 'b.txt'}: permission denied; expected a file that can be read"
        )
    finally:
        (folder / "sub").chmod(0o700)


def test_a_refused_open_is_named_for_everyone(tmp_path, monkeypatch):
    path = write(tmp_path / "d", a__txt=b"a") / "a.txt"

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    said = f"{path}: permission denied; expected a file that can be read"
    assert message(read, path) == message(read, tmp_path / "d") == said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_sockets_and_devices_are_refused_without_reading_and_a_folder_s_pipes_skipped(tmp_path, monkeypatch):
    write(tmp_path, a__txt=b"a")
    os.mkfifo(tmp_path / "pipe")
    assert message(read, os.devnull, "byte") == (
        f"{os.devnull}: this is a device, not a file; pipe the text in and name - instead"
    )
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert message(read, "socket") == "socket: this is a socket, not a file; pipe the text in and name - instead"
        assert read(".").notes == (".: skipped 2 special files",)


def test_an_unknown_level_names_the_nearest(tmp_path):
    said = "no level is called 'bytes'; did you mean 'byte'? Known: bpe, byte, char, tokens, word"
    assert message(read, tmp_path, "bytes") == said
    assert message(Vocabulary.of, "a", "bytes") == said
    assert message(default_corpus, 10, "bytes") == said


# --- Project Gutenberg ---

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
    folder = write(tmp_path, a__txt=text.encode(), b__txt=b"plain\n", c__txt=text.encode())
    removed = len(text) - len(BOOK)
    assert read(folder / "a.txt", keep_gutenberg=True) == Corpus(text, "char", "a")
    stripped = read(folder / "a.txt")
    assert stripped.text == BOOK
    assert stripped.notes == (
        f"Project Gutenberg header and footer left out: {removed} characters; --keep-gutenberg leaves them in",
    )
    three = read(folder)
    assert three.text == BOOK + "plain\n" + BOOK
    assert three.notes == (
        "3 files read",
        f"Project Gutenberg header and footer left out in 2 files: {2 * removed} characters; "
        "--keep-gutenberg leaves them in",
    )
    assert read(folder / "b.txt").notes == ()
    assert read(folder / "a.txt", "byte").text == text.encode()


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


# --- the default corpus ---


def test_the_default_corpus_is_that_many_ascii_characters_and_the_same_each_time():
    corpus = default_corpus(300_000)
    assert len(corpus.text) == 300_000
    assert corpus.text.isascii()
    assert "\r" not in corpus.text
    assert (corpus.level, corpus.name) == ("char", "stdlib")
    assert corpus == default_corpus(300_000)
    version = ".".join(str(n) for n in sys.version_info[:3])
    assert corpus.notes[0].startswith(f"the source of Python {version}")
    assert corpus.notes[0].endswith(f"'s standard library: 300,000 characters of {corpus.sources} files")
    assert corpus.notes[1] == (
        "left out: tests, installed packages, generated tables, files above 40,000 characters or not in pure ASCII"
    )
    assert len(corpus.notes) == 2


def test_a_larger_default_corpus_continues_a_smaller_one():
    small, large = default_corpus(1_000), default_corpus(100_000)
    assert large.text.startswith(small.text)
    assert default_corpus(1_000, "byte").text == small.text.encode()


@pytest.fixture
def library(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "lib") if name == "stdlib" else None)
    return tmp_path / "lib"


def test_the_default_corpus_takes_the_modules_and_nothing_else(library):
    write(
        library,
        one__py=b"1\r\n",
        package_in_two__py=b"2",
        nothing__py=b"",
        accent__py="é\n".encode(),
        long__py=b"#" * 40_001,
        just__py=b"#" * 39_999 + b"\n",
        test_in_a__py=b"no\n",
        package_in_tests_in_a__py=b"no\n",
        idlelib_in_idle_test_in_a__py=b"no\n",
        lib2to3_in_tests_in_a__py=b"no\n",
        encodings_in_a__py=b"no\n",
        _sysconfigdata_x__py=b"no\n",
        sitecustomize__py=b"no\n",
        notes__txt=b"no\n",
    )
    for name in ("site-packages", "dist-packages", "config-3.11-x", "__pycache__"):
        (library / name).mkdir()
        (library / name / "a.py").write_bytes(b"no\n")
    corpus = default_corpus(10**6)
    assert sorted(corpus.text.splitlines()) == ["#" * 39_999, "1", "2"]
    assert corpus.text.endswith("\n")
    assert corpus.sources == 3
    assert corpus.notes[2] == "1,000,000 characters were asked for; the library here has no more"


def test_the_order_of_the_default_corpus_is_not_the_alphabet_and_not_the_machines(library):
    write(library, **{f"p_in_{letter}__py": letter.encode() for letter in "abcdef"})
    assert default_corpus(12).text == "f\na\nc\nd\ne\nb\n"  # by the SHA-256 of p/a.py, p/b.py, ...
    assert default_corpus(5).text == "f\na\nc"
    assert default_corpus(5).sources == 3


def test_a_python_without_source_says_to_name_a_file(library):
    assert message(default_corpus) == (
        f"the default corpus is the source of Python's standard library, and {library} holds none; "
        "name a text file to train on instead"
    )
    assert message(default_corpus, 0) == "characters is 0; the default corpus must have 1 or more"


# --- vocabularies ---


def test_a_vocabulary_is_the_sorted_distinct_characters():
    vocabulary = Vocabulary.of("hello, wörld 😀\n", "char")
    assert vocabulary.symbols == tuple("\n ,dehlorwö😀")
    assert len(vocabulary) == 12
    assert vocabulary == Characters(vocabulary.symbols)
    assert hash(vocabulary) == hash(Characters(vocabulary.symbols))
    with pytest.raises(dataclasses.FrozenInstanceError):
        vocabulary.level = "byte"


def test_byte_vocabularies_all_have_256_values():
    assert Vocabulary.of(b"a", "byte") == Vocabulary.of("", "byte") == Bytes()
    assert len(Bytes()) == 256


@pytest.mark.parametrize("seed", range(5))
def test_text_to_tokens_and_back_over_all_of_unicode(seed):
    rng = np.random.default_rng(seed)
    top = [0x80, 0x800, 0x10000, 0x110000, 0x110000][seed]
    text = "".join(map(chr, rng.integers(0, top, size=2000)))  # surrogates among them
    vocabulary = Vocabulary.of(text, "char")
    tokens = vocabulary.encode(text)
    assert tokens.dtype == np.dtype("int32")
    assert tokens.tolist() == [vocabulary.symbols.index(symbol) for symbol in text]
    assert vocabulary.decode(tokens) == vocabulary.decode(tokens.tolist()) == text
    decoder = vocabulary.decoder()
    assert "".join(decoder.feed(token) for token in tokens) + decoder.finish() == text


def test_lone_surrogates_stay_apart():
    text = "\ude00a\ud83d\ude00😀\udcff"  # two halves beside each other, and the whole
    vocabulary = Vocabulary.of(text, "char")
    assert vocabulary.symbols == ("a", "\ud83d", "\udcff", "\ude00", "😀")
    assert vocabulary.encode(text).tolist() == [3, 0, 1, 3, 4, 2]
    assert vocabulary.decode([3, 0, 1, 3, 4, 2]) == text
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def test_a_text_longer_than_a_piece_is_encoded_whole():
    text = "abc" * 700_000 + "d"
    tokens = Vocabulary.of(text, "char").encode(text)
    assert len(tokens) == 2_100_001
    assert np.array_equal(tokens[:-1].reshape(-1, 3), np.broadcast_to([0, 1, 2], (700_000, 3)))
    assert tokens[-1] == 3


def test_nothing_encodes_and_decodes_to_nothing():
    for vocabulary in (Vocabulary.of("ab", "char"), Bytes()):
        assert vocabulary.encode("").shape == (0,)
        assert vocabulary.decode([]) == vocabulary.decode(vocabulary.encode("")) == ""


def test_the_order_of_symbols_is_the_order_of_tokens():
    vocabulary = Characters(("b", "a"))
    assert vocabulary.encode("ab").tolist() == [1, 0]
    assert vocabulary.decode([0, 1]) == "ba"


def test_unknown_symbols_are_named_with_their_points_and_counts():
    vocabulary = Vocabulary.of("abc", "char")
    assert message(vocabulary.encode, "abé\ncaé") == (
        "the text has 2 symbols (3 occurrences) that the vocabulary of 3 doesn't know: "
        "'é' (U+00E9) x 2, '\\n' (U+000A) x 1; leave them out, or train with them or at --level byte"
    )
    assert message(vocabulary.encode, "a😀") == (
        "the text has 1 symbol (1 occurrence) that the vocabulary of 3 doesn't know: "
        "'😀' (U+1F600) x 1; leave them out, or train with them or at --level byte"
    )
    assert "'\\ud800' (U+D800) x 1;" in message(vocabulary.encode, "\ud800")
    assert "'d' (U+0064) x 1;" in message(vocabulary.encode, "d")  # the first point above the table
    many = "".join(chr(ord("A") + k) * (12 - k) for k in range(12))
    assert message(vocabulary.encode, many) == (
        "the text has 12 symbols (78 occurrences) that the vocabulary of 3 doesn't know: "
        + ", ".join(f"'{chr(ord('A') + k)}' (U+00{0x41 + k:02X}) x {12 - k}" for k in range(10))
        + " and 2 more; leave them out, or train with them or at --level byte"
    )


def test_bytes_stand_for_utf8_and_come_back():
    vocabulary = Bytes()
    assert vocabulary.encode("né").tolist() == vocabulary.encode("né".encode()).tolist() == [110, 195, 169]
    assert vocabulary.encode("né").dtype == np.dtype("int32")
    assert vocabulary.decode([110, 195, 169]) == "né"
    assert vocabulary.decode([0xC3, 0x28, 0xFF]) == "\ufffd(\ufffd"
    every = bytes(range(256))
    assert vocabulary.encode(every).tolist() == list(range(256))
    # bytes of a command line that were not UTF-8
    assert vocabulary.encode(b"caf\xe9".decode("utf-8", "surrogateescape")).tolist() == [99, 97, 102, 0xE9]


def test_levels_and_types_that_do_not_go_together_are_refused():
    said = "the text is bytes; a char vocabulary takes str, a byte vocabulary bytes"
    assert message(Vocabulary.of, b"a", "char") == said
    assert message(Vocabulary.of("a", "char").encode, b"a") == said
    assert message(Bytes().encode, "a\ud800") == (
        "'\\ud800' (U+D800) at character 1 of the text is half a character, which has no UTF-8 bytes; leave it out"
    )


@pytest.mark.parametrize("token", [-1, 3, 2**40])
def test_tokens_outside_the_vocabulary_are_refused(token):
    vocabulary = Vocabulary.of("abc", "char")
    said = f"token {token} is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(vocabulary.decode, [0, token]) == said
    assert message(vocabulary.decoder().feed, token) == said
    assert message(Bytes().decode, [256]) == ("token 256 is outside the vocabulary of 256 symbols; expected 0 to 255")


def test_a_character_of_several_bytes_streams_when_it_is_complete():
    decoder = Bytes().decoder()
    assert [decoder.feed(token) for token in "aé😀".encode()] == ["a", "", "é", "", "", "", "😀"]
    assert decoder.finish() == ""


def test_broken_bytes_stream_as_replacements():
    decoder = Bytes().decoder()
    assert [decoder.feed(token) for token in (0xC3, 0x28, 0xFF, 0xF0, 0x9F)] == ["", "\ufffd(", "\ufffd", "", ""]
    assert decoder.finish() == "\ufffd"
    assert decoder.feed(np.int32(97)) == "a"


@pytest.mark.parametrize("seed", range(3))
def test_streaming_gives_what_decoding_at_once_gives(seed):
    tokens = np.random.default_rng(seed).integers(0, 256, size=3000)
    decoder = Bytes().decoder()
    assert "".join(decoder.feed(token) for token in tokens) + decoder.finish() == Bytes().decode(tokens)


def test_a_vocabulary_is_the_same_after_json():
    for vocabulary in (Vocabulary.of('{"é": "😀\\"}\n', "char"), Bytes()):
        assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
    assert Bytes().to_json() == {"level": "byte"}
    assert Vocabulary.of("ba", "char").to_json() == {"level": "char", "symbols": ["a", "b"]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("ab", "vocabulary is 'ab'; expected an object with entries"),
        (None, "vocabulary is None; expected an object with entries"),
        ({}, "vocabulary has no entry level"),
        (
            {"level": ["char"]},
            "vocabulary.level is ['char']; expected one of 'char', 'byte', 'word', 'bpe', 'tokens'",
        ),
        ({"level": "char"}, "vocabulary has no entry symbols"),
        ({"level": "byte", "symbols": []}, "vocabulary has an unknown entry, 'symbols'"),
        ({"level": "char", "symbols": ["a"], "merges": []}, "vocabulary has an unknown entry, 'merges'"),
        ({"level": "char", "symbols": "ab"}, "vocabulary.symbols is 'ab'; expected a list"),
        (
            {"level": "tokens", "size": 2**31 + 1},
            "vocabulary.size is 2147483649; expected a whole number from 1 to 2,147,483,648",
        ),
        ({"level": "word", "symbols": [], "lower": 1, "words": ""}, "vocabulary.lower is 1; expected true or false"),
        (
            {"level": "char", "symbols": []},
            "the vocabulary has no symbols; it is made of a text of at least one character",
        ),
        (
            {"level": "char", "symbols": ["a", "bc"]},
            "symbol 1 of the vocabulary is 'bc'; expected a single character",
        ),
        ({"level": "char", "symbols": ["a", ""]}, "symbol 1 of the vocabulary is ''; expected a single character"),
        ({"level": "char", "symbols": [["a"]]}, "vocabulary.symbols[0] is ['a']; expected a text"),
        ({"level": "char", "symbols": [7]}, "vocabulary.symbols[0] is 7; expected a text"),
        (
            {"level": "char", "symbols": ["a", "b", "c", "b"]},
            "the vocabulary lists 'b' (U+0062) 2 times; expected distinct symbols",
        ),
    ],
)
def test_json_that_is_no_vocabulary_of_ours_is_refused(data, said):
    assert message(Vocabulary.from_json, data) == said


def test_a_vocabulary_of_nothing_is_refused():
    assert message(Vocabulary.of, "", "char") == (
        "the vocabulary has no symbols; it is made of a text of at least one character"
    )


# --- entropies ---


def test_entropies_of_a_case_calculated_by_hand():
    # a a b a a b a: a 5 times, b 2 times. Pairs aa 2, ab 2, ba 2: after a it is a or b, after b surely a.
    tokens = [0, 0, 1, 0, 0, 1, 0]
    unigram = 5 / 7 * math.log(7 / 5) + 2 / 7 * math.log(7 / 2)
    assert unigram_entropy(tokens, 2) == pytest.approx(unigram, rel=8 * EPS)  # a handful of roundings
    assert bigram_entropy(tokens, 2) == pytest.approx(4 / 6 * math.log(2), rel=8 * EPS)
    # the same whether pairs are counted in a table or by sorting
    assert bigram_entropy(tokens, 1000) == bigram_entropy(tokens, 2)


def test_entropies_at_their_ends():
    assert unigram_entropy([3], 5) == unigram_entropy([3] * 9, 5) == bigram_entropy([3, 3], 5) == 0.0
    assert bigram_entropy([0, 1, 2] * 50, 3) == 0.0
    assert unigram_entropy(range(1000), 1000) == pytest.approx(math.log(1000), rel=8 * EPS)


@pytest.mark.parametrize(
    ("V", "N", "dtype"), [(2, 50, "uint8"), (7, 3000, "uint64"), (300, 900, "uint16"), (9999, 400, ">i8")]
)
def test_entropies_are_the_sums_of_their_definitions(V, N, dtype):
    tokens = (np.random.default_rng(V).random(N) ** 2 * V).astype(dtype)
    pairs = list(zip(tokens[:-1].tolist(), tokens[1:].tolist(), strict=True))
    after = {a: [y for x, y in pairs if x == a] for a in {x for x, _ in pairs}}
    unigram = -math.fsum(math.log(tokens.tolist().count(a) / N) for a in tokens.tolist()) / N
    bigram = -math.fsum(math.log(after[a].count(b) / len(after[a])) for a, b in pairs) / (N - 1)
    tolerance = 4 * N * EPS  # sums of at most N terms, each rounded a few times
    assert unigram_entropy(tokens, V) == pytest.approx(unigram, abs=tolerance)
    assert bigram_entropy(tokens, V) == pytest.approx(bigram, abs=tolerance)


def test_bigram_entropy_of_a_large_vocabulary_needs_no_table():
    tokens = np.random.default_rng(0).integers(0, 10_000, size=200_000, dtype=np.int32)
    assert 0 < bigram_entropy(tokens, 10_000) < unigram_entropy(tokens, 10_000) < math.log(10_000)


def test_entropies_refuse_too_few_tokens_and_tokens_outside():
    assert message(unigram_entropy, [], 3) == "the text has 0 tokens; its entropy needs at least 1"
    assert message(bigram_entropy, [1], 3) == "the text has 1 token; its entropy needs at least 2"
    assert message(bigram_entropy, [1, 3], 3) == "token 3 is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(unigram_entropy, [-1, 2], 3) == "token -1 is outside the vocabulary of 3 symbols; expected 0 to 2"
    assert message(unigram_entropy, [0.5], 3) == (
        "tokens are float64; expected integers, which Vocabulary.encode makes of a text"
    )


# --- the split ---


@pytest.mark.parametrize(
    ("N", "val", "test", "sizes"),
    [
        (1000, 0.05, 0.05, (900, 50, 50)),
        (100, 0.29, 0.0, (71, 29, 0)),  # 0.29 * 100 is 28.999999999999996
        (100, 0, 0, (100, 0, 0)),
        (100, 0.0, 0.5, (50, 0, 50)),
        (7, 0.05, 0.05, (7, 0, 0)),
        (0, 0.1, 0.1, (0, 0, 0)),
        (10, np.float32(0.2), 0.1, (7, 2, 1)),
    ],
)
def test_the_split_is_contiguous_in_order_and_loses_nothing(N, val, test, sizes):
    tokens = np.arange(N, dtype=np.int32)
    parts = split(tokens, val, test)
    assert tuple(len(part) for part in parts) == sizes
    assert np.concatenate(parts).tolist() == list(range(N))
    assert all(np.shares_memory(part, tokens) for part in parts if len(part))


def test_no_split_of_any_size_loses_or_repeats_a_token():
    rng = np.random.default_rng(5)
    for N in range(60):
        val, test = rng.random(2) * 0.499999
        assert np.concatenate(split(np.arange(N), val, test)).tolist() == list(range(N))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 5, float("nan"), float("inf"), "0.1", None])
def test_nonsense_fractions_are_refused(fraction):
    said = f"is {fraction!r}; it must be at least 0 and below 1"
    assert message(split, range(9), fraction) == f"val_fraction {said} (--val-fraction)"
    assert message(split, range(9), 0.1, fraction) == f"test_fraction {said} (--test-fraction)"


def test_fractions_that_leave_nothing_to_train_on_are_refused():
    assert message(split, range(9), 0.5, 0.5) == (
        "val_fraction 0.5 and test_fraction 0.5 leave nothing to train on; their sum must be below 1"
    )


def test_a_file_that_fails_while_it_is_read_is_named(tmp_path, monkeypatch):
    class Failing(io.FileIO):
        def readinto(self, buffer):
            raise OSError(errno.EIO, os.strerror(errno.EIO))  # names no file

    path = tmp_path / "book.txt"
    path.write_text("the cat")
    monkeypatch.setattr(files, "open", lambda path, mode: io.BufferedReader(Failing(path, mode)), raising=False)
    source = files.Source(str(path), str(path))
    for use in (source.digest, lambda: files.packed_as(source), lambda: list(source.blocks()), lambda: read(path)):
        with pytest.raises(UnrolledError) as caught:
            use()
        assert str(caught.value) == f"{path}: input/output error; expected a file that can be read"


@pytest.mark.parametrize("level", ["char", "byte", "word", "tokens"])
@pytest.mark.parametrize("token", [-1, 1 << 20000, 1.0, "1", None, True, np.array([1])], ids=type)
def test_what_is_no_token_has_no_text(level, token):
    """Least of all a negative one, which Python would count from the end."""
    known = Vocabulary.of(np.arange(5) if level == "tokens" else "ab cd", level)
    for call in (known.piece, known.decoder().feed):
        assert re.match(r"token .* is outside the vocabulary of \d+ symbols; expected 0 to \d+$", message(call, token))


@pytest.mark.parametrize("level", [["char"], np.array(["char", "byte"]), {"char"}, None])
def test_a_level_is_a_name(level):
    calls = (lambda: Vocabulary.of("a", level), lambda: read("a.txt", level))
    for call in (*calls, lambda: of_documents(["a"], level)):
        assert message(call).startswith("no level is called ")


def test_a_long_field_is_quoted_in_part(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"t": "a"}\n')
    for option in ("json_field", "column"):
        assert len(message(read, path, **{option: "x" * 5000})) < 300
