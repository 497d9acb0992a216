"""Texts from a server on this machine, which breaks off, lies and changes its mind as those of the web do."""

import gc
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unrolled.cli import main
from unrolled.data import books, download
from unrolled.data.books import Book
from unrolled.errors import UnrolledError

TEXT = (
    "\ufeffA header.\r\n*** START OF THE PROJECT GUTENBERG EBOOK EMMA ***\r\n"
    + "".join(f"Line {n} of a book.\r\n" for n in range(9000))
    + "*** END OF THE PROJECT GUTENBERG EBOOK EMMA ***\r\nA licence.\r\n"
).encode()
CUT = 100_000
"""Bytes after which a connection breaks: more than a block, less than the text."""


class Server(ThreadingHTTPServer):
    """Serves `text` with a validator, and notes what it was asked for; tests change what it does."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.text, self.tag, self.status, self.ranges, self.cuts, self.asked = TEXT, '"1"', 200, True, 0, []
        self.odd = b""
        self.url = f"http://127.0.0.1:{self.server_port}/emma.txt"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range"), self.headers.get("If-Range")
        server.asked.append((self.path, *asked))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/emma.txt")
            self.end_headers()
            return
        if server.odd:
            self.wfile.write(server.odd)
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        begin = 0
        if asked[0] and server.ranges and asked[1] == server.tag:
            begin = int(asked[0].removeprefix("bytes=").removesuffix("-"))
            if begin >= len(server.text):
                self.send_error(416)
                return
        rest = server.text[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(server.text) - 1}/{len(server.text)}")
        self.send_header("Content-Length", str(len(rest)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            rest = rest[:CUT]
        self.wfile.write(rest)

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def server(monkeypatch, tmp_path):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("UNROLLED_DATA", str(tmp_path / "data"))
    with Server() as made:
        monkeypatch.setitem(books.BOOKS, "emma", Book("Emma", "Jane Austen", 158, "emma.txt", made.url))
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def pinned(monkeypatch, server, text=TEXT):
    book = Book("Emma", "Jane Austen", 158, "emma.txt", server.url, hashlib.sha256(text).hexdigest())
    monkeypatch.setitem(books.BOOKS, "emma", book)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_text_is_downloaded_once_and_compared_with_its_first_checksum(server, tmp_path):
    found = books.fetch("158")
    assert found.path == tmp_path / "data" / "emma.txt"
    assert found.path.read_bytes() == TEXT
    assert names(found.path.parent) == ["emma.txt", "emma.txt.sha256"]
    line = (tmp_path / "data" / "emma.txt.sha256").read_text()
    assert line == f"{hashlib.sha256(TEXT).hexdigest()}  emma.txt\n"  # as sha256sum reads it
    assert books.fetch("emma").there
    assert len(server.asked) == 1
    found.path.write_bytes(TEXT.replace(b"Line 7", b"Line 8"))
    with pytest.raises(UnrolledError, match=r"another text than expected: .*--force downloads it again"):
        books.fetch("emma")
    assert not books.fetch("emma", force=True).changed
    server.text = TEXT.replace(b"Line 7", b"Line 9")
    assert books.fetch("emma", force=True).changed  # it was corrected: said, and noted
    assert books.fetch("emma").there


def test_what_was_cut_off_is_gone_on_from(server, tmp_path):
    server.cuts = 1
    with pytest.raises(UnrolledError, match=rf"cut off after 100,000 of {len(TEXT):,} bytes; the same command goes on"):
        books.fetch("emma")
    assert names(tmp_path / "data") == ["emma.txt.part", "emma.txt.part.json"]
    assert books.fetch("emma").path.read_bytes() == TEXT
    assert server.asked[1] == ("/emma.txt", f"bytes={CUT}-", '"1"')
    assert names(tmp_path / "data") == ["emma.txt", "emma.txt.sha256"]


@pytest.mark.parametrize("what", ["no ranges", "another version", "no validator", "all was there"])
def test_a_text_begins_anew_where_it_can_not_go_on(server, tmp_path, what):
    server.cuts, server.tag = 1, None if what == "no validator" else '"1"'
    with pytest.raises(UnrolledError, match="cut off"):
        books.fetch("emma")
    server.ranges = what != "no ranges"
    if what == "another version":  # of which a half is no half of the first one
        server.text, server.tag = TEXT.replace(b"Line", b"line"), '"2"'
    if what == "all was there":  # killed before it was put in its place: 416
        (tmp_path / "data" / "emma.txt.part").write_bytes(TEXT)
    assert books.fetch("emma").path.read_bytes() == server.text
    assert names(tmp_path / "data") == ["emma.txt", "emma.txt.sha256"]


def test_nothing_is_kept_of_another_text(server, monkeypatch, tmp_path):
    pinned(monkeypatch, server, TEXT + b"more")
    with pytest.raises(
        UnrolledError, match=r"another text than expected: its SHA-256 is .*, not .*nothing of it is kept"
    ):
        books.fetch("emma")
    assert names(tmp_path / "data") == []
    pinned(monkeypatch, server)
    found = books.fetch("emma")
    assert found.known
    assert names(tmp_path / "data") == ["emma.txt"]
    monkeypatch.setitem(books.BOOKS, "emma", Book("Emma", "", 158, "emma.txt", server.url))
    for other in (b"<html>Log in to the network first</html>", TEXT[:-100], b"\xff" + TEXT):
        server.text = other
        with pytest.raises(UnrolledError, match="no whole text of Project Gutenberg's; it begins"):
            books.fetch("emma", force=True)
    monkeypatch.setattr(download, "LARGEST", 100_000)
    with pytest.raises(UnrolledError, match="more than 100,000 bytes"):
        books.fetch("emma", force=True)
    assert found.path.read_bytes() == TEXT  # as it was


def test_redirects_proxies_and_places(server, monkeypatch, tmp_path):
    moved = Book("Emma", "", 158, "emma.txt", server.url.replace("emma.txt", "moved"))
    monkeypatch.setitem(books.BOOKS, "emma", moved)
    (tmp_path / "here").mkdir()
    assert books.fetch("emma", tmp_path / "here").path == tmp_path / "here" / "emma.txt"
    monkeypatch.setitem(books.BOOKS, "emma", Book("Emma", "", 158, "emma.txt", "http://books.invalid/emma.txt"))
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/emma.txt"))
    assert books.fetch("emma", tmp_path / "there.txt").path.read_bytes() == TEXT
    assert server.asked[-1][0] == "http://books.invalid/emma.txt"  # a proxy is asked for the whole address
    with pytest.raises(UnrolledError, match=r"leads to http://.*, which is not secured"):
        download._check_secure("https://books.invalid", server.url)


def test_the_command_ends_in_one_line(server, monkeypatch, tmp_path, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as end:
            main(list(words))
        return end.value.code, *capsys.readouterr()

    status, out, _ = run("fetch", "emma", "--output", str(tmp_path / "e.txt"))
    assert (status, out.splitlines()[0]) == (0, f"{tmp_path / 'e.txt'}: downloaded from {server.url}")
    assert out.endswith(f"next: unrolled train {tmp_path / 'e.txt'}\n")
    status, out, _ = run("fetch", "--list")
    assert status == 0
    assert len(out.splitlines()) == len(books.BOOKS)
    assert "pride             1342  Pride and Prejudice, Jane Austen, SHA-256 known" in out
    server.status = 404
    wrong = {
        ("fetch", "emma"): f"unrolled: {server.url}: the server says 404 Not Found\n",
        ("fetch", "emmma"): "unrolled: no text is called 'emmma'; did you mean 'emma'?",
        ("fetch", "84"): "unrolled: can't reach 127.0.0.1: Connection refused; it takes a network",
        ("fetch",): "unrolled: name a text: unrolled fetch pride",
    }
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/pg84.txt"
    monkeypatch.setitem(books.BOOKS, "frankenstein", Book("Frankenstein", "", 84, "f.txt", nobody))
    for words, said in wrong.items():
        status, out, err = run(*words)
        assert (status, out, err.count("\n"), err[: len(said)]) == (2, "", 1, said)
    assert names(tmp_path / "data") == []


ODD = {
    "a part that is none": (
        b"HTTP/1.1 206 OK\r\nContent-Length: 2\r\n\r\nab",
        "the server sends a part of it that nobody",
    ),
    "a part from elsewhere": (
        b"HTTP/1.1 206 OK\r\nContent-Length: 2\r\nContent-Range: bytes 5-6/10\r\n\r\nab",
        "the server sends a part of it that nobody asked for",
    ),
    "no address": (b"HTTP/1.1 302 OK\r\nLocation: http://[::1\r\n\r\n", "can't reach 127.0.0.1: Invalid IPv6 URL"),
    "no name of a server": (b"HTTP/1.1 302 OK\r\nLocation: http://a..b/\r\n\r\n", "can't reach 127.0.0.1: "),
    "another alphabet": (
        "HTTP/1.1 302 OK\r\nLocation: http://\u00e9\u65e5/\r\n\r\n".encode(),
        "can't reach 127.0.0.1: ",
    ),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("odd", ODD)
def test_an_answer_that_is_none_is_one_line_and_asked_for_twice_at_most(odd, server, tmp_path):
    server.odd, said = ODD[odd]
    with pytest.raises(UnrolledError) as error:
        books.fetch("emma")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(server.asked) == (2 if "part" in odd else 1)
    assert not (tmp_path / "data" / "emma.txt").exists()
    gc.collect()  # the standard library leaves a connection open that leads to no address


@pytest.mark.parametrize("proxy", ["http://a..b:1", "/"])
def test_a_proxy_that_is_none_is_one_line(proxy, server, monkeypatch):
    monkeypatch.setitem(books.BOOKS, "emma", Book("Emma", "", 158, "emma.txt", "http://books.invalid/emma.txt"))
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(UnrolledError, match=r"^can't reach books\.invalid: "):
        books.fetch("emma")


def test_all_that_came_before_a_break_is_kept(server, tmp_path):
    server.odd = (
        b'HTTP/1.1 200 OK\r\nETag: "1"\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n\xef\xbb\xbfA hea\r\nff\r\nder'
    )
    with pytest.raises(UnrolledError, match=r" broke off: .*; the same command goes on from what was received$"):
        books.fetch("emma")
    (part,) = (tmp_path / "data").rglob("*.part")
    assert TEXT.startswith(part.read_bytes())
    assert part.stat().st_size >= 8
    server.odd = b""
    assert books.fetch("emma").path.read_bytes() == TEXT


@pytest.mark.parametrize("mine", [".part", ".part.json", ".sha256"])
@pytest.mark.parametrize("content", [b"my own notes\n", b"[" * 100_000, b"0" * 64 + b"  other.txt\n", b'{"url": "x"}'])
def test_what_lies_beside_it_and_is_anothers_stays(server, tmp_path, mine, content):
    path = tmp_path / "data" / f"emma.txt{mine}"
    path.parent.mkdir()
    path.write_bytes(content)
    for force in (False, True):
        with pytest.raises(UnrolledError, match=r"emma\.txt\.\S+ is no .*; move it away, or --output names another"):
            books.fetch("emma", force=force)
        assert (names(path.parent), path.read_bytes()) == ([path.name], content)
    assert not server.asked
    path.unlink()
    assert books.fetch("emma").path.read_bytes() == TEXT
