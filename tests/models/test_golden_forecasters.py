"""Forecasters that were written by this version or an earlier one are read, and forecast what they forecast."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_forecasters import CASES, FORECASTERS, file_of, numbers  # noqa: E402

SAID = json.loads((GOLDEN / "forecasters.json").read_text())


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", SAID)
def test_a_forecaster_s_file_loads_and_gives_its_numbers(name, backend):
    model = ur.load(file_of(name), backend=backend)
    # 8 steps of float32, in whatever order an instruction set adds
    np.testing.assert_allclose(np.array(numbers(model)), np.array(SAID[name]), rtol=1e-5, atol=1e-5)


def test_no_file_is_without_numbers():
    assert {file_of(name) for name in SAID} == set(FORECASTERS.iterdir()) == {file_of(name) for name in CASES}
