"""Windows of series: their places, their steps as a network reads them, and how they are normalised."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.windows import Layout, Windows, cut, every_place

LAYOUT = Layout(context=6, horizon=4, segment=2, series=3, calendar=2, known=1, scale=0.5)
LENGTHS = (13, 17)


@pytest.fixture
def data():
    rng = np.random.default_rng(4)
    values = [rng.normal(size=n) for n in LENGTHS]
    known = [rng.normal(size=(n + LAYOUT.horizon, 3)) for n in LENGTHS]
    return Windows(LAYOUT, values, known, every_place(LENGTHS, LAYOUT), 5, numbers=(2, 0))


def test_every_window_is_there_once(data):
    assert data.places.tolist() == [[s, t] for s, n in enumerate(LENGTHS) for t in range(6, n - 4 + 1)]
    assert (len(data), data.targets) == (3, 2 * len(data.places))
    assert every_place([13], LAYOUT, [8], stride=2).tolist() == [[0, 8]]
    assert every_place([17], LAYOUT, [8], stride=2).tolist() == [[0, 8], [0, 10], [0, 12]]


def test_steps_of_a_network_are_segments_and_then_questions(data):
    batch, row = data[1], 2
    series, first = data.places[5 + row]
    values, known = data.values[series], data.known[series]
    context, future = values[first - 6 : first], values[first : first + 4]
    last, number = context[-1], (2, 0)[series]
    assert batch.x.shape == (5, 5, 2 + 2 + 3 + 2 + 2)
    for step in range(5):
        at = first - 6 + 2 * step
        shown = (context[2 * step : 2 * step + 2] - last) / 0.5 if step < 3 else np.zeros(2)
        expected = [
            *shown,
            step == 3,
            step == 4,
            *(c == number for c in range(3)),
            *known[at, :2],
            *known[at : at + 2, 2],
        ]
        np.testing.assert_allclose(batch.x[step, row], expected, rtol=1e-14)
    np.testing.assert_allclose(batch.y[3:, row].ravel(), (future - last) / 0.5, rtol=1e-14)
    np.testing.assert_array_equal(batch.weights[:, row], [0, 0, 0, 1, 1])


def test_a_recurrent_layout_reads_each_segment_and_is_asked_for_the_next(data):
    layout = Layout(**vars(LAYOUT) | {"output": "recurrent"})
    recurrent = Windows(layout, data.values, data.known, data.places, 5, numbers=(2, 0))
    batch, window = recurrent[1], recurrent.window(1)
    normal = np.concatenate([window.context, window.future], axis=1)
    normal = (normal - window.offset) / window.spread
    assert batch.x.shape == (4, 5, 2 + 3 + 2 + 2)
    np.testing.assert_array_equal(batch.x[..., :2].swapaxes(0, 1).reshape(5, 8), normal[:, :8])
    np.testing.assert_array_equal(batch.y[2:].swapaxes(0, 1).reshape(5, 4), normal[:, 6:])
    np.testing.assert_array_equal(batch.weights[:, 0], [0, 0, 1, 1])
    np.testing.assert_array_equal(window.x[3, :, :2], 0)  # what was not known yet
    direct = data[1]
    np.testing.assert_array_equal(batch.x[..., 5:], direct.x[1:, :, 7:])  # known of the step that is asked for


@pytest.mark.parametrize("instance", ["last", "mean", "standard"])
def test_what_is_added_to_a_series_changes_no_window(data, instance):
    layout = Layout(**vars(LAYOUT) | {"instance": instance})
    factor = 3.0 if instance == "standard" else 1.0
    moved = [factor * values + 100 for values in data.values]
    one, other = (Windows(layout, values, data.known, data.places, 5)[0] for values in (data.values, moved))
    np.testing.assert_allclose(one.x, other.x, atol=1e-12)  # 100 takes two digits
    np.testing.assert_allclose(one.y, other.y, atol=1e-12)


def test_what_comes_after_a_series_is_not_known(data):
    after = Windows(LAYOUT, data.values, data.known, np.array([[1, 17]]), 5)
    window = after.window(0)
    assert np.isnan(window.future).all()
    assert np.isfinite(window.x).all()
    np.testing.assert_array_equal(window.context[0], data.values[1][-6:])


def test_series_that_are_too_short_are_refused():
    assert cut(40, LAYOUT, 0.1, 0.2, "load") == (28, 32)
    with pytest.raises(
        ur.UnrolledError, match=r"load has 13 steps, with 4 held out to validate and 4 to test; a context"
    ):
        cut(13, LAYOUT, 0.1, 0.1, "load")
    with pytest.raises(ur.UnrolledError, match=r"the part to test has no window: a context of 6 and a horizon of 4"):
        Windows(LAYOUT, [np.zeros(9)], [np.zeros((9, 3))], every_place([9], LAYOUT), 2, "the part to test")
