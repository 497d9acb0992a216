"""The rules of docs/architecture.md that a program can check; and that this program checks them."""

import ast
from pathlib import Path

import pytest

import unrolled

SOURCE = Path(unrolled.__file__).parent
# A room imports only rooms that stand before it; rooms yet to be built have their place already.
ROOMS = [
    "errors",
    "cells",
    "rules",
    "codegen",
    "checks",
    "keywords",
    "declared",
    "expressions",
    "drawing",
    "schema",
    "storage",
    "pictures",
    "seeding",
    "reference",
    "backends",
    "nn",
    "data",
    "training",
    "inspect",
    "models",
    "tuning",
    "interop",
    "sklearn",
    "gradcheck",
    "bench",
    "ladder",
    "cli",
]
TOUCH_FILES = {
    "training/run_folder",
    "training/metrics_log",
    "models/language_model",
    "data",
    "storage",
    "codegen/cpp",
    "interop",
    "sklearn",
    "cli",
    "backends",
    "bench",
}  # backends: the number of processors a container may use; codegen: the emitted kernels; bench: the processor's name;
# sklearn: pickles hold a model's file
LOOP_OVER_TIME = {"reference", "backends", "ladder", "gradcheck"}  # gradcheck: T steps equal one call
OPTIONAL = {"torch", "onnx", "onnxruntime", "matplotlib", "pickle", "tokenizers", "tensorboardX", "sklearn", "pandas"}
IO = {"open", "fdopen", "mkstemp", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "memmap"}
PRODUCTS = {"dot", "matmul", "einsum", "inner", "outer", "tensordot", "vdot"}

FILES = {
    str(p.relative_to(SOURCE).with_suffix("")): p.read_text()
    for p in sorted(SOURCE.rglob("*.py"))
    if p.parent != SOURCE or p.name not in ("__init__.py", "__main__.py")
}


def called(node):
    """Name of the function that a call calls, or an empty string."""
    return getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""


def imports(path, tree):
    """Yield (name of a room of ours or of a package, whether it is ours), wherever the import stands."""
    depth = path.count("/") + 1
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0], False
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from ((name, True) for name in names)


def broken(path, text):
    """Rules that the file at `path` (as "cells/lstm") breaks."""
    tree, room = ast.parse(text), path.split("/")[0]
    if room not in ROOMS:
        yield f"{room} has no place in the list"
        return
    for name, ours in imports(path, tree):
        if name == "unrolled":
            yield "imports its own package by an absolute name"
        elif ours and name not in ("__version__", *ROOMS):
            yield f"imports {name}, which has no place in the list"
        elif ours and name != "__version__" and ROOMS.index(name) > ROOMS.index(room):
            yield f"imports {name}, a room below it"
    if room not in ("interop", "sklearn"):  # which are for those who have them
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for name, ours in imports(path, ast.Module(top, [])):
            if not ours and name in OPTIONAL:
                yield f"imports {name} at its top"
    for node in ast.walk(tree):
        if room == "cells":
            if (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)) or called(node) in PRODUCTS:
                yield f"line {node.lineno}: a product"
            if isinstance(node, ast.For | ast.While) and path not in ("cells/contract", "cells/fingerprint"):
                yield f"line {node.lineno}: a loop"
        if called(node) in IO and not {room, path} & TOUCH_FILES:
            yield f"line {node.lineno}: {called(node)} touches files"
        if isinstance(node, ast.For) and getattr(node.target, "id", "") == "t" and room not in LOOP_OVER_TIME:
            yield f"line {node.lineno}: a loop over time"
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith(("np.random.seed", "np.random.rand")):
            yield f"line {node.lineno}: hidden randomness"
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
            yield f"line {node.lineno}: a failure is swallowed"


@pytest.mark.parametrize("path", FILES)
def test_a_file_keeps_the_rules(path):
    assert list(broken(path, FILES[path])) == []


def test_there_are_files_to_check():
    assert {"errors", "cells/lstm", "reference/scan", "nn/recurrent", "gradcheck/laws", "cli/__init__"} <= FILES.keys()


PLANTED = {
    "imports nn, a room below it": ("reference/scan", "from ..nn.recurrent import LSTM"),
    "imports training, a room below it": ("backends/cpu/kernels", "def f():\n    from ... import training"),
    "imports reference, a room below it": ("cells/lstm", "from ..reference.scan import Tape"),
    "imports checks, a room below it": ("cells/lstm", "from ..checks import check_size"),
    "imports its own package by an absolute name": ("bench", "import unrolled.data"),
    "imports helpers, which has no place in the list": ("bench", "from .helpers import f"),
    "helpers has no place in the list": ("helpers", ""),
    "imports torch at its top": ("bench", "import torch.nn"),
    "imports pickle at its top": ("storage", "from pickle import load"),
    "line 2: a product": ("cells/lstm", "def f(a, b):\n    return a @ b"),
    "line 1: a product": ("cells/gru", "c = np.dot(a, b)"),
    "line 1: a loop": ("cells/rnn", "while True:\n    x = 1"),
    "line 1: open touches files": ("nn/network", "open('x')"),
    "line 1: write_text touches files": ("gradcheck/laws", "path.write_text('x')"),
    "line 1: a loop over time": ("nn/recurrent", "for t in range(T):\n    x = 1"),
    "line 1: hidden randomness": ("reference/layers", "np.random.seed(3)"),
    "line 3: a failure is swallowed": ("reference/layers", "try:\n    f()\nexcept ValueError:\n    pass"),
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_planted_breach_is_found(rule):
    assert list(broken(*PLANTED[rule])) == [rule]


def test_what_is_allowed_is_not_reported():
    assert list(broken("interop/torch", "def f():\n    import torch")) == []
    assert (
        list(
            broken(
                "backends/__init__", "from .cpu import kernels\nfrom ..reference import scan\nfrom ..errors import f"
            )
        )
        == []
    )
    assert list(broken("cells/lstm", "from .cell import Back\nx = [f(n) for n in (0, 1)]")) == []
    assert list(broken("reference/scan", "for t in range(3):\n    y = a @ b")) == []
