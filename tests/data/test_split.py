"""The split into parts to train, to validate and to test on."""

import numpy as np
import pytest

from unrolled.cli.options import sources
from unrolled.data.split import check_apart, split
from unrolled.errors import UnrolledError


def message(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("N", "val", "test", "sizes"),
    [
        (1000, 0.05, 0.05, (900, 50, 50)),
        (100, 0.29, 0.0, (71, 29, 0)),  # 0.29 * 100 is 28.999999999999996
        (100, 0, 0, (100, 0, 0)),
        (100, 0.0, 0.5, (50, 0, 50)),
        (7, 0.05, 0.05, (7, 0, 0)),
        (0, 0.1, 0.1, (0, 0, 0)),
        (10, np.float32(0.2), 0.1, (7, 2, 1)),
    ],
)
def test_the_split_is_contiguous_in_order_and_loses_nothing(N, val, test, sizes):
    tokens = np.arange(N, dtype=np.int32)
    parts = split(tokens, val, test)
    assert tuple(len(part) for part in parts) == sizes
    assert np.concatenate(parts).tolist() == list(range(N))
    assert all(np.shares_memory(part, tokens) for part in parts if len(part))


def test_no_split_of_any_size_loses_or_repeats_a_token():
    rng = np.random.default_rng(5)
    for N in range(60):
        val, test = rng.random(2) * 0.499999
        assert np.concatenate(split(np.arange(N), val, test)).tolist() == list(range(N))


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 5, float("nan"), float("inf"), "0.1", None])
def test_nonsense_fractions_are_refused(fraction):
    said = f"is {fraction!r}; it must be at least 0 and below 1"
    assert message(split, range(9), fraction) == f"val_fraction {said} (--val-fraction)"
    assert message(split, range(9), 0.1, fraction) == f"test_fraction {said} (--test-fraction)"


def test_fractions_that_leave_nothing_to_train_on_are_refused():
    assert message(split, range(9), 0.5, 0.5) == (
        "val_fraction 0.5 and test_fraction 0.5 leave nothing to train on; their sum must be below 1"
    )


def test_standard_input_is_no_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_text("text")
    (named,) = sources(["./-"])
    assert (str(named), [str(path) for path in sources(["-"])]) == (str(tmp_path / "-"), ["-"])
    check_apart({"train": ["-"], "val": [named]})
    check_apart({"train": ["./-"], "val": ["-"]})
    for paths in ({"train": ["-"], "val": ["-"]}, {"train": ["-", "-"]}):
        last = "validate" if "val" in paths else "train"
        assert message(check_apart, paths) == f"- is given to train on and again to {last} on; give each file once"
