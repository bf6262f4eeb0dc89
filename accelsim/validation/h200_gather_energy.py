"""Energy of a useful bit of gathered rows, measured on an NVIDIA H200 SXM.

The bytes that the memory moves for a gather, of which those beside the rows are not useful, at what
a byte costs from the memory to the L2; the useful ones at what one costs from there to a core; and
the idle board for the time that the model predicts.
"""

from pydantic import PositiveFloat

from accelsim.accounts.energy import static_power_w
from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_technology
from accelsim.units import BITS_PER_BYTE, PICO
from accelsim.validation.h200_gather import GatherRow, gathering, label_of
from accelsim.validation.reference import Reference


class GatherEnergyRow(GatherRow):
    """One gather and its joules."""

    joule_per_iter: PositiveFloat


def measured_pj_per_bit(row: GatherEnergyRow) -> float:
    """Return the energy of a useful bit, in picojoules."""
    return row.joule_per_iter / (row.rows * row.row_bytes * BITS_PER_BYTE) / PICO


def predicted_pj_per_bit(row: GatherEnergyRow, machine: MachineSpec) -> float:
    """Return the same of the model."""
    run, technology = gathering(row, machine), load_technology(machine.technology)
    moving_pj = run.moved_bytes * technology.memory(machine.hbm.technology_key).energy.value
    if technology.network:
        moving_pj += run.useful_bytes * technology.network.energy.value
    idle_pj = run.time_s * static_power_w(machine, technology) / PICO
    return (moving_pj + idle_pj) / (run.useful_bytes * BITS_PER_BYTE)


REFERENCE = Reference(
    name="h200-gather-energy",
    summary="energy of gathered rows measured on one NVIDIA H200 SXM, per useful bit",
    row=GatherEnergyRow,
    file="h200-gather.csv",
    quantity="energy_pj_per_bit",
    kind_of=lambda row: row.order,
    label_of=label_of,
    value_of=measured_pj_per_bit,
    predict=predicted_pj_per_bit,
    machine="h200-sxm-banked",
)
