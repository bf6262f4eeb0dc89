"""The kernels on the shipped machines: both engines agree, and better machines are not slower."""

from functools import cache
from itertools import pairwise

import pytest

from accelsim.engine import compiled, reference
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.program.verifier import verify
from accelsim.workload.problem import AttentionProblem, GemmProblem, VectorProblem
from tests.handmade import changed
from tests.property.engine.test_agreement import assert_equal

MACHINES = ["ascend-910b-no-l2", "edge-npu", "tpu-like-128"]
PROBLEMS = {
    "softmax": (
        "vector",
        VectorProblem(kind="vector", name="small", function="softmax", rows=200, cols=300),
    ),
    "gemm": ("gemm", GemmProblem(kind="gemm", name="small", m=300, n=260, k=200)),
    "dense": (
        "dense",
        AttentionProblem(
            kind="attention",
            name="small",
            q_heads=2,
            kv_heads=1,
            head_dim=64,
            q_len=200,
            kv_len=300,
        ),
    ),
    "flash": (
        "flash",
        AttentionProblem(
            kind="attention",
            name="small",
            q_heads=8,
            kv_heads=2,
            head_dim=64,
            q_len=300,
            kv_len=500,
        ),
    ),
    "causal flash": (
        "flash",
        AttentionProblem(
            kind="attention",
            name="small",
            q_heads=8,
            kv_heads=2,
            head_dim=64,
            q_len=300,
            kv_len=500,
            causal=True,
        ),
    ),
}


TILES = {
    "gemm": {"tile_m": 64, "tile_n": 64, "tile_k": 128, "stages": 2, "splits": 1, "swizzle": 1},
    "flash": {"tile_q": 64, "tile_k": 64, "query_tiles": 1, "fold": False},
}
"""Tiles of programs that laws of scheduling are tried on: they do not follow from the machine."""


@cache
def recorded(kernel_name, machine_name):
    """Return the machine and the program recorded on it, which later runs keep."""
    machine = load_machine(machine_name)
    name, problem = PROBLEMS[kernel_name]
    kernel = get_kernel(name)
    program, _ = kernel.record(problem, machine, kernel.parameters(**TILES.get(name, {})), None)
    return machine, program


on_all = pytest.mark.parametrize("machine_name", MACHINES)
of_all = pytest.mark.parametrize("kernel_name", list(PROBLEMS))


@on_all
@of_all
def test_the_program_keeps_the_rules(kernel_name, machine_name):
    verify(recorded(kernel_name, machine_name)[1])


@on_all
@of_all
def test_engines_agree_on_every_op(kernel_name, machine_name):
    machine, program = recorded(kernel_name, machine_name)
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


def assert_falling(program, machines):
    cycles = [compiled.schedule(program, machine).cycles for machine in machines]
    assert cycles == sorted(cycles, reverse=True)


@pytest.mark.parametrize("path", ["hbm.bandwidth", "scratchpad.bandwidth"])
@on_all
@of_all
def test_bandwidth_never_slows_a_kernel(kernel_name, machine_name, path):
    machine, program = recorded(kernel_name, machine_name)
    factors = (0.25, 0.5, 1, 2, 4, 8)
    assert_falling(program, [changed(machine, path, lambda rate, f=f: rate * f) for f in factors])


@on_all
@of_all
def test_more_cores_never_slow_a_kernel_by_more_than_a_transfer(kernel_name, machine_name):
    """No law where cores share the memory (see `test_monotonicity`): more of them may let it serve
    another tile first. On these machines no run is longer for it than the largest transfer.
    """
    machine, program = recorded(kernel_name, machine_name)
    transfer_cycles = program.hbm_bytes.max() / machine.hbm_bytes_per_cycle
    cycles = [
        compiled.schedule(program, changed(machine, "cores", lambda _, n=count: n)).cycles
        for count in (1, 2, 4, 8, 16)
    ]
    assert all(after <= before + transfer_cycles for before, after in pairwise(cycles))
