"""Files of smaller weights: their bytes, what they read back as, and one line for each way they can be wrong."""

import json
import struct

import numpy as np
import pytest

import unrolled as ur
from unrolled import storage
from unrolled.errors import UnrolledError
from unrolled.models import files
from unrolled.nn import rounding

TEXT = "the cat sat on the mat, and the dog on the log. " * 8
CODES = {"bfloat16": "BF16", "int8": "I8"}


@pytest.fixture(scope="module")
def trained():
    sizes = {"hidden_size": 40, "embedding_size": 24, "num_layers": 2, "batch_size": 2, "seq_length": 12}
    return ur.LanguageModel.train(TEXT, epochs=1, cell="gru_reset_after", **sizes)


@pytest.fixture
def saved(trained, tmp_path):
    trained.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def header(path):
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def content(path):
    return json.loads(header(path)["__metadata__"]["unrolled"])


@pytest.mark.parametrize(("weights", "share"), [("bfloat16", 0.5), ("int8", 0.25)])
def test_a_small_file_reads_back_to_the_bit(saved, tmp_path, weights, share):
    plain, model = ur.load(saved), ur.load(saved, weights=weights)
    expected = rounding.rounded(plain.network.params, weights)
    model.save(path := tmp_path / "small")
    again = ur.load(path)
    assert (plain.network.weights, model.network.weights, again.network.weights) == ("float32", weights, weights)
    for name, p in expected.items():
        np.testing.assert_array_equal(again.network.params[name], p)
        assert again.network.params[name].dtype == np.float32
    assert again.score(TEXT).nats == model.score(TEXT).nats
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    sizes = {name: entry["data_offsets"] for name, entry in header(path).items() if name != "__metadata__"}
    matrices = [name for name in expected if rounding.is_matrix(name)]
    assert len(matrices) == 6
    for name in matrices:
        assert header(path)[name]["dtype"] == CODES[weights]
        assert np.diff(sizes[name]) == share * expected[name].nbytes
    assert path.stat().st_size < (share + 0.15) * saved.stat().st_size  # biases, scales and the description remain
    assert (content(saved)["format"], content(path)["format"], content(path)["weights"]) == (1, 2, weights)
    ur.load(path, weights="float32").save(tmp_path / "plain")
    assert content(tmp_path / "plain")["format"] == 1
    assert ur.load(tmp_path / "plain").score(TEXT).nats == again.score(TEXT).nats


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_another_reader_finds_the_numbers_and_writes_the_same_bytes(saved, tmp_path, weights):
    pytest.importorskip("torch")
    from safetensors import torch as theirs

    model = ur.load(saved, weights=weights)
    model.save(path := tmp_path / "small")
    found = theirs.load(path.read_bytes())
    for name, p in model.network.params.items():
        scale = found[name + ".scale"][:, None] if name + ".scale" in found else 1
        np.testing.assert_array_equal((found[name].float() * scale).numpy(), p)
    assert theirs.save(found, header(path)["__metadata__"]) == path.read_bytes()


def test_what_was_trained_on_or_changed_is_saved_as_float32(saved, tmp_path):
    small = ur.load(saved, weights="int8")
    sizes = {"batch_size": 2, "seq_length": 12, "epochs": 1}
    more = ur.LanguageModel.train(TEXT, init_from=small, **sizes)
    assert more.network.weights == "float32"
    small.network.params["decoder.weight"] *= np.float32(0.999)
    small.save(path := tmp_path / "changed")
    assert (content(path)["format"], ur.load(path).network.weights) == (1, "float32")
    np.testing.assert_array_equal(
        ur.load(path).network.params["decoder.weight"], small.network.params["decoder.weight"]
    )


def scaled(content, arrays):
    arrays["decoder.weight.scale"][1] = np.float32(1 + 2.0**-20)


WRONG = {
    "form": (lambda c, a: c.update(weights="int4"), "weights is 'int4'; expected"),
    "plain": (lambda c, a: c.pop("weights"), "unknown: decoder.weight.scale, embedding.weight.scale"),
    "other": (lambda c, a: c.update(weights="bfloat16"), "unknown: decoder.weight.scale"),
    "missing": (lambda c, a: a.pop("decoder.weight.scale"), "missing: decoder.weight.scale"),
    "shape": (
        lambda c, a: a.update({"decoder.weight.scale": np.ones(3, np.float32)}),
        "decoder.weight.scale has shape",
    ),
    "bits": (
        lambda c, a: a.update({"decoder.weight": a["decoder.weight"].astype(np.uint16)}),
        "decoder.weight is bfloat16; its description says int8",
    ),
    "scale": (scaled, "decoder.weight.scale holds what is no scale"),
    "row": (lambda c, a: a["decoder.weight"].__setitem__(2, -128), "decoder.weight holds rows whose largest number"),
    "float64": (lambda c, a: c["spec"].update(dtype="float64"), "rounds models of float32; this one is float64"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_content_is_one_line(saved, case):
    change, message = WRONG[case]
    network, _ = files.load(saved, weights="int8")
    said = content(saved) | {"weights": "int8", "format": 2}
    said.pop("sha256")
    arrays = rounding.packed(network.params, "int8")
    change(said, arrays)
    storage.write_arrays(saved, "unrolled", arrays, said)
    with pytest.raises(UnrolledError) as caught:
        ur.load(saved)
    assert str(caught.value).startswith(str(saved))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_is_found(saved):
    ur.load(saved, weights="int8").save(saved)
    data, rng = saved.read_bytes(), np.random.default_rng(0)
    for at in [*rng.integers(0, len(data), 60), len(data) - 1]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(0, 8))
        saved.write_bytes(broken)
        with pytest.raises(UnrolledError) as caught:
            ur.load(saved)
        assert "\n" not in str(caught.value)


def test_what_can_not_be_rounded_is_refused(saved, tmp_path):
    with pytest.raises(UnrolledError, match=r"no form of weights is called 'int4'; did you mean 'int8'\?"):
        ur.load(saved, weights="int4")
    ur.load(saved, weights="int8").save(path := tmp_path / "small")
    with pytest.raises(UnrolledError, match=r"its weights are int8 already; round the float32 model"):
        ur.load(path, weights="bfloat16")
    spec = ur.Spec(vocabulary_size=len(ur.load(saved).vocabulary), hidden_size=3, dtype="float64")
    ur.LanguageModel(ur.Network(spec, rng=1), ur.load(saved).vocabulary).save(tmp_path / "wide")
    with pytest.raises(UnrolledError, match=r"weights='int8' rounds models of float32; this one is float64$"):
        ur.load(tmp_path / "wide", weights="int8")
