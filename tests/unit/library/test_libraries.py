"""Libraries: what each picks, that it runs, and that it is what is written."""

from dataclasses import replace
from itertools import product as product_of
from pathlib import Path

import numpy as np
import pytest

from accelsim.bench import Bench
from accelsim.config.shipped import known_names
from accelsim.errors import AccelsimError, DoesNotFitError, UnknownNameError
from accelsim.kernels.base import Kernel
from accelsim.library import registry
from accelsim.library.npu import Npu
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_names, library_of, register_library
from accelsim.loading import LoadedWorkload, load_machine
from accelsim.numerics.formats import Format
from accelsim.quality.linear import KernelLinear
from accelsim.simulation import record, simulate
from accelsim.sweeps.outcome import simulate_point
from accelsim.workload.problem import (
    AttentionProblem,
    GemmProblem,
    GroupedGemmProblem,
    LayerProblem,
    VectorProblem,
)

HEADS = {"q_heads": 4, "kv_heads": 2, "head_dim": 64}
ASICS = ("tender-asic", "mx-asic", "mxint-asic")
NEED_ROOTS = sorted(product_of(ASICS, ("rmsnorm", "layernorm", "add_rmsnorm", "add_layernorm")))
"""Machine and function that no kernel can compute if the vector unit takes no square roots."""
WITHOUT_CUBE = {("tender-asic", "experts"), ("mxint-asic", "experts")}
"""No kernel computes products of experts on an integer array."""
WITHOUT_SHIFTS = {("mxint-asic", "prefill"), ("mxint-asic", "decode")}
"""Attention in integers doubles accumulators between two groups of channels."""
LACKING = WITHOUT_CUBE | WITHOUT_SHIFTS


def attention(q_len, **keys):
    shape = {**HEADS, "q_len": q_len, "kv_len": 96, **keys}
    return AttentionProblem(kind="attention", name="attention", **shape)


def product(**keys):
    return GemmProblem(kind="gemm", name="product", m=48, n=64, k=96, **keys)


def function(name, **keys):
    return VectorProblem(kind="vector", name=name, function=name, rows=40, cols=256, **keys)


def experts(**keys):
    sizes = {"rows": (20, 0, 1, 27), "n": 64, "k": 96}
    return GroupedGemmProblem(kind="grouped_gemm", name="experts", **sizes, **keys)


PROBLEMS = {
    "prefill": attention(96, causal=True),
    "decode": attention(1),
    "product": product(),
    **{name: function(name) for name in ("softmax", "rmsnorm", "layernorm", "gelu", "silu_mul")},
    **{name: function(name) for name in ("copy", "silu", "add_rmsnorm", "argmax")},
    **{name: function(name) for name in ("gelu_mul", "relu", "add_layernorm")},
    "rotary": function("rotary", head_dim=64, table_rows=100),
    "embedding": function("embedding", table_rows=100),
    "join_heads": function("join_heads", head_dim=64, y_cols=32),
    "kv_write": function("kv_write", table_rows=100, page=16),
    "router": function("router", top_k=6),
    "permute": function("permute", top_k=6),
    "combine": function("combine", top_k=6),
    "experts": experts(),
}


def ran(machine, problem, recipe=None):
    return simulate(machine, LoadedWorkload(problem, Path()), recipe)


@pytest.mark.parametrize(
    ("machine", "name"),
    sorted({*product_of(known_names("machine"), PROBLEMS)} - LACKING),
)
def test_what_a_library_picks_runs_and_is_what_it_says(machine, name):
    """The recipe of a report, given by the caller, gives the same report."""
    picked = ran(machine, PROBLEMS[name])
    assert picked.library == load_machine(machine).library
    named = ran(machine, PROBLEMS[name], picked.recipe)
    assert named.recipe == picked.recipe
    assert replace(named, library=picked.library) == picked


@pytest.mark.parametrize(("machine", "name"), NEED_ROOTS)
def test_what_no_kernel_could_compute_is_said_by_the_kernel(machine, name):
    with pytest.raises(DoesNotFitError) as found:
        ran(load_machine(machine, {"vector.costs.square_root": None}), PROBLEMS[name])
    assert str(found.value) == (
        f"machine {machine}: its vector unit has no square_root, which vector on {name} uses; "
        "give vector.costs.square_root to add it"
    )


@pytest.mark.parametrize("fmt", ["bf16", "fp8_e4m3", "int8"])
def test_products_of_every_format_that_the_h200_has(fmt):
    picked = ran("h200-sxm", product(dtype=fmt))
    named = ran("h200-sxm", product(dtype=fmt), picked.recipe)
    assert replace(named, library="hopper") == picked


@pytest.mark.parametrize(
    ("machine", "name", "kernel"),
    [
        ("ascend-910b", "prefill", "flash"),
        ("ascend-910b", "decode", "split_kv"),
        ("ascend-910b", "product", "gemm"),
        ("ascend-910b", "softmax", "vector"),
        ("ascend-910b", "rotary", "vector"),
        ("ascend-910b", "experts", "grouped_gemm"),
        ("h200-sxm", "experts", "grouped_gemm"),
        ("h200-sxm", "argmax", "vector"),
        ("tender-asic", "prefill", "int_flash"),
        ("tender-asic", "decode", "int_flash"),
        ("tender-asic", "product", "quantized"),
        ("mxint-asic", "product", "mx"),
        ("mx-npu", "product", "gemm"),
        ("h200-sxm", "prefill", "flash"),
        ("h200-sxm", "decode", "split_kv"),
        ("h200-sxm", "product", "gemm"),
        ("h200-sxm", "softmax", "vector"),
    ],
)
def test_the_kernel_of_an_operation(machine, name, kernel):
    loaded = load_machine(machine)
    assert library_of(loaded).recipe(PROBLEMS[name], loaded).kernel == kernel


def test_what_is_asked_is_kept_and_the_rest_completed():
    machine = load_machine("h200-sxm")
    library = library_of(machine)
    own = library.recipe(PROBLEMS["prefill"], machine)
    asked = Recipe("flash", tile_q=32, precision="fp16")
    completed = library.completed(asked, PROBLEMS["prefill"], machine)
    assert completed.settings == own.settings | asked.settings
    assert completed.settings["tile_q"] == 32
    # A kernel that is not the library's choice is left to itself.
    assert library.completed(Recipe("dense"), PROBLEMS["prefill"], machine) == Recipe("dense")


def test_parameters_that_the_library_gives_can_be_taken_away():
    report = ran("h200-sxm", PROBLEMS["prefill"], "flash(query_tiles=1)")
    assert report.recipe == "flash(order=by_head, query_tiles=1, tile_k=128, tile_q=64)"
    assert report.library == ""


def test_every_command_runs_the_same_recipe(tmp_path):
    """A layer, a sweep, a comparison and a bench give the cycles of the recipe as it is written."""
    machine = load_machine("h200-sxm")
    problem = product(dtype="bf16")
    recipe = str(library_of(machine).recipe(problem, machine))
    expected = ran(machine, problem, recipe)
    layer = LayerProblem.model_validate(
        {"kind": "layer", "name": "l", "problems": [problem.model_dump()]}
    )
    (part,) = ran(machine, layer).parts
    assert (part.cycles, part.recipe, part.library) == (expected.cycles, recipe, "hopper")
    bench, _ = Bench(machine).execute(problem)
    assert bench.cycles == expected.cycles
    file = tmp_path / "w.yaml"
    file.write_text("{kind: gemm, name: product, m: 48, n: 64, k: 96, dtype: bf16}")
    for kernel in ("library", "gemm", recipe):
        row = simulate_point("h200-sxm", str(file), kernel, {})
        assert (row["cycles"], row["recipe"]) == (expected.cycles, recipe)


def test_linears_of_a_model_run_what_the_library_completes():
    machine = load_machine("h200-sxm")
    linear = KernelLinear(Bench.prepare(machine, "gemm"), Format.BF16, "smollm2")
    x, weight = np.ones((48, 96), np.float32), np.ones((64, 96), np.float32)
    np.testing.assert_array_equal(linear(0, "q", x, weight), np.full((48, 64), 96))
    (report,) = linear.reports
    expected = ran(machine, product(dtype="bf16"))
    assert (report.cycles, report.recipe) == (expected.cycles, expected.recipe)


def test_a_program_is_that_of_the_recipe():
    workload = LoadedWorkload(PROBLEMS["prefill"], Path())
    recipe = ran("h200-sxm", PROBLEMS["prefill"]).recipe
    picked, named = record("h200-sxm", workload), record("h200-sxm", workload, recipe)
    assert picked.num_ops == named.num_ops


def test_the_code_of_a_recipe_changes_what_it_costs():
    recipe = ran("h200-sxm", PROBLEMS["prefill"]).recipe
    older = ran("h200-sxm", PROBLEMS["prefill"], Recipe.parse(recipe).updated({"code": "warps"}))
    newer = ran("h200-sxm", PROBLEMS["prefill"], recipe)
    assert older.cycles > newer.cycles
    assert older.macs == newer.macs


@pytest.mark.parametrize(
    ("machine", "recipe", "message"),
    [
        (
            "h200-sxm",
            "flash(code=warp)",
            "recipe 'flash(code=warp, order=by_head, query_tiles=2, tile_k=128, tile_q=64)': code: "
            "found 'warp', allowed by library hopper: eager, warps, fused, prepared",
        ),
        (
            "edge-npu",
            "flash(code=warps)",
            "recipe 'flash(code=warps)': code: found 'warps', allowed by library npu: none",
        ),
    ],
)
def test_code_that_a_library_does_not_have(machine, recipe, message):
    with pytest.raises(UnknownNameError) as found:
        ran(machine, PROBLEMS["prefill"], recipe)
    assert str(found.value) == message


def test_a_machine_file_with_a_library_that_nobody_knows(tmp_path):
    file = tmp_path / "m.yaml"
    file.write_text("extends: edge-npu\nname: own\nlibrary: hoper\n")
    with pytest.raises(AccelsimError) as found:
        ran(file, PROBLEMS["prefill"])
    assert str(found.value) == (
        "machine own: unknown library 'hoper', did you mean 'hopper'?; known: hopper, npu"
    )


class Dense(Npu):
    """A library that knows one kernel for attention."""

    name = "all_dense"

    def recipe(self, problem, machine):
        if isinstance(problem, AttentionProblem):
            return Recipe("dense", tile_q=16)
        return super().recipe(problem, machine)


def test_a_library_from_outside_is_used_by_the_machines_that_name_it(monkeypatch):
    monkeypatch.setattr(registry, "_LIBRARIES", dict(registry._LIBRARIES))
    library = register_library(Dense())
    assert library_names() == ["npu", "hopper", "all_dense"]
    machine = load_machine("edge-npu", {"library": "all_dense"})
    assert library_of(machine) is library
    report = ran(machine, PROBLEMS["prefill"])
    assert (report.recipe, report.library) == ("dense(tile_q=16)", "all_dense")
    with pytest.raises(ValueError, match=r"^a library named 'all_dense' is registered already$"):
        register_library(Dense())


@pytest.mark.parametrize("library", list(registry._LIBRARIES.values()), ids=library_names())
def test_every_library_says_what_it_is(library):
    assert library.summary
    assert registry._LIBRARIES[library.name] is library
    assert issubclass(
        library.recipe(PROBLEMS["prefill"], load_machine("h200-sxm")).algorithm, Kernel
    )


@pytest.mark.parametrize(("head_dim", "value_dim"), [(256, 256), (192, 128)])
def test_prompts_and_steps_of_wide_heads_fit_a_hopper(head_dim, value_dim):
    machine = load_machine("h200-sxm")
    widths = {"head_dim": head_dim, "value_dim": value_dim}
    report = ran(machine, attention(512, kv_len=512, causal=True, **widths))
    assert report.kernel == "flash"
    assert ran(machine, attention(1, kv_len=512, **widths)).kernel == "split_kv"


@pytest.mark.parametrize("lengths", [{"q_len": 512, "kv_len": 512}, {"q_len": 1, "kv_len": 9000}])
def test_widened_caches_fit_the_tiles_of_a_gpu(lengths):
    """Both forms of a tile of keys are on chip."""
    machine = load_machine("h200-sxm")
    fields = {"kind": "attention", "name": "a", "q_heads": 32, "kv_heads": 8, "head_dim": 128}
    problem = AttentionProblem.model_validate(
        fields | lengths | {"dtype": "bf16", "kv_dtype": "fp8_e4m3"}
    )
    assert ran(machine, problem).parameters["tile_k"] == 64
