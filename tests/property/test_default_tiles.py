"""Tiles that nobody gives: more of a machine never makes them slower, and none are much faster.

A list schedule has anomalies of a few percent (docs/assumptions.md), hence the allowance.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine.compiled import schedule
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.workload.problem import AttentionProblem

ALLOWANCE = 1.02
KIB = 1024


def problems(q_lens):
    return st.builds(
        lambda q_len, kv_len, kv_heads, group, causal: AttentionProblem(
            kind="attention",
            name="drawn",
            q_heads=kv_heads * group,
            kv_heads=kv_heads,
            head_dim=64,
            q_len=min(q_len, kv_len),
            kv_len=kv_len,
            causal=causal,
        ),
        q_lens,
        st.sampled_from([128, 384, 1000]),
        st.sampled_from([1, 3, 8]),
        st.sampled_from([1, 4]),
        st.booleans(),
    )


def cycles(kernel, problem, machine, **parameters):
    own = get_kernel(kernel)
    program, _ = own.record(problem, machine, own.parameters(**parameters), None)
    return schedule(program, machine).cycles


MACHINES = ("ascend-910b", "ascend-910b-no-l2", "edge-npu")


def with_more(name, key, factor):
    """Return a machine as its file says, and with `factor` times as much of one thing."""
    machine, spec = load_machine(name), load_machine(name)
    for part in key.split("."):
        spec = getattr(spec, part, None)
    if spec is None:
        return machine, machine
    units = {"capacity": " B", "bandwidth": " B/cycle" if key.startswith("load") else " B/s"}
    unit = units.get(key.split(".")[-1])
    more = f"{int(factor * spec)}{unit}" if unit else factor * spec
    return machine, load_machine(name, {key: more})


@pytest.mark.parametrize(
    "key",
    ["scratchpad.capacity", "cores", "hbm.bandwidth", "l2.bandwidth", "load.bandwidth"],
)
@pytest.mark.parametrize("kernel", ["flash", "dense", "split_kv"])
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(MACHINES), factor=st.sampled_from([2, 3]))
def test_more_of_a_machine_is_not_slower(kernel, key, data, name, factor):
    q_lens = st.just(1) if kernel == "split_kv" else st.sampled_from([1, 8, 128])
    problem = data.draw(problems(q_lens))
    machine, larger = with_more(name, key, factor)
    before, after = (cycles(kernel, problem, each) for each in (machine, larger))
    assert after <= ALLOWANCE * before + machine.hbm_latency_cycles


@pytest.mark.parametrize("kernel", ["flash", "dense", "split_kv"])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data(), capacity_kib=st.sampled_from([256, 384, 704, 1024]))
def test_a_larger_scratchpad_is_not_slower(kernel, data, capacity_kib):
    q_lens = st.just(1) if kernel == "split_kv" else st.sampled_from([1, 8, 512])
    problem = data.draw(problems(q_lens))
    small, large = (
        load_machine("ascend-910b", {"scratchpad.capacity": f"{size} KiB"})
        for size in (capacity_kib, 2 * capacity_kib)
    )
    before, after = (cycles(kernel, problem, machine) for machine in (small, large))
    assert after <= ALLOWANCE * before
