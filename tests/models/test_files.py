"""Model files: round trip to the bit, and one clear line for every way a file can be wrong."""

import contextlib
import json
import os
import re
import struct
from fractions import Fraction

import numpy as np
import pytest
import safetensors.numpy

from unrolled import LanguageModel, storage
from unrolled.data.text import Vocabulary
from unrolled.errors import UnrolledError
from unrolled.models import files as checkpoint
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec


def model(**options):
    vocabulary = Vocabulary.of("ab\ncé", "char")
    spec = Spec(**({"vocabulary_size": 5, "embedding_size": 3, "hidden_size": 4} | options))
    return Network(spec, rng=np.random.default_rng(7)), vocabulary


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, *model())
    return path


def rewrite(path, change):
    """Take a model file apart, change its header and arrays, and put it together again."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    content = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["unrolled"])
    arrays = safetensors.numpy.load(data)
    content.pop("sha256")
    change(content, arrays)  # with a checksum that is right: it protects against accidents, not against people
    storage.write_arrays(path, "unrolled" if content else "something", arrays, content)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_exact(tmp_path, dtype):
    network, vocabulary = model(dtype=dtype, cell="lstm_peephole", dropout=0.25)
    checkpoint.save(tmp_path / "m", network, vocabulary)
    other, symbols = checkpoint.load(tmp_path / "m")
    assert other.spec == network.spec
    assert symbols == vocabulary
    for name, p in network.params.items():
        np.testing.assert_array_equal(other.params[name], p)
        assert other.params[name].dtype == dtype
    assert os.listdir(tmp_path) == ["m"]  # nothing left beside it


def test_a_transposed_parameter_is_saved_as_it_reads(tmp_path):
    network, vocabulary = model()
    weight = np.arange(16 * 4, dtype=np.float32).reshape(4, 16).T
    assert not weight.flags.c_contiguous
    network.params["recurrent.weight_hh_l0"] = weight
    checkpoint.save(tmp_path / "m", network, vocabulary)
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "m")[0].params["recurrent.weight_hh_l0"], weight)
    plain = safetensors.numpy.load_file(tmp_path / "m")["recurrent.weight_hh_l0"]  # and for any other reader
    np.testing.assert_array_equal(plain, weight)


def test_the_same_network_gives_the_same_bytes_without_time_or_place(tmp_path):
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, *model())
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert str(tmp_path).encode() not in data
    size = struct.unpack("<Q", data[:8])[0]
    assert set(json.loads(data[8 : 8 + size])["__metadata__"]) == {"unrolled"}


def test_a_failed_write_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    network, vocabulary = model()
    network.params["decoder.bias"] += 1
    with pytest.raises(UnrolledError, match=r"^can't write .*model\.safetensors: No space left on device$"):
        checkpoint.save(saved, network, vocabulary)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["model.safetensors"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UnrolledError, match=r"^can't write in .*gone: No such file or directory$"):
        checkpoint.save(tmp_path / "gone" / "m", *model())


def test_every_truncation_is_refused(saved):
    data = saved.read_bytes()
    for length in [*range(0, 24), *range(24, len(data), 97), len(data) - 1]:
        saved.write_bytes(data[:length])
        with pytest.raises(UnrolledError, match=r"is not an unrolled model|is damaged"):
            checkpoint.load(saved)
    saved.write_bytes(data + b"\0")
    with pytest.raises(UnrolledError, match=r"is damaged: its header describes [\d,]+ bytes of parameters, [\d,]+ are"):
        checkpoint.load(saved)


def test_a_lying_header_is_refused(saved):
    data = saved.read_bytes()
    saved.write_bytes(struct.pack("<Q", 99_999_999) + data[8:])
    with pytest.raises(UnrolledError, match=r"or it is cut off: its header takes 99,999,999 bytes, the file has "):
        checkpoint.load(saved)
    saved.write_text("It is a truth universally acknowledged.")
    with pytest.raises(UnrolledError, match=r"is not an unrolled model: it doesn't begin as a safetensors file does"):
        checkpoint.load(saved)
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    rows = (10**15 - header[last]["data_offsets"][0]) // 4
    header[last] |= {"data_offsets": [header[last]["data_offsets"][0], 10**15], "shape": [rows]}
    lie = json.dumps(header).encode()
    saved.write_bytes(struct.pack("<Q", len(lie)) + lie + data[8 + size :])
    with pytest.raises(UnrolledError, match=r"is damaged: its header describes 1,000,000,000,000,000 bytes"):
        checkpoint.load(saved)


CHANGES = {
    "no metadata": (lambda m, a: m.clear(), "is a safetensors file, but not an unrolled model"),
    "newer": (lambda m, a: m.update(format=3), "has format 3, this version of unrolled reads up to 2"),
    "format": (lambda m, a: m.update(format="x"), "has format 'x', this version"),
    "spec": (lambda m, a: m.update(spec=[]), "spec is []; expected an object with entries"),
    "vocabulary": (lambda m, a: m.pop("vocabulary"), "the description has no entry vocabulary"),
    "missing": (lambda m, a: a.pop("decoder.bias"), "missing: decoder.bias"),
    "extra": (lambda m, a: a.update(more=np.zeros(2, np.float32)), "unknown: more"),
    "shape": (
        lambda m, a: a.update({"decoder.bias": np.zeros(6, np.float32)}),
        "decoder.bias has shape (6,); this network takes (5,)",
    ),
    "dtype": (
        lambda m, a: a.update({"decoder.bias": np.zeros(5)}),
        "decoder.bias is float64; its description says float32",
    ),
    "nan": (
        lambda m, a: a.update({"decoder.bias": np.full(5, np.nan, np.float32)}),
        "decoder.bias holds values that are not finite",
    ),
    "cell": (lambda m, a: m["spec"].update(cell="lstn"), "no cell is called 'lstn'"),
    "size": (
        lambda m, a: m["spec"].update(hidden_size=4000000),
        "recurrent.weight_ih_l0 has shape (16, 3); this network takes (16000000, 3)",
    ),
    "negative": (
        lambda m, a: m["spec"].update(hidden_size=-4),
        "spec.hidden_size is -4; expected a whole number from 1 to 9,007,199,254,740,992",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_wrong_content_is_named(saved, case):
    change, message = CHANGES[case]
    rewrite(saved, change)
    with pytest.raises(UnrolledError, match=re.escape(message)) as caught:
        checkpoint.load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_random_damage_never_ends_in_another_error(saved):
    data, rng = saved.read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 2500), 3):
            broken[at] = rng.integers(0, 256)
        saved.write_bytes(broken)
        with contextlib.suppress(UnrolledError):
            checkpoint.load(saved)


def test_what_is_no_file(tmp_path):
    with pytest.raises(UnrolledError, match=r"^can't read the model .*none: No such file or directory$"):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(UnrolledError, match=r"^can't read the model .*: Is a directory$"):
        checkpoint.load(tmp_path)


# --- what reaches a file is Python's own ------------------------------------------------------------------------------

TEXT = "the cat sat on the mat. " * 40
PLAIN = {
    "hidden_size": (8, 6),
    "num_layers": 2,
    "batch_size": 2,
    "seq_length": 12,
    "epochs": 0.5,
    "learning_rate": 0.25,
    "zoneout": 0.125,
    "learn_state": True,
    "cell": "lstm",
    "forget_bias": 1.0,
    "momentum": 0.5,
    "optimizer": "momentum",
    "lr_decay_after": 3.0,
    "seed": 3,
}


@pytest.mark.parametrize(("whole", "real"), [(np.int64, np.float32), (np.uint8, np.float16), (np.int16, Fraction)])
def test_options_of_numpy_s_kinds_give_the_same_files(tmp_path, real, whole):
    kinds = {int: whole, float: real, bool: np.bool_, str: np.str_, tuple: lambda v: [whole(n) for n in v]}
    given = {name: kinds[type(value)](value) for name, value in PLAIN.items()}
    for folder, options in (("plain", PLAIN), ("numpy", given)):
        model = LanguageModel.train(TEXT, out=tmp_path / folder, **options)
        model.save(tmp_path / folder / "saved")
    for name in ("model.safetensors", "saved", "config.toml"):
        assert (tmp_path / "numpy" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert LanguageModel.resume(tmp_path / "numpy", TEXT, epochs=real(1.0)).result.epochs == 1


def test_a_description_of_numpy_s_kinds_is_one_of_python_s():
    plain = Spec(vocabulary_size=5, hidden_size=(4, 3), dropout=0.5, tied=False, forget_bias=1.0, ar=0.0)
    given = Spec(
        np.int64(5), hidden_size=[np.int16(4), 3], dropout=np.float32(0.5), tied=np.bool_(False), forget_bias=1
    )
    assert given == plain
    assert json.dumps(given.to_json()) == json.dumps(plain.to_json())
    assert type(Spec(5, dropout=Fraction(1, 3)).dropout) is float


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocabulary_size", "5", "vocabulary_size is '5'; it must be a whole number"),
        ("vocabulary_size", 5.0, "vocabulary_size is 5.0; it must be a whole number"),
        ("hidden_size", [4, 5.0], "hidden_size is 5.0; it must be a whole number"),
        ("dropout", "x" * 1000, f"dropout is '{'x' * 79}...; it must be a number"),
        ("dropout", Fraction(10**400), "dropout is too large a number; not even a float would hold it"),
        ("hidden_size", 10**400, "hidden_size is too large a number; not even a float would hold it"),
        ("tied", 1, "tied is 1; it must be true or false"),
        ("dtype", np.int32, "no dtype is called 'int32'; did you mean 'float32'? Known: float32, float64, bfloat16"),
    ],
)
def test_a_description_of_another_kind_is_refused(name, value, message):
    with pytest.raises(UnrolledError) as caught:
        Spec(**{"vocabulary_size": 5} | {name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "dtype", ["\ud800", "(", "f4,f4", "i4", "", "(2,)f4", "{names", "x" * 10_000, None, 4, [("a", "f4")]]
)
def test_a_dtype_that_is_none_is_a_short_line(dtype):
    with pytest.raises(UnrolledError, match=r"^no dtype is called '.*") as caught:
        Spec(5, dtype=dtype)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bias", [float("nan"), float("inf"), 1e308, -1e39])
def test_a_forget_bias_that_no_weight_can_hold_is_refused_before_anything_is_made(tmp_path, bias):
    with pytest.raises(UnrolledError, match=r"^forget_bias is .*; it must be a number from -1,000 to 1,000$"):
        LanguageModel.train(TEXT, out=tmp_path / "run", hidden_size=4, batch_size=2, seq_length=9, forget_bias=bias)
    assert not (tmp_path / "run").exists()
