"""Rotated linears against their statements, bit by bit; what rotation costs and what it is for."""

from dataclasses import replace
from math import log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accelsim.errors import AccelsimError
from accelsim.loading import load_machine
from accelsim.numerics.block_formats import BlockFormat
from accelsim.program.ops import Op
from accelsim.quantization.calibration import (
    Calibration,
    Sampling,
    StoredWeights,
    provenance_of,
)
from accelsim.quantization.calibration_file import load_calibration, save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.quantization.schemes import per_row, per_tensor
from tests.oracle import mx_statements as stated
from tests.oracle.linear_statements import (
    linear,
    requantized_result,
    shifted_result,
    uniform_result,
    weights_of,
)
from tests.oracle.recorded import run

MX, ASIC = load_machine("mx-npu"), load_machine("tender-asic")
ALIGNING = load_machine("mxint-asic")
sides, blocks = st.integers(1, 30), st.sampled_from([1, 2, 8, 64])
depths, seeds = st.integers(1, 5), st.integers(0, 2**32)
inputs = st.sampled_from(["float", "quantized"])


def turned(tensors, block):
    rotation = hadamard_rotation(tensors.a.shape[1], block)
    return tensors._replace(a=rotation.of_activations(tensors.a), b=rotation.of_weights(tensors.b))


@settings(max_examples=25)
@given(sides, sides, depths, blocks, st.sampled_from(["vector", "cube"]), inputs, seeds)
def test_x_is_rotated_before_it_is_encoded(m, n, k, block, unit, given_as, seed):
    problem, tensors = linear(m, n, k * 64, seed)
    choices = {"rotation": "hadamard", "rotation_block": block, "rotate_on": unit}
    _, output = run(
        "mx", problem, tensors, machine=MX, activations="mxfp4", input=given_as, **choices
    )
    expected = turned(tensors, block)
    if unit == "cube" and given_as == "float":
        expected = expected._replace(a=stated.turned_on_cube(tensors.a, block))
    both = (BlockFormat.MXFP4, BlockFormat.MXFP4)
    np.testing.assert_array_equal(output, stated.in_cube(expected, *both))


@settings(max_examples=10)
@given(sides, sides, depths, blocks, inputs, seeds)
def test_scales_of_rows_are_those_of_the_rotated(m, n, k, block, given_as, seed):
    problem, tensors = linear(m, n, k * 64, seed)
    choices = {"rotation": "hadamard", "rotation_block": block, "input": given_as}
    program, output = run("mx", problem, tensors, machine=ALIGNING, **choices)
    guard_bits = program.parameters["guard_bits"]
    np.testing.assert_array_equal(output, stated.in_array(turned(tensors, block), guard_bits))


@settings(max_examples=25)
@given(
    sides,
    sides,
    depths,
    blocks,
    st.sampled_from(["tensor", "dynamic_tensor", "row"]),
    st.sampled_from([4, 8]),
    inputs,
    seeds,
)
def test_integers_are_those_of_the_rotated(m, n, k, block, shared, bits, given_as, seed):
    problem, tensors = linear(m, n, k * 64, seed)
    choices = {"rotation": "hadamard", "rotation_block": block, "input": given_as}
    widths = {"activation_bits": bits, "weight_bits": bits, "activation_scale": shared}
    _, output = run("quantized", problem, tensors, machine=ASIC, **choices, **widths)
    expected = turned(tensors, block)
    x = per_row(expected.a, bits) if shared == "row" else per_tensor(expected.a, bits)
    np.testing.assert_array_equal(
        output, uniform_result(x, weights_of(expected, bits), shared != "tensor")
    )


forms = st.sampled_from(
    [
        {"base": "row", "candidates": 1},
        {"base": "row", "candidates": 1, "use_bias": True},
        {"base": "row", "candidates": 6},
        {"base": "static", "use_bias": True},
    ]
)


@settings(max_examples=40)
@given(
    sides, sides, depths, blocks, forms, st.integers(1, 8), st.sampled_from([4, 8]), inputs, seeds
)
def test_groups_and_bases_are_those_of_the_rotated(
    m, n, k, block, form, groups, bits, given_as, seed
):
    problem, tensors = linear(m, n, k * 64, seed)
    own = {"groups": groups, **form}
    widths = {"activation_bits": bits, "weight_bits": bits, "input": given_as}
    choices = {"rotation": "hadamard", "rotation_block": block}
    _, output = run("tender", problem, tensors, machine=ASIC, **own, **widths, **choices)
    expected, options = turned(tensors, block), GroupOptions(bits=bits, **own)
    np.testing.assert_array_equal(
        output, shifted_result(expected, options, weights_of(expected, bits))
    )


@pytest.mark.parametrize("candidates", [1, 3])
def test_a_row_of_several_tiles_is_rotated_tile_by_tile(candidates):
    """Its base needs all of it, so every tile is loaded and rotated again when it is encoded."""
    machine = load_machine("tender-asic", {"scratchpad.capacity": "32 KiB"})
    problem, tensors = linear(5, 9, 1024, seed=6)
    own = {"groups": 2, "candidates": candidates, "rotation": "hadamard", "rotation_block": 64}
    program, output = run("tender", problem, tensors, machine=machine, tile_n=8, tile_k=64, **own)
    assert max(buffer.cols for buffer in program.buffers if buffer.name == "x") < 1024
    options, expected = GroupOptions(groups=2, candidates=candidates), turned(tensors, 64)
    np.testing.assert_array_equal(
        output, shifted_result(expected, options, weights_of(expected, 8))
    )


def test_groups_that_are_drained_are_those_of_the_rotated():
    problem, tensors = linear(20, 30, 128, seed=5)
    choices = {"rotation": "hadamard", "groups": 3, "candidates": 2}
    _, output = run("requantized", problem, tensors, machine=ASIC, **choices)
    options, expected = GroupOptions(groups=3, candidates=2), turned(tensors, 128)
    np.testing.assert_array_equal(
        output, requantized_result(expected, options, weights_of(expected, 8))
    )


@pytest.mark.parametrize(
    ("kernel", "machine", "own"),
    [
        ("mx", MX, {"rotate_on": "vector"}),
        ("quantized", ASIC, {}),
        ("tender", ASIC, {}),
        ("tender", ASIC, {"base": "static"}),
        ("tender", ASIC, {"candidates": 6}),
    ],
)
def test_butterflies_are_counted(kernel, machine, own):
    """log2(64) stages and one product for every element of X, which is there once."""
    problem, _ = linear(16, 8, 256, seed=0)
    choices = {"rotation": "hadamard", "rotation_block": 64}
    elements = []
    for given_choices in ({}, choices):
        program, _ = run(kernel, problem, None, machine=machine, **own, **given_choices)
        sizes = program.ops[:, 3] * program.ops[:, 4]
        elements.append([sizes[program.op_codes == op].sum() for op in (Op.ADD, Op.MULTIPLY)])
    added, multiplied = np.subtract(*elements[::-1])
    assert (added, multiplied) == (log2(64) * 16 * 256, 16 * 256)


def test_the_cube_rotates_by_products():
    problem, _ = linear(16, 8, 256, seed=0)
    choices = {"rotation": "hadamard", "rotation_block": 64, "rotate_on": "cube"}
    program, _ = run("mx", problem, None, machine=MX, **choices)
    is_product = program.op_codes == Op.MATMUL
    assert program.ops[is_product, 3:6].prod(1).sum() == 16 * 256 * 64


def test_rotation_is_for_outliers():
    """A scale a row in 4 bits suffers from the channels that are 60 times as large as others."""
    problem, tensors = linear(32, 32, 256, seed=4)
    exact = tensors.a.astype(np.float64) @ tensors.b
    errors = []
    for rotation in ("none", "hadamard"):
        choices = {"rotation": rotation, "activation_bits": 4}
        _, output = run("quantized", problem, tensors, machine=ASIC, **choices)
        errors.append(np.linalg.norm(output - exact) / np.linalg.norm(exact))
    assert errors[1] < errors[0]


def test_what_is_not_given_is_chosen():
    problem, _ = linear(16, 8, 96, seed=0)
    program, _ = run("mx", problem, None, machine=MX, rotation="hadamard")
    assert program.parameters["rotation_block"] == 32
    assert program.parameters["rotate_on"] in ("vector", "cube")
    for kernel in ("quantized", "tender"):
        program, _ = run(kernel, problem, None, machine=ASIC, rotation="hadamard")
        assert program.parameters["rotation_block"] == 32


def refusal(*arguments, **settings):
    with pytest.raises(AccelsimError) as error:
        run(*arguments, **settings)
    return str(error.value)


def test_mistakes_are_named(tmp_path):
    problem, _ = linear(16, 8, 96, seed=0)
    choices = {"rotation": "hadamard", "rotation_block": 64}
    assert refusal("mx", problem, None, machine=MX, **choices) == (
        "rotation: block: found 64 of 96 channels, allowed: powers of two up to 32"
    )
    choices = {"rotation": "hadamard", "rotate_on": "cube"}
    assert refusal("mx", problem, None, machine=ALIGNING, **choices) == (
        "machine mxint-asic has no cube, which mx on drawn with rotate_on = cube uses; give "
        "machine.cube to add one"
    )
    choices = {"rotation": "hadamard", "calibration": str(tmp_path / "some.npz")}
    assert refusal("quantized", problem, None, machine=ASIC, **choices) == (
        "quantized on drawn: found a calibration beside rotation = hadamard, allowed: one of "
        "both; a calibration has the ranges of channels before they are rotated"
    )


def calibrated(tensors, options, folder, weight_bits=None):
    """Return the file of a calibration on X, and the tensors it is for.

    Its weights, if it has any, are none that rounding would give.
    """
    path = folder / f"{options.groups}.safetensors"
    rotation = options.rotation_of(tensors.a.shape[1])
    x = tensors.a if rotation is None else rotation.of_activations(tensors.a)
    provenance = provenance_of("drawn", [], Sampling(), options)
    inputs, weights = {"layer0.down_input": channel_groups(x[None], options)}, {}
    if weight_bits is not None:
        provenance = replace(provenance, weight_bits=weight_bits)
        rng, largest = np.random.default_rng(9), 2 ** (weight_bits - 1)
        codes = rng.integers(-largest, largest, tensors.b.shape).astype(np.int8)
        scale = rng.uniform(1e-4, 1e-3, (1, codes.shape[1])).astype(np.float32).astype(float)
        weights = {"layer0.down": StoredWeights(codes, scale)}
    save_calibration(Calibration(provenance, inputs, weights), path)
    return str(path), tensors._replace(linear="layer0.down", model="drawn")


@pytest.mark.parametrize(
    ("made", "asked", "key", "found"),
    [
        ({}, {"rotation": "hadamard"}, "rotation", "none"),
        ({"rotation": "hadamard"}, {"rotation": "none"}, "rotation", "hadamard"),
        ({"rotation": "hadamard"}, {"rotation_block": 64}, "rotation_block", None),
    ],
)
def test_groups_of_channels_that_were_rotated_otherwise_are_refused(
    made, asked, key, found, tmp_path
):
    problem, tensors = linear(16, 8, 128, seed=0)
    path, tensors = calibrated(tensors, GroupOptions(groups=4, **made), tmp_path)
    ((_, value),) = asked.items()
    for given_tensors in (tensors, None):
        settings = {"machine": ASIC, "calibration": path, **asked}
        assert refusal("tender", problem, given_tensors, **settings) == (
            f"{path}: was made with {key} = {found}, found {key} = {value}; allowed: the same, or "
            f"a calibration made with {value}"
        )


GROUPED = {"tender": shifted_result, "requantized": requantized_result}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sides,
    sides,
    depths,
    st.sampled_from([2, 64]),
    st.sampled_from([(8, 1, 1, "largest"), (4, 4, 6, "typical"), (4, 16, 2, "typical")]),
    st.sampled_from([None, 4, 8]),
    st.sampled_from(sorted(GROUPED)),
    seeds,
)
def test_a_calibration_says_how_x_is_rotated_and_what_w_is(
    tmp_path, m, n, k, block, form, weight_bits, kernel, seed
):
    """The forms that `accelsim calibrate` makes by default, bit by bit."""
    problem, tensors = linear(m, n, k * 64, seed)
    bits, groups, candidates, ranges = form
    options = GroupOptions(
        bits=bits,
        groups=groups,
        candidates=candidates,
        ranges=ranges,
        rotation="hadamard",
        rotation_block=block,
    )
    path, named = calibrated(tensors, options, tmp_path, weight_bits)
    settings = {"calibration": path, "activation_bits": bits, "weight_bits": weight_bits or 8}
    program, output = run(kernel, problem, named, machine=ASIC, tile_k=problem.k, **settings)
    expected = turned(tensors, block)
    weights = weights_of(expected, 8)
    if weight_bits:
        weights = load_calibration(Path(path)).weights_of(named)
    np.testing.assert_array_equal(output, GROUPED[kernel](expected, options, weights))
    assert program.parameters["rotation"] == "hadamard"
    assert program.parameters["rotation_block"] == block


def test_weights_of_a_calibration_may_be_left_there(tmp_path):
    problem, tensors = linear(16, 8, 128, seed=0)
    options = GroupOptions(groups=4, rotation="hadamard")
    path, named = calibrated(tensors, options, tmp_path, 8)
    _, nearest = run(
        "tender", problem, named, machine=ASIC, calibration=path, weight_rounding="nearest"
    )
    own = {"groups": 4, "rotation": "hadamard"}
    _, without = run("tender", problem, tensors, machine=ASIC, **own)
    np.testing.assert_array_equal(nearest, without)


@pytest.mark.parametrize(
    ("weight_bits", "chosen", "expected"),
    [
        (
            4,
            {},
            "{path}: was made with weight_bits = 4, found weight_bits = 8; allowed: the same, or "
            "a calibration made with 8",
        ),
        (
            8,
            {"weight_scale": "tensor"},
            "{path}: was made with weight_scale = column, found weight_scale = tensor; allowed: "
            "the same, or a calibration made with tensor",
        ),
        (
            None,
            {"weight_rounding": "gptq"},
            "weight_rounding: found gptq, and calibration = {path} has no weights; allowed: "
            "nearest, or a calibration made with `--weights gptq`",
        ),
        (
            None,
            {"weight_rounding": "gptq", "calibration": None},
            "weight_rounding: found gptq, and calibration = None has no weights; allowed: "
            "nearest, or a calibration made with `--weights gptq`",
        ),
    ],
)
def test_weights_that_are_not_there_are_refused(weight_bits, chosen, expected, tmp_path):
    problem, tensors = linear(16, 8, 128, seed=0)
    path, named = calibrated(tensors, GroupOptions(groups=4), tmp_path, weight_bits)
    settings = {"machine": ASIC, "calibration": path, **chosen}
    for given_tensors in (named, None):
        assert refusal("tender", problem, given_tensors, **settings) == expected.format(path=path)


def test_one_group_whose_weights_were_rotated_is_not_that_of_any_x(tmp_path):
    problem, tensors = linear(16, 8, 128, seed=0)
    path, named = calibrated(tensors, GroupOptions(groups=1, rotation="hadamard"), tmp_path, 8)
    assert "was made with rotation = hadamard, found rotation = none" in refusal(
        "tender", problem, named, machine=ASIC, calibration=path, rotation="none"
    )


def test_one_group_with_the_base_of_a_row_is_that_of_any_x(tmp_path):
    problem, tensors = linear(16, 8, 128, seed=0)
    options = GroupOptions(bits=4, groups=1, candidates=6)
    path, named = calibrated(tensors, options, tmp_path)
    own = {"rotation": "hadamard", "activation_bits": 4}
    _, by_file = run("tender", problem, named, machine=ASIC, calibration=path, **own)
    _, without = run("tender", problem, tensors, machine=ASIC, groups=1, candidates=6, **own)
    np.testing.assert_array_equal(by_file, without)
