"""Costs of ops as arrays are those of the engine, op by op."""

import numpy as np
import pytest

from accelsim.engine.durations import work_of
from accelsim.kernels.estimate.costs import (
    ONE,
    SPARE_ROWS,
    CostTable,
    OpCosts,
    int_product,
    moved_bytes,
    product,
    vector_op,
)
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.program.ops import Op
from tests.handmade import int_matmul, matmul, move, program_of, vector

SIZES = [(1, 1, 1), (7, 33, 64), (16, 16, 16), (128, 96, 64), (200, 512, 128)]


def cycles_of(machine, ops):
    return work_of(program_of([ops]), machine).busy_cycles


def machines():
    yield load_machine("ascend-910b")
    yield load_machine("h200-sxm")
    yield load_machine("tpu-like-128")
    for dataflow in ("output_stationary", "weight_stationary", "input_stationary"):
        yield load_machine("tpu-like-128", {"cube.dataflow": dataflow, "cube.overlap_folds": False})


@pytest.mark.parametrize("machine", list(machines()), ids=lambda machine: machine.name)
def test_products_take_what_the_engine_says(machine):
    fmt, bits = Format.FP16, (16, 16)
    m, n, k = np.array(SIZES).T
    expected = cycles_of(machine, [matmul(1, 2, 3, *size, fmt=fmt, bits=bits) for size in SIZES])
    np.testing.assert_array_equal(OpCosts(machine).product(m, n, k, fmt, bits), expected)


@pytest.mark.parametrize("machine", [load_machine("ascend-910b"), load_machine("edge-npu")])
@pytest.mark.parametrize(("op", "bits"), [("exp", 64), ("add", 96), ("reduce", 32)])
def test_vector_ops_take_what_the_engine_says(machine, op, bits):
    rows, cols, _ = np.array(SIZES).T
    sizes = [(r * c, r * c * bits // 8) for r, c, _ in SIZES]
    words = {"op": Op[op.upper()], "fmt": Format.FP32, "written_bytes": 0}
    ops = [vector(1, each, read_bytes=num_bytes, **words) for each, num_bytes in sizes]
    expected = cycles_of(machine, ops)
    found = OpCosts(machine).vector(op, Format.FP32, rows, cols, bits)
    np.testing.assert_array_equal(found, expected)


def test_moves_take_what_the_engine_says():
    machine = load_machine("ascend-910b")
    rows, cols, _ = np.array(SIZES).T
    ops = [move(1, 2, r, c, read_bytes=r * c * 4, written_bytes=r * c * 2) for r, c, _ in SIZES]
    expected = cycles_of(machine, ops)
    np.testing.assert_array_equal(OpCosts(machine).move(rows, cols, Format.FP16), expected)


@pytest.mark.parametrize("bits", [(4, 4), (8, 8), (8, 4)])
def test_integer_products_take_what_the_engine_says(bits):
    machine = load_machine("tender-asic")
    m, n, k = np.array(SIZES).T
    expected = cycles_of(machine, [int_matmul(1, 2, 3, *s, bits=bits, shifts=3) for s in SIZES])
    np.testing.assert_array_equal(OpCosts(machine).int_product(m, n, k, 3, bits), expected)


def test_a_cost_is_the_sum_of_its_ops():
    rows, cols = np.array([1, 7, 128]), np.array([64, 33, 0])
    add, column = vector_op("add", Format.FP32, 1, 2, 96), vector_op("exp", Format.FP32, 1, ONE, 64)
    table = CostTable([2 * add + column, (), moved_bytes(1, 2, 4)])
    first, second = load_machine("ascend-910b"), load_machine("edge-npu")
    for machine in (first, second, first):
        own = OpCosts(machine)
        found = table.of(machine, rows, cols)
        assert found.shape == (3 + SPARE_ROWS, 3)
        expected = 2 * own.vector("add", Format.FP32, rows, cols, 96)
        expected = expected + own.vector("exp", Format.FP32, rows, 1, 64)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], 0)
        np.testing.assert_array_equal(found[2], rows * cols / 2)


def test_nothing_and_units_that_a_machine_lacks_cost_nothing():
    m, n = np.array([[16, 0, 16], [16, 16, 0]])
    bits, fmt = (16, 16), Format.FP16
    found = OpCosts(load_machine("ascend-910b")).product(m, n, 16, fmt, bits)
    assert (found > 0).tolist() == [True, False, False]
    whole = product(1, 1, 1, fmt, bits), int_product(1, 1, 1, 0, (8, 8))
    for name, missing in (("tender-asic", 0), ("ascend-910b", 1)):
        found = CostTable(whole).of(load_machine(name), np.array([32]))[:2, 0]
        assert (found > 0).tolist() == [missing != 0, missing != 1]
