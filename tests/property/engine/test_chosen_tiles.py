"""A better machine is not made slower by the tiles that kernels choose for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.compiled import schedule
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.workload.problem import GemmProblem, GroupedGemmProblem, VectorProblem

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
ARRAY = {
    "scratchpad.capacity": ("256 KiB", "2048 KiB"),
    "cores": (4, 8),
    "hbm.bandwidth": ("64 GB/s", "256 GB/s"),
    "load.bandwidth": ("64 B/cycle", "256 B/cycle"),
    "accumulator.bandwidth": ("128 B/cycle", "256 B/cycle"),
}
"""The same of a machine with an integer array, of 8 cores otherwise."""
INT_MAC = {
    "rows": 64,
    "cols": 64,
    "formats": ["int4", "int8"],
    "accumulator_bits": 32,
    "overflow": "wrap",
    "can_shift": True,
    "pipeline_depth_cycles": 2,
    "index_buffer": "64 KiB",
}
"""An integer array beside a cube."""


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


ARRAYS = {
    **dict.fromkeys(("quantized", "requantized", "tender", "smoothquant"), ("tender-asic", {})),
    "outlier_split": ("ascend-910b-no-l2", {"int_mac": INT_MAC}),
    "mx": ("mx-asic", {}),
}
"""Linear -> the machine it runs on, and what that lacks."""


@pytest.mark.parametrize("kernel", ARRAYS)
@given(
    m=st.sampled_from([8, 64, 200]),
    n=st.sampled_from([64, 256, 1000]),
    k=st.sampled_from([256, 1024, 2048]),
    field=st.sampled_from(list(ARRAY)),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_a_quantized_linear_is_not_slower_on_a_better_machine(kernel, m, n, k, field):
    problem = GemmProblem(kind="gemm", name="linear", m=m, n=n, k=k)
    name, lacking = ARRAYS[kernel]
    machines = [load_machine(name, {"cores": 8, **lacking, field: v}) for v in ARRAY[field]]
    worse, better = (cycles_of(kernel, problem, machine) for machine in machines)
    assert better <= 1.02 * worse + machines[0].hbm_latency_cycles


@given(
    m=st.sampled_from([1, 16, 200]),
    n=st.sampled_from([64, 256, 1000]),
    k=st.sampled_from([128, 1024, 2048]),
    field=st.sampled_from(list(BETTER)),
)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_shared_scales_are_not_slower_on_a_better_machine(m, n, k, field):
    problem = GemmProblem(kind="gemm", name="linear", m=m, n=n, k=k)
    check_better_is_not_slower("mx", problem, "mx-npu", field)


@given(
    rows=st.lists(st.integers(0, 60) | st.integers(0, 300), min_size=2, max_size=8).filter(any),
    n=st.sampled_from([64, 256, 768]),
    k=st.sampled_from([128, 512, 1024]),
    where=st.sampled_from(FIELDS),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_experts_are_not_slower_on_a_better_machine(rows, n, k, where):
    problem = GroupedGemmProblem(kind="grouped_gemm", name="experts", rows=tuple(rows), n=n, k=k)
    check_better_is_not_slower("grouped_gemm", problem, *where)


@given(
    function=st.sampled_from(["layernorm", "gelu", "add_rmsnorm", "argmax", "copy"]),
    rows=st.sampled_from([1, 7, 64, 1000]),
    cols=st.sampled_from([256, 1536, 4096]),
    where=st.sampled_from(FIELDS),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_other_vector_functions_are_not_slower_on_a_better_machine(function, rows, cols, where):
    problem = VectorProblem(kind="vector", name="rows", function=function, rows=rows, cols=cols)
    check_better_is_not_slower("vector", problem, *where)


def test_steps_of_a_row_are_not_taken_where_whole_rows_are_faster():
    problem = VectorProblem(kind="vector", name="rows", function="layernorm", rows=1000, cols=256)
    machine = {"hbm.bandwidth": "400 GB/s", "scratchpad.capacity": "256 KiB"}
    few, many = (load_machine("ascend-910b", {**machine, "cores": each}) for each in (12, 32))
    assert cycles_of("vector", problem, many) <= cycles_of("vector", problem, few)


@pytest.mark.parametrize(
    ("name", "m", "n", "k"), [("mx-asic", 16, 64, 1000), ("mxint-asic", 200, 256, 128)]
)
def test_x_is_encoded_by_all_cores_on_a_larger_scratchpad(name, m, n, k):
    problem = GemmProblem(kind="gemm", name="linear", m=m, n=n, k=k)
    small, large = (
        load_machine(name, {"cores": 8, "scratchpad.capacity": size})
        for size in ("256 KiB", "2048 KiB")
    )
    assert cycles_of("mx", problem, large) <= 1.02 * cycles_of("mx", problem, small)
