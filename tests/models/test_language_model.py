"""Training, sampling and scoring through the public class."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.text import Bytes, bigram_entropy
from unrolled.models.options import Options
from unrolled.models.sampling import sample_token
from unrolled.reference.losses import log_softmax
from unrolled.training.callbacks import Callback

TEXT = "the cat sat on the mat. the dog ate the rat. " * 60
SMALL = {"hidden_size": 24, "num_layers": 1, "embedding_size": 6, "batch_size": 3, "seq_length": 20, "epochs": 6}


@pytest.fixture(scope="module")
def model():
    return ur.LanguageModel.train(TEXT, learning_rate=0.01, **SMALL)


def test_training_beats_the_bigrams(model):
    tokens = model.vocabulary.encode(TEXT)
    last = model.result.history[-1]
    assert last.val_loss < 0.5 * bigram_entropy(tokens, len(model.vocabulary))
    assert model.result.steps == round(6 * np.ceil(((len(tokens) * 95 // 100) - 1) // 3 / 20))


def test_the_test_part_is_scored_with_the_best_model():
    model = ur.LanguageModel.train(TEXT, test_fraction=0.1, learning_rate=0.01, **SMALL)
    test = TEXT[-(len(TEXT) // 10) :]  # one lane would see all of it; three see it from a zero state each
    assert model.result.test_loss == pytest.approx(model.score(test).nats, abs=0.15)
    assert model.result.test_loss < 2


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    options = SMALL | {"epochs": 2, "dropout": 0.2, "num_layers": 2}
    a, b, c = (ur.LanguageModel.train(TEXT, seed=seed, **options) for seed in (1, 1, 2))
    for name, p in a.network.params.items():
        np.testing.assert_array_equal(p, b.network.params[name])
    assert not np.array_equal(a.network.params["decoder.bias"], c.network.params["decoder.bias"])


def test_the_first_ten_losses_are_golden():
    class Losses(Callback):
        seen = ()

        def stepped(self, progress):
            self.seen += (progress.loss,)

    losses = Losses()
    ur.LanguageModel.train(
        TEXT,
        callbacks=[losses],
        backend="reference",
        dtype="float64",
        **(SMALL | {"epochs": 10 / 43, "optimizer": "sgd"}),
    )
    golden = [2.672851, 2.668007, 2.658886, 2.647611, 2.631983, 2.617628, 2.597334, 2.579134, 2.560252, 2.540504]
    # smoothed losses, to the digits written; machines differ by about 1e-12 in float64
    np.testing.assert_allclose(losses.seen, golden, rtol=0, atol=6e-7)


@pytest.mark.parametrize(
    "optimizer", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamw"]
)
def test_every_optimizer_learns(optimizer):
    result = ur.LanguageModel.train(TEXT, optimizer=optimizer, **(SMALL | {"epochs": 4})).result
    assert result.history[-1].train_loss < np.log(17) - 0.1


def test_state_is_carried_by_row_from_chunk_to_chunk():
    seen = []

    class Spy(Callback):
        def started(self, facts):
            network, inner = facts.model.network, facts.model.network.loss_and_gradients

            def spy(x, y, state=None, **options):
                out = inner(x, y, state, **options)
                seen.append((state, out[2]))
                return out

            network.loss_and_gradients = spy

    ur.LanguageModel.train(TEXT, callbacks=[Spy()], **(SMALL | {"epochs": 1.1}))
    chunks = int(np.ceil((len(TEXT) * 95 // 100 - 1) // 3 / 20))
    assert len(seen) == round(1.1 * chunks)
    for k, (before, _) in enumerate(seen):
        if k in (0, chunks):
            assert before is None  # a new pass starts from zero
        else:
            for mine, previous in zip(before, seen[k - 1][1], strict=True):
                np.testing.assert_array_equal(mine, previous)
                assert len({row.tobytes() for row in mine[0]}) == 3  # each row its own


def test_scores_are_the_probabilities_of_the_text(model):
    text = TEXT[:301]
    score = model.score(text)
    tokens = model.vocabulary.encode(text)
    logits, _ = model.network(tokens[:-1, None])
    expected = log_softmax(logits[:, 0].astype(float))[np.arange(300), tokens[1:]]
    np.testing.assert_allclose(score.log_probs, expected, rtol=0, atol=1e-5)  # chunked: float32 products, 24 terms
    assert score.nats == pytest.approx(-expected.mean(), abs=1e-6)
    assert score.bits == pytest.approx(score.nats / np.log(2), rel=1e-15)
    assert score.perplexity == pytest.approx(np.exp(score.nats), rel=1e-15)
    assert score.predicted == 300


def test_sampling_follows_the_model(model):
    rng = np.random.default_rng
    assert model.sample("the ", 60, temperature=0) == model.sample("the ", 60, temperature=0)
    assert "the " in model.sample("the cat sat on ", 20, temperature=0)
    assert model.sample("the ", 50, rng=rng(3)) == model.sample("the ", 50, rng=rng(3))
    assert model.sample("the ", 50, rng=rng(3)) != model.sample("the ", 50, rng=rng(4))
    assert "".join(model.stream("the ", 50, rng=rng(3))) == model.sample("the ", 50, rng=rng(3))
    assert len(model.sample("", 7)) == 7


def test_draws_have_the_right_frequencies():
    p = np.array([0.1, 0.0, 0.6, 0.3])
    rng, n = np.random.default_rng(0), 20_000
    with np.errstate(divide="ignore"):
        logits = np.log(p)
    for temperature in (1.0, 0.5):
        expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
        counts = np.bincount([sample_token(logits, temperature, rng.random()) for _ in range(n)], minlength=4)
        sigma = np.sqrt(n * expected * (1 - expected))
        assert (np.abs(counts - n * expected) <= 4 * sigma).all()  # four standard deviations


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    other = ur.load(tmp_path / "m.safetensors")
    assert other.sample("the ", 30, rng=np.random.default_rng(1)) == model.sample(
        "the ", 30, rng=np.random.default_rng(1)
    )
    assert other.score("the cat").nats == model.score("the cat").nats


def test_byte_level():
    model = ur.LanguageModel.train("größer " * 300, level="byte", **(SMALL | {"epochs": 4}))
    assert len(model.vocabulary) == 256
    assert isinstance(model.sample("gr", 9, rng=np.random.default_rng(0)), str)
    assert model.score("größer ".encode()).nats < np.log(256)


def test_half_a_character_has_no_bytes():
    said = "character 2 of the text is half a character, which has no UTF-8 bytes; leave it out"
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.train("ab\ud800" * 30, level="byte", **SMALL)


def test_errors(model):
    with pytest.raises(ur.UnrolledError, match=r"^no option is called 'hidden_sise'; did you mean 'hidden_size'\?"):
        ur.LanguageModel.train(TEXT, hidden_sise=3)
    with pytest.raises(ur.UnrolledError, match="'é'"):
        model.sample("thé")
    with pytest.raises(ur.UnrolledError, match=r"^temperature is -1; it must be 0 \(greedy\) or a positive number$"):
        model.sample("the", temperature=-1)
    with pytest.raises(ur.UnrolledError, match=r"^a text of 1 symbol has nothing to predict; scoring needs 2 or more$"):
        model.score("t")
    with pytest.raises(ur.UnrolledError, match="the training part"):
        ur.LanguageModel.train("too short")
    with pytest.raises(ur.UnrolledError, match=r"^the text is empty$"):
        ur.LanguageModel.train("")
    with pytest.raises(ur.UnrolledError, match=r"^val_fraction and test_fraction leave nothing to train on"):
        Options(val_fraction=0.5, test_fraction=0.5)
    with pytest.raises(ur.UnrolledError, match=r"^grad_clip is -1.0; it must be a number, 0 or more$"):
        Options(grad_clip=-1)
    with pytest.raises(ur.UnrolledError, match=r"^epochs is 0; it must be above 0 and at most 1,000,000$"):
        Options(epochs=0)


def test_divergence_stops_and_names_step_and_tensor(tmp_path):
    options = SMALL | {"optimizer": "sgd", "learning_rate": 1e6, "grad_clip": 0, "cell": "rnn_relu", "eval_every": 1}
    with pytest.raises(
        ur.UnrolledError,
        match=r"^stopped at step \d+: the (training|validation) loss .*(embedding|recurrent|decoder)[.]",
    ) as caught:
        ur.LanguageModel.train(TEXT, out=tmp_path, **options)
    assert "(3 lower rates were tried). No model had been validated; " in str(caught.value)
    ur.load(tmp_path / "last.safetensors")  # readable, finite


def test_nan_in_a_parameter_is_named(tmp_path):
    class Poison(Callback):
        def started(self, facts):
            self.net = facts.model.network

        def stepped(self, progress):
            if progress.step == 3:
                self.net.params["recurrent.weight_hh_l0"][2, 1] = np.nan

    message = (
        r"^stopped at step 4: the training loss is not a number; recurrent\.weight_hh_l0 holds values that are not"
    )
    with pytest.raises(ur.UnrolledError, match=message):
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[Poison()], **SMALL)
    ur.load(tmp_path / "last.safetensors")


def test_an_interrupt_saves_and_the_model_is_whole(tmp_path):
    class Impatient(Callback):
        def stepped(self, progress):
            if progress.step == 5:
                raise KeyboardInterrupt

    with pytest.raises(ur.Interrupted) as caught:
        ur.LanguageModel.train(TEXT, out=tmp_path, callbacks=[Impatient()], **SMALL)
    model = caught.value.model
    assert model.result.interrupted
    assert model.result.steps == 5
    for name in ("model", "last"):
        saved = ur.load(tmp_path / f"{name}.safetensors")
        for key, p in model.network.params.items():
            np.testing.assert_array_equal(saved.network.params[key], p)


def test_the_name_of_a_file_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("to be or not to be")
    with pytest.raises(ur.UnrolledError, match=r"^the text 'book\.txt' is the name of a file; .* Path\('book\.txt'\)$"):
        ur.LanguageModel.train("book.txt")


def test_a_model_has_a_network_and_a_vocabulary_of_one_size(model):
    for network, vocabulary, said in [
        (None, model.vocabulary, "network is None; expected a Network"),
        (model.network, None, "vocabulary is None; expected a Vocabulary"),
        (
            model.network,
            Bytes(),
            "the vocabulary has 256 symbols, the network predicts 14; they must be as",
        ),
    ]:
        with pytest.raises(ur.UnrolledError, match=f"^{said}"):
            ur.LanguageModel(network, vocabulary)


def test_no_file_to_validate_on_is_none_or_nothing():
    models = [ur.LanguageModel.train(TEXT, val=val, **SMALL | {"epochs": 0.1}) for val in ((), None, "")]
    assert len({model.result.best.val_loss for model in models}) == 1
    with pytest.raises(ur.UnrolledError, match=r"^a file to read is 5; expected a path$"):
        ur.LanguageModel.train(TEXT, val=5, **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"^a callback is 5; expected a Callback$"):
        ur.LanguageModel.train(TEXT, callbacks=[5], **SMALL)


@pytest.mark.parametrize(
    ("how", "said"),
    [({"auto": "no"}, "auto is 'no'; it must be"), ({"overwrite": "no"}, "overwrite is 'no'; it must be")],
)
def test_yes_and_no_are_no_texts(how, said):
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.train("abc" * 40, epochs=1, **how)


def test_what_is_too_short_to_validate_on_is_said(tmp_path):
    (tmp_path / "one.txt").write_text("a")
    for name, use in (("val", "validate"), ("test", "test")):
        with pytest.raises(ur.UnrolledError, match=f"what is named to {use} on has 1 character; 2 or more are needed"):
            ur.LanguageModel.train("abc" * 40, epochs=1, **{name: tmp_path / "one.txt"})
