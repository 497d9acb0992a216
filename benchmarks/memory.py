"""Train on a file of 2 GB, and measure the anonymous memory and the time a token.

    python benchmarks/memory.py [--gigabytes 2]

Prints the largest RssAnon of the process that trained (Linux), and its speed beside that on a file a hundred times
smaller: neither may grow with the file.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from unrolled.run import metrics

OPTIONS = ["--level", "byte", "--val-fraction", "1e-4", "--eval-every", "100", "--sample-length", "0"]
OPTIONS += ["--hidden-size", "64", "--num-layers", "1"]
STEPS = 600


def write(path: Path, size: int) -> None:
    """Fill a file with the words of a made-up language."""
    rng = np.random.default_rng(1)
    words = [bytes(rng.integers(97, 123, n).astype(np.uint8)) + b" " for n in rng.integers(2, 9, 500)]
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(b"".join(words[k] for k in rng.zipf(1.3, 200_000) % 500))
        file.truncate(size)


def train(path: Path, out: Path) -> tuple[float, float]:
    """Train for `STEPS` steps -> largest RssAnon in MB, symbols a second."""
    epochs = STEPS * 2500 / path.stat().st_size
    command = [sys.executable, "-m", "unrolled", "train", str(path), "--epochs", str(epochs), "--out", str(out)]
    process = subprocess.Popen([*command, *OPTIONS], stdout=subprocess.DEVNULL)
    largest = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            largest = max(largest, int(found[1]))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.returncode)
    return largest / 1024, metrics(out)[-1]["symbols_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    size = int(parser.parse_args().gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=os.environ.get("UNROLLED_DATA")) as folder:
        for name, bytes_ in (("small", max(size // 100, 70 << 20)), ("large", size)):
            path = Path(folder, name)
            write(path, bytes_)
            memory, speed = train(path, Path(folder, f"run-{name}"))
            print(f"{bytes_ / 1e9:.2f} GB: largest RssAnon {memory:,.0f} MB, {speed:,.0f} bytes/s")


if __name__ == "__main__":
    main()
