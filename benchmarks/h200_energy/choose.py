"""Energies of the H200's actions from its kernels, in bounds that units alone give.

    python benchmarks/h200_energy/choose.py

Every kernel is simulated at the clock that was measured, without a cap. What it did, times
energies of actions, and the idle board for the time that was measured, is held against its joules.
Prints the least-squares fit to the rows that are looked at, and the mean errors of both halves:
with these energies, and with those of the files.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from accelsim.accounts.energy import static_power_w
from accelsim.bench import Bench
from accelsim.loading import load_machine, load_technology
from accelsim.validation.h200_energy import REFERENCE, EnergyRow, problem_of, recipe_of
from accelsim.validation.h200_energy_boards import REFERENCE as BOARDS
from accelsim.validation.table import read_rows

BOUNDS = {
    "bf16": (1.3, 1.5),
    "fp8": (0.65, 0.75),
    "int8": (0.55, 0.85),
    "vector": (7.8, 16.5),
    "network": (25.0, 47.0),
    "hbm": (66.0, 110.0),
}
"""Picojoules of an action of single units (units.csv), less the SRAM around products (0.2 pJ)."""
SWEEPS = 2000
"""Over the energies, one after the other, each to its best in its bounds."""


class MeasuredRow(EnergyRow):
    """A kernel with its time and its clock."""

    us_per_iter: float
    sm_mhz: float


class Counted(NamedTuple):
    """What a kernel drew, by what can be chosen, at the energies of the files."""

    label: str
    joules: dict[str, float]
    other_j: float
    measured_j: float
    is_looked_at: bool


def rows() -> Iterable[tuple[MeasuredRow, bool]]:
    """Yield the rows of all boards, and whether each is looked at."""
    for reference in (REFERENCE, BOARDS):
        for row in reference.select(read_rows(reference.shipped_file, MeasuredRow)):
            yield row, reference is REFERENCE or row.line % 2 == 0


def counted(row: MeasuredRow, is_looked_at: bool) -> Counted:
    """Simulate a row at its clock."""
    machine = load_machine("h200-sxm")
    technology = load_technology(machine.technology)
    slowed = machine.model_copy(update={"clock": row.sm_mhz * 1e6, "power": None})
    problem = problem_of(row)
    report, _ = Bench(slowed, recipe_of(row, problem)).execute(problem)
    factor = machine.model_copy(update={"clock": slowed.clock}).dynamic_energy_factor
    joules = {name: energy_j * factor for name, energy_j in report.energy_by_component_j.items()}
    fmt = row.kind.removeprefix("gemm_") if row.kind.startswith("gemm") else "bf16"
    memory = technology.memory(machine.hbm.standard)
    hbm_bytes = report.hbm_read_bytes + report.hbm_write_bytes
    device_j = 1e-12 * memory.device_energy.value * hbm_bytes
    on_die = factor * (1 - memory.device_energy.value / memory.energy.value)
    hbm_j = joules["hbm"] / factor * on_die
    chosen = {fmt: joules["cube"], "vector": joules["vector"], "network": joules["network"]}
    rest = sum(joules[name] for name in ("scratchpad", "operand_buffer", "accumulator", "l2"))
    idle_j = static_power_w(machine, technology) * row.us_per_iter * 1e-6
    label = f"{row.kind} {row.shape}"
    found = {**chosen, "hbm": hbm_j}
    return Counted(label, found, rest + device_j + idle_j, row.joule_per_iter, is_looked_at)


def shipped() -> dict[str, float]:
    """Return the energies of the files, in picojoules; of `hbm`, what is on the die."""
    technology = load_technology("4n")
    cube = {
        str(fmt): cost.multiply.value + cost.accumulate.value
        for fmt, cost in technology.cube.items()
    }
    memory = technology.memory("hbm3e")
    return {
        "bf16": cube["bf16"],
        "fp8": cube["fp8_e4m3"],
        "int8": cube["int8"],
        "vector": technology.cost_of("vector", "fp32").add.value,
        "network": technology.network.energy.value,
        "hbm": memory.energy.value - memory.device_energy.value,
    }


def errors(energies: np.ndarray, kernels: list[Counted], own: dict[str, float]) -> np.ndarray:
    """Return the errors of kernels, as shares of what was measured."""
    shares = dict(zip(own, energies / np.array(list(own.values())), strict=True))
    predicted = [
        sum(shares[name] * energy_j for name, energy_j in kernel.joules.items()) + kernel.other_j
        for kernel in kernels
    ]
    return np.array(predicted) / np.array([kernel.measured_j for kernel in kernels]) - 1


def fitted(kernels: list[Counted], own: dict[str, float], low, high) -> np.ndarray:
    """Return the energies in the bounds that leave the least squares of errors."""
    energies = np.array(list(own.values()))
    none = errors(np.zeros_like(energies), kernels, own)
    slopes = np.array([errors(unit, kernels, own) - none for unit in np.eye(len(own))]).T
    rest = errors(energies, kernels, own)
    for _ in range(SWEEPS):
        for i, slope in enumerate(slopes.T):
            moved = np.clip(energies[i] - slope @ rest / (slope @ slope), low[i], high[i])
            rest += slope * (moved - energies[i])
            energies[i] = moved
    return energies


def main() -> None:
    kernels = [counted(row, is_looked_at) for row, is_looked_at in rows()]
    looked_at = [kernel for kernel in kernels if kernel.is_looked_at]
    held_out = [kernel for kernel in kernels if not kernel.is_looked_at]
    own = shipped()
    device = load_technology("4n").memory("hbm3e").device_energy.value
    low, high = np.array(list(BOUNDS.values())).T
    low[-1], high[-1] = low[-1] - device, high[-1] - device
    for what, energies in (
        ("files", np.array(list(own.values()))),
        ("fit", fitted(looked_at, own, low, high)),
    ):
        said = ", ".join(f"{name} {energy:.3g}" for name, energy in zip(own, energies, strict=True))
        print(f"{what}: {said} pJ; hbm on the die")
        for name, half in (("looked at", looked_at), ("held out", held_out)):
            found = 100 * errors(energies, half, own)
            mean, bias = np.abs(found).mean(), found.mean()
            print(f"  {name}: {len(half)} rows, mean {mean:.1f} %, bias {bias:+.1f} %")
    for kernel in kernels:
        error = 100 * errors(np.array(list(own.values())), [kernel], own)[0]
        print(f"{error:+6.1f} % {'' if kernel.is_looked_at else '(held out) '}{kernel.label}")


if __name__ == "__main__":
    main()
