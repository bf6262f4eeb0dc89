"""Producers that are told by a calibration which groups the linear behind them has."""

import numpy as np
import pytest

from accelsim.errors import QuantizationError
from accelsim.kernels.linear.integer.parameters import GroupedParameters
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.quantization.calibration import Calibration, Provenance, Sampling
from accelsim.quantization.calibration_file import save_calibration
from accelsim.quantization.channel_groups import GroupOptions, channel_groups
from accelsim.quantization.coded_rows import coded_rows
from accelsim.workload.problem import AttentionProblem, GemmProblem, VectorProblem
from accelsim.workload.tensors import AttentionTensors, Reader, VectorTensors
from tests.oracle.recorded import run

MACHINE = load_machine("tender-asic")
CHANNELS = 16
READER = Reader("layer0.down", "toy")
COPY = VectorProblem(
    kind="vector", name="copied", function="copy", rows=5, cols=CHANNELS, dtype=Format.FP32
)
X = np.random.default_rng(2).normal(0, 1, (5, CHANNELS)).astype(np.float32)


@pytest.fixture
def calibrated(tmp_path):
    """Make a file with the groups of a linear that was seen to take in channels of other sizes."""

    def make(rows=8, **options):
        asked, rng = GroupOptions(**options), np.random.default_rng(1)
        samples = rng.normal(0, 1, (3, rows, CHANNELS)) * np.exp(rng.normal(0, 2, CHANNELS))
        groups = channel_groups(samples.astype(np.float32), asked)
        provenance = Provenance(model="toy", texts=(), sampling=Sampling(), options=asked)
        path = tmp_path / "toy.safetensors"
        inputs = {"layer0.down_input": groups, "layer0.o_input": groups}
        save_calibration(Calibration(provenance, inputs), path)
        return groups, path

    return make


def coded(path, tensors=None, **form):
    given = tensors or VectorTensors(X, reader=READER)
    asked = {"codes": "int8", "code_groups": 4, "code_calibration": str(path), **form}
    return run("vector", COPY, given, machine=MACHINE, **asked)[1]


def test_the_groups_are_those_of_the_calibration(calibrated):
    groups, path = calibrated(groups=4)
    factors = groups.channel_factors(0)
    assert len(np.unique(factors)) > 1
    expected = (coded_rows(X * factors, factors, 8).values / factors).astype(np.float32)
    np.testing.assert_array_equal(coded(path), expected)


def test_heads_have_the_groups_of_their_channels(calibrated):
    groups, path = calibrated(groups=4)
    q, k, v = np.random.default_rng(3).normal(0, 1, (3, 2, 3, 8)).astype(np.float32)
    problem = AttentionProblem(
        kind="attention",
        name="heads",
        q_heads=2,
        kv_heads=2,
        head_dim=8,
        q_len=3,
        kv_len=3,
        dtype=Format.FP32,
    )
    tensors = AttentionTensors(q, k, v, reader=Reader("layer0.o", "toy"))
    asked = {"codes": "int8", "code_groups": 4, "code_calibration": str(path)}
    _, plain = run("int_flash", problem, tensors, machine=MACHINE)
    _, output = run("int_flash", problem, tensors, machine=MACHINE, **asked)
    ones = np.ones(8, np.float32)
    for head, factors in enumerate(groups.channel_factors(0).reshape(2, 8)):
        rows = slice(3 * head, 3 * head + 3)
        expected = coded_rows(plain[rows] * factors, ones, 8).values / factors
        np.testing.assert_array_equal(output[rows], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("made", "found"),
    [
        ({"groups": 3}, "groups = 3, base = row, without a bias, 1 chunks"),
        ({"groups": 4, "base": "static"}, "groups = 4, base = static, without a bias, 1 chunks"),
        ({"groups": 4, "use_bias": True}, "groups = 4, base = row, with a bias, 1 chunks"),
        ({"groups": 4, "chunk_rows": 4}, "groups = 4, base = row, without a bias, 2 chunks"),
    ],
)
def test_another_calibration_than_a_producer_can_follow_is_refused(calibrated, made, found):
    _, path = calibrated(**made)
    with pytest.raises(QuantizationError) as error:
        coded(path)
    allowed = "allowed: groups = 4, base = row, without a bias, one chunk"
    assert str(error.value) == f"{path}: found {found} of rows; {allowed}"


def test_values_of_no_linear_are_refused(calibrated):
    _, path = calibrated(groups=4)
    with pytest.raises(QuantizationError, match="a calibration is for the linears of a model, fou"):
        coded(path, VectorTensors(X))


def test_a_linear_whose_calibration_has_several_chunks_is_not_coded_for(calibrated):
    _, path = calibrated(groups=4, chunk_rows=4)
    parameters = GroupedParameters(input="quantized", calibration=path)
    problem = GemmProblem(kind="gemm", name="down", m=8, n=4, k=CHANNELS, dtype=Format.FP16)
    with pytest.raises(QuantizationError) as error:
        parameters.read_form(problem)
    assert str(error.value) == (
        f"down: found 2 chunks of 4 rows, allowed: one, whose groups the producer of X knows; "
        f"with {path}"
    )
