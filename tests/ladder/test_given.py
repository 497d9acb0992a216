"""What is handed to a rung and does not fit is said in one line; what does fit, NumPy's numbers too, is taken."""

import subprocess
import sys

import numpy as np
import pytest

import unrolled as ur
from unrolled.errors import UnrolledError
from unrolled.ladder import convert, plain
from unrolled.ladder.gates import UseGateLayer, draw_gates, gates_of
from unrolled.ladder.layers import LSTMLayer, OutputLayer, RNNLayer, Stack, WordModel
from unrolled.ladder.numerical import numerical_gradient
from unrolled.ladder.plain import LSTM_RNN
from unrolled.ladder.solver import RNN, Solver, embed_forward, softmax_loss

T, B, V, W, H = 7, 3, 6, 9, 5


def lstm():
    return LSTM_RNN(0.1, V, H, W)


def ran(layer):
    layer.forward(np.zeros((T, B), int))
    return layer


def text(size=V, count=200):
    return np.random.default_rng(1).integers(0, size, count)


def test_numpy_s_numbers_are_plain_numbers_on_rung_0():
    x, y = text(V, 40), text(W, 40)
    own = LSTM_RNN(0.75, V, H, W, window=T, clip=0.5, seed=3)
    numpy_s = LSTM_RNN(
        np.float32(0.7),
        np.int64(V),
        np.uint8(H),
        np.int16(W),
        window=np.int64(T),
        clip=np.float64(0.5),
        seed=np.int64(3),
    )
    own.lr = numpy_s.lr  # 0.7 in float32 is another number
    assert numpy_s.train(np.int64(6), x.astype(np.uint8), list(y)) == own.train(6, x.tolist(), y.tolist())
    assert {type(v) for v in (numpy_s.lr, numpy_s.clip, numpy_s.params["Wx"][0][0])} == {float}
    drawing = LSTM_RNN(0.7, V, H, V)
    drawn = drawing.sample(np.int64(2), np.uint8(9), temperature=np.float32(0.5), seed=np.int64(4))
    assert drawn == drawing.sample(2, 9, temperature=0.5, seed=4)


def test_unsigned_symbols_and_numbers_of_any_kind_are_taken_on_rung_1():
    layer, symbols = LSTMLayer(V, H, np.random.default_rng(0)), text(V, T * B).reshape(T, B)
    want = layer.forward(symbols)[0]
    for x in (symbols.astype(np.uint8), symbols.tolist(), np.eye(V)[symbols], np.eye(V, dtype=int)[symbols]):
        np.testing.assert_allclose(layer.forward(x)[0], want, rtol=0, atol=1e-15)  # one product more, with ones
        grads = layer.bptt(np.ones((T, B, H)))[2]
        assert grads["Wx"].any()
    np.testing.assert_array_equal(layer.forward(symbols, ())[0], layer.forward(symbols, None)[0])


def test_layers_need_no_generator_and_are_then_unlike():
    for make in (
        lambda: RNNLayer(V, H).params["Wx"],
        lambda: LSTMLayer(V, H, peephole=True).params["P"],
        lambda: UseGateLayer(V, H).params["Wu"],
        lambda: OutputLayer(H, V).params["Wy"],
    ):
        assert (make() != make()).any()
    model = WordModel("The cat sat on the mat.")
    assert isinstance(model.generate(longest=np.int64(3)), str)


def test_a_stack_of_unlike_widths_and_a_stack_of_unlike_peepholes_are_the_library_s_too():
    rng = np.random.default_rng(0)
    x, y = text(V, T * B).reshape(T, B), text(V, T * B).reshape(T, B)
    for layers in (
        [LSTMLayer(V, H, rng), LSTMLayer(H, 4, rng)],
        [LSTMLayer(V, H, rng), LSTMLayer(H, 4, rng, peephole=True)],
    ):
        stack = Stack(layers, OutputLayer(4, V, rng))
        loss, grads, _ = stack.gradients(x, y)
        found, own, _ = convert.network_of(stack, "reference").loss_and_gradients(x, y)
        assert found == pytest.approx(loss, rel=1e-13)  # some hundred roundings
        for name, g in convert.library_names(grads).items():
            np.testing.assert_allclose(own[name], g, rtol=0, atol=1e-13)


def after(train, model):
    train(model)
    return model


PLOTTED = {
    "rung 0": lambda: after(lambda m: m.train(6, text(V).tolist(), text(W).tolist()), lstm()),
    "rung 1": lambda: after(lambda m: m.train(4), WordModel("The cat sat on the mat. A dog sat!")),
    "rung 2": lambda: after(
        lambda m: m.train(),
        Solver(text(), RNN(V, "abcdef"), seq_length=T, batch_size=B, num_iters=5, print_every=0),
    ),
}


@pytest.mark.parametrize("rung", PLOTTED)
def test_every_rung_draws_its_losses(rung):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    matplotlib.use("Agg")
    model = PLOTTED[rung]()
    axes = model.plot_loss()
    (line,) = axes.get_lines()
    assert line.get_ydata().tolist() == model.loss_history
    assert len(model.loss_history) == {"rung 0": 6, "rung 1": 4, "rung 2": 5}[rung]
    assert axes.get_ylabel().startswith("loss, nats a ")
    matplotlib.pyplot.close("all")


def test_the_library_draws_its_losses_too():
    model = ur.LanguageModel.train(
        "the cat sat on the mat. " * 40, hidden_size=8, num_layers=1, batch_size=2, seq_length=12, epochs=1
    )
    matplotlib = pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    matplotlib.use("Agg")
    lines = {line.get_label(): line.get_ydata().tolist() for line in model.plot_loss().get_lines()}
    history = model.result.history
    assert lines == {"training": [e.train_loss for e in history], "validation": [e.val_loss for e in history]}
    matplotlib.pyplot.close("all")
    with pytest.raises(UnrolledError, match=r"^this model has no losses to draw; `train` leaves them"):
        ur.LanguageModel(model.network, model.vocabulary).plot_loss()


def test_train_of_rung_0_returns_the_losses_of_this_call_and_keeps_all():
    model = lstm()
    first, none, second = (model.train(n, [0, 1, 2], [1, 2, 0]) for n in (3, 0, 2))
    assert (len(first), none, len(second)) == (3, [], 2)
    assert model.loss_history == first + second


HARD = np.array([[0, 1], [2, 3]])
RUNG_0 = {
    "in_dim is 0; it must be a whole number, 1 or more": lambda: LSTM_RNN(0.1, 0, 3, 2),
    "h_dim is True; it must be a whole number, 1 or more": lambda: LSTM_RNN(0.1, 2, True, 2),
    "window is 2.0; it must be a whole number, 1 or more": lambda: LSTM_RNN(0.1, 2, 3, 2, window=2.0),
    "lr is 'a'; it must be a number above 0": lambda: LSTM_RNN("a", 2, 3, 2),
    "lr is nan; it must be a number above 0": lambda: LSTM_RNN(float("nan"), 2, 3, 2),
    "clip is None; it must be a number above 0": lambda: LSTM_RNN(1, 2, 3, 2, clip=None),
    "seed is [1]; it must be a whole number, 0 or more": lambda: LSTM_RNN(1, 2, 3, 2, seed=[1]),
    "iterations is 1.5; it must be a whole number, 0 or more": lambda: lstm().train(1.5, [0], [1]),
    "inputs is 3; it must be a list of whole numbers": lambda: lstm().train(1, 3, [1]),
    "inputs[1] is 6; it must be a whole number from 0 to 5": lambda: lstm().train(1, [0, 6], [0, 1]),
    "inputs[0] is array([0, 1]); it must be a whole number from 0 to 5": lambda: lstm().train(1, HARD, [0, 1]),
    "inputs[0] is 'a'; it must be a whole number from 0 to 5": lambda: lstm().train(1, "ab", "ab"),
    "targets[0] is np.float64(1.0); it must be a whole number from 0 to 8": lambda: lstm().train(1, [0], np.ones(1)),
    "targets[1] is -1; it must be a whole number from 0 to 8": lambda: lstm().gradients(
        [0, 1], [1, -1], [0.0] * H, [0.0] * H
    ),
    "len(targets) is 2; it must be len(inputs), 1, and not 0": lambda: lstm().train(1, [0], [0, 1]),
    "len(targets) is 0; it must be len(inputs), 0, and not 0": lambda: lstm().gradients([], [], [0.0] * H, [0.0] * H),
    "(h, c) is ([0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]); it must be two lists of 5 numbers": lambda: (
        lstm().gradients([0], [0], [0.0] * 4, [0.0] * H)
    ),
    "x is -1; it must be a whole number from 0 to 5": lambda: lstm().step(-1, [0.0] * H, [0.0] * H),
    "h is [0.0, 0.0, 0.0, 0.0]; it must be a list of 5 numbers": lambda: lstm().predict([0.0] * 4),
    "d is {'Wx': []}; it must be what gradients() returns: ['Wh', 'Wx', 'Wy', 'b', 'by']": lambda: lstm().update(
        {"Wx": []}
    ),
    "out_dim is 9; it must be in_dim, 6, to feed symbols back": lambda: lstm().sample(0, 5),
    "start is 1.0; it must be a whole number from 0 to 5": lambda: LSTM_RNN(1, V, H, V).sample(1.0, 5),
    "length is -1; it must be a whole number, 0 or more": lambda: LSTM_RNN(1, V, H, V).sample(1, -1),
    "temperature is 0; it must be a number above 0": lambda: LSTM_RNN(1, V, H, V).sample(1, 5, temperature=0),
}
SINGLE = "expected (B, 5) numbers or (B,) symbols, B rows, one for a single text"
RUNGS_1_AND_2 = {
    "h_dim is 0; it must be a whole number, 1 or more": lambda: LSTMLayer(5, 0),
    "rng is 'a'; expected a numpy Generator, such as numpy.random.default_rng(seed), or a seed": lambda: RNNLayer(
        5, 4, "a"
    ),
    f"xlist[0] has shape (); {SINGLE}": lambda: LSTMLayer(5, 4).forward([1, 2, 3]),
    "xlist[0] has shape (5,); expected (B, 5) numbers or (B,) symbols, B rows, one for a single text": lambda: (
        LSTMLayer(5, 4).forward([np.eye(5)[k] for k in (1, 2, 3)])
    ),
    "xlist[1] has shape (2, 5); expected (3, 5) numbers or (3,) symbols, as the steps before": lambda: LSTMLayer(
        5, 4
    ).forward([np.ones((3, 5)), np.ones((2, 5))]),
    "xlist[0] has symbols from 0 to 5; they must be from 0 to 4": lambda: LSTMLayer(5, 4).forward([[0, 5]]),
    "xlist[0] has symbols from -1 to 0; they must be from 0 to 4": lambda: LSTMLayer(5, 4).forward([[0, -1]]),
    "xlist is a list without steps; expected one array a step": lambda: LSTMLayer(5, 4).forward([]),
    "xlist is a int without steps; expected one array a step": lambda: LSTMLayer(5, 4).forward(3),
    "xlist[0] is 'a'; expected an array of numbers": lambda: LSTMLayer(5, 4).forward(["a", "b"]),
    "state has 1 entries; expected 2 of shape (3, 4)": lambda: LSTMLayer(5, 4).forward(
        np.ones((7, 3, 5)), (np.ones((3, 4)),)
    ),
    "state[1] has shape (3, 5); expected (3, 4)": lambda: LSTMLayer(5, 4).forward(
        np.ones((7, 3, 5)), (np.ones((3, 4)), np.ones((3, 5)))
    ),
    "state is a int; expected 2 of shape (3, 4)": lambda: LSTMLayer(5, 4).forward(np.ones((7, 3, 5)), 1),
    "dslist has 6 entries; expected 7 of shape (3, 5)": lambda: ran(LSTMLayer(V, H)).bptt(np.ones((6, B, H))),
    "dslist[0] has shape (5,); expected (3, 5)": lambda: ran(LSTMLayer(V, H)).bptt([np.ones(H)] * T),
    "the number of steps is 0; it must be 1 or more: call forward first": lambda: LSTMLayer(V, H).bptt([]),
    "hlist[0] has shape (3, 4); expected (B, 5) numbers or (B,) symbols, B rows, one for a single text": lambda: (
        OutputLayer(5, V).forward([np.ones((3, 4))])
    ),
    "targets has symbols from -1 to 0; they must be from 0 to 5": lambda: Stack(
        [RNNLayer(V, H)], OutputLayer(H, V)
    ).gradients([[0, 1]], [[0, -1]]),
    "targets is int64 of shape (2,); expected symbols (1, 2)": lambda: Stack(
        [RNNLayer(V, H)], OutputLayer(H, V)
    ).gradients([[0, 1]], [0, 1]),
    "xlist[0] has shape (2, 5); expected (B, 4) numbers or (B,) symbols, B rows, one for a single text": lambda: Stack(
        [RNNLayer(V, 5), RNNLayer(4, H)], OutputLayer(H, V)
    ).forward([[0, 1]]),
    "len(states) is 2; it must be one a layer, 1": lambda: Stack([RNNLayer(V, 5)], OutputLayer(5, V)).forward(
        [[0]], [(), ()]
    ),
    "lr is nan; it must be a finite number": lambda: WordModel("A cat.").train(1, float("nan")),
    "epochs is 1.5; it must be a whole number, 0 or more": lambda: WordModel("A cat.").train(1.5),
    "text is <class 'list'>; it must be a str": lambda: WordModel(["A cat."]),
    "h_dims is 40; it must be a list of one h_dim or more": lambda: WordModel("A cat.", 40),
    "limit is 0; it must be a whole number, 1 or more": lambda: WordModel("A cat.", limit=0),
    "longest is 'a'; it must be a whole number, 1 or more": lambda: WordModel("A cat.").generate(longest="a"),
    "vocab_dim is 3.0; it must be a whole number, 1 or more": lambda: RNN(3.0, "abc"),
    "idx_to_char is 3; it must be a list of symbols, or a dict": lambda: RNN(3, 3),
    "symbols has symbols from -1 to 2; they must be from 0 to 2": lambda: RNN(3, "abc").forward([[-1, 2]]),
    "symbols is int64 of shape (2,); expected symbols (T, B)": lambda: embed_forward([0, 1], np.ones((3, 4))),
    "targets has symbols from -1 to -1; they must be from 0 to 2": lambda: softmax_loss(np.ones((1, 1, 3)), [[-1]]),
    "state has 1 entries; expected 2 of shape (2, 25)": lambda: RNN(3, "abc").forward([[1, 2]], (np.ones((2, 25)),)),
    "T is -1; it must be a whole number, 0 or more": lambda: RNN(3, "abc").sample(0, -1),
    "temperature is 'a'; it must be a finite number": lambda: RNN(3, "abc").sample(0, 5, temperature="a"),
    "rng is 5.0; expected a numpy Generator, such as numpy.random.default_rng(seed), or a seed": lambda: RNN(
        3, "abc"
    ).sample(0, 5, rng=5.0),
    "model is None; it must be an RNN": lambda: Solver(text(), None),
    "num_iters is 1.5; it must be a whole number, 0 or more": lambda: Solver(
        text(), RNN(V, "abcdef"), 7, num_iters=1.5
    ),
    "lr is 'a'; it must be a number, 0 or more": lambda: Solver(text(), RNN(V, "abcdef"), 7, lr="a"),
    "update_rule is None; it must be one of sgd, momentum, adagrad, rmsprop, adam": lambda: Solver(
        text(), RNN(V, "abcdef"), 7, update_rule=None
    ),
    "the layer is 5; it must be an LSTMLayer, which has these gates": lambda: gates_of(5),
    "the number of steps is 0; it must be 1 or more: call forward first ": lambda: draw_gates(LSTMLayer(V, H), "a"),
    "row is 1.0; it must be a whole number, 0 or more": lambda: draw_gates(ran(LSTMLayer(V, H)), "a truth", row=1.0),
    "step is 0.0; it must be above 0": lambda: numerical_gradient(np.sum, [1.0], 0),
    "x is dtype('complex128'); it must be real numbers": lambda: numerical_gradient(np.sum, [1j]),
    "the model is 3; it must be an LSTM_RNN": lambda: convert.stack_of(3),
    "the number of layers is 2; it must be 1, as on rung 2": lambda: convert.rnn_of(
        Stack([RNNLayer(V, H), RNNLayer(H, H)], OutputLayer(H, V)), "abcdef"
    ),
    "rung 2 has no P; it takes a layer without peepholes or Use gate": lambda: convert.rnn_of(
        Stack([LSTMLayer(V, H, peephole=True)], OutputLayer(H, V)), "abcdef"
    ),
    "in_dim is 6; it must be the number of symbols predicted, 9, to embed them": lambda: convert.rnn_of(
        Stack([LSTMLayer(V, H)], OutputLayer(H, W)), "abcdefghi"
    ),
    "the library has no name for Wu, bu; a Use gate is its cell lstm_use_gate": lambda: convert.network_of(
        Stack([UseGateLayer(V, H)], OutputLayer(H, V))
    ),
    "the layers is [1, 4]; it must be all LSTMs or all vanilla: a stack of the library has one cell": lambda: (
        convert.network_of(Stack([LSTMLayer(V, H), RNNLayer(H, H)], OutputLayer(H, V)))
    ),
}


@pytest.mark.parametrize("said", RUNG_0)
def test_rung_0_says_what_is_wrong(said):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the whole message is compared)
        RUNG_0[said]()
    assert str(caught.value) == said


@pytest.mark.parametrize("said", RUNGS_1_AND_2)
def test_rungs_1_and_2_say_what_is_wrong(said):
    with pytest.raises(UnrolledError) as caught:
        RUNGS_1_AND_2[said]()
    assert str(caught.value) == said.strip()


def test_a_long_value_is_cut_in_what_is_said():
    with pytest.raises(ValueError, match=r"^inputs\[0\] is array\(.{60,75} \.\.\.; it must be a whole number"):
        lstm().train(1, [np.arange(60.0).reshape(5, 12)], [0])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_ends_words_too():
    with pytest.raises(UnrolledError, match=r"^the loss of an epoch is (nan|inf); it must be finite: try an lr below"):
        WordModel("The cat sat on the mat. " * 3).train(9, lr=1e308)


def test_rung_0_as_a_file_says_it_in_one_line():
    run = subprocess.run([sys.executable, "-S", "-I", plain.__file__, ""], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "plain.py: in_dim is 0; it must be a whole number, 1 or more\n"
