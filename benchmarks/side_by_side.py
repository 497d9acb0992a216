"""What the benchmarks share: timing two sides fairly, and writing what was found."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def alternate(
    sides: dict[str, Callable[[], Any]], seconds: float = 1.0, blocks: int = 7, pause: float = 0.02
) -> dict[str, list[float]]:
    """Seconds a call of each side, one number a block.

    Blocks alternate, with a pause between: a framework's threads keep spinning for a while after a call, and would slow
    the other side down. Each side's share of `seconds` is the same, whatever a call takes.
    """
    calls, times = {}, {name: [] for name in sides}
    for name, run in sides.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, round(seconds / blocks / len(sides) / (time.perf_counter() - start)))
    for _ in range(blocks):
        for name, run in sides.items():
            time.sleep(pause)
            run()
            start = time.perf_counter()
            for _ in range(calls[name]):
                run()
            times[name].append((time.perf_counter() - start) / calls[name])
    return times


def summary(times: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the quartiles as a share of it."""
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return median, (high - low) / 2 / median


def sgemm_flops(size: int = 1024, seconds: float = 0.3) -> float:
    """Floating-point operations a second of NumPy's own float32 product, the best of several."""
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def geometric_mean(values: list[float]) -> float:
    """The n-th root of the product."""
    return float(np.exp(np.mean(np.log(values))))


def relative_error(got: Any, want: Any) -> float:
    """Largest difference, as a share of the largest number wanted."""
    want = np.asarray(want)
    return float(np.abs(np.asarray(got) - want).max() / max(np.abs(want).max(), 1e-30))


def machine() -> dict[str, str]:
    """Processor, versions and commit, for the head of a table."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        name = f"{len(names)} x {names[0]}" if names else name
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": name,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "commit": commit.stdout.strip(),
    }


def write(path: Path, results: dict[str, Any], table: str) -> None:
    """Write the numbers as JSON and the table beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
