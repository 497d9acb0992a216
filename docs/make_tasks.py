"""Write docs/tasks.png: the loss curves that benchmarks/tasks.py left in its results.

python docs/make_tasks.py     needs the extra `plot`
"""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

ROOT = Path(__file__).parent.parent
TITLES = {"adding": "adding, T = {}", "copy": "copy, T = {}"}
SOLVED, LOW, HIGH = 0.1, 0.0018, 4.0
"""Of the loss without memory: where a task counts as solved, and what is shown."""


def ended(row: dict[str, Any]) -> str:
    """Return how a run ended, in words."""
    if row["solved_at"]:
        return f"solved: {row['solved_at']:,} updates"
    return f"{'diverged' if row['diverged'] else 'not solved'}: {row['updates']:,} updates"


def main() -> None:
    """Draw a row a task and a panel a cell, all on the same axes: a loss as a share of the one without memory."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "tasks.json").read_text())["rows"]
    tasks, cells = (list(dict.fromkeys(r[key] for r in rows)) for key in ("task", "cell"))
    size = {"figsize": (11, 8.5), "layout": "constrained"}
    figure, panels = plt.subplots(len(tasks), len(cells), sharex=True, sharey=True, **size)
    for r in rows:
        panel = panels[tasks.index(r["task"]), cells.index(r["cell"])]
        colour, shares = f"C{cells.index(r['cell'])}", np.array(r["curve"]) / r["baseline"]
        updates = r["every"] * np.arange(1, len(shares) + 1)
        panel.axhline(1, color="0.5", linestyle="--", linewidth=0.9)
        panel.axhline(SOLVED, color="0.5", linestyle=":", linewidth=0.9)
        panel.plot(updates, shares, color=colour, linewidth=1.4)
        panel.plot(updates[-1], shares[-1], "o" if r["solved_at"] else "x", color=colour, markersize=6)
        panel.text(0.04, 0.06, ended(r), transform=panel.transAxes, fontsize=9, color=colour)
    panels[0, 0].set(xscale="log", yscale="log", ylim=(LOW, HIGH))
    panels[0, 0].text(5e4, 1.4, "without memory", fontsize=8, color="0.35", ha="right")
    panels[0, 0].text(5e4, SOLVED * 1.12, "solved", fontsize=8, color="0.35", ha="right")
    for panel, cell in zip(panels[0], cells, strict=True):
        panel.set_title(cell, family="monospace", fontsize=11)
    for panel, task in zip(panels[:, 0], tasks, strict=True):
        kind, steps = task.split("-")
        panel.set_ylabel(TITLES[kind].format(steps))
    figure.supxlabel("updates")
    figure.supylabel("loss, as a share of the loss without memory")
    figure.savefig(ROOT / "docs" / "tasks.png", dpi=80)


if __name__ == "__main__":
    main()
