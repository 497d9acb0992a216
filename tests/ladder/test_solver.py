"""Rung 2: its layer functions are what five points say, its rules the library's; it equals rung 1, and it learns."""

import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.batches import lanes
from unrolled.ladder import solver
from unrolled.ladder.layers import LSTMLayer, OutputLayer, RNNLayer, Stack
from unrolled.ladder.numerical import numerical_gradient
from unrolled.ladder.solver import RNN, RULES, Solver
from unrolled.training.optimizers import make_optimizer

T, B, V, D, H = 7, 3, 9, 4, 5
TOL = 1e-13  # relative to the largest entry: some hundred roundings of 1e-16, in sums taken in another order
FIVE_POINT = 1e-9  # step^4 / 30 = 3e-14 of fifth derivatives up to some thousand times the first; rounding is below it
TEXT = "It is a truth universally acknowledged, that a single man must be in want of a wife. "


def error(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return np.abs(got - want).max() / np.abs(want).max()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def symbols(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, V, shape)


STATES = {"lstm": (normal(B, H, seed=1), normal(B, H, seed=2)), "vanilla": (normal(B, H, seed=1),)}
ROWS = {"lstm": 4 * H, "vanilla": H}


def test_embed_is_what_five_points_say():
    tokens, E, dx = symbols(T, B), normal(V, D), normal(T, B, D)
    assert len(np.unique(tokens)) < tokens.size  # some stand more than once
    _, cache = solver.embed_forward(tokens, E)
    found = numerical_gradient(lambda E: (solver.embed_forward(tokens, E)[0] * dx).sum(), E)
    assert error(solver.embed_backward(dx, cache), found) < FIVE_POINT


def test_affine_is_what_five_points_say():
    given, da = [normal(T, B, D), normal(H, D, seed=1), normal(H, seed=2)], normal(T, B, H)
    _, cache = solver.affine_forward(*given)
    for n, d in enumerate(solver.affine_backward(da, cache)):
        found = numerical_gradient(
            lambda v, n=n: (solver.affine_forward(*given[:n], v, *given[n + 1 :])[0] * da).sum(), given[n]
        )
        assert error(d, found) < FIVE_POINT


@pytest.mark.parametrize("cell", ["lstm", "vanilla"])
def test_step_is_what_five_points_say(cell):
    a, s = normal(B, ROWS[cell]), STATES[cell]
    ds = tuple(normal(B, H, seed=3 + n) for n in range(len(s)))

    def loss(a, *beside):
        new, _ = solver.step_forward(a, (s[0], *beside))
        return sum((d * field).sum() for d, field in zip(ds, new, strict=True))

    da, dbeside = solver.step_backward(ds, solver.step_forward(a, s)[1])
    assert error(da, numerical_gradient(lambda a: loss(a, *s[1:]), a)) < FIVE_POINT
    assert len(dbeside) == len(s) - 1
    for d, c in zip(dbeside, s[1:], strict=True):
        assert error(d, numerical_gradient(lambda c: loss(a, c), c)) < FIVE_POINT


@pytest.mark.parametrize("cell", ["lstm", "vanilla"])
def test_sequence_is_what_five_points_say(cell):
    s, rows = STATES[cell], ROWS[cell]
    given = [normal(T, B, D), *s, *(normal(rows, *n, seed=4) / 2 for n in ((D,), (H,), ()))]
    dh, ds = normal(T, B, H, seed=7), tuple(normal(B, H, seed=8 + n) for n in range(len(s)))

    def forward(values):
        return solver.sequence_forward(values[0], tuple(values[1:-3]), *values[-3:])

    def loss(values):
        h, new = forward(values)[0]
        return (dh * h).sum() + sum((d * field).sum() for d, field in zip(ds, new, strict=True))

    dx, dstate, *dweights = solver.sequence_backward(dh, ds, forward(given)[1])
    for n, d in enumerate([dx, *dstate, *dweights]):
        found = numerical_gradient(lambda v, n=n: loss([*given[:n], v, *given[n + 1 :]]), given[n])
        assert error(d, found) < FIVE_POINT, n


def test_softmax_loss_is_what_five_points_say():
    a, y = normal(T, B, V), symbols(T, B)
    loss, da = solver.softmax_loss(a, y)
    assert error(da, numerical_gradient(lambda a: solver.softmax_loss(a, y)[0], a)) < FIVE_POINT
    assert loss == pytest.approx(ur.reference.losses.cross_entropy(a, y)[0], rel=TOL)
    assert np.isfinite(solver.softmax_loss(1e4 * a, y)[0])


@pytest.mark.parametrize("cell", ["lstm", "vanilla"])
def test_the_model_is_what_five_points_say(cell):
    model, x, y = RNN(V, "abcdefghi", D, H, cell), symbols(T, B), symbols(T, B, seed=2)
    _, grads, _ = model.gradients(x, y, STATES[cell])
    for name, w in list(model.params.items()):

        def loss(v, name=name):
            model.params[name] = v
            return model.gradients(x, y, STATES[cell])[0]

        found = numerical_gradient(loss, w)
        model.params[name] = w
        assert error(grads[name], found) < FIVE_POINT, name


class Embedding:
    """The bottom layer that rung 1 lacks, in its manner."""

    def __init__(self, E):
        self.params = {"E": E}

    def forward(self, xlist, state=None):
        self.x = np.array(xlist)
        return list(self.params["E"][self.x]), ()

    def bptt(self, dslist):
        dE = np.zeros_like(self.params["E"])
        for x, d in zip(self.x, dslist, strict=True):
            np.add.at(dE, x, d)
        return [], (), {"E": dE}


@pytest.mark.parametrize("cell", ["lstm", "vanilla"])
def test_rung_1_equals_rung_2_over_ten_batches_and_their_updates(cell):
    model, rng = RNN(V, "abcdefghi", D, H, cell), np.random.default_rng(0)
    layer = {"lstm": LSTMLayer, "vanilla": RNNLayer}[cell](D, H, rng)
    stack = Stack([Embedding(model.params["E"].copy()), layer], OutputLayer(H, V, rng))
    for params in stack.params[1:]:
        for name, w in params.items():
            w[...] = model.params[name]
    state, states = (), ()
    for n in range(10):
        x, y = symbols(T, B, seed=n), symbols(T, B, seed=n + 50)
        loss, grads, state = model.gradients(x, y, state)
        loss1, grads1, states = stack.gradients(x, y, states)
        own = {name: g for layer in grads1 for name, g in layer.items()}
        assert abs(loss - loss1) < TOL * loss
        assert max(error(grads[name], g) for name, g in own.items()) < TOL
        assert own.keys() == grads.keys() == model.params.keys()
        assert max(error(a, b) for a, b in zip(state, states[1], strict=True)) < TOL
        stack.update(grads1, 0.5)
        for name, w in model.params.items():
            w -= 0.5 * solver.direction("sgd", grads[name], [0, 0], n + 1)
    assert max(error(model.params[name], w) for params in stack.params for name, w in params.items()) < TOL


@pytest.mark.parametrize("rule", RULES)
def test_rules_and_their_decay_are_the_librarys(rule):
    """Twelve updates, the rate cut to 0.6 of itself after each four; the text begins anew after five."""
    data, model = symbols(B * 5 * T + 2), RNN(V, "abcdefghi", D, H)
    params = {name: w.copy() for name, w in model.params.items()}
    library = make_optimizer(rule, params)
    mine = Solver(
        data, model, seq_length=T, batch_size=B, lr=0.02, num_iters=12, update_rule=rule, lr_decay=0.6, decay_every=4
    )
    mine.print_every = 0
    other, state, losses = RNN(V, "abcdefghi", D, H), (), []
    other.params = params
    for n in range(12):
        loss, grads, state = other.gradients(*lanes(data, B, T)[n % 5], state if n % 5 else ())
        library.update(grads, 0.02 * 0.6 ** (n // 4))
        losses.append(loss)
    mine.train()
    # Adagrad and RMSprop divide by the size of gradients, so that roundings of the smallest entries weigh most
    assert error(mine.loss_history, losses) < 100 * TOL
    assert max(error(model.params[name], w) for name, w in params.items()) < 100 * TOL


def test_training_goes_on_where_it_stopped():
    data = symbols(200)
    options = {"seq_length": T, "batch_size": B, "update_rule": "Adam", "print_every": 0}
    whole = Solver(data, RNN(V, "abcdefghi", D, H), num_iters=15, **options)
    parts = Solver(data, RNN(V, "abcdefghi", D, H), num_iters=5, **options)
    whole.train()
    for _ in range(3):
        parts.train()
    assert parts.loss_history == whole.loss_history


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_any_array_of_whole_numbers_is_a_text(dtype):
    history = []
    for data in (symbols(84).tolist(), symbols(84).astype(dtype).reshape(7, 12), symbols(168).astype(dtype)[:84]):
        history.append(Solver(data, RNN(V, "abcdefghi"), seq_length=T, batch_size=B, num_iters=3, print_every=0))
        history[-1].train()
    assert history[0].loss_history == history[1].loss_history
    assert len(history[2].loss_history) == 3


@pytest.mark.parametrize(("cell", "rule", "lr"), [("lstm", "Adam", 0.02), ("vanilla", "RMSProp", 5e-3)])
def test_a_text_is_learned_and_sampled(capsys, cell, rule, lr):
    letters = sorted(set(TEXT))
    data = np.array([letters.index(s) for s in TEXT * 30])
    model = RNN(len(letters), dict(enumerate(letters)), 8, 32, cell)
    trained = Solver(
        data, model, seq_length=20, batch_size=6, lr=lr, num_iters=250, update_rule=rule, print_every=50, decay_every=50
    )
    trained.train()
    assert trained.loss_history[-1] < 0.1 < 3 < trained.loss_history[0]  # guessing is ln 23 = 3.1
    said = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in said] == [50, 100, 150, 200, 250]
    assert float(said[-1].split()[3]) == pytest.approx(np.mean(trained.loss_history[-50:]), abs=5e-4)
    # a vanilla layer knows only from its ninth or so symbol on where in the text it is
    assert TEXT[20:] in model.sample(letters.index("I"), len(TEXT) + 20, temperature=0.3, rng=0)


def test_samples_follow_the_probabilities():
    model = RNN(3, "abc", 2, 2)
    model.params["Wy"][:] = 0
    model.params["by"][:] = np.log([0.5, 0.3, 0.2])
    drawn = model.sample(0, 4000, rng=np.random.default_rng(1))[1:]
    # four standard deviations: sqrt(p (1 - p) / 4000) is 0.008 at most
    assert [drawn.count(s) / 4000 for s in "abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.032)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: RNN(3, "abc", cell_type="gru"), "cell_type is 'gru'; it must be 'lstm' or 'vanilla'"),
        (lambda: RNN(3, "abc", hidden_dim=0), "hidden_dim is 0; it must be a whole number, 1 or more"),
        (lambda: Solver([0, 1] * 200, RNN(2, "ab"), decay_every=0), "decay_every is 0; it must be"),
        (lambda: RNN(3, "ab"), r"len\(idx_to_char\) is 2; it must be vocab_dim, 3"),
        (lambda: RNN(3, "abc").sample(3, 5), "seed_idx is 3; it must be a whole number, from 0 to 2"),
        (lambda: Solver([0, 1] * 200, RNN(2, "ab"), update_rule="adamx"), "update_rule is 'adamx'; it must be one of"),
        (lambda: Solver([0, 2] * 200, RNN(2, "ab")), r"max\(data\) is 2; it must be below vocab_dim, 2"),
        (lambda: Solver([0, 1], RNN(2, "ab")), "data has 2 tokens; batch size 8 x sequence length 25 needs 201"),
        (lambda: Solver([0.5] * 300, RNN(2, "ab")), "float64; expected integers"),
        (lambda: Solver([0, 1] * 200, RNN(2, "ab"), batch_size=0), "batch_size is 0"),
        (
            lambda: Solver([0, 1] * 200, RNN(2, "ab"), lr=1e308, update_rule="SGD").train(),
            "the loss of update 2 is inf; it must be finite",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_solver_says_what_is_wrong(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'unrolled\[plot\]'"):
        Solver([0, 1] * 200, RNN(2, "ab")).plot_loss()


def test_the_loss_is_drawn():
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed").use("Agg")
    drawn = Solver(symbols(200), RNN(V, "abcdefghi"), seq_length=T, batch_size=B, num_iters=4, print_every=0)
    drawn.train()
    (line,) = drawn.plot_loss().get_lines()
    assert line.get_ydata().tolist() == drawn.loss_history
