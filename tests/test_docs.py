"""What the documents say is what the program does."""

import ast
import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

import unrolled
from unrolled.cli import cli

ROOT = Path(__file__).parent.parent


def test_the_help_pages_in_the_docs_are_the_commands():
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "cli.md").read_text() == module.text(), "run `make docs`"


def test_the_page_of_options_has_every_one_with_its_flag_and_its_example_runs():
    page = (ROOT / "docs" / "options.md").read_text()
    rows = dict(re.findall(r"^\| (`.*?) \| (.*?) \|", page, re.M))
    names = {name for row in rows for name in ticked(row)}
    given = {flag.split()[0] for row in rows.values() for flag in ticked(row)}
    without = {"bidirectional", "lengths", "bias"}  # nothing for language models, but for `bias`, which has no flag
    assert names - without == {f.name for f in fields(unrolled.Spec)} - {"vocabulary_size", "cell", "dtype", "bias"}
    assert without < names
    assert given == {"--" + name.replace("_", "-") for name in names - without}
    assert given <= {flag for option in cli.commands["train"].params for flag in option.opts}
    exec("".join(re.findall(r"```python\n(.*?)```", page, re.S)), {})


def ticked(text):
    return re.findall(r"`(.*?)`", text)


def test_the_changelog_knows_this_version():
    assert f"## {unrolled.__version__}" in (ROOT / "CHANGELOG.md").read_text()


PAGES = sorted(p.relative_to(ROOT) for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_python_examples_of_the_readme_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("It is a truth universally acknowledged, that a man must want a wife. " * 99)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert len(blocks) >= 2
    names: dict = {}
    for block in blocks:
        exec(block, names)


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
    linked = set(re.findall(r"\]\((docs/[\w./]+)", text))
    pages = {str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")} | {"docs/ladder/README.md", "docs/maths"}
    assert pages <= linked
