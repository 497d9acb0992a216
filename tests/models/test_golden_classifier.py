"""Files of classifiers that were written by this version or an earlier one are read, and give their numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_classifier import CASES, COLUMNS, FILES, made, numbers  # noqa: E402


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_a_file_loads_and_gives_its_numbers(name, backend):
    model, said = (
        ur.load(FILES / f"{name}.safetensors", backend=backend),
        json.loads((FILES / "numbers.json").read_text()),
    )
    # a dozen steps of float32, in whatever order an instruction set adds
    np.testing.assert_allclose(numbers(model, name), said[name], rtol=5e-6)
    assert model.codec() == made(name).codec()
    assert model.columns == COLUMNS
    assert model.spec == made(name).spec
