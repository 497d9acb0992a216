"""What every option of a stack does, in numbers; and where it makes no sense, a clear refusal."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.nn.masks import part_masks
from unrolled.reference import scan

T, B, I, H, P = 7, 3, 4, 5, 3
X = np.random.default_rng(0).normal(size=(T, B, I))


def stack(cell="lstm", hidden=H, layers=None, **options):
    return ur.Recurrent(cell, I, hidden, layers, dtype="float64", rng=np.random.default_rng(1), **options)


def masked(net, seed=3):
    masks = net.draw_masks(T, B, np.random.default_rng(seed))
    y, state, tape = net.forward(X, masks=masks)
    return masks, y, state, tape


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_a_projected_lstm_has_pytorchs_names_and_numbers(options):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theirs = torch.nn.LSTM(I, H, proj_size=P, **options).double()
    ours = ur.LSTM(I, H, proj_size=P, dtype="float64", **options)
    assert list(ours.params) == list(theirs.state_dict())
    ours.load_params({name: p.numpy() for name, p in theirs.state_dict().items()})
    rng, passes = np.random.default_rng(0), ours.num_layers * ours.directions
    numbers = {"x": X, "h": rng.normal(size=(passes, B, P)), "c": rng.normal(size=(passes, B, H))}
    x, h, c = (torch.tensor(a, requires_grad=True) for a in numbers.values())
    y, (hn, cn) = theirs(x, (h, c))
    dy, dh, dc = (rng.normal(size=tuple(a.shape)) for a in (y, hn, cn))
    sum((a * torch.tensor(d)).sum() for a, d in ((y, dy), (hn, dh), (cn, dc))).backward()
    mine, state, tape = ours.forward(X, (numbers["h"], numbers["c"]))
    dx, dstate, grads = ours.backward(tape, dy, (dh, dc))
    pairs = [(mine, y), (state.h, hn), (state.c, cn), (dx, x.grad), (dstate.h, h.grad), (dstate.c, c.grad)]
    pairs += [(grads[name], p.grad) for name, p in theirs.named_parameters()]
    for a, b in pairs:
        b = b.detach().numpy()
        # sums of up to T B = 21 products through two layers, some hundred roundings
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * max(1, np.abs(b).max()))


def test_a_width_a_layer():
    net = stack(hidden=(6, 5), bidirectional=True)
    assert (net.num_layers, net.hidden_size, net.params["weight_ih_l1"].shape) == (2, (6, 5), (20, 12))
    y, (first, second), _ = net.forward(X)
    assert (first.h.shape, second.c.shape, y.shape) == ((2, B, 6), (2, B, 5), (T, B, 10))
    one, two = ur.LSTM(I, 6, bidirectional=True, dtype="float64"), ur.LSTM(12, 5, bidirectional=True, dtype="float64")
    for layer, n in enumerate((one, two)):
        n.load_params({name: net.params[name.replace("_l0", f"_l{layer}")] for name in n.params})
    np.testing.assert_array_equal(two(one(X)[0])[0], y)
    assert stack(hidden=(5, 5)).hidden_size == 5  # equal widths are the ordinary case, with one State
    np.testing.assert_array_equal(stack(hidden=[5, 5])(X)[0], stack(layers=2)(X)[0])


def test_residual_layers_add_their_input():
    net, plain = stack(layers=3, residual=True), stack(layers=3)
    y, _, tape = net.forward(X)
    inputs = [s.x for s in tape.scans]
    outputs = [s.y for s in tape.scans]
    np.testing.assert_array_equal(inputs[1], outputs[0])  # not around the first layer
    np.testing.assert_array_equal(inputs[2], outputs[1] + inputs[1])
    np.testing.assert_array_equal(y, outputs[2] + inputs[2])
    assert np.abs(y - plain(X)[0]).max() > 0.01


def test_locked_dropout_has_one_mask_for_all_steps():
    net = stack(layers=2, locked_dropout=0.4)
    masks, _, _, tape = masked(net)
    assert masks["locked_l0"].shape == (1, B, H)
    np.testing.assert_array_equal(tape.scans[1].x, np.where(masks["locked_l0"], tape.states[0].h / 0.6, 0))
    assert part_masks(masks, slice(2, 4))["locked_l0"].shape == (1, B, H)


@pytest.mark.parametrize("name", [name for name, cell in CELLS.items() if cell.candidate and "c" in cell.state_fields])
def test_recurrent_dropout_keeps_the_memory_and_drops_what_is_added(name):
    net = stack(name, recurrent_dropout=0.4)
    masks, _, _, tape = masked(net)
    view, dropped = tape.teaching[0], ~masks["recurrent_l0"]
    np.testing.assert_allclose(view.learn[dropped], 0, rtol=0, atol=1e-15)  # a difference of equal numbers
    assert np.abs(view.learn[~dropped]).min() > 0
    if name == "lstm":
        k = tape.gates[0]
        np.testing.assert_allclose(view.learn, np.where(dropped, 0, k.i * k.g / 0.6), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", ["gru_reset_after", "gru_reset_before", "mgu"])
def test_recurrent_dropout_of_a_gru(name):
    net = stack(name, recurrent_dropout=0.4)
    masks, _, state, tape = masked(net)
    h = tape.scans[0].states.h
    k, m = tape.gates[0], np.where(masks["recurrent_l0"], 1 / 0.6, 0)
    z = 1 - k.f if name == "mgu" else k.z
    np.testing.assert_allclose(h[1:], (1 - z) * m * k.n + z * h[:-1], rtol=0, atol=1e-15)  # two roundings
    np.testing.assert_array_equal(state.h[0], h[-1])


def test_weight_drop_is_the_same_network_with_weights_dropped():
    net = stack("gru_reset_after", layers=2, weight_drop=0.4)
    masks, y, _, tape = masked(net)
    names = ("weight_hh_l0", "weight_hh_l1")
    assert masks.keys() == set(names)
    dropped = {name: np.where(masks[name], net.params[name] / 0.6, 0) for name in names}
    other = net.with_params(net.params | dropped)
    np.testing.assert_array_equal(other(X)[0], y)
    grads = net.backward(tape, np.ones_like(y))[2]
    for name, g in other.backward(other.forward(X, masks={})[2], np.ones_like(y))[2].items():
        np.testing.assert_array_equal(grads[name], np.where(masks[name], g / 0.6, 0) if name in names else g)


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_zoneout_keeps_old_values_and_mixes_them_in_inference(backend):
    net = stack(zoneout=0.3, zoneout_cell=0.5, backend=backend)
    masks, _, _, tape = masked(net)
    s, new = tape.scans[0].states, tape.scans[0].proposed
    for field, mask in (("h", masks["zoneout_h_l0"]), ("c", masks["zoneout_c_l0"])):
        old = getattr(s, field)
        np.testing.assert_array_equal(old[1:], np.where(mask, old[:-1], getattr(new, field)))
    assert abs(masks["zoneout_c_l0"].mean() - 0.5) < 4 * 0.5 / np.sqrt(T * B * H)  # True: old; four deviations
    _, _, tape = net.forward(X)
    s, new = tape.scans[0].states, tape.scans[0].proposed
    np.testing.assert_allclose(s.h[1:], 0.3 * s.h[:-1] + 0.7 * new.h, rtol=0, atol=1e-15)
    np.testing.assert_allclose(s.c[1:], 0.5 * s.c[:-1] + 0.5 * new.c, rtol=0, atol=1e-15)


def test_a_trained_initial_state_is_what_none_means():
    net = stack(layers=2, learn_state=True, bidirectional=True)
    assert net.params["initial_c_l1_reverse"].shape == (H,)
    rng = np.random.default_rng(2)
    net.load_params(net.params | {n: rng.normal(size=H) for n in net.params if n.startswith("initial")})
    start = net.initial_state(B)
    y, _, tape = net.forward(X)
    np.testing.assert_array_equal(net(X, start)[0], y)
    np.testing.assert_array_equal(start.h[1, 0], net.params["initial_h_l0_reverse"])
    dx, dstate, grads = net.backward(tape, np.ones_like(y))
    np.testing.assert_allclose(grads["initial_c_l1"], dstate.c[2].sum(axis=0), rtol=0, atol=0)
    given = net.backward(net.forward(X, start)[2], np.ones_like(y))
    np.testing.assert_array_equal(given[0], dx)
    assert not given[2]["initial_h_l0"].any()  # a state that was given is not the parameters'


def test_initial_weights_by_name():
    lstm = stack(init="glorot", hidden=6, forget_bias=2.0)
    bound = np.sqrt(6 / (24 + I))
    assert bound * 0.9 < np.abs(lstm.params["weight_ih_l0"]).max() <= bound
    for block in np.split(lstm.params["weight_hh_l0"], 4):
        np.testing.assert_allclose(block @ block.T, np.eye(6), rtol=0, atol=1e-14)  # sums of six products
    for name in ("bias_ih_l0", "bias_hh_l0"):
        np.testing.assert_array_equal(lstm.params[name], np.repeat([0, 1, 0, 0], 6))
    relu = stack("rnn_relu", init="identity")
    np.testing.assert_array_equal(relu.params["weight_hh_l0"], np.eye(H))
    assert not relu.params["bias_ih_l0"].any()
    assert 0 < np.abs(relu.params["weight_ih_l0"]).max() < 0.006  # N(0, 0.001), 20 draws: six deviations
    uniform = stack(init="char-rnn").params
    np.testing.assert_array_equal(uniform["bias_hh_l0"][H : 2 * H], 0.5)
    assert 0.04 < np.abs(uniform["weight_hh_l0"]).max() <= 0.08
    np.testing.assert_array_equal(stack("lstm_layer_norm").params["gain_hh_l0"], 1)


REFUSED = {
    r"^proj_size is 3, but gru_reset_after can't project its h": ("gru_reset_after", {"proj_size": P}),
    r"^proj_size is 3, but lstm_full_gate_recurrence can't": ("lstm_full_gate_recurrence", {"proj_size": P}),
    r"^proj_size is 5; it must be below hidden_size = 5$": ("lstm", {"proj_size": 5}),
    r"^residual layers must be of one width; hidden_size is \(6, 5\)$": ("lstm", {"hidden": (6, 5), "residual": True}),
    r"^recurrent_dropout drops a cell's candidate .*; rnn_tanh has no": ("rnn_tanh", {"recurrent_dropout": 0.1}),
    r"^weight_drop drops entries of weight_hh; indrnn has none$": ("indrnn", {"weight_drop": 0.1}),
    r"^zoneout_cell keeps old values of c; mgu has no c, use zoneout$": ("mgu", {"zoneout_cell": 0.1}),
    r"^forget_bias is 1, but mgu has no forget gate; leave it out$": ("mgu", {"forget_bias": 1.0}),
    r"^forget_bias is 1, but lstm has no biases here; leave it out$": ("lstm", {"forget_bias": 1.0, "bias": False}),
    r"^init 'identity' is for cells of one product, .*, not for lstm$": ("lstm", {"init": "identity"}),
    r"^no init is called 'glorott'; did you mean 'glorot'": ("lstm", {"init": "glorott"}),
    r"^zoneout is 1\.0; it must be at least 0 and below 1$": ("lstm", {"zoneout": 1.0}),
    r"^hidden_size has 2 widths, num_layers is 3; leave one out$": ("lstm", {"hidden": (6, 5), "layers": 3}),
    r"^hidden_size is 0; it must be a whole number": ("lstm", {"hidden": (6, 0)}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_makes_no_sense_is_refused(message):
    cell, options = REFUSED[message]
    with pytest.raises(ur.UnrolledError, match=message):
        stack(cell, **options)


@pytest.mark.parametrize("option", ["proj_size", "recurrent_dropout", "zoneout", "zoneout_cell"])
def test_the_engine_has_what_no_kernel_has(option):
    pytest.importorskip("unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError)
    options = {option: P if option == "proj_size" else 0.2}
    engine, reference = stack(backend="cpu", **options), stack(backend="reference", **options)
    for a, b in zip(masked(engine)[1:3], masked(reference)[1:3], strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_allclose(p, q, rtol=0, atol=1e-13)  # some hundred roundings
    np.testing.assert_allclose(engine(X)[0], reference(X)[0], rtol=0, atol=1e-13)
    tapes = [
        masked(engine)[3].scans[0],
        engine.forward(X, masks={})[2].scans[0],
    ]  # with masks, and mixed where there is a rate
    assert not any(isinstance(tape, scan.Tape) for tape in tapes)


def test_the_teaching_view_names_the_same_quantities():
    net = stack("lstm_coupled", layers=2, bidirectional=True)
    _, _, tape = net.forward(X)
    for view, k, s in zip(tape.teaching, tape.gates, tape.states, strict=True):
        np.testing.assert_allclose(view.learn, (1 - k.f) * k.g, rtol=0, atol=1e-15)  # a rounding of the sum
        np.testing.assert_array_equal(view.remember, s.c)
        np.testing.assert_array_equal(view.use, s.h)
        np.testing.assert_allclose(view.learn + view.forget, view.remember, rtol=0, atol=1e-15)
    with pytest.raises(ur.UnrolledError, match="gru_reset_after has no memory c"):
        _ = stack("gru_reset_after").forward(X)[2].teaching


# Language networks

EVERY_OPTION = {
    "cell": "lstm_peephole",
    "embedding_size": 5,
    "hidden_size": (5, 5),
    "dropout": 0.1,
    "locked_dropout": 0.1,
    "embedding_dropout": 0.2,
    "recurrent_dropout": 0.1,
    "weight_drop": 0.1,
    "zoneout": 0.1,
    "zoneout_cell": 0.2,
    "residual": True,
    "learn_state": True,
    "tied": True,
    "init": "glorot",
    "forget_bias": 1.0,
}


def test_a_spec_of_every_option_goes_through_the_model_file(tmp_path):
    from unrolled.data.text import Vocabulary
    from unrolled.models import files as checkpoint

    text = "abcdefghijk"
    spec = ur.Spec(len(text), **EVERY_OPTION)
    assert spec.hidden_size == 5  # equal widths are one number
    assert ur.Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    net = ur.Network(spec, rng=np.random.default_rng(0))
    assert net.parameter_count == sum(p.size for p in net.params.values())
    checkpoint.save(tmp_path / "m.safetensors", net, Vocabulary.of(text, "char"))
    again, _ = checkpoint.load(tmp_path / "m.safetensors")
    assert again.spec == spec
    assert again.params.keys() == net.params.keys()
    assert all((again.params[name] == p).all() for name, p in net.params.items())
    unequal = ur.Spec(11, hidden_size=[6, 5], num_layers=7)
    assert (unequal.num_layers, unequal.hidden_size) == (2, (6, 5))
    assert ur.Spec.from_json(json.loads(json.dumps(unequal.to_json()))) == unequal


def test_every_option_together_is_proven():
    ur.check_network(ur.Network(ur.Spec(11, **EVERY_OPTION))).raise_if_failed()
    unequal = {"hidden_size": (6, 5), "proj_size": 3, "embedding_size": 3, "tied": True, "learn_state": True}
    ur.check_network(ur.Network(ur.Spec(11, **unequal))).raise_if_failed()


def test_a_language_model_may_have_no_biases_and_keeps_that():
    tiny = {"embedding_size": 3, "hidden_size": 5, "num_layers": 1, "batch_size": 2, "seq_length": 9, "epochs": 0.1}
    model = ur.LanguageModel.train("the cat sat on the mat. " * 9, bias=False, **tiny)
    assert [name for name in model.network.params if "bias" in name] == ["decoder.bias"]
    tuned = ur.LanguageModel.train(
        "the cat sat on the mat. " * 9, init_from=model, batch_size=2, seq_length=9, epochs=0.1
    )
    assert tuned.network.spec == model.network.spec
    with pytest.raises(ur.UnrolledError, match="bias is True, but the model to start from has False"):
        ur.LanguageModel.train("the cat sat on the mat. " * 9, init_from=model, bias=True)


def test_tied_weights_are_one_parameter():
    net = ur.Network(ur.Spec(11, embedding_size=5, hidden_size=5, tied=True, dtype="float64"))
    assert "decoder.weight" not in net.params
    logits, _ = net(np.zeros((1, 1), int))
    y, _ = net.recurrent(net.params["embedding.weight"][[[0]]])
    np.testing.assert_allclose(
        logits, y @ net.params["embedding.weight"].T + net.params["decoder.bias"], rtol=0, atol=1e-15
    )
    with pytest.raises(ur.UnrolledError, match="embedding_size is 4, that is 5"):
        ur.Network(ur.Spec(11, embedding_size=4, hidden_size=5, tied=True))


def test_embedding_dropout_drops_symbols_everywhere():
    net = ur.Network(ur.Spec(11, embedding_size=4, hidden_size=5, embedding_dropout=0.5, dtype="float64"))
    masks = net.draw_masks(T, B, np.random.default_rng(0))
    assert masks["embedding"].shape == (11,)
    tokens = np.random.default_rng(1).integers(0, 11, (T, B))
    _, _, tape = net.forward(tokens, masks=masks)
    expected = np.where(masks["embedding"][tokens][..., None], net.params["embedding.weight"][tokens] / 0.5, 0)
    np.testing.assert_array_equal(tape.recurrent.scans[0].x, expected)
    with pytest.raises(ur.UnrolledError, match=r"^masks have no embedding of shape \(11,\)"):
        net.forward(tokens, masks={"embeding": masks["embedding"]})
    with pytest.raises(ur.UnrolledError, match="embedding_size is 0, there is none"):
        ur.Network(ur.Spec(11, embedding_size=0, embedding_dropout=0.5))
