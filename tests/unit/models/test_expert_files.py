"""Loads of experts as a user writes them, and what an inference makes of them."""

import pytest

from accelsim.errors import WorkloadError
from accelsim.inference.cost import StepModel
from accelsim.inference.request import infer
from accelsim.inference.stored_weights import weight_bytes, weight_bytes_read
from accelsim.loading import LoadedSystem, load_machine, load_system
from accelsim.models.expert_files import expert_load
from accelsim.models.expert_load import Balanced, Histogram, Uniform, Zipf
from accelsim.models.families.registry import read_architecture
from accelsim.models.model import Model
from accelsim.models.plan import Plan
from accelsim.models.step import Step
from tests.small_models import SPARSE

ALLOWED = (
    "uniform, zipf, balanced, spread_<experts>, or a file of rows per expert; what is drawn may "
    "have a seed, zipf(seed=3)"
)


@pytest.fixture(scope="module")
def sparse():
    return read_architecture(SPARSE, "")


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ("uniform", Uniform()),
        ("uniform(seed=7)", Uniform(7)),
        ("zipf", Zipf()),
        ("zipf(seed=7)", Zipf(7)),
        ("balanced", Balanced()),
        ("spread_4", Balanced(4)),
    ],
)
def test_names_are_loads(text, load):
    assert expert_load(text) == load


def test_files_have_counts_alone_or_in_a_column(tmp_path):
    alone, named = tmp_path / "alone.txt", tmp_path / "named.csv"
    alone.write_text("3;1;0\n")
    named.write_text("layer,sorted_counts\n0,4;2;0\n1,2;2;2\n")
    assert expert_load(alone) == Histogram(0, (3.0, 1.0, 0.0))
    assert expert_load(f"{named}(seed=5)") == Histogram(5, (3.0, 2.0, 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1;2\n1;2;3\n",
            "experts: {path}: found lines of 2 and 3 experts, allowed: one line or more, all of as "
            "many experts",
        ),
        (
            "",
            "experts: {path}: found no counts, allowed: one line or more, all of as many experts",
        ),
        (
            "1;many\n",
            "experts: {path}, line 1: found '1;many', allowed: rows of each expert, 0 or more, "
            "separated by ;",
        ),
        (
            "0;0\n",
            "experts: {path}, line 1: found '0;0', allowed: rows of each expert, 0 or more, "
            "separated by ;",
        ),
    ],
)
def test_files_that_are_no_counts_are_refused(text, message, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text(text)
    with pytest.raises(WorkloadError) as caught:
        expert_load(path)
    assert str(caught.value) == message.format(path=path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zif", f"found 'zif', did you mean 'zipf'? allowed: {ALLOWED}"),
        ("nope", f"found 'nope', allowed: {ALLOWED}"),
        ("zipf(sed=3)", f"found 'zipf(sed=3)', allowed: {ALLOWED}"),
        ("balanced(seed=3)", "found 'balanced(seed=3)', allowed: balanced, which draws nothing"),
        ("spread_4(seed=3)", "found 'spread_4(seed=3)', allowed: spread_4, which draws nothing"),
        ("counts.csv", "counts.csv: cannot be read: No such file or directory"),
        ("loads/counts(seed=3)", "loads/counts: cannot be read: No such file or directory"),
        ("/", "/: cannot be read: Is a directory"),
        ("counts\0.csv", "counts\0.csv: cannot be read: embedded null byte"),
    ],
)
def test_what_is_neither_a_name_nor_a_file_is_refused(text, message):
    with pytest.raises(WorkloadError) as caught:
        expert_load(text)
    assert str(caught.value) == f"experts: {message}"


def test_a_seed_draws_anew(sparse):
    loads = {
        text: tuple(expert_load(text).loads(64, 8, 2, 2))
        for text in ("uniform", "uniform(seed=0)", "uniform(seed=1)")
    }
    assert loads["uniform"] == loads["uniform(seed=0)"] != loads["uniform(seed=1)"]
    first, second = (
        infer(Model(sparse, experts=f"zipf(seed={seed})"), "ascend-910b", batch=64, prompt=8)
        for seed in (0, 1)
    )
    assert first.asked == {"experts": "zipf(seed=0)"}
    assert first.time_s != second.time_s


def test_a_choice_for_a_model_without_experts_is_refused():
    with pytest.raises(WorkloadError) as caught:
        infer(Model("llama-3.1-8b", experts="zipf"), "h200", prompt=8)
    assert str(caught.value) == (
        "experts: found zipf for model llama-3.1-8b, which has none, "
        "allowed: only for a model with experts"
    )


def test_a_histogram_of_another_model_is_refused(tmp_path, sparse):
    path = tmp_path / "counts.txt"
    path.write_text("1;2;3")
    with pytest.raises(WorkloadError) as caught:
        infer(Model(sparse, experts=path), "ascend-910b", prompt=8)
    assert str(caught.value) == (
        "experts: found a histogram of 3 experts, allowed: 8, as the model has"
    )


def test_weights_of_all_experts_are_in_memory_and_those_with_rows_are_read(sparse):
    system = load_system("ascend-910b")
    machine = load_machine(system.machine)
    expert_bytes = 3 * 128 * 64 * 2
    spread = StepModel(sparse, LoadedSystem(system, machine), plan=Plan(Balanced(4)))
    step = Step.decode(4, 16)
    assert weight_bytes(spread, step) == sparse.weight_bytes
    read = weight_bytes(spread, step) - sparse.table_bytes - 3 * 4 * expert_bytes
    assert weight_bytes_read(spread, step) == read


def test_an_inference_says_how_much_its_loads_differ(sparse):
    drawn = infer(Model(sparse, experts="uniform"), "ascend-910b", batch=4, prompt=8, output=3)
    assert drawn.draw_spread > 0
    assert "experts gate-up" in drawn.decode.recipes
    even = infer(Model(sparse, experts=Balanced()), "ascend-910b", batch=4, prompt=8, output=3)
    assert even.draw_spread == 0
    assert even.memory.weights_bytes == drawn.memory.weights_bytes
    few = infer(Model(sparse, experts="spread_2"), "ascend-910b", batch=4, prompt=8, output=3)
    assert few.decode.hbm_bytes < even.decode.hbm_bytes
