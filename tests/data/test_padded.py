"""Sequences of different lengths in batches: what is where, what counts, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.padded import Padded, batches, together

LENGTHS = [3, 1, 2, 3, 5]
I, K = 2, 4
rng = np.random.default_rng(0)
TOKENS = [rng.integers(1, 9, n) for n in LENGTHS]
NUMBERS = [rng.normal(size=(n, I)).astype("float32") for n in LENGTHS]


def found(data):
    """Each sequence's x and y as batches have them, by what the sequences were."""
    pairs = {}
    for k, batch in enumerate(data):
        for row, n in enumerate(data.rows(k)):
            length = batch.lengths[row]
            pairs[n] = batch.x[:length, row], batch.y[:length, row] if data.stepwise else batch.y[row]
            assert not batch.x[length:, row].any()
            if data.stepwise:
                assert not np.nan_to_num(batch.y[length:, row]).any()
    return [pairs[n] for n in range(len(data.x))]


X = {
    "tokens": TOKENS,
    "numbers": NUMBERS,
    "spelled words": [rng.integers(0, 9, (n, 1 + n)) for n in LENGTHS],  # words of other lengths in each
}
STEPS = {
    "classes": ([rng.integers(0, K, n) for n in LENGTHS], "int32", ()),
    "numbers": ([rng.normal(size=(n, K)) for n in LENGTHS], "float64", (K,)),
    "a number": ([rng.normal(size=n) for n in LENGTHS], "float64", (1,)),
    "labels": ([rng.integers(0, 2, (n, K)) for n in LENGTHS], "float32", (K,)),
    "bools": ([rng.random((n, K)) < 0.5 for n in LENGTHS], "float32", (K,)),
}
ROWS = {
    "classes": (rng.integers(0, K, len(LENGTHS)), "int32", ()),
    "a list of classes": ([0, 1, 2, 0, 3], "int32", ()),
    "numbers": (rng.normal(size=(len(LENGTHS), K)), "float64", (K,)),
    "a number": (rng.normal(size=len(LENGTHS)), "float64", ()),
    "yes or no": ([True, False, True, True, False], "int32", ()),
    "labels": (rng.integers(0, 2, (len(LENGTHS), K)), "float32", (K,)),
}


@pytest.mark.parametrize("x", X)
@pytest.mark.parametrize(("y", "stepwise"), [*((y, True) for y in STEPS), *((y, False) for y in ROWS)])
def test_every_sequence_is_there_with_its_targets(x, y, stepwise):
    targets, dtype, shape = (STEPS if stepwise else ROWS)[y]
    data = batches(X[x], targets, 2)
    assert (data.stepwise, len(data), data[0].y.dtype) == (stepwise, 3, np.dtype(dtype))
    for (ours, theirs), given, want in zip(found(data), X[x], targets, strict=True):
        assert theirs.shape[stepwise:] == shape
        np.testing.assert_array_equal(theirs.reshape(np.shape(want)), want)
        np.testing.assert_array_equal(ours[:, : given.shape[1]] if ours.ndim > 1 else ours, given)
        assert ours.ndim == 1 or not ours[:, given.shape[1] :].any()  # shorter words


def test_batches_are_of_like_length_and_each_epoch_has_an_order_of_its_own():
    many = [np.ones(n, int) for n in rng.integers(1, 20, 203)]
    data = batches(many, range(203), 10, seed=5)
    assert [batch.size for batch in data] == [10] * 20 + [3]
    lengths = [batch.lengths for batch in data]
    assert all(after.min() >= before.max() for before, after in zip(lengths, lengths[1:], strict=False))
    orders = [[batch.y.tolist() for batch in data.epoch(n)] for n in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(map(tuple, orders[0])) == sorted(map(tuple, orders[1]))  # what is in a batch stays
    other = [batch.y.tolist() for batch in batches(many, range(203), 10, seed=6).epoch(0)]
    assert sorted(n for batch in other for n in batch) == list(range(203))
    assert sorted(map(tuple, other)) != sorted(map(tuple, orders[0]))


def test_sequences_of_one_length_that_came_class_by_class_are_mixed():
    classes = np.repeat([0, 1], 200)
    data = batches(np.ones((400, 3), int), classes, 20)
    means = [batch.y.mean() for batch in data]
    assert min(means) > 0.1
    assert max(means) < 0.9  # 20 of a fair coin: beyond that once in 5,000 batches


def test_weights_are_of_sequences_of_targets_and_of_classes():
    y = STEPS["classes"][0]
    live = sum(LENGTHS)
    assert batches(TOKENS, y, 2).targets == live
    by_row = batches(TOKENS, y, 2, weights=[1, 2, 0.5, 1, 3])
    assert by_row.targets == 3 + 2 + 1 + 3 + 15
    by_step = batches(TOKENS, y, 2, weights=[np.arange(n) + 1 for n in LENGTHS])
    assert by_step.targets == 6 + 1 + 3 + 6 + 15
    classes = batches(TOKENS, y, 2, class_weights=[1, 2, 3, 4])
    assert classes.targets == sum(int((t + 1).sum()) for t in y)
    for k, batch in enumerate(classes):
        for row, n in enumerate(classes.rows(k)):
            np.testing.assert_array_equal(batch.weights[: LENGTHS[n], row], y[n] + 1)
            assert not batch.weights[LENGTHS[n] :, row].any()
    rows = batches(TOKENS, [0, 1, 1, 1, 2], 2, class_weights="balanced")
    assert rows.class_weights.tolist() == [5 / 3, 5 / 9, 5 / 3]
    assert abs(rows.targets - 5) < 1e-6  # weights of float32
    assert batches(TOKENS, [0, 1, 1, 1, 2], 2)[0].weights is None


def test_a_class_to_ignore_and_numbers_that_are_not_known_count_nothing():
    y = [np.where(np.arange(n) == 1, -100, 2) for n in LENGTHS]
    data = batches(TOKENS, y, 2, ignore=-100)
    assert data.targets == sum(LENGTHS) - 4
    assert all(((batch.y == 2) == (batch.weights > 0)).all() for batch in data)
    with pytest.raises(ur.UnrolledError, match=r"^classes of the data run from -100; they must be 0 or more"):
        batches(TOKENS, y, 2, class_weights=[1, 1, 1])
    numbers = [a.copy() for a in STEPS["numbers"][0]]
    numbers[4][2, 1] = np.nan
    data = batches(NUMBERS, numbers, 2)
    assert data.targets == sum(LENGTHS) * K - 1
    assert all(batch.weights.shape == batch.y.shape for batch in data)


@pytest.mark.parametrize("stepwise", [True, False])
def test_rows_of_a_batch_have_their_own_targets_and_weights(stepwise):
    for kinds, of_steps in ((STEPS, True), (ROWS, False)):
        if of_steps != stepwise:
            continue
        for y, _, _ in kinds.values():
            whole = batches(TOKENS, y, 5, weights=[1, 2, 3, 4, 5])[0]
            wide = replace(whole, weights=np.broadcast_to(whole.weights[..., None], (*whole.weights.shape, K)))
            assert wide.rows(slice(1, 3)).weights[..., 0].tolist() == whole.rows(slice(1, 3)).weights.tolist()
            part = whole.rows(slice(1, 3))
            np.testing.assert_array_equal(part.y, whole.y[:, 1:3] if stepwise else whole.y[1:3])
            np.testing.assert_array_equal(part.weights, whole.weights[:, 1:3] if stepwise else whole.weights[1:3])


def test_what_was_made_of_batches_comes_back_in_the_order_given():
    data = batches(NUMBERS, batch_size=2)
    assert len(data) == 3
    back = data.unpadded((batch.x * 10 for batch in data), stepwise=True)
    for ours, given in zip(back, NUMBERS, strict=True):
        np.testing.assert_array_equal(ours, given * 10)
    assert data.unpadded(batch.lengths for batch in data) == LENGTHS


def test_arrays_of_all_sequences_and_series_of_one_channel_are_taken():
    assert batches(np.zeros((5, 3, 2)), np.zeros(5, int), 2)[0].x.shape == (3, 2, 2)
    assert batches([[1.0, 2.0], [3.0]], [0, 1])[0].x.tolist() == [[[3.0], [1.0]], [[0.0], [2.0]]]
    assert batches([[True], [False, True]])[0].x.dtype == np.float32
    assert together([np.array([[1, 2]]), np.array([[3, 4, 5], [6, 7, 8]])]).shape == (2, 2, 3)


X3 = [[1, 2, 3], [4], [5, 6]]
BAD = {
    "there are no sequences": ([], None, {}),
    "sequences are 'text'; expected a list of arrays, or an array (N, ...)": ("text", None, {}),
    "sequence 1 of the data has no steps": ([[1], []], None, {}),
    "sequence 1 of the data is float64 of shape (1, 1), sequence 0 int64 of (1,)": ([[1], [0.5]], None, {}),
    "sequence 1 of the data has 3 channels, sequence 0 has 2": ([np.ones((1, 2)), np.ones((4, 3))], None, {}),
    "sequence 1 of the data has nan at step 0, channel 1; fill it, or leave it out": (
        [np.ones((1, 2)), [[1, np.nan]]],
        None,
        {},
    ),
    "sequence 0 of the data is 'a'; expected an array of numbers": (["a", "b"], None, {}),
    "the data has 3 sequences and 2 of targets": (X3, [0, 1], {}),
    "sequence 2 of the data has 2 steps and targets of shape (3,); expected one a step": (
        X3,
        [[0, 1, 1], [0], [1, 1, 1]],
        {"stepwise": True},
    ),
    "weights of sequence 0 of the data must be finite numbers, 0 or more": (X3, [0, 1, 0], {"weights": [-1, 1, 1]}),
    "the data has 3 sequences and 1 of weights": (X3, [0, 1, 0], {"weights": [1]}),
    "sequence 1 of the data has no target that counts; leave it out": (X3, [0, -1, 0], {"ignore": -1}),
    "sequence 1 of the data has targets that are infinite, or none that is known; leave it out": (
        X3,
        [0.5, np.nan, 0],
        {},
    ),
    "class_weights are of 1 classes; the data has the class 1": (X3, [0, 1, 0], {"class_weights": [1]}),
    "class_weights are [-1, 1]; expected a number a class, 0 or more, or 'balanced'": (
        X3,
        [0, 1, 0],
        {"class_weights": [-1, 1]},
    ),
    "class_weights are of classes, whole numbers; the targets of the data are float64": (
        X3,
        [0.5, 1, 0],
        {"class_weights": [1, 1]},
    ),
    "batch_size is 0; it must be a whole number, 1 or more": (X3, [0, 1, 0], {"batch_size": 0}),
    "seed is -1; it must be a whole number, 0 or more": (X3, [0, 1, 0], {"seed": -1}),
}


@pytest.mark.parametrize("said", BAD)
def test_what_makes_no_sense_is_said(said):
    x, y, how = BAD[said]
    with pytest.raises(ur.UnrolledError) as error:
        batches(x, y, **how)
    assert str(error.value) == said


def test_a_sequence_without_a_target_a_step_is_refused_in_a_part_of_a_run():
    with pytest.raises(ur.UnrolledError, match=r"^sequence 1 of the part to val has 1 step, 2 targets$"):
        Padded([np.ones(2, int), np.ones(1, int)], [np.ones(2, int), np.ones(2, int)], 2, "the part to val")
