"""Measure the memory of training: of a run beside its parameters, and on a file of 2 GB.

    python benchmarks/memory.py --run [--hidden-size 1024 --num-layers 2]
    python benchmarks/memory.py [--gigabytes 2] [--level byte char word bpe]

With `--run`: the peak of the resident memory (Linux), over what the process had before, as a multiple of the
parameters' own: while a run trains with Adam, validates, draws lines and saves; while it goes on in a new process; and
while one without a folder trains. By default networks of several shapes, and the table goes to `--out`.

Without: trains on a file of 2 GB, and prints the largest RssAnon of the process that trained, and its speed, beside
those on a file a hundred times smaller (but of 70 MB, so that it counts as large): neither may grow with the file. Then
the time from the command to the first step, where the tokens had to be made, and where they were there from the run
before.
"""

import argparse
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, report, script

import unrolled as ur
from unrolled.training.metrics_log import metrics

OPTIONS = ["--val-fraction", "1e-4", "--eval-every", "100", "--sample-length", "0", "--overwrite"]
OPTIONS += ["--hidden-size", "64", "--num-layers", "1"]
STEPS = 600
SYMBOL = {"byte": 1, "char": 1, "word": 6, "bpe": 5}
"""Bytes of a symbol, about."""


def write(path: Path, size: int) -> None:
    """Fill a file with the words of a made-up language."""
    rng = np.random.default_rng(1)
    words = [bytes(rng.integers(97, 123, n).astype(np.uint8)) + b" " for n in rng.integers(2, 9, 500)]
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(b"".join(words[k] for k in rng.zipf(1.3, 200_000) % 500))
        file.truncate(size)


def train(path: Path, level: str, out: Path) -> tuple[float, float, float]:
    """Train for about `STEPS` steps -> largest RssAnon in MB, symbols a second, seconds to the first step."""
    epochs = STEPS * 2500 * SYMBOL[level] / path.stat().st_size
    command = [sys.executable, "-m", "unrolled", "train", str(path), "--epochs", str(epochs), "--out", str(out)]
    begun, began, environment = 0.0, time.perf_counter(), os.environ | {"UNROLLED_CACHE": str(path.parent / "kept")}
    process = subprocess.Popen([*command, "--level", level, *OPTIONS], stdout=subprocess.DEVNULL, env=environment)
    largest = 0
    while process.poll() is None:
        if not begun and (out / "metrics.jsonl").exists():
            begun = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        if found := re.search(r"RssAnon:\s+(\d+) kB", status):
            largest = max(largest, int(found[1]))
        time.sleep(0.02)
    if process.returncode:
        sys.exit(process.returncode)
    return largest / 1024, metrics(out)[-1]["symbols_per_second"], begun


RUN = {"level": "byte", "batch_size": 2, "seq_length": 8, "val_fraction": 0.02, "eval_every": 3, "checkpoint_every": 4}


def status(key: str) -> int:
    """Memory of this process in kB, as the system counts it."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


SHAPES = [(1024, 2), (1536, 1), (640, 4)]
"""Hidden units and layers of the networks of `--run`."""


def peak(folder: Path | None, options: dict[str, Any], found: Any) -> None:
    """Train or go on, and tell the peak over the memory before, in multiples of the parameters' own."""
    text = np.random.default_rng(1).integers(97, 123, 4000).astype(np.uint8).tobytes()
    ur.LanguageModel.train(text, **RUN | {"hidden_size": 8, "epochs": 0.01})  # all is imported, the threads are there
    before = status("VmRSS")
    if folder is not None and folder.exists():
        model = ur.LanguageModel.resume(folder, text, epochs=0.08)
    else:
        model = ur.LanguageModel.train(text, out=folder, epochs=0.05, **RUN | options)
    size, more = 4 * model.network.parameter_count, 1024 * (status("VmHWM") - before)
    found.put((size, more / size))


def runs(shapes: list[tuple[int, int]], out: Path | None) -> None:
    """Print what runs of networks of these shapes take, and write it to a file if there is one."""
    head = "| layers x units | parameters, MB | trains | goes on | trains without a folder |"
    rows, lines = [], ["", head, "|---|---|---|---|---|"]
    for hidden, layers in shapes:
        peaks, size = [], 0
        with tempfile.TemporaryDirectory(dir=os.environ.get("UNROLLED_DATA")) as folder:
            for where in (Path(folder, "run"), Path(folder, "run"), None):  # each in a process of its own
                context = multiprocessing.get_context("spawn")
                found = context.SimpleQueue()
                arguments = (where, {"hidden_size": hidden, "num_layers": layers}, found)
                child = context.Process(target=peak, args=arguments)
                child.start()
                child.join()
                if child.exitcode:
                    sys.exit(child.exitcode)
                size, times = found.get()
                peaks.append(times)
        rows.append({"hidden_size": hidden, "num_layers": layers, "bytes": size, "times": peaks})
        lines.append(f"| {layers} x {hidden:,} | {size / 1e6:.1f} | " + " | ".join(f"{p:.2f}" for p in peaks) + " |")
        print(lines[-1], flush=True)
    if out is not None:
        report(out, "python benchmarks/memory.py --run", machine(), rows, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--hidden-size", type=int)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--level", nargs="+", default=["byte", "char", "word", "bpe"])
    arguments = parser.parse_args()
    if arguments.run:
        if arguments.hidden_size:
            runs([(arguments.hidden_size, arguments.num_layers)], None)
        else:
            runs(SHAPES, arguments.out)
        return
    size = int(arguments.gigabytes * 1e9)
    with tempfile.TemporaryDirectory(dir=os.environ.get("UNROLLED_DATA")) as folder:
        for name, bytes_ in (("small", max(size // 100, 70 << 20)), ("large", size)):
            path = Path(folder, name)
            write(path, bytes_)
            for level in arguments.level:
                memory, speed, first = train(path, level, Path(folder, f"run-{name}-{level}"))
                again = train(path, level, Path(folder, f"again-{name}-{level}"))[2]
                print(
                    f"{level}, {bytes_ / 1e9:.2f} GB: largest RssAnon {memory:,.0f} MB, {speed:,.0f} symbols/s, "
                    f"begun after {first:.0f} s, the next time after {again:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    script(main)
