"""Run the notebooks in docs/notebooks from the top to the bottom, and store what they show.

python docs/make_notebook.py [ladder] [pride]     needs the extra `notebook`; under two minutes

The one of *Pride and Prejudice* is stored with the novel, which `unrolled fetch pride` puts where it looks for it.
"""

import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"


def run(name: str, folder: Path) -> Any:
    """Return a notebook as it comes out of a run in a folder."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    there = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=there, record_timing=False).execute()
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        nbformat.write(run(name, FOLDER), FOLDER / f"{name}.ipynb")
