"""Whole runs of kernels, against the roofline: what no schedule can beat.

A row states the work that its kernel cannot avoid, by hand and not by the simulator: the fewest
MACs and HBM bytes of the algorithm, each counted once, and the peak rates of the machine. The time
of a run lies above max(macs / rate, bytes / rate); the error is how far above. See S. Williams,
A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52(4), 2009.
"""

from typing import Annotated

from pydantic import AfterValidator, NonNegativeInt, PositiveFloat, PositiveInt

from accelsim.simulation import simulate
from accelsim.validation.reference import Reference, Row


def _settings(text: str) -> str:
    for setting in filter(None, text.split(";")):
        if "=" not in setting:
            raise ValueError(f"found '{setting}', expected key=value; key=value")
    return text


class RooflineRow(Row):
    """A kernel on a workload and a machine, by name or file, and the least that it must do."""

    machine: str
    workload: str
    kernel: str
    """The recipe."""
    settings: Annotated[str, AfterValidator(_settings)] = ""
    """Fields of machine and workload as for `--set`: key=value; key=value."""
    macs: NonNegativeInt
    bytes: PositiveInt
    macs_per_s: PositiveFloat
    bytes_per_s: PositiveFloat


def predict(row: RooflineRow) -> float:
    """Return the seconds of the simulated run."""
    pairs = (setting.partition("=") for setting in filter(None, row.settings.split(";")))
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    return simulate(row.machine, row.workload, row.kernel, settings).time_s


def label_of(row: RooflineRow) -> str:
    """Return the workload, the machine, and what was asked beside the kernel."""
    recipe = row.kernel if "(" in row.kernel else ""
    return " ".join(filter(None, (row.workload, "on", row.machine, recipe, row.settings)))


REFERENCE = Reference(
    name="roofline",
    summary="peak rates and the fewest MACs and HBM bytes of each kernel: a lower bound",
    row=RooflineRow,
    file="roofline.csv",
    quantity="time_s",
    kind_of=lambda row: row.kernel.partition("(")[0],
    label_of=label_of,
    value_of=lambda row: max(row.macs / row.macs_per_s, row.bytes / row.bytes_per_s),
    predict=predict,
    is_lower_bound=True,
)
