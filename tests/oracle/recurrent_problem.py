"""The stacks that are compared with PyTorch, and the numbers that go in."""

from itertools import product

import numpy as np

T, B, I, H = 6, 3, 4, 5
KINDS = {"rnn_tanh": "RNN", "rnn_relu": "RNN", "lstm": "LSTM", "gru_reset_after": "GRU"}
CASES = [
    f"{cell}/{layers}/{'bias' if bias else 'nobias'}/{'both' if both else 'one'}/{'lengths' if lengths else 'full'}"
    for cell, layers, bias, (both, lengths) in product(
        KINDS, (1, 2, 3), (True, False), ((False, False), (True, False), (True, True))
    )
]
LENGTHS = np.array([4, 6, 1])
# Kept entry by entry; of the others a summary.
IN_FULL = [f"{cell}/2/bias/both/lengths" for cell in KINDS]


def summary(case: str, a: np.ndarray) -> np.ndarray:
    """The array itself where it is kept in full; else three random projections and four entries.

    A projection is a sum of all entries with weights of their own: no wrong, moved or missing entry leaves it as it is.
    """
    flat = a.ravel()
    if case in IN_FULL:
        return flat
    weights = np.random.default_rng(len(flat)).normal(size=(3, len(flat)))
    return np.concatenate([weights @ flat, flat[np.linspace(0, len(flat) - 1, 4).astype(int)]])


def read(case: str) -> tuple[str, int, bool, bool, bool]:
    cell, layers, bias, both, lengths = case.split("/")
    return cell, int(layers), bias == "bias", both == "both", lengths == "lengths"


def numbers(case: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Parameters, x, initial states, and the gradients of outputs and final states, from the case's own seed."""
    rng = np.random.default_rng([CASES.index(case), 77])
    _, layers, _, both, _ = read(case)
    state = (layers * (1 + both), B, H)
    extra = {"x": (T, B, I), "h": state, "c": state, "dy": (T, B, H * (1 + both)), "dh": state, "dc": state}
    return {name: rng.normal(scale=0.5, size=shape) for name, shape in (shapes | extra).items()}
