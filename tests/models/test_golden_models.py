"""Files that were written by this version or an earlier one are read, and give the numbers that they gave."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_models import MODELS, OPTIONS, RUN, TEXT, cases, history, numbers  # noqa: E402

SAID = json.loads((GOLDEN / "models.json").read_text())


def file_of(name):
    return MODELS / f"{name.replace(' ', '-')}.safetensors"


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", SAID["models"])
def test_a_model_file_loads_and_gives_its_numbers(name, backend):
    got, said = numbers(ur.load(file_of(name), backend=backend)), SAID["models"][name]
    # 40 steps of float32, in whatever order an instruction set adds: 40 roundings of 6e-8, and as much again
    assert got["nats"] == pytest.approx(said["nats"], rel=5e-6)
    assert got["drawn"] == said["drawn"]


@pytest.mark.parametrize(("name", "vocabulary", "options"), list(cases()))
def test_every_level_cell_and_option_has_a_file_that_says_so(name, vocabulary, options):
    model = ur.load(file_of(name))
    assert model.vocabulary == vocabulary
    given = {"embedding_size": 3, "hidden_size": 4} | options
    assert model.network.spec == ur.Spec(len(vocabulary), **given)


def test_no_file_is_without_numbers_and_no_cell_or_option_without_a_file():
    assert {file_of(name) for name in SAID["models"]} == set(MODELS.iterdir())
    assert {f"cell {cell}" for cell in CELLS} <= SAID["models"].keys()
    told = {name for options in OPTIONS.values() for name in options} | {"cell", "vocabulary_size", "num_layers"}
    assert told == set(ur.Spec(5).to_json())


@pytest.mark.parametrize("backend", ["reference", None])
def test_a_run_s_folder_goes_on_and_gives_its_numbers(tmp_path, backend):
    shutil.copytree(RUN, tmp_path / "run")
    model = ur.LanguageModel.resume(tmp_path / "run", TEXT, epochs=4, backend=backend)
    # some hundred updates in float32, each of which rounds otherwise elsewhere: measured 1e-6 between backends
    np.testing.assert_allclose(np.array(history(model)), np.array(SAID["run"]), rtol=2e-4)
    assert ur.load(tmp_path / "run").vocabulary == model.vocabulary
