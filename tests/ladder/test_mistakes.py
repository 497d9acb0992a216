"""Every mistake of docs/ladder/mistakes.md, planted as it stands there: the loss still falls, the named check fails."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from unrolled.ladder import layers, plain, solver
from unrolled.ladder.numerical import numerical_gradient

PAGE = (Path(__file__).parents[2] / "docs/ladder/mistakes.md").read_text(encoding="utf-8")
RUNGS = {"plain.py": plain, "layers.py": layers, "solver.py": solver}
T, B, V, D, H = 7, 3, 6, 4, 5
FIVE_POINT = 1e-8  # rounding 1e-16 / step 1e-3 = 1e-13, curvature step^4 = 1e-12, of values some hundred times larger


def symbols(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, V, shape)


def error(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return np.abs(got - want).max() / np.abs(want).max()


# --- models of each rung: weights to change, and loss and gradients of them -------------------------------------------


def of_plain(rung, steps):
    model = rung.LSTM_RNN(0.1, V, H, V)
    x, y = symbols(steps).tolist(), symbols(steps, seed=2).tolist()
    h, c = np.random.default_rng(3).normal(size=(2, H))
    return model.params, lambda: model.gradients(x, y, list(h), list(c))[:2]


def of_layers(rung, steps):
    rng = np.random.default_rng(0)
    stack = rung.Stack([rung.LSTMLayer(V, H, rng), rung.LSTMLayer(H, D, rng)], rung.OutputLayer(D, V, rng))
    states = [tuple(rng.standard_normal((2, B, layer.h_dim))) for layer in stack.layers]
    params = {f"{n} {name}": w for n, own in enumerate(stack.params) for name, w in own.items()}

    def run():
        loss, grads, _ = stack.gradients(symbols(steps, B), symbols(steps, B, seed=2), states)
        return loss, {f"{n} {name}": g for n, own in enumerate(grads) for name, g in own.items()}

    return params, run


def of_solver(rung, steps):
    model = rung.RNN(V, "abcdef", D, H)
    return model.params, lambda: model.gradients(symbols(steps, B), symbols(steps, B, seed=2))[:2]


# --- the checks: how far off a rung is, as a share of what is right ---------------------------------------------------


def gradients_are_what_five_points_say(rung, steps=T):
    make = of_plain if hasattr(rung, "LSTM_RNN") else of_layers if hasattr(rung, "Stack") else of_solver
    (params, run), errors = make(rung, steps), []
    for name, grad in run()[1].items():
        w, was = params[name], np.array(params[name])

        def loss_of(values, w=w):
            w[:] = values.tolist() if isinstance(w, list) else values
            return run()[0]

        found = numerical_gradient(loss_of, was)
        loss_of(was)
        errors.append(error(grad, found))
    return max(errors)


def windows_equal_one_long_pass(rung, rows=B):
    data, model = symbols(rows * 4 * T + 1), rung.RNN(V, "abcdef", D, H)
    short = rung.Solver(data, model, seq_length=T, batch_size=rows, lr=0, num_iters=4, print_every=0)
    short.train()
    texts = data[:-1].reshape(rows, -1), data[1:].reshape(rows, -1)
    alone = [model.gradients(x[:, None], y[:, None])[0] for x, y in zip(*texts, strict=True)]
    return error(np.mean(short.loss_history), np.mean(alone))


def a_rate_of_zero_moves_nothing(rung):
    moved = []
    for rule in rung.RULES:
        model = rung.RNN(V, "abcdef", D, H)
        options = {"batch_size": B, "update_rule": rule, "print_every": 0, "lr_decay": 0, "decay_every": 2}
        decayed = rung.Solver(symbols(200), model, seq_length=T, num_iters=2, **options)
        decayed.train()
        was = {name: w.copy() for name, w in model.params.items()}
        decayed.train()
        moved += [error(w, was[name]) for name, w in model.params.items()]
    return max(moved)


def adam_divides_a_steady_gradient_by_itself(rung, updates=30):
    g, moments = np.array([3.0, -0.2, 0.01]), [0, 0]
    return max(error(rung.direction("adam", g, moments, n), np.sign(g)) for n in range(1, updates + 1))


CHECKS = {  # and how far off a rung may be
    gradients_are_what_five_points_say: FIVE_POINT,
    windows_equal_one_long_pass: 1e-12,  # sums in another order
    a_rate_of_zero_moves_nothing: 0,
    adam_divides_a_steady_gradient_by_itself: 2e-6,  # eps = 1e-8 beside a gradient of 0.01
}
NAMED = {check.__name__: check for check in CHECKS}


# --- planting ---------------------------------------------------------------------------------------------------------

MISTAKES = {
    title: (RUNGS[rung], diff, NAMED[check], float(off) / 100)
    for title, rung, diff, check, off in re.findall(
        r"^## (.*?)\n.*?^Planted in \[`(.*?)`\].*?^```diff\n(.*?)^```\n\nCaught by `(\w+)`: off by ([\d.]+) %\.",
        PAGE,
        re.S | re.M,
    )
}


def plant(rung, diff):
    """The rung's module with the lines of a diff in the place of its own."""
    marked = [(line[0], line[1:]) for line in diff.splitlines(keepends=True)]
    right, wrong = ("".join(text for mark, text in marked if mark != other) for other in "+-")
    source = Path(rung.__file__).read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{rung.__name__} does not have these lines once:\n{right}"
    module = types.ModuleType(f"{rung.__name__}_planted")
    module.__package__ = rung.__package__
    sys.modules[module.__name__] = module  # dataclasses look there
    try:
        exec(compile(source.replace(right, wrong), rung.__file__, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


TEXT = [0, 1, 2, 1, 3, 4, 3, 5] * 40


def losses_of_training(rung):
    """Losses of a short training on a text of eight symbols again and again."""
    if hasattr(rung, "LSTM_RNN"):
        return rung.LSTM_RNN(0.5, V, H, V).train(60, TEXT[:-1], TEXT[1:])
    if hasattr(rung, "Stack"):
        rng, losses = np.random.default_rng(0), []
        stack = rung.Stack([rung.LSTMLayer(V, H, rng), rung.LSTMLayer(H, H, rng)], rung.OutputLayer(H, V, rng))
        for _ in range(200):
            loss, grads, _ = stack.gradients(np.array(TEXT)[:32, None], np.array(TEXT)[1:33, None])
            stack.update(grads, 1.0)
            losses.append(loss)
        return losses
    trained = rung.Solver(TEXT, rung.RNN(V, "abcdef", D, H), 10, B, 0.05, 60, "Adam", 0, 0.9, 10)
    trained.train()
    return trained.loss_history


def test_the_page_has_all_seven():
    assert len(MISTAKES) == PAGE.count("```diff") == 7


@pytest.mark.parametrize(
    ("name", "check"),
    [(name, gradients_are_what_five_points_say) for name in ("plain.py", "layers.py")]
    + [("solver.py", check) for check in CHECKS],
)
def test_the_rungs_pass(name, check):
    assert check(RUNGS[name]) <= CHECKS[check]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of Adam's runaway moments
@pytest.mark.parametrize("title", MISTAKES)
def test_a_planted_mistake_is_caught_though_the_loss_falls(title):
    rung, diff, check, off = MISTAKES[title]
    planted = plant(rung, diff)
    losses = losses_of_training(planted)
    assert losses[-1] < 0.96 * losses[0]  # with Adam's mistake the steps soon become too small for more
    assert CHECKS[check] < 1e-5 < check(planted) == pytest.approx(off, rel=0.05)  # the page rounds


@pytest.mark.parametrize(
    ("title", "weaker"),
    [
        ("The gradient of the inputs in reversed time", {"steps": 1}),
        ("The carried gradient left out", {"steps": 1}),
        ("The last row's state copied to the whole batch", {"rows": 1}),
        ("Adam correcting its stored moments", {"updates": 1}),
    ],
)
def test_a_weaker_check_does_not_catch_it(title, weaker):
    """One step, one row, one update: as the page says, they see nothing."""
    rung, diff, check, _ = MISTAKES[title]
    assert check(plant(rung, diff), **weaker) <= CHECKS[check]
