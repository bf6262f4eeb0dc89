"""What does not fit the HBM is refused: by a lower bound first, then by the program itself."""

import pytest
import yaml

from accelsim.bench import Bench
from accelsim.errors import DoesNotFitError
from accelsim.library.capacity import check_layer_fits, stored_bytes
from accelsim.library.recipe import asked_for
from accelsim.loading import load_machine, load_workload
from accelsim.simulation import check_comparison, record, simulate
from accelsim.sweeps.outcome import run_safely, simulate_point
from accelsim.sweeps.resolve import Point
from accelsim.workload.problem import AttentionProblem, GemmProblem, LayerProblem

GEMM = {"kind": "gemm", "name": "product", "m": 64, "n": 128, "k": 256}
GEMM_BYTES = 2 * (64 * 256 + 256 * 128 + 64 * 128)
HEADS = {"kind": "attention", "name": "heads", "q_heads": 2, "kv_heads": 2}
HEADS = {**HEADS, "q_len": 128, "kv_len": 256, "head_dim": 64, "causal": False}


def machine_with(capacity_bytes, name="ascend-910b-no-l2"):
    return load_machine(name, {"hbm.capacity": f"{capacity_bytes} B"})


def workload_of(tmp_path, **fields):
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(fields))
    return load_workload(file)


def test_a_problem_of_exactly_the_capacity_runs_and_one_byte_less_does_not(tmp_path):
    workload = workload_of(tmp_path, **GEMM)
    report = simulate(machine_with(GEMM_BYTES), workload, "gemm")
    assert report.cycles > 0
    with pytest.raises(DoesNotFitError) as caught:
        simulate(machine_with(GEMM_BYTES - 1), workload, "gemm")
    assert str(caught.value) == (
        f"workload product does not fit the HBM of machine ascend-910b-no-l2: its tensors take "
        f"{GEMM_BYTES} B, 1 B more than the {GEMM_BYTES - 1} B (0.0001068 GiB) that are there; "
        f"largest: b 65536 B, a 32768 B, c 16384 B; "
        f"choose a smaller problem, narrower formats or a larger hbm.capacity"
    )


def test_a_banked_memory_is_made_larger_by_stacks(tmp_path):
    rows = 2**33 // (2 * 8192) + 1
    workload = workload_of(
        tmp_path, kind="vector", name="copy", function="copy", rows=rows, cols=8192
    )
    with pytest.raises(DoesNotFitError, match=r"more hbm.stacks or a larger hbm.standard"):
        simulate("ascend-910b-banked", workload, settings={"machine.hbm.stacks": 1})


def test_every_door_refuses_before_work_begins(tmp_path, monkeypatch):
    """Nothing is drawn and nothing recorded: neither is reached."""
    from accelsim import simulation
    from accelsim.kernels.linear.gemm import Gemm

    def reached(*_):
        raise AssertionError("work has begun")

    monkeypatch.setattr(simulation, "load_counted_tensors", reached)
    monkeypatch.setattr(Gemm, "record", reached)
    workload, machine = workload_of(tmp_path, **GEMM), machine_with(1000)
    for run in (simulate, record):
        with pytest.raises(DoesNotFitError, match="does not fit the HBM"):
            run(machine, workload, "gemm")
    with pytest.raises(DoesNotFitError, match="does not fit the HBM"):
        check_comparison(machine, workload, ["gemm", None])


def test_a_point_of_a_sweep_becomes_a_row_with_the_reason():
    settings = {"machine.hbm.capacity": "6291455 B"}
    point = Point(
        id="one",
        version="",
        label="",
        machine="edge-npu",
        workload="gemm-1024",
        kernel="gemm",
        settings=settings,
        columns={},
    )
    outcome = run_safely(simulate_point, point)
    assert outcome.status == "infeasible"
    assert "6291456 B, 1 B more than the 6291455 B" in outcome.reason


def test_what_a_kernel_keeps_in_between_counts(tmp_path):
    """Scores and weights of dense attention lie in HBM; the problem alone would fit."""
    workload = workload_of(tmp_path, **HEADS)
    own = sum(workload.problem.tensor_bytes.values())
    simulate(machine_with(own), workload, "flash")
    with pytest.raises(DoesNotFitError, match=r"^dense on heads does not fit.*largest: s \d+ B"):
        simulate(machine_with(own), workload, "dense")


LAYER = {
    "kind": "layer",
    "name": "mlp",
    "problems": [
        {**GEMM, "name": "up", "count": 2},
        {**GEMM, "name": "down", "n": 256, "k": 128, "reads": {"a": "up"}},
    ],
}
UP_INPUTS = 2 * (64 * 256 + 256 * 128)
DOWN_WEIGHTS = 2 * 128 * 256
PASSING = 2 * (64 * 128 + 64 * 256)


@pytest.mark.parametrize("as_one", [False, True])
def test_a_layer_holds_weights_and_inputs_and_what_its_largest_part_passes_on(tmp_path, as_one):
    workload = workload_of(tmp_path, **LAYER)
    needed = UP_INPUTS + DOWN_WEIGHTS + PASSING
    simulate(machine_with(needed), workload, one_program=as_one)
    with pytest.raises(DoesNotFitError, match=rf"^workload mlp does not.* {needed} B, 1 B more"):
        simulate(machine_with(needed - 1), workload, one_program=as_one)


def test_a_layer_whose_parts_fit_one_by_one_is_refused(tmp_path):
    workload = workload_of(tmp_path, **LAYER)
    needed = UP_INPUTS + DOWN_WEIGHTS + PASSING
    assert max(sum(part.problem.tensor_bytes.values()) for part in workload.problem.problems) < (
        needed - 1
    )
    with pytest.raises(DoesNotFitError, match=r"largest: up\.b 65536 B, down\.b 65536 B"):
        record(machine_with(needed - 1), workload)


CASES = [
    ("ascend-910b-no-l2", "gemm", "product"),
    ("ascend-910b-no-l2", "gemm(output_format=bf16)", "wide"),
    ("ascend-910b-no-l2", "weight_only", "product"),
    ("ascend-910b-no-l2", "weight_only(bits=8)", "product"),
    ("ascend-910b-no-l2", "flash", "heads"),
    ("ascend-910b-no-l2", "flash(codes=int8)", "heads"),
    ("ascend-910b-no-l2", "dense", "heads"),
    ("ascend-910b-no-l2", "sage", "heads"),
    ("ascend-910b-no-l2", "sage(shift=cached)", "heads"),
    ("ascend-910b-no-l2", "pasa", "heads"),
    ("tender-asic", "tender(input=quantized, activation_bits=4, weight_bits=4)", "product"),
    ("tender-asic", "tender", "product"),
    ("tender-asic", "int_flash(input=quantized)", "heads"),
    ("tender-asic", "int_flash(codes=int8)", "heads"),
    ("mx-npu", "mx", "product"),
    ("mx-npu", "mx(weights=mxfp4, activations=mxfp8_e4m3, input=quantized)", "wide"),
]


@pytest.mark.parametrize(("machine", "recipe", "name"), CASES)
def test_the_bound_before_recording_is_at_most_what_the_program_has(machine, recipe, name):
    problem = {
        "product": GemmProblem(**GEMM),
        "wide": GemmProblem(**GEMM, dtype="fp32"),
        "heads": AttentionProblem(**HEADS),
    }[name]
    bench = Bench.prepare(machine, asked_for(recipe))
    (recorded,) = bench.record(problem, needs_costs=False)
    bound = sum(stored_bytes(problem, recorded.recipe).values())
    assert bound <= sum(tensor.size_bytes for tensor in recorded.program.tensors)


def test_a_layer_of_parts_that_say_nothing_of_flows_counts_their_inputs():
    parts = [{**GEMM, "name": name} for name in ("one", "two")]
    layer = LayerProblem.model_validate({"kind": "layer", "name": "both", "problems": parts})
    recipe = asked_for("gemm")
    needed = 2 * UP_INPUTS + 2 * 64 * 128
    check_layer_fits(layer, [recipe, recipe], machine_with(needed))
    with pytest.raises(DoesNotFitError, match=f"take {needed} B, 1 B more"):
        check_layer_fits(layer, [recipe, recipe], machine_with(needed - 1))
