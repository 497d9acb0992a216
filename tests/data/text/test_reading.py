"""Reading files, pipes and directories: exact values and exact messages."""

import dataclasses
import errno
import inspect
import io
import os
import socket
import sys

import numpy as np
import pytest

from unrolled.data.text import Corpus, Vocabulary, default_corpus, files, of_documents, read
from unrolled.errors import UnrolledError

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
    assert message(read, [""]) == "a file to read has no name: the path is empty"
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
