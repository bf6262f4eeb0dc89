import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.numerics.formats import Format
from accelsim.workload.base import FLOAT_FORMATS
from accelsim.workload.storage import count_beyond, quantize, stored_values


def test_float_formats_round_to_nearest_even():
    values = np.array([1 + 2**-11, 1 + 3 * 2**-11, 70000.0, -np.inf])
    stored = stored_values(values, Format.FP16)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, [1.0, 1 + 2**-9, np.inf, -np.inf])


def test_every_format_keeps_its_own_step():
    value = np.array([1 + 2**-9 + 2**-16])
    found = {each: float(stored_values(value, each)[0]) for each in FLOAT_FORMATS}
    assert found == {
        Format.FP32: 1 + 2**-9 + 2**-16,
        Format.BF16: 1.0,
        Format.FP16: 1 + 2**-9,
        Format.FP8_E4M3: 1.0,
        Format.FP8_E5M2: 1.0,
    }


@pytest.mark.parametrize(
    ("dtype", "largest"), [(Format.FP8_E4M3, 448.0), (Format.FP8_E5M2, 57344.0)]
)
def test_fp8_saturates_and_keeps_nan(dtype, largest):
    values = np.array([largest, 1.04 * largest, 2 * largest, np.inf, -1e300, np.nan])
    expected = [largest] * 4 + [-largest, np.nan]
    np.testing.assert_array_equal(stored_values(values, dtype), expected)


@pytest.mark.parametrize(
    ("dtype", "last_within", "first_beyond"),
    [
        (Format.FP8_E4M3, 464.0, 465.0),
        (Format.FP8_E5M2, 61439.0, 61440.0),
        (Format.FP16, 65519.0, 65520.0),
        (Format.BF16, 3.39e38, 3.40e38),
        (Format.FP32, 3.40e38, 3.41e38),
    ],
)
def test_values_that_round_beyond_the_format_are_counted(dtype, last_within, first_beyond):
    values = np.array([last_within, first_beyond, -first_beyond, np.nan])
    assert count_beyond(values, dtype) == 2


@pytest.mark.parametrize(("dtype", "count"), [(Format.FP8_E5M2, 1), (Format.FP16, 0)])
def test_infinity_counts_only_where_it_saturates(dtype, count):
    assert count_beyond(np.array([np.inf, 1.0]), dtype) == count


def test_integers_use_the_largest_magnitude_as_scale():
    codes = stored_values(np.array([-2.0, 0.5, 1.0, 2.0]), Format.INT4)
    assert codes.dtype == np.int32
    # scale = 2 / 7; 1.75 rounds to 2, 3.5 rounds to even.
    assert codes.tolist() == [-7, 2, 4, 7]


def test_zeros_stay_zero():
    assert quantize(np.zeros(3), Format.INT8).tolist() == [0, 0, 0]


def test_integers_are_codes_already():
    assert stored_values(np.array([-128, 127]), Format.INT8).tolist() == [-128, 127]


def test_codes_beyond_the_format_are_refused():
    with pytest.raises(WorkloadError) as raised:
        quantize(np.array([-9, 3]), Format.INT4)
    assert str(raised.value) == "found integers from -9 to 3, allowed for int4: -8 to 7"


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_integers_cannot_hold_infinity_or_nan(value):
    with pytest.raises(WorkloadError) as raised:
        quantize(np.array([1.0, value]), Format.INT8)
    assert str(raised.value) == "found values that are not finite, which int8 cannot hold"
