"""Make optim.npz: PyTorch's parameters after 50 steps of every update rule, in float64.

Run it as `python tests/oracle/make_optim.py` where torch is installed.
"""

from pathlib import Path

import numpy as np
import torch
from optim_problem import CASES, RATE, STEPS, gradients, params


def run(torch_class: str, options: dict) -> dict[str, np.ndarray]:
    tensors = {name: torch.tensor(a, requires_grad=True) for name, a in params().items()}
    optimizer = getattr(torch.optim, torch_class)(list(tensors.values()), lr=RATE, **options)
    for step in range(STEPS):
        grads = gradients({name: t.detach().numpy() for name, t in tensors.items()}, step)
        for name, t in tensors.items():
            t.grad = torch.tensor(grads[name])
        optimizer.step()
    return {name: t.detach().numpy() for name, t in tensors.items()}


if __name__ == "__main__":
    arrays = {f"{case}.{name}": a for case, (_, cls, kw) in CASES.items() for name, a in run(cls, kw).items()}
    np.savez(Path(__file__).with_name("optim.npz"), torch_version=np.array(torch.__version__), **arrays)
