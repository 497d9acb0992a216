"""Files of taggers that this version or an earlier one wrote are read, and give the tags and loss that they gave."""

import json
import sys
from pathlib import Path

import pytest

import unrolled as ur

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
from make_taggers import CASES, TAGGERS, VOCABULARY, numbers  # noqa: E402

SAID = json.loads((GOLDEN / "taggers.json").read_text())


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("name", CASES)
def test_a_tagger_s_file_loads_and_gives_its_numbers(name, backend, tmp_path):
    path = TAGGERS / f"{name.replace(' ', '-')}.safetensors"
    tagger = ur.load(path, backend=backend)
    got, said = numbers(tagger), SAID[name]
    assert got["tags"] == said["tags"]
    assert got["nats"] == pytest.approx(said["nats"], rel=5e-6)  # float32, in whatever order an instruction set adds
    characters, crf, options = CASES[name]
    assert (tagger.vocabulary, tagger.characters, tagger.crf) == (VOCABULARY, characters, crf)
    assert (tagger.tags, tagger.column, tagger.columns) == (("B-A", "I-A", "O"), "ner", 4)
    assert {option: getattr(tagger.spec, option) for option in options} == options
    tagger.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_no_file_is_without_numbers():
    assert {path.stem for path in TAGGERS.iterdir()} == {name.replace(" ", "-") for name in SAID}
