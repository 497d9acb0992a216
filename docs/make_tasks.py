"""Write docs/tasks.png: the loss curves that benchmarks/tasks.py left in its results.

python docs/make_tasks.py     needs the extra `plot`
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parent.parent
TITLES = {"adding": "adding problem, T = {}", "copy": "copy memory, T = {}"}
UNITS = {"adding": "squared error", "copy": "cross-entropy, nats"}


def main() -> None:
    """Draw a panel a task and a line a cell; dashed: what a network without memory reaches; dotted: a tenth of it."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "tasks.json").read_text())["rows"]
    tasks = list(dict.fromkeys(r["task"] for r in rows))
    colours = {cell: f"C{n}" for n, cell in enumerate(dict.fromkeys(r["cell"] for r in rows))}
    figure, panels = plt.subplots(2, -(-len(tasks) // 2), figsize=(10, 6.4), layout="constrained")
    for panel, task in zip(panels.flat, tasks, strict=False):
        kind, steps = task.split("-")
        for r in (r for r in rows if r["task"] == task):
            updates = r["every"] * np.arange(1, len(r["curve"]) + 1)
            panel.plot(updates, r["curve"], color=colours[r["cell"]], label=r["cell"], linewidth=1.2)
            if r["solved_at"]:
                panel.plot(updates[-1], r["curve"][-1], "o", color=colours[r["cell"]])
            baseline = r["baseline"]
        panel.axhline(baseline, color="0.4", linestyle="--", linewidth=1)
        panel.axhline(baseline / 10, color="0.7", linestyle=":", linewidth=1)
        panel.set(xscale="log", yscale="log", ylim=(baseline / 200, 3 * baseline), title=TITLES[kind].format(steps))
        panel.set(xlabel="updates", ylabel=UNITS[kind])
    panels.flat[0].legend(frameon=False, fontsize="small", loc="lower right")
    figure.savefig(ROOT / "docs" / "tasks.png", dpi=80)


if __name__ == "__main__":
    main()
