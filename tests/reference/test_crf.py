"""The chain of tags: sums against all paths, gradients by complex steps, and padding that is never looked at."""

import itertools

import numpy as np
import pytest

import unrolled as ur
from unrolled.reference import losses
from unrolled.reference.crf import crf, marginals, viterbi

T, B, K = 4, 5, 3
LENGTHS = np.array([4, 2, 0, 3, 1])
LIVE = np.arange(T)[:, None] < LENGTHS
STEP = 1e-30
RANGES = {"as they are learnt": 1.0, "forbidden": 1e3}  # above 354 every pair is summed by itself, in logarithms


def chain(scale=1.0, dtype="float64"):
    """Emissions, targets, transitions, begin and end."""
    rng = np.random.default_rng(3)
    e, a, b, f = (rng.normal(size=shape).astype(dtype) for shape in ((T, B, K), (K, K), (K,), (K,)))
    return e, rng.integers(0, K, (T, B)), (a * a.dtype.type(scale), b, f)


def paths(e, n, a, b, f):
    """Every path of one row, with its score."""
    for y in itertools.product(range(K), repeat=n):
        yield y, b[y[0]] + f[y[-1]] + sum(e[t, y[t]] for t in range(n)) + sum(a[i, j] for i, j in itertools.pairwise(y))


@pytest.mark.parametrize("scale", RANGES.values(), ids=RANGES)
def test_loss_marginals_and_best_paths_are_those_of_all_paths(scale):
    e, y, scores = chain(scale)
    total, probability, best = 0.0, np.zeros((T, B, K)), np.zeros((T, B), int)
    for row, n in enumerate(LENGTHS):
        if n:
            found = list(paths(e[:, row], n, *scores))
            values = np.array([score for _, score in found])
            log_z = np.logaddexp.reduce(values)
            total += log_z - next(score for path, score in found if path == tuple(y[:n, row]))
            best[:n, row] = found[values.argmax()][0]
            for path, score in found:
                probability[np.arange(n), row, path] += np.exp(score - log_z)
    # scores of up to 4,000, and a sum of 81 paths: 1e-12 of each is 4 digits more than float64 rounds away
    np.testing.assert_allclose(crf(e, y, LENGTHS, *scores)[0], total / LENGTHS.sum(), rtol=1e-12)
    np.testing.assert_allclose(marginals(e, LENGTHS, *scores), probability, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(viterbi(e, LENGTHS, *scores), best)


@pytest.mark.parametrize("scale", RANGES.values(), ids=RANGES)
def test_every_gradient_is_the_one_that_complex_steps_give(scale):
    e, y, scores = chain(scale)
    given = [e, *scores]
    _, de, slopes = crf(e, y, LENGTHS, *scores)
    for k, d in enumerate([de, slopes["transitions"], slopes["begin"], slopes["end"]]):
        for place in np.ndindex(d.shape):
            moved = [a.astype(complex) for a in given]
            moved[k][place] += 1j * STEP
            rise = crf(moved[0], y, LENGTHS, *moved[1:])[0].imag / STEP
            # probabilities are differences of logarithms of up to 4 scale, which round at 1e-16 of that
            np.testing.assert_allclose(d[place], rise, rtol=1e-12, atol=1e-15 * scale)


@pytest.mark.parametrize("scale", RANGES.values(), ids=RANGES)
def test_marginals_sum_to_1_and_the_gradient_to_0(scale):
    e, y, scores = chain(scale)
    shares = marginals(e, LENGTHS, *scores)
    np.testing.assert_allclose(shares.sum(axis=-1), LIVE, atol=1e-12)
    _, de, slopes = crf(e, y, LENGTHS, *scores)
    for d in (de, *slopes.values()):
        np.testing.assert_allclose(d.sum(), 0, atol=1e-12)  # as many tags are expected as there are
    hot = np.eye(K)[y]
    np.testing.assert_allclose(de[LIVE] * LENGTHS.sum(), (shares - hot)[LIVE], atol=1e-14)


@pytest.mark.parametrize("scale", RANGES.values(), ids=RANGES)
def test_padding_changes_nothing_whatever_it_holds(scale):
    e, y, scores = chain(scale)
    odd, wild = e.copy(), y.copy()
    odd[~LIVE], wild[~LIVE] = np.nan, -100
    (loss, de, slopes), (same, other, others) = (crf(*xy, LENGTHS, *scores) for xy in ((e, y), (odd, wild)))
    assert loss == same
    np.testing.assert_array_equal(de, other)
    assert not de[~LIVE].any()
    for name, d in slopes.items():
        np.testing.assert_array_equal(d, others[name])
    np.testing.assert_array_equal(viterbi(e, LENGTHS, *scores), viterbi(odd, LENGTHS, *scores))
    np.testing.assert_array_equal(marginals(e, LENGTHS, *scores), marginals(odd, LENGTHS, *scores))


def test_a_batch_is_its_rows_weighed_by_their_steps():
    e, y, scores = chain()
    whole = crf(e, y, LENGTHS, *scores)
    parts = [(n, crf(e[:n, [row]], y[:n, [row]], None, *scores)) for row, n in enumerate(LENGTHS) if n]
    np.testing.assert_allclose(whole[0], sum(n * part[0] for n, part in parts) / LENGTHS.sum(), rtol=1e-14)
    for name in ("transitions", "begin", "end"):
        mean = sum(n * part[2][name] for n, part in parts) / LENGTHS.sum()
        np.testing.assert_allclose(whole[2][name], mean, rtol=1e-12, atol=1e-15)


def test_without_transitions_it_is_softmax_cross_entropy():
    e, y, _ = chain()
    nothing = np.zeros((K, K)), np.zeros(K), np.zeros(K)
    loss, de, _ = crf(e, y, LENGTHS, *nothing)
    nats, d = losses.cross_entropy(e, y, weights=LIVE)
    np.testing.assert_allclose(loss, nats, rtol=1e-14)
    np.testing.assert_allclose(de, d, atol=1e-15)
    np.testing.assert_array_equal(viterbi(e, LENGTHS, *nothing), np.where(LIVE, e.argmax(axis=-1), 0))


def test_float32_stays_and_is_summed_in_float64():
    e, y, scores = chain(dtype="float32")
    loss, de, slopes = crf(e, y, LENGTHS, *scores)
    exact, want, _ = crf(e.astype("float64"), y, LENGTHS, *(a.astype("float64") for a in scores))
    assert loss == exact
    assert {de.dtype, *(d.dtype for d in slopes.values())} == {np.dtype("float32")}
    np.testing.assert_array_equal(de, want.astype("float32"))


def test_without_a_gradient_the_loss_is_the_same_and_gradients_are_zeros():
    e, y, scores = chain()
    loss, de, slopes = crf(e, y, LENGTHS, *scores, gradient=False)
    assert loss == crf(e, y, LENGTHS, *scores)[0]
    assert not any(d.any() for d in (de, *slopes.values()))


def test_long_rows_and_scores_of_any_size_stay_finite():
    e, y, (a, b, f) = chain()
    e, y = np.tile(e * 1e4, (100, 1, 1)), np.tile(y, (100, 1))
    for forbidden in (0.0, -1e6):
        loss, de, _ = crf(e, y, None, np.where(a < -0.5, forbidden, a), b, f)
        assert np.isfinite(loss)
        assert (
            np.abs(de).max() * y.size <= 1 + 1e-7
        )  # a probability less 0 or 1; log Z of 8e6 rounds at 1e-9 in every addition


BAD = {
    "emissions have shape (4, 5, 0); expected (T, B, K), of one tag or more": {"emissions": np.zeros((T, B, 0))},
    "transitions has shape (3,); expected (3, 3), to fit emissions of shape (4, 5, 3)": {"transitions": np.zeros(K)},
    "begin has shape (1,); expected (3,), to fit emissions of shape (4, 5, 3)": {"begin": np.zeros(1)},
    "end has dtype bool; expected an array of floats with 0 axes or more": {"end": np.zeros(K) > 0},
    "lengths run from 1 to 5; they must be at least 0 and below 5": {"lengths": [1, 5, 1, 1, 1]},
    "lengths has shape (1,); expected (5,), to fit emissions of shape (4, 5, 3)": {"lengths": [1]},
}
OF_TARGETS = {
    "targets run from 0 to 3; they must be at least 0 and below 3": {"targets": np.full((T, B), 3)},
    "targets are float64; expected whole numbers below 3": {"targets": np.zeros((T, B))},
    "targets has shape (5,); expected (4, 5), to fit emissions of shape (4, 5, 3)": {"targets": np.zeros(B, int)},
    "emissions have shape (4, 5, 3), and no live step; a mean needs 1 or more": {"lengths": np.zeros(B, int)},
}


@pytest.mark.parametrize("said", [*BAD, *OF_TARGETS])
def test_what_makes_no_sense_is_said(said):
    e, y, (a, b, f) = chain()
    given = {"emissions": e, "targets": y, "lengths": LENGTHS, "transitions": a, "begin": b, "end": f}
    given |= (BAD | OF_TARGETS)[said]
    calls = [crf] if said in OF_TARGETS else [crf, marginals, viterbi]
    for call in calls:
        with pytest.raises(ur.UnrolledError) as error:
            call(**{name: a for name, a in given.items() if call is crf or name != "targets"})
        assert str(error.value) == said


def test_nothing_has_no_tags():
    empty, scores = np.zeros((0, B, K)), chain()[2]
    assert viterbi(empty, None, *scores).shape == (0, B)
    assert marginals(empty, None, *scores).shape == (0, B, K)
