"""Quantities: a number, a unit of the right dimension, and nothing else."""

import pytest

from accelsim.units import ceil_div, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("512 KiB", "bytes", 524288),
        ("512kB", "bytes", 512000),
        ("1_024 B", "bytes", 1024),
        ("1.8 GHz", "hertz", 1.8e9),
        ("1.6 TB/s", "bytes_per_s", 1.6e12),
        ("64 B/cycle", "bytes_per_cycle", 64),
        ("350 ns", "seconds", 350e-9),
        ("66 mW", "watts", 0.066),
        ("2 fJ", "picojoules", 0.002),
        ("3.9 pJ/bit", "picojoules_per_byte", 31.2),
        ("1e3 um2", "square_millimetres", 1e-3),
        ("-3 B", "bytes", -3),
    ],
)
def test_a_quantity_is_converted_to_the_unit_of_its_dimension(text, dimension, expected):
    assert parse_quantity(text, dimension) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "large",
            "found 'large', expected a number with one of the units Hz, kHz, MHz, GHz, THz, PHz",
        ),
        (
            "1.8",
            "found '1.8', a number without a unit; allowed units: Hz, kHz, MHz, GHz, THz, PHz",
        ),
        (
            "1.8 GB",
            "found the unit 'GB' in '1.8 GB'; allowed units: Hz, kHz, MHz, GHz, THz, PHz",
        ),
        ("nan GHz", "found 'nan GHz', which is not a finite number"),
        ("inf GHz", "found 'inf GHz', which is not a finite number"),
        ("1e999 Hz", "found '1e999 Hz', which is not a finite number"),
    ],
)
def test_what_is_no_frequency_is_refused(text, message):
    with pytest.raises(ValueError, match="found") as refusal:
        parse_quantity(text, "hertz")
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"), [(1, 4, 1), (8, 4, 2), (9, 4, 3)]
)
def test_ceil_div_rounds_up(numerator, denominator, expected):
    assert ceil_div(numerator, denominator) == expected
