"""Forward and backward of dense LSTM, GRU and tanh RNN stacks, beside PyTorch's on the same threads.

    python benchmarks/dense.py [--cells lstm,gru_reset_after,rnn_tanh] [--threads 1,2] [--seconds 3] [--rows 0,3]

First every output and gradient is compared with PyTorch in float64; no time is printed if one disagrees. Both sides get
plain weights, new ones at every call, and give plain gradients.
"""

from __future__ import annotations

from side_by_side import arguments, machine, ratio_table, report, script

from unrolled import bench


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], "dense", len(bench.STACKS))
    parser.add_argument("--cells", default=",".join(bench.MODULES))
    args = parser.parse_args()
    results, lines = [], []
    for cell in args.cells.split(","):
        for threads in map(int, args.threads.split(",")):
            rows = map(int, args.rows.split(","))
            found = [bench.stack_row(cell, bench.STACKS[n], threads, args.seconds) for n in rows]
            results += [row.to_json() | {"cell": cell} for row in found]
            lines += ratio_table(f"{cell}, forward + backward, float32, {threads} thread(s)", "B, T, I, H, L", found)
            print("\n".join(lines[-len(found) - 1 :]), flush=True)
    report(args.out, f"python benchmarks/dense.py --seconds {args.seconds:g}", machine(), results, lines)


if __name__ == "__main__":
    script(main)
