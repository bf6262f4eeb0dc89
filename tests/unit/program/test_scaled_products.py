"""What products with shared scales record, how they print, and what the verifier refuses."""

import pytest

from accelsim.errors import ProgramError
from accelsim.numerics.formats import Format
from accelsim.numerics.integer import Accumulator
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.ops import Op, Unit
from accelsim.program.printer import format_op
from accelsim.program.program import BufferInfo, TensorInfo
from accelsim.program.verifier import verify
from accelsim.runtime.jit import jit
from tests.handmade import load, move, program_of, scaled_matmul, store

FP8, FP4 = Format.FP8_E4M3, Format.FP4_E2M1


@jit
def _scaled(p, a, b, of_a, of_b, acc):
    al.begin_item(p, 0)
    left = al.Scaled(al.tile(a, 0, 4, 64), al.tile(of_a, 0, 4, 2), 32, 1)
    right = al.Scaled(al.tile(b, 0, 64, 6), al.tile(of_b, 0, 4, 6), 16, 1)
    al.scaled_matmul(p, al.tile(acc, 0, 4, 6), left, right, False)
    al.scaled_matmul(p, al.tile(acc, 0, 4, 6), left, right, True)


@jit
def _aligned(p, a, b, of_a, of_b, acc):
    al.begin_item(p, 0)
    left = al.Scaled(al.tile(a, 0, 4, 64), al.tile(of_a, 0, 4, 2), 32, 1)
    right = al.Scaled(al.tile(b, 0, 64, 6), al.tile(of_b, 0, 4, 6), 16, 1)
    al.aligned_matmul(p, al.tile(acc, 0, 4, 6), left, right, 5, Accumulator(32, False), True)


def recorded(kernel, formats, sums):
    builder = ProgramBuilder("words", with_numbers=False)
    a = builder.buffer("a", 4, 64, formats[0])
    b = builder.buffer("b", 64, 6, formats[1])
    of_a = builder.buffer("of_a", 4, 2, Format.E8M0)
    of_b = builder.buffer("of_b", 4, 6, Format.FP32)
    acc = builder.buffer("acc", 4, 6, sums, memory="accumulator")
    return builder.record(kernel, 1, a, b, of_a, of_b, acc)


def test_a_scaled_product_reads_elements_and_scales():
    program = recorded(_scaled, (FP4, FP8), Format.FP32)
    more = {"formats": (FP4, FP8), "scales": (Format.E8M0, Format.FP32), "runs": (32, 16, 1)}
    first = scaled_matmul(5, (1, 2, 3, 4), (4, 6, 64), **more)
    second = scaled_matmul(5, (1, 2, 3, 4), (4, 6, 64), **more, accumulate=True)
    assert [tuple(row) for row in program.ops.tolist()] == [first, second]
    assert program.units.tolist() == [Unit.CUBE] * 2
    printed = " ".join(format_op(program, program.decode(1)).split())
    assert printed == (
        "1 cube scaled_matmul acc[0] <- a[0], b[0], of_a[0], of_b[0]: 4x6x64 "
        "fp8_e4m3 x fp4_e2m1 -> fp32, scales e8m0 1x32, fp32 16x1 added"
    )


def test_an_aligned_product_is_one_of_the_integer_array():
    program = recorded(_aligned, (Format.INT8, Format.INT4), Format.INT32)
    expected = scaled_matmul(
        5,
        (1, 2, 3, 4),
        (4, 6, 64),
        op=Op.ALIGNED_MATMUL,
        formats=(Format.INT8, Format.INT4),
        scales=(Format.E8M0, Format.FP32),
        runs=(32, 16, 1),
        accumulate=True,
    )
    assert [tuple(row) for row in program.ops.tolist()] == [expected]
    assert program.units.tolist() == [Unit.INT_MAC]


@jit
def _run_of(p, a, b, of_a, of_b, acc, block):
    al.begin_item(p, 0)
    left = al.Scaled(al.tile(a, 0, 4, 64), al.tile(of_a, 0, 4, 1), block, 1)
    right = al.Scaled(al.tile(b, 0, 64, 6), al.tile(of_b, 0, 1, 6), 64, 1)
    al.scaled_matmul(p, al.tile(acc, 0, 4, 6), left, right, False)


@pytest.mark.parametrize("block", [0, -1, 2048, 2**62])
def test_a_run_that_no_word_holds_is_refused(block):
    builder = ProgramBuilder("runs", with_numbers=False)
    a, b = builder.buffer("a", 4, 64, FP8), builder.buffer("b", 64, 6, FP8)
    scales = [builder.buffer(name, 4, 6, Format.E8M0) for name in ("of_a", "of_b")]
    acc = builder.buffer("acc", 4, 6, Format.FP32, memory="accumulator")
    with pytest.raises(ProgramError, match=r"scaled_matmul.*: asks for .* of an array of 2047"):
        builder.record(_run_of, 1, a, b, *scales, acc, block)


TENSORS = (TensorInfo("x", "input", 4, 64, 8, 0), TensorInfo("y", "output", 4, 8, 16, 4096))
BUFFERS = (
    BufferInfo("b", "scratchpad", 2, 4, 64, 8, 1),
    BufferInfo("scales", "scratchpad", 1, 4, 2, 8, 3),
    BufferInfo("acc", "accumulator", 1, 4, 4, 32, 4),
    BufferInfo("y", "scratchpad", 1, 4, 8, 16, 5),
)
LOADS = [load(1, 0, 64, rows=4, tensor=0), load(2, 0, 64, rows=4, tensor=0)]
LOADS.append(load(3, 0, 2, rows=4, tensor=0))
END = [move(5, 4, 4, 4), store(5, 4096, 16, rows=4, tensor=1)]


def checked(product):
    verify(program_of([[*LOADS, product, *END]], tensors=TENSORS, buffers=BUFFERS))


def test_a_sound_product_passes():
    checked(scaled_matmul(4, (1, 2, 3, 3), (4, 2, 64), runs=(32, 32, 1)))
    checked(scaled_matmul(4, (1, 2, 3, 3), (4, 4, 64), runs=(32, 32, 2)))


@pytest.mark.parametrize(
    ("product", "reason"),
    [
        (
            scaled_matmul(4, (1, 2, 3, 3), (4, 2, 64), accumulate=True),
            "its work item has not written",
        ),
        (scaled_matmul(4, (1, 2, 3, 3), (4, 4, 64)), "more of scales"),
        (scaled_matmul(4, (1, 2, 3, 3), (4, 2, 64), runs=(16, 32, 1)), "more of scales"),
        (scaled_matmul(4, (1, 2, 3, 3), (4, 2, 64), runs=(0, 32, 1)), "more of scales"),
        (scaled_matmul(5, (1, 2, 3, 3), (4, 2, 64)), "a product reads the scratchpad and writes"),
    ],
)
def test_what_breaks_a_rule_is_named(product, reason):
    with pytest.raises(ProgramError) as error:
        checked(product)
    assert "scaled_matmul" in str(error.value)
    assert reason in str(error.value)
