"""What the gates do, in two vocabularies, over a text; and an LSTM whose Use gate has weights of its own.

The four-gate view, used in teaching, calls by name what the textbook's gates let through:

    textbook                    four-gate view
    input gate i, candidate g   Learn gate      i g
    forget gate f               Forget gate     f c
    cell c'                     Remember gate   c' = f c + i g
    output gate o               Use gate        h' = o u,  u = tanh(c')
                                                with weights of its own:  u = tanh(Wu (f c) + bu)
"""

from typing import Any

import numpy as np

from ..checks import Array, check_size
from ..pictures import pyplot
from .given import check
from .layers import Grads, LSTMLayer, State, dice, draw


class UseGateLayer(LSTMLayer):
    """c' = f c + i g as ever, but h' = o u with u = tanh(Wu (f c) + bu): what is used is what was not forgotten.

    i, f, g, o are those of `LSTMLayer`; Wu is (H, H), bu (H,). What a step learns is in h' one step later.
    """

    def __init__(self, in_dim: int, h_dim: int, rng: np.random.Generator | None = None) -> None:
        super().__init__(in_dim, h_dim, rng := dice(rng))
        self.params |= {"Wu": draw(rng, h_dim, h_dim, h_dim), "bu": np.zeros(h_dim)}

    def step(self, a: Array, s: State) -> tuple[State, State]:
        """Pre-activations (B, 4 H) and the old h, c -> the new h, c, and the gates with u."""
        (_, c), (i, f, g, o) = super().step(a, s)
        u = np.tanh(f * s[1] @ self.params["Wu"].T + self.params["bu"])
        return (o * u, c), (i, f, g, o, u)

    def step_back(self, ds: State, s: State, new: State, gates: State, grads: Grads) -> tuple[Array, tuple[Any, ...]]:
        """Gradient of a (B, 4 H), and (0, dc): f c is reached by the new cell and by u."""
        (dh, dc), c_old, (i, f, g, o, u) = ds, s[1], gates
        du = dh * o * (1 - u * u)
        grads["Wu"] += du.T @ (f * c_old)
        grads["bu"] += du.sum(axis=0)
        kept = dc + du @ self.params["Wu"]  # gradient of f c
        da = [dc * g * i * (1 - i), kept * c_old * f * (1 - f), dc * i * (1 - g * g), dh * u * o * (1 - o)]
        return np.hstack(da), (0, kept * f)


def gates_of(layer: LSTMLayer) -> dict[str, Array]:
    """Gates of the layer's last forward pass, each (T, B, H), under their names in both vocabularies.

    Examples
    --------
    >>> layer = UseGateLayer(4, 5, np.random.default_rng(0))
    >>> _ = layer.forward(np.zeros((7, 3), int))
    >>> found = gates_of(layer)
    >>> list(found)
    ['input i', 'forget f', 'cell c', 'output o', 'learn i g', 'forget f c', 'remember f c + i g', 'use o u']
    >>> np.allclose(found["learn i g"] + found["forget f c"], found["cell c"])
    True
    """
    check(isinstance(layer, LSTMLayer), "the layer", layer, "an LSTMLayer, which has these gates")
    check(len(layer.tape) > 0, "the number of steps", 0, "1 or more: call forward first")
    steps = []
    for _, (_, c_old), (h, c), (i, f, g, o, *_) in layer.tape:
        steps.append([i, f, c, o, i * g, f * c_old, f * c_old + i * g, h])
    use = "use o u" if isinstance(layer, UseGateLayer) else "use o tanh(c)"
    textbook = ["input i", "forget f", "cell c", "output o"]
    names = [*textbook, "learn i g", "forget f c", "remember f c + i g", use]
    return dict(zip(names, np.array(steps).swapaxes(0, 1), strict=True))


def draw_gates(layer: LSTMLayer, text: str, *, row: int = 0, units: int = 12) -> Any:
    """Draw the gates of the layer's last forward pass over its text; returns matplotlib's figure.

    One panel a gate, the textbook's on the left, the four-gate view on the right; a column is a symbol of the text, a
    line of a panel one unit. Gates from 0 to 1 are grey, everything that has a sign is red (above 0) or blue.

    Parameters
    ----------
    layer : LSTMLayer
        After `forward` over the text.
    text : str
        The symbols that went in, T of them.
    row : int
        Which row of the batch.
    units : int
        How many units are shown: those whose tanh(c) moves most from step to step, in the order of when it is largest.

    Raises
    ------
    ValueError
        If the text is not as long as the pass was, there is no such row, or matplotlib is not installed.
    """
    all_rows = gates_of(layer)
    T, B = all_rows["cell c"].shape[:2]
    check(len(text) == T, "len(text)", len(text), f"the number of steps, {T}")
    check(check_size("row", row, least=0) < B, "row", row, f"from 0 to {B - 1}")
    units = check_size("units", units)
    found = {name: values[:, row].T for name, values in all_rows.items()}  # (H, T)
    c = found["cell c"]
    shown = np.argsort(-np.abs(np.diff(np.tanh(c), axis=1)).sum(axis=1))[:units]
    shown = shown[np.argsort(np.abs(c[shown]).argmax(axis=1))]
    figure, axes = pyplot().subplots(4, 2, figsize=(4 + 0.2 * len(text), 8), layout="constrained", sharex=True)
    for n, (name, values) in enumerate(found.items()):
        panel, v = axes[n % 4, n // 4], values[shown]
        signed = name not in ("input i", "forget f", "output o")
        limit = max(1e-12, np.abs(v).max()) if signed else 1
        colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "Greys", "vmin": 0}
        image = panel.imshow(v, aspect="auto", interpolation="nearest", **colours | {"vmax": limit})
        figure.colorbar(image, ax=panel, pad=0.01, aspect=12)
        panel.set(title=name, yticks=[], xticks=range(len(text)), xticklabels=[s.replace("\n", "⏎") for s in text])
        panel.tick_params(length=0, labelbottom=True)
    figure.supylabel(f"{len(shown)} units")
    return figure
