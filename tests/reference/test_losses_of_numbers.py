"""Losses of numbers and of labels: gradients by complex steps, PyTorch's numbers, and targets that are not known."""

from functools import partial

import numpy as np
import pytest

import unrolled as ur
from unrolled.reference import losses
from unrolled.reference.losses.numbers import SPREAD

T, B, K = 5, 3, 4
STEP = 1e-30
QUANTILES = (0.1, 0.5, 0.9)
rng = np.random.default_rng(0)
NUMBERS, LABELS = rng.normal(size=(T, B, K)), rng.integers(0, 2, (T, B, K))
LOSSES = {
    "squared": (losses.squared_error, 1, NUMBERS),
    "huber": (partial(losses.huber, delta=0.8), 1, NUMBERS),
    "quantile": (partial(losses.quantile, quantiles=QUANTILES), len(QUANTILES), NUMBERS),
    "gaussian": (losses.gaussian, 2, NUMBERS),
    "bernoulli": (losses.bernoulli, 1, LABELS),
}
EVERY = pytest.mark.parametrize("name", LOSSES)


def of(name, seed=1):
    call, inner, targets = LOSSES[name]
    return call, np.random.default_rng(seed).normal(size=(T, B, K * inner)) * 2, targets


@EVERY
@pytest.mark.parametrize("weights", [None, "rows", "numbers"])
def test_the_gradient_is_the_one_that_complex_steps_give(name, weights):
    call, z, y = of(name)
    some = rng.random((T, B) if weights == "rows" else (T, B, K))
    w = None if weights is None else np.where(some > 0.3, some, 0)
    loss, d = call(z, y, weights=w)
    assert call(z, y, weights=w, gradient=False)[0] == loss
    assert not call(z, y, weights=w, gradient=False)[1].any()
    for place in np.ndindex(z.shape):
        moved = z.astype(complex)
        moved[place] += 1j * STEP
        rise = call(moved, y, weights=w)[0].imag / STEP
        np.testing.assert_allclose(d[place], rise, rtol=1e-12, atol=1e-16)


@EVERY
def test_the_mean_is_over_the_sum_of_weights(name):
    call, z, y = of(name)
    inner = z.shape[-1] // K
    lies = z.reshape(T, B, 2, K).swapaxes(-1, -2) if name == "gaussian" else z.reshape(T, B, K, inner)
    single = np.array([call(lies[place].reshape(1, -1), y[place].reshape(1, 1))[0] for place in np.ndindex(T, B, K)])
    w = rng.random((T, B, K))
    np.testing.assert_allclose(call(z, y)[0], single.mean(), rtol=1e-13)
    np.testing.assert_allclose(call(z, y, weights=w)[0], (single * w.ravel()).sum() / w.sum(), rtol=1e-13)
    rows = np.broadcast_to(w[..., :1], w.shape)
    np.testing.assert_allclose(call(z, y, weights=w[..., 0])[0], call(z, y, weights=rows)[0], rtol=1e-14)


@EVERY
def test_what_is_not_known_or_counts_nothing_changes_nothing_whatever_it_is(name):
    call, z, y = of(name)
    y = y.astype(float)
    off = rng.random((T, B)) < 0.4
    want, dwant = call(z, y, weights=~off)
    wild, odd = z.copy(), y.copy()
    wild[off], odd[off] = np.nan, np.nan
    seven = np.where(off[..., None], 7, y)  # no label
    for x, targets, weights in ((wild, odd, ~off), (wild, odd, None), (z, seven, ~off)):
        loss, d = call(x, targets, weights=weights)
        assert loss == want
        np.testing.assert_array_equal(d, dwant)
        assert not d[off].any()


@EVERY
def test_a_single_number_of_a_row_may_be_missing(name):
    call, z, y = of(name)
    missing = np.zeros((T, B, K), bool)
    missing[1, 2, 3] = missing[0, 0, 0] = True
    loss, d = call(z, np.where(missing, np.nan, y))
    assert (loss, d.tolist()) == (call(z, y, weights=~missing)[0], call(z, y, weights=~missing)[1].tolist())


@EVERY
def test_float32_stays_and_is_summed_in_float64(name):
    call, z, y = of(name)
    loss, d = call(z.astype("float32"), y)
    want, dwant = call(z, y)
    assert d.dtype == np.float32
    np.testing.assert_allclose(loss, want, rtol=1e-6)  # a few operations of 6e-8 each a number
    np.testing.assert_allclose(d, dwant, rtol=0, atol=1e-6 * np.abs(dwant).max())


@EVERY
def test_targets_of_one_number_need_no_axis(name):
    call, inner, y = LOSSES[name]
    z = rng.normal(size=(T, B, inner))
    assert call(z, y[..., 0])[0] == call(z, y[..., :1])[0]


def test_numbers_are_pytorchs():
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    for name, theirs in {
        "bernoulli": functional.binary_cross_entropy_with_logits,
        "squared": functional.mse_loss,
        "huber": lambda z, y: functional.huber_loss(z, y, delta=0.8),
        "gaussian": lambda z, y: functional.gaussian_nll_loss(
            z[..., :K], y, torch.exp(2 * SPREAD * torch.tanh(z[..., K:] / SPREAD)), full=True, eps=1e-12
        ),
    }.items():
        call, z, y = of(name)
        loss, d = call(z, y)
        given = torch.tensor(z, requires_grad=True)
        value = theirs(given, torch.tensor(y, dtype=torch.float64))
        value.backward()
        np.testing.assert_allclose(loss, value.item(), rtol=1e-13, err_msg=name)
        np.testing.assert_allclose(d, given.grad.numpy(), rtol=1e-12, atol=1e-16, err_msg=name)


def test_bernoulli_is_finite_for_every_finite_logit():
    z = np.array([[-1e300, -800.0, 0.0, 800.0, 1e300]])
    for y, want in ((0, [0, 0, np.log(2), 800, 1e300]), (1, [1e300, 800, np.log(2), 0, 0])):
        for k, value in enumerate(want):
            loss, d = losses.bernoulli(z[:, k : k + 1], [[y]])
            assert loss == value
            assert d[0, 0] == [0, 0, 0.5, 1, 1][k] - y


def test_the_median_and_other_quantiles_are_where_the_pinball_loss_is_least():
    y = rng.normal(size=(401, 1))
    for q in QUANTILES:
        places = np.linspace(-3, 3, 1201)
        found = [losses.quantile(np.full((401, 1), z), y, (q,), gradient=False)[0] for z in places]
        # the loss is least at a target, and flat between two: two steps of the places, and the largest gap there
        assert abs(places[np.argmin(found)] - np.quantile(y, q)) < 0.05


def test_a_gaussian_that_fits_is_least_and_its_deviation_is_bounded():
    y = rng.normal(3.0, 0.5, size=(1, 2001))
    mean, s = y.mean(), np.log(y.std())
    s = SPREAD * np.arctanh(s / SPREAD)
    z = np.repeat([[mean], [s]], 2001, axis=1).reshape(1, -1)
    loss, d = losses.gaussian(z, y)
    np.testing.assert_allclose(loss, np.log(2 * np.pi * np.e * y.var()) / 2, rtol=1e-12)  # a Gaussian's entropy
    np.testing.assert_allclose(d.reshape(2, -1).sum(axis=1), 0, atol=1e-12)
    for wild in (-1e300, 1e300):
        loss, d = losses.gaussian(np.array([[0.0, wild]]), [[0.0]])
        np.testing.assert_allclose(loss, np.sign(wild) * SPREAD + np.log(2 * np.pi) / 2, rtol=1e-12)
        assert np.isfinite(d).all()


OF_QUANTILES = "expected numbers above 0 and below 1, rising"
BAD = {
    "targets run from -1 to 2; labels are from 0 to 1": lambda: losses.bernoulli(np.zeros((1, 3)), [[0, 2, -1]]),
    "delta is 0; it must be above 0": lambda: losses.huber(NUMBERS, NUMBERS, delta=0),
    f"quantiles are (0.9, 0.1); {OF_QUANTILES}": lambda: losses.quantile(NUMBERS, NUMBERS, (0.9, 0.1)),
    f"quantiles are (); {OF_QUANTILES}": lambda: losses.quantile(NUMBERS, NUMBERS, ()),
    f"quantiles are 'ab'; {OF_QUANTILES}": lambda: losses.quantile(NUMBERS, NUMBERS, "ab"),
    "outputs have shape (5, 3, 4); expected 3 a target, one behind the other": lambda: losses.quantile(
        NUMBERS, NUMBERS
    ),
    "outputs have shape (5, 3, 3); expected means, and as many deviations behind them": lambda: losses.gaussian(
        NUMBERS[..., :3], NUMBERS
    ),
    "targets has shape (5, 3, 4); expected (5, 3, 2), to fit outputs of shape (5, 3, 4)": lambda: losses.gaussian(
        NUMBERS, NUMBERS
    ),
    "targets are all NaN; a mean needs 1 or more that is known": lambda: losses.huber(NUMBERS, NUMBERS * np.nan),
    "weights are all 0; a mean needs 1 target or more": lambda: losses.huber(
        NUMBERS, NUMBERS, weights=np.zeros((T, B))
    ),
    "weights has shape (3,); expected (5, 3, 4), to fit targets of shape (5, 3, 4)": lambda: losses.huber(
        NUMBERS, NUMBERS, weights=np.ones(B)
    ),
    "targets have shape (0, 3, 4); a mean needs 1 or more": lambda: losses.huber(NUMBERS[:0], NUMBERS[:0]),
}


@pytest.mark.parametrize("said", BAD)
def test_what_makes_no_sense_is_said(said):
    with pytest.raises(ur.UnrolledError) as error:
        BAD[said]()
    assert str(error.value) == said
