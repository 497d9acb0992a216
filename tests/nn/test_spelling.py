"""Words with their spelling: each distinct one is read once, both ways, and all of it has its gradient."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.gradcheck import check_network
from unrolled.nn import heads
from unrolled.nn.spelling import distinct, groups

T, B, V, A, C, E, H, K = 7, 4, 11, 9, 6, 4, 5, 3
SIZES = {"characters": A, "characters_embedding_size": 3, "characters_hidden_size": 2, "embedding_size": E}
LENGTHS = np.array([7, 3, 0, 5])
LIVE = np.arange(T)[:, None] < LENGTHS


def network(head=None, **options):
    told = SIZES | {"hidden_size": H, "num_layers": 1, "bidirectional": True} | options
    return ur.Network(ur.Spec(V, **told), rng=1, head=head or heads.tags(K))


def words(seed=0):
    """Words (T, B, 1 + C), some without a character."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(0, C + 1, (T, B, 1))
    spelled = rng.integers(1, A + 1, (T, B, C)) * (np.arange(C) < ends)
    return np.concatenate([rng.integers(0, V, (T, B, 1)), spelled], axis=-1)


def encoded(net, word):
    """Return the final states of the encoder, of one word by itself, by PyTorch's equations through a stack alone."""
    stack = ur.Recurrent(net.spec.cell, 3, 2, bidirectional=True, dtype=net.spec.dtype)
    prefix = "characters.recurrent."
    stack.params = {name.removeprefix(prefix): p for name, p in net.params.items() if name.startswith(prefix)}
    x = net.params["characters.embedding.weight"][word[word > 0] - 1]
    return stack(x[:, None])[1].h[:, 0].ravel() if len(x) else np.zeros(4)


def test_the_first_layer_reads_the_word_and_the_ends_of_its_spelling():
    net, x = network(dtype="float64"), words()
    spelled = np.array([[encoded(net, x[t, b, 1:]) for b in range(B)] for t in range(T)])
    y, _ = net.recurrent(np.concatenate([net.params["embedding.weight"][x[..., 0]], spelled], axis=-1))
    np.testing.assert_allclose(net(x)[0], y @ net.params["decoder.weight"].T + net.params["decoder.bias"], rtol=1e-12)
    assert net.recurrent.input_size == net.spec.input_size == E + 4


def test_parameters_have_the_names_and_shapes_that_the_description_says():
    net = network(heads.tags(K, crf=True))
    assert {name: p.shape for name, p in net.params.items()} == net.spec.shapes(net.head)
    assert list(net.params) == list(net.spec.shapes(net.head))
    assert net.params["characters.embedding.weight"].shape == (A, 3)
    assert net.params["characters.recurrent.weight_ih_l0_reverse"].shape == (8, 3)
    assert ur.Spec.from_json(json.loads(json.dumps(net.spec.to_json()))) == net.spec
    assert not {"characters", "characters_hidden_size", "word_dropout", "input_dropout"} & ur.Spec(V).to_json().keys()


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_after", "lstm_layer_norm"])
def test_words_with_spelling_are_proven(cell, backend):
    options = {"cell": cell, "input_dropout": 0.3, "word_dropout": 0.4, "bidirectional": True}
    sizes = SIZES | {"characters_hidden_size": 6}  # a norm of two units is all but a step
    spec = ur.Spec(V, **sizes, hidden_size=H, num_layers=1, **options)
    report = check_network(ur.Network(spec, rng=1, head=heads.tags(K, crf=True), backend=backend)).raise_if_failed()
    assert any("characters.embedding.weight" in proof.subject for proof in report)


def test_padding_and_the_order_of_rows_change_nothing():
    net, x, y = network(), words(), np.random.default_rng(1).integers(0, K, (T, B))
    odd = x.copy()
    odd[~LIVE] = -100
    loss, grads, _ = net.loss_and_gradients(x, y, lengths=LENGTHS)
    again, theirs, _ = net.loss_and_gradients(odd, y, lengths=LENGTHS)
    assert again == loss
    wider = np.concatenate([x, np.zeros((T, B, 3), int)], axis=-1)
    assert net.loss(wider, y, lengths=LENGTHS)[0] == net.loss(x, y, lengths=LENGTHS)[0]
    for name, g in grads.items():
        np.testing.assert_array_equal(theirs[name], g, err_msg=name)
    order = [2, 0, 3, 1]
    moved, _ = net(x[:, order], lengths=LENGTHS[order])
    # float32 sums whose rows may be taken in another order: some roundings of 6e-8 of numbers around 1
    np.testing.assert_allclose(moved, net(x, lengths=LENGTHS)[0][:, order], atol=1e-6)


def test_each_distinct_word_is_read_once_the_shortest_first():
    x = words()[..., 1:]
    found = distinct(x)
    assert found.characters.shape[1] == len({tuple(word) for word in x.reshape(-1, C).tolist()})
    assert (np.diff(found.lengths) >= 0).all()
    np.testing.assert_array_equal(found.characters.T[found.which] + 1, x)
    parts = list(groups(found.lengths))
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts[:-1])]
    assert parts[-1][0].stop == len(found.lengths)
    for part, longest in parts:
        assert longest == found.lengths[part].max() <= 1.5 * found.lengths[part].min()


def test_a_dropped_word_is_unknown_and_keeps_its_spelling():
    net, x = network(word_dropout=0.5, input_dropout=0.25), words()
    masks = net.draw_masks(T, B, 3)
    assert {name: mask.shape for name, mask in masks.items()} == {"words": (T, B), "input": (T, B, E + 4)}
    assert 0 < masks["words"].sum() < T * B
    masks["input"] = np.ones_like(masks["input"])
    unknown = np.where(masks["words"], x[..., 0], 0)
    there = np.concatenate([unknown[..., None], x[..., 1:]], axis=-1)
    plain = network(input_dropout=0.25)
    plain.params = net.params
    theirs = plain.forward(there, masks={"input": masks["input"]})[0]
    np.testing.assert_array_equal(net.forward(x, masks=masks)[0], theirs)
    grads = net.backward(net.forward(x, masks=masks)[2], np.ones_like(theirs))[1]
    assert grads["embedding.weight"][0].any()


@pytest.mark.parametrize("inputs", ["tokens", "one-hot", "numbers"])
def test_inputs_are_dropped_whatever_they_are(inputs):
    options = {"characters": 0, "embedding_size": E if inputs == "tokens" else 0, "dtype": "float64"}
    net, rng = network(input_dropout=0.4, **options), np.random.default_rng(1)
    x = rng.normal(size=(T, B, V)) if inputs == "numbers" else rng.integers(0, V, (T, B))
    masks = net.draw_masks(T, B, 3)
    read = x if inputs == "numbers" else (np.eye(V) if inputs == "one-hot" else net.params["embedding.weight"])[x]
    y, _ = net.recurrent(np.where(masks["input"], read / 0.6, 0))
    outputs = net.forward(x, masks=masks)[0]
    np.testing.assert_allclose(outputs, y @ net.params["decoder.weight"].T + net.params["decoder.bias"], rtol=1e-11)


def test_no_step_is_no_mistake():
    assert network()(np.zeros((0, B, 1 + C), int))[0].shape == (0, B, K)


REFUSED = {
    r"words are int64 of shape \(7, 4\); expected integers \(T, B, 1 \+ C\)": lambda: network()(words()[..., 0]),
    "words run from 99 to 109; this network knows 0 to 10": lambda: network()(words() + 99),
    "characters run from -1 to 10; this network knows 0 to 9": lambda: network()(np.full((T, B, 3), [1, 10, -1])),
    "a word has a character 0 before its end": lambda: network()(np.full((T, B, 3), [1, 0, 2])),
    "words are read by a table, with their spelling or without": lambda: network(embedding_size=0),
    "characters_hidden_size is 0": lambda: network(characters_hidden_size=0),
    "no option is called 'character'; did you mean 'characters'": lambda: network(character=3),
}


@pytest.mark.parametrize("said", REFUSED)
def test_words_that_a_network_can_not_read_are_said(said):
    with pytest.raises(ur.UnrolledError, match=said):
        REFUSED[said]()
