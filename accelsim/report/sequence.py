"""The reports of runs that follow one another to one report of all."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import reduce
from operator import or_
from typing import Any

from accelsim.report.about import About, about_all
from accelsim.report.measured import Measured
from accelsim.report.peaks import Peaks
from accelsim.report.report import PowerCap, Report


def in_sequence(runs: Sequence[Report], workload: str, settings: Mapping[str, Any]) -> Report:
    """Return the report of runs on one machine, such as the parts of a layer.

    What adds is the sum, so shares of the time are means over the time of all. It is bound by what
    bounds the longest run. What one run computed, such as its accuracy, is left out.
    """
    total, peaks = sum(runs, Measured()), reduce(or_, runs, Peaks())
    return replace(
        runs[0],
        **vars(total),
        **vars(peaks),
        **vars(about_all([_about(run) for run in runs], workload, settings)),
        power_cap=_power_cap(runs),
        bound_by=max(runs, key=lambda run: run.seconds).bound_by,
        statistics={},
        accuracy=None,
        parts=(),
        timeline=None,
    )


def _about(run: Report) -> About:
    return About(**{each.name: getattr(run, each.name) for each in fields(About)})


def _power_cap(runs: Sequence[Report]) -> PowerCap:
    """Return the worst of what became of the cap: a layer keeps it if all of its parts do."""
    return max((run.power_cap for run in runs), key=("none", "met", "not met").index)
