"""The scripts in benchmarks/ use the names of `unrolled.bench` that there are."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from unrolled import bench

SCRIPTS = sorted(Path(__file__).parents[1].glob("benchmarks/*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_uses_names_that_bench_has(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bench"
    }
    used |= {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "unrolled.bench"
        for name in node.names
    }
    assert {name for name in used if not hasattr(bench, name)} == set()


def test_a_script_refuses_a_wrong_path_in_one_line(tmp_path: Path) -> None:
    (script,) = (path for path in SCRIPTS if path.stem == "automatic")
    done = subprocess.run(
        [sys.executable, script, tmp_path / "none", "--out", tmp_path / "none.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"automatic.py: {tmp_path / 'none/pride/1342-0.txt'}: no such file; check the path\n"
