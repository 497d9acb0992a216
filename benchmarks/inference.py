"""Language models at work, beside PyTorch and onnxruntime: drawing text, one or many at once, and scoring batches.

    python benchmarks/inference.py [--threads 1,2] [--seconds 3] [--rows 0,3] [--tables drawing,scoring]
    python benchmarks/inference.py --tables streams --out benchmarks/results/streams.json
    python benchmarks/inference.py --tables small --threads 1 --out benchmarks/results/small.json

Drawing: tokens one at a time, each fed back, by the same rule from the same random numbers; microseconds a token, of
runs of 400 tokens. Ours and onnxruntime's weights are packed once a model, before; what that takes ours is a column of
its own. First the drawn tokens are compared. "Of reading": the bytes of the weights that a token must read, over our
time, as a share of the rate at which NumPy's `max` reads as many, each thread its part. Scoring: forward pass and loss
of 16 rows and 50 steps, state carried on; milliseconds. First the losses are compared.

Streams: many texts at once, each by its own numbers; the others take a step of the network for all at a time, and the
same rule picks a token of each. Tokens a second (of the processor's time, on one thread), of texts of 400 tokens, 100
where there are 64, 25 where there are 512. A logit's last bit may draw another token, from which on a text is another:
of a hundred texts one may be.

Small: drawing as above, beside our own with weights in bfloat16 and in int8, and onnxruntime's own dynamic int8;
microseconds of the processor's time (on one thread). Ours in bfloat16 must draw what float32 draws from the rounded
arrays, the int8 ones its first 50 tokens.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx_graph import session
from side_by_side import arguments, machine, report, script

from unrolled import backends, bench
from unrolled.models import sampling as sample
from unrolled.models.streams import streams
from unrolled.nn import rounding
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec

BATCH, STEPS = 16, 50
STREAMS = {1: 400, 8: 400, 64: 100, 512: 25}
"""Texts at once, and tokens of each."""


def drawing(network: Network, threads: int) -> dict[str, Callable[[], Any]]:
    """What draws tokens, by name."""
    return {
        "unrolled": bench.drawing(network),
        "torch": bench.torch_drawing(network),
        "onnxruntime": onnx_drawing(session(network, threads, loss=False), network),
    }


def onnx_drawing(run_once: onnxruntime.InferenceSession, network: Network) -> Callable[[], list[int]]:
    """Return what draws tokens with a session, a call a token."""
    zeros = network.zero_state(1)

    def run() -> list[int]:
        token, (h, c), drawn = 1, zeros, []
        for number in np.random.default_rng(0).random(bench.TOKENS):
            logits, h, c = run_once.run(None, {"x": np.array([[token]]), "h0": h, "c0": c})
            token = sample.sample_token(logits[0, 0], 1.0, number)
            drawn.append(token)
        return drawn

    return run


def small(network: Network, threads: int) -> dict[str, Callable[[], Any]]:
    """What draws tokens from weights of several forms, by name."""
    sides = drawing(network, threads)
    found = {"float32": sides["unrolled"], "onnxruntime": sides["onnxruntime"]}
    for form in rounding.WEIGHTS[1:]:
        other = Network(network.spec)
        other.load_params(rounding.rounded(network.params, form))
        whole, other.weights = bench.drawing(other)(), form
        found[form] = bench.drawing(other)
        exact = len(whole) if form == "bfloat16" else 50
        if found[form]()[:exact] != whole[:exact]:
            raise SystemExit(f"{form} draws other tokens than float32 from the same numbers; nothing is timed")
    return found | {"onnxruntime_int8": onnx_drawing(session(network, threads, loss=False, int8=True), network)}


def streaming(network: Network, threads: int, count: int) -> dict[str, Callable[[], Any]]:
    """What draws many texts at once, by name."""
    run_once, module, length = session(network, threads, loss=False), bench.torch_model(network), STREAMS[count]
    zero = network.zero_state(count)

    def rngs() -> list[np.random.Generator]:
        return [np.random.default_rng(n) for n in range(count)]

    def ours() -> list[list[int]]:
        state, first = network.zero_state(1), np.ones(count, int)
        return list(streams(network, state, first, length, 1.0, rngs()))

    def by(step: Callable[[Any, Any], tuple[Any, Any]], state: Any) -> list[list[int]]:
        tokens, drawn = np.ones(count, int), []
        for u in np.stack([rng.random(length) for rng in rngs()]).T:
            logits, state = step(tokens[None], state)
            drawn.append(tokens := sample._sample_rows(logits[0], 1.0, u))
        return np.array(drawn).T.tolist()

    def onnx_step(x: Any, state: Any) -> tuple[Any, Any]:
        logits, *state = run_once.run(None, {"x": x, "h0": state[0], "c0": state[1]})
        return logits, state

    @torch.inference_mode()
    def torch_step(x: Any, state: Any) -> tuple[Any, Any]:
        logits, state = bench.torch_logits(module, torch.from_numpy(x), state)
        return logits.numpy(), state

    return {
        "unrolled": ours,
        "torch": lambda: by(torch_step, None),
        "onnxruntime": lambda: by(onnx_step, (zero.h, zero.c)),
    }


def seconds_of_packing(network: Network) -> float:
    """What the weights take to be packed: the median of ten times."""
    state, times = network.zero_state(1), []
    for _ in range(10):
        start = time.perf_counter()
        sample.TokenSampler(network, state, bench.TOKENS)
        times.append(time.perf_counter() - start)
    return bench.summary(times)[0]


def reading_rate(size: int, threads: int, seconds: float = 0.2) -> float:
    """Bytes a second at which NumPy reads an array of that size again and again, each thread its part; best of five."""
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    repeats = max(2, int(seconds * 1e11 / size / 5))

    def read(part: Any) -> None:
        for _ in range(repeats):
            part.max()

    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(read, parts))
            best = min(best, time.perf_counter() - start)
    return size * repeats / best


def scoring(network: Network, threads: int) -> dict[str, Callable[[], Any]]:
    """What scores a batch, by name."""
    x, y = np.random.default_rng(0).integers(0, network.spec.vocabulary_size, (2, STEPS, BATCH))
    run_once, flat = session(network, threads, loss=True), y.reshape(-1)
    module, tx, ty = bench.torch_model(network), torch.from_numpy(x), torch.from_numpy(flat)
    states: dict[str, Any] = {"unrolled": None, "torch": None, "onnxruntime": network.zero_state(BATCH)}

    def ours() -> float:
        loss, states["unrolled"] = network.loss(x, y, states["unrolled"])
        return loss

    @torch.inference_mode()
    def with_torch() -> float:
        logits, states["torch"] = bench.torch_logits(module, tx, states["torch"])
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ty))

    def with_onnxruntime() -> float:
        h, c = states["onnxruntime"]
        loss, *states["onnxruntime"] = run_once.run(None, {"x": x, "y": flat, "h0": h, "c0": c})
        return float(loss)

    return {"unrolled": ours, "torch": with_torch, "onnxruntime": with_onnxruntime}


def same(results: list[Any]) -> bool:
    """Tokens must be equal, of many texts 99 in 100 texts'; losses in float32 agree to 1e-5."""
    if isinstance(results[0], list) and isinstance(results[0][0], list):
        others = [sum(a != b for a, b in zip(results[0], result, strict=True)) for result in results[1:]]
        return max(others) <= len(results[0]) / 100
    if isinstance(results[0], list):
        return results[0] == results[1] == results[2]
    return max(results) - min(results) < 1e-5 * results[0]


TABLES = {
    "drawing": (drawing, f"drawing at batch 1, float32, microseconds a token of {bench.TOKENS}", 1e6 / bench.TOKENS),
    "scoring": (scoring, f"scoring, forward and loss, B {BATCH}, T {STEPS}, float32, milliseconds", 1e3),
}
MANY = "drawing many texts at once, float32, tokens a second"


def network_of(size: tuple[int, ...], threads: int) -> Network:
    """The language model of a size; all sides keep to so many threads."""
    torch.set_num_threads(threads)
    backends.set_threads(threads)
    _, _, vocabulary, embedding, hidden, layers = size
    return Network(Spec(vocabulary, "lstm", embedding, hidden, layers))


def stream_row(size: tuple[int, ...], count: int, threads: int, seconds: float) -> dict[str, Any]:
    """One row of the table of streams."""
    network = network_of(size, threads)
    sides, tokens = streaming(network, threads, count), count * STREAMS[count]
    if not same([run() for run in sides.values()]):
        raise SystemExit(f"{count} streams of {size}: the texts differ; nothing is timed")
    clock = time.process_time if threads == 1 else time.perf_counter
    with backends.undisturbed("cpu"):
        times = bench.alternate(sides, seconds, blocks=5, clock=clock)
    found: dict[str, Any] = {"table": "streams", "threads": threads, "size": size[2:], "streams": count}
    for name, values in times.items():
        median, spread = bench.summary(values)
        found |= {name: tokens / median, f"{name}_spread": spread}
    return found | {f"{name}_ratio": found["unrolled"] / found[name] for name in ("torch", "onnxruntime")}


def stream_lines(found: list[dict[str, Any]], threads: int) -> list[str]:
    """The table of streams."""
    lines = [f"\n{MANY}, {threads} thread(s)\n"]
    lines += ["| V, E, H, L | streams | unrolled | PyTorch | ratio | onnxruntime | ratio |", "|---" * 7 + "|"]
    for r in found:
        cells = [f"{r[n]:,.0f} ± {r[f'{n}_spread']:.0%}" for n in ("unrolled", "torch", "onnxruntime")]
        lines.append(
            f"| {', '.join(map(str, r['size']))} | {r['streams']} | {cells[0]} | {cells[1]} | {r['torch_ratio']:.2f} "
            f"| {cells[2]} | {r['onnxruntime_ratio']:.2f} |"
        )
    for count in STREAMS:
        both = [[r[f"{n}_ratio"] for r in found if r["streams"] == count] for n in ("torch", "onnxruntime")]
        means = [f"{bench.geometric_mean(v):.2f} / {min(v):.2f}" for v in both]
        lines.append(f"| geometric mean / least | {count} | | | {means[0]} | | {means[1]} |")
    return lines


def small_row(size: tuple[int, ...], threads: int, seconds: float) -> dict[str, Any]:
    """One row of the table of smaller weights."""
    sides = small(network_of(size, threads), threads)
    if sides["float32"]() != sides["onnxruntime"]():
        raise SystemExit(f"small {size}: the tokens differ; nothing is timed")
    clock = time.process_time if threads == 1 else time.perf_counter
    with backends.undisturbed("cpu"):
        times = bench.alternate(sides, seconds, clock=clock)
    found: dict[str, Any] = {"table": "small", "threads": threads, "size": size[2:]}
    for name, values in times.items():
        median, spread = bench.summary(values)
        found |= {name: median * 1e6 / bench.TOKENS, f"{name}_spread": spread}
    ratios = {f"{n}_ratio": found["float32"] / found[n] for n in rounding.WEIGHTS[1:]}
    ratios |= {f"{n}_onnxruntime_ratio": found["onnxruntime"] / found[n] for n in rounding.WEIGHTS}
    return found | ratios | {"megabytes": bench.bytes_of_token(size) / 1e6}


def small_lines(found: list[dict[str, Any]], threads: int) -> list[str]:
    """The table of smaller weights: ratios of our own float32, and (three) of onnxruntime's."""
    lines = [f"\ndrawing at batch 1 from smaller weights, microseconds a token, {threads} thread(s)\n"]
    lines.append(
        "| V, E, H, L | MB in float32 | float32 | bfloat16 | ratio | int8 | ratio | onnxruntime float32 "
        "| ratios to it | onnxruntime int8 |"
    )
    lines.append("|---" * 10 + "|")
    theirs = [f"{form}_onnxruntime_ratio" for form in rounding.WEIGHTS]
    for r in found:
        cells = [f"{r[n]:.2f} ± {r[f'{n}_spread']:.0%}" for n in (*rounding.WEIGHTS, "onnxruntime", "onnxruntime_int8")]
        lines.append(
            f"| {', '.join(map(str, r['size']))} | {r['megabytes']:.2f} | {cells[0]} | {cells[1]} "
            f"| {r['bfloat16_ratio']:.2f} | {cells[2]} | {r['int8_ratio']:.2f} | {cells[3]} "
            f"| {', '.join(f'{r[n]:.2f}' for n in theirs)} | {cells[4]} |"
        )
    means = {n: bench.geometric_mean([r[n] for r in found]) for n in ("bfloat16_ratio", "int8_ratio", *theirs)}
    lines.append(
        f"| geometric mean | | | | {means['bfloat16_ratio']:.2f} | | {means['int8_ratio']:.2f} | "
        f"| {', '.join(f'{means[n]:.2f}' for n in theirs)} | |"
    )
    return lines


def row(table: str, size: tuple[int, ...], threads: int, seconds: float) -> dict[str, Any]:
    """One row of a table."""
    make, _, unit = TABLES[table]
    network = network_of(size, threads)
    sides = make(network, threads)
    if not same([run() for run in sides.values()]):
        raise SystemExit(f"{table} {size}: the results differ; nothing is timed")
    with backends.undisturbed("cpu"):
        times = bench.alternate(sides, seconds)
    found: dict[str, Any] = {"table": table, "threads": threads, "size": size[2:]}
    for name, values in times.items():
        median, spread = bench.summary(values)
        found |= {name: median * unit, f"{name}_spread": spread}
    if table == "drawing":
        size_read = bench.bytes_of_token(size)
        share = size_read / (found["unrolled"] / unit / bench.TOKENS) / reading_rate(size_read, threads)
        found |= {"packing": seconds_of_packing(network) * 1e6, "of_reading": share}
    return found | {f"{name}_ratio": found[name] / found["unrolled"] for name in ("torch", "onnxruntime")}


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "inference", len(bench.MODELS))
    parser.add_argument("--tables", default=",".join(TABLES))
    args = parser.parse_args()
    results, lines = [], []
    for table in args.tables.split(","):
        for threads in map(int, args.threads.split(",")):
            sizes = [bench.MODELS[n] for n in map(int, args.rows.split(","))]
            if table == "small":
                found = [small_row(size, threads, args.seconds) for size in sizes]
                results += found
                lines += small_lines(found, threads)
                continue
            if table == "streams":
                found = [stream_row(size, count, threads, args.seconds) for size in sizes for count in STREAMS]
                results += found
                lines += stream_lines(found, threads)
                continue
            found = [row(table, size, threads, args.seconds) for size in sizes]
            results += found
            lines += [f"\n{TABLES[table][1]}, {threads} thread(s)\n"]
            more = " packing once | of reading |" if table == "drawing" else ""
            lines.append("| V, E, H, L | unrolled | PyTorch | ratio | onnxruntime | ratio |" + more)
            lines.append("|---" * (6 + 2 * bool(more)) + "|")
            for r in found:
                cells = [f"{r[n]:.2f} ± {r[f'{n}_spread']:.0%}" for n in ("unrolled", "torch", "onnxruntime")]
                lines.append(
                    f"| {', '.join(map(str, r['size']))} | {cells[0]} | {cells[1]} | {r['torch_ratio']:.2f} "
                    f"| {cells[2]} | {r['onnxruntime_ratio']:.2f} |"
                    + (f" {r['packing']:.0f} | {r['of_reading']:.0%} |" if more else "")
                )
            both = [[r[f"{n}_ratio"] for r in found] for n in ("torch", "onnxruntime")]
            means = [f"{bench.geometric_mean(v):.2f} / {min(v):.2f}" for v in both]
            lines.append(f"| geometric mean / least | | | {means[0]} | | {means[1]} |" + " | |" * bool(more))
            print("\n".join(lines[-len(found) - 1 :]), flush=True)
    head = machine(onnxruntime=onnxruntime.__version__)
    command = f"python benchmarks/inference.py --seconds {args.seconds:g} --tables {args.tables}"
    report(args.out, command, head, results, lines)


if __name__ == "__main__":
    script(main)
