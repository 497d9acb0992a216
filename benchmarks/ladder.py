"""Every rung of the ladder on one job: loss and all gradients of a batch (B 16, T 50, H 200, 22 symbols one-hot).

    python benchmarks/ladder.py [--threads 1,2] [--seconds 3]

First all rungs get the same weights, and loss and every gradient are compared with rung 0's; no time is printed if one
disagrees. Rung 0 knows no batch: it takes the rows one after the other, and is timed on one of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import alternate, machine, relative_error, script, summary, write
from threadpoolctl import threadpool_limits

from unrolled import backends
from unrolled.ladder.convert import library_names, network_of, rnn_of, stack_of
from unrolled.ladder.plain import LSTM_RNN

B, T, H, V = 16, 50, 200, 22
TOLERANCES = {"float64": 1e-11, "float32": 2e-5}  # some hundred roundings in a row
ROWS = {"plain lists": B}  # calls that make a batch, where it is not one


def rungs() -> tuple[dict[str, Callable[[], Any]], dict[str, float]]:
    """One call a rung, timed later; and its largest relative error against rung 0."""
    plain = LSTM_RNN(0.1, V, H, V)
    stack = stack_of(plain)
    model = rnn_of(stack, [str(k) for k in range(V)])
    x, y = np.random.default_rng(0).integers(0, V, (2, T, B))
    rows = [plain.gradients(x[:, b].tolist(), y[:, b].tolist(), [0.0] * H, [0.0] * H) for b in range(B)]
    loss = np.mean([row[0] for row in rows])
    exact = {name: np.mean([np.squeeze(row[1][name]) for row in rows], axis=0) for name in plain.params}

    first = x[:, 0].tolist(), y[:, 0].tolist(), [0.0] * H, [0.0] * H
    calls: dict[str, Callable[[], Any]] = {
        "plain lists": lambda: plain.gradients(*first),
        "NumPy layers": lambda: stack.gradients(x, y),
        "solver": lambda: model.gradients(x, y),
    }
    errors = {}
    (own, top) = stack.gradients(x, y)[1]
    found = {"NumPy layers": (stack.gradients(x, y)[0], own | top), "solver": model.gradients(x, y)[:2]}
    for name, (got, grads) in found.items():
        errors[name] = max(abs(got - loss) / loss, *(relative_error(grads[k], g) for k, g in exact.items()))
        check(name, errors[name], "float64")
    for backend, title in (("reference", "library, reference"), ("cpu", "library, engine")):
        for dtype in TOLERANCES if backend in backends.BACKENDS else ():
            net, name = network_of(model, backend, dtype), f"{title}, {dtype}"
            got, grads, _ = net.loss_and_gradients(x, y)
            wanted = library_names(exact)
            errors[name] = max(abs(got - loss) / loss, *(relative_error(grads[k], g) for k, g in wanted.items()))
            check(name, errors[name], dtype)
            calls[name] = lambda net=net: net.loss_and_gradients(x, y)
    return calls, errors


def check(name: str, error: float, dtype: str) -> None:
    """Stop if a rung disagrees."""
    if not error < TOLERANCES[dtype]:
        raise SystemExit(f"{name}: relative error {error:.1e} against plain lists; nothing is timed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each rung but the first")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ladder.json"))
    args = parser.parse_args()
    calls, errors = rungs()
    threads = [int(n) for n in args.threads.split(",")]
    times: dict[str, dict[int, list[float]]] = {name: {} for name in calls}
    for n in threads:
        if "cpu" in backends.BACKENDS:
            backends.set_threads(n)
        fast = {name: run for name, run in calls.items() if name != "plain lists"}
        with threadpool_limits(n):
            for name, found in alternate(fast, args.seconds * len(fast)).items():
                times[name][n] = found
    alone = alternate({"plain lists": calls["plain lists"]}, args.seconds)  # one thread, whatever is asked for
    times["plain lists"] = {n: alone["plain lists"] for n in threads}

    lines = [
        "| rung | " + " | ".join(f"{n} thread(s): ms a batch | characters/s | times rung 0" for n in threads) + " |"
    ]
    lines.append("|---" * (1 + 3 * len(threads)) + "|")
    results = []
    for name, by_threads in times.items():
        cells = [name]
        for n, found in by_threads.items():
            (median, spread), (slowest, _) = summary(found), summary(times["plain lists"][n])
            seconds, most = median * ROWS.get(name, 1), slowest * B
            results.append(
                {"rung": name, "threads": n, "ms": seconds * 1e3, "spread": spread, "error": errors.get(name, 0.0)}
            )
            cells += [f"{seconds * 1e3:,.1f} ± {spread:.0%}", f"{B * T / seconds:,.0f}", f"{most / seconds:,.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    head = machine()
    text = ", ".join(f"{k} {v}" for k, v in head.items())
    write(args.out, {"machine": head, "job": [B, T, H, V], "rows": results}, text + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    script(main)
