"""Write the tables of docs/options.md from the declarations of the options."""

import re
from collections.abc import Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

from unrolled.declared import about, options
from unrolled.models.automatic import CHOSEN
from unrolled.models.options import Options
from unrolled.nn.options import NetworkOptions

PAGE = Path(__file__).with_name("options.md")


def row(name: str, declared: Field[Any]) -> str:
    """Return an option's line of a table."""
    known, chosen = about(declared), CHOSEN["language"].get(name)
    flag = ("--no-" if declared.default is True else "--") + name.replace("_", "-")
    flags = ", ".join(f"`{name}`" for name in (flag, *known.also))
    default = known.unset.replace("--", "") if declared.default is None else f"`{declared.default}`"
    default = (default or "of the rule") + ("" if chosen is None else f"; auto: {chosen}")
    return f"| `{name}` | {flags} | {default} | {known.about or known.help} | {known.source or '-'} |"


def tables() -> Iterator[tuple[str, str]]:
    """Yield every table by its name."""
    network, every = options(NetworkOptions), options(Options)
    parts = {
        "stack": {name: declared for name, declared in network.items() if not about(declared).around},
        "around": {name: declared for name, declared in network.items() if about(declared).around},
        "training": {name: declared for name, declared in every.items() if name not in network},
    }
    for part, declared in parts.items():
        head = "| option | `unrolled train` | default | what it does | source |\n|---|---|---|---|---|\n"
        yield part, head + "".join(row(*one) + "\n" for one in declared.items())


def text() -> str:
    """Return the whole page."""
    page = PAGE.read_text()
    for part, table in tables():
        page = re.sub(f"(<!-- {part} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}\n{table}\n{m[2]}", page, flags=re.S)  # noqa: B023
    return page


if __name__ == "__main__":
    PAGE.write_text(text())
