"""The shape of a matrix unit, under the name by which the estimates of kernels know it."""

from accelsim.hardware.units.cube import Dataflow, MatrixUnit, pass_cycles

__all__ = ["Dataflow", "MatrixUnit", "pass_cycles"]
