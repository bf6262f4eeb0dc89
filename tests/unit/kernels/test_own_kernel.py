"""A kernel written outside accelsim, as a user would: softmax over the rows of a matrix.

Everything it needs is public: the kernel language, a builder, and `register`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from accelsim import language as al
from accelsim.config.spec import Size, Spec
from accelsim.errors import DoesNotFitError, ProgramError
from accelsim.kernels import registry
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import get_kernel, is_shipped, kernel_names, register
from accelsim.kernels.tiling import first_fit
from accelsim.loading import LoadedWorkload
from accelsim.numerics.formats import Format
from accelsim.program.builder import ProgramBuilder
from accelsim.runtime.jit import jit
from accelsim.simulation import record, simulate
from accelsim.workload.problem import GemmProblem


class Layout(NamedTuple):
    src: al.Tensor
    dst: al.Tensor
    x: al.Buffer
    column: al.Buffer


@jit
def row_softmax(p, k):
    for item in range(-(-k.src.rows // k.x.rows)):
        al.begin_item(p, 0)
        row = item * k.x.rows
        rows = min(k.x.rows, k.src.rows - row)
        x, column = al.tile(k.x, item, rows, k.src.cols), al.tile(k.column, item, rows, 1)
        al.load(p, x, k.src, row, 0)
        al.row_max(p, column, x)
        al.subtract_column(p, x, x, column)
        al.exp(p, x, x)
        al.row_sum(p, column, x)
        al.divide_column(p, x, x, column)
        al.store(p, k.dst, row, 0, x)


class RowSoftmaxParameters(Spec):
    tile_rows: Size = 32
    """Rows of a tile."""


class RowSoftmax(Kernel):
    name = "row_softmax"
    summary = "softmax of every row of A"
    problem_kind = "gemm"
    parameters = RowSoftmaxParameters

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        def allocate(builder, sizes):
            return (
                builder.buffer("x", *sizes, problem.k, Format.FP32, slots=2),
                builder.buffer("column", *sizes, 1, Format.FP32, slots=2),
            )

        sizes = (min(parameters.tile_rows, problem.m),)
        first_fit(cls.name, [sizes], allocate, machine)
        builder = ProgramBuilder(cls.name, with_numbers=tensors is not None)
        data = None if tensors is None else tensors.a
        src = builder.tensor("a", "input", problem.m, problem.k, Format.FP32, data)
        dst = builder.tensor("y", "output", problem.m, problem.k, Format.FP32)
        layout = Layout(src, dst, *allocate(builder, sizes))
        items = -(-problem.m // layout.x.rows)
        return builder.record(row_softmax, items, layout), dst.data

    @classmethod
    def oracle(cls, problem, tensors):
        weights = np.exp(tensors.a.astype(np.float64))
        return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture
def known(monkeypatch):
    """Register the kernel for one test."""
    monkeypatch.setattr(registry, "_KERNELS", dict(registry._KERNELS))
    return register(RowSoftmax)


@pytest.fixture
def workload():
    family = {"source": "uniform", "mean": 0, "amplitude": 4, "seed": 1}
    problem = GemmProblem.model_validate(
        {
            "kind": "gemm",
            "name": "rows",
            "m": 50,
            "n": 1,
            "k": 33,
            "dtype": "fp32",
            "tensors": family,
        }
    )
    return LoadedWorkload(problem, Path())


def test_it_is_known_by_its_name(known):
    assert kernel_names()[-1] == "row_softmax"
    assert get_kernel("row_softmax") is known


def test_it_is_simulated_and_judged(known, workload):
    report = simulate("edge-npu", workload, "row_softmax")
    matrix_bytes = 50 * 33 * 4
    assert report.hbm_bytes_by_tensor == {"a": matrix_bytes, "y": matrix_bytes}
    assert report.macs == 0
    assert report.units["cube"].busy_cycles == 0
    # Roundings of 2^-24: a difference of up to 8 (eight, as exponent) and an exponential (two), in
    # the weight and in the sum; the sum of 33 by halving (six); a division.
    assert 0 < report.accuracy.relative_rmse < (2 * (8 + 2) + 6 + 1) * 2**-24
    assert report == simulate("edge-npu", workload, "row_softmax")


def test_both_engines_agree_on_it(known, workload):
    compiled, reference = (
        simulate("edge-npu", workload, "row_softmax(tile_rows=7)", engine=engine)
        for engine in ("compiled", "reference")
    )
    assert compiled.cycles == reference.cycles
    assert compiled.units == reference.units


def test_its_program_is_verified(known, workload):
    program = record("edge-npu", workload, "row_softmax(tile_rows=20)")
    assert program.num_items == 3
    assert program.num_ops == 3 * 7


def test_its_tiles_are_checked_against_the_machine(known, workload):
    with pytest.raises(DoesNotFitError) as refusal:
        simulate("edge-npu", workload, "row_softmax", {"machine.scratchpad.capacity": "4 KiB"})
    assert str(refusal.value) == (
        "row_softmax does not fit the scratchpad of machine edge-npu: it needs 8704 B, 4096 B "
        "(4 KiB) are there; buffers: x 2 x 32x33 = 8448 B, column 2 x 32x1 = 256 B; "
        "choose smaller tiles or a larger scratchpad"
    )


@jit
def loads_only(p, rows, cols, src, x_buffer):
    al.begin_item(p, 0)
    al.load(p, al.tile(x_buffer, 0, rows, cols), src, 0, 0)


class Broken(RowSoftmax):
    """What it records of A, k columns wide, depends on `reached`, which tests set."""

    name = "broken"
    reached = 0

    @classmethod
    def record(cls, problem, machine, parameters, tensors):
        builder = ProgramBuilder(cls.name, with_numbers=tensors is not None)
        data = None if tensors is None else tensors.a
        src = builder.tensor("a", "input", problem.m, problem.k, Format.FP32, data)
        dst = builder.tensor("y", "output", problem.m, problem.k, Format.FP32)
        x = builder.buffer("x", 8, problem.k, Format.FP32)
        return builder.record(loads_only, 1, cls.reached, problem.k, src, x), dst.data


@pytest.fixture
def broken(monkeypatch):
    """Register a kernel that is not sound."""
    monkeypatch.setattr(registry, "_KERNELS", dict(registry._KERNELS))
    return register(Broken)


UNSOUND = [
    (8, "broken: output y has 6600 B, but 0 B are stored"),
    (
        9,
        "broken: op 0 load   load     x[0] <- a: "
        "asks for 9x33 elements of x[0], where there are 8x33",
    ),
]


@pytest.mark.parametrize(("rows", "message"), UNSOUND)
@pytest.mark.parametrize("tensors", ["{source: uniform}", None])
def test_an_unsound_program_is_not_simulated(broken, monkeypatch, tmp_path, rows, message, tensors):
    monkeypatch.setattr(broken, "reached", rows)
    sizes = {"workload.m": 50, "workload.k": 33, "workload.dtype": "fp32"}
    with pytest.raises(ProgramError) as refusal:
        simulate("edge-npu", "gemm-1024", "broken", {**sizes, "workload.tensors": tensors})
    assert str(refusal.value) == message
    assert not is_shipped(broken)


def test_a_name_is_taken_once(known):
    with pytest.raises(ValueError, match=r"^a kernel named 'row_softmax' is registered already$"):
        register(RowSoftmax)


def test_a_wrong_number_of_items_is_told(workload):
    builder = ProgramBuilder("own", with_numbers=False)
    src = builder.tensor("a", "input", 8, 4, Format.FP32)
    dst = builder.tensor("y", "output", 8, 4, Format.FP32)
    x = builder.buffer("x", 4, 4, Format.FP32)
    column = builder.buffer("column", 4, 1, Format.FP32)
    with pytest.raises(ProgramError) as refusal:
        builder.record(row_softmax, 3, Layout(src, dst, x, column))
    assert str(refusal.value) == "own: began 2 work items, but announced 3"
