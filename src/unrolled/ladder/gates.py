"""The work of the gates, in two vocabularies, over a text; and an LSTM whose Use gate has weights of its own.

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
from ..seeding import generator
from .given import check
from .layers import Grads, LSTMLayer, State, draw


class UseGateLayer(LSTMLayer):
    """c' = f c + i g as ever, but h' = o u with u = tanh(Wu (f c) + bu): what is used is what was not forgotten.

    i, f, g, o are those of `LSTMLayer`; Wu is (H, H), bu (H,). What a step learns is in h' one step later.
    """

    def __init__(self, in_dim: int, h_dim: int, rng: np.random.Generator | int | None = None) -> None:
        super().__init__(in_dim, h_dim, rng := generator(rng))
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
        kept = dc + du @ self.used["Wu"]  # gradient of f c
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


def story_of(found: dict[str, Array]) -> tuple[int, dict[str, int]]:
    """Return a unit to follow through its gates (H, T), and the steps where it learns, uses and forgets.

    Followed is what is held long, with a forget gate above a half, grows large, and is then let go.
    """
    c, f, learned = found["cell c"], found["forget f"], np.abs(found["learn i g"])
    shown = np.abs(next(values for name, values in found.items() if name.startswith("use")))
    most, best = -1.0, (0, 0, 0, 0)
    for unit, t in np.ndindex(len(c), c.shape[1] - 1):  # held up to t, forgotten at t + 1
        begin = t
        while begin and f[unit, begin] > 0.5:
            begin -= 1
        learn = begin + int(learned[unit, begin : t + 1].argmax())
        worth = abs(c[unit, t]) * max(0.0, 0.5 - f[unit, t + 1]) * (t - learn)
        if worth > most:
            most, best = worth, (unit, learn, learn + int(shown[unit, learn : t + 1].argmax()), t + 1)
    unit, learn, use, forget = best
    return unit, {"learned": learn, "used": use, "forgotten": forget}


PANELS = {  # where each stands: row, columns; which step of the story it shows
    "input i": (0, slice(0, 1), "learned"),
    "learn i g": (0, slice(1, 2), "learned"),
    "forget f": (1, slice(0, 1), "forgotten"),
    "forget f c": (1, slice(1, 2), "forgotten"),
    "cell c": (2, slice(0, 2), ""),
    "output o": (3, slice(0, 1), "used"),
    "use": (3, slice(1, 2), "used"),
}


BESIDE = {"learned": ("right", -4, 20), "used": ("center", 0, 34), "forgotten": ("left", 4, 20)}
"""How the three stand in one panel, at steps that may be neighbours: aligned, so many points to the right and above."""


def _root(a: Array) -> Any:
    return np.sign(a) * np.sqrt(np.abs(a))


def _square(a: Array) -> Any:
    return np.sign(a) * a * a


def draw_gates(layer: LSTMLayer, text: str, *, row: int = 0, units: int = 12) -> Any:
    """Draw the gates of the layer's last forward pass over its text; returns matplotlib's figure.

    A column is a symbol of the text, a line of a panel one unit. Gates from 0 to 1 are grey, black is open; everything
    that has a sign is red (above 0) or blue, by its root, so that small values are seen. The textbook's gates are on
    the left, what they let through on the right; the cell, which the four-gate view calls remember, is one panel for
    both. The unit at the top, framed, is followed: arrows show where it learns, uses and forgets what it held longest.

    Parameters
    ----------
    layer : LSTMLayer
        After `forward` over the text.
    text : str
        The symbols that went in, T of them.
    row : int
        Which row of the batch.
    units : int
        How many units are shown: under the one that is followed, those whose tanh(c) moves most from step to step, in
        the order of when it is largest.

    Raises
    ------
    UnrolledError
        If the text is not as long as the pass was, there is no such row, or matplotlib is not installed.
    """
    all_rows = gates_of(layer)
    T, B = all_rows["cell c"].shape[:2]
    check(len(text) == T, "len(text)", len(text), f"the number of steps, {T}")
    check(check_size("row", row, least=0) < B, "row", row, f"from 0 to {B - 1}")
    units = check_size("units", units)
    found = {name: values[:, row].T for name, values in all_rows.items()}  # (H, T)
    first, story = story_of(found)
    c = found["cell c"]
    moving = [u for u in np.argsort(-np.abs(np.diff(np.tanh(c), axis=1)).sum(axis=1)) if u != first][: units - 1]
    shown = [first, *sorted(moving, key=lambda u: np.abs(c[u]).argmax())]
    plt = pyplot()
    from matplotlib.colors import FuncNorm
    from matplotlib.patches import Rectangle

    figure = plt.figure(figsize=(4 + 0.2 * T, 10), layout="constrained")
    grid = figure.add_gridspec(4, 2)
    for name, values in found.items():
        if name.startswith("remember"):  # the cell by another name
            continue
        line, columns, event = PANELS[name.split(" o ")[0] if name.startswith("use") else name]
        panel, v = figure.add_subplot(grid[line, columns]), values[shown]
        signed = name not in ("input i", "forget f", "output o")
        limit = max(1e-12, np.abs(v).max()) if signed else 1
        colours: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 1}
        if signed:  # the root of a value: a unit that stays small is seen too
            colours = {"cmap": "RdBu_r", "norm": FuncNorm((_root, _square), -limit, limit)}
        image = panel.imshow(v, aspect="auto", interpolation="nearest", **colours)
        ticks = {"ticks": limit * np.array([-1, -0.25, 0, 0.25, 1]), "format": "%.2g"} if signed else {}
        figure.colorbar(image, ax=panel, pad=0.01, aspect=12, **ticks)
        frame: dict[str, Any] = {"facecolor": "none", "edgecolor": "tab:green", "linewidth": 1.6, "clip_on": False}
        panel.add_patch(Rectangle((-0.5, -0.5), T, 1, **frame))
        title = "cell c = remember f c + i g" if name == "cell c" else name
        panel.set_title(title, loc="left", pad=22 if event else 38)  # over the arrows
        panel.set(yticks=[0], yticklabels=["▸"], xticks=range(T), xticklabels=[s.replace("\n", "⏎") for s in text])
        panel.tick_params(length=0, labelbottom=True)
        for what, t in story.items():
            if what == event or not event:
                style: dict[str, Any] = {"color": "tab:green", "va": "bottom", "textcoords": "offset points"}
                style["arrowprops"] = {"arrowstyle": "->", "color": "tab:green", "linewidth": 1.6}
                side, right, above = ("center", 0, 20) if event else BESIDE[what]
                panel.annotate(what, (t, -0.5), (right, above), ha=side, **style)
    figure.supylabel(f"{len(shown)} units")
    return figure
