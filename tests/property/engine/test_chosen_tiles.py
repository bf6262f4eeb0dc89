"""A better machine is not made slower by the tiles that kernels choose for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.compiled import schedule
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.workload.problem import GemmProblem, VectorProblem

BETTER = {
    "scratchpad.capacity": ("256 KiB", "704 KiB"),
    "cores": (12, 24),
    "hbm.bandwidth": ("400 GB/s", "1.6 TB/s"),
    "load.bandwidth": ("55 B/cycle", "110 B/cycle"),
    "accumulator.bandwidth": ("128 B/cycle", "256 B/cycle"),
    "l2.bandwidth": ("2.4 TB/s", "4.752 TB/s"),
}
MACHINES = ("ascend-910b", "ascend-910b-no-l2")
FIELDS = [
    (name, field)
    for name in MACHINES
    for field in BETTER
    if (name, field) != ("ascend-910b-no-l2", "l2.bandwidth")
]
"""Machines, and what may be better about them."""


def cycles_of(kernel, problem, machine):
    own = get_kernel(kernel)
    program, _ = own.record(problem, machine, own.parameters(), None)
    return schedule(program, machine).cycles


def check_better_is_not_slower(kernel, problem, name, field):
    """By more than 2 % and a latency, which transfers that meet in another order may cost."""
    worse, better = (load_machine(name, {field: value}) for value in BETTER[field])
    limit = 1.02 * cycles_of(kernel, problem, worse) + worse.hbm_latency_cycles
    assert cycles_of(kernel, problem, better) <= limit


@pytest.mark.parametrize("kernel", ["gemm", "weight_only"])
@given(
    m=st.sampled_from([1, 16, 64, 200]),
    n=st.sampled_from([64, 256, 576]),
    k=st.sampled_from([128, 512, 1000]),
    where=st.sampled_from(FIELDS),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_product_is_not_slower_on_a_better_machine(kernel, m, n, k, where):
    problem = GemmProblem(kind="gemm", name="product", m=m, n=n, k=k)
    check_better_is_not_slower(kernel, problem, *where)


@given(
    function=st.sampled_from(["softmax", "rmsnorm", "silu_mul"]),
    rows=st.sampled_from([1, 16, 200]),
    cols=st.sampled_from([64, 576, 4096]),
    where=st.sampled_from(FIELDS),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_a_vector_function_is_not_slower_on_a_better_machine(function, rows, cols, where):
    problem = VectorProblem(kind="vector", name="rows", function=function, rows=rows, cols=cols)
    check_better_is_not_slower("vector", problem, *where)
