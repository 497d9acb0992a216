"""What the benchmark scripts share: their options, and writing what was found."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrolled import bench
from unrolled.backends import BACKENDS, instruction_set
from unrolled.bench import alternate, relative_error, summary
from unrolled.errors import UnrolledError

__all__ = [
    "alternate",
    "arguments",
    "machine",
    "merged",
    "ratio_table",
    "relative_error",
    "report",
    "script",
    "summary",
    "write",
]


def script(main: Callable[[], None]) -> None:
    """Run a script: what the package refuses is one line and exit status 2, as with its command."""
    try:
        main()
    except UnrolledError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)


def arguments(description: str, name: str, rows: int) -> argparse.ArgumentParser:
    """The options of every script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rows", default=",".join(map(str, range(rows))))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results") / f"{name}.json")
    return parser


def machine(**more: str) -> dict[str, str]:
    """Processor, versions and commit, for the head of a table."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    engine = BACKENDS["auto"].name
    if engine == "cpu":
        engine = instruction_set()
    return bench.machine() | more | {"engine": engine, "commit": commit.stdout.strip()}


def write(path: Path, results: dict[str, Any], table: str) -> None:
    """Write the numbers as JSON and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


def merged(path: Path, row: dict[str, Any], *keys: str) -> list[dict[str, Any]]:
    """The rows that earlier runs left in a file, with a new one in place of that with the same keys."""
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []
    return [other for other in rows if any(other[key] != row[key] for key in keys)] + [row]


def report(path: Path, command: str, head: dict[str, str], rows: list[dict[str, Any]], lines: list[str]) -> None:
    """Write a script's rows, and its lines under the machine's."""
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    write(path, {"command": command, "machine": head, "rows": rows}, text + "\n" + "\n".join(lines) + "\n")


def ratio_table(title: str, columns: str, found: list[bench.Row]) -> list[str]:
    """The lines of a table beside PyTorch."""
    lines = [f"\n{title}\n", f"| {columns} | unrolled ms | PyTorch ms | ratio | of sgemm |", "|---|---|---|---|---|"]
    for r in found:
        lines.append(
            f"| {', '.join(map(str, r.size))} | {r.seconds * 1e3:.2f} ± {r.spread:.0%} "
            f"| {r.torch_seconds * 1e3:.2f} ± {r.torch_spread:.0%} | {r.ratio:.2f} | {r.share:.0%} |"
        )
    ratios = [r.ratio for r in found]
    lines.append(f"| geometric mean / least | | | {bench.geometric_mean(ratios):.2f} / {min(ratios):.2f} | |")
    return lines
