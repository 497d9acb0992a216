"""The notebook runs from the top to the bottom, and what is stored in it is what a run shows."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import unrolled as ur

DOCS = Path(__file__).parents[2] / "docs"
NOTEBOOK = json.loads((DOCS / "notebooks/ladder.ipynb").read_text(encoding="utf-8"))
HOW = "pip install 'unrolled[notebook]'"


def code(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def shown(cell, *, counts=True):
    """Return the lines that a cell prints, without what differs between machines: decimals, and the engine's line.

    Without `counts` all numbers are left out: another Python has another library to read.
    """
    text = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    text = re.sub(r"\d+\.\d+(e[+-]\d+)?|\d+e[+-]\d+" if counts else r"[\d.,]+(e[+-]\d+)?", "#", text)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return [line for line in lines if "cpu" in ur.backends.BACKENDS or not line.startswith("rung 3, cpu")]


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell["outputs"])


def test_what_is_stored_was_made_from_the_top_to_the_bottom():
    cells = code(NOTEBOOK)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert sum(map(pictures, cells)) == 2


def test_its_models_visibly_learn():
    """Of words and of characters, with nothing but what Python itself brings."""
    text = "".join("".join(output.get("text", "")) for cell in code(NOTEBOOK) for output in cell["outputs"])
    first, last = map(float, re.search(r"sentences; ([\d.]+) nats a word, then ([\d.]+)", text).groups())
    assert last < 1 < 4 < first  # guessing is ln 86 = 4.5
    losses = [float(loss) for loss in re.findall(r"updates +loss ([\d.]+) nats a symbol", text)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 2 < 4.5  # guessing is ln 96 = 4.6


def test_a_page_says_how_it_is_opened():
    page = (DOCS / "ladder/README.md").read_text(encoding="utf-8")
    assert "jupyter lab docs/notebooks/ladder.ipynb" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_what_is_stored_is_what_a_run_shows(tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason=f"the extra `notebook` is not installed: {HOW}")
    pytest.importorskip("ipykernel", reason=f"the extra `notebook` is not installed: {HOW}")
    for folder in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(folder, str(tmp_path))
    spec = importlib.util.spec_from_file_location("make_notebook", DOCS / "make_notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    same = NOTEBOOK["metadata"]["language_info"]["version"].rsplit(".", 1)[0] == "{}.{}".format(*sys.version_info)
    for stored, ran in zip(code(NOTEBOOK), code(module.run("ladder", tmp_path)), strict=True):
        assert pictures(stored) == pictures(ran)
        if "drawn" in stored["metadata"].get("tags", ()):  # some hundred updates make roundings visible
            assert "".join(shown(ran))
        else:
            assert shown(stored, counts=same) == shown(ran, counts=same), "run `make notebook`"
