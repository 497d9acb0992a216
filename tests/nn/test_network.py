"""The whole language network: its gradient, its names, its PyTorch twin, its masks."""

import json

import numpy as np
import pytest

from unrolled.cells import CELLS
from unrolled.data.text import Vocabulary
from unrolled.errors import UnrolledError, UnrolledWarning
from unrolled.gradcheck import check_network
from unrolled.models.language_model import LanguageModel
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec
from unrolled.reference.losses import activation_penalty, confidence, cross_entropy, log_softmax, temporal_penalty

T, B, V, E, H, L = 7, 3, 11, 4, 5, 2
STEP = 1e-30  # complex step: no cancellation, so as small as one likes


def spec(**options):
    return Spec(**({"vocabulary_size": V, "embedding_size": E, "hidden_size": H, "num_layers": L} | options))


def batch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (T, B)), rng.integers(0, V, (T, B))


def nonzero_state(net, seed=1):
    rng = np.random.default_rng(seed)
    return type(net.zero_state(B))(*(rng.normal(size=f.shape) for f in net.zero_state(B)))


@pytest.mark.parametrize("embedding_size", [0, E, V + 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_every_parameter_gradient_equals_the_complex_step(cell, bias, embedding_size):
    net = Network(
        spec(cell=cell, bias=bias, embedding_size=embedding_size, dropout=0.3, dtype="float64"), backend="reference"
    )
    x, y = batch()
    state, rng = nonzero_state(net), np.random.default_rng(2)
    masks = net.draw_masks(T, B, rng)
    loss, grads, _ = net.loss_and_gradients(x, y, state, masks=masks)
    assert list(grads) == list(net.params)
    for name, p in net.params.items():
        for _ in range(4):
            direction = rng.normal(size=p.shape)
            moved = net.with_params(net.params | {name: p + 1j * STEP * direction})
            slope = moved.loss(x, y, state, masks=masks)[0].imag / STEP
            # sums of at most T B V = 231 products in float64
            assert (grads[name] * direction).sum() == pytest.approx(slope, rel=1e-11, abs=1e-14), name
    assert loss == pytest.approx(net.loss(x, y, state, masks=masks)[0], rel=1e-15)


def test_the_loss_is_the_mean_over_all_targets():
    logits = np.random.default_rng(0).normal(size=(T, B, V))
    y = batch()[1]
    loss, d = cross_entropy(logits, y)
    picked = [log_softmax(logits[t, b])[y[t, b]] for t in range(T) for b in range(B)]
    assert loss == pytest.approx(-np.mean(picked), rel=1e-14)
    np.testing.assert_allclose(d.sum(axis=-1), 0, atol=1e-16)
    far = cross_entropy(np.array([[[1000.0, 0.0]]]), np.array([[1]]))  # no overflow
    assert far[0] == 1000.0


def test_penalties_have_the_oracle_numbers():
    """PyTorch 2.13: cross_entropy(z, y, label_smoothing=0.2); 2 h.pow(2).mean() + 3 (h[1:] - h[:-1]).pow(2).mean()."""
    z, y = 3 * np.sin(np.arange(T * B * V)).reshape(T, B, V), (5 * np.arange(T * B) % V).reshape(T, B)
    assert cross_entropy(z, y)[0] + 0.2 * confidence(z, y) == pytest.approx(3.77227086366147, rel=1e-14)
    loss, dz = cross_entropy(z, y, smoothing=0.2)
    assert loss == cross_entropy(z, y)[0]
    expected = [-0.03818261753672543, 0.008851673341243158, 0.011044516803716911]
    np.testing.assert_allclose(dz[0, 0, :3], expected, rtol=1e-13)
    h = np.sin(np.arange(T * B * H)).reshape(T, B, H)
    value = 2 * activation_penalty(h)[0] + 3 * temporal_penalty(h)[0]
    assert value == pytest.approx(6.209656204559503, rel=1e-14)
    one_step, d = temporal_penalty(h[:1])
    assert (one_step, np.abs(d).max()) == (0, 0)


PENALTIES = {"ar": 2.0, "tar": 3.0, "label_smoothing": 0.2}


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("dropped", [{"dropout": 0.3}, {"locked_dropout": 0.3}])
def test_penalties_equal_autograd(backend, dropped):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    net = Network(spec(num_layers=1, dtype="float64", **dropped, **PENALTIES), backend=backend)
    x, y = batch()
    masks = net.draw_masks(T, B, np.random.default_rng(6))
    ((_, mask),) = masks.items()
    p = {name: torch.tensor(a, requires_grad=True) for name, a in net.params.items()}
    lstm = torch.nn.LSTM(E, H).double()
    names = {name: p[f"recurrent.{name}"] for name, _ in lstm.named_parameters()}
    raw = torch.func.functional_call(lstm, names, (p["embedding.weight"][torch.tensor(x)],))[0]
    output = raw * torch.tensor(mask) / 0.7
    logits = output @ p["decoder.weight"].T + p["decoder.bias"]
    plain, smoothed = (
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y).flatten(), label_smoothing=s)
        for s in (0.0, 0.2)
    )
    value = smoothed + 2 * output.pow(2).mean() + 3 * (raw[1:] - raw[:-1]).pow(2).mean()
    value.backward()
    loss, grads, _ = net.loss_and_gradients(x, y, masks=masks)
    assert loss == pytest.approx(plain.item(), rel=1e-14)  # the cross-entropy itself
    assert net.objective(x, y, masks=masks)[0] == pytest.approx(value.item(), rel=1e-14)
    for name, a in p.items():
        np.testing.assert_allclose(grads[name], a.grad.numpy(), rtol=0, atol=1e-14)


def test_penalties_are_of_training_alone():
    plain, net = Network(spec(dtype="float64"), rng=1), Network(spec(dtype="float64", **PENALTIES), rng=1)
    x, y = batch()
    assert net.loss(x, y)[0] == plain.loss(x, y)[0]
    loss, grads, _ = net.loss_and_gradients(x, y)
    same, others, _ = plain.loss_and_gradients(x, y)
    assert loss == same
    assert all(np.abs(grads[name] - others[name]).max() > 1e-4 for name in grads)  # every parameter feels them
    for name in PENALTIES:
        with pytest.raises(UnrolledError, match=rf"^{name} is -0.5; it must be (a number, 0 or more|at least 0 and)"):
            Network(spec(**{name: -0.5}))


@pytest.mark.parametrize("embedding_size", [0, E])
def test_parameters_load_into_the_obvious_torch_module(embedding_size):
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if embedding_size:
                self.embedding = torch.nn.Embedding(V, embedding_size)
            self.recurrent = torch.nn.LSTM(embedding_size or V, H, L)
            self.decoder = torch.nn.Linear(H, V)

        def forward(self, x):
            x = self.embedding(x) if embedding_size else torch.nn.functional.one_hot(x, V).double()
            return self.decoder(self.recurrent(x)[0])

    net = Network(spec(dtype="float64", embedding_size=embedding_size))
    twin = Twin().double()
    twin.load_state_dict({name: torch.tensor(p) for name, p in net.params.items()})
    x, y = batch()
    logits, _ = net(x)
    theirs = twin(torch.tensor(x))
    np.testing.assert_allclose(logits, theirs.detach().numpy(), rtol=0, atol=1e-14)  # sums of 11 products near 1
    loss, grads, _ = net.loss_and_gradients(x, y)
    torch_loss = torch.nn.functional.cross_entropy(theirs.reshape(-1, V), torch.tensor(y).reshape(-1))
    torch_loss.backward()
    assert loss == pytest.approx(torch_loss.item(), rel=1e-14)
    for name, p in twin.named_parameters():
        np.testing.assert_allclose(grads[name], p.grad.numpy(), rtol=0, atol=1e-14)


def test_golden_names_and_shapes():
    shapes = {name: p.shape for name, p in Network(spec()).params.items()}
    assert shapes == {
        "embedding.weight": (11, 4),
        "recurrent.weight_ih_l0": (20, 4),
        "recurrent.weight_hh_l0": (20, 5),
        "recurrent.bias_ih_l0": (20,),
        "recurrent.bias_hh_l0": (20,),
        "recurrent.weight_ih_l1": (20, 5),
        "recurrent.weight_hh_l1": (20, 5),
        "recurrent.bias_ih_l1": (20,),
        "recurrent.bias_hh_l1": (20,),
        "decoder.weight": (11, 5),
        "decoder.bias": (11,),
    }
    assert "recurrent.weight_peephole_l1" in Network(spec(cell="lstm_peephole")).params
    assert "embedding.weight" not in Network(spec(embedding_size=0)).params
    assert Network(spec()).parameter_count == 44 + 80 + 100 + 40 + 100 + 100 + 40 + 55 + 11
    for options in ({"bias": False}, {"embedding_size": 0}, {"cell": "lstm_peephole"}, {"cell": "rnn_relu"}):
        net = Network(spec(**options))
        assert net.parameter_count == sum(p.size for p in net.params.values())


def test_steps_equal_one_call_and_chunks_equal_the_whole():
    net = Network(spec(cell="gru_reset_after", dtype="float64"))
    x, _ = batch()
    whole, final = net(x)
    state = None
    for t in range(T):
        logits, state = net.step(x[t], state)
        np.testing.assert_allclose(logits, whole[t], rtol=0, atol=1e-15)
    np.testing.assert_allclose(state.h, final.h, rtol=0, atol=1e-15)
    first, middle = net(x[:3])
    second, last = net(x[3:], middle)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, rtol=0, atol=1e-15)
    np.testing.assert_allclose(last.h, final.h, rtol=0, atol=1e-15)


def test_dropout_masks_come_from_the_rng_and_scale():
    net = Network(spec(dropout=0.25))
    masks = net.draw_masks(200, B, np.random.default_rng(4))
    assert {name: m.shape for name, m in masks.items()} == dict.fromkeys(("dropout_l0", "dropout_l1"), (200, B, H))
    kept = np.mean([m.mean() for m in masks.values()])
    assert abs(kept - 0.75) < 4 * np.sqrt(0.25 * 0.75 / (L * 200 * B * H))  # four standard deviations
    again = net.draw_masks(200, B, np.random.default_rng(4))
    assert all((a == b).all() for a, b in zip(masks.values(), again.values(), strict=True))
    assert Network(spec()).draw_masks(T, B, np.random.default_rng(0)) is None


def test_char_rnn_init():
    net = Network(spec(cell="lstm", init="char-rnn"), rng=np.random.default_rng(3))
    for name, p in net.params.items():
        if ".bias_" in name:
            np.testing.assert_array_equal(p[H : 2 * H], 0.5)
            p = np.delete(p, slice(H, 2 * H))
        assert np.abs(p).max() <= 0.08
        assert np.abs(p).max() > 0.04
    np.testing.assert_array_equal(net.params["recurrent.bias_ih_l1"], net.recurrent.params["bias_ih_l1"])


def test_spec_round_trip_and_errors():
    assert Spec.from_json(spec().to_json()) == spec()
    with pytest.raises(UnrolledError, match=r"^spec has no entry vocabulary_size$"):
        Spec.from_json({"cell": "lstm"})
    with pytest.raises(UnrolledError, match=r"^spec\.num_layers is '2'; expected a whole number from 0 to 9,007,199"):
        Spec.from_json(spec().to_json() | {"num_layers": "2"})
    with pytest.raises(UnrolledError, match=r"^hidden_size is 0; it must be a whole number, 1 or more$"):
        Network(spec(hidden_size=0))
    with pytest.raises(UnrolledError, match=r"^embedding_size is -1; it must be a whole number, 0 or more$"):
        Network(spec(embedding_size=-1))
    net = Network(spec())
    with pytest.raises(UnrolledError, match=r"^tokens run from 0 to 11; this network knows 0 to 10$"):
        net(np.array([[0, 11]]))
    with pytest.raises(UnrolledError, match=r"^tokens are float64 of shape \(2, 2\); expected integers \(T, B\)$"):
        net(np.zeros((2, 2)))
    for wrong in ((7, 1), (1, 3), (0, 3)):
        with pytest.raises(UnrolledError, match=r"^y has shape .*, x \(7, 3\); expected the same, not empty$"):
            net.loss_and_gradients(np.zeros((7, 3), int), np.zeros(wrong, int))
    before = {name: p.copy() for name, p in net.params.items()}
    with pytest.raises(UnrolledError, match=r"^decoder\.bias has shape \(12,\); this network takes \(11,\)$"):
        net.load_params(net.params | {"decoder.bias": np.zeros(12)})
    assert all((net.params[name] == p).all() for name, p in before.items())


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("embedding_size", [0, E])
def test_the_gradient_of_the_embedded_tokens_equals_differences(backend, embedding_size):
    """A row of the embedding that occurs once has the gradient of the input at that place."""
    net = Network(spec(dtype="float64", embedding_size=embedding_size), backend=backend)
    tokens = np.arange(6).reshape(3, 2)
    logits, _, tape = net.forward(tokens, inputs=True)
    dlogits = np.random.default_rng(1).normal(size=logits.shape)
    dx = net.input_gradient(tape, dlogits)
    grads = net.backward(tape, dlogits)[1]
    plain = net.backward(net.forward(tokens)[2], dlogits)[1]
    for name, g in plain.items():
        np.testing.assert_allclose(grads[name], g, rtol=0, atol=1e-13)  # sums in another order
    if embedding_size:
        np.testing.assert_allclose(dx.reshape(6, E), grads["embedding.weight"][:6], rtol=0, atol=1e-15)
    else:
        assert dx.shape == (3, 2, V)
        hot = np.eye(V)[tokens]
        step = 1e-6 * np.random.default_rng(2).normal(size=hot.shape)
        up, down = (dlogits * net._decode(net.recurrent(hot + s)[0]) for s in (step, -step))
        assert (dx * step).sum() == pytest.approx(
            (up - down).sum() / 2, rel=1e-6
        )  # central differences: step² and eps / step
    folded = net.forward(np.zeros((V, V), int))[2]
    with pytest.raises(
        UnrolledError, match=r"^the tape has no inputs to give a gradient of; run forward\(\.\.\., inputs="
    ):
        net.input_gradient(folded, np.zeros((V, V, V)))


def test_lists_will_do_for_tokens_and_what_is_wrong_with_them_is_said():
    net = Network(spec())
    x, y = batch()
    assert net.loss(x.tolist(), y.tolist())[0] == net.loss(x, y)[0]
    np.testing.assert_array_equal(net.step([1, 2, 3])[0], net.step(np.array([1, 2, 3]))[0])
    starts = np.zeros((T, B), bool)
    assert net.loss(x, y, starts=starts.tolist())[0] == net.loss(x, y)[0]
    for message, call in {
        r"^targets has rows of unequal length; expected": lambda: net.loss(x, [[1, 2], [1]]),
        r"^tokens is None; expected an array of numbers$": lambda: net.loss(None, y),
        r"^tokens has masked entries": lambda: net(np.ma.masked_array(x, x == 3)),
        r"^targets run from 0 to 11; this network knows 0 to 10$": lambda: net.loss(x, np.full(x.shape, 11) * (x > 3)),
        r"^state\.h has rows of unequal length": lambda: net.loss(x, y, ([[1], [1, 2]], 1)),
        r"^starts are int64 of shape \(7, 3\); expected bool": lambda: net.loss(x, y, starts=starts.astype(int)),
        r"^masks are \[1\]; expected what draw_masks gives$": lambda: net.loss(x, y, masks=[1]),
        r"^dlogits has shape \(7, 3\); expected \(T, B, V\) = \(7, 3, 11\)$": lambda: net.backward(
            net.forward(x)[2], np.zeros((T, B))
        ),
        r"^spec is 7; expected a Spec, such as unrolled\.Spec": lambda: Network(7),
    }.items():
        with pytest.raises(UnrolledError, match=message):
            call()


def test_a_network_says_what_it_is():
    net = Network(spec(), backend="reference")
    assert repr(net) == (
        "Network('lstm', vocabulary_size=11, embedding_size=4, hidden_size=5, num_layers=2, 570 parameters, reference)"
    )


def test_a_specs_numbers_are_pythons_own():
    made = Spec(np.int64(11), hidden_size=(np.int32(5), np.int64(6)), dropout=np.float64(0.5), bias=np.bool_(True))
    plain = Spec(11, hidden_size=(5, 6), dropout=0.5, bias=True)
    assert json.dumps(made.to_json()) == json.dumps(plain.to_json())


def test_dropout_without_masks_is_warned_of_once():
    net, (x, y) = Network(spec(embedding_dropout=0.25)), batch()
    with pytest.warns(
        UnrolledWarning, match=r"^embedding_dropout is 0\.25, and nothing is dropped: there are no masks"
    ):
        net.loss_and_gradients(x, y)
    net.forward(x)
    other = Network(spec(dropout=0.25))
    other.forward(x, masks={})
    with pytest.warns(UnrolledWarning, match=r"^dropout is 0\.25"):
        other.forward(x)


def test_a_network_that_reads_both_ways_is_its_two_directions_and_a_decoder():
    net = Network(spec(bidirectional=True, dtype="float64"), rng=0)
    x, lengths = batch()[0], np.array([4, 7, 2])
    logits, _ = net(x, lengths=lengths)
    y, _ = net.recurrent(net.params["embedding.weight"][x], None, lengths)
    assert y.shape == (T, B, 2 * H)
    np.testing.assert_allclose(logits, y @ net.params["decoder.weight"].T + net.params["decoder.bias"], rtol=1e-12)
    assert net.params["decoder.weight"].shape == net.spec.shapes()["decoder.weight"] == (V, 2 * H)
    assert net.parameter_count == net.spec.parameter_count


@pytest.mark.parametrize("options", [{}, {"tied": True, "embedding_size": 2 * H}, {"residual": True}], ids=str)
def test_the_gradients_of_a_network_that_reads_both_ways_are_proven(options):
    assert check_network(Network(spec(bidirectional=True, **options), rng=0)).raise_if_failed().passed


def test_a_description_names_no_later_option_that_is_not_used():
    assert "bidirectional" not in spec().to_json()
    said = json.loads(json.dumps(spec(bidirectional=True).to_json()))
    assert said["bidirectional"] is True
    assert Spec.from_json(said) == spec(bidirectional=True)


def test_a_network_that_reads_both_ways_takes_no_step_and_samples_nothing():
    net = Network(spec(bidirectional=True), rng=0)
    with pytest.raises(UnrolledError, match="has no step: the reverse direction needs the whole sequence"):
        net.step(np.zeros(B, int))
    with pytest.raises(UnrolledError, match="samples nothing: it reads whole sequences"):
        net.sampler(None, 9)
    with pytest.raises(UnrolledError, match=r"embedding as wide as the last layer: embedding_size is 5, that is 10$"):
        Network(spec(bidirectional=True, tied=True, embedding_size=H))


def test_a_language_model_reads_one_way():
    with pytest.raises(UnrolledError, match=r"bidirectional is true; a model of the next symbol can't read what comes"):
        LanguageModel.train("the cat sat. " * 90, bidirectional=True)
    vocabulary = Vocabulary.of("the cat", "char")
    with pytest.raises(UnrolledError, match="the network is bidirectional; a model of the next symbol"):
        LanguageModel(Network(Spec(len(vocabulary), bidirectional=True)), vocabulary)
