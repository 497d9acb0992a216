"""Words, arrays of tokens, packed and large files."""

import bz2
import gzip
import io
import lzma
import os
import sys
import threading
from contextlib import suppress

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text import (
    Vocabulary,
    bigram_entropy,
    encode,
    files,
    packed,
    read,
    unigram_entropy,
    vocabulary_of,
)
from unrolled.data.text.corpus import Stream

SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 5, "batch_size": 3, "seq_length": 10, "epochs": 2}
LINES = "The cat, it's on the mat.\nThe dog!\n"


def test_words_are_counted_cut_and_limited():
    whole = Vocabulary.of(LINES, "word")
    assert whole.symbols == ("<unk>", "<eos>", "The", "cat,", "it's", "on", "the", "mat.", "dog!")
    assert whole.encode(LINES).tolist() == [2, 3, 4, 5, 6, 7, 1, 2, 8, 1]
    assert whole.decode(whole.encode(LINES)) == "The cat, it's on the mat. \nThe dog! \n"
    cut = Vocabulary.of(LINES, "word", lower=True, words="punctuation", max_symbols=5)
    assert cut.symbols == ("<unk>", "<eos>", "the", "cat", ",")
    assert cut.encode("The Dog").tolist() == [2, 0]
    assert Vocabulary.of(LINES, "word", min_count=2).symbols == ("<unk>", "<eos>", "The")
    assert Vocabulary.from_json(cut.to_json()) == cut
    # "it's" "on" "mat" "." "dog" "!" are not listed: 4 + 2 + 3 + 1 + 3 + 1 bytes and six ends, 8 bits each
    assert cut.spelling_bits(LINES) == 8 * (14 + 6)


@pytest.mark.parametrize(
    ("level", "text", "labels", "newline", "bits"),
    [
        ("char", "a é", ["a", " ", "é"], None, None),
        ("char", "a\n", ["a", "\n"], 0, None),
        ("byte", "a é", ["a", " ", "195", "169"], 10, None),
        ("word", "a é\n", ["a", "é", "\n"], 1, 9 / 3),
        ("tokens", np.array([3, 0]), ["3", "0"], None, None),
    ],
)
def test_a_vocabulary_answers_for_its_level(level, text, labels, newline, bits):
    """So that nobody else asks which one it is."""
    vocabulary = Vocabulary.of(text, level)
    tokens = vocabulary.encode(text)
    assert [vocabulary.label(token) for token in tokens.tolist()] == labels
    starts = {vocabulary.first_token(np.random.default_rng(seed)) for seed in range(40)}
    assert starts == (set(range(len(vocabulary))) if newline is None else {newline})
    assert vocabulary.bits_per_character(text, int(tokens[0]), 9.0) == bits


def test_a_model_of_words_trains_samples_scores_and_resumes(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(LINES * 40)
    options = SMALL | {"level": "word", "min_count": 2, "lower": True, "words": "punctuation"}
    model = ur.LanguageModel.train(path, out=tmp_path / "run", **options)
    other = ur.load(tmp_path / "run/model.safetensors")
    assert other.vocabulary == model.vocabulary
    assert other.sample("the cat", 20, rng=np.random.default_rng(1)).split()
    assert other.score("the zebra\n").predicted == 2
    assert ur.LanguageModel.resume(tmp_path / "run", epochs=3).result.epochs == 3


@pytest.mark.parametrize("large", [False, True])
def test_tokens_of_a_npy_file_are_read_or_where_they_are_many_mapped_from_a_copy(tmp_path, monkeypatch, large):
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(files, "LARGE", 5000 if large else 50_000)
    tokens = np.random.default_rng(1).integers(0, 37, 5001).astype(np.uint16)
    np.save(tmp_path / "t.npy", tokens)
    corpus = read(tmp_path / "t.npy", "tokens", stream=True)
    assert isinstance(corpus.text, Stream if large else np.ndarray)
    model = ur.LanguageModel.train(tmp_path / "t.npy", level="tokens", out=tmp_path / "run", **SMALL)
    assert len(model.vocabulary) == 37
    assert all(0 <= int(k) < 37 for k in model.sample("3 5", 9).split())
    direct = ur.LanguageModel.train(tokens, level="tokens", **SMALL)
    for name, p in direct.network.params.items():
        np.testing.assert_array_equal(p, model.network.params[name])
    with pytest.raises(ur.UnrolledError, match=r"^token 99 is outside the vocabulary of 37 symbols"):
        model.score(np.array([3, 99]))
    np.save(tmp_path / "t.npy", tokens[::-1])
    with pytest.raises(ur.UnrolledError, match="another content"):
        ur.LanguageModel.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, np.nan]), "are float64; expected integers"),
        (np.array([1.0, 2.0]), "are float64; expected integers"),
        (np.ones((2, 3), int), r"of shape \(2, 3\)"),
        (np.array([object()]), "this is no .npy file that can be read"),
        (np.array([3, -1]), "the tokens hold -1; they must be 0 or more"),
        (np.array([], int), "there are no tokens"),
    ],
)
def test_arrays_that_are_no_tokens(tmp_path, array, message):
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(ur.UnrolledError, match=message) as caught:
        ur.LanguageModel.train(tmp_path / "t.npy", level="tokens", **SMALL)
    assert "\n" not in str(caught.value)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("end", PACKERS)
@pytest.mark.parametrize("name", ["a.txt.{}", "A.TXT.{}", "a.txt"])
def test_packed_files_are_told_by_their_first_bytes_whatever_their_name(tmp_path, end, name):
    pack = PACKERS[end]
    path = tmp_path / name.format(end.upper() if name.isupper() else end)
    path.write_bytes(pack(LINES.encode()) + pack(b"more\n"))
    for level, text in (("char", LINES + "more\n"), ("byte", (LINES + "more\n").encode())):
        assert (read(path, level).text, read(path, level).name) == (text, path.name[0])
        assert read(tmp_path, level).text == text
    path.write_bytes(pack(LINES.encode())[:-7])
    with pytest.raises(ur.UnrolledError, match=r"^\S+: the \S+ file is damaged: \S[^\n]+$"):
        read(path)
    (tmp_path / f"plain.{end}").write_bytes(b"plain text")
    with pytest.raises(ur.UnrolledError, match=r"plain\.\S+: the \S+ file is damaged: \S[^\n]+$"):
        read(tmp_path / f"plain.{end}")


def test_xz_may_have_zeros_between_its_streams(tmp_path):
    (tmp_path / "a").write_bytes(lzma.compress(b"one\n") + b"\0" * 8 + lzma.compress(b"two\n") + b"\0" * 4)
    assert read(tmp_path / "a").text == "one\ntwo\n"


@pytest.mark.parametrize("end", [*PACKERS, "zst"])
@pytest.mark.parametrize("level", ["char", "byte", "word"])
def test_more_than_a_limit_never_comes_out_of_a_packed_file(tmp_path, monkeypatch, end, level):
    pack = PACKERS.get(end) or pytest.importorskip("zstandard").ZstdCompressor().compress
    size = 6 << 20
    (tmp_path / "bomb").write_bytes(pack(b"a" * size))
    assert (tmp_path / "bomb").stat().st_size < 60_000
    monkeypatch.setenv("UNROLLED_MAX_TEXT", "2M")
    seen, blocks = [], packed.unpacked
    monkeypatch.setattr(packed, "unpacked", lambda *a: (seen.append(len(b)) or b for b in blocks(*a)))
    for stream in (False, True):
        with pytest.raises(ur.UnrolledError) as caught:
            read(tmp_path / "bomb", level, stream=stream)
        assert str(caught.value) == (
            f"{tmp_path / 'bomb'}: more than 2,097,152 bytes come out of it; "
            "if that is meant, UNROLLED_MAX_TEXT=100G (or another number) sets the limit"
        )
    assert max(seen) <= 32 << 20  # what 1 KB of zstd may hold
    monkeypatch.setenv("UNROLLED_MAX_TEXT", "many")
    with pytest.raises(
        ur.UnrolledError, match=r"^UNROLLED_MAX_TEXT is 'many'; expected a number of bytes, such as 20G$"
    ):
        read(tmp_path / "bomb", level)
    monkeypatch.delenv("UNROLLED_MAX_TEXT")
    monkeypatch.setattr(packed, "FREE", 1 << 20)
    with pytest.raises(ur.UnrolledError, match=r"bomb: more than [\d,]+ bytes come out of it"):  # 100 times its size
        read(tmp_path / "bomb", level)
    monkeypatch.setattr(packed, "FREE", size)
    assert len(read(tmp_path / "bomb", level).text) == size


def test_a_packed_text_is_large_by_what_comes_out_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 1000)
    for size, large in ((999, False), (1000, True)):
        (tmp_path / "a.gz").write_bytes(gzip.compress(b"a" * size))
        assert isinstance(read(tmp_path / "a.gz", stream=True).text, Stream) is large


def test_packed_files_are_read_unpacked(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "b.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(LINES.encode()))
    assert read(tmp_path).text == LINES * 2
    (tmp_path / "b.txt.zst").write_bytes(b"no")
    with pytest.raises(ur.UnrolledError, match="the zstd file is damaged"):
        read(tmp_path / "b.txt.zst")


def test_a_damaged_gzip_file_is_named(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(LINES.encode()))
    assert read(tmp_path / "a.gz", "byte").text == LINES.encode()
    for data in (gzip.compress(LINES.encode())[:-9], b"plain", gzip.compress(b"x" * 99)[:12] + b"\xff" * 20):
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(ur.UnrolledError, match=r"a\.gz: the gzip file is damaged"):
            read(tmp_path / "a.gz")


def test_entropies_are_the_same_in_pieces(monkeypatch):
    from unrolled.data.text import entropy

    ids = np.random.default_rng(2).integers(0, 1500, 9001).astype(np.uint16)
    whole = [(unigram_entropy(t, v), bigram_entropy(t, v)) for t, v in ((ids, 1500), (ids % 7, 7))]

    def small(ids, overlap=0):
        for start in range(0, len(ids) - overlap, 1000):
            yield ids[start : start + 1000 + overlap]

    monkeypatch.setattr(entropy, "_pieces", small)
    assert [(unigram_entropy(t, v), bigram_entropy(t, v)) for t, v in ((ids, 1500), (ids % 7, 7))] == whole


def test_a_large_file_of_bytes_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 1000)
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 8)
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    corpus = read(tmp_path / "big.bin", "byte", stream=True)
    assert isinstance(corpus.text, Stream)
    mapped = ur.LanguageModel.train(corpus, level="byte", **SMALL)
    direct = ur.LanguageModel.train(bytes(range(256)) * 8, level="byte", **SMALL)
    for name, p in direct.network.params.items():
        np.testing.assert_array_equal(p, mapped.network.params[name])


def test_a_field_of_json_lines_is_the_text(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"text": "one\\r\\ntwo", "n": 3}\n\n{"text": "three\\n"}\n'))
    assert read(path, json_field="text").text == "one\ntwo\nthree\n"
    for line, message in [
        ("{", "line 2 is no JSON"),
        ('{"n": 3}', "line 2 is no object with a field 'text'"),
        ("[3]", "line 2 is no object with a field 'text'"),
        ('{"text": 3}', "line 2: the field 'text' is 3; expected a text"),
    ]:
        (tmp_path / "b.jsonl").write_text('{"text": "one"}\n' + line)
        with pytest.raises(ur.UnrolledError, match=rf"b\.jsonl, {message}"):
            read(tmp_path / "b.jsonl", json_field="text")


def test_files_to_validate_and_test_on(tmp_path):
    for name, text in (("a", LINES * 9), ("v", "Vala " * 20), ("t", "Tot. " * 20)):
        (tmp_path / name).write_text(text)
    options = SMALL | {
        "epochs": 6 / 11,
        "eval_every": 6,
        "val": tmp_path / "v",
        "test": [tmp_path / "t"],
        "out": tmp_path / "run",
    }
    model = ur.LanguageModel.train(tmp_path / "a", **options)
    assert {"V", "l", "T"} <= set(model.vocabulary.symbols)
    again = ur.LanguageModel.train(tmp_path / "a", **(options | {"out": None, "epochs": 2}))
    resumed = ur.LanguageModel.resume(tmp_path / "run", epochs=2)
    assert resumed.result.test_loss == again.result.test_loss
    assert resumed.result.history[-1].val_loss == again.result.history[-1].val_loss
    # one lane would see all of it; three see it from a zero state each
    assert again.result.test_loss == pytest.approx(again.score("Tot. " * 20).nats, abs=0.2)
    (tmp_path / "v").write_text("laVa " * 20)
    with pytest.raises(ur.UnrolledError, match="another content"):
        ur.LanguageModel.resume(tmp_path / "run")


def test_words_of_any_length_are_the_same_whole_and_in_pieces():
    from unrolled.data.text.cleaning import RUN, whole_words

    rng = np.random.default_rng(4)
    runs = [rng.choice(["ab", "c", " ", "\t\n", "\u2028"]) * int(rng.integers(1, 9000)) for _ in range(40)]
    text = "x" + "".join(runs) + "end"
    vocabulary = Vocabulary.of(text, "word")
    assert max(map(len, vocabulary.symbols)) == RUN
    expected = vocabulary.encode(text).tolist()
    for size in (100, RUN - 1, RUN, 3 * RUN + 1):
        pieces = [text[k : k + size] for k in range(0, len(text), size)]
        assert "".join(whole_words(pieces)) == text
        assert Vocabulary.of(iter(pieces), "word") == vocabulary
        assert [k for piece in whole_words(pieces) for k in vocabulary.encode(piece)] == expected


def test_a_long_word_takes_time_that_grows_with_its_length_alone(monkeypatch):
    from unrolled.data.text import cleaning

    seen, cut = [], cleaning._bounded
    monkeypatch.setattr(cleaning, "_bounded", lambda text: seen.append(len(text)) or cut(text))
    found = list(cleaning.whole_words(["x" * 1000] * 400))
    assert (sum(map(len, found)), max(map(len, found))) == (400_000, cleaning.RUN)
    assert max(seen) <= cleaning.RUN + 1000  # what is looked at again is bounded


def test_a_list_of_numbers_is_tokens_and_words_that_are_not_listed_are_named(tmp_path):
    model = ur.LanguageModel.train(np.arange(300) % 7, level="tokens", **SMALL)
    assert model.score([1, 2, 3]).nats == model.score(np.array([1, 2, 3])).nats
    for given, said in (
        ([0.5, 1.0], "tokens are float64; expected integers, which Vocabulary.encode makes of a text"),
        ([[1], [1, 2]], "tokens has rows of unequal length; expected an array of numbers"),
        (np.ma.masked_array([1, 2], [False, True]), "tokens has masked entries; fill them, or leave their steps out"),
        (None, "tokens are NoneType; expected integers in one dimension (N,)"),
    ):
        with pytest.raises(ur.UnrolledError) as caught:
            model.score(given)
        assert str(caught.value).startswith(said)
    assert Vocabulary.of("the cat", "word").unlisted("the dog and the cow\ncat dog") == ["dog", "and", "cow", "dog"]
    assert Vocabulary.of("the cat", "char").unlisted("dog") == []


def npy(header, data=b"\0" * 16, version=b"\x01\0"):
    header = header.encode()
    size = len(header).to_bytes(2 if version == b"\x01\0" else 4, "little")
    return b"\x93NUMPY" + version + size + header + data


GOOD = "{'descr': '<u2', 'fortran_order': False, 'shape': (3,), }\n"


@pytest.mark.parametrize("version", [b"\x01\0", b"\x02\0", b"\x03\0"])
def test_every_version_of_npy_files_is_read(tmp_path, version):
    (tmp_path / "a.npy").write_bytes(npy(GOOD, np.array([3, 1, 2], "<u2").tobytes() + b"more", version))
    tokens = read(tmp_path / "a.npy", "tokens").text
    assert (tokens.tolist(), tokens.dtype) == ([3, 1, 2], np.uint16)
    (tmp_path / "a.npy").write_bytes(
        npy(GOOD.replace("<u2", ">i4").replace("False", "True"), np.arange(3, dtype=">i4").tobytes())
    )
    assert read(tmp_path / "a.npy", "tokens").text.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (npy("{'descr': {}, 'fortran_order': False, 'shape': (-1,)}"), "it holds {}, expected integers"),
        (npy(GOOD.replace("(3,)", "(-1,)")), "its shape is (-1,)"),
        (npy(GOOD.replace("(3,)", "(True,)")), "its shape is (True,)"),
        (npy(GOOD.replace("(3,)", "3")), "its shape is 3"),
        (npy(GOOD.replace("(3,)", f"({10**30},)")), "its shape is (1000"),
        (npy(GOOD.replace("(3,)", "(9,)")), "it is cut off: 9 integers take more than the 16 bytes that follow"),
        (npy(GOOD.replace("False", "0")), "its shape is (3,)"),
        (npy(GOOD.replace("'shape'", "'shape': (3,), 'more'")), "its header lacks something, or says more than it"),
        (npy(GOOD.replace("<u2", "|O")), "it holds '|O', expected integers"),
        (npy(GOOD.replace("'<u2'", "[('a', '<i4')]")), "it holds [('a', '<i4')], expected integers"),
        (npy("[" * 5000), "its header is no description of an array"),
        (npy("-" * 5000 + "1"), "its header is no description of an array"),
        (npy("\0"), "its header is no description of an array"),
        (npy("  \n  1"), "its header lacks something, or says more than it should"),
        (npy("__import__('os')"), "its header is no description of an array"),
        (npy("9" * 5000), "its header is no description of an array"),
        (npy(GOOD)[:12], "its header claims"),
        (npy(" " * 60_000 + GOOD), "its header claims 60,0"),
        (npy(GOOD, version=b"\x04\0"), "it doesn't begin as one"),
        (b"", "it doesn't begin as one"),
    ],
)
def test_a_npy_file_that_lies_is_one_line(tmp_path, data, said):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(ur.UnrolledError) as caught:
        read(tmp_path / "a.npy", "tokens")
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'}: this is no .npy file that can be read: {said}")
    assert len(str(caught.value)) < 400


def test_no_damaged_npy_file_is_more_than_a_line(tmp_path):
    whole = bytearray(npy(GOOD, b"\1\0\2\0\3\0"))
    rng = np.random.default_rng(2)
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[at] = rng.integers(256)
        (tmp_path / "a.npy").write_bytes(data[: int(rng.integers(1, len(data) + 9))])
        with suppress(ur.UnrolledError):  # anything else fails the test
            read(tmp_path / "a.npy", "tokens")


@pytest.mark.parametrize("large", [False, True])
def test_a_pipe_is_read_once_and_kept(tmp_path, monkeypatch, large):
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(files, "LARGE", 1000 if large else 100_000)
    monkeypatch.setattr(files, "BLOCK", 700)
    text = LINES * 60
    os.mkfifo(tmp_path / "pipe")
    ends = os.pipe()
    for path, data in (
        (str(tmp_path / "pipe"), text.encode()),
        (f"/dev/fd/{ends[0]}", gzip.compress(text.encode())),
        ("-", bz2.compress(text.encode())),
    ):
        if path == "-":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
        elif "/fd/" in path:
            os.write(ends[1], data)
            os.close(ends[1])
        else:
            threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,)).start()
        corpus = read(path, "word", stream=True)
        assert (corpus.paths, corpus.name) == ((path,), "stdin")
        assert isinstance(corpus.text, Stream) is large
        vocabulary = vocabulary_of(corpus)
        assert vocabulary == Vocabulary.of(text, "word")
        assert encode(corpus, vocabulary).tokens.tolist() == vocabulary.encode(text).tolist()
    os.close(ends[0])
    assert not list((tmp_path / "kept").glob("*.part"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
def test_a_pipe_that_can_t_be_kept_or_read_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    monkeypatch.setattr(files, "LARGE", 1000)
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (the spool closes it)
    monkeypatch.setattr(files.tempfile, "TemporaryFile", lambda buffering, dir: full)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 2000)))
    with pytest.raises(ur.UnrolledError) as caught:
        read("-")
    assert str(caught.value) == (
        f"can't keep the tokens of a large text in {tmp_path / 'kept'}: No space left on device; "
        "UNROLLED_CACHE names another folder"
    )

    class Folder(io.BytesIO):
        def read(self, size):
            raise IsADirectoryError(21, "Is a directory")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Folder()))
    with pytest.raises(ur.UnrolledError, match=r"^standard input: is a directory; expected a text$"):
        read("-")
    monkeypatch.setattr(sys, "stdin", io.StringIO("as in a notebook"))
    with pytest.raises(ur.UnrolledError, match=r"^standard input is closed; pipe a text in, or name a file$"):
        read("-")


def test_a_pipe_gives_no_more_than_a_limit(monkeypatch):
    monkeypatch.setenv("UNROLLED_MAX_TEXT", "3k")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 3072)))
    assert len(read("-").text) == 3072
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * 3073)))
    with pytest.raises(ur.UnrolledError, match=r"^standard input: more than 3,072 bytes come out of it; if that"):
        read("-")
