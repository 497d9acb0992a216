"""Cells since 2021 against independent programs of them from the package index: outputs and every gradient.

Each test skips where its package is not installed: `pip install xlstm LRU-pytorch recurrentgemma torchrecurrent ncps`.
"""

import functools

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS

torch = pytest.importorskip("torch", reason="torch is not installed")
T, B, I, H = 6, 3, 4, 8
TOL = 1e-12  # float64 on both sides: some hundred roundings, and derivatives that are sums of some hundred products


def ours(name, inputs=I, timespans=None, **settings):
    """Run a layer forward and backward: (parameters, x, state), (y, new state), dy, and all gradients, by name."""
    rng = np.random.default_rng(5)
    cell = CELLS[name].with_settings(**settings)
    net = ur.Recurrent(cell, inputs, H, dtype="float64", init="uniform:0.7", rng=rng, backend="reference")
    x, dy = rng.normal(size=(T, B, inputs)), rng.normal(size=(T, B, H))
    state = net.zero_state(B)
    extra = {} if timespans is None else {"timespans": timespans}
    y, _, tape = net.forward(x, state, **extra)
    dx, _, grads = net.backward(tape, dy)
    return {k.removesuffix("_l0"): v for k, v in net.params.items()}, x, y, dy, {"x": dx, **grads}


def tensor(a):
    return torch.tensor(np.array(a), dtype=torch.float64, requires_grad=True)


def compare(y, theirs, dy, gradients, leaves):
    """Compare outputs, then carry the same gradient back through theirs and compare what `leaves` name."""
    np.testing.assert_allclose(theirs.detach().numpy(), y, rtol=0, atol=TOL)
    (theirs * torch.tensor(dy)).sum().backward()
    for name, (leaf, arrange) in leaves.items():
        got = arrange(leaf.grad.numpy())
        np.testing.assert_allclose(got, gradients[name], rtol=0, atol=TOL * abs(got).max(), err_msg=name)


def same(a):
    return a


def test_the_slstm_is_that_of_xlstm():
    vanilla = pytest.importorskip("xlstm.blocks.slstm.src.vanilla", reason="xlstm is not installed")
    w, x, y, dy, grads = ours("slstm")
    size = H // 4

    def by_head(a):  # (4 H, H / 4), gates first, to theirs: (heads, 4 H / heads, H / heads)
        return a.reshape(4, 4, size, size).swapaxes(0, 1).reshape(4, 4 * size, size)

    def by_gate(a):
        return a.reshape(4, 4, size, size).swapaxes(0, 1).reshape(4 * H, size)

    given, weight, recurrent, bias = map(tensor, (x, w["weight_ih"], by_head(w["weight_hh"]), w["bias_ih"]))
    states, _, _ = vanilla.slstm_forward(
        given @ weight.T,
        torch.zeros(4, B, H, dtype=torch.float64),
        recurrent,
        bias,
        vanilla.slstm_pointwise_function_registry["slstm"],
    )
    leaves = {"x": (given, same), "weight_ih_l0": (weight, same), "bias_ih_l0": (bias, same)}
    compare(y, states[0, 1:], dy, grads, leaves | {"weight_hh_l0": (recurrent, by_gate)})


def test_the_lru_is_that_of_lru_pytorch(monkeypatch):
    package = pytest.importorskip("LRU_pytorch", reason="LRU-pytorch is not installed")
    w, x, y, dy, grads = ours("lru", inputs=H)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # it makes arrays of the default type as it runs
    try:
        layer = package.LRU(H, H, H)
        nu, theta, gamma, skip = w["weight_recurrence"]
        b, c = np.split(w["weight_ih"], 2), np.split(w["weight_hh"], 2, axis=1)
        values = {"nu_log": nu, "theta_log": theta, "gamma_log": gamma, "D": np.diag(skip)}
        values |= {"B": b[0] + 1j * b[1], "C": c[0] - 1j * c[1]}
        layer.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
        given = tensor(x.swapaxes(0, 1))
        theirs = layer(given).swapaxes(0, 1)
        np.testing.assert_allclose(theirs.detach().numpy(), y, rtol=0, atol=TOL)
        (theirs * torch.tensor(dy)).sum().backward()
    finally:
        torch.set_default_dtype(before)
    d = {name: p.grad.numpy() for name, p in layer.named_parameters()}
    own = np.stack([d["nu_log"], d["theta_log"], d["gamma_log"], np.diag(d["D"])])
    np.testing.assert_allclose(own, grads["weight_recurrence_l0"], rtol=0, atol=TOL * abs(own).max())
    np.testing.assert_allclose(np.concatenate([d["B"].real, d["B"].imag]), grads["weight_ih_l0"], rtol=0, atol=TOL)
    read = np.concatenate([d["C"].real, -d["C"].imag], axis=1)
    np.testing.assert_allclose(read, grads["weight_hh_l0"], rtol=0, atol=TOL * abs(read).max())
    np.testing.assert_allclose(given.grad.numpy().swapaxes(0, 1), grads["x"], rtol=0, atol=TOL * abs(grads["x"]).max())


def test_the_rg_lru_is_that_of_recurrentgemma_but_for_its_first_step(monkeypatch):
    layers = pytest.importorskip("recurrentgemma.torch.layers", reason="recurrentgemma is not installed")
    scan = functools.partial(layers.rnn_scan, acc_dtype=torch.float64)  # float32, whatever it is given
    monkeypatch.setattr(layers, "rnn_scan", scan)
    w, x, y, dy, grads = ours("rg_lru", inputs=H)
    layer = layers.RGLRU(H, 1, dtype=torch.float64)
    (wr, wi), (br, bi) = np.split(w["weight_ih"], 2), np.split(w["bias_ih"], 2)
    values = {"a_param": -w["weight_recurrence"][0], "a_gate.w": wr.T[None], "a_gate.b": br[None]}
    values |= {"input_gate.w": wi.T[None], "input_gate.b": bi[None]}
    layer.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    given = tensor(x.swapaxes(0, 1))

    def run(first):
        return layer(given, torch.arange(first, first + T).expand(B, T))[0].swapaxes(0, 1)

    theirs = run(1)  # no step is the first one
    np.testing.assert_allclose(theirs.detach().numpy(), y, rtol=0, atol=TOL)
    (theirs * torch.tensor(dy)).sum().backward()
    d = {name: p.grad.numpy() for name, p in layer.named_parameters()}
    both = np.concatenate([d["a_gate.w"][0].T, d["input_gate.w"][0].T])
    np.testing.assert_allclose(both, grads["weight_ih_l0"], rtol=0, atol=TOL * abs(both).max())
    np.testing.assert_allclose(-d["a_param"], grads["weight_recurrence_l0"][0], rtol=0, atol=TOL)
    np.testing.assert_allclose(given.grad.numpy().swapaxes(0, 1), grads["x"], rtol=0, atol=TOL)
    # At a document's first step theirs takes i x without sqrt(1 - a^2).
    i = 1 / (1 + np.exp(-(x[0] @ wi.T + bi)))
    np.testing.assert_allclose(run(0)[0].detach().numpy(), i * x[0], rtol=0, atol=TOL)


def load(module, values):
    """Put numbers into a module's parameters, and zeros into the biases that are not named."""
    zeros = {name: np.zeros(p.shape) for name, p in module.named_parameters() if "bias" in name}
    module.double().load_state_dict({k: torch.tensor(np.array(v)) for k, v in {**zeros, **values}.items()})
    return module


def steps(cell, x, after):
    """Run one of torchrecurrent's cells step by step; `after` says what its second state is."""
    h, c, outputs = torch.zeros(B, H, dtype=torch.float64), torch.zeros(B, H, dtype=torch.float64), []
    for t in range(T):
        h, c = after(cell, x[t], h, c)
        outputs.append(h)
    return torch.stack(outputs)


def test_the_cornn_is_that_of_torchrecurrent():
    package = pytest.importorskip("torchrecurrent", reason="torchrecurrent is not installed")
    w, x, y, dy, grads = ours("cornn", dt=0.3, gamma=1.7, epsilon=0.9)
    values = {"weight_ih": w["weight_ih"], "bias_ih": w["bias_ih"]}
    values |= dict(zip(("weight_hh", "weight_ch"), np.split(w["weight_hh"], 2, axis=1), strict=True))
    cell = load(package.coRNNCell(I, H, dt=0.3, gamma=1.7, epsilon=0.9), values)
    given = tensor(x)
    theirs = steps(cell, given, lambda cell, x, h, c: cell(x, (h, c)))
    compare(y, theirs, dy, grads, {"x": (given, same), "weight_ih_l0": (cell.weight_ih, same)})
    recurrent = np.concatenate([cell.weight_hh.grad.numpy(), cell.weight_ch.grad.numpy()], axis=1)
    np.testing.assert_allclose(recurrent, grads["weight_hh_l0"], rtol=0, atol=TOL * abs(recurrent).max())


def test_the_lem_sees_the_new_z_which_torchrecurrent_does_not():
    package = pytest.importorskip("torchrecurrent", reason="torchrecurrent is not installed")
    w, x, y, dy, grads = ours("lem", dt=0.5)
    order = np.r_[H : 2 * H, :H, 2 * H : 4 * H]  # theirs: the step of h first
    hidden = w["weight_hh"][: 3 * H][order[: 3 * H]]
    values = {"weight_ih": w["weight_ih"][order], "bias_ih": w["bias_ih"][order], "weight_hh": hidden}
    cell = load(package.LEMCell(I, H, dt=0.5), values | {"weight_ch": w["weight_hh"][3 * H :]})
    given = tensor(x)

    def published(cell, x, h, c):
        return cell(x, (h, c))

    def of_the_paper(cell, x, h, c):
        _, new = cell(x, (h, c))  # its new z, which its output has not seen
        a = x @ cell.weight_ih.T + cell.bias_ih
        step = 0.5 * torch.sigmoid(a[:, :H] + h @ cell.weight_hh[:H].T)
        return (1 - step) * h + step * torch.tanh(a[:, 3 * H :] + new @ cell.weight_ch.T), new

    apart = steps(cell, given, published).detach().numpy()
    assert (y[-1, 0, 0], apart[-1, 0, 0]) == pytest.approx((-0.06869, -0.01314), abs=1e-5)
    theirs = steps(cell, given, of_the_paper)
    compare(y, theirs, dy, grads, {"x": (given, same), "weight_ih_l0": (cell.weight_ih, lambda a: a[order])})


@pytest.mark.parametrize("name", ["cfc", "cfc_backbone"])
def test_the_cfc_is_that_of_ncps_but_for_time_gaps_of_several_rows(name):
    package = pytest.importorskip("ncps.torch", reason="ncps is not installed")
    gaps = np.random.default_rng(1).uniform(0.1, 3, (T, B))
    w, x, y, dy, grads = ours(name, timespans=gaps)
    heads = ("ff1", "ff2", "time_a", "time_b")
    layers = 0 if name == "cfc" else 1
    cell = package.CfCCell(I, H, backbone_units=2 * H, backbone_layers=layers)
    seen = np.concatenate([w["weight_ih"], w["weight_hh"][: len(w["weight_ih"]), :H]], axis=1)
    biases = w["bias_ih"]
    values = {}
    if layers:
        cell.backbone[1].forward = lambda a: 1.7159 * torch.tanh(2 / 3 * a)  # theirs has 0.666
        values = {"backbone.0.weight": seen, "backbone.0.bias": biases}
        seen, biases = w["weight_hh"][2 * H :], w["bias_hh"]
    for head, weight, bias in zip(heads, np.split(seen, 4), np.split(biases, 4), strict=True):
        values |= {f"{head}.weight": weight, f"{head}.bias": bias}
    load(cell, values)
    given, time, h, outputs = tensor(x), torch.tensor(gaps), torch.zeros(B, H, dtype=torch.float64), []
    for t in range(T):
        h, _ = cell(given[t], h, time[t][:, None])
        outputs.append(h)
    compare(y, torch.stack(outputs), dy, grads, {"x": (given, same)})
    gradient = np.concatenate([getattr(cell, head).weight.grad.numpy() for head in heads])
    expected = grads["weight_hh_l0"][2 * H :] if layers else np.hstack([grads["weight_ih_l0"], grads["weight_hh_l0"]])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=TOL * abs(gradient).max())


def test_ncps_gives_the_gaps_of_rows_to_units():
    """Its layer squeezes gaps (B, 1) to (B,), which then stand along the units: with B = H nothing is raised."""
    package = pytest.importorskip("ncps.torch", reason="ncps is not installed")
    layer = package.CfC(I, B, backbone_layers=0, batch_first=False)
    rng = np.random.default_rng(2)
    values = {name: rng.normal(size=p.shape) for name, p in layer.rnn_cell.named_parameters()}
    cell, h = load(layer.rnn_cell, values), torch.zeros(B, B, dtype=torch.float64)
    x, gaps = torch.tensor(rng.normal(size=(1, B, I))), torch.tensor([[[0.1], [1.0], [4.0]]]).double()
    theirs, right, by_units = layer(x, h, gaps)[0][0], cell(x[0], h, gaps[0])[0], cell(x[0], h, gaps[0].T)[0]
    np.testing.assert_array_equal(theirs.detach().numpy(), by_units.detach().numpy())
    assert (right[1, 0].item(), theirs[1, 0].item()) == pytest.approx((0.3707, -0.3810), abs=1e-4)
