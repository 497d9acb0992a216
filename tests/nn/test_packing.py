"""Documents kept apart within a batch: the same as documents run alone."""

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS
from unrolled.nn.masks import part_masks
from unrolled.nn.network import Network
from unrolled.nn.spec import Spec

T, B, I, H = 9, 3, 4, 5
TOL = 1e-12  # float64: some ten additions a sum, in another order
# Two documents in the middle of row 0, one of a single step; row 1 begins with one; row 2 has none.
STARTS = np.zeros((T, B), bool)
STARTS[[3, 4, 0, 7], [0, 0, 1, 1]] = True
DOCUMENTS = [(0, 0, 3), (0, 3, 4), (0, 4, 9), (1, 0, 7), (1, 7, 9), (2, 0, 9)]  # row, first step, end

OPTIONS = [
    {},
    {"learn_state": True},
    {"dropout": 0.3, "locked_dropout": 0.2, "weight_drop": 0.2, "zoneout": 0.2},
    {"zoneout": 0.2, "zoneout_cell": 0.1, "recurrent_dropout": 0.3, "residual": True},
    {"proj_size": 3, "learn_state": True},
    {"bidirectional": True, "learn_state": True},
    {"hidden_size": (6, 5), "learn_state": True},
]


def same(ours, theirs, name):
    assert ours.shape == theirs.shape, name
    assert np.abs(ours - theirs).max(initial=0) <= TOL * max(1.0, np.abs(theirs).max(initial=0)), name


def fields(state):
    return [f for part in state for f in (part if isinstance(part, tuple) else (part,))]


def rebuilt(state, arrays):
    arrays = iter(arrays)
    if isinstance(state[0], tuple):
        return tuple(type(s)(*(next(arrays) for _ in s)) for s in state)
    return type(state)(*arrays)


def cases():
    yield from ((cell, backend, {}) for cell in CELLS for backend in ("auto", "reference"))
    yield from (("lstm", backend, options) for backend in ("auto", "reference") for options in OPTIONS[1:])
    yield "gru_reset_after", "auto", {"bidirectional": True, "dropout": 0.3}


@pytest.mark.parametrize(("cell", "backend", "options"), list(cases()))
def test_documents_within_rows_are_documents_alone(cell, backend, options):
    """Outputs, states and all gradients; each document run by itself, what goes on from a given state with that."""
    options = {"hidden_size": H, "num_layers": 2} | options
    if isinstance(options["hidden_size"], tuple):
        del options["num_layers"]
    rng = np.random.default_rng(5)
    net = ur.Recurrent(cell, I, dtype="float64", backend=backend, rng=rng, **options)
    for name, p in net.params.items():
        if name.startswith("initial"):
            p[...] = rng.standard_normal(p.shape) / 2
    x, dy = rng.standard_normal((T, B, I)), rng.standard_normal((T, B, net.output_size))
    zero = net.zero_state(B)
    state, dstate = (rebuilt(zero, [rng.standard_normal(f.shape) for f in fields(zero)]) for _ in range(2))
    masks = net.draw_masks(T, B, rng)
    y, final, tape = net.forward(x, state, masks=masks, starts=STARTS)
    dx, dbefore, grads = net.backward(tape, dy, dstate)

    total = {name: np.zeros_like(p) for name, p in net.params.items()}
    reverse = [n % net.directions for n in range(len(fields(zero)[0]))]  # of every pass of a field
    for row, first, end in DOCUMENTS:
        one, steps = slice(row, row + 1), slice(first, end)
        begins, ends = STARTS[first, row], end == T
        # A forward pass begins anew where a document starts, a reverse one unless it starts at the row's end.
        anew = [not ends if d else begins for d in reverse]
        done = [first == 0 if d else ends for d in reverse]
        own = net.initial_state(1)
        start = rebuilt(
            zero,
            [
                np.stack([o[n] if anew[n] else f[n, one] for n in range(len(f))])
                for o, f in zip(fields(own), fields(state), strict=True)
            ],
        )
        dend = rebuilt(
            zero,
            [np.stack([f[n, one] if done[n] else 0 * f[n, one] for n in range(len(f))]) for f in fields(dstate)],
        )
        yd, last, td = net.forward(x[steps, one], start, masks=part_masks(masks, steps, one))
        dxd, dstart, gd = net.backward(td, dy[steps, one], dend)
        same(y[steps, one], yd, "y")
        same(dx[steps, one], dxd, "dx")
        for k, f in enumerate(fields(final)):
            for n in range(len(f)):
                if done[n]:
                    same(f[n, one], fields(last)[k][n], "state")
                if not anew[n]:
                    same(fields(dbefore)[k][n, one], fields(dstart)[k][n], "dstate")
        for name in total:
            total[name] += gd[name]
        names = [name for name in net.params if name.startswith("initial")]
        width = len(net.cell.state_fields)
        flat = [f[n] for part in ((dstart,) if not isinstance(dstart[0], tuple) else dstart)
                for n in range(len(part[0])) for f in part]  # fmt: skip
        for k, name in enumerate(names):
            n = k // width % len(reverse)
            if anew[n]:
                total[name] += flat[k].sum(axis=0)
    for name, g in grads.items():
        same(g, total[name], name)
    for k, f in enumerate(fields(dbefore)):  # row 1 begins a document: what came before has no gradient
        assert not np.any(f[[n for n, d in enumerate(reverse) if not d], 1]), k


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("options", [{"embedding_size": 0}, {"embedding_size": 6, "embedding_dropout": 0.3}, {}])
def test_the_loss_of_two_documents_in_a_row_is_that_of_the_documents_alone(backend, options):
    rng = np.random.default_rng(7)
    spec = Spec(7, hidden_size=H, num_layers=2, dropout=0.3, learn_state=True, dtype="float64", **options)
    net = Network(spec, backend=backend, rng=rng)
    for p in net.params.values():
        p += rng.standard_normal(p.shape) / 4
    x, y = rng.integers(0, 7, (2, T, 2))
    starts = np.zeros((T, 2), bool)
    starts[[0, 0, 4, 6], [0, 1, 0, 1]] = True
    masks = net.draw_masks(T, 2, rng)
    loss, grads, _ = net.loss_and_gradients(x, y, net.zero_state(2), masks=masks, starts=starts)
    assert loss == net.loss(x, y, net.zero_state(2), masks=masks, starts=starts)[0]
    alone, total = 0.0, {name: np.zeros_like(p) for name, p in net.params.items()}
    for row, first, end in ((0, 0, 4), (0, 4, T), (1, 0, 6), (1, 6, T)):
        part = slice(first, end), slice(row, row + 1)
        one, gone, _ = net.loss_and_gradients(x[part], y[part], masks=part_masks(masks, *part))
        share = (end - first) / x.size
        alone += share * one
        for name in total:
            total[name] += share * gone[name]
    assert abs(loss - alone) <= TOL
    for name, g in grads.items():
        same(g, total[name], name)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_changes_from_step_to_step_are_those_within_documents(backend):
    rng = np.random.default_rng(8)
    net = Network(Spec(7, hidden_size=H, tar=2.0, dtype="float64"), backend=backend, rng=rng)
    x, y = rng.integers(0, 7, (2, T, 2))
    starts = np.zeros((T, 2), bool)
    starts[[0, 0, 4, 6], [0, 1, 0, 1]] = True
    alone, total, changes = 0.0, {name: np.zeros_like(p) for name, p in net.params.items()}, x.size - 4
    for row, first, end in ((0, 0, 4), (0, 4, T), (1, 0, 6), (1, 6, T)):
        part = slice(first, end), slice(row, row + 1)
        plain, gone, _ = net.loss_and_gradients(x[part], y[part])
        bare = Network(Spec(7, hidden_size=H, dtype="float64"), backend=backend)
        bare.load_params(net.params)
        _, without, _ = bare.loss_and_gradients(x[part], y[part])
        share, weight = (end - first) / x.size, (end - first - 1) / changes
        alone += share * plain + weight * (net.objective(x[part], y[part])[0] - plain)
        for name in total:
            total[name] += share * without[name] + weight * (gone[name] - without[name])
    assert abs(net.objective(x, y, net.zero_state(2), starts=starts)[0] - alone) <= TOL
    for name, g in net.loss_and_gradients(x, y, net.zero_state(2), starts=starts)[1].items():
        same(g, total[name], name)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_what_stands_before_a_document_never_reaches_it(backend):
    """Not even what is not a number: states are selected, not multiplied."""
    net = ur.LSTM(I, H, 2, backend=backend, dtype="float64")
    x = np.random.default_rng(1).standard_normal((T, B, I))
    broken = x.copy()
    broken[:4, 0] = np.nan
    starts = np.zeros((T, B), bool)
    starts[4, 0] = True
    (y, state), (expected, other) = net(broken, starts=starts), net(x, starts=starts)
    assert np.isnan(y[:4, 0]).all()
    np.testing.assert_array_equal(y[4:], expected[4:])
    np.testing.assert_array_equal(y[:, 1:], expected[:, 1:])
    np.testing.assert_array_equal(state.c, other.c)


def test_lengths_and_batch_first_go_with_documents():
    rng = np.random.default_rng(3)
    net = ur.GRU(I, H, batch_first=True, dtype="float64")
    x, lengths = rng.standard_normal((B, T, I)), np.array([6, 9, 0])
    starts = STARTS.T.copy()
    starts[0, 8] = starts[2, 4] = True  # behind the rows' ends: no document
    y, state = net(x, None, lengths, starts=starts)
    for row, first, end in ((0, 0, 3), (0, 3, 4), (0, 4, 6), (1, 0, 7), (1, 7, 9)):
        alone, last = net(x[row : row + 1, first:end])
        same(y[row, first:end], alone[0], "y")
    same(state.h[:, 1], last.h[:, 0], "state")
    same(state.h[:, 0], net(x[:1, 4:6])[1].h[:, 0], "state")
    assert not y[0, 6:].any()
    assert not y[2].any()
    assert not state.h[:, 2].any()
    tape = net.forward(x, None, lengths, starts=starts)[2]
    assert tape.gates[0].r.shape == (T, B, H)


def test_no_document_that_begins_changes_nothing():
    net = ur.LSTM(I, H)
    x = np.ones((T, B, I), "float32")
    assert net.forward(x, starts=np.zeros((T, B), bool))[2].packing is None
    if backends.choose("auto").name == "cpu":
        assert not isinstance(net.forward(x, starts=STARTS)[2].scans[0], ur.reference.scan.Tape)


@pytest.mark.parametrize("starts", [np.zeros((T, 1), bool), np.zeros((T, B), int)])
def test_starts_of_another_shape_or_kind_are_refused(starts):
    with pytest.raises(ur.UnrolledError, match=r"^starts are (int64|bool) of shape \(9, \d\); expected bool \(T, B\)"):
        ur.LSTM(I, H)(np.ones((T, B, I)), starts=starts)
