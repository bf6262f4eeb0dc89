"""The tiling that gemm chooses, against the tilings a user could ask for instead."""

import pytest

from accelsim.engine.compiled import schedule
from accelsim.kernels.linear.gemm import Gemm
from accelsim.loading import load_machine
from accelsim.workload.problem import GemmProblem

PROBLEM = GemmProblem(kind="gemm", name="square", m=1024, n=1024, k=1024)


def cycles_with(machine, **parameters):
    program, _ = Gemm.record(PROBLEM, machine, Gemm.parameters(**parameters), None)
    return schedule(program, machine).cycles


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("ascend-910b", "100 GB/s"),
        ("ascend-910b", "400 GB/s"),
        ("ascend-910b", "1.6 TB/s"),
        ("edge-npu", "8 GB/s"),
        ("edge-npu", "32 GB/s"),
    ],
)
def test_no_other_depth_of_a_step_is_faster(name, bandwidth):
    """Steps too small leave channels idle and latency in sight: up to four times slower.

    The estimate does not know how the first transfers of all cores overlap, which is worth a
    latency at most.
    """
    machine = load_machine(name, {"hbm.bandwidth": bandwidth})
    best = min(cycles_with(machine, tile_k=depth) for depth in (16, 32, 64, 128, 256))
    assert cycles_with(machine) <= best + machine.hbm_latency_cycles
