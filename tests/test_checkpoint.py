"""Model files: round trip to the bit, and one clear line for every way a file can be wrong."""

import contextlib
import json
import os
import re
import struct

import numpy as np
import pytest
import safetensors.numpy

from unrolled import checkpoint, storage
from unrolled.errors import UnrolledError
from unrolled.network import Network, Spec
from unrolled.text import Vocabulary


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
    saved.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    with pytest.raises(UnrolledError, match=r"its header claims 4,611,686,018,427,387,904 bytes, the file has "):
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
    "newer": (lambda m, a: m.update(format=2), "has format 2, this version of unrolled reads up to 1"),
    "format": (lambda m, a: m.update(format="x"), "has format 'x', this version"),
    "spec": (lambda m, a: m.update(spec=[]), "a network's description must have exactly the entries"),
    "vocabulary": (lambda m, a: m.pop("vocabulary"), "vocabulary"),
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
        "its description claims 192,000,132,000,020 parameters, it holds",
    ),
    "negative": (
        lambda m, a: m["spec"].update(hidden_size=-4),
        "hidden_size is -4; it must be a whole number, 1 or more",
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
