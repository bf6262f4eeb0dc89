"""Which of the measured columns tables for people show."""

from collections.abc import Collection

from accelsim.report.columns import column_names
from accelsim.report.measured import Measured
from accelsim.report.peaks import Peaks

_FOR_FILES = ("ops", "compulsory_bytes", "clock_hz", "peak_macs_per_s", "accumulator_peak_bytes")
_IN_OTHER_ROWS = ("inputs_out_of_range",)


def further_columns(listed: Collection[str]) -> list[str]:
    """Return the measured columns to show after those that are `listed` in an order of their own.

    So a new one is shown without being listed.
    """
    known = {*listed, *_FOR_FILES, *_IN_OTHER_ROWS}
    measured = (*column_names(Measured), *column_names(Peaks))
    return [name for name in measured if name not in known]
