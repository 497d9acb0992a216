"""Data that won't do: one line each, and the run that is there stays as it is."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import cli
from unrolled.data.text import files

TEXT = "The cat sat on the mat.\n" * 60
SMALL = {"hidden_size": 9, "num_layers": 1, "batch_size": 2, "seq_length": 9, "epochs": 1, "sample_length": 0}
ARGUMENTS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs at three levels, and what can't follow them."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "book.txt").write_text(TEXT)
    tokens = np.arange(900, dtype=np.uint8) % 50
    np.save(folder / "book.npy", tokens)
    for level, source in (("char", "book.txt"), ("word", "book.txt"), ("tokens", "book.npy")):
        ur.LanguageModel.train(folder / source, level=level, out=folder / level, **SMALL)
    (folder / "other.txt").write_text("Ω is not the cat.\n" * 60)
    for name, array in {
        "nan": np.array([1.0, np.nan] * 500),
        "float": np.arange(900.0),
        "negative": np.tile([3, -1], 500),
        "huge": np.tile([3, 2**40], 500),
        "outside": np.tile([3, 60], 500),
        "square": np.ones((30, 30), int),
    }.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "cut.npy").write_bytes((folder / "book.npy").read_bytes()[:-100])
    (folder / "bits.npy").write_bytes((folder / "book.npy").read_bytes().replace(b"NUMPY", b"NUMPX"))
    (folder / "header.npy").write_bytes((folder / "book.npy").read_bytes().replace(b"}", b"("))
    return folder


def state(folder):
    return {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


TOKENS = ["train", "--level=tokens", "--out=tokens", "--overwrite"]
CASES = {
    "nan": ([*TOKENS, "nan.npy"], "nan.npy are float64; expected integers, which Vocabulary.encode makes of a text"),
    "float": (
        [*TOKENS, "float.npy"],
        "float.npy are float64; expected integers, which Vocabulary.encode makes of a text",
    ),
    "negative": ([*TOKENS, "negative.npy"], "the tokens hold -1; they must be 0 or more"),
    "huge": ([*TOKENS, "huge.npy"], "the tokens hold 1099511627776; they must be at most 2147483647"),
    "outside": (
        [*TOKENS, "book.npy", "--val-file=outside.npy"],
        "token 60 is outside the vocabulary of 50 symbols; expected 0 to 49",
    ),
    "square": ([*TOKENS, "square.npy"], "square.npy are of shape (30, 30); expected integers in one dimension (N,)"),
    "cut": ([*TOKENS, "cut.npy"], "cut.npy: this is no .npy file that can be read: "),
    "bits": ([*TOKENS, "bits.npy"], "bits.npy: this is no .npy file that can be read: "),
    "header": ([*TOKENS, "header.npy"], "header.npy: this is no .npy file that can be read: "),
    "another text": (
        ["train", "--resume=char", "other.txt"],
        "the text is not the one that char was trained on: the text has 2 symbols (120 occurrences) that",
    ),
    "another array": (
        ["train", "--resume=tokens", "outside.npy"],
        "the text is not the one that tokens was trained on: token 60 is outside the vocabulary of 50 symbols",
    ),
    "another level": (
        ["train", "other.txt", "--init-from=char/model.safetensors", "--level=word", "--out=char", "--overwrite"],
        "--level is 'word', but the model to start from has 'char'",
    ),
    "an unknown symbol": (["score", "char/model.safetensors", "other.txt"], "the text has 2 symbols (120 occurrences)"),
    "text for tokens": (
        ["sample", "tokens/model.safetensors", "--prompt=cat"],
        "this model knows tokens, not text; write them as numbers, such as 12 7 9",
    ),
    "tokens outside": (
        ["score", "tokens/model.safetensors", "outside.npy"],
        "token 60 is outside the vocabulary of 50 symbols; expected 0 to 49",
    ),
    "documents of nothing": (
        ["train", "--documents", "--out=char", "--overwrite"],
        "--documents is about files; name some",
    ),
    "too few byte pairs": (
        ["train", "book.txt", "--level=bpe", "--max-symbols=99", "--out=char", "--overwrite"],
        "--max-symbols is 99; byte pairs come after the 256 bytes, so 256 or more",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_line_and_nothing_is_overwritten(home, monkeypatch, case):
    arguments, message = CASES[case]
    monkeypatch.chdir(home)
    before = state(home)
    with pytest.raises(ur.UnrolledError) as caught:
        cli.main([*arguments, *(ARGUMENTS if "--overwrite" in arguments else [])], standalone_mode=False)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert state(home) == before


def test_the_exit_status_is_2(home):
    command = [sys.executable, "-m", "unrolled", *TOKENS, "nan.npy"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"unrolled: {CASES['nan'][1]}\n"


def test_a_large_text_that_has_changed_is_refused_by_resume(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 1000)
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "kept"))
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    ur.LanguageModel.train(path, out=tmp_path / "run", **SMALL)
    before = state(tmp_path / "run")
    path.write_text(TEXT.replace("cat", "act"))
    with pytest.raises(ur.UnrolledError, match=r"it has 1,440 symbols, another content\. Give the old text, or start"):
        ur.LanguageModel.resume(tmp_path / "run", epochs=2)
    path.write_text(TEXT + "Ω")
    with pytest.raises(ur.UnrolledError, match=r"was trained on: the text has 1 symbol \(1 occurrence\)"):
        ur.LanguageModel.resume(tmp_path / "run", epochs=2)
    assert state(tmp_path / "run") == before
    path.write_text(TEXT)
    assert ur.LanguageModel.resume(tmp_path / "run", epochs=2).result.epochs == 2


def test_a_flipped_bit_of_a_model_of_byte_pairs_is_found(tmp_path):
    pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    path = tmp_path / "m.safetensors"
    ur.LanguageModel.train(TEXT, level="bpe", max_symbols=262, **SMALL).save(path)
    data = path.read_bytes()
    merges = data.index(b"merges")
    for at in range(merges, merges + 60):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(ur.UnrolledError) as caught:
            ur.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(data)
    assert json.dumps(ur.load(path).vocabulary.to_json())
