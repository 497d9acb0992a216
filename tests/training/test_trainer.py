"""What the loop adds to the gradient: parts of a batch, averages; and options that make no sense."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends, storage
from unrolled.data.batches import LANE_LENGTH, LANES, held_out, lanes
from unrolled.data.labelled import read_labelled
from unrolled.data.text import Corpus, vocabulary_of
from unrolled.models.options import Options
from unrolled.models.scoring import evaluate
from unrolled.training.callbacks import Callback
from unrolled.training.clipping import clip_by_norm
from unrolled.training.interrupts import stops
from unrolled.training.optimizers import OPTIMIZERS
from unrolled.training.trainer import Trainer

TEXT = "the cat sat on the mat. the dog ate the rat. " * 20
SMALL = {"hidden_size": 7, "num_layers": 2, "embedding_size": 5, "batch_size": 6, "seq_length": 13, "epochs": 1}
SMALL |= {"dtype": "float64", "backend": "reference", "eval_every": 4, "sample_length": 0}


class Weights(Callback):
    """Remembers the weights after every step."""

    def started(self, facts):
        self.network, self.seen = facts.model.network, []

    def stepped(self, progress):
        self.seen.append({name: p.copy() for name, p in self.network.params.items()})


@pytest.mark.parametrize("accumulate", [3, 4, 5, 9])  # of 6 lanes: equal parts, unequal ones, more than there are lanes
def test_parts_of_a_batch_give_the_update_of_the_whole(accumulate):
    options = SMALL | {"dropout": 0.2, "optimizer": "sgd", "ar": 2.0, "tar": 1.0, "label_smoothing": 0.1}
    whole = ur.LanguageModel.train(TEXT, **options)
    parts = ur.LanguageModel.train(TEXT, accumulate=accumulate, **options)
    for name, p in whole.network.params.items():
        # float64 sums in another order, over 12 steps
        np.testing.assert_allclose(parts.network.params[name], p, rtol=0, atol=1e-12)


def test_the_rate_follows_the_length_of_a_varied_chunk():
    options = SMALL | {"optimizer": "sgd", "learning_rate": 0.5, "grad_clip": 0, "val_fraction": 0, "seq_length": 70}
    weights = Weights()
    ur.LanguageModel.train(TEXT, vary_seq_length=True, callbacks=[weights], **options)
    tokens = vocabulary_of(Corpus(TEXT, "char", "text")).encode(TEXT)
    varied = lanes(tokens, 6, 70, varied=True)
    first = varied.of_epoch([1, 0])(0)
    assert first.share == len(first.x) / 70 != 1
    network = ur.Network(weights.network.spec, backend="reference", rng=np.random.default_rng(1))
    before = {name: p.copy() for name, p in network.params.items()}
    _, grads, _ = network.loss_and_gradients(first.x, first.y)
    for name, p in before.items():
        # one update in float64, of numbers below 1
        np.testing.assert_allclose(weights.seen[0][name], p - 0.5 * first.share * grads[name], rtol=0, atol=1e-14)


def test_the_moving_average_is_its_equation():
    weights = Weights()
    model = ur.LanguageModel.train(TEXT, average="ema", ema_decay=0.75, callbacks=[weights], val_fraction=0, **SMALL)
    for name, p in model.network.params.items():
        expected = weights.seen[0][name]
        for step in weights.seen[1:]:
            expected = 0.75 * expected + 0.25 * step[name]
        np.testing.assert_allclose(p, expected, rtol=0, atol=1e-13)  # the same sum, bracketed differently


def test_asgd_is_the_mean_since_its_trigger():
    weights = Weights()
    options = SMALL | {"epochs": 6, "learning_rate": 9.0, "optimizer": "sgd", "average": "asgd", "average_after": 2}
    options["eval_every"] = 1
    model = ur.LanguageModel.train(TEXT, callbacks=[weights], **options)
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
        ({"cell": 3}, "cell is 3; it must be the name of a cell"),
        ({"lower": 1}, "lower is 1; it must be true or false"),
        ({"average": "emma"}, "no average is called 'emma'; did you mean 'ema'"),
        ({"ar": -1.0}, "ar is -1.0; it must be a number, 0 or more"),
        ({"tar": float("nan")}, "tar is nan; it must be a number, 0 or more"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0; it must be at least 0 and below 1"),
        ({"decay_rate": 0.5}, "decay_rate is an option of rmsprop and adadelta; adam has none"),
        ({"beta1": 0.5, "optimizer": "sgd"}, "beta1 is an option of adam and adamw; sgd has none"),
        ({"dampening": 0.5}, "dampening is an option of momentum; adam has none"),
        ({"momentum": 0.5}, "momentum is an option of momentum and nesterov; adam has none"),
        (
            {"eps": 1e-9, "optimizer": "sgd"},
            "eps is an option of adagrad and rmsprop and adadelta and adam and",
        ),
        ({"eps": -1.0}, "eps is -1.0; it must be a number, 0 or more"),
        ({"eps": 0}, "eps is 0; it must be 1.18e-38 or more, so that nothing is divided by 0"),
        ({"words": "white"}, "no way to cut words is called 'white'"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ur.UnrolledError, match=f"^{message}"):
        Options(**options)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_every_option_of_an_update_rule_can_be_asked_for(rule):
    for name in OPTIMIZERS[rule].defaults:
        asked = Options(optimizer=rule, **{{"alpha": "decay_rate", "rho": "decay_rate"}.get(name, name): 0.25})
        assert asked.make_optimizer({}).options[name] == 0.25


FLOATS = [f.name for f in dataclasses.fields(Options) if "float" in str(f.type)]


@pytest.mark.parametrize("name", FLOATS)
def test_no_option_takes_what_is_no_finite_number(name, tmp_path):
    for value in (float("nan"), float("inf"), -float("inf"), 1e308 if name == "forget_bias" else np.float64("nan")):
        with pytest.raises(ur.UnrolledError, match=rf"^{name} is .*; it must be ") as caught:
            Options(**{name: value})
        assert "\n" not in str(caught.value)
        with pytest.raises(ur.UnrolledError, match=f"^{name} is "):
            ur.LanguageModel.train(TEXT, out=tmp_path / "run", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_options_are_pythons_own_numbers(tmp_path):
    odd = {"batch_size": np.int64(6), "learning_rate": Fraction(1, 64)}
    odd |= {"seq_length": np.uint8(13), "dropout": np.float32(0.25), "lower": np.bool_(False), "cell": np.str_("lstm")}
    odd |= {"hidden_size": [np.int32(7), np.int16(5)]}
    options = Options(**odd)
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        assert type(value) in (int, float, str, bool, tuple, type(None)), f.name
    assert (options.hidden_size, options.num_layers, options.learning_rate) == ((7, 5), 2, 0.015625)
    assert Options(**json.loads(json.dumps(dataclasses.asdict(options)))) == options
    model = ur.LanguageModel.train(TEXT, out=tmp_path, **odd, epochs=np.float32(0.1), num_layers=np.int8(2))
    model.save(tmp_path / "again.safetensors")


def test_uniform_weights_of_a_bound(tmp_path):
    model = ur.LanguageModel.train(TEXT, init="uniform:0.25", epochs=0.01, learning_rate=1e-30, batch_size=6)
    for name, p in model.network.params.items():
        assert 0.24 < np.abs(p).max() <= 0.25 if p.size > 500 else np.abs(p).max() <= 0.25, name
        assert np.abs(p).max() > 0.15, name
    model.save(tmp_path / "m.safetensors")
    assert ur.load(tmp_path / "m.safetensors").network.spec.init == "uniform:0.25"
    for wrong in (
        "uniform",
        "uniform:",
        "uniform:B",
        "uniform:nan",
        "uniform:-1",
        "uniform:0",
        "uniform:1e99",
        "uniform:1_0",
    ):
        for make in (ur.LSTM, ur.GRU, Options):
            sizes = () if make is Options else (4, 5)
            with pytest.raises(ur.UnrolledError, match=r"^(no init is called|init is 'uniform:.*'; its bound must be)"):
                make(*sizes, init=wrong)
        with pytest.raises(ur.UnrolledError, match="init"):
            ur.Network(ur.Spec(11, init=wrong))
    for bias in (float("nan"), 1e308, -1001):
        with pytest.raises(ur.UnrolledError, match=r"^forget_bias is .*; it must be a number from -1,000 to 1,000$"):
            ur.LSTM(4, 5, forget_bias=bias)


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
    "tokens are int; expected integers in one dimension (N,)": lambda m: m.train(7),
    'an array holds tokens: give level="tokens"': lambda m: m.train(np.arange(9)),
    "init_from is 'x'; expected a LanguageModel, such as load(path) gives": lambda m: m.train(TEXT, init_from="x"),
    "callbacks are 3; expected a sequence of Callbacks": lambda m: m.train(TEXT, callbacks=3),
    "backend is []; expected one of auto, cpu, reference": lambda m: m.train(
        TEXT, batch_size=2, seq_length=9, backend=[]
    ),
    "epochs is too large a number; not even a float would hold it": lambda m: m.train(TEXT, epochs=HUGE),
    "not enough memory: a network of 120,000,": lambda m: m.train(TEXT, hidden_size=10**14, batch_size=2),
    "not enough memory: a network of more than 10^30 ": lambda m: ur.LSTM(4, 10**30),
    "ar is too large a number": lambda m: ur.Network(ur.Spec(11, ar=HUGE)),
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
    with pytest.raises(ur.UnrolledError, match=r"^the network's outputs are not finite: its weights are too large$"):
        huge.sample("the", 5, rng=np.random.default_rng(1))


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


# --- what is held out -------------------------------------------------------------------------------------------------


def test_the_validation_loss_is_that_of_the_model_whatever_the_batch():
    text = (TEXT * 3)[:2400]
    model = ur.LanguageModel.train(text, **SMALL | {"val_fraction": 0.5})
    val = model.vocabulary.encode(text)[-1200:]
    scored = model.score(val).nats
    shown = {}
    for batch_size, seq_length in ((1, 50), (3, 7), (6, 13), (50, 20)):
        options = Options(batch_size=batch_size, seq_length=seq_length)
        shown[batch_size] = evaluate(model.network, held_out(val, options.batch_size, options.seq_length))
    # one lane: the very figure of score, but for the order of float64 sums of 1,199 numbers
    np.testing.assert_allclose(list(shown.values()), scored, rtol=1e-12)
    assert model.result.best.val_loss == pytest.approx(scored, rel=1e-12)


@pytest.mark.parametrize(
    ("tokens", "count"), [(2, 1), (1999, 1), (2001, 2), (64 * LANE_LENGTH, 63), (200 * LANE_LENGTH, LANES)]
)
def test_held_out_lanes_are_long_and_few(tokens, count):
    for options in (Options(), Options(batch_size=1, seq_length=3), Options(batch_size=900, seq_length=900)):
        lanes = held_out(np.zeros(tokens, int), options.batch_size, options.seq_length)
        assert lanes.batch_size == count
        assert lanes.batch_size * lanes.seq_length <= max(count, options.batch_size * options.seq_length)


# --- signals ----------------------------------------------------------------------------------------------------------


class Send(Callback):
    """Sends a signal to this process at step 2, in the middle of what must not be torn or elsewhere."""

    def __init__(self, number):
        self.number = number

    def stepped(self, progress):
        if progress.step == 2:
            signal.raise_signal(self.number)


@pytest.fixture
def handler():
    """Set a signal's handler for the time of a test."""
    old = {}

    def set_(number, handler):
        old.setdefault(number, signal.signal(number, handler))

    yield set_
    for number, before in old.items():
        signal.signal(number, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_loop_of_trainings_once_all_is_saved(tmp_path, handler, name):
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name} here")
    number, heard = getattr(signal, name), []
    handler(number, signal.default_int_handler if name == "SIGINT" else lambda n, frame: heard.append(n))
    before = signal.getsignal(number)

    def several():
        for n in range(3):
            ur.LanguageModel.train(TEXT, out=tmp_path / str(n), callbacks=[Send(number)], **SMALL)

    with pytest.raises(ur.Interrupted) as caught:
        several()
    assert [path.name for path in tmp_path.iterdir()] == ["0"]
    assert (caught.value.model.result.steps, caught.value.model.result.signal) == (2, number)
    assert heard == ([] if name == "SIGINT" else [number])  # sent again, to the handler that was there
    assert signal.getsignal(number) == before
    assert ur.LanguageModel.resume(tmp_path / "0", TEXT).result.steps > 2


def test_a_handler_may_end_the_program_in_its_own_way(tmp_path, handler):
    def leave(number, frame):
        raise SystemExit(7)

    handler(signal.SIGTERM, leave)
    with pytest.raises(SystemExit, match="7"):
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[Send(signal.SIGTERM)], **SMALL)
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_what_is_ignored_or_a_hosts_is_left_alone(monkeypatch, handler):
    handler(signal.SIGTERM, signal.SIG_IGN)
    assert signal.SIGTERM not in stops()
    assert ur.LanguageModel.train(TEXT, callbacks=[Send(signal.SIGTERM)], **SMALL).result.steps > 2
    handler(signal.SIGTERM, signal.SIG_DFL)
    real = signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else real(number))
    assert signal.SIGTERM not in stops()  # installed in C: Python could not put it back
    assert ur.LanguageModel.train(TEXT, **SMALL).result.steps > 2
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_training_in_a_thread_touches_no_handler():
    before, found = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)], []

    def work():
        found.append(stops())
        found.append(ur.LanguageModel.train(TEXT, **SMALL).result.interrupted)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [[], False]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_interrupted_run_has_its_best_model_and_its_test_loss(tmp_path, handler):
    handler(signal.SIGINT, signal.default_int_handler)

    class Late(Callback):
        def stepped(self, progress):
            if progress.step == 6:
                signal.raise_signal(signal.SIGINT)

        def finished(self, result, out):
            self.result = result

    late = Late()
    with pytest.raises(ur.Interrupted) as caught:
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[late], **SMALL | {"test_fraction": 0.2})
    model = caught.value.model
    saved = ur.load(tmp_path / "model.safetensors")  # that of the validation at step 4
    for name, p in saved.network.params.items():
        np.testing.assert_array_equal(model.network.params[name], p)
    assert late.result is model.result
    test = model.vocabulary.encode(TEXT)[-180:]
    assert model.result.test_loss == pytest.approx(model.score(test).nats, rel=1e-12)


def test_a_callback_that_fails_loses_nothing(tmp_path):
    class Fail(Callback):
        def stepped(self, progress):
            if progress.step == 5:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[Fail()], **SMALL)
    whole = ur.LanguageModel.train(TEXT, **SMALL)
    again = ur.LanguageModel.resume(tmp_path, TEXT)
    assert again.result.steps == whole.result.steps
    for name, p in whole.network.params.items():
        np.testing.assert_array_equal(again.network.params[name], p)


# --- files ------------------------------------------------------------------------------------------------------------


def test_no_text_is_used_twice(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    book, other = folder / "book.txt", tmp_path / "other.txt"
    for path in (book, other):
        path.write_text(TEXT)
    (tmp_path / "link.txt").symlink_to(other)
    (tmp_path / "hard.txt").hardlink_to(book)
    train = ur.LanguageModel.train
    cases = {
        "other.txt is given to validate on and again to validate on; give each file once": {"val": [other, other]},
        "link.txt is given to validate on and again to test on": {"val": other, "test": tmp_path / "link.txt"},
        "book.txt is given to train on and again to test on": {"test": [book]},
        "hard.txt is given to train on and again to validate on": {"val": tmp_path / "hard.txt"},
    }
    for message, held in cases.items():
        with pytest.raises(ur.UnrolledError, match=message):
            train(book, **held, **SMALL)
    said = r"book\.txt is given to train on with the folder .*texts and again to validate on; give each file once$"
    for held in (book, tmp_path / "hard.txt"):
        with pytest.raises(ur.UnrolledError, match=said.removeprefix("book" if held != book else "")):
            train(folder, val=held, **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"book\.txt is given to train on and again to test on with the folder "):
        train(book, test=folder, **SMALL)
    (folder / "again.txt").symlink_to(book)  # a link within one folder is read as a file of it
    (folder / ".hidden.txt").write_text(TEXT)  # and what is hidden is not
    assert train(folder, val=folder / ".hidden.txt", **SMALL).result.best.val_loss > 0
    (folder / "link.txt").symlink_to(other)
    with pytest.raises(ur.UnrolledError, match=r"other\.txt is given to train on with the folder .* to validate on"):
        train(folder, val=other, **SMALL)
    assert train(book, val=other, **SMALL).result.best.val_loss > 0


def test_a_linked_folder_of_a_class_is_the_folder_it_leads_to(tmp_path):
    """Classes may be links, which are read; what lies beside the classes is not."""
    for name in ("glad", "sad"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(6):
            (tmp_path / "data" / name / f"{k}.txt").write_text(f"{name} {k}")
    (tmp_path / "linked").mkdir()
    for name in ("glad", "sad"):
        (tmp_path / "linked" / name).symlink_to(tmp_path / "data" / name)
    how = {"epochs": 1, "hidden_size": 4, "batch_size": 2}
    for one, other in (("data", "linked"), ("linked", "data")):
        with pytest.raises(
            ur.UnrolledError, match=r"0\.txt is given to train on with the folder .* and again to valid"
        ):
            ur.Classifier.train(tmp_path / one, val=tmp_path / other, **how)
    (tmp_path / "data" / "val.csv").write_text("text,label\nglad 9,glad\nsad 9,sad\n")
    model = ur.Classifier.train(tmp_path / "data", val=tmp_path / "data" / "val.csv", **how)
    assert model.result.best.val_loss > 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_two_pipes_are_two_files(tmp_path):
    for name in "ab":
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_text, args=(TEXT,), daemon=True).start()
    (tmp_path / "val.txt").write_text(TEXT)
    model = ur.LanguageModel.train([tmp_path / "a", tmp_path / "b"], val=tmp_path / "val.txt", **SMALL)
    assert model.result.best.val_loss > 0


DATA = {
    ur.Tagger: ("words.conll", "Ann\tB-PER\nsaw\tO\n\nit\tO\nrained\tO\n", {}),
    ur.Classifier: ("reviews.csv", "text,label\n" + "good,1\nbad,0\n" * 9, {"text": "text", "label": "label"}),
    ur.Forecaster: ("load.csv", "t,y\n" + "".join(f"{n},{n % 7}\n" for n in range(200)), {"context": 14, "horizon": 3}),
}


@pytest.mark.parametrize("kind", DATA)
def test_no_file_of_data_is_used_twice(kind, tmp_path):
    name, content, options = DATA[kind]
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    for place in (path, other):
        place.write_text(content)
    (tmp_path / f"hard-{name}").hardlink_to(path)
    how = options | {"epochs": 1, "hidden_size": 4, "batch_size": 2}
    for held, said in (
        ({"val": path}, f"{name} is given to train on and again to validate on; give each file once$"),
        ({"test": [tmp_path / f"hard-{name}"]}, f"hard-{name} is given to train on and again to test on"),
        ({"val": ""}, "^a file to read has no name: the path is empty$"),
        ({"test": "a\0b"}, "a path can't hold a NUL character; check the path$"),
        ({"val": other, "test": other}, f"other-{name} is given to validate on and again to test on"),
    ):
        with pytest.raises(ur.UnrolledError, match=said):
            kind.train(path, **held, **how)
    if kind is ur.Classifier:  # whose files may be read by hand, or for folds
        for source, more in ((read_labelled(path), {}), (path, {"folds": 2})):
            with pytest.raises(ur.UnrolledError, match=f"{name} is given to train on and again to validate on; give"):
                kind.train(source, val=path, **how, **more)
        half = read_labelled(path)
        kind.train(half.part(range(9)), val=half.part(range(9, 18)), **how)
    trained = kind.train(path, val=other, out=tmp_path / "run", **how)
    assert kind.resume(tmp_path / "run").result.steps == trained.result.steps


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
@pytest.mark.parametrize("kind", DATA)
def test_a_file_that_became_a_pipe_is_not_waited_for(kind, tmp_path):
    name, content, options = DATA[kind]
    path, other = tmp_path / name, tmp_path / f"other-{name}"
    how = options | {"epochs": 1, "hidden_size": 4, "batch_size": 2}
    for k, moved in enumerate((path, other)):
        for place in (path, other):
            place.write_text(content)
        kind.train(path, val=other, out=tmp_path / f"{k}", **how)
        moved.unlink()
        os.mkfifo(moved)
        with pytest.raises(ur.UnrolledError, match=rf"is in .*{moved.name}, which is a pipe now, and can't be read"):
            kind.resume(tmp_path / f"{k}")
        if moved is path:  # and what is given is read instead
            again = tmp_path / f"again-{name}"
            again.write_text(content)
            kind.resume(tmp_path / f"{k}", again)
        moved.unlink()


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not storage.HOLDS_FILES, reason="copies stay in memory here")
@pytest.mark.parametrize(("hidden_size", "num_layers"), [(240, 2), (300, 1)])
def test_a_run_takes_at_most_six_times_its_parameters(hidden_size, num_layers, tmp_path):
    """Parameters, gradients and Adam's two moments are four; saving, drawing and going on copy next to nothing."""
    wide = {"hidden_size": hidden_size, "num_layers": num_layers, "batch_size": 1, "seq_length": 4, "sample_length": 5}
    wide |= {"backend": "reference", "eval_every": 1, "checkpoint_every": 2, "epochs": 0.015}

    def traced(train):
        tracemalloc.start()
        try:
            model = train()
            return tracemalloc.get_traced_memory()[1] / (4 * model.network.parameter_count), model.result.steps
        finally:
            tracemalloc.stop()

    begun, steps = traced(lambda: ur.LanguageModel.train(TEXT, out=tmp_path, **wide))
    assert steps == 3
    gone_on, steps = traced(lambda: ur.LanguageModel.resume(tmp_path, TEXT, epochs=0.025))
    assert steps == 5
    assert max(begun, gone_on) < 6


def test_a_model_is_said_to_be_kept_only_where_one_is(tmp_path):
    run = SimpleNamespace(out=tmp_path / "run", state=SimpleNamespace(best=None))
    assert Trainer._what_is_kept(run) == f"No model had been validated, and nothing is saved in {run.out} yet"
    run.out.mkdir()
    (run.out / "model.safetensors").touch()
    assert Trainer._what_is_kept(run) == f"No model had been validated; {run.out} holds the untrained one"


def test_a_rate_and_a_clip_for_a_summed_loss_are_scaled_by_its_steps():
    """Rate 1 and clip 0.2 of a loss summed over 20 steps are rate 20 and clip 0.01 of the mean."""

    class Untrained(Weights):
        def started(self, facts):
            super().started(facts)
            self.before = {name: p.copy() for name, p in self.network.params.items()}
            _, self.mean, _ = self.network.loss_and_gradients(*lanes(tokens, 2, 20)[0])

    text = "the cat sat on the mat. " * 3
    tokens = vocabulary_of(Corpus(text, "char", "text")).encode(text)
    options = {"hidden_size": 4, "num_layers": 1, "embedding_size": 3, "batch_size": 2, "seq_length": 20, "epochs": 0.1}
    options |= {"optimizer": "sgd", "dtype": "float64", "backend": "reference", "val_fraction": 0}
    weights = Untrained()
    ur.LanguageModel.train(text, learning_rate=20.0, grad_clip=0.01, callbacks=[weights], **options)
    summed = {name: 20 * g for name, g in weights.mean.items()}
    assert clip_by_norm(summed, 0.2) > 2
    (after,) = weights.seen
    for name, p in weights.before.items():
        # the norms are above 0.1, and the guard adds 1e-6 to each: updates of 0.2 at most agree to 1e-5 of them
        np.testing.assert_allclose(after[name], p - summed[name], rtol=0, atol=2e-6)


PEAK = """
import re, sys
from pathlib import Path
import numpy as np
import unrolled as ur
from unrolled.training.callbacks import Callback

def status(key):
    return 1024 * int(re.search(rf"{key}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

class Lines(Callback):
    drawn = 0
    def sampled(self, text):
        self.drawn += 1

folder, hidden_size, num_layers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
text, lines = np.random.default_rng(1).integers(97, 123, 4000).astype(np.uint8).tobytes(), Lines()
options = {"level": "byte", "batch_size": 2, "seq_length": 8, "val_fraction": 0.02, "eval_every": 2}
options |= {"checkpoint_every": 3, "sample_length": 40, "backend": "cpu"}
ur.LanguageModel.train(text, **options | {"hidden_size": 8, "epochs": 0.01})  # all is imported, the threads are there
before = status("VmRSS")
if folder.exists():
    model = ur.LanguageModel.resume(folder, text, epochs=0.04, callbacks=[lines])
else:
    options |= {"hidden_size": hidden_size, "num_layers": num_layers, "epochs": 0.02}
    model = ur.LanguageModel.train(text, out=folder, callbacks=[lines], **options)
print(lines.drawn, (status("VmHWM") - before) / (4 * model.network.parameter_count))
"""
"""Trains, or goes on where there is a run: the lines drawn, and the peak of resident memory in parameters."""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize(("hidden_size", "num_layers"), [(1024, 2), (1536, 1), (640, 4)])
def test_so_does_one_that_the_engine_runs(hidden_size, num_layers, tmp_path):
    """The engine's memory is not Python's; networks are so large that what its pool always keeps, 16 MB, is small."""
    pytest.importorskip("unrolled.backends.cpu._engine")
    for least in (3, 2):  # begun, and gone on
        command = [sys.executable, "-c", PEAK, str(tmp_path / "run"), str(hidden_size), str(num_layers)]
        drawn, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(drawn) >= least
        assert float(peak) < 6


KEPT = """
import os
from pathlib import Path
from unrolled import backends
from unrolled.backends.cpu import arrays

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

array = arrays.empty((1 << 24,), "float32")
array.fill(1)
used = resident()
del array
kept = resident()
backends.trim()
print(used - kept, used - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="resident memory is read from Linux's /proc")
def test_what_the_engine_keeps_for_its_next_step_can_be_given_back():
    """In a process of its own: what others had in use before decides how much is kept."""
    pytest.importorskip("unrolled.backends.cpu.arrays")
    told = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True).stdout
    gone, given = map(int, told.split())
    assert gone < 1 << 20  # it serves the next step
    assert given > 60 << 20  # of 64 MB


def test_copies_in_memory_take_the_place_of_the_copies_before():
    """A run without a folder holds one good step and the best parameters, also while it copies the next."""
    options = SMALL | {"hidden_size": 300, "num_layers": 1, "batch_size": 1, "seq_length": 4}
    options |= {"eval_every": 1, "checkpoint_every": 1, "epochs": 0.02}
    tracemalloc.start()
    try:
        model = ur.LanguageModel.train(TEXT, **options)
        peak = tracemalloc.get_traced_memory()[1] / (8 * model.network.parameter_count)
    finally:
        tracemalloc.stop()
    assert model.result.steps > 2
    assert peak < 10  # four and what a step needs, three of the good step, one of the best


@pytest.mark.parametrize("schedule", ["constant", "cosine", "plateau"])
@pytest.mark.parametrize("minutes", [5e-324, 1e-320, 1e-9])
def test_no_time_at_all_is_time_for_one_step(schedule, minutes):
    result = ur.LanguageModel.train(TEXT, minutes=minutes, schedule=schedule, **SMALL).result
    assert result.steps == 1


def test_a_model_is_not_blamed_for_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    ur.LanguageModel.train(TEXT, minutes=1e-9, **SMALL).save(path)
    monkeypatch.setattr(backends, "_mistake", "UNROLLED_THREADS is 'abc'; it must be a whole number from 1 to 1024")
    with pytest.raises(ur.UnrolledError) as caught:
        ur.load(path)
    assert str(caught.value) == backends._mistake
