"""Every cell at one budget of parameters and one of the processor's time: two texts and three tasks of long memory.

    python benchmarks/every_cell.py $UNROLLED_DATA [--cells lstm,mgu] [--tasks pride,digits] [--seconds 3]

A network is two layers of a cell, as wide as brings it nearest to the budget of parameters, with its default initial
weights. It trains for so many seconds of one thread's work, not of the clock, by Adam, gradients clipped at norm 1, at
a rate that falls by half a cosine over these seconds; only training counts, not the evaluation behind it. Of three
rates a cell gets on each task the one that is best on the validation part with the first seed, and on the second text
that of the first; the other seeds follow at that rate. What has been run is kept and not run again, so that the command
may be stopped, and given again with more cells.

- pride, shakespeare: characters, 32 lanes in chunks of 50 steps, an embedding of 32; nats a character of the test part.
- adding (Hochreiter & Schmidhuber 1997): mean squared error of the sum of two marked numbers of 50; 1/6 for a guess.
- copy (as Arjovsky et al. 2016 have it): nats a step; ten symbols of eight, asked for after 20 blanks.
- digits: scikit-learn's 1,797 images of 8 x 8, a pixel a step in one drawn order; per cent of the test images missed.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pride import idle
from side_by_side import machine, merged, script, write
from tasks import SYMBOLS, Drawn, adding, copying
from threadpoolctl import threadpool_limits

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS
from unrolled.data.batches import Batch, Batches, held_out, lanes
from unrolled.data.split import split
from unrolled.data.text import Vocabulary, encode, read
from unrolled.nn import heads
from unrolled.nn.heads import LANGUAGE, Head

TEXTS = {"pride": "pride/1342-0.txt", "shakespeare": "tinyshakespeare/input.txt"}
AS_ON = {"shakespeare": "pride"}
"""A task that has the rate of another one."""
RATES = (0.003, 0.01, 0.03)
SEEDS = (1, 2, 3)
LAYERS, EMBEDDING, CLIP = 2, 32, 1.0
LANES, CHUNK, ROWS = 32, 50, 32
ADDED, DELAY = 50, 20
FORMS = {"adding": ".2g", "digits": ".1f"}
TITLES = ("pride, nats", "shakespeare, nats", "adding, squared error", "copy, nats", "digits missed, %")
KEYS = ("task", "cell", "rate", "seed")


@dataclass(frozen=True)
class Task:
    """Batches to train on, by a seed; those to validate and to test on; and the network's ends."""

    train: Callable[[int], Batches]
    val: Iterable[Batch]
    test: Iterable[Batch]
    inputs: int
    head: Head = LANGUAGE
    embedding: int = 0

    def spec(self, cell: str, budget: int) -> ur.Spec:
        """The network of so many units that it is nearest to the budget."""

        def of(units: int) -> ur.Spec:
            return ur.Spec(self.inputs, cell, self.embedding, units, LAYERS)

        low, high = 1, 4096
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.used(of(middle)) <= budget else (low, middle)
        return min(map(of, (low, high)), key=lambda spec: abs(self.used(spec) - budget))

    def used(self, spec: ur.Spec) -> int:
        """Parameters, less those that are never read."""
        count = sum(math.prod(shape) for shape in spec.shapes(self.head).values())
        return count - LAYERS * idle(CELLS[spec.cell], spec.widths[0])

    def figure(self, net: ur.Network, part: Iterable[Batch]) -> float:
        """The mean loss of a part; of classes of whole rows the per cent that are missed."""
        total = count = 0.0
        state = None
        for batch in part:
            if self.head.stepwise or self.head.numbers:
                loss, state = net.loss(batch.x, batch.y, state if self.embedding else None)
                total += loss * batch.targets
            else:
                total += 100 * float((net.predict(batch.x) != batch.y).sum())
            count += batch.targets
        return total / count


def text(path: Path) -> Task:
    """Characters of a text: the last tenth, in two halves, to validate and to test on."""
    corpus = read([path])
    vocabulary = Vocabulary.of(corpus.pieces(), "char")
    train, *parts = split(encode(corpus, vocabulary).tokens, 0.05, 0.05)
    val, test = (list(held_out(part, LANES, CHUNK) or ()) for part in parts)
    return Task(lambda seed: lanes(train, LANES, CHUNK), val, test, len(vocabulary), embedding=EMBEDDING)


def drawn(make: Callable[[int, int, np.random.Generator], Batch], steps: int, inputs: int, head: Head) -> Task:
    """Examples without an end; 400 each, always the same, to validate and to test on."""
    held = [[make(steps, 200, np.random.default_rng([part, n])) for n in range(2)] for part in (0, 1)]
    return Task(lambda seed: Drawn(lambda rng: make(steps, ROWS, rng), 2 + seed), *held, inputs, head)


def digits() -> Task:
    """Images, a pixel a step: 300 to validate and 300 to test on."""
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    found = load_digits()
    pixels = (found.data[:, rng.permutation(64)] / 16).astype(np.float32)[..., None]
    val, test, train = np.split(rng.permutation(len(pixels)), [300, 600])

    def batch(rows: Any) -> Batch:
        return Batch(np.ascontiguousarray(pixels[rows].swapaxes(0, 1)), found.target[rows])

    def endless(seed: int) -> Batches:
        return Drawn(lambda rng: batch(rng.choice(train, ROWS, replace=False)), seed)

    return Task(endless, [batch(val)], [batch(test)], 1, heads.classes(10))


TASKS: dict[str, Callable[[Path], Task]] = {
    **{name: lambda data, path=path: text(data / path) for name, path in TEXTS.items()},
    "adding": lambda data: drawn(adding, ADDED, 2, heads.numbers(1, pooling="last")),
    "copy": lambda data: drawn(copying, DELAY, SYMBOLS + 2, LANGUAGE._replace(outputs=SYMBOLS + 1)),
    "digits": lambda data: digits(),
}


def train(net: ur.Network, data: Batches, rate: float, seconds: float) -> tuple[int, float]:
    """Train for so many seconds of the processor, or until a gradient is not finite; updates, and seconds."""
    adam, schedule = ur.optim.Adam(net.params), ur.optim.Cosine(rate, total=10**9)
    start, state = time.process_time(), None
    for step in itertools.count():
        spent, at = time.process_time() - start, step % len(data)
        if spent >= seconds:
            return step, spent
        batch = data[at]
        carried = state if data.carries and at else None
        _, grads, state = net.loss_and_gradients(batch.x, batch.y, carried)
        if not math.isfinite(ur.optim.clip_by_norm(grads, CLIP)):
            break
        adam.update(grads, schedule.rate(0, 0.0, spent / seconds))
    return step, math.inf


def run(task: Task, cell: str, budget: int, rate: float, seed: int, seconds: float) -> dict[str, Any]:
    """Train and evaluate one network; figures of what has diverged are None."""
    spec = task.spec(cell, budget)
    net = ur.Network(spec, rng=seed, head=task.head)
    with np.errstate(all="ignore"):
        updates, spent = train(net, task.train(seed), rate, seconds)
        val, test = (task.figure(net, part) for part in (task.val, task.test))
    finite = math.isfinite(spent) and math.isfinite(val) and math.isfinite(test)
    return {
        "cell": cell,
        "rate": rate,
        "seed": seed,
        "units": spec.widths[0],
        "parameters": task.used(spec),
        "backend": net.recurrent.backend,
        "updates": updates,
        "validation": val if finite else None,
        "test": test if finite else None,
    }


def of(rows: Sequence[dict[str, Any]], task: str, cell: str) -> list[dict[str, Any]]:
    """The runs of one cell on one task."""
    return [row for row in rows if row["task"] == task and row["cell"] == cell]


def chosen(rows: Sequence[dict[str, Any]], task: str, cell: str) -> float | None:
    """The rate whose run with the first seed has the best validation; None if all have diverged."""
    runs = of(rows, AS_ON.get(task, task), cell)
    first = [row for row in runs if row["seed"] == SEEDS[0] and row["validation"] is not None]
    return min(first, key=lambda row: row["validation"])["rate"] if first else None


def at_its_rate(rows: Sequence[dict[str, Any]], task: str, cell: str) -> list[float | None]:
    """The test figures of each seed at the chosen rate; None of those that have diverged."""
    rate = chosen(rows, task, cell)
    return [row["test"] for row in of(rows, task, cell) if row["rate"] == rate]


def plan(path: Path, cells: Sequence[str], tasks: Sequence[str]) -> Iterable[tuple[str, str, float, int]]:
    """What is to be run: every rate first, and then, at the best one, the other seeds."""
    for cell, task, rate in itertools.product(cells, tasks, RATES):
        if task not in AS_ON:
            yield task, cell, rate, SEEDS[0]
    for seed, cell, task in itertools.product(SEEDS, cells, tasks):
        if (rate := chosen(kept(path), task, cell)) is not None:
            yield task, cell, rate, seed


def kept(path: Path) -> list[dict[str, Any]]:
    """The runs that a file has, which another process may be writing to."""
    with Path(__file__).open() as script:
        fcntl.flock(script, fcntl.LOCK_SH)
        return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else []


def entry(rows: Sequence[dict[str, Any]], task: str, cell: str) -> str:
    """One place of the table: mean and standard deviation over the seeds, and the chosen rate."""
    figures, form = at_its_rate(rows, task, cell), FORMS.get(task, ".3f")
    found = [figure for figure in figures if figure is not None]
    if not found:
        return "diverged" if of(rows, task, cell) else ""
    spread = f" ± {statistics.stdev(found):{form}}" if len(found) > 1 else ""
    lost = f", {len(figures) - len(found)} diverged" if len(found) < len(figures) else ""
    lost += f", {len(figures)} of {len(SEEDS)} seeds" if len(figures) < len(SEEDS) else ""
    return f"{statistics.mean(found):{form}}{spread} ({chosen(rows, task, cell):g}{lost})"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the results, the best on the first text first."""

    def order(cell: str) -> tuple[float, str]:
        found = [figure for figure in at_its_rate(rows, next(iter(TASKS)), cell) if figure is not None]
        return (statistics.mean(found) if found else math.inf), cell

    lines = [f"| cell | units | updates | {' | '.join(TITLES)} |", "|---" * (3 + len(TASKS)) + "|"]
    for cell in sorted({row["cell"] for row in rows}, key=order):
        units = [row["units"] for row in rows if row["cell"] == cell]
        updates = [row["updates"] for row in of(rows, next(iter(TASKS)), cell)]
        made = f"{statistics.median(updates):.0f}" if updates else ""
        places = [entry(rows, task, cell) for task in TASKS]
        lines.append(f"| `{cell}` | {min(units)}-{max(units)} | {made} | {' | '.join(places)} |")
    return lines


def keep(path: Path, head: dict[str, str], row: dict[str, Any]) -> None:
    """Add a run to the file, which another process may be writing to as well."""
    with Path(__file__).open() as script:
        fcntl.flock(script, fcntl.LOCK_EX)
        rows = sorted(merged(path, row, *KEYS), key=lambda row: [row[key] for key in KEYS])
        text = "; ".join(f"{k} {v}" for k, v in head.items())
        write(path, {"machine": head, "rows": rows}, "\n".join([text, "", *table(rows)]) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="the folder of the public files")
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--budget", type=int, default=20_000, help="parameters")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one thread, a run")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/every_cell.json"))
    args = parser.parse_args()
    if backends.BACKENDS["auto"].name == "cpu":
        backends.set_threads(1)
    head = machine() | {"budget": f"{args.budget:,}", "seconds": f"{args.seconds:g}"}
    tasks = {name: TASKS[name](args.data) for name in args.tasks.split(",")}
    with threadpool_limits(1):
        for task, cell, rate, seed in plan(args.out, args.cells.split(","), list(tasks)):
            if all([row[key] for key in KEYS] != [task, cell, rate, seed] for row in kept(args.out)):
                keep(args.out, head, {"task": task, **run(tasks[task], cell, args.budget, rate, seed, args.seconds)})


if __name__ == "__main__":
    script(main)
