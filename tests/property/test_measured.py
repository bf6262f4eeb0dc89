"""What is measured adds like whole numbers do, whatever its amounts are."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.report.exact import quotient, ratio
from accelsim.report.measured import Measured
from accelsim.report.peaks import Peaks

amounts = st.integers(0, 2**62)
floats = st.floats(0, allow_infinity=False)
exact = floats.map(Fraction)
counts = st.integers(0, 30)
clocks = st.floats(1, 1e15)


def by(names, values):
    """Mappings that hold some of the names."""
    return st.dictionaries(st.sampled_from(names), values)


measured = st.builds(
    Measured,
    ops=amounts,
    cycles=amounts,
    hbm_read_bytes=amounts,
    hbm_bytes_by_tensor=by(["q", "k", "o"], amounts),
    macs=amounts,
    seconds=exact | st.builds(quotient, amounts, clocks),
    joules=by(["cube", "hbm", "static"], exact),
    core_cycles=amounts,
    busy_cycles=by(["cube", "load"], amounts),
    stall_cycles=by(["cube", "vector"], by(["load", "no_work"], amounts)),
    l2_bytes=st.fixed_dictionaries(dict.fromkeys(("read", "write", "hit"), amounts)),
    matrix_seconds=exact,
    over_time=by(["hbm_utilization", "core_balance"], exact),
)
peaks = st.builds(
    Peaks,
    scratchpad_peak_bytes=amounts,
    scratchpad_held_peak_bytes=amounts,
    accumulator_peak_bytes=amounts,
)


@given(measured, measured, measured)
def test_the_order_of_a_sum_does_not_matter(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + Measured() == Measured() + a == a


@given(measured, counts)
def test_a_multiple_is_a_repeated_sum(a, count):
    assert count * a == a * count == sum([a] * count, Measured())
    assert a + a == 2 * a
    assert a + a + a == 3 * a


@given(measured, measured, counts, counts)
def test_multiples_distribute(a, b, n, m):
    assert n * (a + b) == n * a + n * b
    assert (n + m) * a == n * a + m * a
    assert n * (m * a) == (n * m) * a


@given(st.lists(measured, min_size=1, max_size=4))
def test_sum_needs_no_start(parts):
    assert sum(parts) == sum(parts, Measured())


@given(st.integers(1, 2**52), clocks, st.integers(1, 10**6))
def test_equal_runs_have_the_clock_of_one(cycles, clock_hz, count):
    run = Measured(cycles=cycles, seconds=quotient(cycles, clock_hz))
    assert run.clock_hz == clock_hz
    assert run.time_s == cycles / clock_hz
    assert (count * run).clock_hz == clock_hz


@given(st.lists(st.tuples(st.integers(1, 2**52), clocks), min_size=1, max_size=200))
def test_denominators_stay_short_whatever_the_clocks(runs):
    total = sum((quotient(cycles, clock_hz) for cycles, clock_hz in runs), Fraction())
    denominator = total.denominator
    assert denominator <= 2**200
    assert denominator & (denominator - 1) == 0


@given(floats.filter(lambda share: share <= 1), st.fractions(min_value=1, max_denominator=2**40))
def test_a_share_is_itself_after_any_time(share, seconds):
    run = Measured(seconds=seconds, over_time={"core_balance": Fraction(share) * seconds})
    assert run.core_balance == share


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=9))
def test_a_mean_of_shares_is_between_them(runs):
    total = sum(
        (
            Measured(seconds=Fraction(n), over_time={"hbm_utilization": n * Fraction(share)})
            for share, n in runs
        ),
        Measured(),
    )
    shares = [share for share, _ in runs]
    assert min(shares) <= total.hbm_utilization <= max(shares)


@given(peaks, peaks, peaks)
def test_peaks_combine_by_the_maximum(a, b, c):
    assert a | b == b | a
    assert (a | b) | c == a | (b | c)
    assert a | a == a | Peaks() == a
    most = max(a.accumulator_peak_bytes, b.accumulator_peak_bytes)
    assert (a | b).accumulator_peak_bytes == most


def test_a_ratio_of_nothing_is_nothing():
    assert ratio(0, 0) == ratio(3, Fraction()) == 0.0


@given(st.lists(st.tuples(counts, measured), max_size=4))
def test_a_total_is_the_sum_of_multiples(runs):
    total, expected = Measured.total(runs), sum((n * each for n, each in runs), Measured())
    assert total == expected
    assert list(total.joules) == list(expected.joules)


def test_a_total_of_less_than_no_run_is_refused():
    with pytest.raises(ValueError, match="found -2 runs, allowed: 0 or more"):
        Measured.total([(1, Measured()), (-2, Measured())])
