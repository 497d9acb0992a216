"""What the package weighs: time to import it, size on disk, peak memory of a training run; PyTorch beside it.

    python benchmarks/footprint.py [--repeats 9]

Each import runs in a fresh process, in turns; peak memory is the largest resident size of a process that makes 20
training steps of a language model (B 32, T 64, V 96, E 256, H 512, 2 layers), and of one that only imports NumPy.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from side_by_side import machine, script

IMPORTS = {"numpy": "import numpy", "unrolled": "from unrolled import LSTM", "torch": "import torch"}
TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
PEAK = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
RUNS = {
    "numpy": "import numpy",
    "unrolled": """
import numpy as np
from unrolled import bench, backends
backends.set_threads(1)
network = bench.Network(bench.Spec(96, "lstm", 256, 512, 2))
x, y = np.random.default_rng(0).integers(0, 96, (2, 64, 32))
optimizer, state = bench.make_optimizer("adam", network.params), None
for _ in range(20):
    _, grads, state = network.loss_and_gradients(x, y, state)
    bench.clip_by_norm(grads, 1.0)
    optimizer.update(grads, 1e-4)
""",
    "torch": """
import torch
torch.set_num_threads(1)
embedding, recurrent, decoder = torch.nn.Embedding(96, 256), torch.nn.LSTM(256, 512, 2), torch.nn.Linear(512, 96)
params = [*embedding.parameters(), *recurrent.parameters(), *decoder.parameters()]
optimizer, state = torch.optim.Adam(params, 1e-4), None
x, y = torch.randint(0, 96, (2, 64, 32))
for _ in range(20):
    optimizer.zero_grad()
    h, state = recurrent(embedding(x), state)
    loss = torch.nn.functional.cross_entropy(decoder(h).flatten(0, 1), y.flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    state = tuple(s.detach() for s in state)
""",
}


def run(code: str) -> float:
    """The number that a fresh process prints."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def installed_size(name: str) -> float:
    """Megabytes of a distribution's files."""
    files = importlib.metadata.files(name) or []
    return sum(Path(str(f.locate())).stat().st_size for f in files if Path(str(f.locate())).exists()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/footprint.json"))
    args = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    for code in IMPORTS.values():
        run(TIMED.format(code))  # the files are in the system's cache from now on
    for _ in range(args.repeats):
        for name, code in IMPORTS.items():
            times[name].append(run(TIMED.format(code)))
    imports = {name: statistics.median(values) for name, values in times.items()}
    peaks = {name: run(code + PEAK) for name, code in RUNS.items()}
    sizes = {name: installed_size(name) for name in IMPORTS}
    head = machine()
    lines = [
        ", ".join(f"{k} {v}" for k, v in head.items()),
        "",
        "| | import, s | peak memory of 20 training steps, MiB | installed, MB |",
        "|---|---|---|---|",
    ]
    for name in IMPORTS:
        what = "alone" if name == "numpy" else ""
        lines.append(f"| {name} {what} | {imports[name]:.3f} | {peaks[name]:.0f} | {sizes[name]:.1f} |")
    found = {"machine": head, "import_s": imports, "import_all_s": times, "peak_mib": peaks, "installed_mb": sizes}
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    args.out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    script(main)
