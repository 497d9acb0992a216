"""Rung 0: an LSTM in plain Python. Numbers in lists, gradients by hand, nothing imported but the standard library.

    python plain.py                     learns one sentence in ten seconds, and prints its loss
    python plain.py "a text of yours"   learns that

Letters, the same on every rung: x the input symbol, h the output ("hidden state"), c the cell; input gate i, forget
gate f, candidate g, output gate o. An `a` in front is a pre-activation, a `d` in front the gradient of the loss.

    ai = Wx[i] x + Wh[i] h + b[i]    and the same for f, g, o: four blocks of H rows in Wx, Wh, b, in the order i f g o
    i = sigmoid(ai)    f = sigmoid(af)    g = tanh(ag)    o = sigmoid(ao)
    c' = f c + i g     h' = o tanh(c')    p = softmax(Wy h' + by)

Hochreiter & Schmidhuber 1997, "Long short-term memory"; the forget gate: Gers, Schmidhuber & Cummins 2000.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from operator import index, mul
from typing import Any

Vector = list[float]
Matrix = list[Vector]


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a)), written so that nothing overflows."""
    return 0.5 * (1 + math.tanh(0.5 * a))


def softmax(a: Vector) -> Vector:
    """exp(a) / sum(exp(a)); the largest is taken off first, so that nothing overflows."""
    top = max(a)
    e = [math.exp(v - top) for v in a]
    total = sum(e)
    return [v / total for v in e]


def dot(u: Sequence[float], v: Sequence[float]) -> float:
    """Sum of the products."""
    return sum(map(mul, u, v), 0.0)


def check(fits: bool, name: str, value: object, words: str) -> None:
    """Refuse a value that does not fit, in one line."""
    if not fits:
        said = " ".join(repr(value).split())
        raise ValueError(f"{name} is {said if len(said) < 80 else said[:76] + ' ...'}; it must be {words}")


def whole(name: str, value: Any, least: int = 0, most: float = math.inf) -> int:
    """Return a whole number, NumPy's too, as Python's own; say what is none."""
    try:
        number = -1 if isinstance(value, bool) else index(value)
    except TypeError:
        number = -1
    words = f"a whole number, {least} or more" if most == math.inf else f"a whole number from {least} to {most}"
    check(least <= number <= min(most, sys.maxsize), name, value, words)
    return number


def above_0(name: str, value: Any) -> float:
    """Return a number above 0, NumPy's too, as Python's own; say what is none."""
    try:
        number = 0.0 if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = 0.0
    check(0 < number < math.inf, name, value, "a number above 0")
    return number


def symbols(name: str, values: Any, size: int) -> list[int]:
    """Return a list of whole numbers below `size` as Python's own; say which one is none."""
    try:
        values = list(values)
    except TypeError:
        check(False, name, values, "a list of whole numbers")
    return [whole(f"{name}[{n}]", v, 0, size - 1) for n, v in enumerate(values)]


def add_outer(dW: Matrix, da: Vector, v: Vector) -> None:
    """dW[r][k] += da[r] v[k]: the gradient of W in a = W v."""
    for row, d in zip(dW, da, strict=True):
        for k, value in enumerate(v):
            row[k] += d * value


class LSTM_RNN:  # noqa: N801  (the name it has always had)
    """One LSTM layer between symbols that come in and symbols to predict.

    Weights start from U(-1/sqrt(H), 1/sqrt(H)): a pre-activation, a sum of about H products, then has a spread below
    one, where sigmoid and tanh are steep, and no two units start alike. Biases start at 0, the forget gate's at 1: a
    gate open at 0.73 lets gradients reach far back from the first update on (Gers et al. 2000; Jozefowicz et al. 2015).

    `lr` is the learning rate, `in_dim` and `out_dim` are the numbers of symbols, `h_dim` that of units; `window` is how
    many steps a gradient goes back, `clip` its largest entry.
    """

    def __init__(
        self, lr: float, in_dim: int, h_dim: int, out_dim: int, *, window: int = 25, clip: float = 5.0, seed: int = 0
    ) -> None:
        self.lr, self.clip, self.window = above_0("lr", lr), above_0("clip", clip), whole("window", window, 1)
        self.in_dim, self.out_dim = in_dim, out_dim = whole("in_dim", in_dim, 1), whole("out_dim", out_dim, 1)
        self.h_dim = h_dim = whole("h_dim", h_dim, 1)
        self.loss_history: list[float] = []
        rng, bound = random.Random(whole("seed", seed)), 1 / math.sqrt(h_dim)

        def draw(rows: int, columns: int) -> Matrix:
            return [[rng.uniform(-bound, bound) for _ in range(columns)] for _ in range(rows)]

        self.Wx, self.Wh = draw(4 * h_dim, in_dim), draw(4 * h_dim, h_dim)
        self.b = [[1.0 if h_dim <= r < 2 * h_dim else 0.0 for r in range(4 * h_dim)]]  # one row of 4 H numbers
        self.Wy, self.by = draw(out_dim, h_dim), [[0.0] * out_dim]
        self.params = {"Wx": self.Wx, "Wh": self.Wh, "b": self.b, "Wy": self.Wy, "by": self.by}

    def step(self, x: int, h: Vector, c: Vector) -> tuple[Vector, Vector, tuple[Vector, ...]]:
        """One step: symbol x and the old h, c -> the new h, c, and the gates."""
        H, x = self.h_dim, whole("x", x, 0, self.in_dim - 1)
        check(all(isinstance(v, list) and len(v) == H for v in (h, c)), "(h, c)", (h, c), f"two lists of {H} numbers")
        # x stands for a vector with a single 1, at place x: Wx x is column x of Wx
        a = [wx[x] + dot(wh, h) + b for wx, wh, b in zip(self.Wx, self.Wh, self.b[0], strict=True)]
        i = [sigmoid(v) for v in a[:H]]
        f = [sigmoid(v) for v in a[H : 2 * H]]
        g = [math.tanh(v) for v in a[2 * H : 3 * H]]
        o = [sigmoid(v) for v in a[3 * H :]]
        c = [f[k] * c[k] + i[k] * g[k] for k in range(H)]
        h = [o[k] * math.tanh(c[k]) for k in range(H)]
        return h, c, (i, f, g, o)

    def predict(self, h: Vector) -> Vector:
        """Probability of every next symbol."""
        check(isinstance(h, list) and len(h) == self.h_dim, "h", h, f"a list of {self.h_dim} numbers")
        return softmax([dot(w, h) + b for w, b in zip(self.Wy, self.by[0], strict=True)])

    def gradients(
        self, inputs: Sequence[int], targets: Sequence[int], h: Vector, c: Vector
    ) -> tuple[float, dict[str, Matrix], Vector, Vector]:
        """Mean loss in nats over a window, its gradient by every parameter, and the h, c to go on from."""
        inputs, targets = symbols("inputs", inputs, self.in_dim), symbols("targets", targets, self.out_dim)
        H, T, loss = self.h_dim, len(inputs), 0.0
        check(len(targets) == T > 0, "len(targets)", len(targets), f"len(inputs), {T}, and not 0")
        tape = []
        for x, y in zip(inputs, targets, strict=True):
            h_old, c_old = h, c
            h, c, gates = self.step(x, h_old, c_old)
            p = self.predict(h)
            loss -= math.log(max(p[y], 5e-324)) / T
            tape.append((x, y, h_old, c_old, gates, c, h, p))
        d = {name: [[0.0] * len(row) for row in W] for name, W in self.params.items()}
        columns_h, columns_y = list(zip(*self.Wh, strict=True)), list(zip(*self.Wy, strict=True))
        dh, dc = [0.0] * H, [0.0] * H  # nothing comes from behind the window: truncated back-propagation
        for x, y, h_old, c_old, (i, f, g, o), c_new, h_new, p in reversed(tape):
            dy = [v / T for v in p]  # of softmax and logarithm together: p - one-hot(y)
            dy[y] -= 1 / T
            add_outer(d["Wy"], dy, h_new)
            add_outer(d["by"], [1.0], dy)
            # h' is reached from the output and from the step after it; c' inside h' and from the step after it.
            dh = [dh[k] + dot(columns_y[k], dy) for k in range(H)]
            tc = [math.tanh(v) for v in c_new]
            dc = [dc[k] + dh[k] * o[k] * (1 - tc[k] * tc[k]) for k in range(H)]
            da = [dc[k] * g[k] * i[k] * (1 - i[k]) for k in range(H)]
            da += [dc[k] * c_old[k] * f[k] * (1 - f[k]) for k in range(H)]
            da += [dc[k] * i[k] * (1 - g[k] * g[k]) for k in range(H)]
            da += [dh[k] * tc[k] * o[k] * (1 - o[k]) for k in range(H)]
            for row, v in zip(d["Wx"], da, strict=True):
                row[x] += v
            add_outer(d["Wh"], da, h_old)
            add_outer(d["b"], [1.0], da)
            dh = [dot(columns_h[k], da) for k in range(H)]  # carried to the step before
            dc = [dc[k] * f[k] for k in range(H)]
        return loss, d, h, c

    def update(self, d: dict[str, Matrix]) -> None:
        """W <- W - lr dW, each entry of dW cut to [-clip, clip]."""
        fits = isinstance(d, dict) and d.keys() == self.params.keys()
        fits = fits and all([*map(len, d[name])] == [*map(len, W)] for name, W in self.params.items())
        check(fits, "d", d, f"what gradients() returns: {sorted(self.params)}")
        for name, W in self.params.items():
            for row, d_row in zip(W, d[name], strict=True):
                row[:] = [w - self.lr * max(-self.clip, min(self.clip, v)) for w, v in zip(row, d_row, strict=True)]

    def train(self, iterations: int, inputs: Sequence[int], targets: Sequence[int]) -> list[float]:
        """Make `iterations` updates, window by window from the text's start, round and round; return their losses."""
        iterations = whole("iterations", iterations)
        inputs, targets = symbols("inputs", inputs, self.in_dim), symbols("targets", targets, self.out_dim)
        check(len(inputs) == len(targets) > 0, "len(targets)", len(targets), f"len(inputs), {len(inputs)}, and not 0")
        start = len(inputs)
        for n in range(iterations):
            if start >= len(inputs):
                start, h, c = 0, [0.0] * self.h_dim, [0.0] * self.h_dim
            end = start + self.window
            loss, d, h, c = self.gradients(inputs[start:end], targets[start:end], h, c)
            check(math.isfinite(loss), f"the loss of update {n}", loss, f"finite: try an lr below {self.lr}")
            self.update(d)
            self.loss_history.append(loss)
            start = end
        return self.loss_history[len(self.loss_history) - iterations :]

    def plot_loss(self) -> Any:
        """Draw the losses of all updates so far; returns matplotlib's axes. Only this needs a package."""
        try:
            from matplotlib import pyplot
        except ImportError:
            raise ValueError("pictures are drawn with matplotlib; install it: pip install matplotlib") from None
        axes = pyplot.subplots()[1]
        axes.plot(self.loss_history, linewidth=0.8)
        axes.set(xlabel="updates", ylabel="loss, nats a symbol")
        return axes

    def sample(self, start: int, length: int, *, temperature: float = 1.0, seed: int = 0) -> list[int]:
        """Draw `length` symbols, each from the model's probabilities after all before it; `start` is not repeated."""
        check(self.in_dim == self.out_dim, "out_dim", self.out_dim, f"in_dim, {self.in_dim}, to feed symbols back")
        x, length = whole("start", start, 0, self.in_dim - 1), whole("length", length)
        rng, heat = random.Random(whole("seed", seed)), above_0("temperature", temperature)
        h, c, drawn = [0.0] * self.h_dim, [0.0] * self.h_dim, []
        for _ in range(length):
            h, c, _ = self.step(x, h, c)
            logs = [math.log(max(v, 5e-324)) / heat for v in self.predict(h)]
            x = rng.choices(range(self.out_dim), softmax(logs))[0]
            drawn.append(x)
        return drawn


TEXT = "It is a truth universally acknowledged, that a single man in possession of a good fortune, "
TEXT += "must be in want of a wife.\n"  # Jane Austen, Pride and Prejudice


def main(text: str = TEXT) -> None:
    """Learn a text, and print the loss on the way."""
    letters = sorted(set(text))
    tokens = [letters.index(s) for s in text]
    model = LSTM_RNN(lr=2.0, in_dim=len(letters), h_dim=24, out_dim=len(letters), clip=1.0)
    print(f"{len(text)} characters, {len(letters)} different ones; guessing has a loss of {math.log(len(letters)):.3f}")
    for updates in range(50, 601, 50):
        losses = model.train(50, tokens[:-1], tokens[1:])
        print(f"{updates:4d} updates   loss {sum(losses) / 50:.3f} nats a character")
    drawn = model.sample(tokens[0], len(text) - 1, temperature=0.3)
    print(letters[tokens[0]] + "".join(letters[k] for k in drawn))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except ValueError as error:
        print(f"plain.py: {error}", file=sys.stderr)
        sys.exit(2)
