"""Losses and layers that anyone may call: what they refuse, with the same text on every backend."""

import re

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends
from unrolled.reference import layers, losses

T, B, E, V = 7, 3, 4, 5
EVERY_BACKEND = pytest.mark.parametrize("backend", sorted(backends.BACKENDS))
rng = np.random.default_rng(0)
LOGITS, TARGETS = rng.normal(size=(T, B, V)), rng.integers(0, V, (T, B))
X, WEIGHT, BIAS, DY = rng.normal(size=(T, B, E)), rng.normal(size=(V, E)), np.zeros(V), rng.normal(size=(T, B, V))


class Stubborn:
    """What has a conversion of its own that fails, as a tensor that wants gradients has."""

    def __array__(self, *_args, **_kw):
        raise RuntimeError("call detach first")


def message(call, *args, **kw):
    with pytest.raises(ur.UnrolledError) as error:
        call(*args, **kw)
    assert "\n" not in str(error.value)
    return str(error.value)


BAD_TARGETS = {
    "targets run from -1 to 4; they must be at least 0 and below 5": np.where(TARGETS == 0, -1, TARGETS),
    "targets run from -100 to 4; they must be at least 0 and below 5": np.where(TARGETS == 0, -100, TARGETS),
    "targets run from 0 to 5; they must be at least 0 and below 5": np.where(TARGETS == 4, 5, TARGETS),
    "targets are float64; expected whole numbers below 5": TARGETS.astype(float),
    "targets are bool; expected whole numbers below 5": TARGETS > 2,
    "targets has masked entries; fill them, or leave their steps out with lengths": np.ma.masked_equal(TARGETS, 0),
    "targets is a Stubborn that can't be made an array: call detach first": Stubborn(),
    "targets has rows of unequal length; expected an array of numbers": [[1], [2, 3]],
    "targets has shape (3,); expected (7, 3), to fit logits of shape (7, 3, 5)": TARGETS[0],
    "targets has shape (7, 1); expected (7, 3), to fit logits of shape (7, 3, 5)": TARGETS[:, :1],
    "targets has shape (7, 3, 1); expected (7, 3), to fit logits of shape (7, 3, 5)": TARGETS[..., None],
    "targets has shape (); expected (7, 3), to fit logits of shape (7, 3, 5)": 2,
}
BAD_LOGITS = {
    "logits has dtype <U1; expected an array of numbers": [["a", "b"]],
    "logits is None; expected an array of numbers": None,
    "logits has dtype bool; expected an array of floats with 1 axes or more": LOGITS > 0,
    "logits has shape (); expected an array of floats with 1 axes or more": 2.0,
    "logits has masked entries; fill them, or leave their steps out with lengths": np.ma.masked_less(LOGITS, 0),
}


@EVERY_BACKEND
@pytest.mark.parametrize("said", BAD_TARGETS)
def test_targets_that_are_none_are_refused(said, backend):
    assert message(backends.choose(backend).cross_entropy, LOGITS, BAD_TARGETS[said]) == said
    assert message(losses.confidence, LOGITS, BAD_TARGETS[said]) == said


@EVERY_BACKEND
@pytest.mark.parametrize("said", BAD_LOGITS)
def test_logits_that_are_none_are_refused(said, backend):
    assert message(backends.choose(backend).cross_entropy, BAD_LOGITS[said], TARGETS) == said
    assert message(losses.log_softmax, BAD_LOGITS[said]) == said


@EVERY_BACKEND
def test_no_target_and_no_share_are_refused(backend):
    call = backends.choose(backend).cross_entropy
    assert message(call, LOGITS[:0], TARGETS[:0]) == "targets have shape (0, 3); a mean needs 1 or more"
    for smoothing in (-0.1, 1.0, "0.1", np.nan):
        said = message(call, LOGITS, TARGETS, smoothing=smoothing)
        assert said == f"smoothing is {smoothing!r}; it must be at least 0 and below 1"


@EVERY_BACKEND
def test_lists_are_arrays(backend):
    """The same numbers, whatever holds them; whole ones are numbers too."""
    run = backends.choose(backend)
    loss, d = run.cross_entropy(LOGITS.tolist(), TARGETS.tolist(), smoothing=np.float32(0.25))
    want, dwant = losses.cross_entropy(LOGITS, TARGETS, smoothing=0.25)
    assert loss == pytest.approx(want, rel=1e-14)  # a mean of 21 logarithms, in another order
    np.testing.assert_allclose(d, dwant, rtol=0, atol=1e-15)
    assert run.cross_entropy(np.zeros((2, 4), int), [0, 3])[0] == pytest.approx(np.log(4), rel=1e-15)
    np.testing.assert_allclose(run.linear([[1, 2], [3, 4]], None, [1, 1]), [3, 7], rtol=0, atol=0)
    assert run.embed_backward([2, 0, 2], [[1], [2], [3]], 3).tolist() == [[2], [0], [4]]
    assert layers.embed([[1, 2], [3, 4]], [1, 0]).tolist() == [[3, 4], [1, 2]]
    assert losses.activation_penalty([[[3, -1]]])[0] == 5
    assert losses.temporal_penalty([[[1]], [[3]]], [[True], [False]])[0] == 4


BAD_TOKENS = {
    "tokens run from -1 to 4; they must be at least 0 and below 5": np.where(TARGETS == 0, -1, TARGETS),
    "tokens run from 0 to 5; they must be at least 0 and below 5": np.where(TARGETS == 4, 5, TARGETS),
    "tokens are float64; expected whole numbers below 5": TARGETS.astype(float),
    "tokens has masked entries; fill them, or leave their steps out with lengths": np.ma.masked_equal(TARGETS, 0),
}


@EVERY_BACKEND
@pytest.mark.parametrize("said", BAD_TOKENS)
def test_tokens_that_have_no_row_are_refused_forward_and_backward(said, backend):
    assert message(layers.embed, WEIGHT, BAD_TOKENS[said]) == said
    assert message(backends.choose(backend).embed_backward, BAD_TOKENS[said], X, V) == said


@EVERY_BACKEND
@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        (
            "embed_backward",
            (TARGETS, X[0], V),
            "dx has shape (3, 4); expected (7, 3, 4), to fit tokens of shape (7, 3)",
        ),
        ("embed_backward", (TARGETS, X, 0), "size is 0; it must be a whole number, 1 or more"),
        ("linear", (WEIGHT, BIAS, DY), "x has shape (7, 3, 5); expected (7, 3, 4), to fit a weight of shape (5, 4)"),
        ("linear", (WEIGHT, BIAS[:1], X), "bias has shape (1,); expected (5,), to fit a weight of shape (5, 4)"),
        ("linear", (WEIGHT[0], None, X), "weight has shape (4,); expected a matrix"),
        ("linear", (WEIGHT, None, "text"), "x is 'text'; expected an array of numbers"),
        ("linear", (WEIGHT, BIAS, 1.0), "x has shape (); expected an array of floats with 1 axes or more"),
        (
            "linear_backward",
            (WEIGHT, X, DY[:1]),
            "dy has shape (1, 3, 5); expected (7, 3, 5), to fit x of shape (7, 3, 4) and a weight of shape (5, 4)",
        ),
        (
            "linear_backward",
            (WEIGHT, X[..., :1], DY),
            "x has shape (7, 3, 1); expected (7, 3, 4), to fit a weight of shape (5, 4)",
        ),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(name, args, said, backend):
    assert message(getattr(backends.choose(backend), name), *args) == said


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: layers.dropout(X, X[0] > 0, 1.0), "rate is 1.0; it must be at least 0 and below 1"),
        (
            lambda: layers.dropout(X[0], X > 0, 0.5),
            "mask has shape (7, 3, 4), x (3, 4); expected the same, or 1 where a mask is shared",
        ),
        (
            lambda: layers.dropout(X, X[:2] > 0, 0.5),
            "mask has shape (2, 3, 4), x (7, 3, 4); expected the same, or 1 where a mask is shared",
        ),
        (
            lambda: layers.draw_mask(-1, (2, 3), 0.5),
            "rng is -1; expected a numpy Generator, such as numpy.random.default_rng(seed), or a seed",
        ),
        (lambda: layers.draw_mask(rng, (2, 3), 2), "rate is 2; it must be at least 0 and below 1"),
        (lambda: layers.uniform(rng, (2, 3), np.inf, "float32"), "bound is inf; it must be a number, 0 or more"),
        (
            lambda: losses.activation_penalty(X[0, 0]),
            "y has shape (4,); expected an array of floats with 3 axes or more",
        ),
        (
            lambda: losses.temporal_penalty(X, TARGETS[0] > 2),
            "starts has shape (3,); expected (7, 3), to fit y of shape (7, 3, 4)",
        ),
    ],
)
def test_what_makes_no_sense_is_said(call, said):
    assert message(call) == said


def test_masks_that_are_shared_are_taken():
    shared = rng.random((1, B, E)) < 0.5
    np.testing.assert_array_equal(layers.dropout(X, shared, 0.5), np.where(shared, 2 * X, 0))
    np.testing.assert_array_equal(layers.dropout(X, shared[0, 0], 0.5), np.where(shared[0, 0], 2 * X, 0))


@EVERY_BACKEND
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(0, 4, 5), (3, 0, 5), (3, 4, 0), (0, 0, 0)])
def test_a_linear_layer_of_nothing_gives_zeros(rows, inputs, outputs, backend):
    run, weight, x = backends.choose(backend), np.ones((outputs, inputs)), np.ones((rows, 2, inputs))
    y = run.linear(weight, np.zeros(outputs), x)
    assert (y.shape, y.sum()) == ((rows, 2, outputs), 0)
    dx, dweight, dbias = run.linear_backward(weight, x, y)
    assert (dx.shape, dweight.shape, dbias.shape) == (x.shape, weight.shape, (outputs,))
    assert not any(g.any() for g in (dx, dweight, dbias))


def test_logits_of_no_symbol_are_refused():
    assert message(losses.log_softmax, np.zeros((2, 0))) == "logits have shape (2, 0); expected one symbol or more"


def test_penalties_of_nothing_are_0():
    assert losses.activation_penalty(X[:0])[0] == 0
    assert losses.temporal_penalty(X[:0])[0] == 0


@pytest.mark.skipif("cpu" not in backends.BACKENDS, reason="the native engine is not built")
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("linear", (WEIGHT.astype("f4"), None, X)),
        ("linear_backward", (WEIGHT, X.astype("f4"), DY)),
        ("cross_entropy", (LOGITS.astype("f2"), TARGETS)),
        ("embed_backward", (TARGETS, X * 1j, V)),
    ],
)
def test_dtypes_that_the_engine_lacks_are_said_and_run_on_auto(name, args):
    said = message(getattr(backends.choose("cpu"), name), *args)
    assert re.fullmatch(r"cpu works on arrays of one dtype, float32 or float64; got .*\. Use backend='auto'\.", said)
    getattr(backends.choose("auto"), name)(*args)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("order", [np.asfortranarray, lambda a: a.swapaxes(0, 1).copy().swapaxes(0, 1)])
def test_the_gradient_does_not_depend_on_how_logits_lie(backend, order):
    logits = np.random.default_rng(0).standard_normal((7, 3, 5))
    targets = np.arange(21).reshape(7, 3) % 5
    loss, d = backends.choose(backend).cross_entropy(logits, targets)
    other, lying = backends.choose(backend).cross_entropy(order(logits), targets)
    assert loss == other
    assert np.array_equal(d, lying)
    assert np.abs(lying.sum(axis=-1)).max() < 1e-15  # softmax minus one-hot: 5 additions of numbers below 1 / 21


def test_large_logits_have_the_loss_of_their_differences():
    assert losses.cross_entropy(np.full((1, 2, 4), 1e300), np.array([[0, 3]]))[0] == np.log(4)


def test_starts_are_bools():
    with pytest.raises(ur.UnrolledError, match=r"^starts are int64; expected bools, True where a document begins$"):
        losses.temporal_penalty(np.ones((3, 2, 4)), np.zeros((3, 2), np.int64))


@pytest.mark.parametrize("mask", [X * 0.5, np.ones(X.shape, int)])
def test_a_mask_of_numbers_is_refused(mask):
    assert message(layers.dropout, X, mask, 0.5) == f"mask has dtype {mask.dtype}; expected bools, True where x is kept"


def test_an_embedding_without_columns_has_a_gradient_without_columns():
    assert layers.embed_backward(TARGETS, np.zeros((T, B, 0)), V).shape == (V, 0)


@EVERY_BACKEND
def test_logits_that_can_not_be_written_to_are_not_overwritten(backend):
    logits = LOGITS.copy()
    logits.flags.writeable = False
    expected = losses.cross_entropy(LOGITS, TARGETS)
    loss, d = backends.BACKENDS[backend].cross_entropy(logits, TARGETS, overwrite=True)
    assert loss == pytest.approx(expected[0], rel=1e-14)  # sums of 21 terms in another order
    np.testing.assert_allclose(d, expected[1], rtol=1e-13, atol=1e-16)
    np.testing.assert_array_equal(logits, LOGITS)
