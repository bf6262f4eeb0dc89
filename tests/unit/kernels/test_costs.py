"""Costs of ops as arrays are those of the engine, op by op."""

import numpy as np
import pytest

from accelsim.hardware.units.cube import matrix_cycles
from accelsim.hardware.units.int_mac import int_mac_cycles
from accelsim.hardware.units.move import move_cycles
from accelsim.hardware.units.vector import vector_cycles
from accelsim.kernels.estimate.costs import OpCosts
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format

SIZES = [(1, 1, 1), (7, 33, 64), (16, 16, 16), (128, 96, 64), (200, 512, 128)]


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
    expected = [
        machine.cube.issue_cycles
        + matrix_cycles(
            *(int(x) for x in size),
            (size[0] * size[2] + size[2] * size[1]) * 2.0,
            machine.cube.unit,
            float(machine.cube.rates[fmt]),
            float(machine.scratchpad.bandwidth),
        )
        for size in SIZES
    ]
    np.testing.assert_array_equal(OpCosts(machine).product(m, n, k, fmt, bits), expected)


@pytest.mark.parametrize("machine", [load_machine("ascend-910b"), load_machine("edge-npu")])
@pytest.mark.parametrize(("op", "bits"), [("exp", 64), ("add", 96), ("reduce", 32)])
def test_vector_ops_take_what_the_engine_says(machine, op, bits):
    rows, cols, _ = np.array(SIZES).T
    vector = machine.vector
    expected = [
        vector_cycles(
            int(r * c),
            r * c * bits / 8,
            vector.lanes[Format.FP32],
            float(getattr(vector.costs, op)),
            vector.issue_cycles,
            float(machine.scratchpad.bandwidth),
        )
        for r, c, _ in SIZES
    ]
    found = OpCosts(machine).vector(op, Format.FP32, rows, cols, bits)
    np.testing.assert_array_equal(found, expected)


def test_moves_take_what_the_engine_says():
    machine = load_machine("ascend-910b")
    rows, cols, _ = np.array(SIZES).T
    rates = float(machine.accumulator.bandwidth), float(machine.scratchpad.bandwidth)
    expected = [move_cycles(r * c * 4.0, r * c * 2.0, *rates) for r, c, _ in SIZES]
    np.testing.assert_array_equal(OpCosts(machine).move(rows, cols, Format.FP16), expected)


@pytest.mark.parametrize("bits", [(4, 4), (8, 8), (8, 4)])
def test_integer_products_take_what_the_engine_says(bits):
    machine = load_machine("tender-asic")
    m, n, k = np.array(SIZES).T
    array, port = machine.int_mac, float(machine.scratchpad.bandwidth)
    expected = [
        int_mac_cycles(*(int(x) for x in size), 3, *bits, array.rows, array.cols, port)
        for size in SIZES
    ]
    np.testing.assert_array_equal(OpCosts(machine).int_product(m, n, k, 3, bits), expected)
