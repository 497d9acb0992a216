"""Dynamic evaluation: what has been scored is learnt, and nothing before it is."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.models.dynamic import DECAY, SEGMENT, SMALL
from unrolled.models.scoring import score

TEXT = "abcab" * 30
NET = ur.Network(ur.Spec(5, "lstm", 4, 7, 2, dtype="float64"), rng=3)
TOKENS = np.random.default_rng(4).integers(0, 5, 3 * SEGMENT + 8)


def test_the_first_segment_is_as_without_and_the_second_follows_from_its_gradient():
    before = {name: p.copy() for name, p in NET.params.items()}
    plain, found = score(NET, TOKENS), score(NET, TOKENS, dynamic=0.01)
    np.testing.assert_allclose(found.log_probs[:SEGMENT], plain.log_probs[:SEGMENT], rtol=1e-12)
    x = TOKENS[:, None]
    _, grads, state = NET.loss_and_gradients(x[:SEGMENT], x[1 : SEGMENT + 1])
    moved = {  # of one segment, m is g^2
        name: (p - 0.01 * grads[name] / (np.abs(grads[name]) + SMALL)) * (1 - DECAY) + DECAY * p
        for name, p in NET.params.items()
    }
    logits, _ = NET.with_params(moved)(x[SEGMENT : 2 * SEGMENT], state)
    logs = logits[:, 0] - np.log(np.exp(logits[:, 0]).sum(axis=-1, keepdims=True))
    theirs = np.take_along_axis(logs, x[SEGMENT + 1 : 2 * SEGMENT + 1], axis=-1)[:, 0]
    np.testing.assert_allclose(found.log_probs[SEGMENT : 2 * SEGMENT], theirs, rtol=1e-9)
    for name, p in NET.params.items():
        np.testing.assert_array_equal(p, before[name])


def test_what_follows_changes_nothing_before_it():
    other = TOKENS.copy()
    other[2 * SEGMENT + 1 :] = 0
    ours, theirs = (score(NET, tokens, dynamic=0.01).log_probs[: 2 * SEGMENT] for tokens in (TOKENS, other))
    np.testing.assert_array_equal(ours, theirs)


def test_it_helps_on_a_text_unlike_the_one_that_was_learnt():
    how = {"hidden_size": 12, "num_layers": 1, "batch_size": 4, "seq_length": 10, "epochs": 3, "learning_rate": 0.01}
    model = ur.LanguageModel.train("the cat sat on the mat " * 40, sample_length=0, **how)
    new = "mat the on sat cat the " * 40
    assert model.score(new, dynamic=0.003).nats < 0.9 * model.score(new).nats
    with pytest.raises(ur.UnrolledError, match="dynamic is -1"):
        model.score(new, dynamic=-1)
    with pytest.raises(ur.UnrolledError, match="the model diverged while it learnt from the text; lower the rate, 1e"):
        model.score(new, dynamic=1e300)
    with pytest.raises(ur.UnrolledError, match="lower the rate, 1e\\+09"):
        model.score(new, dynamic=1e9)


def test_a_text_of_one_symbol_is_no_divergence():
    net = ur.Network(ur.Spec(1, "lstm", 2, 3, 1), rng=np.random.default_rng(1))
    assert score(net, np.zeros(45, int), dynamic=0.01).nats == 0
