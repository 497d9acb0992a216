"""The pages of the ladder: their examples run, and every line of code that they lay side by side is the rung's own."""

import doctest
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/ladder"
PAGES = sorted(FOLDER.glob("*.md"))


def tables(text):
    """Yield the cells of each table of a page: rows of lists, the head first."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, _, *rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in block.splitlines()]
        yield [head, *rows]


def quoted(page):
    """Yield (file, code) of every table's column whose head is a link to a source file."""
    for head, *rows in tables(page.read_text(encoding="utf-8")):
        for n, title in enumerate(head):
            link = re.fullmatch(r"\[`[^`]*`\]\((.*\.py)\)", title)
            for row in rows if link else ():
                yield from ((page.parent / link[1], code) for code in re.findall("`([^`]+)`", row[n]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_run(page):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```", text, re.S | re.M)
    assert text.count(">>>") == sum(block.count(">>>") for block in blocks)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(test).failed == 0


@pytest.mark.parametrize("page", [page for page in PAGES if page.name[0].isdigit()], ids=lambda page: page.name)
def test_the_lines_side_by_side_are_those_of_the_code(page):
    found = list(quoted(page))
    assert len(found) > 8
    for file, code in found:
        assert code in file.read_text(encoding="utf-8"), f"{file.name} has no line with {code}"


def test_the_lines_of_the_gates_and_of_the_overview_are_those_of_the_code():
    found = list(quoted(FOLDER / "gates.md"))
    assert len(found) == 6
    assert all(code in file.read_text(encoding="utf-8") for file, code in found)
    files = ["ladder/plain.py", "ladder/layers.py", "ladder/solver.py", "cells/lstm.py"]
    (*_, steps) = tables((FOLDER / "README.md").read_text(encoding="utf-8"))
    for row, file in zip(steps[1:], files, strict=True):
        source = (FOLDER.parents[1] / "src/unrolled" / file).read_text(encoding="utf-8")
        assert all(code in source for cell in row[1:] for code in re.findall("`([^`]+)`", cell))


def test_links_into_other_pages_find_their_heading():
    for page in PAGES:
        for target, heading in re.findall(r"\]\(([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8")):
            lines = (page.parent / target).read_text(encoding="utf-8").splitlines()
            heads = [
                re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in lines if "#" in line
            ]
            assert heading in heads, f"{page.name}: {target}#{heading}"
