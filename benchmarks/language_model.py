"""A language model's training step beside PyTorch's: tokens -> loss -> gradients -> clipping -> Adam, state carried on.

    python benchmarks/language_model.py [--threads 1,2] [--seconds 3] [--rows 0,3] [--dtype bfloat16]

First loss and gradients are compared with PyTorch in float64; no time is printed if one disagrees. PyTorch runs
nn.Embedding, nn.LSTM and nn.Linear with fused or foreach Adam, whichever is faster here, its state detached. A table of
bfloat16 stands beside our own float32 and PyTorch under autocast; one thread is timed by the processor's clock there.
"""

from __future__ import annotations

import time

from side_by_side import alternate, arguments, machine, ratio_table, report, script, summary

from unrolled import backends, bench

NEAR = 5e-2
"""Of bfloat16 against float64: some roundings to 8 bits in a row."""


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "language_model", len(bench.MODELS))
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    args = parser.parse_args()
    (of_bfloat16 if args.dtype == "bfloat16" else of_float32)(args)


def of_float32(args) -> None:
    """Our step beside PyTorch's."""
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        found = [bench.model_row(bench.MODELS[n], threads, args.seconds) for n in map(int, args.rows.split(","))]
        results += [row.to_json() for row in found]
        title = f"language-model training step, float32, {threads} thread(s)"
        lines += ratio_table(title, "B, T, V, E, H, L", found)
        print("\n".join(lines[-len(found) - 1 :]), flush=True)
    report(args.out, f"python benchmarks/language_model.py --seconds {args.seconds:g}", machine(), results, lines)


def of_bfloat16(args) -> None:
    """The same in bfloat16: our step, that of float32 and PyTorch's under autocast, in turns."""
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        rows = [rounded_row(bench.MODELS[n], threads, args.seconds) for n in map(int, args.rows.split(","))]
        results += rows
        lines += [f"\nlanguage-model training step, bfloat16, {threads} thread(s)\n"]
        lines += ["| B, T, V, E, H, L | bfloat16 ms | float32 ms | ratio | PyTorch, autocast, ms | ratio |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in rows:
            shown = {side: f"{row[side][0] * 1e3:.2f} ± {row[side][1]:.0%}" for side in ("ours", "own", "torch")}
            ratios = [f"{row[side][0] / row['ours'][0]:.2f}" for side in ("own", "torch")]
            size = ", ".join(map(str, row["size"]))
            lines.append(
                f"| {size} | {shown['ours']} | {shown['own']} | {ratios[0]} | {shown['torch']} | {ratios[1]} |"
            )
        means = []
        for side in ("own", "torch"):
            ratios = [row[side][0] / row["ours"][0] for row in rows]
            means.append(f"{bench.geometric_mean(ratios):.2f} / {min(ratios):.2f}")
        lines.append(f"| geometric mean / least | | | {means[0]} | | {means[1]} |")
    command = f"python benchmarks/language_model.py --dtype bfloat16 --seconds {args.seconds:g}"
    report(args.out.with_stem(f"{args.out.stem}_bfloat16"), command, machine(), results, lines)


def rounded_row(size: tuple[int, ...], threads: int, seconds: float) -> dict:
    """Median and spread of each side's seconds a step."""
    network, exact = (bench.model_of(size, threads, dtype) for dtype in ("bfloat16", "float32"))
    x, y = bench.tokens_of(size)
    error = bench.model_error(network, x, y)
    assert error < NEAR, f"{size}: relative error {error:.1e} against PyTorch in float64; nothing is timed"
    sides = {name: bench.torch_step(network, x, y, name) for name in ("foreach", "fused")}
    sides |= {"ours": bench.model_step(network, x, y), "own": bench.model_step(exact, x, y)}
    clock = time.process_time if threads == 1 else time.perf_counter
    with backends.undisturbed("cpu"):
        times = {side: summary(found) for side, found in alternate(sides, 4 * seconds, clock=clock).items()}
    times["torch"] = min(times.pop("foreach"), times.pop("fused"))
    return {"size": size, "threads": threads, "error": error} | times


if __name__ == "__main__":
    script(main)
