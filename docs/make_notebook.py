"""Run docs/notebooks/ladder.ipynb from the top to the bottom, and store what it shows.

python docs/make_notebook.py     needs the extra `notebook`; under a minute
"""

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

PATH = Path(__file__).parent / "notebooks" / "ladder.ipynb"


def run(folder: Path) -> Any:
    """Return the notebook as it comes out of a run in a folder."""
    notebook = nbformat.read(PATH, as_version=4)
    there = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=there, record_timing=False).execute()
    return notebook


if __name__ == "__main__":
    nbformat.write(run(PATH.parent), PATH)
