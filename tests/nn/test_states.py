"""How states come in and go out: bare, in a tuple, of one sequence without a batch, of layers of several widths."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS

T, B, I, H = 6, 3, 4, 5
X = np.random.default_rng(0).normal(size=(T, B, I))
BACKENDS = pytest.mark.parametrize("backend", ["reference", "auto"])


@BACKENDS
def test_a_state_of_one_field_needs_no_tuple(backend):
    net = ur.GRU(I, H, 2, backend=backend)
    h = np.random.default_rng(1).normal(size=(2, B, H))
    expected = net(X, (h,))[0]
    for state in (h, [h], h.tolist(), [h.tolist()], list(h), net.cell.state(h)):
        np.testing.assert_array_equal(net(X, state)[0], expected)
    one = ur.GRU(I, H, backend=backend)
    for state in (h[:1], [h[:1]], h[:1].tolist(), (h[:1],)):
        np.testing.assert_array_equal(one(X, state)[0], one(X, (h[:1],))[0])
    torch = pytest.importorskip("torch", reason="torch is not installed")
    np.testing.assert_array_equal(net(X, torch.tensor(h))[0], expected)


@BACKENDS
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"batch_first": True, "bidirectional": True, "num_layers": 2}])
def test_one_sequence_without_a_batch_is_a_batch_of_one(cell, backend, options):
    rng = np.random.default_rng(2)
    net = ur.Recurrent(cell, I, H, dtype="float64", backend=backend, **options)
    x, y_shape, axis = X[:, 0], (T, net.output_size), 0 if net.batch_first else 1
    state = net.cell.state(*(rng.normal(size=f.shape) for f in net.zero_state(1)))
    bare = type(state)(*(f[:, 0] for f in state))
    dy = rng.normal(size=y_shape)
    for given in ({}, {"lengths": [4]}, {"live": np.arange(T) % 3 > 0}, {"starts": np.arange(T) == 2}):
        whole = {k: v if k == "lengths" else np.expand_dims(v, axis) for k, v in given.items()}
        y, new, tape = net.forward(x, bare, **given)
        z, last, other = net.forward(np.expand_dims(x, axis), state, **whole)
        assert y.shape == y_shape
        np.testing.assert_array_equal(y, z.squeeze(axis))
        np.testing.assert_array_equal(net(x, bare, **given)[0], net(x, bare, **given)[0])
        dx, dstate, grads = net.backward(tape, dy, new)
        dz, dlast, sums = net.backward(other, np.expand_dims(dy, axis), last)
        np.testing.assert_array_equal(dx, dz.squeeze(axis))
        for a, b in zip((*new, *dstate), (*last, *dlast), strict=True):
            np.testing.assert_array_equal(a, b[:, 0])
        for name in grads:
            np.testing.assert_array_equal(grads[name], sums[name])
        assert all(f.shape == (T, H) for part in (*tape.states, *tape.gates) for f in part)
    tokens, _ = net(np.array([2, 0, 3]), bare)
    np.testing.assert_array_equal(tokens, net(np.expand_dims([2, 0, 3], axis), state)[0].squeeze(axis))


def test_one_sequence_is_what_pytorch_makes_of_it():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theirs = torch.nn.LSTM(I, H, 2).double()
    ours = ur.LSTM(I, H, 2, dtype="float64")
    ours.load_params({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    h, c = np.random.default_rng(3).normal(size=(2, 2, H))
    y, (hn, cn) = theirs(torch.tensor(X[:, 0]), (torch.tensor(h), torch.tensor(c)))
    z, new = ours(X[:, 0], (h, c))
    for a, b in ((y, z), (hn, new.h), (cn, new.c)):
        np.testing.assert_allclose(b, a.detach().numpy(), rtol=0, atol=1e-14)  # some hundred roundings of 1e-16
    one, state = ours.step(X[0, 0], (h, c))
    np.testing.assert_allclose(one, z[0], rtol=0, atol=1e-15)
    assert state.h.shape == (2, H)


@BACKENDS
def test_layers_of_several_widths_have_a_state_each_with_a_batch_or_without(backend):
    net = ur.LSTM(I, (6, 5), backend=backend)
    states = net(X[:, 0])[1]
    assert [s.c.shape for s in states] == [(1, 6), (1, 5)]
    np.testing.assert_array_equal(net(X[:, 0], states)[0], net(X[:, :1], net(X[:, :1])[1])[0][:, 0])


@BACKENDS
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "learn_state": True, "num_layers": 2}])
def test_steps_that_are_not_live_are_no_steps(cell, backend, options):
    """A row with holes is the row without them; what stands in a hole, not a number too, changes nothing."""
    rng = np.random.default_rng(4)
    net = ur.Recurrent(cell, I, H, dtype="float64", backend=backend, **options)
    live = rng.random((T, B)) < 0.6
    live[:, 1] = [True, False, False, True, False, True]
    x, dy = X.copy(), rng.normal(size=(T, B, net.output_size))
    x[~live], dy[~live] = np.nan, np.inf
    y, new, tape = net.forward(x, live=live)
    dx, dstate, grads = net.backward(tape, dy, new)
    total = {name: np.zeros_like(p) for name, p in net.params.items()}
    # sums in another order, of T products of numbers near 1; normalised rows divide by deviations below 1
    near = {"rtol": 0, "atol": 1e-11 if net.cell.normalised else 1e-13}
    for b in range(B):
        there = live[:, b]
        z, last, other = net.forward(x[there, b : b + 1])
        dz, dlast, sums = net.backward(other, dy[there, b : b + 1], last)
        np.testing.assert_allclose(y[there, b], z[:, 0], **near)
        np.testing.assert_allclose(dx[there, b], dz[:, 0], **near)
        for a, c in zip((*new, *dstate), (*last, *dlast), strict=True):
            np.testing.assert_allclose(a[:, b], c[:, 0], **near)
        for name, g in sums.items():
            total[name] += g
    for name, g in grads.items():
        np.testing.assert_allclose(g, total[name], **near)
    assert not y[~live].any()
    assert not dx[~live].any()
    np.testing.assert_array_equal(net(x, live=live)[0], net(x, live=live)[0])
    within = np.arange(T)[:, None] < [2, 6, 0]
    np.testing.assert_array_equal(net(X, live=within)[0], net(X, lengths=[2, 6, 0])[0])


@BACKENDS
def test_holes_go_with_documents_and_batch_first(backend):
    net, first = (ur.LSTM(I, H, dtype="float64", backend=backend, rng=1, batch_first=b) for b in (False, True))
    live, starts = np.ones((T, B), bool), np.zeros((T, B), bool)
    live[[1, 4], 0], starts[3, 0] = False, True
    y, new = net(X, live=live, starts=starts)
    np.testing.assert_allclose(y[[0, 2], 0], net(X[[0, 2], :1])[0][:, 0], rtol=0, atol=1e-15)
    last, end = net(X[[3, 5], :1])
    np.testing.assert_allclose(y[[3, 5], 0], last[:, 0], rtol=0, atol=1e-15)
    np.testing.assert_allclose(new.c[:, 0], end.c[:, 0], rtol=0, atol=1e-15)
    z, other = first(X.swapaxes(0, 1), live=live.T, starts=starts.T)
    np.testing.assert_array_equal(z.swapaxes(0, 1), y)
    np.testing.assert_array_equal(other.c, new.c)


@BACKENDS
def test_a_gradient_of_the_state_alone_needs_no_dy(backend):
    net = ur.LSTM(I, H, 2, backend=backend)
    y, new, tape = net.forward(X)
    for a, b in zip(net.backward(tape, None, new)[1], net.backward(tape, 0 * y, new)[1], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.any()
    whole = ur.Network(ur.Spec(7, hidden_size=5), backend=backend)
    logits, state, record = whole.forward(np.ones((T, B), int))
    for a, b in zip(whole.backward(record, None, state)[0], whole.backward(record, 0 * logits, state)[0], strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(
        ur.UnrolledError, match=r"^dlogits and dstate are None; expected the gradient of the logits, of"
    ):
        whole.backward(record)
