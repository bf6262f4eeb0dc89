"""Collectives of NCCL measured on H200s behind NVSwitch, against rounds of messages on the links.

Times are those of a loop of calls without the host's. `bytes` is the larger buffer of a device: of
an all-gather the result, of a reduce-scatter the input, of an all-to-all what one device has.
"""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat

from accelsim.collectives.cost import collective_cost
from accelsim.config.spec import Size
from accelsim.loading import load_system
from accelsim.units import MICRO
from accelsim.validation.reference import Reference, Row
from accelsim.workload.collective import Collective, CollectiveKind

_KINDS: dict[str, CollectiveKind] = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
}


class CollectiveRow(Row):
    """One collective."""

    op_name: Literal["all_reduce", "all_gather", "reduce_scatter", "alltoall"]
    num_gpus: Size
    bytes: NonNegativeInt
    us: PositiveFloat


def predict(row: CollectiveRow) -> float:
    """Return the seconds on as many devices behind one switch."""
    settings = {"devices": row.num_gpus, "links.NVLink.joins": row.num_gpus}
    system = load_system("h200-x8", settings)
    kind = _KINDS[row.op_name]
    return collective_cost(Collective(kind, row.op_name, row.bytes, row.num_gpus), system).time_s


REFERENCE = Reference(
    name="nccl",
    summary="collectives of NCCL among H200s behind NVSwitch",
    row=CollectiveRow,
    file="nccl.csv",
    quantity="time_s",
    kind_of=lambda row: row.op_name,
    label_of=lambda row: f"{row.op_name} of {row.bytes} bytes, {row.num_gpus} devices",
    value_of=lambda row: row.us * MICRO,
    predict=predict,
)
