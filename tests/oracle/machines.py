"""Machines and problems that kernels are judged on."""

from functools import cache

from accelsim.hardware.machine import MachineSpec
from accelsim.loading import load_machine

_FORMATS = ("fp32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2")


@cache
def any_format_machine() -> MachineSpec:
    """A core whose cube and vector unit know every format."""
    overrides = {f"cube.rates.{name}": 1 for name in (*_FORMATS, "int8", "int4")}
    overrides |= {f"vector.lanes.{name}": 16 for name in _FORMATS}
    return load_machine("edge-npu", overrides, needs_costs=False)
