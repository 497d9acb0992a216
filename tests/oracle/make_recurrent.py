"""Make recurrent.npz: PyTorch's outputs, states and gradients of every case, in float64.

Four cases are kept entry by entry; to keep the file small, the others as random projections and four entries of each
array. Run it as `python tests/oracle/make_recurrent.py` with torch.
"""

from pathlib import Path

import numpy as np
import torch
from recurrent_problem import CASES, KINDS, LENGTHS, H, I, numbers, read, summary
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run(case: str) -> dict[str, np.ndarray]:
    """PyTorch's results in full."""
    cell, layers, bias, both, lengths = read(case)
    options = {"nonlinearity": cell.removeprefix("rnn_")} if cell.startswith("rnn_") else {}
    kind = getattr(torch.nn, KINDS[cell])
    net = kind(I, H, layers, bias=bias, bidirectional=both, **options).double()
    n = numbers(case, {name: tuple(p.shape) for name, p in net.named_parameters()})
    net.load_state_dict({name: torch.tensor(n[name]) for name in net.state_dict()})
    t = {name: torch.tensor(n[name], requires_grad=True) for name in ("x", "h", "c")}
    x = pack_padded_sequence(t["x"], torch.tensor(LENGTHS), enforce_sorted=False) if lengths else t["x"]
    y, final = net(x, (t["h"], t["c"]) if cell == "lstm" else t["h"])
    if lengths:
        y, _ = pad_packed_sequence(y)
    finals = dict(zip("hc", final if cell == "lstm" else (final,), strict=False))
    loss = (y * torch.tensor(n["dy"])).sum() + sum((f * torch.tensor(n["d" + k])).sum() for k, f in finals.items())
    loss.backward()
    results = {"y": y} | {f"final_{k}": f for k, f in finals.items()}
    gradients = {name: p.grad for name, p in net.named_parameters()}
    gradients |= {f"d_{name}": t[name].grad for name in ("x", *finals)}
    return {name: a.detach().numpy() for name, a in (results | gradients).items()}


if __name__ == "__main__":
    names, rows = [], []
    for case in CASES:
        for name, a in run(case).items():
            names.append(f"{case}:{name}")
            rows.append(summary(case, a))
    np.savez_compressed(
        Path(__file__).with_name("recurrent.npz"),
        names=np.array(names),
        ends=np.cumsum([len(row) for row in rows]),
        values=np.concatenate(rows),
        torch_version=np.array(torch.__version__),
    )
