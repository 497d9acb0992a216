"""Rounded weights: what they hold exactly, how far they are from what was rounded, and what has no small form."""

from fractions import Fraction

import numpy as np
import pytest

from unrolled.errors import UnrolledError
from unrolled.nn.network import Network
from unrolled.nn.rounding import check_packed, form_of, packed, packed_layout, rounded, unpacked
from unrolled.nn.spec import Spec

NAME = "recurrent.weight_hh_l0"
TINY = np.finfo(np.float32).tiny


def rows():
    """Rows of very unlike sizes: usual ones, of zeros, of one number, below all normal numbers, and huge."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((9, 50)) * 10.0 ** np.array([[0], [-1], [-9], [-35], [5], [30], [0], [0], [0]])
    w[6], w[7, 1:], w[8] = 0, 0, TINY / 8
    return {NAME: w.astype(np.float32), "decoder.bias": rng.standard_normal(5).astype(np.float32)}


def test_int8_is_exact_in_float32_within_half_a_scale_and_found_again():
    params = rows()
    small, w = packed(params, "int8"), params[NAME]
    q, scale = small[NAME], small[NAME + ".scale"]
    values = rounded(params, "int8")[NAME]
    assert (q.dtype, scale.dtype, values.dtype) == (np.int8, np.float32, np.float32)
    for r in range(len(w)):
        assert [Fraction(float(v)) for v in values[r]] == [int(n) * Fraction(float(scale[r])) for n in q[r]]
    mantissas = np.frexp(scale)[0] * 2**16
    np.testing.assert_array_equal(mantissas, np.rint(mantissas))  # 16 significant bits
    largest = np.abs(w).max(axis=1)
    kept = largest >= 127 * TINY
    assert kept.tolist() == [True] * 6 + [False, True, False]
    assert np.all(scale[kept] >= largest[kept] / np.float32(127))
    assert np.all(scale[kept] <= largest[kept] / 127 * (1 + 2.0**-15))
    np.testing.assert_array_equal(np.abs(q.astype(int)).max(axis=1), 127 * kept)
    far = np.abs(values.astype(np.float64) - w)
    assert np.all(far[kept] <= scale[kept, None] * (0.5 + 127 * 2.0**-24))  # half a step; w / s is rounded too
    np.testing.assert_array_equal(np.abs(values).max(axis=1) / np.float32(127), scale)  # as the engine finds it
    again = packed(rounded(params, "int8"), "int8")
    assert all(np.array_equal(again[name], p) for name, p in small.items())


def test_bfloat16_rounds_to_nearest_and_to_even():
    bits = np.array(
        [[0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0xBF818000, 0, 0x80000000, 0x00008000]], np.uint32
    )
    w = {NAME: bits.view(np.float32)}
    assert packed(w, "bfloat16")[NAME].tolist() == [[0x3F80, 0x3F82, 0x3F81, 0x3F80, 0xBF82, 0, 0x8000, 0]]
    params = rows()
    values = rounded(params, "bfloat16")
    np.testing.assert_array_less(np.abs(values[NAME][:6] - params[NAME][:6]), np.abs(params[NAME][:6]) * 2.0**-8)
    assert form_of(values, "bfloat16") == "bfloat16"


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_matrices_are_rounded_and_all_else_stays(weights):
    options = {"cell": "lstm_peephole", "embedding_size": 3, "num_layers": 2, "proj_size": 4, "learn_state": True}
    params = Network(Spec(vocabulary_size=7, hidden_size=5, **options), rng=1).params
    values = rounded(params, weights)
    changed = {name for name, p in params.items() if not np.array_equal(p, values[name])}
    stacks = [f"recurrent.weight_{kind}_l{layer}" for kind in ("ih", "hh", "hr") for layer in range(2)]
    assert changed == {"embedding.weight", "decoder.weight", *stacks}
    small = packed(params, weights)
    shapes, numbers = packed_layout({name: p.shape for name, p in params.items()}, weights)
    assert {name: (p.shape, p.dtype) for name, p in small.items()} == {
        name: (shape, numbers.get(name, np.dtype("f4"))) for name, shape in shapes.items()
    }
    assert all(np.array_equal(p, values[name]) for name, p in unpacked(small, weights).items())
    assert form_of(values, weights) == weights
    values["decoder.weight"][2, 3] += 1e-3  # as training would
    assert form_of(values, weights) == "float32"
    assert rounded(params, "float32").keys() == params.keys()


def test_what_has_no_small_form_is_refused():
    with pytest.raises(UnrolledError, match=r"^recurrent.weight_hh_l0 has numbers too large for bfloat16$"):
        packed({NAME: np.full((2, 3), 3.4e38, np.float32)}, "bfloat16")
    largest = np.full((2, 3), np.finfo(np.float32).max)
    with pytest.raises(UnrolledError, match=r"^recurrent.weight_hh_l0 has numbers too large for int8$"):
        packed({NAME: largest}, "int8")
    assert form_of({NAME: largest}, "int8") == "float32"
    with pytest.raises(UnrolledError, match=r"^no form of weights is called 'int4'"):
        form_of({NAME: largest}, "int4")


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_what_is_not_finite_is_refused(weights, value):
    """A row whose largest number is NaN is not one of zeros."""
    with pytest.raises(UnrolledError, match=r"^recurrent.weight_hh_l0 holds values that are not finite$"):
        rounded({NAME: np.array([[1, 2, 3], [4, value, 6]], np.float32)}, weights)


@pytest.mark.parametrize(
    ("q", "scale", "message"),
    [
        ([[127, 3]], np.nan, "holds what is no scale"),
        ([[127, 3]], -0.5, "holds what is no scale"),
        ([[127, 3]], 1 + 2.0**-16, "holds what is no scale"),
        ([[127, 3]], 2.0**122, "holds what is no scale"),  # 127 of it are infinite
        ([[-128, 3]], 0.5, "holds rows whose largest number is not 127"),
        ([[126, 3]], 0.5, "holds rows whose largest number is not 127"),
        ([[127, 3]], 0, "holds rows whose largest number is not 127"),
    ],
)
def test_int8_that_rounding_does_not_make_is_refused(q, scale, message):
    with pytest.raises(UnrolledError, match=message):
        check_packed({NAME: np.array(q, np.int8), NAME + ".scale": np.array([scale], np.float32)}, "int8")
