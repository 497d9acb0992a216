"""Rung 0 = rung 1 = the library: losses, every gradient, weights after ten updates; and the derivatives themselves."""

import subprocess
import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.errors import UnrolledError
from unrolled.ladder import convert, gates, layers, plain, solver
from unrolled.ladder.convert import library_names, network_of, rnn_of, stack_of
from unrolled.ladder.gates import UseGateLayer, draw_gates, gates_of, story_of
from unrolled.ladder.layers import LSTMLayer, OutputLayer, RNNLayer, Stack, WordModel
from unrolled.ladder.numerical import numerical_gradient
from unrolled.ladder.solver import RNN, sequence_backward, sequence_forward
from unrolled.training.optimizers import make_optimizer

T, B, V, W, H, H2 = 7, 3, 6, 9, 5, 4
TOL = 1e-13  # relative to the largest entry: some hundred roundings of 1e-16, in sums taken in another order
COMPLEX = 1e-12  # the same, of a derivative that is exact to rounding
FIVE_POINT = 1e-8  # rounding 1e-16 / step 1e-3 = 1e-13, curvature step^4 = 1e-12, of values some hundred times larger


def error(got, want):
    got, want = np.asarray(got), np.asarray(want)
    return np.abs(got - want).max() / np.abs(want).max()


def symbols(size, *shape, seed=1):
    return np.random.default_rng(seed).integers(0, size, shape)


def arrays(params):
    """Lists of rung 0 -> arrays of rung 1; a bias of one row becomes (4 H,)."""
    return {k: np.array(v[0] if k in ("b", "by") else v) for k, v in params.items()}


def test_rung_0_equals_rung_1_over_ten_windows_and_their_updates():
    model = plain.LSTM_RNN(0.7, V, H, W, window=T, clip=1e9)
    stack, states = stack_of(model), ()
    x, y = symbols(V, 10 * T), symbols(W, 10 * T, seed=2)
    h, c = [0.0] * H, [0.0] * H
    for at in range(0, 10 * T, T):
        here = slice(at, at + T)
        loss, d, h, c = model.gradients(x[here].tolist(), y[here].tolist(), h, c)
        model.update(d)
        loss1, grads, states = stack.gradients(x[here, None], y[here, None], states)
        stack.update(grads, 0.7)
        own = {**grads[0], **grads[1]}
        assert abs(loss - loss1) < TOL * loss
        assert max(error(own[k], g) for k, g in arrays(d).items()) < TOL
        assert max(error([h], states[0][0]), error([c], states[0][1])) < TOL
    now = {**stack.params[0], **stack.params[1]}
    assert max(error(now[k], w) for k, w in arrays(model.params).items()) < TOL


def test_train_of_rung_0_is_those_windows():
    x, y = symbols(V, 3 * T + 2), symbols(W, 3 * T + 2, seed=2)
    model = plain.LSTM_RNN(0.7, V, H, W, window=T, clip=1e9)
    stack, states, want = stack_of(model), (), []
    for at in (0, T, 2 * T, 3 * T, 0, T):  # the fourth window is short, then the text begins anew
        loss, grads, states = stack.gradients(x[at : at + T, None], y[at : at + T, None], states if at else ())
        stack.update(grads, 0.7)
        want.append(loss)
    assert error(model.train(6, x.tolist(), y.tolist()), want) < TOL


def test_gradients_of_rung_0_are_five_point_differences():
    model = plain.LSTM_RNN(0.1, V, H, W)
    x, y, (h, c) = symbols(V, T).tolist(), symbols(W, T, seed=2).tolist(), np.random.default_rng(3).normal(size=(2, H))
    _, d, _, _ = model.gradients(x, y, list(h), list(c))
    for name, rows in model.params.items():
        was = [list(row) for row in rows]

        def loss(w, rows=rows):
            rows[:] = w.tolist()
            return model.gradients(x, y, list(h), list(c))[0]

        assert error(d[name], numerical_gradient(loss, was)) < FIVE_POINT, name
        rows[:] = was


def stacks():
    rng = np.random.default_rng(5)
    top = OutputLayer(H2, W, rng)
    yield "lstm", Stack([LSTMLayer(V, H, rng), LSTMLayer(H, H2, rng)], top)
    yield "peephole", Stack([LSTMLayer(V, H, rng, peephole=True), LSTMLayer(H, H2, rng, peephole=True)], top)
    yield "use gate", Stack([UseGateLayer(V, H, rng), UseGateLayer(H, H2, rng)], top)
    yield "rnn", Stack([RNNLayer(V, H, rng), RNNLayer(H, H2, rng)], top)


@pytest.mark.parametrize(("name", "stack"), list(stacks()), ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("one_hot", [False, True])
def test_gradients_of_rung_1_are_complex_steps(name, stack, one_hot):
    rng = np.random.default_rng(6)
    x, y = symbols(V, T, B) if one_hot else rng.standard_normal((T, B, V)), symbols(W, T, B, seed=2)
    states = [tuple(rng.standard_normal((B, layer.h_dim)) for _ in range(layer.fields)) for layer in stack.layers]
    _, grads, _ = stack.gradients(x, y, states)
    for params, own in zip(stack.params, grads, strict=True):
        for key, w in list(params.items()):
            found = np.zeros_like(w)
            for at in np.ndindex(w.shape):
                params[key] = w.astype(complex)
                params[key][at] += 1e-30j
                stack.forward(x, states)
                found[at] = stack.output.bptt(y)[0].imag / 1e-30
            params[key] = w
            assert error(own[key], found) < COMPLEX, key


def test_rung_1_equals_rung_2_whose_embedding_does_nothing():
    rng = np.random.default_rng(8)
    stack = Stack([LSTMLayer(V, H, rng)], OutputLayer(H, V, rng))
    model, states, state = rnn_of(stack, "abcdef"), (), ()
    for n in range(10):
        x, y = symbols(V, T, B, seed=n), symbols(V, T, B, seed=n + 50)
        loss1, (grads, top), states = stack.gradients(x, y, states)
        loss, own, state = model.gradients(x, y, state)
        assert abs(loss - loss1) < TOL * loss
        assert max(error(own[k], g) for k, g in (grads | top).items()) < TOL
        stack.update([grads, top], 0.5)
        for k in grads | top:
            model.params[k] -= 0.5 * own[k]
    assert max(error(model.params[k], w) for params in stack.params for k, w in params.items()) < TOL


def rung_1(make):
    rng = np.random.default_rng(7)
    return Stack([make(V, H, rng), make(H, H, rng)], OutputLayer(H, V, rng))


LIBRARY = {  # two layers where the rung has them
    "rung 1, lstm": lambda: rung_1(LSTMLayer),
    "rung 1, peepholes": lambda: rung_1(lambda i, h, rng: LSTMLayer(i, h, rng, peephole=True)),
    "rung 1, vanilla": lambda: rung_1(RNNLayer),
    "rung 2, lstm": lambda: RNN(V, "abcdef", W, H),
    "rung 2, vanilla": lambda: RNN(V, "abcdef", W, H, "vanilla"),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_rungs_1_and_2_equal_the_library_over_ten_updates(name):
    """The library has PyTorch's two biases, the rungs their sum: with bias_hh kept at 0 both learn alike."""
    model = LIBRARY[name]()
    net = network_of(model, "reference")
    sgd = make_optimizer("sgd", {k: p for k, p in net.params.items() if "bias_hh" not in k})
    states, state = (), None
    for n in range(10):
        x, y = symbols(V, T, B, seed=n), symbols(V, T, B, seed=n + 50)
        loss1, grads1, states = model.gradients(x, y, states)
        loss, grads, state = net.loss_and_gradients(x, y, state)
        assert abs(loss - loss1) < TOL * loss
        own = library_names(grads1)
        assert own.keys() == sgd.params.keys()
        assert max(error(g, grads[k]) for k, g in own.items()) < TOL
        for k, w in library_names(model.params).items():
            w -= 0.5 * own[k]
        sgd.update(grads, 0.5)
    assert max(error(w, net.params[k]) for k, w in library_names(model.params).items()) < TOL


@pytest.mark.skipif("cpu" not in ur.backends.BACKENDS, reason="the native engine is not built")
@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_equals_the_engine_over_ten_updates(name):
    """All parameters, both biases too; two layers but for rung 2's model."""
    model = LIBRARY[name]()
    nets = [network_of(model, backend) for backend in ("reference", "cpu")]
    assert [net.recurrent.backend for net in nets] == ["reference", "cpu"]
    rules, states = [make_optimizer("sgd", net.params) for net in nets], [None, None]
    for n in range(10):
        x, y = symbols(V, T, B, seed=n), symbols(V, T, B, seed=n + 50)
        (loss, grads, states[0]), (loss1, grads1, states[1]) = (
            net.loss_and_gradients(x, y, state) for net, state in zip(nets, states, strict=True)
        )
        assert abs(loss - loss1) < TOL * loss
        assert max(error(grads1[k], g) for k, g in grads.items()) < TOL
        for rule, own in zip(rules, (grads, grads1), strict=True):
            rule.update(own, 0.5)
    assert max(error(nets[1].params[k], w) for k, w in nets[0].params.items()) < TOL


def test_gates_in_both_vocabularies_are_the_layers_own():
    rng = np.random.default_rng(9)
    layer = LSTMLayer(V, H, rng)
    hlist, _ = layer.forward(symbols(V, T, B), (rng.standard_normal((B, H)), rng.standard_normal((B, H))))
    found = gates_of(layer)
    c = np.stack([new[1] for _, _, new, _ in layer.tape])
    assert error(found["use o tanh(c)"], np.stack(hlist)) == 0
    assert error(found["cell c"], c) == 0
    assert error(found["output o"] * np.tanh(c), np.stack(hlist)) < TOL
    assert error(found["remember f c + i g"], c) < TOL
    assert error(found["forget f c"][1:], found["forget f"][1:] * c[:-1]) < TOL
    assert error(found["learn i g"] + found["forget f c"], c) < TOL


def test_the_use_gate_is_the_librarys_cell():
    rng = np.random.default_rng(12)
    layer, net = UseGateLayer(V, H, rng), ur.Recurrent("lstm_use_gate", V, H, dtype="float64")
    own = layer.params | {"bu": rng.standard_normal(H)}
    layer.params = own
    w = {"weight_ih_l0": own["Wx"], "bias_ih_l0": np.zeros(4 * H)}
    w["weight_hh_l0"] = np.concatenate([own["Wh"], own["Wu"]])
    w["bias_hh_l0"] = np.concatenate([own["b"], own["bu"]])
    net.load_params(w)
    x, state = rng.standard_normal((T, B, V)), (rng.standard_normal((B, H)), rng.standard_normal((B, H)))
    dy, dstate = rng.standard_normal((T, B, H)), (rng.standard_normal((B, H)), rng.standard_normal((B, H)))
    hlist, last = layer.forward(list(x), state)
    dxlist, dfirst, grads = layer.bptt(list(dy), dstate)
    y, new, tape = net.forward(x, tuple(field[None] for field in state))
    dx, before, found = net.backward(tape, dy, tuple(field[None] for field in dstate))
    pairs = [(y, hlist), (dx, dxlist), (found["weight_ih_l0"], grads["Wx"])]
    pairs += [(new[k][0], last[k]) for k in (0, 1)] + [(before[k][0], dfirst[k]) for k in (0, 1)]
    pairs.append((found["weight_hh_l0"], np.concatenate([grads["Wh"], grads["Wu"]])))
    pairs.append((found["bias_hh_l0"], np.concatenate([grads["b"], grads["bu"]])))
    assert all(error(got, want) < TOL for got, want in pairs)


def test_gates_are_drawn_over_a_sentence():
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    matplotlib.use("Agg")
    layer = UseGateLayer(V, H, np.random.default_rng(0))
    layer.forward(symbols(V, T, B))
    figure = draw_gates(layer, "a truth", row=1, units=H2)
    panels = {panel.get_title("left"): panel for panel in figure.axes if panel.get_title("left")}
    found = {name: values[:, 1].T for name, values in gates_of(layer).items()}
    both = "cell c = remember f c + i g"
    found[both] = found.pop("cell c")
    np.testing.assert_array_equal(found[both], found.pop("remember f c + i g"))  # one panel for both
    assert panels.keys() == found.keys()
    unit, story = story_of({name: values[:, 1].T for name, values in gates_of(layer).items()})
    for name, panel in panels.items():
        drawn = panel.get_images()[0].get_array()
        assert drawn.shape == (H2, T)
        assert drawn[0].tolist() == found[name][unit].tolist()
        assert len({tuple(values) for values in drawn} & {tuple(values) for values in found[name]}) == H2
        arrows = {note.get_text(): note.xy[0] for note in panel.texts}
        events = {
            "i": ["learned"],
            "f": ["forgotten"],
            "o": ["used"],
            "u": ["used"],
            "g": ["learned"],
            "c": ["forgotten"],
        }
        assert arrows == (story if name == both else {event: story[event] for event in events[name[-1]]})
        assert [label.get_text() for label in panel.get_xticklabels()] == list("a truth")
    matplotlib.pyplot.close(figure)
    with pytest.raises(ValueError, match=r"len\(text\) is 5; it must be the number of steps, 7"):
        draw_gates(layer, "a tru")
    with pytest.raises(ValueError, match="row is 3; it must be from 0 to 2"):
        draw_gates(layer, "a truth", row=3)


@pytest.mark.parametrize("story", [(2, 3, 4), (2, 2, 3), (0, 5, 6), (0, 0, 0)])
def test_labels_of_neighbouring_steps_do_not_touch(monkeypatch, story):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    matplotlib.use("Agg")
    followed = dict(zip(("learned", "used", "forgotten"), story, strict=True))
    monkeypatch.setattr("unrolled.ladder.gates.story_of", lambda found: (1, followed))
    layer = LSTMLayer(V, H, np.random.default_rng(0))
    layer.forward(symbols(V, T, B))
    figure = draw_gates(layer, "a truth", units=H2)
    figure.canvas.draw()
    (panel,) = (panel for panel in figure.axes if panel.get_title("left").startswith("cell c"))
    boxes = [matplotlib.text.Text.get_window_extent(label) for label in panel.texts]  # without the arrows
    assert len(boxes) == 3
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])
    matplotlib.pyplot.close(figure)


def test_the_unit_that_is_followed_held_something_and_let_it_go():
    """Unit 1 learns at step 1, keeps it, shows it at step 3, forgets at step 5; unit 0 never lets go."""
    f = np.array([[0.9] * 7, [0.2, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1]])
    learned = np.array([[0.5] * 7, [0.0, 0.8, 0.1, 0.1, 0.1, 0.0, 0.0]])
    c = np.array([[5.0] * 7, [0.0, 0.8, 0.9, 1.0, 1.1, 0.1, 0.0]])
    use = np.array([[0.9] * 7, [0.0, 0.1, 0.1, 0.7, 0.1, 0.9, 0.0]])
    found = {"cell c": c, "forget f": f, "learn i g": learned, "use o u": use}
    assert story_of(found) == (1, {"learned": 1, "used": 3, "forgotten": 5})
    one = {name: values[:, :1] for name, values in found.items()}
    assert story_of(one) == (0, {"learned": 0, "used": 0, "forgotten": 0})


@pytest.mark.slow
def test_plain_runs_as_a_file_without_numpy_and_learns_its_sentence():
    run = subprocess.run([sys.executable, "-S", "-I", plain.__file__], capture_output=True, text=True, check=True)
    *log, last = run.stdout.strip().splitlines()
    assert last == plain.TEXT.strip()
    assert float(log[-1].split()[3]) < 0.05


def test_words_are_learned_and_generated():
    model = WordModel("The cat sat on the mat. A dog sat on the log! " * 6, (20,), limit=10)
    assert model.words[:4] == ["<unknown>", "<start>", "<end>", "the"]
    assert model.sentences[0][:3, 0].tolist() == [1, 3, model.words.index("cat")]
    losses = model.train(60, 1.0)
    assert losses[-1] < 0.2 < 2 < losses[0]  # guessing is ln 13 = 2.6; which sentence comes is ln 2 in 7 words
    said = {model.generate(np.random.default_rng(seed)) for seed in range(9)}
    assert said >= {"a dog sat on the log !", "the cat sat on the mat ."}


def test_words_beyond_the_limit_are_unknown_and_never_drawn():
    model = WordModel("The cat sat. The dog ran.", limit=3)
    assert len(model.words) == 6
    assert [ids[:, 0].tolist().count(0) for ids in model.sentences] == [1, 2]
    assert not any("<" in model.generate(np.random.default_rng(seed)) for seed in range(9))


def test_the_rate_is_halved_when_an_epochs_loss_rises(monkeypatch):
    losses, rates = iter([3.0, 2.0, 2.5, 2.6, 1.0, 0.9]), []
    monkeypatch.setattr(WordModel, "gradients", lambda self, x, y: (next(losses), [], []))
    monkeypatch.setattr(WordModel, "update", lambda self, grads, lr: rates.append(lr))
    WordModel("One sentence.").train(6, 0.8)
    assert rates == [0.8, 0.8, 0.8, 0.4, 0.2, 0.2]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plain.LSTM_RNN(0.1, 0, 3, 2), "in_dim is 0; it must be a whole number, 1 or more"),
        (lambda: plain.LSTM_RNN(-1, 2, 3, 2), "above 0"),
        (lambda: plain.LSTM_RNN(0.1, 2, 3, 2).train(1, [0, 2], [0, 1]), r"inputs\[1\] is 2; it must be a"),
        (lambda: plain.LSTM_RNN(0.1, 2, 3, 2).train(1, [0], [0, 1]), r"is 2; it must be len\(inputs\), 1"),
        (lambda: plain.LSTM_RNN(0.1, 2, 3, 2).train(1.5, [0], [1]), "iterations is 1.5"),
        (lambda: plain.LSTM_RNN(0.1, 2, 3, 4).sample(0, 5), "out_dim is 4; it must be in_dim, 2"),
    ],
)
def test_plain_says_what_is_wrong(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_layers_say_what_is_wrong():
    with pytest.raises(UnrolledError, match="a text with words"):
        WordModel("  ")


def test_each_rung_is_under_250_lines():
    for module in (plain, layers, solver, convert, gates):
        with open(module.__file__, encoding="utf-8") as file:
            assert len(file.readlines()) < 250


@pytest.mark.parametrize("layer", [RNNLayer, LSTMLayer, UseGateLayer])
def test_what_is_changed_after_forward_changes_no_gradient(layer):
    """As in the library: inputs, states, outputs and weights that a pass went through are its own."""
    rng = np.random.default_rng(3)
    x, dy = rng.normal(size=(T, B, V)), rng.normal(size=(T, B, H))
    expected = got = None
    for changed in (False, True):
        one = layer(V, H, np.random.default_rng(0))
        given, state = x.copy(), [np.full((B, H), 0.5) for _ in range(one.fields)]
        hlist, last = one.forward(list(given), state)
        if changed:
            for a in (given, *state, *hlist, *last, *one.params.values()):
                a[...] = 7
        dxlist, first, grads = one.bptt(dy)
        expected, got = got, [*dxlist, *first, *grads.values()]
    assert len(got) == len(expected) > T
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_changed_after_a_pass_of_rung_2_changes_no_gradient():
    rng = np.random.default_rng(3)
    given = [rng.normal(size=shape) for shape in ((T, B, V), (B, H), (B, H), (4 * H, V), (4 * H, H))]
    results = []
    for changed in (False, True):
        x, h, c, Wx, Wh = (a.copy() for a in given)
        (y, new), cache = sequence_forward(x, (h, c), Wx, Wh, np.zeros(4 * H))
        if changed:
            for a in (x, h, c, Wx, Wh, y, *new):
                a[...] = 7
        dx, ds, *grads = sequence_backward(np.ones((T, B, H)), (np.zeros((B, H)),) * 2, cache)
        results.append([dx, *ds, *grads])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_update_that_does_not_fit_changes_no_weight():
    stack = Stack([LSTMLayer(V, H, 0)], OutputLayer(H, V, 0))
    before = [{name: w.copy() for name, w in params.items()} for params in stack.params]
    grads = stack.gradients(symbols(V, T, B), symbols(V, T, B))[1]
    grads[1]["by"] = np.zeros(V + 1)
    with pytest.raises(ValueError, match=rf"^grads\[1\]\['by'\] has shape \({V + 1},\); expected \({V},\)$"):
        stack.update(grads, 0.1)
    for params, own in zip(stack.params, before, strict=True):
        for name, w in params.items():
            np.testing.assert_array_equal(w, own[name])
