"""A kernel as the linears of the network against the network without it."""

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.library.kernels import Kernels
from accelsim.loading import LoadedWorkload
from accelsim.numerics.formats import Format
from accelsim.quality.display import quality_table
from accelsim.quality.evaluate import evaluate
from accelsim.quality.linear import KernelLinear
from accelsim.quality.passages import Reading
from accelsim.simulation import simulate
from accelsim.workload.model.forward import Hooks, token_losses
from accelsim.workload.model.language import load_model
from accelsim.workload.problem import GemmProblem
from tests.unit.quality.test_attention import FLOAT32_STEPS, IDS

NAMES = ("q", "k", "v", "o", "gate", "up", "down")
MACHINE = "ascend-910b-no-l2"
EXACT = {"workload.dtype": "fp32"}


@pytest.fixture
def text(installed, tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("hello world, hello 2000 worlds")
    return path


def hook(dtype=Format.FP32):
    return KernelLinear(Bench.prepare(MACHINE, "gemm"), dtype, "smollm2")


def test_an_exact_kernel_changes_nothing_but_the_rounding(installed):
    weights, linear = load_model(installed).weights, hook()
    found = token_losses(weights, IDS, Hooks(linear=linear))
    np.testing.assert_allclose(found, token_losses(weights, IDS), atol=FLOAT32_STEPS)
    expected = [f"layer{layer}.{name}" for layer in range(2) for name in NAMES]
    assert [report.workload for report in linear.reports] == expected
    assert linear.rows == [6] * 14
    assert linear.nonfinite_outputs == 0


def test_kernels_learn_which_linear_of_which_model_it_is(monkeypatch):
    seen = []

    def execute(run, problem, tensors):
        seen.append((problem.name, tensors.linear, tensors.model))
        return None, tensors.a @ tensors.b

    monkeypatch.setattr(Bench, "execute", execute)
    x, weight = np.arange(6.0, dtype=np.float32).reshape(2, 3), np.eye(4, 3, dtype=np.float32)
    np.testing.assert_array_equal(hook()(3, "up", x, weight), x @ weight.T)
    assert seen == [("layer3.up", "layer3.up", "smollm2")]


def test_inputs_and_weights_are_rounded_to_the_format_of_the_memory():
    x, weight = np.full((1, 1), 1 + 2**-12, np.float32), np.full((1, 1), 3.0, np.float32)
    assert hook(Format.FP16)(0, "q", x, weight) == 3
    assert hook(Format.FP16)(0, "q", weight, x) == 3
    assert hook(Format.FP32)(0, "q", x, weight) == 3 * (1 + 2**-12)


def test_outputs_that_are_not_finite_are_counted():
    linear = hook(Format.FP16)
    with np.errstate(over="ignore"):
        linear(0, "q", np.full((2, 3), 200, np.float32), np.full((5, 3), 200, np.float32))
    assert linear.nonfinite_outputs == 10


def test_the_cost_is_that_of_all_linears_of_all_layers_and_windows(text, tmp_path):
    report = evaluate(
        "smollm2",
        Kernels(linear="gemm"),
        machine=MACHINE,
        reading=Reading(text, tokens=6, window=4),
    )
    assert report.attention is None
    shapes = [shape for shape in load_model("smollm2").weights.config.linear_shapes.values()]
    costs = [
        simulate(MACHINE, LoadedWorkload(linear_of(rows, *shape), tmp_path), "gemm")
        for rows in (4, 2)
        for shape in shapes * 2
    ]
    for name in ("cycles", "hbm_read_bytes", "hbm_write_bytes", "macs", "ops"):
        assert getattr(report.linears, name) == sum(getattr(cost, name) for cost in costs), name
    assert report.linears.workload == f"smollm2 on {text}"
    assert report.to_dict()["linears"]["kernel"] == "gemm"


def linear_of(rows, features_out, features_in):
    sizes = {"m": rows, "n": features_out, "k": features_in}
    return GemmProblem(kind="gemm", name="x", **sizes)


def test_both_parts_may_have_kernels_with_their_own_settings(text):
    settings = {"machine.cores": "1"} | EXACT
    report = evaluate(
        "smollm2",
        Kernels("flash(precision=fp32)", "gemm(tile_n=16)"),
        settings,
        MACHINE,
        Reading(text, tokens=6),
    )
    assert abs(report.nll_change.value) < FLOAT32_STEPS
    assert report.attention.kernel == "flash"
    assert report.linears.kernel == "gemm"
    assert report.attention.cores == report.linears.cores == 1
    assert report.linears.settings == report.attention.settings == settings
    assert report.attention.recipe == "flash(precision=fp32)"
    assert report.linears.recipe == "gemm(tile_n=16)"
    shown = {"attention: cycles", "linears: cycles"}
    table = quality_table(report)
    assert shown <= set(table.columns[0]._cells)
    assert table.title == "flash and gemm in smollm2 on ascend-910b-no-l2"


def test_progress_counts_layers_whatever_the_kernel_computes(text):
    steps = []
    evaluate(
        "smollm2",
        Kernels(linear="gemm"),
        reading=Reading(text, tokens=4),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(done, 4) for done in range(5)]
