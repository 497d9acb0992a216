"""Rung 2: a model and its solver. Layers as pairs of functions, rows of a text side by side, five update rules.

New since rung 1: an embedding, x = E[symbol]; functions (out, cache) and their gradients in the place of objects;
Wx x of all steps in one product before the loop over time; B rows of a text, each with an h and c of its own that are
carried from batch to batch. Arrays are (T, B, ...). A state is (h, c), or (h,) in a vanilla layer, each (B, H).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array, as_array, check_memory, check_number, check_size, check_weight
from ..data.batches import lanes
from ..errors import brief
from ..pictures import draw_losses
from ..seeding import generator
from .given import as_arrays, as_shaped, as_symbols, check
from .layers import Grads, State, draw, sigmoid


def embed_forward(symbols: Array, E: Array) -> tuple[Array, Any]:
    """Symbols (T, B) -> rows of E, x (T, B, D)."""
    E = as_shaped("E", E, None, None)
    symbols = as_symbols("symbols", symbols, None, len(E))
    return E[symbols], (symbols, E.shape)


def embed_backward(dx: Array, cache: Any) -> Array:
    """Gradient of E: rows of dx, added up where a symbol stands more than once."""
    dE = np.zeros(cache[1])
    np.add.at(dE, cache[0], dx)
    return dE


def affine_forward(x: Array, W: Array, b: Array) -> tuple[Array, Any]:
    """a = W x + b at every step: (T, B, D) -> (T, B, rows of W)."""
    x = as_shaped("x", x, None, None, None)
    W = as_shaped("W", W, None, x.shape[-1])
    return x @ W.T + as_shaped("b", b, len(W)), (x, W)


def affine_backward(da: Array, cache: Any) -> tuple[Array, Array, Array]:
    """Gradients of x, W and b."""
    x, W = cache
    return da @ W, np.tensordot(da, x, ([0, 1], [0, 1])), da.sum(axis=(0, 1))


def step_forward(a: Array, s: State) -> tuple[State, State]:
    """Pre-activations and the old state -> the new state, cache. a is (B, 4 H) in the order i f g o, vanilla (B, H)."""
    if len(s) == 1:
        return (np.tanh(a),), (np.tanh(a),)
    (ai, af, ag, ao), c_old = np.split(a, 4, axis=1), s[1]
    i, f, g, o = sigmoid(ai), sigmoid(af), np.tanh(ag), sigmoid(ao)
    c = f * c_old + i * g
    tc = np.tanh(c)
    return (o * tc, c), (i, f, g, o, c_old, tc)


def step_backward(ds: State, cache: State) -> tuple[Array, State]:
    """Gradient of the new state -> of a, and of what the old state holds beside h."""
    if len(ds) == 1:
        return ds[0] * (1 - cache[0] * cache[0]), ()
    (dh, dc), (i, f, g, o, c_old, tc) = ds, cache
    dc = dc + dh * o * (1 - tc * tc)
    da = [dc * g * i * (1 - i), dc * c_old * f * (1 - f), dc * i * (1 - g * g), dh * tc * o * (1 - o)]
    return np.hstack(da), (dc * f,)


def sequence_forward(x: Array, s: State, Wx: Array, Wh: Array, b: Array) -> tuple[tuple[Array, State], Any]:
    """Inputs x (T, B, D) and the first state -> h of every step (T, B, H) and the final state, cache."""
    ax, cache_x = affine_forward(x, Wx, b)
    Wh = as_shaped("Wh", Wh, ax.shape[-1], None)
    fields = 1 if len(Wh) == Wh.shape[1] else 2  # of a vanilla layer, of an LSTM
    s = as_arrays("s", s, (ax.shape[1], Wh.shape[1]), fields)
    h, kept = [s[0]], []
    for a in ax:
        s, cache = step_forward(a + s[0] @ Wh.T, s)
        h.append(s[0])
        kept.append(cache)
    return (np.array(h[1:]), s), (cache_x, np.array(h[:-1]), kept, Wh)


def sequence_backward(dh: Array, ds: State, cache: Any) -> tuple[Array, State, Array, Array, Array]:
    """Gradients of h (T, B, H) and of the final state -> of x, the first state, Wx, Wh, b."""
    cache_x, h_old, kept, Wh = cache
    da = np.empty((*dh.shape[:2], len(Wh)))
    for t in reversed(range(len(dh))):
        da[t], passed = step_backward((ds[0] + dh[t], *ds[1:]), kept[t])
        ds = (da[t] @ Wh, *passed)  # carried to the step before
    dx, dWx, db = affine_backward(da, cache_x)
    return dx, ds, dWx, np.tensordot(da, h_old, ([0, 1], [0, 1])), db


def softmax_loss(a: Array, targets: Array) -> tuple[float, Array]:
    """Mean of -log p[target] in nats, p = softmax(a); and the gradient of a, (p - one-hot(target)) / (T B)."""
    a = as_shaped("a", a, None, None, None)
    targets = as_symbols("targets", targets, a.shape[:2], a.shape[2])
    a, one_hot = a - a.max(axis=2, keepdims=True), np.eye(a.shape[2])[targets]
    log_p = a - np.log(np.exp(a).sum(axis=2, keepdims=True))
    return -float(log_p[one_hot == 1].mean()), (np.exp(log_p) - one_hot) / targets.size


class RNN:
    """Symbols -> embedding -> a recurrent layer -> the next symbol. `idx_to_char[k]` shows what symbol k is."""

    def __init__(
        self, vocab_dim: int, idx_to_char: Any, input_dim: int = 30, hidden_dim: int = 25, cell_type: str = "lstm"
    ) -> None:
        check(
            isinstance(cell_type, str) and cell_type in ("lstm", "vanilla"),
            "cell_type",
            cell_type,
            "'lstm' or 'vanilla'",
        )
        given = {"vocab_dim": vocab_dim, "input_dim": input_dim, "hidden_dim": hidden_dim}
        (V, D, H), rng = (check_size(name, value) for name, value in given.items()), np.random.default_rng(0)
        check(
            isinstance(idx_to_char, (str, list, tuple, dict)),
            "idx_to_char",
            idx_to_char,
            "a list of symbols, or a dict",
        )
        check(len(idx_to_char) == V, "len(idx_to_char)", len(idx_to_char), f"vocab_dim, {V}")
        self.vocab_dim, self.idx_to_char, self.cell_type = V, idx_to_char, cell_type
        check_memory(V * (D + H) + 4 * H * (D + H + 1), "float64")
        rows = 4 * H if cell_type == "lstm" else H
        self.params = {"E": rng.standard_normal((V, D)), "Wx": draw(rng, rows, D, H), "Wh": draw(rng, rows, H, H)}
        self.params |= {"b": np.zeros(rows), "Wy": draw(rng, V, H, H), "by": np.zeros(V)}
        self.params["b"][H : 2 * H] = 1  # an open forget gate; a vanilla layer has no such rows

    def forward(self, symbols: Array, state: State = ()) -> tuple[Array, State, Any]:
        """Symbols (T, B) and a state, or zeros -> scores of every next symbol (T, B, V), the final state, caches."""
        E, Wx, Wh, b, Wy, by = (self.params[name] for name in ("E", "Wx", "Wh", "b", "Wy", "by"))
        x, cache_x = embed_forward(symbols, E)
        state = as_arrays("state", state, (x.shape[1], Wh.shape[1]), 2 if self.cell_type == "lstm" else 1)
        (h, new), cache_h = sequence_forward(x, state, Wx, Wh, b)
        a, cache_y = affine_forward(h, Wy, by)
        return a, new, (cache_x, cache_h, cache_y)

    def gradients(self, symbols: Array, targets: Array, state: State = ()) -> tuple[float, Grads, State]:
        """Loss, its gradient by every parameter, and the state to go on from."""
        a, new, (cache_x, cache_h, cache_y) = self.forward(symbols, state)
        loss, da = softmax_loss(a, targets)
        dh, dWy, dby = affine_backward(da, cache_y)
        behind = tuple(np.zeros_like(field) for field in new)  # nothing comes from behind the window
        dx, _, dWx, dWh, db = sequence_backward(dh, behind, cache_h)
        return loss, {"E": embed_backward(dx, cache_x), "Wx": dWx, "Wh": dWh, "b": db, "Wy": dWy, "by": dby}, new

    def sample(self, seed_idx: int, T: int, *, temperature: float = 1.0, rng: Any = None) -> str:
        """Text of symbol `seed_idx` and T more, each drawn from softmax(a / temperature) after all before it."""
        seed_idx = check_size("seed_idx", seed_idx, 0, self.vocab_dim - 1)
        check((temperature := check_number("temperature", temperature)) > 0, "temperature", temperature, "above 0")
        drawn, state, rng = [seed_idx], State(), generator(rng)
        for _ in range(check_size("T", T, least=0)):
            a, state, _ = self.forward(np.array([drawn[-1:]]), state)
            drawn.append(int((a / temperature + rng.gumbel(size=a.shape)).argmax()))  # is such a draw: Gumbel 1954
        return "".join(self.idx_to_char[k] for k in drawn)


RULES = {  # k, a, K, A, eps of m <- k m + a g, v <- K v + A g^2, W <- W - lr m / (sqrt(v) + eps)
    "sgd": (0, 1, 0, 0, 1),  # Robbins & Monro 1951
    "momentum": (0.9, 1, 0, 0, 1),  # Polyak 1964
    "adagrad": (0, 1, 1, 1, 1e-10),  # Duchi, Hazan & Singer 2011
    "rmsprop": (0, 1, 0.99, 0.01, 1e-8),  # Tieleman & Hinton 2012
    "adam": (0.9, 0.1, 0.999, 0.001, 1e-8),  # Kingma & Ba 2015
}


def direction(rule: str, g: Array, moments: list[Any], n: int) -> Any:
    """Return what update n = 1, 2, ... takes lr times from W, by the rule, for gradient g; move moments m, v on."""
    (k, a, K, A, eps), (m, v) = RULES[rule], moments
    moments[:] = m, v = k * m + a * g, K * v + A * g * g
    if rule == "adam":  # both began at 0; they are corrected where they are used, not where they are kept
        m, v = m / (1 - k**n), v / (1 - K**n)
    return m / (np.sqrt(v) + eps)


@dataclass
class Solver:
    """Train a model on a text of whole numbers. The rate is lr lr_decay^k after k times `decay_every` updates."""

    data: Any
    model: RNN
    seq_length: int = 25
    batch_size: int = 8
    lr: float = 2e-3
    num_iters: int = 2000
    update_rule: str = "RMSProp"
    print_every: int = 100
    lr_decay: float = 0.95
    decay_every: int = 500

    def __post_init__(self) -> None:
        data, self.rule = as_array("data", self.data).ravel(), brief(self.update_rule).strip("'").lower()
        check(isinstance(self.model, RNN), "model", self.model, "an RNN")
        check(self.rule in RULES, "update_rule", self.update_rule, f"one of {', '.join(RULES)}")
        self.batches = lanes(data, self.batch_size, self.seq_length, name="data")  # B rows, read side by side
        for name, least in {"num_iters": 0, "print_every": 0, "decay_every": 1}.items():
            setattr(self, name, check_size(name, getattr(self, name), least))
        self.lr, self.lr_decay = check_weight("lr", self.lr), check_weight("lr_decay", self.lr_decay)
        check((top := int(data.max())) < (V := self.model.vocab_dim), "max(data)", top, f"below vocab_dim, {V}")
        self.moments: dict[str, list[Any]] = {name: [0, 0] for name in self.model.params}
        self.loss_history, self.state = list[float](), State()

    def train(self) -> None:
        """Make `num_iters` more updates; every row goes on from its own h and c, until the text begins anew."""
        for n in range(len(self.loss_history), len(self.loss_history) + self.num_iters):
            x, y = self.batches[k := n % len(self.batches)]
            loss, grads, self.state = self.model.gradients(x, y, self.state if k else ())
            check(np.isfinite(loss), f"the loss of update {n + 1}", loss, f"finite: try an lr below {self.lr}")
            rate = self.lr * self.lr_decay ** (n // self.decay_every)
            for name, w in self.model.params.items():
                w -= rate * direction(self.rule, grads[name], self.moments[name], n + 1)
            self.loss_history.append(loss)
            if self.print_every and (n + 1) % self.print_every == 0:
                print(f"{n + 1:6d} updates   loss {np.mean(self.loss_history[-self.print_every :]):.3f} nats a symbol")

    def plot_loss(self) -> Any:
        """Draw the losses over the updates; returns matplotlib's axes."""
        updates = range(1, len(self.loss_history) + 1)
        return draw_losses({"loss": (updates, self.loss_history)}, "updates", "nats a symbol")
