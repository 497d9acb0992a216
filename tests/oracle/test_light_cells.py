"""Cells of other programs, where they are installed: the same numbers in float64, and where theirs are wrong.

pip install minGRU-pytorch==0.2.1 sru==2.6.0 torchrecurrent==0.2.5 speechbrain==1.1.2
"""

import numpy as np
import pytest

import unrolled as ur

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs
T, B, I, H = 7, 3, 4, 6
TOLERANCE = 1e-13
"""Sums of some hundred products, seven steps; relative to an array's largest entry."""


@pytest.fixture(autouse=True)
def _in_float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def program(module):
    """Import another program; one that cannot be loaded is not there."""
    try:
        return pytest.importorskip(module, reason=f"{module} is not installed")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"{module}: {error}")


def compare(cell, layer, named, run, *, inputs=I, bias=True, state=None, x_of=lambda x: x):
    """Hold a layer of ours against a module of theirs: outputs, and gradients of x, parameters and the first state.

    `named(w)` gives their parameters from ours, `run(call, x, *state)` their outputs (T, B, H).
    """
    rng = np.random.default_rng(0)
    net = ur.Recurrent(cell, inputs, H, bias=bias, dtype="float64", rng=1)
    net.load_params({name: rng.normal(size=p.shape) for name, p in net.params.items()})
    x, dy = rng.normal(size=(T, B, inputs)), rng.normal(size=(T, B, H))
    first = net.zero_state(B)._replace(**{} if state is None else state(rng))
    y, _, tape = net.forward(x, first)
    dx, dstate, grads = net.backward(tape, dy)

    w = {name.removesuffix("_l0"): torch.tensor(p, requires_grad=True) for name, p in net.params.items()}
    tx, *ts = (torch.tensor(a, requires_grad=True) for a in (x, *(f[0] for f in first)))
    theirs = named(w)
    ty = run(lambda *args, **kw: torch.func.functional_call(layer, theirs, args, kw), x_of(tx), *ts)
    (ty * torch.tensor(dy)).sum().backward()
    pairs = {"y": (y, ty.detach()), "dx": (dx, tx.grad)} | {
        name: (grads[f"{name}_l0"], p.grad) for name, p in w.items()
    }
    if state is not None:
        pairs |= {
            f"d{name}": (d[0], t.grad)
            for name, d, t in zip(first._fields, dstate, ts, strict=True)
            if t.grad is not None
        }
    for name, (a, b) in pairs.items():
        scale = max(1, np.abs(b.numpy()).max())
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=TOLERANCE * scale, err_msg=name)


def ordered(weight, *order):
    """Row blocks in another order."""
    parts = torch.chunk(weight, len(order))
    return torch.cat([parts[n] for n in order])


def batch_first(call, x, *state):
    return call(x.transpose(0, 1), *state).transpose(0, 1)


def steps(call, x, h):
    """Outputs of a cell that takes one step."""
    out = []
    for x_t in x:
        h = call(x_t, h)
        out.append(h)
    return torch.stack(out)


def positive(rng):
    return {"h": np.abs(rng.normal(size=(1, B, H)))}


def any_h(rng):
    return {"h": rng.normal(size=(1, B, H))}


def any_c(rng):
    return {"c": rng.normal(size=(1, B, H))}


def test_the_minimal_gru_and_lstm_equal_those_of_mingru_pytorch():
    gru = program("minGRU_pytorch.minGRU").minGRU(I, expansion_factor=H / I, proj_out=False)
    compare(
        "min_gru",
        gru,
        lambda w: {"to_hidden_and_gate.weight": ordered(w["weight_ih"], 1, 0)},
        lambda call, x, h: batch_first(call, x, h[:, None]),
        bias=False,
        state=positive,
    )
    lstm = program("minGRU_pytorch.minLSTM").minLSTM(I, expansion_factor=H / I, proj_out=False)
    compare(
        "min_lstm",
        lstm,
        lambda w: {"to_hidden_and_f_i_gate.weight": ordered(w["weight_ih"], 2, 0, 1)},
        lambda call, x, h: batch_first(call, x),
        bias=False,
    )


def test_the_minimal_lstm_of_mingru_pytorch_is_another_one_in_pieces():
    """Version 0.2.1 puts g around the state that it returned; ours goes on from it."""
    torch.manual_seed(0)
    x = torch.randn(1, 6, 4)
    layer = program("minGRU_pytorch.minLSTM").minLSTM(4)
    net = ur.Recurrent("min_lstm", 4, 4, bias=False, dtype="float64")
    weight = ordered(layer.to_hidden_and_f_i_gate.weight, 1, 2, 0)
    net.load_params({"weight_ih_l0": weight.detach().numpy()})
    with torch.no_grad():
        whole = layer(x)[0]
        _, h = layer(x[:, :3], return_next_prev_hidden=True)
        halves = layer(x[:, 3:], h)[0]
    ours = x.numpy().transpose(1, 0, 2)
    _, state, _ = net.forward(ours[:3])
    y, _, _ = net.forward(ours[3:], state)
    np.testing.assert_allclose(y[:, 0], whole[3:], rtol=0, atol=1e-14)
    assert np.abs(halves - whole[3:]).max() > 0.05


@pytest.mark.parametrize("inputs", [H, I])
def test_the_simple_recurrent_unit_equals_that_of_its_authors(inputs):
    layer = program("sru").SRUCell(inputs, H).double()

    def named(w):
        columns = [*torch.chunk(w["weight_ih"], 3), *(3**0.5 * w[name] for name in w if name == "weight_x")]
        return {
            "weight": torch.stack([c.T for c in columns], dim=-1).reshape(inputs, -1),
            "weight_c": w["weight_c"].reshape(-1),
            "bias": w["bias_ih"],
        }

    layer.scale_x.fill_(3**0.5)
    compare("sru", layer, named, lambda call, x, h, c: call(x, c)[0], inputs=inputs, state=any_c)


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize("pooling", ["f", "fo"])
def test_quasi_recurrent_networks_equal_those_of_speechbrain(pooling, window):
    """f there is the share of the new: the sign of a block is turned. A window of two reads pairs of steps."""
    kind = program("speechbrain.nnet.RNN").QuasiRNNLayer
    layer = kind(window * I, H, bidirectional=False, output_gate=pooling == "fo")

    def turned(blocks):
        parts = list(torch.chunk(blocks, 1 + len(pooling)))
        return torch.cat([parts[0], -parts[1], *parts[2:]])

    def named(w):
        halves = torch.chunk(w["weight_ih"], window)
        return {"w.weight": turned(torch.cat(halves, dim=1)), "w.bias": turned(w["bias_ih"])}

    def pairs(x):
        return torch.cat([torch.cat([0 * x[:1], x[:-1]]), x], dim=-1) if window == 2 else x

    compare(
        f"qrnn_{pooling}" + "_w2" * (window == 2),
        layer,
        named,
        lambda call, x, *state: call(x.transpose(0, 1), state[pooling == "fo"])[0].transpose(0, 1),
        state=any_h if pooling == "f" else any_c,
        x_of=pairs,
    )


def test_the_light_gru_equals_those_of_torchrecurrent_and_speechbrain():
    cell = program("torchrecurrent").LiGRUCell(I, H, recurrent_bias=False)

    compare("ligru", cell, lambda w: w, steps, state=any_h)
    layer = program("speechbrain.nnet.RNN").LiGRU_Layer(I, H, 1, B, normalization="none").eval()
    layer.normalize = False  # "none" normalises all the same
    compare(
        "ligru",
        layer,
        lambda w: {"w.weight": ordered(w["weight_ih"], 1, 0), "u.weight": ordered(w["weight_hh"], 1, 0)},
        batch_first,
        bias=False,
        state=any_h,
    )


def test_the_normalised_light_gru_equals_that_of_speechbrain():
    layer = program("speechbrain.nnet.RNN").SLiGRU_Layer(
        I, H, 1, B, ff_normalization="layernorm", recurrent_elementwise_affine=True
    )
    layer.eval().layer_norm.bias.data.zero_()
    compare(
        "ligru_layer_norm",
        layer,
        lambda w: {
            "w.weight": ordered(w["weight_ih"], 1, 0),
            "u.weight": ordered(w["weight_hh"], 1, 0),
            "norm.weight": ordered(w["gain_ih"], 1, 0),
            "norm.bias": ordered(w["bias_ih"], 1, 0),
            "layer_norm.weight": ordered(w["gain_hh"], 1, 0),
        },
        batch_first,
        state=any_h,
    )


def test_no_normalisation_of_speechbrain_s_light_gru_normalises():
    """Version 1.1.2: ten times the input is nearly the same output."""
    torch.manual_seed(0)
    layer = program("speechbrain.nnet.RNN").LiGRU_Layer(I, H, 1, B, normalization="none").eval()
    x = torch.randn(B, T, I)
    with torch.no_grad():
        np.testing.assert_allclose(layer(10 * x), layer(x), rtol=0, atol=0.01)
        layer.normalize = False
        assert np.abs(layer(10 * x) - layer(x)).max() > 1


def test_star_equals_that_of_torchrecurrent():
    cell = program("torchrecurrent").STARCell(I, H, recurrent_bias=False)

    compare("star", cell, lambda w: w, steps, state=any_h)
