"""Which tiles the kernels choose from, and that those they take fit."""

import pytest

from accelsim.kernels.attention.flash.flash import Flash
from accelsim.kernels.estimate.choice import masked_sizes, most_rivals, sizes
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.tiling import tile_sizes
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format, common_format
from accelsim.workload.problem import AttentionProblem, GemmProblem


def attention(q_len, kv_len, head_dim=64):
    return AttentionProblem(
        kind="attention",
        name="p",
        q_heads=1,
        kv_heads=1,
        head_dim=head_dim,
        q_len=q_len,
        kv_len=kv_len,
    )


def buffers_of(program):
    return {buffer.name: (buffer.slots, buffer.rows, buffer.cols) for buffer in program.buffers}


def test_sizes_are_halved():
    assert tile_sizes(128, 16) == [128, 64, 32, 16]
    assert tile_sizes(8, 16) == []


def test_candidates_keep_what_is_asked_for_and_end_at_the_problem():
    assert sizes(48, 1000).tolist() == [48]
    assert sizes(48, 10).tolist() == [10]
    assert sizes(None, 40).tolist() == [16, 32, 40]
    assert sizes(None, 7).tolist() == [7]


def test_under_a_mask_keys_are_cut_evenly_and_where_queries_are():
    even = sizes(None, 162).tolist()
    assert masked_sizes(None, 162).tolist() == sorted({*even, 64, 96, 128})
    assert 128 not in even
    assert masked_sizes(None, 4096).tolist() == sizes(None, 4096).tolist()
    assert masked_sizes(None, 40).tolist() == sizes(None, 40).tolist()
    assert masked_sizes(48, 1000).tolist() == [48]


def test_flash_may_cut_keys_unevenly_under_a_mask():
    """Of 162 keys most query rows see the first 128 at most."""
    machine = load_machine("ascend-910b-banked")
    heads = {"q_heads": 8, "kv_heads": 2}
    problem = attention(162, 162, head_dim=128).model_copy(update=heads)

    def told(causal):
        own = problem.model_copy(update={"causal": causal})
        return {each["tile_k"] for each in Flash.rivals(own, machine, Flash.parameters())}

    assert 128 in told(causal=True)
    assert 128 not in told(causal=False)


@pytest.mark.parametrize(("name", "count"), [("ascend-910b", 3), ("ascend-910b-banked", 4)])
def test_a_memory_with_banks_has_more_rivals(name, count):
    machine = load_machine(name)
    problem = GemmProblem(kind="gemm", name="p", m=100, n=500, k=600)
    assert most_rivals(machine) == count
    assert len(Gemm.rivals(problem, machine, Gemm.parameters())) == count


@pytest.mark.parametrize("capacity", ["1 MiB", "256 KiB", "64 KiB", "32 KiB"])
def test_flash_takes_tiles_that_fit(capacity):
    machine = load_machine(
        "edge-npu", {"scratchpad.capacity": capacity, "accumulator.capacity": "1 MiB"}
    )
    program, output = Flash.record(attention(512, 512), machine, Flash.parameters(), None)
    assert program.memory_bytes("scratchpad") <= machine.scratchpad.capacity
    assert output is None


def test_gemm_uses_both_halves_of_the_accumulator_if_they_fit():
    problem = GemmProblem(kind="gemm", name="p", m=512, n=512, k=512)
    parameters = Gemm.parameters(tile_m=64, tile_n=64)
    slots = [
        buffers_of(
            Gemm.record(
                problem, load_machine("edge-npu", {"accumulator.capacity": c}), parameters, None
            )[0]
        )["acc"][0]
        for c in ("32 KiB", "31 KiB")
    ]
    assert slots == [2, 1]


def test_larger_memories_never_mean_more_traffic():
    problem = GemmProblem(kind="gemm", name="p", m=1024, n=1024, k=1024)
    traffic = [
        Gemm.record(
            problem,
            load_machine("edge-npu", {"scratchpad.capacity": f"{kib} KiB"}),
            Gemm.parameters(),
            None,
        )[0].hbm_bytes.sum()
        for kib in (16, 64, 256, 1024)
    ]
    assert traffic == sorted(traffic, reverse=True)
    assert traffic[0] > traffic[-1]


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        (Format.FP16, Format.FP16, Format.FP16),
        (Format.BF16, Format.BF16, Format.BF16),
        (Format.FP16, Format.FP8_E4M3, Format.FP16),
        (Format.FP16, Format.BF16, Format.FP32),
        (Format.FP32, Format.FP16, Format.FP32),
    ],
)
def test_operands_meet_in_a_format_that_holds_both(a, b, product):
    assert common_format(a, b) == common_format(b, a) == product
