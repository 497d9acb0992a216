"""Files whose checksum is right and whose content lies: one line each, in little time and memory, and nothing is lost.

A checksum protects against accidents. Here is what a person could write who means it.
"""

import contextlib
import copy
import json
import os
import re
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

import unrolled as ur
from unrolled import storage
from unrolled.data.text import Vocabulary
from unrolled.models import files as checkpoint
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec
from unrolled.training.callbacks import Callback
from unrolled.training.trainer import CHECKPOINT, MODEL

TEXT = "The cat sat on the mat.\n" * 60
SMALL = {"hidden_size": 9, "num_layers": 1, "batch_size": 2, "seq_length": 9, "epochs": 1, "sample_length": 0}

NASTY = [None, True, -1, 0, 1, 7, 1.5, -0.0, 1e308, float("nan"), float("inf"), 2**31, 2**53, 2**63, 10**30, 10**400]
NASTY += ["", "x", "x" * 100_000, "\ud800", "a\nb", [], {}, [[]], [1] * 100, {"a": 1}, [None], ["a", "a"], [2**62] * 3]
"""Values of every kind that JSON has, far out of every range."""


def parts(path, entry):
    """Content and arrays of a file, nothing checked."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    content = json.loads(header["__metadata__"][entry])
    del content["sha256"]
    return content, safetensors.numpy.load(data)


def places(value, path=()):
    """Every place in a JSON value: keys and numbers that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def damaged(content, arrays, rng):
    """Content and arrays with one to three lies in them, and what they are."""
    content, arrays, said = copy.deepcopy(content), dict(arrays), []
    for _ in range(rng.integers(1, 4)):
        lie = _about_arrays(arrays, rng) if rng.random() < 0.2 else _about_content(content, rng)
        said.append(lie)
    return content, arrays, said


def _about_content(content, rng):
    # objects first, so that a list of a hundred items is not all that is ever damaged
    everywhere = list(places(content))
    few = [place for place in everywhere if not any(isinstance(key, int) for key in place)]
    some = few if rng.random() < 0.7 else everywhere
    place = some[rng.integers(len(some))]
    holder = content
    for key in place[:-1]:
        holder = holder[key]
    how = rng.integers(8)
    if how == 0:
        holder.pop(place[-1])
        return f"{place} is gone"
    if how == 1 and isinstance(holder, dict):
        holder["more"] = NASTY[rng.integers(len(NASTY))]
        return f"{place[:-1]} has more"
    value = holder[place[-1]]
    new = NASTY[rng.integers(len(NASTY))]
    if how == 2 and type(value) in (int, float):
        new = value * int(rng.integers(2, 9)) + int(rng.integers(-1, 2))
    if how == 3 and isinstance(value, list) and value:
        new = value * int(rng.integers(2, 2000))
    if how == 4 and isinstance(value, (str, list)):
        new = value[:-1]
    holder[place[-1]] = copy.deepcopy(new)
    return f"{place} = {str(new)[:60] if not isinstance(new, int) or abs(new) < 2**64 else 'a large number'}"


def _about_arrays(arrays, rng):
    name = sorted(arrays)[rng.integers(len(arrays))] if arrays else "none"
    array = arrays.get(name, np.ones(3, np.float32))
    lies = {
        "gone": lambda: arrays.pop(name, None),
        "more": lambda: arrays.update(more=array),
        "longer": lambda: arrays.update({name: np.concatenate([array, array])}),
        "flat": lambda: arrays.update({name: array.reshape(-1)}),
        "deep": lambda: arrays.update({name: array.reshape(1, 1, *array.shape)}),
        "wide": lambda: arrays.update({name: array.astype("f8" if array.dtype == "f4" else "f4")}),
        "nan": lambda: arrays.update({name: np.full_like(array, np.nan)}),
        "large": lambda: arrays.update({name: np.full_like(array, 1e38)}),
        "renamed": lambda: arrays.update({name.swapcase(): arrays.pop(name, array)}),
    }
    lie = list(lies)[rng.integers(len(lies))]
    lies[lie]()
    return f"{name}: {lie}"


# --- damaged at random ------------------------------------------------------------------------------------------------

KINDS = {
    "char": {},
    "word": {"level": "word", "hidden_size": (5, 6), "num_layers": 2, "learn_state": True},
    "byte": {"level": "byte", "tied": True, "embedding_size": 9, "cell": "gru_reset_after"},
    "averaged": {"average": "ema", "schedule": "plateau", "eval_every": 20, "optimizer": "sgd", "dropout": 0.1},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lies") / "run"
    ur.LanguageModel.train(TEXT, out=folder, **(SMALL | KINDS[request.param]))
    return folder


class Stopped(Exception):
    pass


class OneStep(Callback):
    def stepped(self, progress):
        raise Stopped


def in_one_line(error):
    said = str(error.value) if hasattr(error, "value") else str(error)
    assert "\n" not in said
    assert len(said) < 1200
    return True


@pytest.mark.parametrize("seed", [1, 2])
def test_a_model_that_lies_is_a_line_or_can_be_used(run, seed, tmp_path):
    content, arrays = parts(run / MODEL, "unrolled")
    rng, path, loaded = np.random.default_rng(seed), tmp_path / MODEL, 0
    for _ in range(60):
        *lie, said = damaged(content, arrays, rng)
        storage.write_arrays(path, "unrolled", lie[1], lie[0])
        try:
            model = ur.load(path)
            loaded += 1
            with contextlib.suppress(ur.UnrolledError):  # weights of 1e38 load, and have no finite outputs
                model.score("The cat sat")
        except ur.UnrolledError as error:
            assert in_one_line(error), said  # noqa: PT017 - it may as well load
    assert loaded < 20


@pytest.mark.parametrize("seed", [1, 2])
def test_a_checkpoint_that_lies_is_a_line_or_goes_on_and_keeps_every_file(run, seed):
    content, arrays = parts(run / CHECKPOINT, "unrolled_run")
    whole, rng, refused = {path: path.read_bytes() for path in run.iterdir()}, np.random.default_rng(seed), 0
    for _ in range(50):
        *lie, said = damaged(content, arrays, rng)
        storage.write_arrays(run / CHECKPOINT, "unrolled_run", lie[1], lie[0])
        try:
            with contextlib.suppress(Stopped):
                ur.LanguageModel.resume(run, TEXT, callbacks=[OneStep()])
        except ur.UnrolledError as error:
            refused += 1
            assert in_one_line(error), said  # noqa: PT017 - it may as well go on
            for path, data in whole.items():
                assert path.name == CHECKPOINT or path.read_bytes() == data, said
        for path, data in whole.items():
            path.write_bytes(data)
    assert refused > 25


# --- what a lie may cost ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def little_memory():
    """Within it, 4 MB at most: some pieces of a file, and what the interpreter needs."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


def model(**options):
    return Network(Spec(**{"vocabulary_size": 5, "embedding_size": 3, "hidden_size": 4} | options))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / MODEL
    checkpoint.save(path, model(), Vocabulary.of("abcde", "char"))
    return path


def test_sizes_are_compared_with_the_file_before_anything_of_them_is_made(path):
    content, arrays = parts(path, "unrolled")
    for size in (9000, 10**9, 2**53):
        for name in ("hidden_size", "embedding_size"):
            storage.write_arrays(path, "unrolled", arrays, content | {"spec": content["spec"] | {name: size}})
            with (
                little_memory(),
                pytest.raises(ur.UnrolledError, match=r"this network takes") as caught,
            ):
                ur.load(path)
            assert in_one_line(caught)


def test_a_checkpoint_s_sizes_too(tmp_path):
    ur.LanguageModel.train(TEXT, out=tmp_path, **SMALL)
    content, arrays = parts(tmp_path / CHECKPOINT, "unrolled_run")
    content["options"]["hidden_size"] = 9000
    storage.write_arrays(tmp_path / CHECKPOINT, "unrolled_run", arrays, content)
    with (
        little_memory(),
        pytest.raises(ur.UnrolledError, match=r"has shape \(36, 64\); this network takes \(36000, 64\)$"),
    ):
        ur.LanguageModel.resume(tmp_path, TEXT)


@pytest.mark.parametrize("layers", [10_000, [1, 2] * 5000])
def test_ten_thousand_layers_are_refused_soon_and_more_at_once(path, layers, few_lines):
    content, arrays = parts(path, "unrolled")
    content["spec"]["hidden_size" if isinstance(layers, list) else "num_layers"] = layers
    storage.write_arrays(path, "unrolled", arrays, content)
    with (
        few_lines(10_000 * 400),
        pytest.raises(ur.UnrolledError, match=r"arrays do not fit this network; missing: ") as caught,
    ):
        ur.load(path)
    assert in_one_line(caught)
    content["spec"] |= {"num_layers": 10_001} if isinstance(layers, int) else {"hidden_size": [1, 2] * 500_000}
    storage.write_arrays(path, "unrolled", arrays, content)
    with few_lines(100_000), pytest.raises(ur.UnrolledError, match=r"at most 10,000"):
        ur.load(path)


def test_a_thousand_layers_load_in_a_moment(tmp_path, few_lines):
    deep = model(num_layers=1000, hidden_size=1)
    checkpoint.save(tmp_path / "m", deep, Vocabulary.of("abcde", "char"))
    with few_lines(1000 * 2500):
        again, _ = checkpoint.load(tmp_path / "m")
    assert again.params.keys() == deep.params.keys()


def test_the_first_bytes_of_a_large_file_are_read_first(path):
    os.truncate(path, 20 * 2**30)  # takes no room on the disk
    with little_memory(), pytest.raises(ur.UnrolledError, match=r"describes [\d,]+ bytes of parameters, 21,474,8"):
        ur.load(path)
    for first in (bytes(8), struct.pack("<Q", 2**33), struct.pack("<Q", 2**34), b"PK\3\4\0\0\0\0"):
        path.write_bytes(first)
        os.truncate(path, 20 * 2**30)
        with little_memory(), pytest.raises(ur.UnrolledError, match=r"is not an unrolled model"):
            ur.load(path)


def test_what_a_message_quotes_is_cut(path):
    content, arrays = parts(path, "unrolled")
    long = "x" * 100_000
    for lie in (
        {"format": long},
        {"format": 10**4000},
        {"spec": long},
        {"spec": content["spec"] | {"cell": long}},
        {"spec": content["spec"] | {long: 1}},
        {"spec": content["spec"] | {"dtype": long[:99]}},
        {"vocabulary": {"level": long}},
        {"vocabulary": {"level": "char", "symbols": [long]}},
        {
            "vocabulary": {
                "level": "word",
                "symbols": ["<unk>", "<eos>", long, long],
                "lower": False,
                "words": "whitespace",
            }
        },
        {long: 1},
    ):
        storage.write_arrays(path, "unrolled", arrays, content | lie)
        with pytest.raises(ur.UnrolledError) as caught:
            ur.load(path)
        assert in_one_line(caught)
    storage.write_arrays(path, "unrolled", {f"{long}\n{k}": a for k, a in arrays.items()}, content)
    with pytest.raises(ur.UnrolledError) as caught:
        ur.load(path)
    assert in_one_line(caught)


def test_a_checksum_is_required(path):
    content, arrays = parts(path, "unrolled")
    text = json.dumps(content | {"sha25": "0" * 64})
    path.write_bytes(safetensors.numpy.save(arrays, {"unrolled": text}))
    with pytest.raises(ur.UnrolledError, match=r"is damaged: its content doesn't match its checksum$"):
        ur.load(path)


HEADERS = {
    "no size": {"shape": [0]},
    "negative": {"shape": [-5]},
    "huge": {"shape": [2**62, 2**62]},
    "deep": {"shape": [1] * 70},
    "a text": {"shape": "5"},
    "true": {"shape": [True]},
    "offsets of floats": {"data_offsets": [0.0, 20.0]},
    "three offsets": {"data_offsets": [0, 20, 20]},
    "large offsets": {"data_offsets": [0, 10**400]},
    "other numbers": {"dtype": "I64"},
    "no numbers": {"dtype": ["F32"]},
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused_before_the_library_sees_it(path, case):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    header["decoder.bias"] |= HEADERS[case]
    lie = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(lie)) + lie + data[8 + size :])
    with pytest.raises(
        ur.UnrolledError, match=r"is not an unrolled model: its header's entry for 'decoder.bias' makes no"
    ):
        ur.load(path)


def test_arrays_that_overlap_or_leave_room_are_refused(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    for at in (4, -4):
        header = json.loads(data[8 : 8 + size])
        entry = header["decoder.weight"]
        entry["data_offsets"] = [n + at for n in entry["data_offsets"]]
        lie = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(lie)) + lie + data[8 + size :])
        with pytest.raises(ur.UnrolledError, match=r"is damaged: its header has '.*' at [\d,]+, expected [\d,]+$"):
            ur.load(path)


@pytest.mark.parametrize("group", ["network", "best", "carried"])
def test_numbers_that_are_not_finite_never_reach_a_run_s_models(tmp_path, group):
    ur.LanguageModel.train(TEXT, out=tmp_path, **SMALL)
    content, arrays = parts(tmp_path / CHECKPOINT, "unrolled_run")
    before = (tmp_path / MODEL).read_bytes()
    name = next(name for name in arrays if name.startswith(f"now.{group}."))
    arrays[name] = np.full_like(arrays[name], np.inf)
    storage.write_arrays(tmp_path / CHECKPOINT, "unrolled_run", arrays, content)
    with pytest.raises(ur.UnrolledError, match=rf": {re.escape(name)} holds values that are not finite$"):
        ur.LanguageModel.resume(tmp_path, TEXT)
    assert (tmp_path / MODEL).read_bytes() == before


def test_another_generator_s_state_is_refused(tmp_path):
    ur.LanguageModel.train(TEXT, out=tmp_path, **SMALL)
    content, arrays = parts(tmp_path / CHECKPOINT, "unrolled_run")
    for lie, message in (
        ({"bit_generator": "MT19937"}, r"now\.rng\.bit_generator is 'MT19937'; expected one of 'PCG64'$"),
        (
            {"state": {"state": -1, "inc": 1}},
            r"now\.rng\.state\.state is -1; expected a whole number from 0 to 340,282,",
        ),
        ({"uinteger": 2**32}, r"now\.rng\.uinteger is 4294967296; expected a whole number from 0 to 4,294,967,295$"),
    ):
        now = content["now"] | {"rng": content["now"]["rng"] | lie}
        storage.write_arrays(tmp_path / CHECKPOINT, "unrolled_run", arrays, content | {"now": now})
        with pytest.raises(ur.UnrolledError, match=message):
            ur.LanguageModel.resume(tmp_path, TEXT)
