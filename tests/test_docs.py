"""What the documents say is what the program does."""

import ast
import importlib.util
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

import unrolled
from unrolled.cli import cli
from unrolled.declared import options
from unrolled.models.options import Options

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("page", ["cli", "options"])
def test_a_page_that_is_written_from_the_program_is_fresh(page):
    spec = importlib.util.spec_from_file_location(f"make_{page}", ROOT / "docs" / f"make_{page}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / f"{page}.md").read_text() == module.text(), "run `make docs`"


def test_the_page_of_options_has_every_one_and_its_example_runs():
    page = (ROOT / "docs" / "options.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.M))
    assert list(options(Options)) == [f.name for f in fields(Options)]
    assert rows.keys() == set(options(Options))
    flags = {flag for param in cli.commands["train"].params for flag in (*param.opts, *param.secondary_opts)}
    assert {flag for row in rows.values() for flag in ticked(row)} <= flags
    exec("".join(re.findall(r"```python\n(.*?)```", page, re.S)), {})


def ticked(text):
    return re.findall(r"`(.*?)`", text)


def test_the_changelog_knows_this_version():
    assert f"## {unrolled.__version__}" in (ROOT / "CHANGELOG.md").read_text()


PAGES = sorted(p.relative_to(ROOT) for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_between_pages_lead_somewhere(page):
    for target, place in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", (ROOT / page).read_text()):
        there = (ROOT / page).parent / target if target else ROOT / page
        assert there.exists(), target
        assert not place or place in anchors(there), f"{target}#{place}"


def anchors(page):
    """Of the headings of a page, as they are made on the web: small letters, hyphens for blanks, no other signs."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_python_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("It is a truth universally acknowledged, that a man must want a wife. " * 99)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 2
    names: dict = {}
    for block in blocks:
        exec(block, names)


RUN_BY_COMMANDS = {"forecast.md", "your-own-cell.md"}
"""Guides that make the files which their commands are about, so that these run too."""
GUIDES = sorted(p.name for p in (ROOT / "docs" / "guides").glob("*.md"))


@pytest.mark.parametrize("page", GUIDES)
def test_python_examples_of_a_guide_run(page, tmp_path, monkeypatch):
    if page == "scikit-learn.md":
        pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is not installed, or an older one")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    names: dict = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", (ROOT / "docs" / "guides" / page).read_text(), re.S):
        if file := re.match(r"# (\w+\.py)\n", block):  # is written down, and imported by what comes later
            Path(file[1]).write_text(block)
        elif language == "python":
            exec(block, names)
        elif page in RUN_BY_COMMANDS:
            for line in block.splitlines():
                if "plot" in line:
                    pytest.importorskip("matplotlib")
                assert cli.main(shlex.split(line, comments=True)[1:], standalone_mode=False) in (None, 0), line


def test_the_table_of_rooms_has_every_room_of_the_source_in_the_order_of_imports():
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"^\| room \|.*\n\|.*\n((?:\|.*\n)+)", page, re.M)[1]
    rooms = [name.strip("/") for row in table.splitlines() for name in ticked(row.split("|")[1])]
    source = Path(unrolled.__file__).parent
    there = {p.stem for p in source.glob("*.py")} | {p.parent.name for p in source.glob("*/__init__.py")}
    assert set(rooms) == there - {"__init__", "__main__"}
    rules = ast.parse((ROOT / "tests" / "test_rooms.py").read_text())
    (order,) = (ast.literal_eval(n.value) for n in rules.body if ast.unparse(n).startswith("ROOMS = "))
    assert rooms == [name for name in order if name in there]


def test_the_map_of_the_readme_leads_to_what_is_there_and_names_every_page():
    text = (ROOT / "README.md").read_text()
    linked = set(re.findall(r"\]\((docs/[\w./-]+)", text))
    pages = {str(p.relative_to(ROOT)) for where in ("docs", "docs/guides") for p in (ROOT / where).glob("*.md")} | {
        "docs/ladder/README.md",
        "docs/maths",
    }
    assert pages <= linked
