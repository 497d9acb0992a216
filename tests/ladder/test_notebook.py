"""The notebook runs from the top to the bottom, on the novel or on the default corpus, whichever is here."""

from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "docs/notebooks/ladder.ipynb"
HOW = "pip install 'unrolled[notebook]'"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason=f"the extra `notebook` is not installed: {HOW}")
    pytest.importorskip("ipykernel", reason=f"the extra `notebook` is not installed: {HOW}")
    import nbformat

    for folder in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(folder, str(tmp_path))
    notebook = nbformat.read(PATH, as_version=4)
    stored = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    there = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=there).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [kind for cell in cells for output in cell.outputs for kind in output.get("data", {})]
    assert pictures.count("image/png") == 2
    assert all(stored), "the notebook is stored with what it shows"
    assert all(cell.outputs for cell in cells)
