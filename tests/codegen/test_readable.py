"""The derived backward as text: the example of the page on it, and names in every place."""

import re
from pathlib import Path

from unrolled.cells import CELLS
from unrolled.codegen.readable import readable

PAGE = Path(__file__).parents[2] / "docs" / "maths" / "derived.md"


def test_the_page_shows_what_is_printed() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert readable(CELLS["lstm_peephole"]) in blocks
