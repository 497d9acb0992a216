"""The default corpus."""

import sys
import sysconfig

import pytest

from unrolled.data.text import default_corpus
from unrolled.errors import UnrolledError


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
