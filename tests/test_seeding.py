"""What is drawn without an rng: anew each time, and the same in a script that is seeded."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.ladder.layers import WordModel
from unrolled.ladder.solver import RNN
from unrolled.seeding import generator


def weights():
    spec = ur.Spec(7, hidden_size=5, num_layers=1)
    nets = [make(4, 5) for make in (ur.LSTM, ur.LSTM, ur.GRU, ur.RNN)] + [ur.Network(spec), ur.Network(spec)]
    return [np.concatenate([p.ravel() for p in net.params.values()]) for net in nets]


def test_two_networks_differ_and_a_seeded_script_repeats_itself():
    ur.manual_seed(3)
    first = weights()
    ur.manual_seed(3)
    for a, b in zip(first, weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(first, weights(), strict=True):
        assert not (a == b).any()
    assert not (first[0] == first[1]).any()
    assert not (first[4] == first[5]).any()


def test_what_is_given_its_own_seed_neither_sees_nor_moves_the_scripts():
    ur.manual_seed(3)
    expected = generator().random()
    ur.manual_seed(3)
    a, b = ur.LSTM(4, 5, rng=1), ur.LSTM(4, 5, rng=np.random.default_rng(np.int64(1)))
    model = ur.LanguageModel.train("abc " * 60, hidden_size=3, num_layers=1, batch_size=2, seq_length=5, epochs=0.1)
    model.sample("a", 5, seed=2)
    assert generator().random() == expected
    for name, p in a.params.items():
        np.testing.assert_array_equal(b.params[name], p)


def test_loading_a_model_draws_nothing(tmp_path):
    model = ur.LanguageModel.train("abc " * 60, hidden_size=3, num_layers=1, batch_size=2, seq_length=5, epochs=0.1)
    model.save(tmp_path / "m.safetensors")
    ur.manual_seed(3)
    expected = generator().random()
    ur.manual_seed(3)
    ur.load(tmp_path / "m.safetensors")
    assert generator().random() == expected


def test_a_text_drawn_without_a_seed_is_the_scripts():
    model = ur.LanguageModel.train("abc " * 60, hidden_size=3, num_layers=1, batch_size=2, seq_length=5, epochs=0.1)
    texts = []
    for _ in range(2):
        ur.manual_seed(4)
        texts.append((model.sample("a", 30), model.sample("a", 30)))
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


def test_a_seed_that_is_none_is_said():
    with pytest.raises(ur.UnrolledError, match=r"^seed is -1; it must be a whole number, 0 or more$"):
        ur.manual_seed(-1)
    for rng in (True, -1, "1", 1.0, np.random.RandomState(1)):
        for call in (lambda rng=rng: ur.LSTM(4, 5, rng=rng), lambda rng=rng: ur.Network(ur.Spec(7), rng=rng)):
            with pytest.raises(
                ur.UnrolledError, match=r"^rng is .*; expected a numpy Generator, such as .*, or a seed$"
            ):
                call()


def test_what_the_rungs_draw_follows_the_seed_of_the_script():
    rnn, words = RNN(5, "abcde"), WordModel("one two three four five six seven eight. " * 3, [3])
    for draw in (lambda: rnn.sample(0, 40), lambda: words.generate(longest=40)):
        ur.manual_seed(3)
        first, second = draw(), draw()
        ur.manual_seed(3)
        assert draw() == first != second
