"""Laws of recurrent stacks, each written out by itself, for every cell on the reference and on the fastest backend.

`gradcheck` holds any network to laws of its own; these are independent of it, and go further.
"""

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.nn.masks import part_masks

T, B, I, H = 7, 3, 4, 5
LENGTHS = np.array([5, 0, 7])
# Sums of up to T B = 21 products in another order, passed on through seven steps of two layers.
TOLERANCE = 1e-13

EVERY_CELL = pytest.mark.parametrize("cell", CELLS)
BACKENDS = pytest.mark.parametrize("backend", ["reference", "auto"])


def stack(cell, backend, layers=2, **options):
    return ur.Recurrent(cell, I, H, layers, dtype="float64", backend=backend, rng=np.random.default_rng(1), **options)


def draw(net, seed=0):
    """x, initial state, dy and the final state's gradient."""
    rng = np.random.default_rng(seed)
    state, dstate = (type(s)(*(rng.normal(size=f.shape) for f in s)) for s in [net.zero_state(B)] * 2)
    return rng.normal(size=(T, B, I)), state, rng.normal(size=(T, B, net.directions * H)), dstate


def same(ours, theirs, tolerance=TOLERANCE):
    assert len(ours) == len(theirs)
    scale = max([1, *(np.abs(b).max(initial=0) for b in theirs)])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@BACKENDS
@EVERY_CELL
@pytest.mark.parametrize("cuts", [(4,), (1, 3), tuple(range(1, T))], ids=str)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_any_chunks_equal_one_pass_forward_and_backward(cell, backend, cuts, lengths):
    """Truncated back-propagation that is not truncated: states and their gradients cross the cuts, masks are shared."""
    net = stack(cell, backend, dropout=0.3)
    x, state, dy, dstate = draw(net)
    masks = net.draw_masks(T, B, np.random.default_rng(2))
    y, final, tape = net.forward(x, state, lengths, masks=masks)
    dx, dinitial, grads = net.backward(tape, dy, dstate)

    edges = [0, *cuts, T]
    parts, tapes, s = [], [], state
    for a, b in zip(edges, edges[1:], strict=False):
        left = None if lengths is None else np.clip(lengths - a, 0, b - a)
        part, s, tape = net.forward(x[a:b], s, left, masks=part_masks(masks, slice(a, b)))
        parts.append(part)
        tapes.append(tape)
    same([np.concatenate(parts), *s], [y, *final])
    d, dparts, total = dstate, [], dict.fromkeys(grads, 0)
    for a, b, tape in reversed(list(zip(edges, edges[1:], tapes, strict=False))):
        dpart, d, g = net.backward(tape, dy[a:b], d)
        dparts.insert(0, dpart)
        total = {name: total[name] + g[name] for name in grads}
    same([np.concatenate(dparts), *d, *total.values()], [dx, *dinitial, *grads.values()])


@BACKENDS
@EVERY_CELL
def test_a_stack_is_its_layers_one_after_the_other(cell, backend):
    net = stack(cell, backend, layers=3)
    x, state, dy, dstate = draw(net)
    y, final, tape = net.forward(x, state)
    dx, dinitial, grads = net.backward(tape, dy, dstate)
    layers = []
    for n in range(3):
        layer = ur.Recurrent(cell, I if n == 0 else H, H, dtype="float64", backend=backend)
        layer.load_params({name.replace(f"_l{n}", "_l0"): p for name, p in net.params.items() if f"_l{n}" in name})
        layers.append(layer)
    out, tapes = x, []
    for n, layer in enumerate(layers):
        out, new, tape = layer.forward(out, tuple(f[n : n + 1] for f in state))
        tapes.append(tape)
        same(new, [f[n : n + 1] for f in final])
    same([out], [y])
    d = dy
    for n in (2, 1, 0):
        d, before, g = layers[n].backward(tapes[n], d, tuple(f[n : n + 1] for f in dstate))
        same(before, [f[n : n + 1] for f in dinitial])
        for name, value in g.items():
            same([value], [grads[name.replace("_l0", f"_l{n}")]])
    same([d], [dx])


@BACKENDS
@EVERY_CELL
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
def test_the_reverse_direction_is_a_pass_over_each_row_turned_round(cell, backend, lengths):
    net = stack(cell, backend, layers=1, bidirectional=True)
    x, state, dy, dstate = draw(net)
    y, final, tape = net.forward(x, state, lengths)
    dx, dinitial, grads = net.backward(tape, dy, dstate)

    def turned(a):
        """Each row's own steps in reverse; its padding stays where it is."""
        a = a.copy()
        for b, length in enumerate(np.full(B, T) if lengths is None else lengths):
            a[:length, b] = a[:length, b][::-1]
        return a

    alone, results = ur.Recurrent(cell, I, H, dtype="float64", backend=backend), []
    for n, suffix in enumerate(("", "_reverse")):
        alone.load_params({name: net.params[name + suffix] for name in alone.params})
        turn = turned if n else np.copy
        part, new, tape = alone.forward(turn(x), tuple(f[[n]] for f in state), lengths)
        dpart, before, g = alone.backward(tape, turn(dy[..., n * H : (n + 1) * H]), tuple(f[[n]] for f in dstate))
        same([turn(part), *new], [y[..., n * H : (n + 1) * H], *(f[[n]] for f in final)])
        same(before, [f[[n]] for f in dinitial])
        same(g.values(), [grads[name + suffix] for name in g])
        results.append(turn(dpart))
    same([sum(results)], [dx])


@BACKENDS
@pytest.mark.parametrize("cell", [name for name, cell in CELLS.items() if cell.heads == 1 and name != "cfc_backbone"])
def test_the_order_of_units_means_nothing(cell, backend):
    """Renaming the hidden units in every weight renames them in every result."""
    net = stack(cell, backend, layers=1)
    x, state, dy, dstate = draw(net)
    order, own = np.array([3, 0, 4, 2, 1]), f"{CELLS[cell].params_name}_l0"
    blocks = {n: np.concatenate([block * H + order for block in range(n)]) for n in range(1, 9)}

    def renamed(params):
        out = {}
        for name, p in params.items():
            p = p[:, order] if name == own else p[blocks[len(p) // H]]
            out[name] = p[:, blocks[p.shape[1] // H]] if name.startswith("weight_hh") else p
        return out

    y, final, tape = net.forward(x, state)
    dx, dinitial, grads = net.backward(tape, dy, dstate)
    other = net.with_params(renamed(net.params))
    y2, final2, tape2 = other.forward(x, tuple(f[..., order] for f in state))
    dx2, dinitial2, grads2 = other.backward(tape2, dy[..., order], tuple(f[..., order] for f in dstate))
    same([y2, dx2, *final2], [y[..., order], dx, *(f[..., order] for f in final)])
    same([*dinitial2, *grads2.values()], [*(f[..., order] for f in dinitial), *renamed(grads).values()])


@BACKENDS
@EVERY_CELL
def test_rows_of_a_batch_do_not_touch_each_other(cell, backend):
    net = stack(cell, backend, bidirectional=True)
    x, state, dy, dstate = draw(net)
    y, final, tape = net.forward(x, state, LENGTHS)
    dx, dinitial, grads = net.backward(tape, dy, dstate)
    total = dict.fromkeys(grads, 0)
    for b in range(B):
        part, new, tape = net.forward(x[:, [b]], tuple(f[:, [b]] for f in state), LENGTHS[[b]])
        dpart, before, g = net.backward(tape, dy[:, [b]], tuple(f[:, [b]] for f in dstate))
        same([part, *new], [y[:, [b]], *(f[:, [b]] for f in final)])
        same([dpart, *before], [dx[:, [b]], *(f[:, [b]] for f in dinitial)])
        total = {name: total[name] + g[name] for name in grads}
    same(total.values(), grads.values())


@BACKENDS
@EVERY_CELL
@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e300])
def test_what_stands_behind_a_rows_end_is_never_seen(cell, backend, garbage):
    net = stack(cell, backend, bidirectional=True)
    x, state, dy, dstate = draw(net)
    dead = np.arange(T)[:, None] >= LENGTHS
    results = []
    for filling in (0.0, garbage):
        y, final, tape = net.forward(np.where(dead[..., None], filling, x), state, LENGTHS)
        dx, dinitial, grads = net.backward(tape, np.where(dead[..., None], filling, dy), dstate)
        results.append([y, *final, dx, *dinitial, *grads.values()])
        np.testing.assert_array_equal(y[dead], 0)
        np.testing.assert_array_equal(dx[dead], 0)
        for s, f, d, g in zip(state, final, dstate, dinitial, strict=True):  # row 1 has no steps
            np.testing.assert_array_equal(f[:, 1], s[:, 1])
            np.testing.assert_array_equal(g[:, 1], d[:, 1])
    same(*results, tolerance=0)


@BACKENDS
@EVERY_CELL
def test_gradients_are_linear_in_what_comes_back_and_zero_for_zero(cell, backend):
    net = stack(cell, backend)
    x, state, dy, dstate = draw(net)
    tape = net.forward(x, state)[2]

    def back(dy, dstate):
        dx, dinitial, grads = net.backward(tape, dy, dstate)
        return [dx, *dinitial, *grads.values()]

    nothing = tuple(0 * f for f in dstate)
    from_output, from_state = back(dy, None), back(0 * dy, dstate)
    same(back(dy, nothing), from_output, tolerance=0)
    same(back(dy, dstate), [a + b for a, b in zip(from_output, from_state, strict=True)])
    for a in back(0 * dy, None):
        np.testing.assert_array_equal(a, 0)


@BACKENDS
@EVERY_CELL
def test_the_future_does_not_reach_the_past(cell, backend):
    net = stack(cell, backend)
    x, state, dy, _ = draw(net)
    later = x.copy()
    later[4:] += 1
    a, b = net(x, state)[0], net(later, state)[0]
    np.testing.assert_array_equal(a[:4], b[:4])
    assert (a[4:] != b[4:]).any(axis=(1, 2)).all()
    dy[3:] = 0  # a loss of the first three outputs has no gradient later
    dx = net.backward(net.forward(x, state)[2], dy)[0]
    np.testing.assert_array_equal(dx[3:], 0)
    assert (dx[:3] != 0).any(axis=(1, 2)).all()
