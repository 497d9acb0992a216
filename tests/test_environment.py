"""The page of environment variables names those that the source reads, and no others."""

import ast
import re
from pathlib import Path

import unrolled

SOURCE = Path(unrolled.__file__).parent
PAGE = Path(__file__).parent.parent / "docs" / "environment.md"


def variables(text):
    """Yield the names in statements, or conditions of them, that look into the environment, or `user_folder` does."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.stmt) and (hasattr(node, "test") or not hasattr(node, "body")):
            found = list(ast.walk(getattr(node, "test", node)))
            looks = ((n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "")) for n in found)
            if {"environ", "getenv", "user_folder"} & set(looks):
                said = [n.value for n in found if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                yield from (value for value in said if re.fullmatch("[A-Z][A-Z_]+", value))


def test_a_variable_is_found_wherever_it_is_read():
    text = (
        "if os.environ.get('A_B'):\n    x = 'NO'\ny = [os.environ[n] for n in ('CD', 'EF')]\nz = os.getenv('GH', 'I J')"
    )
    assert sorted(variables(text)) == ["A_B", "CD", "EF", "GH"]


def test_the_page_names_every_variable_that_is_read():
    read = {name for path in SOURCE.rglob("*.py") for name in variables(path.read_text(encoding="utf-8"))}
    assert not re.search("getenv", "".join(p.read_text(encoding="utf-8") for p in SOURCE.rglob("csrc/*.h")))
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.M))
    assert rows == read
