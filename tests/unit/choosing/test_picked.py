"""The kernel that a library picks for attention is asked for once for equal problems."""

import pytest

from accelsim.choosing.picked import picked
from accelsim.library.npu import Npu
from accelsim.library.registry import library_of
from accelsim.loading import load_machine
from accelsim.runtime import on_disk
from accelsim.workload.problem import AttentionProblem, GemmProblem

STEP = AttentionProblem(
    kind="attention", name="step", q_heads=8, kv_heads=2, head_dim=64, q_len=1, kv_len=700
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "kept_folder", lambda: tmp_path)
    on_disk._kept.clear()
    return tmp_path / "picks"


@pytest.fixture
def asked(monkeypatch):
    """Return a list with an entry for each time that the library is asked."""
    made, recipe = [], Npu.recipe

    def counted(self, problem, machine):
        made.append(problem)
        return recipe(self, problem, machine)

    monkeypatch.setattr(Npu, "recipe", counted)
    return made


def pick(problem, **fields):
    machine = load_machine("ascend-910b-no-l2", fields)
    return picked(library_of(machine), problem, machine)


def test_the_same_question_is_asked_once(asked):
    first = pick(STEP)
    assert pick(STEP.model_copy(update={"name": "another name"})) == first
    assert len(asked) == 1


def test_another_problem_or_machine_is_another_question(asked):
    pick(STEP)
    pick(STEP.model_copy(update={"kv_len": 701}))
    pick(STEP, cores="4")
    assert len(asked) == 3


def test_a_torn_file_is_asked_again(asked, folder):
    first = pick(STEP)
    for path in folder.iterdir():
        path.write_text("dense")
    assert pick(STEP) == first
    assert len(asked) == 2


def test_products_are_asked_each_time(asked, folder):
    product = GemmProblem(kind="gemm", name="p", m=8, n=8, k=8)
    assert pick(product) == pick(product)
    assert len(asked) == 2
    assert not folder.exists()
