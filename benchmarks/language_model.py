"""A language model's training step beside PyTorch's: tokens -> loss -> gradients -> clipping -> Adam, state carried on.

    python benchmarks/language_model.py [--threads 1,2] [--seconds 3] [--rows 0,3]

First loss and gradients are compared with PyTorch in float64; no time is printed if one disagrees. PyTorch runs
nn.Embedding, nn.LSTM and nn.Linear with fused or foreach Adam, whichever is faster here, its state detached.
"""

from __future__ import annotations

from side_by_side import arguments, machine, ratio_table, report

from unrolled import bench


def main() -> None:
    args = arguments(__doc__.splitlines()[0], "language_model", len(bench.MODELS)).parse_args()
    results, lines = [], []
    for threads in map(int, args.threads.split(",")):
        found = [bench.model_row(bench.MODELS[n], threads, args.seconds) for n in map(int, args.rows.split(","))]
        results += [row.to_json() for row in found]
        title = f"language-model training step, float32, {threads} thread(s)"
        lines += ratio_table(title, "B, T, V, E, H, L", found)
        print("\n".join(lines[-len(found) - 1 :]), flush=True)
    report(args.out, f"python benchmarks/language_model.py --seconds {args.seconds:g}", machine(), results, lines)


if __name__ == "__main__":
    main()
