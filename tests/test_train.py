"""What the loop adds to the gradient: parts of a batch, averages; and options that make no sense."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.options import Options
from unrolled.train import Listener

TEXT = "the cat sat on the mat. the dog ate the rat. " * 20
SMALL = {"hidden_size": 7, "num_layers": 2, "embedding_size": 5, "batch_size": 6, "seq_length": 13, "epochs": 1}
SMALL |= {"dtype": "float64", "backend": "reference", "eval_every": 4, "sample_length": 0}


class Weights(Listener):
    """Remembers the weights after every step."""

    def started(self, facts):
        self.network, self.seen = facts.network, []

    def stepped(self, progress):
        self.seen.append({name: p.copy() for name, p in self.network.params.items()})


def test_parts_of_a_batch_give_the_update_of_the_whole():
    options = SMALL | {"dropout": 0.2, "optimizer": "sgd", "ar": 2.0, "tar": 1.0, "label_smoothing": 0.1}
    whole = ur.LanguageModel.train(TEXT, **options)
    parts = ur.LanguageModel.train(TEXT, accumulate=3, **options)
    for name, p in whole.network.params.items():
        # float64 sums in another order, over 12 steps
        np.testing.assert_allclose(parts.network.params[name], p, rtol=0, atol=1e-12)


def test_the_moving_average_is_its_equation():
    weights = Weights()
    model = ur.LanguageModel.train(TEXT, average="ema", ema_decay=0.75, listener=weights, val_fraction=0, **SMALL)
    for name, p in model.network.params.items():
        expected = weights.seen[0][name]
        for step in weights.seen[1:]:
            expected = 0.75 * expected + 0.25 * step[name]
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-13)  # the same sum, bracketed differently


def test_asgd_is_the_mean_since_its_trigger():
    weights = Weights()
    options = SMALL | {"epochs": 6, "learning_rate": 9.0, "optimizer": "sgd", "average": "asgd", "average_after": 2}
    options["eval_every"] = 1
    model = ur.LanguageModel.train(TEXT, listener=weights, **options)
    losses = [e.val_loss for e in model.result.history]
    trigger = next(n for n in range(3, len(losses)) if losses[n] > min(losses[: n - 2]))
    best = model.result.best.step
    first = model.result.history[trigger].step
    assert best > first, "the average is no better here; the test needs another seed"
    for name, p in model.network.params.items():
        mean = np.mean([w[name] for w in weights.seen[first - 1 : best]], axis=0)
        np.testing.assert_allclose(p, mean, rtol=0, atol=1e-13)  # a running mean of tens of terms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": None}, "epochs is None; it must be a number"),
        ({"hidden_size": "x"}, "hidden_size is 'x'; it must be a whole number"),
        ({"cell": 3}, "cell is 3; it must be a text"),
        ({"lower": 1}, "lower is 1; it must be true or false"),
        ({"accumulate": 4, "batch_size": 6}, "accumulate is 4; it must divide the batch size, 6"),
        ({"average": "emma"}, "no average is called 'emma'; did you mean 'ema'"),
        ({"ar": -1.0}, "ar is -1.0; it must be a number, 0 or more"),
        ({"tar": float("nan")}, "tar is nan; it must be a number, 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be at least 0 and below 1"),
        ({"decay_rate": 0.5}, "decay_rate is an option of rmsprop and adadelta; adam has none"),
        ({"words": "white"}, "no way to cut words is called 'white'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ur.UnrolledError, match=f"^{message}"):
        Options(**options)


@pytest.fixture(scope="module")
def model():
    return ur.LanguageModel.train(TEXT, **SMALL)


HUGE, RAGGED = 10**400, [[1], [2, 3]]
ONES = np.ones((2, 3, 4))
WRONG = {
    "rng is 'x'; expected a numpy Generator": lambda m: m.sample("the", 5, rng="x"),
    "temperature is None; it must be 0 (greedy) or a positive number": lambda m: m.sample("the", 5, temperature=None),
    "temperature is 1000": lambda m: m.sample("the", 5, temperature=HUGE),
    "length is None; it must be a whole number, 0 or more": lambda m: m.sample("the", None),
    "the path of a model is None; expected a path": lambda m: ur.load(None),
    "'a\\x00b': a path can't hold a NUL character; check the path": lambda m: ur.load("a\0b"),
    "the path of a model is 3; expected a path": lambda m: m.save(3),
    "the folder of a run is None; expected a path": lambda m: m.resume(None),
    "the folder of a run is 3; expected a path": lambda m: m.train(TEXT, out=3),
    "a file to read is 7; expected a path": lambda m: m.train(7),
    "a file to read is [1]; expected a path": lambda m: m.train(RAGGED, level="tokens"),
    'an array holds tokens: give level="tokens"': lambda m: m.train(np.arange(9)),
    "init_from is 'x'; expected a LanguageModel, such as load(path) gives": lambda m: m.train(TEXT, init_from="x"),
    "listener is 3; expected a Listener": lambda m: m.train(TEXT, listener=3),
    "no backend is called '[]'. Known: auto, cpu, reference": lambda m: m.train(
        TEXT, batch_size=2, seq_length=9, backend=[]
    ),
    "epochs is too large a number; not even a float would hold it": lambda m: m.train(TEXT, epochs=HUGE),
    "not enough memory: a network of 120,000,": lambda m: m.train(TEXT, hidden_size=10**14, batch_size=2),
    "not enough memory: a network of 4,000,": lambda m: ur.LSTM(4, 10**30),
    "ar is 1000": lambda m: ur.Network(ur.Spec(11, ar=HUGE)),
    "the parameters are 3; expected a dictionary of arrays by their names": lambda m: ur.LSTM(4, 5).load_params(3),
    "lengths has rows of unequal length; expected an array": lambda m: ur.LSTM(4, 5)(ONES, lengths=RAGGED),
    "tokens has rows of unequal length; expected an array of numbers": lambda m: m.network(RAGGED),
    "masks are 3; expected what draw_masks gives": lambda m: m.network.forward([[1]], masks=3),
    "net is 3; expected a Recurrent, a Network, or another LossNetwork": lambda m: ur.check_network(3),
    "seed is 'x'; it must be a whole number, 0 or more": lambda m: ur.check_cell("lstm", seed="x"),
}


@pytest.mark.parametrize("message", WRONG)
def test_calls_that_make_no_sense(model, message):
    with pytest.raises(ur.UnrolledError) as caught:
        WRONG[message](model)
    assert str(caught.value).startswith(message)


def test_numbers_at_the_edge_of_a_float_give_no_warning(model):
    assert len(model.sample("the", 5, temperature=5e-324)) == 5
    params = {name: (np.sign(p) * 1e38).astype(np.float32) for name, p in model.network.params.items()}
    spec = ur.Spec(**(model.network.spec.to_json() | {"dtype": "float32"}))
    huge = ur.LanguageModel(ur.Network(spec).with_params(params), model.vocabulary)
    message = r"^the network's outputs are not finite: its weights are too large, .* up to 1e\+38$"
    with pytest.raises(ur.UnrolledError, match=message):
        huge.score("the cat sat")
    assert len(huge.sample("the", 5, rng=np.random.default_rng(1))) == 5


def test_an_array_given_to_a_model_of_bytes_holds_tokens():
    model = ur.LanguageModel.train(TEXT, level="byte", **SMALL)
    for kind in (np.uint8, np.int64):
        tokens = np.frombuffer(b"the cat", np.uint8).astype(kind)
        np.testing.assert_array_equal(model.score(tokens).log_probs, model.score(b"the cat").log_probs)


def test_a_model_is_tuned_on_another_text_and_learns_its_symbols(tmp_path):
    first = ur.LanguageModel.train(TEXT, **SMALL)
    other = TEXT.replace("cat", "çök") * 2
    tuned = ur.LanguageModel.train(other, init_from=first, out=tmp_path, learning_rate=1e-9, epochs=0.1, batch_size=6)
    known = len(first.vocabulary)
    assert tuned.vocabulary.symbols == (*first.vocabulary.symbols, "k", "ç", "ö")
    for name, p in first.network.params.items():
        q = tuned.network.params[name][tuple(slice(n) for n in p.shape)]
        # steps of Adam at a rate of 1e-9: nothing but the start is seen
        np.testing.assert_allclose(q, p, rtol=0, atol=1e-7)
    assert tuned.network.params["decoder.bias"].shape == (known + 3,)
    again = ur.LanguageModel.resume(tmp_path, other, epochs=0.2)
    assert again.vocabulary == tuned.vocabulary
    with pytest.raises(ur.UnrolledError, match="hidden_size is 9, but the model to start from has 7"):
        ur.LanguageModel.train(other, init_from=first, hidden_size=9)
