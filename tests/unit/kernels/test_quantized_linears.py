"""What quantized linears refuse, warn of and tell, on problems of a few channels."""

import warnings

import numpy as np
import pytest

from accelsim.errors import (
    AccumulatorWarning,
    ConfigError,
    DoesNotFitError,
    QuantizationError,
    WorkloadError,
)
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.calibration import Calibration, Provenance, Sampling
from accelsim.quantization.calibration_file import save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.schemes import per_column
from accelsim.quantization.statements import shifted_sums
from accelsim.workload.problem import GemmProblem
from accelsim.workload.tensors import GemmTensors
from tests.handmade import changed
from tests.oracle.linear_statements import linear
from tests.oracle.recorded import run

MACHINE = load_machine("tender-asic")
KERNELS = ["tender", "requantized", "quantized"]


def refusal(error, kernel, problem, tensors=None, machine=MACHINE, **settings):
    with pytest.raises(error) as found:
        run(kernel, problem, tensors, machine=machine, **settings)
    return str(found.value)


@pytest.fixture
def calibration(tmp_path):
    """A file with the groups of 3 x 8 samples of 10 channels, made with 4 groups of 8 bits."""
    options, rng = GroupOptions(bits=8, groups=4, chunk_rows=5), np.random.default_rng(1)
    groups = channel_groups(rng.normal(0, 1, (3, 8, 10)).astype(np.float32), options)
    provenance = Provenance(model="toy", texts=(), sampling=Sampling(), options=options)
    path = tmp_path / "toy.safetensors"
    save_calibration(Calibration(provenance, {"layer0.qkv_input": groups}), path)
    return path


def linear_of(model, name="layer0.q", k=10):
    problem, tensors = linear(8, 6, k, seed=4)
    return problem, tensors._replace(linear=name, model=model)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_machine_without_the_array_is_refused(kernel):
    problem, _ = linear(4, 4, 4, seed=0)
    machine = changed(MACHINE, "int_mac", lambda _: None)
    assert refusal(DoesNotFitError, kernel, problem, machine=machine) == (
        f"machine tender-asic has no int_mac, which {kernel} on drawn uses; "
        "give machine.int_mac to add one"
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_bits_that_the_array_lacks_are_refused_before_the_arithmetic(kernel):
    problem, tensors = linear(4, 4, 4, seed=0)
    machine = changed(MACHINE, "int_mac.formats", lambda _: (Format.INT4,))
    message = refusal(DoesNotFitError, kernel, problem, tensors, machine, weight_bits=4)
    assert message == (
        f"machine tender-asic: its int_mac unit has no int8, which {kernel} on drawn uses; "
        "it has int4"
    )


def test_only_tender_needs_the_shift():
    problem, _ = linear(4, 4, 4, seed=0)
    machine = changed(MACHINE, "int_mac.can_shift", lambda _: False)
    assert "cannot shift its accumulators" in refusal(
        DoesNotFitError, "tender", problem, machine=machine
    )
    for kernel, settings in (("tender", {"groups": 1}), ("requantized", {}), ("quantized", {})):
        run(kernel, problem, None, machine=machine, **settings)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_problem_in_integers_is_refused(kernel):
    problem = GemmProblem(kind="gemm", name="codes", m=2, n=2, k=2, dtype="int8")
    message = refusal(WorkloadError, kernel, problem)
    assert message.startswith(f"{kernel} on codes: found dtype int8, allowed: fp32, bf16, fp16")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("operand", "what"), [("a", "activations"), ("b", "weights")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(kernel, operand, what, value):
    problem, tensors = linear(3, 3, 3, seed=0)
    getattr(tensors, operand)[1, 1] = value
    message = refusal(QuantizationError, kernel, problem, tensors)
    assert message == f"{what}: found 1 of 9 infinite or NaN, allowed: finite numbers"


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ({"groups": 0}, "greater than or equal to 1"),
        ({"groups": 33}, "less than or equal to 32"),
        ({"activation_bits": 2}, "4 or 8"),
        ({"weight_bits": 16}, "4 or 8"),
        ({"chunk_rows": 0}, "greater than 0"),
    ],
)
def test_impossible_choices_are_refused(setting, allowed):
    problem, _ = linear(4, 4, 4, seed=0)
    message = refusal(ConfigError, "tender", problem, **setting)
    assert next(iter(setting)) in message
    assert allowed in message


def test_panels_begin_with_a_whole_byte():
    problem, _ = linear(4, 4, 8, seed=0)
    message = refusal(DoesNotFitError, "tender", problem, tile_k=3, activation_bits=4)
    assert "tender on drawn: found tile_k = 3, but elements of 4 bits are packed 2" in message


def test_what_fits_nowhere_names_its_buffers():
    problem, _ = linear(64, 64, 4096, seed=0)
    machine = changed(MACHINE, "scratchpad.capacity", lambda _: 8192)
    message = refusal(DoesNotFitError, "tender", problem, machine=machine)
    assert "tender on drawn does not fit the scratchpad of machine tender-asic" in message
    assert "weights 2 x" in message


def test_a_calibration_is_used_for_its_linear_alone(calibration):
    problem, tensors = linear_of("toy")
    program, _ = run("tender", problem, tensors, machine=MACHINE, calibration=str(calibration))
    assert program.statistics["groups_used"] <= 4
    cases = [
        (linear_of("other"), "is of model 'toy', found layer0.q of model 'other'"),
        (linear_of("toy", k=11), "has 10 input channels, found 11"),
        (linear(8, 6, 10, seed=4), "found tensors from elsewhere"),
    ]
    for (other, found), expected in cases:
        for kernel in ("tender", "requantized"):
            message = refusal(QuantizationError, kernel, other, found, calibration=str(calibration))
            assert expected in message


def test_static_ranges_come_from_the_calibration(calibration):
    problem, tensors = linear_of("toy")
    chosen = {"activation_scale": "tensor", "calibration": str(calibration)}
    _, own = run("quantized", problem, tensors, machine=MACHINE, activation_scale="tensor")
    _, calibrated = run("quantized", problem, tensors, machine=MACHINE, **chosen)
    # The samples are far smaller than this input, whose outliers are clipped.
    assert np.abs(calibrated - own).max() > 1


def test_choices_beside_a_calibration_must_agree_with_it(calibration):
    problem, tensors = linear_of("toy")
    run("tender", problem, tensors, machine=MACHINE, calibration=str(calibration), groups=4)
    for setting, found in (({"groups": 8}, 4), ({"activation_bits": 4}, 8)):
        ((key, asked),) = setting.items()
        expected = f"was made with {key} = {found}, found {key} = {asked}; allowed: the same"
        for known in (tensors, None):
            message = refusal(
                QuantizationError,
                "tender",
                problem,
                known,
                calibration=str(calibration),
                **setting,
            )
            assert expected in message


def all_largest(m, n, k):
    """Every channel in the first of its groups but one, so that its sums are doubled most."""
    a = np.full((m, k), 1.0, np.float32)
    a[:, 0] = 1e-3
    problem = GemmProblem(kind="gemm", name="large", m=m, n=n, k=k)
    return problem, GemmTensors(a, np.full((k, n), 1.0, np.float32))


def test_sums_that_may_not_fit_are_warned_of_before_the_run_and_counted_in_it():
    problem, tensors = all_largest(2, 3, 64)
    chosen = {"groups": 16, "use_bias": False}
    with pytest.warns(AccumulatorWarning) as caught:
        program, output = run("tender", problem, tensors, machine=MACHINE, **chosen)
    assert str(caught[0].message) == (
        "tender on large: sums of int8 x int8 products can reach 2^35.0, an accumulator of "
        "machine tender-asic holds less than 2^31; fewer groups or fewer bits, or "
        "int_mac.overflow: saturate would help"
    )
    assert program.overflows == program.statistics["accumulator_overflows"] > 0
    saturating = changed(MACHINE, "int_mac.overflow", lambda _: "saturate")
    with pytest.warns(AccumulatorWarning):
        _, saturated = run("tender", problem, tensors, machine=saturating, **chosen)
    exact = tensors.a @ tensors.b
    assert np.abs(saturated - exact).max() < np.abs(output - exact).max()


BIT_OF_SIGN = 31
"""A sum below 2^31 fits an accumulator of 32 bits."""


def summed(kernel, problem, tensors, **chosen):
    """Return the statistics of a run, whether it was warned of, and its output."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program, output = run(kernel, problem, tensors, machine=MACHINE, **chosen)
    return program.statistics, bool(caught), output


@pytest.mark.parametrize("base", ["row", "static"])
@pytest.mark.parametrize(("channels", "fits"), [(4, True), (5, False)])
def test_sixteen_groups_hold_four_of_the_largest_channels(base, channels, fits):
    """4 x 128 x 127 x 2^15 < 2^31 <= 5 x 127 x 127 x 2^15, where all products are the largest."""
    problem, tensors = all_largest(2, 3, channels + 1)
    told, is_warned, output = summed("tender", problem, tensors, groups=16, base=base)
    assert told["accumulator_bound_bits"] == pytest.approx(
        np.log2(channels * 2**15 * 128 * 127), abs=1e-3
    )
    assert is_warned is not fits
    assert (told["accumulator_overflows"] == 0) is fits
    exact = tensors.a.astype(np.float64) @ tensors.b
    assert bool(np.abs(output - exact).max() < 0.02 * channels) is fits


@pytest.mark.parametrize(
    ("kernel", "chosen"), [("tender", {"groups": 1}), ("quantized", {}), ("smoothquant", {})]
)
@pytest.mark.parametrize(
    ("k", "is_warned", "overflows"),
    [(132_104, False, False), (132_105, True, False), (133_145, True, True)],
)
def test_a_long_sum_is_counted_where_it_does_not_fit(kernel, chosen, k, is_warned, overflows):
    """128 x 127 x 132,104 < 2^31, and 127 x 127 x 133,145 > 2^31."""
    problem = GemmProblem(kind="gemm", name="long", m=1, n=1, k=k, dtype=Format.FP32)
    tensors = GemmTensors(np.ones((1, k), np.float32), np.ones((k, 1), np.float32))
    told, warned, output = summed(kernel, problem, tensors, **chosen)
    assert (warned, told["accumulator_overflows"] > 0) == (is_warned, overflows)
    assert (told["accumulator_bound_bits"] < BIT_OF_SIGN) is not is_warned
    assert (output[0, 0] == pytest.approx(k, rel=1e-6)) is not overflows


def test_what_is_not_warned_of_fits():
    problem, tensors = linear(20, 12, 200, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program, _ = run("tender", problem, tensors, machine=MACHINE, groups=8)
    options = GroupOptions(bits=8, groups=8)
    groups, weights = channel_groups(tensors.a[None], options), per_column(tensors.b, 8)
    (span,) = groups.spans(20)
    sums = shifted_sums(groups.encode(tensors.a, span), weights.codes, groups.group[0], 8)
    used, bound = (program.statistics[f"accumulator_{each}_bits"] for each in ("used", "bound"))
    assert used == pytest.approx(np.log2(np.abs(sums).max()))
    assert used < bound < 31
    assert program.statistics["groups_used"] == len(np.unique(groups.group))


def test_without_numbers_groups_are_even_and_sums_unknown():
    problem, _ = linear(20, 12, 200, seed=5)
    program, output = run("tender", problem, None, machine=MACHINE, groups=16)
    assert output is None
    assert dict(program.statistics) == {"groups_used": 16}


@pytest.mark.parametrize("kernel", KERNELS)
def test_numbers_do_not_change_the_program(kernel):
    """But for empty groups, of which a program without numbers has none."""
    problem, tensors = linear(30, 40, 50, seed=6)
    grouped = {} if kernel == "quantized" else {"groups": 1}
    with_numbers, _ = run(kernel, problem, tensors, machine=MACHINE, **grouped)
    without, _ = run(kernel, problem, None, machine=MACHINE, **grouped)
    np.testing.assert_array_equal(with_numbers.ops, without.ops)


@pytest.mark.parametrize("kernel", ["tender", "requantized"])
def test_a_chunk_of_one_row_costs_one_more_pass_over_the_weights(kernel):
    """Its item is as short as the row, so that it does not push the other tiles to be small."""
    work = GemmProblem(kind="gemm", name="p", m=1024, n=512, k=512)
    kind = get_kernel(kernel)
    moved = [
        kind.record(work, MACHINE, kind.parameters(first_rows=rows), None)[0].hbm_bytes.sum()
        for rows in (0, 1)
    ]
    of_a_chunk = (3 * work.k + 2 * work.n) * 4  # scales, biases and order
    assert moved[1] <= moved[0] + work.n * work.k + of_a_chunk
