"""Rung 1: NumPy. Layers that hold their own parameters and stack to any height, and a model of words over sentences.

New since rung 0: arrays, batches of B rows, layers that stack, and peepholes (Gers & Schmidhuber 2000):

    a = Wx x + Wh h + b in four blocks ai af ag ao;   with peepholes   ai += Pi c   af += Pf c   ao += Po c'
    i = sigmoid(ai)   f = sigmoid(af)   g = tanh(ag)   c' = f c + i g   o = sigmoid(ao)   h' = o tanh(c')

Lists hold one array a step, in the order of time both ways: `dxlist[t]` belongs to `xlist[t]`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import Array, as_kind, check_memory, check_number, check_size
from ..errors import UnrolledError
from ..pictures import draw_losses
from ..seeding import generator
from .given import as_arrays, as_steps, as_symbols, check, check_grads

Steps = Sequence[Array] | Array
State = tuple[Array, ...]
Grads = dict[str, Array]


def sigmoid(a: Array) -> Any:
    """1 / (1 + exp(-a)), written so that nothing overflows."""
    return 0.5 * (1 + np.tanh(0.5 * a))


def draw(rng: np.random.Generator, rows: int, columns: int, h_dim: int) -> Any:
    """U(-1/sqrt(H), 1/sqrt(H)): a sum of about H products then has a spread below one."""
    return rng.uniform(-1, 1, (rows, columns)) / np.sqrt(h_dim)


class RNNLayer:
    """h' = tanh(Wx x + Wh h + b)   (Elman 1990). x is (B, I), or (B,) integers, which stand for one-hot vectors."""

    blocks, fields = 1, 1  # row blocks of the weights; arrays in the state

    def __init__(self, in_dim: int, h_dim: int, rng: np.random.Generator | int | None = None) -> None:
        self.in_dim, self.h_dim = check_size("in_dim", in_dim), check_size("h_dim", h_dim)
        rng, rows = generator(rng), self.blocks * self.h_dim
        check_memory(rows * (self.in_dim + self.h_dim + 1), "float64")
        self.params = {"Wx": draw(rng, rows, in_dim, h_dim), "Wh": draw(rng, rows, h_dim, h_dim), "b": np.zeros(rows)}
        self.tape: list[tuple[Array, State, State, State]] = []
        self.used: Grads = {}  # the parameters of the last forward pass, whatever is changed after it

    def step(self, a: Array, s: State) -> tuple[State, State]:
        """Pre-activations (B, rows) and the old state -> the new state, and the gates."""
        return (np.tanh(a),), ()

    def step_back(self, ds: State, s: State, new: State, gates: State, grads: Grads) -> tuple[Array, tuple[Any, ...]]:
        """Gradient of the new state -> of a, and of the old state where it does not pass through a."""
        return ds[0] * (1 - new[0] * new[0]), (0,)

    def forward(self, xlist: Steps, state: State | None = None) -> tuple[list[Array], State]:
        """One loop over time: inputs -> outputs h (B, H), and the final state. The layer remembers the way."""
        xlist, p = as_steps("xlist", xlist, self.in_dim), {name: w.copy() for name, w in self.params.items()}
        s = as_arrays("state", state, (len(xlist[0]), self.h_dim), self.fields)
        self.tape, self.used = [], p
        for x in xlist:
            ax = p["Wx"].T[x] if x.dtype.kind == "i" else x @ p["Wx"].T
            new, gates = self.step(ax + s[0] @ p["Wh"].T + p["b"], s)
            self.tape.append((x, s, new, gates))
            s = new
        return [new[0].copy() for _, _, new, _ in self.tape], tuple(field.copy() for field in s)

    def bptt(self, dslist: Steps, dstate: State | None = None) -> tuple[list[Array], State, Grads]:
        """One loop back: gradients of the outputs -> of the inputs, of the first state, and of the parameters."""
        check(len(self.tape) > 0, "the number of steps", 0, "1 or more: call forward first")
        dxlist, grads = [], {name: np.zeros_like(w) for name, w in self.used.items()}
        shape = self.tape[-1][2][0].shape
        dslist = as_arrays("dslist", dslist, shape, len(self.tape))
        ds: State = as_arrays("dstate", dstate, shape, self.fields)
        for dh, (x, s, new, gates) in zip(reversed(dslist), reversed(self.tape), strict=True):
            da, passed = self.step_back((ds[0] + dh, *ds[1:]), s, new, gates, grads)
            if x.dtype.kind == "i":
                np.add.at(grads["Wx"].T, x, da)  # adds twice where a symbol stands in two rows
            else:
                grads["Wx"] += da.T @ x
                dxlist.append(da @ self.used["Wx"])
            grads["Wh"] += da.T @ s[0]
            grads["b"] += da.sum(axis=0)
            ds = (passed[0] + da @ self.used["Wh"], *passed[1:])  # carried to the step before
        return dxlist[::-1], ds, grads


class LSTMLayer(RNNLayer):
    """c' = f c + i g,  h' = o tanh(c');  with peepholes also P (3, H), whose rows are those of i, f, o."""

    blocks, fields = 4, 2

    def __init__(
        self, in_dim: int, h_dim: int, rng: np.random.Generator | int | None = None, *, peephole: bool = False
    ) -> None:
        peephole = as_kind("peephole", peephole, "bool")
        super().__init__(in_dim, h_dim, rng := generator(rng))
        self.params["b"][h_dim : 2 * h_dim] = 1  # an open forget gate
        self.params |= {"P": draw(rng, 3, h_dim, h_dim)} if peephole else {}

    def step(self, a: Array, s: State) -> tuple[State, State]:
        """Pre-activations (B, 4 H) and the old h, c -> the new h, c, and the gates."""
        (ai, af, ag, ao), c, P = np.split(a, 4, axis=1), s[1], self.params.get("P", np.zeros((3, 1)))
        i, f, g = sigmoid(ai + P[0] * c), sigmoid(af + P[1] * c), np.tanh(ag)
        c = f * c + i * g
        o = sigmoid(ao + P[2] * c)
        return (o * np.tanh(c), c), (i, f, g, o)

    def step_back(self, ds: State, s: State, new: State, gates: State, grads: Grads) -> tuple[Array, tuple[Any, ...]]:
        """Gradient of a (B, 4 H), and (0, dc): the old c is reached by the forget gate and the peepholes."""
        (dh, dc), (_, c_old), (_, c), (i, f, g, o) = ds, s, new, gates
        P, tc = self.used.get("P", np.zeros((3, 1))), np.tanh(c)
        dao = dh * tc * o * (1 - o)
        dc = dc + dh * o * (1 - tc * tc) + dao * P[2]
        dai, daf, dag = dc * g * i * (1 - i), dc * c_old * f * (1 - f), dc * i * (1 - g * g)
        if "P" in grads:
            grads["P"] += [(dai * c_old).sum(axis=0), (daf * c_old).sum(axis=0), (dao * c).sum(axis=0)]
        return np.hstack([dai, daf, dag, dao]), (0, dc * f + dai * P[0] + daf * P[1])


class OutputLayer:
    """p = softmax(Wy h + by)."""

    def __init__(self, h_dim: int, out_dim: int, rng: np.random.Generator | int | None = None) -> None:
        self.h_dim, self.out_dim = check_size("h_dim", h_dim), check_size("out_dim", out_dim)
        check_memory(self.out_dim * (self.h_dim + 1), "float64")
        self.params = {"Wy": draw(generator(rng), out_dim, h_dim, h_dim), "by": np.zeros(out_dim)}
        self.p = np.zeros((0, 0, out_dim))

    def forward(self, hlist: Steps) -> list[Array]:
        """Probabilities (B, V) of every step."""
        self.h = np.array(as_steps("hlist", hlist, self.h_dim))
        self.Wy = self.params["Wy"].copy()
        a = self.h @ self.Wy.T + self.params["by"]
        e = np.exp(a - a.real.max(axis=2, keepdims=True))
        self.p = e / e.sum(axis=2, keepdims=True)
        return list(self.p.copy())

    def bptt(self, targets: Steps) -> tuple[Any, list[Array], Grads]:
        """Loss, the mean of -log p[target] in nats; its gradient by every h, and by the parameters."""
        check(len(self.p) > 0, "the number of steps", 0, "1 or more: call forward first")
        y = as_symbols("targets", targets, self.p.shape[:2], self.out_dim)
        loss = -np.log(np.take_along_axis(self.p, y[..., None], axis=2)).mean()
        da = (self.p - np.eye(self.p.shape[2])[y]) / y.size
        dWy, dby = np.einsum("tbv,tbh->vh", da, self.h), da.sum(axis=(0, 1))
        return loss, list(da @ self.Wy), {"Wy": dWy, "by": dby}


class Stack:
    """Layers, the lowest first, and an output layer on top; parameters and gradients are lists in that order."""

    def __init__(self, layers: Sequence[Any], output: OutputLayer) -> None:
        fits = isinstance(layers, (list, tuple)) and all(hasattr(layer, "bptt") for layer in layers)
        check(fits, "layers", layers, "a list of layers, such as LSTMLayer(in_dim, h_dim)")
        check(isinstance(output, OutputLayer), "output", output, "an OutputLayer")
        self.layers, self.output = list(layers), output
        self.params: list[Grads] = [layer.params for layer in (*layers, output)]

    def forward(self, xlist: Steps, states: Sequence[State] = ()) -> tuple[list[Array], list[State]]:
        """Inputs -> probabilities of every step, and each layer's final state."""
        check(isinstance(states, (list, tuple)), "states", states, "a list, one state a layer")
        check(len(states) in (0, len(self.layers)), "len(states)", len(states), f"one a layer, {len(self.layers)}")
        final = []
        for n, layer in enumerate(self.layers):
            xlist, state = layer.forward(xlist, states[n] if states else None)
            final.append(state)
        return self.output.forward(xlist), final

    def gradients(self, xlist: Steps, targets: Steps, states: Sequence[State] = ()) -> tuple[Any, list[Grads], Any]:
        """Loss, its gradient by every layer's parameters, and the states to go on from."""
        _, final = self.forward(xlist, states)
        loss, dslist, own = self.output.bptt(targets)
        grads = [own]
        for layer in reversed(self.layers):
            dslist, _, own = layer.bptt(dslist)
            grads.insert(0, own)
        return loss, grads, final

    def update(self, grads: Sequence[Grads], lr: float) -> None:
        """W <- W - lr dW."""
        lr = check_number("lr", lr)
        check(isinstance(grads, (list, tuple)), "grads", grads, "a list, a dictionary a layer")
        check(len(grads) == len(self.params), "len(grads)", len(grads), f"one a layer, {len(self.params)}")
        for n, params in enumerate(self.params):
            check_grads(f"grads[{n}]", grads[n], params)
        for params, own in zip(self.params, grads, strict=True):
            for name, w in params.items():
                w -= lr * own[name]


class WordModel(Stack):
    """The next word of a sentence. Words 0, 1, 2 are unknown, start and end; then the `limit` most frequent ones."""

    def __init__(self, text: str, h_dims: Sequence[int] = (40,), *, layer: Any = LSTMLayer, limit: int = 1000) -> None:
        check(isinstance(text, str), "text", type(text), "a str")
        check(isinstance(h_dims, (tuple, list)), "h_dims", h_dims, "a list of one h_dim or more")
        found = [re.findall(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?]", s) for s in re.split(r"(?<=[.!?])\s+", text.lower())]
        if not any(found) or not h_dims:
            raise UnrolledError("a model of words needs a text with words, and one h_dim or more")
        counts = Counter(word for words in found for word in words).most_common(check_size("limit", limit))
        self.words = ["<unknown>", "<start>", "<end>", *(word for word, _ in counts)]
        index = {word: n for n, word in enumerate(self.words)}
        self.sentences = [np.array([[1], *([index.get(w, 0)] for w in words), [2]]) for words in found if words]
        self.loss_history = list[float]()
        dims, rng = [len(self.words), *h_dims], np.random.default_rng(0)
        super().__init__([layer(*d, rng) for d in zip(dims, h_dims, strict=False)], OutputLayer(dims[-1], dims[0], rng))

    def train(self, epochs: int, lr: float = 0.5) -> list[float]:
        """One update a sentence; lr is halved when an epoch's loss rises. Returns the epochs' losses, nats a word."""
        losses, count = [], sum(len(ids) - 1 for ids in self.sentences)
        lr = check_number("lr", lr)
        for _ in range(check_size("epochs", epochs, least=0)):
            total = 0.0
            for ids in self.sentences:
                loss, grads, _ = self.gradients(ids[:-1], ids[1:])
                self.update(grads, lr)
                total += float(loss) * (len(ids) - 1)
            check(bool(np.isfinite(total)), "the loss of an epoch", total, f"finite: try an lr below {lr}")
            losses.append(total / count)
            lr /= 2 if losses[-1] > losses[-2:][0] else 1
        self.loss_history += losses
        return losses

    def plot_loss(self) -> Any:
        """Draw the losses over the epochs; returns matplotlib's axes."""
        epochs = range(1, len(self.loss_history) + 1)
        return draw_losses({"loss": (epochs, self.loss_history)}, "epochs", "nats a word")

    def generate(self, rng: np.random.Generator | int | None = None, longest: int = 30) -> str:
        """Draw a sentence, word by word, up to the end; unknown and start are never drawn."""
        ids, states, rng, longest = [1], list[State](), generator(rng), check_size("longest", longest)
        while ids[-1] != 2 and len(ids) <= longest:
            (p,), states = self.forward([np.array(ids[-1:])], states)
            ids.append(2 + int(rng.choice(len(self.words) - 2, p=p[0, 2:] / p[0, 2:].sum())))
        return " ".join(self.words[n] for n in ids[1:] if n != 2)
