"""A language model with an adaptive softmax: everything that other language models do."""

import numpy as np
import pytest

import unrolled as ur

rng = np.random.default_rng(0)
WORDS = np.array([f"w{i}" for i in range(70)])
CHANCES = 1 / np.arange(1, 71) / (1 / np.arange(1, 71)).sum()
TEXT = " ".join(rng.choice(WORDS, p=CHANCES, size=3000))
HOW = {"level": "word", "hidden_size": 12, "embedding_size": 9, "num_layers": 1, "batch_size": 4, "seq_length": 11}
HOW |= {"epochs": 2, "learning_rate": 0.01, "sample_length": 5, "softmax": "adaptive:10,30"}


@pytest.fixture(scope="module")
def model():
    return ur.LanguageModel.train(TEXT, **HOW)


def test_it_learns_what_a_full_softmax_does(model):
    full = ur.LanguageModel.train(TEXT, **HOW | {"softmax": "full"})
    assert model.network.head.title.startswith("every_step, 16 outputs, adaptive_cross_entropy")
    assert model.result.best.val_loss == pytest.approx(full.result.best.val_loss, rel=0.03)  # other weights, one seed
    entropy = -(CHANCES * np.log(CHANCES)).sum()
    assert entropy < model.result.best.val_loss < 1.1 * entropy


def test_it_is_saved_scored_sampled_and_continued_like_any_other(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = ur.load(tmp_path / "m.safetensors")
    assert again.network.spec.softmax == "adaptive:10,30"
    line = "w3 w60 w1 w12"
    score = model.score(line)
    assert again.score(line).nats == score.nats
    tokens = model.vocabulary.encode(line)
    logs, _ = model.network.logits(tokens[:-1, None])
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, rtol=1e-5)  # float32
    picked = np.take_along_axis(logs[:, 0], tokens[1:, None], axis=-1)[:, 0]
    np.testing.assert_allclose(score.log_probs, picked, rtol=1e-4)
    assert model.sample(seed=1, length=6) == again.sample(seed=1, length=6)
    assert next(iter(model.samples(3, seed=1, length=6))) == model.sample(seed=1, length=6)


def test_a_run_goes_on_to_the_same_bits(model, tmp_path):
    ur.LanguageModel.train(TEXT, out=tmp_path / "r", **HOW | {"epochs": 1})
    again = ur.LanguageModel.resume(tmp_path / "r", TEXT, epochs=2)
    for name, p in model.network.params.items():
        np.testing.assert_array_equal(again.network.params[name], p, err_msg=name)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"softmax": "adaptive:30,10"},
            r"limits of the softmax are \[30, 10\]; expected rising ones, below 72 symbols",
        ),
        ({"softmax": "adaptive:10,300"}, "below 72 symbols"),
        ({"softmax": "adaptive:"}, "expected full, adaptive, or adaptive:2000,10000"),
        ({"softmax": "adaptive:1e3"}, "its limits must be whole numbers"),
        ({"softmax": "fast"}, "softmax is 'fast'"),
        ({"tied": True, "embedding_size": 12}, "leave out tied, or softmax"),
        ({"label_smoothing": 0.1}, "label_smoothing is of classes"),
    ],
)
def test_what_makes_no_sense_is_refused(more, said):
    with pytest.raises(ur.UnrolledError, match=said):
        ur.LanguageModel.train(TEXT, **HOW | more)


def test_other_kinds_have_none_and_it_can_t_grow(model):
    with pytest.raises(ur.UnrolledError, match="only language models have it"):
        ur.Network(ur.Spec(40, softmax="adaptive"), head=ur.heads.tags(3))
    with pytest.raises(ur.UnrolledError, match="an adaptive softmax can't grow"):
        ur.LanguageModel.train(TEXT + " new", init_from=model, epochs=1, batch_size=4, seq_length=11)


def test_a_model_keeps_its_softmax_where_another_starts_from_it():
    text = " ".join(f"w{k % 6000}" for k in range(12_000))
    small = {"level": "word", "hidden_size": 4, "embedding_size": 4, "sample_length": 0, "minutes": 1e-6}
    model = ur.LanguageModel.train(text, softmax="full", **small)
    again = ur.LanguageModel.train(text, init_from=model, auto=True, level="word", sample_length=0, minutes=1e-6)
    assert again.network.spec.softmax == "full"
    with pytest.raises(ur.UnrolledError, match="softmax is 'adaptive', but the model to start from has 'full'"):
        ur.LanguageModel.train(text, init_from=model, softmax="adaptive", **small)


def test_too_few_symbols_for_clusters_are_said():
    with pytest.raises(ur.UnrolledError, match="an adaptive softmax needs 16 symbols or more; there are 8"):
        ur.LanguageModel.train("abcdefgh" * 400, softmax="adaptive", epochs=1)
