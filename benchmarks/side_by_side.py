"""What the benchmark scripts share: their options, and writing what was found."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from unrolled import bench
from unrolled.backends import cpu


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
    return bench.machine() | more | {"instruction_set": cpu.instruction_set(), "commit": commit.stdout.strip()}


def write(path: Path, command: str, head: dict[str, str], rows: list[dict[str, Any]], lines: list[str]) -> None:
    """Write the numbers as JSON and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"command": command, "machine": head, "rows": rows}
    path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    table = text + "\n" + "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


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
