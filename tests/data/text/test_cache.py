"""Texts larger than the memory: the same tokens, kept on the disk, and never used where they are wrong."""

import gzip
import json
import os
import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text import Bytes, cache, encode, files, read, vocabulary_of
from unrolled.data.text.corpus import Stream

SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 10, "epochs": 2}
TEXT = "\ufeffThe cat, né 😀, it's\r\non the mat;\rthe   dog\t\u2028 ate.\r\n\r\n" * 20 + "end\r"
LEVELS = ["char", "byte", "word", "bpe"]


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The folder of kept tokens, with texts of 1,000 bytes large and blocks of 97 bytes."""
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setattr(files, "BLOCK", 97)
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(TEXT.encode())
    return path


def needs(level):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    return {"max_symbols": 270} if level == "bpe" else {"max_symbols": 9} if level == "word" else {}


def both(paths, level, options, **how):
    """Vocabulary and tokens of a text read at once, and of the same in pieces."""
    found = []
    for stream in (False, True):
        corpus = read(paths, level, stream=stream, **how)
        vocabulary = vocabulary_of(corpus, **options)
        found.append((corpus, vocabulary, encode(corpus, vocabulary)))
    return found


@pytest.mark.parametrize("block", [1, 2, 97, 1 << 20])
@pytest.mark.parametrize("level", LEVELS)
def test_a_text_in_pieces_is_the_same_text(kept, tmp_path, book, monkeypatch, level, block):
    monkeypatch.setattr(files, "BLOCK", block)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.gz").write_bytes(gzip.compress(("packed " * 50 + "\n").encode()))
    (tmp_path / "more/b.bin").write_bytes(b"\0\1")
    (tmp_path / "more/c.txt").write_bytes(b"last")
    (one, vocabulary, whole), (corpus, again, pieces) = both([book, tmp_path / "more"], level, needs(level))
    assert isinstance(corpus.text, Stream)
    assert not isinstance(one.text, Stream)
    assert again == vocabulary
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    assert pieces.notes[:-1] == whole.notes
    assert pieces.tokens.dtype == (np.uint16 if level == "bpe" else np.uint8)
    assert isinstance(pieces.tokens, np.memmap)


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_json_lines_and_documents_in_pieces_are_the_same(kept, tmp_path, level):
    path = tmp_path / "a.jsonl"
    records = ["one\r\ntwo", "", "\ufeffthree \r", "\nfour\n", "five" * 40] * 5
    path.write_text("\n".join(json.dumps({"t": r}) for r in records))
    (_, vocabulary, whole), (_, again, pieces) = both(path, level, needs(level), json_field="t", documents=True)
    assert again == vocabulary
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    np.testing.assert_array_equal(pieces.documents, whole.documents)
    assert len(whole.documents) == 24
    assert pieces.notes[:-1] == whole.notes


@pytest.mark.parametrize("level", LEVELS)
def test_training_on_pieces_gives_the_same_bytes_and_resumes(kept, tmp_path, book, level):
    options = SMALL | {"level": level} | needs(level)
    held = {"val": [tmp_path / "val.txt"]} if level == "char" else {}
    (tmp_path / "val.txt").write_bytes(TEXT.encode())
    ur.LanguageModel.train(read(book, level), out=tmp_path / "whole", **held, **options)
    ur.LanguageModel.train(book, out=tmp_path / "run", **held, **(options | {"epochs": 1}))
    assert len(list(kept.glob("*.npy"))) == 1 + (level == "char")
    before = [(p.name, p.stat().st_mtime_ns) for p in sorted(kept.glob("*"))]
    ur.LanguageModel.resume(tmp_path / "run", epochs=2)
    assert [(p.name, p.stat().st_mtime_ns) for p in sorted(kept.glob("*"))] == before
    files = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "whole")]
    assert files[0] == files[1]
    book.write_bytes(TEXT.encode()[:-9] + b"another.\n")
    with pytest.raises(ur.UnrolledError, match="the text is not the one that"):
        ur.LanguageModel.resume(tmp_path / "run", epochs=3)


def spoil(kept, how):
    """Damage what is kept; returns what is said of it."""
    tokens, about = next(kept.glob("*.tokens.npy")), next(kept.glob("*.tokens.json"))
    data = tokens.read_bytes()
    if how == "cut off":
        tokens.write_bytes(data[:-7])
    elif how == "header":
        tokens.write_bytes(data.replace(b"'<u", b"'<i").replace(b"'|u1", b"'|i1"))
    elif how == "empty":
        tokens.write_bytes(b"")
    elif how == "missing":
        tokens.unlink()
    elif how == "bit":
        tokens.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif how == "description":
        about.write_bytes(about.read_bytes().replace(b'"count": ', b'"count": 1'))
        return f"what was kept of this text is not used: {about} is damaged"
    elif how == "no description":
        about.write_bytes(b"\xff{")
        return f"what was kept of this text is not used: {about} is damaged"
    elif how == "zip":
        tokens.write_bytes(b"PK\x03\x04" + data)
    elif how == "lies":
        tokens.write_bytes(
            data.replace(b"'descr': '|u1'", b"'descr': {}    ").replace(b"'descr': '<u2'", b"'descr': {}    ")
        )
    elif how == "folder":
        tokens.unlink()
        tokens.mkdir()
        (tokens / "mine").write_text("kept")
        return f"what was kept of this text is not used: {tokens} is no file"
    elif how == "pipe":
        about.unlink()
        os.mkfifo(about)
        return f"what was kept of this text is not used: {about} is no file"
    else:
        content = json.loads(about.read_bytes())
        del content["sha256"]
        if how == "version":
            content["format"] = 99
        elif how == "vocabulary":
            content["vocabulary"] = "0" * 64
        else:  # "lacks KEY" and "KEY of another kind", with a checksum that is right
            name = how.split(" ")[-1]
            if how.startswith("lacks"):
                del content[name]
            else:
                content[name] = 7 if isinstance(content[name], str) else {"count": -1} if name == "tokens" else "x"
        about.write_text(json.dumps(content | {"sha256": cache._digest(content)}))
        name = how.split(" ")[-1]
        why = {
            "version": "it was made by another version (format 99, now 2)",
            "lacks format": "it was made by another version (format None, now 2)",
            "changes format": "it was made by another version (format 'x', now 2)",
            "vocabulary": "the vocabulary is another one now",
            "changes tokens": f"{tokens} is damaged",
        }.get(how) or (f"the {name} is another one now" if name in ("text", "vocabulary") else f"{about} is damaged")
        if how == "changes documents":
            why = f"{_documents(tokens)} is damaged"
        return f"what was kept of this text is not used: {why}"
    return f"what was kept of this text is not used: {tokens} is damaged"


def _documents(tokens):
    return tokens.with_name(tokens.name.replace("tokens", "documents"))


DAMAGES = ["cut off", "header", "empty", "missing", "bit", "description", "no description", "version"]
DAMAGES += ["zip", "lies", "folder", "pipe"]
DAMAGES += [f"lacks {name}" for name in ("format", "text", "vocabulary", "tokens", "notes")]
DAMAGES += [f"changes {name}" for name in ("format", "text", "vocabulary", "tokens", "documents", "notes")]


@pytest.mark.parametrize("how", [*DAMAGES, "vocabulary"])
def test_what_is_damaged_or_of_another_version_is_made_again_and_said(kept, book, how):
    corpus = read(book, stream=True)
    vocabulary = vocabulary_of(corpus)
    first = encode(corpus, vocabulary)
    expected = np.array(first.tokens)
    del first
    said = spoil(kept, how)
    again = encode(corpus, vocabulary)
    np.testing.assert_array_equal(again.tokens, expected)
    assert said in again.notes
    assert again.notes[-1].endswith(", kept for the next time")
    after = encode(corpus, vocabulary)
    assert said not in after.notes
    assert after.notes[-1].endswith(", used again")
    assert not list(kept.glob("*.part"))
    if how == "folder":  # nobody's things are deleted
        assert (next(kept.glob("*.aside")) / "mine").read_text() == "kept"


@pytest.mark.parametrize(
    "content", [{}, {"vocabulary": 7}, {"vocabulary": {"level": "word", "symbols": []}}, {"vocabulary": {"level": []}}]
)
def test_a_kept_vocabulary_that_lies_is_made_again(kept, book, content):
    corpus = read(book, stream=True)
    vocabulary = vocabulary_of(corpus)
    cache._write(next(kept.glob("*.vocabulary.json")), {"text": corpus.text.digest} | content)
    assert vocabulary_of(corpus) == vocabulary
    next(kept.glob("*.vocabulary.json")).write_text("[" * 100_000)
    assert vocabulary_of(corpus) == vocabulary


def test_what_is_mapped_is_what_was_written_whoever_writes_meanwhile(kept, book, monkeypatch):
    corpus = read(book, stream=True)
    vocabulary = vocabulary_of(corpus)
    expected = np.array(encode(corpus, vocabulary).tokens)
    for path in kept.glob("*.tokens.*"):
        path.unlink()
    write = cache._write

    def replaced(path, content):  # another process, of another text, comes between
        other = path.with_name(path.name.replace(".json", ".npy"))
        cache._write_array(other, [np.zeros(9, np.uint8)], np.dtype("u1"))
        write(path, content)

    monkeypatch.setattr(cache, "_write", replaced)
    np.testing.assert_array_equal(encode(corpus, vocabulary).tokens, expected)
    monkeypatch.undo()


def test_tokens_stay_whole_when_the_text_and_the_kept_file_change_while_they_are_used(kept, book):
    """What is mapped is a file of ours, which is only ever replaced: so no page of it can go."""
    corpus = read(book, "byte", stream=True)
    tokens = encode(corpus, Bytes()).tokens
    expected = np.array(tokens)
    book.write_bytes(b"x" * 2000)
    again = read(book, "byte", stream=True)
    encode(again, Bytes())
    book.write_bytes(b"")
    np.testing.assert_array_equal(tokens, expected)


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(kept, book):
    import fcntl

    corpus = read(book, stream=True)
    vocabulary = vocabulary_of(corpus)
    names = {
        "other-0123456789abcdef.tokens.npy.unrolled-0123456789abcdef.part": False,
        "held-0123456789abcdef.tokens.npy.unrolled-0123456789abcdef.part": True,
        "mine.part": True,
        "notes.tokens.npy.unrolled-0123456789abcdef.part": True,
    }
    for name in names:
        (kept / name).write_bytes(b"x")
    with open(kept / next(name for name in names if name.startswith("held")), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        encode(corpus, vocabulary)
    assert {name: (kept / name).exists() for name in names} == names


def test_every_bit_of_what_is_kept_is_watched(kept, book):
    corpus = read(book, stream=True)
    vocabulary = vocabulary_of(corpus)
    expected = np.array(encode(corpus, vocabulary).tokens)
    rng = np.random.default_rng(0)
    for path in sorted(kept.iterdir()):
        data = path.read_bytes()
        for at in rng.integers(0, len(data), 40):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :])
            assert vocabulary_of(corpus) == vocabulary
            np.testing.assert_array_equal(encode(corpus, vocabulary).tokens, expected)


def test_a_changed_text_is_noticed_even_with_its_old_size_and_time(kept, book):
    corpus = read(book, stream=True)
    encode(corpus, vocabulary_of(corpus))
    stat = book.stat()
    book.write_bytes(book.read_bytes().replace(b"cat", b"act"))
    os.utime(book, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (_, vocabulary, whole), (_, again, pieces) = both(book, "char", {})
    assert vocabulary == again
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    assert "what was kept of this text is not used: the text is another one now" in pieces.notes


def test_other_options_have_tokens_of_their_own(kept, book):
    tokens = []
    for lower in (False, True, False):
        corpus = read(book, "word", stream=True)
        encoded = encode(corpus, vocabulary_of(corpus, lower=lower))
        tokens.append(np.array(encoded.tokens))
    assert encoded.notes[-1].endswith("used again")
    np.testing.assert_array_equal(tokens[0], tokens[2])
    assert tokens[0].max() > tokens[1].max()
    assert len(list(kept.glob("*.tokens.npy"))) == 2


def test_a_folder_that_can_t_be_written_is_one_line(kept, book):
    kept.write_text("in the way")
    with pytest.raises(ur.UnrolledError) as caught:
        ur.LanguageModel.train(book, **SMALL)
    assert str(caught.value) == (
        f"can't keep the tokens of a large text in {kept}: File exists; UNROLLED_CACHE names another folder"
    )


def test_where_it_is_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("UNROLLED_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "unrolled"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folder().parts[-2:] == (".cache", "unrolled")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("UNROLLED_CACHE", "~/x")
    assert cache.folder() == tmp_path / "me" / "x"


def test_a_user_without_a_home_is_told_in_a_line(monkeypatch, tmp_path, book):
    def refuse(path):
        raise RuntimeError("Could not determine home directory.")

    for name in ("UNROLLED_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pathlib.Path.expanduser", refuse)
    monkeypatch.setattr(files, "LARGE", 1000)
    with pytest.raises(ur.UnrolledError) as caught:
        ur.LanguageModel.train(book, **SMALL)
    assert str(caught.value) == (
        "this user has no home folder to keep the tokens of a large text in; UNROLLED_CACHE=/a/folder names one"
    )


@pytest.mark.parametrize("letter", ["a", "長", "\U0001f600"])
def test_a_name_of_many_bytes_is_cut(kept, tmp_path, monkeypatch, letter):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / (letter * (250 // len(letter.encode())) + ".txt")
    path.write_bytes(TEXT.encode())
    for k in range(2):
        from unrolled.cli import cli

        given = ["train", str(path), "--epochs=1", "--sample-length=0", "--hidden-size=9", "--num-layers=1"]
        cli.main([*given, "--batch-size=2", "--seq-length=9"], standalone_mode=False)
        assert len(list((tmp_path / "runs").iterdir())) == k + 1
    names = [p.name for p in [*kept.iterdir(), *(tmp_path / "runs").iterdir()]]
    assert max(len(name.encode()) for name in names) < 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x" * 999 + b"\xffabc", "byte 0xff at offset 999 is not UTF-8; convert it"),
        (b"\xff\xfe" + b"x\0" * 600, "byte 0xff at offset 0 is not UTF-8 (the file looks like UTF-16); convert it"),
        (b"x" * 1001 + b"\0abc", "byte 0x00 at offset 1001 is no character of a text; convert it to UTF-8, or read"),
        (b"x" * 1100 + "é".encode()[:1], "byte 0xc3 at offset 1100 is not UTF-8; convert it"),
    ],
)
def test_bytes_that_are_not_utf8_are_located_across_blocks(kept, tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    corpus = read(tmp_path / "a", stream=True)
    with pytest.raises(ur.UnrolledError) as caught:
        vocabulary_of(corpus)
    assert message in str(caught.value)
    assert not kept.exists()


def test_packed_files_in_blocks(kept, tmp_path):
    zstandard = pytest.importorskip("zstandard", reason="the extra zstd is not installed")
    packed = b"".join(zstandard.ZstdCompressor().compress(TEXT.encode()[k : k + 400]) for k in range(0, 4000, 400))
    (tmp_path / "a.zst").write_bytes(packed)
    (_, vocabulary, whole), (corpus, again, pieces) = both(tmp_path / "a.zst", "byte", {})
    assert isinstance(corpus.text, Stream)
    assert vocabulary == again == Bytes()
    assert bytes(whole.tokens.astype(np.uint8)) == bytes(pieces.tokens) == TEXT.encode()[:4000]
    for cut in (packed[:-3], packed[:5]):
        (tmp_path / "a.zst").write_bytes(cut)
        with pytest.raises(ur.UnrolledError, match=r"a\.zst: the zstd file is damaged: it ends in the middle of a"):
            read(tmp_path / "a.zst")


def test_a_book_in_blocks_is_stripped_whole(kept, tmp_path):
    book = "A licence.\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n" + "It was.\n" * 300
    (tmp_path / "a").write_text(book + "*** END OF THE PROJECT GUTENBERG EBOOK X ***\nMore.\n")
    (_, _, whole), (_, vocabulary, pieces) = both(tmp_path / "a", "char", {})
    np.testing.assert_array_equal(pieces.tokens, whole.tokens)
    assert vocabulary.decode(pieces.tokens) == "It was.\n" * 300


def test_the_command_says_what_is_kept(kept, tmp_path, book, monkeypatch, capsys):
    from unrolled.cli import cli

    monkeypatch.chdir(tmp_path)
    given = ["train", "book.txt", "--epochs", "1", "--sample-length=0", "--hidden-size=9", "--num-layers=1"]
    given += ["--batch-size=2", "--seq-length=9"]
    for said in ("kept for the next time", "used again"):
        cli.main(given, standalone_mode=False)
        size = len(read(book).text)
        assert f"{size:,} characters in {next(kept.glob('*.npy'))}, {said}" in capsys.readouterr().out
    assert sys.getsizeof(read(book, stream=True)) < 1000


def test_pairs_of_a_large_text_of_many_symbols_are_counted_at_its_beginning(tmp_path):
    from unrolled.models.language_data import for_bigrams

    size = (1 << 23) + 5
    mapped = np.memmap(tmp_path / "t", np.uint16, "w+", shape=size)  # a file with a hole: no room on the disk
    some, notes = for_bigrams(mapped, 2049)
    assert (len(some), notes) == (1 << 23, ("the entropy of bigrams is that of the first 8,388,608 tokens",))
    assert for_bigrams(mapped, 2048)[0] is mapped
    assert len(for_bigrams(np.zeros(size, np.uint16), 2049)[0]) == size
