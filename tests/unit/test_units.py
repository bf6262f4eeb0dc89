"""Quantities: a number, a unit of the right dimension, and nothing else."""

import pytest

from accelsim.report.quantity import quantity_of
from accelsim.units import FACTORS, ceil_div, parse_quantity


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
        ("350 \u00b5s", "seconds", 350e-6),
        ("350 \u03bcs", "seconds", 350e-6),
        ("2 mm²", "square_millimetres", 2),
        ("2 µm²", "square_millimetres", 2e-6),
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


_IN_BITS = "; b is for bits, B for bytes of 8 bits"


@pytest.mark.parametrize(
    ("unit", "dimension", "hint"),
    [
        ("KB", "bytes", "'kB' or 'KiB'?"),
        ("KB/s", "bytes_per_s", "'kB/s' or 'KiB/s'?"),
        ("mB", "bytes", "'MB'?"),
        ("bytes", "bytes", "'B'?"),
        ("kbytes", "bytes", "'kB'?"),
        ("kib", "bytes", f"'KiB'?{_IN_BITS}"),
        ("GB/sec", "bytes_per_s", "'GB/s'?"),
        ("GBps", "bytes_per_s", "'GB/s'?"),
        ("Gb/s", "bytes_per_s", f"'GB/s'?{_IN_BITS}"),
        ("Gbps", "bytes_per_s", f"'GB/s'?{_IN_BITS}"),
        ("Gbit/s", "bytes_per_s", f"'GB/s'?{_IN_BITS}"),
        ("B/clk", "bytes_per_cycle", "'B/cycle'?"),
        ("B/cycles", "bytes_per_cycle", "'B/cycle'?"),
        ("Ghz", "hertz", "'GHz'?"),
        ("hertz", "hertz", "'Hz'?"),
        ("NS", "seconds", "'ns'?"),
        ("usec", "seconds", "'us'?"),
        ("µS", "seconds", "'us'?"),
        ("mw", "watts", "'MW' or 'mW'?"),
        ("watts", "watts", "'W'?"),
        ("pJ/bits", "picojoules_per_byte", "'pJ/bit'?"),
        ("pj/b", "picojoules_per_byte", f"'pJ/B' or 'pJ/byte'?{_IN_BITS}"),
        ("mm^2", "square_millimetres", "'mm2'?"),
        ("GHzz", "hertz", "'GHz'?"),
    ],
)
def test_a_unit_that_is_spelt_otherwise_is_suggested(unit, dimension, hint):
    with pytest.raises(ValueError, match="found the unit") as refusal:
        parse_quantity(f"1 {unit}", dimension)
    allowed = ", ".join(FACTORS[dimension])
    assert str(refusal.value) == (
        f"found the unit '{unit}' in '1 {unit}', did you mean {hint}; allowed units: {allowed}"
    )


def test_every_unit_of_a_report_can_be_read_back():
    dimensions = {
        "B": "bytes",
        "B/s": "bytes_per_s",
        "B/cycle": "bytes_per_cycle",
        "Hz": "hertz",
        "s": "seconds",
        "W": "watts",
        "mm²": "square_millimetres",
        "pJ/bit": "picojoules_per_byte",
    }
    for column in ("x_bytes", "capacity", "x_bytes_per_s", "x_hz", "x_s", "x_w", "area_mm2"):
        quantity = quantity_of(f"machine.{column}")
        for factor, _ in quantity.prefixes:
            shown = quantity.show(2.0 * factor)
            read = parse_quantity(shown, dimensions[quantity.unit])
            assert read == pytest.approx(2.0 * factor, rel=1e-12), shown


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"), [(1, 4, 1), (8, 4, 2), (9, 4, 3)]
)
def test_ceil_div_rounds_up(numerator, denominator, expected):
    assert ceil_div(numerator, denominator) == expected
