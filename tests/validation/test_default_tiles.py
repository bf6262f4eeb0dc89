"""What the kernels choose by themselves, on problems where a bad choice was costly."""

from contextlib import suppress
from itertools import product

import pytest

from accelsim.engine.compiled import schedule
from accelsim.errors import DoesNotFitError
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine, load_workload
from accelsim.workload.problem import AttentionProblem


def cycles(kernel, problem, machine, **parameters):
    own = get_kernel(kernel)
    program, _ = own.record(problem, machine, own.parameters(**parameters), None)
    return schedule(program, machine).cycles


def step(kv_len):
    return AttentionProblem(
        kind="attention",
        name="step",
        q_heads=28,
        kv_heads=4,
        head_dim=128,
        q_len=1,
        kv_len=kv_len,
        dtype="bf16",
    )


def test_a_window_costs_the_same_at_any_length():
    """Only sinks + window keys are read, multiplied and kept; 4 heads begin at other channels."""
    machine = load_machine("ascend-910b-no-l2")
    found = [cycles("window", step(n), machine, window=4096) for n in (4100, 8192, 131072)]
    assert max(found) <= 1.003 * min(found)
    assert max(found) <= 26173  # what the shortest context took with the largest tiles that fit


def test_dense_gains_from_a_scratchpad():
    problem = load_workload("attention-2048").problem
    found = [
        cycles("dense", problem, load_machine("ascend-910b", {"scratchpad.capacity": size}))
        for size in ("384 KiB", "704 KiB", "1 MiB", "1536 KiB", "4 MiB")
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] <= 81865  # the best before: 128 x 128 tiles in 384 KiB


@pytest.mark.parametrize("name", ["ascend-910b", "ascend-910b-no-l2", "edge-npu", "h200-sxm"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"q_heads": 4, "kv_heads": 1, "q_len": 512, "kv_len": 512, "causal": True},
        {"q_heads": 16, "kv_heads": 8, "q_len": 300, "kv_len": 300},
        {"q_heads": 28, "kv_heads": 4, "q_len": 1, "kv_len": 4096},
    ],
    ids=["causal", "ragged", "decode"],
)
def test_no_tiles_of_flash_are_much_faster_than_its_own(name, sizes):
    machine = load_machine(name)
    problem = AttentionProblem(kind="attention", name="tried", head_dim=64, **sizes)
    own = cycles("flash", problem, machine)
    for q, k, count in product((16, 64, 128), (64, 128), (1, 2)):
        with suppress(DoesNotFitError):
            tried = cycles("flash", problem, machine, tile_q=q, tile_k=k, query_tiles=count)
            assert own <= 1.05 * tried


@pytest.mark.parametrize("name", ["ascend-910b", "h200-sxm"])
def test_estimates_are_near_what_is_simulated(name):
    machine, flash = load_machine(name), get_kernel("flash")
    for kernel, problem in (("flash", step(8192)), ("split_kv", step(8192))):
        own = get_kernel(kernel)
        estimate = own.estimated_cycles(problem, machine, own.parameters())
        assert estimate == pytest.approx(cycles(kernel, problem, machine), rel=0.12)
    assert flash.estimated_cycles(step(1024), machine, flash.parameters()) > 0
