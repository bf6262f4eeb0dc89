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


ASCEND = ("ascend-910b", "ascend-910b-no-l2", "ascend-910b-banked")


def lost_by_flash(problem, name):
    """Return the share by which its own tiles are slower than the best ones of a grid."""
    machine, found = load_machine(name), []
    for q, k, count in product((16, 32, 64, 96), (64, 128, 256, 512), (1, 2)):
        with suppress(DoesNotFitError):
            asked = {"tile_q": q, "tile_k": k, "query_tiles": count}
            found.append(cycles("flash", problem, machine, **asked))
    return cycles("flash", problem, machine) / min(found) - 1


HEADS = [(2, 2, 128), (8, 8, 128), (8, 2, 64), (9, 3, 64)]


@pytest.mark.parametrize("name", ASCEND)
def test_a_short_causal_prompt_has_a_last_key_tile_of_its_own(name):
    """Tiles taken before were up to 26 % slower than the best ones, 10 of these 36 more than 5 %.

    Which core takes one of the last items hangs on a few cycles, so that one in twelve may lose
    more: 19 % of 208 tokens with 8 heads without an L2.
    """
    lost = []
    for (q_heads, kv_heads, head_dim), length in product(HEADS, (192, 200, 208)):
        sizes = {"q_heads": q_heads, "kv_heads": kv_heads, "head_dim": head_dim}
        lengths = {"q_len": length, "kv_len": length, "causal": True}
        problem = AttentionProblem(kind="attention", name="prompt", **sizes, **lengths)
        lost.append(lost_by_flash(problem, name))
    assert sum(each > 0.05 for each in lost) <= 1
    assert sorted(lost)[len(lost) // 2] <= 0.01


@pytest.mark.parametrize("name", ASCEND)
def test_a_long_sequence_beside_short_ones_has_the_memory_for_itself_at_the_end(name):
    """Estimates of it were twice the time where all sequences took their share to the end."""
    lengths = ((16, 1132), (1, 484), (104, 46), (4, 63), (1, 2350), (119, 128))
    problem = AttentionProblem.model_validate(
        {
            "kind": "attention",
            "name": "batch",
            "q_heads": 3,
            "kv_heads": 1,
            "head_dim": 96,
            "causal": True,
            "sequences": [{"new": new, "cached": cached} for new, cached in lengths],
        }
    )
    assert lost_by_flash(problem, name) <= 0.05
    machine, flash = load_machine(name), get_kernel("flash")
    estimate = flash.estimated_cycles(problem, machine, flash.parameters())
    assert estimate == pytest.approx(cycles("flash", problem, machine), rel=0.2)


@pytest.mark.parametrize("name", ASCEND)
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_no_ranges_by_hand_are_much_faster(name, dtype):
    sizes = {"q_heads": 32, "kv_heads": 8, "head_dim": 128, "q_len": 1, "kv_len": 8192}
    problem = AttentionProblem(kind="attention", name="step", dtype=dtype, **sizes)
    machine = load_machine(name)
    own = cycles("split_kv", problem, machine)
    for splits, tile_k, stages in product((1, 2, 3, 4, 6), (128, 256, 512), (2, 4)):
        with suppress(DoesNotFitError):
            asked = {"splits": splits, "tile_k": tile_k, "stages": stages}
            assert own <= 1.05 * cycles("split_kv", problem, machine, **asked)


def test_twice_the_bandwidth_of_the_l2_does_not_make_a_prompt_slower():
    """By 13.8 % before, with tiles of other sizes."""
    sizes = {"q_heads": 8, "kv_heads": 8, "head_dim": 64, "q_len": 128, "kv_len": 1000}
    problem = AttentionProblem(kind="attention", name="prompt", **sizes)
    machines = (load_machine("ascend-910b", {"l2.bandwidth": f"{n} TB/s"}) for n in (4.752, 9.504))
    before, after = (cycles("flash", problem, machine) for machine in machines)
    assert after <= 1.02 * before


@pytest.mark.parametrize("name", ["ascend-910b", "h200-sxm"])
def test_estimates_are_near_what_is_simulated(name):
    machine, flash = load_machine(name), get_kernel("flash")
    for kernel, problem in (("flash", step(8192)), ("split_kv", step(8192))):
        own = get_kernel(kernel)
        estimate = own.estimated_cycles(problem, machine, own.parameters())
        assert estimate == pytest.approx(cycles(kernel, problem, machine), rel=0.12)
    assert flash.estimated_cycles(step(1024), machine, flash.parameters()) > 0
