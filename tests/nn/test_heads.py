"""Heads and losses with weights: proven derivatives, and padding that changes nothing, whatever it holds."""

import pickle

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends
from unrolled.nn import heads
from unrolled.nn.adaptive import adaptive
from unrolled.nn.heads import LANGUAGE
from unrolled.nn.pools import EVERY, POOLS
from unrolled.reference import losses
from unrolled.reference.crf import viterbi
from unrolled.training.optimizers import Adam

T, B, I, H, K, V = 7, 4, 3, 5, 6, 11
LENGTHS = np.array([7, 3, 0, 5])
LIVE = np.arange(T)[:, None] < LENGTHS
STEP = 1e-30
HEADS = {
    "tags": heads.tags(K),
    "tags of a CRF": heads.tags(K, crf=True),
    "tags by an adaptive softmax": adaptive((2, 4, K), (3, 2)),
    "labels": heads.labels(K),
    "labels by max": heads.labels(K, pooling="max"),
    "numbers": heads.numbers(K),
    "number of the last step": heads.numbers(1, pooling="last"),
    "numbers of the mean, Huber": heads.numbers(K, "huber", pooling="mean", delta=0.3),
    "quantiles": heads.numbers(K, "quantile", quantiles=(0.1, 0.5, 0.9)),
    "a distribution by attention": heads.numbers(K, "gaussian", pooling="attention"),
} | {f"class by {pooling}": heads.classes(K, pooling) for pooling in POOLS}
SELECTIONS = {"every": EVERY, **POOLS}
QUERY = {"head.query": np.linspace(-1, 1, 2 * H)}


def network(head, inputs="tokens", dtype="float64", backend="auto", **options):
    sizes = {"embedding_size": 0} if inputs == "numbers" else {"embedding_size": 4}
    sizes |= {"hidden_size": H, "num_layers": 2, "dtype": dtype}
    spec = ur.Spec(I if inputs == "numbers" else V, **sizes, **options)
    net = ur.Network(spec, backend=backend, rng=1, head=head)
    rng = np.random.default_rng(5)
    for name, p in net.params.items():
        if name.startswith("head."):
            p[...] = rng.normal(size=p.shape)  # all begin at 0
    return net


def batch(head, inputs="tokens", seed=2):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(T, B, I)) if inputs == "numbers" else rng.integers(0, V, (T, B))
    rows = (T, B) if head.stepwise else (B,)
    several = (*rows, head.numbers) if head.numbers > 1 else rows
    y = rng.random(several) if head.numbers else rng.integers(0, K, rows)
    return x, y, np.ones(rows) if head is HEADS["tags of a CRF"] else rng.random(rows) + 0.5


def rises(loss, params, name, rng):
    """Return a loss's derivative along a random direction of one parameter, by a complex step; and the direction."""
    way = rng.normal(size=params[name].shape)
    moved = {key: p.astype(complex) for key, p in params.items()}
    moved[name] = moved[name] + 1j * STEP * way
    return loss(moved).imag / STEP, way


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", ["mask", "numbers"])
def test_a_weighted_cross_entropy_has_the_gradient_that_complex_steps_give(backend, smoothing, weights):
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(T, B, K)), rng.integers(0, K, (T, B))
    w = LIVE if weights == "mask" else rng.random((T, B)) * LIVE
    loss, d = backends.choose(backend).cross_entropy(z, y, weights=w, smoothing=smoothing)
    nats = -np.take_along_axis(losses.log_softmax(z), y[..., None], -1)[..., 0]
    np.testing.assert_allclose(loss, (w * nats).sum() / w.sum(), rtol=1e-14)
    for _ in range(3):
        way = rng.normal(size=z.shape)
        moved = z + 1j * STEP * way
        rise = losses.cross_entropy(moved, y, weights=w)[0] + smoothing * losses.confidence(moved, y, w)
        np.testing.assert_allclose((d * way).sum(), rise.imag / STEP, rtol=1e-12)
    assert not d[~LIVE].any()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_weights_of_one_are_no_weights_to_the_bit(backend):
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(T, B, K)).astype("float32"), rng.integers(0, K, (T, B))
    run = backends.choose(backend).cross_entropy
    for loss, d in (run(z, y, weights=np.full((T, B), w)) for w in (True, 2.5)):
        assert loss == run(z, y)[0]
        np.testing.assert_array_equal(d, run(z, y)[1])


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_has_the_gradient_that_complex_steps_give(name, directions, lengths):
    pool, rng = SELECTIONS[name], np.random.default_rng(3)
    y = rng.normal(size=(T, B, 2 * H)) * (1 if lengths is None else LIVE[..., None])
    dy, way = rng.normal(size=pool.select(y, lengths, QUERY, directions).shape), rng.normal(size=y.shape)
    way = way if lengths is None else way * LIVE[..., None]
    d, grads = pool.select_backward(dy, y, lengths, QUERY, directions)
    rise = (pool.select(y + 1j * STEP * way, lengths, QUERY, directions) * dy).sum().imag / STEP
    np.testing.assert_allclose((d * way).sum(), rise, rtol=1e-12)
    assert {key: g.shape for key, g in grads.items()} == pool.shapes(2 * H, K)
    for key in grads:
        way = rng.normal(size=grads[key].shape)
        moved = QUERY | {key: QUERY[key] + 1j * STEP * way}
        rise = (pool.select(y.astype(complex), lengths, moved, directions) * dy).sum().imag / STEP
        np.testing.assert_allclose((grads[key] * way).sum(), rise, rtol=1e-12)


def test_a_selection_shows_what_it_is_called():
    y = np.random.default_rng(3).normal(size=(T, B, 2 * H)) * LIVE[..., None]
    found = {(name, d): pool.select(y, LENGTHS, QUERY, d) for name, pool in POOLS.items() for d in (1, 2)}
    for row, length in enumerate(LENGTHS):
        live = y[:length, row] if length else np.zeros((1, 2 * H))
        scores = np.exp(live @ QUERY["head.query"])
        for d in (1, 2):
            np.testing.assert_allclose(found["mean", d][row], live.mean(axis=0), rtol=1e-14)
            np.testing.assert_array_equal(found["max", d][row], live.max(axis=0))
            np.testing.assert_allclose(found["attention", d][row], scores @ live / scores.sum(), rtol=1e-13)
        np.testing.assert_array_equal(found["last", 1][row], live[-1])
        np.testing.assert_array_equal(found["last", 2][row], np.append(live[-1, :H], live[0, H:]))
    np.testing.assert_array_equal(POOLS["last"].select(y, None), y[-1])


def test_the_gradient_of_the_largest_goes_to_the_first_of_several():
    y = np.array([1.0, 3.0, 3.0, 2.0])[:, None, None]
    dy, _ = POOLS["max"].select_backward(np.array([[5.0]]), y, None)
    assert dy.ravel().tolist() == [0, 5, 0, 0]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("inputs", ["tokens", "numbers"])
@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_of_a_network_has_the_gradient_that_complex_steps_give(head, inputs, backend):
    head, rng = HEADS[head], np.random.default_rng(4)
    net = network(head, inputs, backend=backend, ar=0.3, tar=0.2, learn_state=True, bidirectional=True)
    x, y, weights = batch(head, inputs)
    told = {"lengths": LENGTHS, "weights": weights}
    value, grads, _ = net.loss_and_gradients(x, y, **told)
    assert value == net.loss(x, y, **told)[0]
    for name in net.params:
        rise, way = rises(lambda p: net.with_params(p, "reference").objective(x, y, **told)[0], net.params, name, rng)
        np.testing.assert_allclose((grads[name] * way).sum(), rise, rtol=1e-11, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("inputs", ["tokens", "numbers"])
@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing_whatever_it_holds(head, inputs, backend):
    head = HEADS[head]
    net = network(head, inputs, "float32", backend)
    x, y, weights = batch(head, inputs)
    weights = np.where(LENGTHS > 0, weights, 0)  # of a row without a step, nothing counts
    odd_x, odd_y = x.copy(), y.copy()
    odd_x[~LIVE] = np.nan if inputs == "numbers" else -100
    odd_y[~LIVE if head.stepwise else LENGTHS == 0] = np.nan if head.numbers else -100
    found = [net.loss_and_gradients(*xy, lengths=LENGTHS, weights=weights) for xy in ((x, y), (odd_x, odd_y))]
    assert found[0][0] == found[1][0]
    assert np.isfinite(found[0][0])
    for name, g in found[0][1].items():
        np.testing.assert_array_equal(g, found[1][1][name], err_msg=name)
    if head.stepwise:  # the lengths alone say which targets count
        net.loss_and_gradients(odd_x, odd_y, lengths=LENGTHS)


def test_a_network_on_the_last_step_is_a_stack_and_a_linear_layer():
    head = HEADS["number of the last step"]
    net = network(head, "numbers")
    x, y, _ = batch(head, "numbers")
    outputs, _, tape = net.forward(x)
    hidden, _ = net.recurrent(x)
    np.testing.assert_allclose(outputs, hidden[-1] @ net.params["decoder.weight"].T + net.params["decoder.bias"])
    value, grads, _ = net.loss_and_gradients(x, y)
    np.testing.assert_allclose(value, ((outputs[:, 0] - y) ** 2).mean())
    again = net.backward(tape, 2 * (outputs - y[:, None]) / B)[1]
    for name, g in grads.items():
        np.testing.assert_allclose(again[name], g, rtol=1e-12, err_msg=name)
    assert net.input_gradient(tape, np.ones_like(outputs)).shape == (T, B, I)


def test_a_network_with_a_head_is_copied_and_counted():
    net = network(HEADS["tags"])
    assert net.parameter_count == sum(p.size for p in net.params.values())
    x, y, _ = batch(net.head)
    assert pickle.loads(pickle.dumps(net)).loss(x, y)[0] == net.loss(x, y)[0]
    with pytest.raises(ur.UnrolledError, match=r"its head is every_step, 6 outputs, cross_entropy, this network's is"):
        network(HEADS["numbers"]).backward(net.forward(x)[2], np.ones((T, B, K)))


REFUSED = {
    "no pooling is called 'middle'. Known: last, mean, max, attention": lambda: heads.classes(K, "middle"),
    "the number of tags is 0; it must be": lambda: heads.tags(0),
    "crf is 'yes'; it must be true or false": lambda: heads.tags(K, crf="yes"),
    "a CRF scores whole sequences": lambda: network(HEADS["tags of a CRF"]).loss(
        *batch(HEADS["tags"])[:2], weights=np.arange(T * B).reshape(T, B)
    ),
    "head is 'tags'; expected a Head": lambda: network("tags"),
    "outputs is -1; it must be a whole number": lambda: network(LANGUAGE._replace(outputs=-1)),
    "tied weights give an output a symbol, 11; the head has 6": lambda: network(HEADS["tags"], tied=True),
    "label_smoothing is of classes": lambda: network(HEADS["numbers"], label_smoothing=0.1),
    "x has no steps": lambda: network(HEADS["class by last"]).forward(np.zeros((0, B), int)),
    r"weights has shape \(4,\); expected \(7, 4\)": lambda: lost(np.ones(B)),
    "weights must be finite numbers, 0 or more": lambda: lost(-np.ones((T, B))),
    "weights are all 0": lambda: lost(np.zeros((T, B))),
    r"targets run from 0 to 99; they must be at least 0 and below 6": lambda: lost(np.ones((T, B)), 99),
    "tokens are float64 of shape": lambda: network(HEADS["tags"]).forward(np.zeros((T, B, I))),
    r"targets has shape \(7, 4\); expected \(4,\)": lambda: network(HEADS["class by last"]).loss(
        *batch(HEADS["tags"])[:2]
    ),
}


def lost(weights, y=0):
    x, tags, _ = batch(HEADS["tags"])
    return network(HEADS["tags"]).loss(x, np.where(tags > 3, y, 0), weights=weights)


def test_a_heads_parameters_are_the_networks():
    net = network(HEADS["tags of a CRF"], bidirectional=True)
    assert list(net.params)[-3:] == ["head.transitions", "head.begin", "head.end"]
    assert {name: p.shape for name, p in net.params.items()} == net.spec.shapes(net.head)
    fresh = ur.Network(net.spec, rng=1, head=net.head).params
    assert not any(fresh[name].any() for name in fresh if name.startswith("head."))
    query = network(HEADS["class by attention"], bidirectional=True).params["head.query"]
    assert query.shape == (2 * H,)


def deviations(outputs):
    means, scales = outputs[..., :K], outputs[..., K:]
    return np.stack([means, np.exp(losses.log_scale(scales))], axis=-1)


OF_NUMBERS = {
    "labels": lambda outputs: 1 / (1 + np.exp(-outputs)),
    "labels by max": lambda outputs: 1 / (1 + np.exp(-outputs)),
    "numbers": lambda outputs: outputs,
    "number of the last step": lambda outputs: outputs,
    "numbers of the mean, Huber": lambda outputs: outputs,
    "quantiles": lambda outputs: np.sort(outputs.reshape(T, B, K, 3), axis=-1),
    "a distribution by attention": deviations,
}


def test_what_is_predicted_is_what_the_head_is_of():
    x, _, _ = batch(HEADS["tags"])
    for name, head in HEADS.items():
        net = network(head)
        found, (outputs, _) = net.predict(x, LENGTHS), net(x, lengths=LENGTHS)
        if head.numbers:
            np.testing.assert_allclose(found, OF_NUMBERS[name](outputs), rtol=1e-15)
        elif name != "tags of a CRF":
            np.testing.assert_array_equal(found, head.scores(outputs, net.params).argmax(-1))
        else:
            scores = [net.params[f"head.{part}"] for part in ("transitions", "begin", "end")]
            np.testing.assert_array_equal(found, viterbi(outputs, LENGTHS, *scores))


def test_a_crf_without_scores_of_its_own_is_a_softmax():
    x, y, _ = batch(HEADS["tags of a CRF"])
    chain, plain = (ur.Network(ur.Spec(V, hidden_size=H), rng=1, head=heads.tags(K, crf=crf)) for crf in (True, False))
    for told in ({}, {"lengths": LENGTHS}, {"weights": LIVE}):
        # float32 outputs, whose sums the chain takes in float64: some roundings of 6e-8
        assert chain.loss(x, y, **told)[0] == pytest.approx(plain.loss(x, y, **told)[0], rel=1e-6)
    np.testing.assert_array_equal(chain.predict(x), plain.predict(x))


def test_a_number_may_have_a_weight_of_its_own():
    head = HEADS["numbers"]
    net, (x, y, _) = network(head), batch(head)
    each = np.random.default_rng(6).random((T, B, K))
    loss, grads, _ = net.loss_and_gradients(x, y, lengths=LENGTHS, weights=each)
    live = np.where(LIVE[..., None], each, 0)
    outputs, _ = net(x, lengths=LENGTHS)
    np.testing.assert_allclose(loss, ((outputs - y) ** 2 * live).sum() / live.sum(), rtol=1e-13)
    gap = np.where(each < 0.3, np.nan, y)  # what is not known counts nothing, whatever its weight
    known = net.loss_and_gradients(x, gap, lengths=LENGTHS)
    told = net.loss_and_gradients(x, y, lengths=LENGTHS, weights=each >= 0.3)
    assert known[0] == told[0]
    for name in grads:
        np.testing.assert_array_equal(known[1][name], told[1][name], err_msg=name)


def test_keys_of_a_piano_roll_are_learnt():
    """Chords that follow one another, each of three of 88 keys: which are down next follows from those that are now."""
    rng = np.random.default_rng(0)
    chords = np.zeros((4, 88), "float32")
    for chord in chords:
        chord[rng.choice(88, 3, replace=False)] = 1
    songs = [chords[(np.arange(n) + rng.integers(4)) % 4] for n in rng.integers(9, 17, 24)]
    data = ur.batches([song[:-1] for song in songs], [song[1:] for song in songs], 8)
    spec = ur.Spec(vocabulary_size=88, cell="gru_reset_after", embedding_size=0, hidden_size=40, num_layers=1)
    net = ur.Network(spec, rng=0, head=heads.labels(88))
    adam = Adam(net.params)
    for epoch in range(20):
        for batch in data.epoch(epoch):
            told = {"lengths": batch.lengths, "weights": batch.weights}
            loss, grads, _ = net.loss_and_gradients(batch.x, batch.y, **told)
            adam.update(grads, 0.05)
    assert loss < 0.01  # nats a key; guessing how often a key is down: 0.15
    for batch in data:
        live = np.arange(len(batch.x))[:, None] < batch.lengths
        down = net.predict(batch.x, batch.lengths) > 0.5
        np.testing.assert_array_equal(down[live], batch.y[live] == 1)


@pytest.mark.parametrize("said", REFUSED)
def test_what_fits_no_head_is_said(said):
    with pytest.raises(ur.UnrolledError, match=said):
        REFUSED[said]()


def test_an_adaptive_softmax_is_torch_s_and_sums_to_one():
    torch = pytest.importorskip("torch")
    limits, classes, hidden = [3, 8], 20, 9
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(hidden, classes, limits, div_value=2.0, head_bias=True).double()
    widths = [tail[0].out_features for tail in theirs.tail]
    head, rng = adaptive((*limits, classes), widths), np.random.default_rng(3)
    with torch.no_grad():
        first = [theirs.head.weight, *(tail[0].weight for tail in theirs.tail)]
        weight = np.concatenate([w.numpy() for w in first])
        bias = np.concatenate([theirs.head.bias.numpy(), np.zeros(sum(widths))])
        params = {f"head.cluster_{i}": tail[1].weight.numpy() for i, tail in enumerate(theirs.tail, 1)}
    rows, y = rng.normal(size=(7, 4, hidden)), rng.integers(0, classes, (7, 4))
    outputs = rows @ weight.T + bias
    ours = head.scores(outputs, params)
    np.testing.assert_allclose(np.exp(ours).sum(axis=-1), 1, rtol=1e-13)
    with torch.no_grad():
        expected = theirs.log_prob(torch.tensor(rows.reshape(-1, hidden))).numpy().reshape(7, 4, classes)
        loss = theirs(torch.tensor(rows.reshape(-1, hidden)), torch.tensor(y.ravel())).loss.item()
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    np.testing.assert_allclose(head.loss(backends.choose("reference"), outputs, y, params=params)[0], loss, rtol=1e-12)
    np.testing.assert_array_equal(head.predict(outputs, None, params), expected.argmax(axis=-1))


@pytest.mark.parametrize("cut", [((3, 3, 9), (2, 2)), ((3, 9), (2, 2)), ((9,), ()), ((0, 9), (2,)), ((3, 9), (0,))])
def test_clusters_that_make_no_sense_are_refused(cut):
    with pytest.raises(ur.UnrolledError):
        adaptive(*cut)
