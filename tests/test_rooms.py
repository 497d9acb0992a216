"""The rules of docs/architecture.md that a program can check."""

import ast
from pathlib import Path

import pytest

import unrolled

SOURCE = Path(unrolled.__file__).parent
# A room imports only rooms that stand before it.
ROOMS = [
    "errors",
    "cells",
    "scan",
    "backends",
    "layers",
    "recurrent",
    "losses",
    "network",
    "optim",
    "batches",
    "text",
    "checkpoint",
    "sample",
    "score",
    "inspect",
    "train",
    "language_model",
    "interop",
    "gradcheck",
    "bench",
    "ladder",
    "cli",
]
FILES_ARE_TOUCHED_BY = {"text", "checkpoint", "interop", "train", "language_model", "backends", "ladder", "cli"}
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.parent != SOURCE or p.name not in ("__init__.py", "__main__.py"))


def room(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms that a file imports, at the top or in a function."""
    depth = len(path.relative_to(SOURCE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unrolled"):
            yield "absolute import"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_room_imports_only_rooms_above_it(path):
    for name in imported_rooms(path):
        if name == "__version__":
            continue
        assert name in ROOMS, f"{name} has no place in the list"
        assert ROOMS.index(name) <= ROOMS.index(room(path)), f"{room(path)} imports {name}"
        assert room(path) != "cells" or name == "cells", "cells import nothing of ours"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "cells"], ids=lambda p: p.name)
def test_cells_hold_no_product_and_no_time_loop(path):
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult))
        assert not isinstance(node, ast.For | ast.While)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_and_optional_packages_are_imported_only_inside_functions(path):
    for node in ast.parse(path.read_text()).body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not {n.split(".")[0] for n in names} & {"torch", "onnx", "onnxruntime", "matplotlib", "pickle"}


@pytest.mark.parametrize(
    "path", [p for p in FILES if room(p) not in FILES_ARE_TOUCHED_BY], ids=lambda p: str(p.relative_to(SOURCE))
)
def test_files_are_touched_only_where_they_belong(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert name not in {"open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir"}
