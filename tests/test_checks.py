"""What callers hand in is checked once, in `unrolled.checks`."""

from fractions import Fraction

import numpy as np
import pytest

from unrolled import backends, checks
from unrolled.errors import UnrolledError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)[()]])
def test_a_size_becomes_an_int(value):
    assert type(checks.check_size("n", value)) is int
    assert checks.check_size("n", value) == 3


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
@pytest.mark.parametrize("check", [checks.check_fraction, checks.check_weight, checks.check_number])
def test_a_number_becomes_a_float_without_a_warning(check, value):
    assert type(check("rate", value)) is float
    assert check("rate", value) == 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, True, np.bool_(True), "1", None, 1j])
@pytest.mark.parametrize("check", [checks.check_fraction, checks.check_weight, checks.check_number])
def test_what_is_no_finite_number_is_refused(check, value):
    with pytest.raises(UnrolledError, match=r"^rate is "):
        check("rate", value)


def test_masked_entries_are_refused_and_an_empty_mask_is_not():
    data = np.arange(6.0).reshape(2, 3)
    with pytest.raises(
        UnrolledError, match=r"^x has masked entries; fill them, or leave their steps out with lengths$"
    ):
        checks.as_numbers("x", np.ma.masked_array(data, data > 3))
    assert np.array_equal(checks.as_numbers("x", np.ma.masked_array(data, False)), data)


class Stubborn:
    """As a torch tensor that wants gradients: its conversion raises something of its own."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.\nUse tensor.detach().numpy() instead.")


def test_whatever_a_conversion_raises_is_one_line():
    said = (
        r"^x is a Stubborn that can't be made an array: Can't call numpy\(\) on Tensor that requires grad\. "
        r"Use tensor\.detach\(\)\.numpy\(\) instead\.$"
    )
    with pytest.raises(UnrolledError, match=said):
        checks.as_numbers("x", Stubborn())


def test_a_list_of_too_many_widths_is_refused_before_it_is_read():
    with pytest.raises(UnrolledError, match=r"^num_layers is 1000000; it must be at most 10,000$"):
        checks.check_widths(["no width"] * 1_000_000, None)


def test_a_span_of_time_is_no_number():
    for check in (checks.check_size, checks.check_fraction):
        with pytest.raises(UnrolledError, match=r"^n is "):
            check("n", np.timedelta64(3, "s"))


def test_masked_entries_are_found_however_deep():
    with pytest.raises(UnrolledError, match=r"^x has masked entries"):
        checks.as_array("x", [[np.ma.masked_array([1.0, 2.0], [False, True])], [[3.0, 4.0]]])


def test_an_array_is_no_backend():
    with pytest.raises(UnrolledError, match=r"^backend is array\(\[0\., 0\.\]\); expected one of auto, "):
        backends.choose(np.zeros(2))
