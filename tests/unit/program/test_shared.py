"""Programs that are recorded once for work that differs only in its timing."""

import dataclasses

import numpy as np
import pytest

from accelsim import load_workload, simulate
from accelsim.numerics.formats import Format
from accelsim.program import language as al
from accelsim.program.builder import ProgramBuilder
from accelsim.program.shared import MOST_PROGRAMS, PROGRAMS, SharedPrograms, content_of
from accelsim.runtime.jit import jit


@jit
def _load_rows(p, rows, x, buffer):
    for item in range(len(rows)):
        al.begin_item(p, 0)
        al.load(p, al.tile(buffer, item, 1, 4), x, rows[item], 0)


@jit
def _count_items(p, counts):
    for item in range(len(counts)):
        al.begin_item(p, 0)
        counts[item] += 1


def _loads(rows, name="loads", cols=4, *, with_numbers=False):
    builder = ProgramBuilder(name, with_numbers=with_numbers)
    data = np.ones((8, cols), np.float32) if with_numbers else None
    x = builder.tensor("x", "input", 8, cols, Format.FP16, data)
    buffer = builder.buffer("b", 1, 4, Format.FP16, slots=2)
    return builder.record(_load_rows, len(rows), np.array(rows), x, buffer)


def test_equal_work_is_recorded_once():
    assert _loads([1, 2]) is _loads([1, 2])


def test_what_is_found_of_the_words_is_found_once():
    first, second = _loads([1, 2]).with_parameters(tile=1), _loads([1, 2]).with_parameters(tile=2)
    assert first.totals is second.totals
    assert (dict(first.parameters), dict(second.parameters)) == ({"tile": 1}, {"tile": 2})


@pytest.mark.parametrize(
    "other", [{"rows": [1, 3]}, {"name": "other"}, {"cols": 5}], ids=["argument", "name", "tensor"]
)
def test_what_differs_is_recorded_anew(other):
    assert _loads([1, 2]) is not _loads(**{"rows": [1, 2], **other})


def test_equal_numbers_of_another_type_are_not_equal():
    assert content_of((1,)) != content_of((1.0,)) != content_of((True,))


def test_numbers_are_computed_every_time():
    first, second = (_loads([1, 2], with_numbers=True) for _ in range(2))
    assert first is not second


def test_a_loop_that_counts_runs_every_time():
    counts = np.zeros(3, np.int64)
    for _ in range(2):
        ProgramBuilder("counts", with_numbers=False).record(_count_items, 3, counts)
        counts, told = np.zeros(3, np.int64), counts
        assert told.tolist() == [1, 1, 1]


def test_what_has_no_key_is_found_every_time():
    program, asked = _loads([1, 2]), iter(range(9))
    assert [program.find(None, lambda: next(asked)) for _ in range(2)] == [0, 1]
    assert [program.find("a", lambda: next(asked)) for _ in range(2)] == [2, 2]


def test_arguments_without_content_are_not_shared():
    assert content_of((lambda: None,)) is None
    programs, program = SharedPrograms(), _loads([1])
    runs = []

    def record():
        runs.append(1)
        return program

    for _ in range(2):
        programs.recorded("same", (lambda: None,), record)
    assert len(runs) == 2


def test_the_programs_that_nobody_asked_for_longest_are_let_go():
    held = {name: dataclasses.replace(_loads([1, 2]), name=name) for name in "abc"}
    programs = SharedPrograms(most_bytes=2 * held["a"].size_bytes)

    def got(name):
        return programs.recorded(name, (), lambda: dataclasses.replace(held[name]))

    first = {name: got(name) for name in "ab"}
    assert got("a") is first["a"]
    got("c")
    assert got("a") is first["a"]
    assert got("b") is not first["b"]


def test_the_number_of_programs_is_bounded():
    programs, held = SharedPrograms(), _loads([1, 2])
    for i in range(MOST_PROGRAMS + 1):
        programs.recorded(i, (), lambda: dataclasses.replace(held))
    asked = [programs.recorded(i, (), lambda: held) is held for i in (0, 2)]
    assert asked == [True, False]


def test_a_program_larger_than_all_that_may_be_held_is_not():
    programs = SharedPrograms(most_bytes=8)
    first, second = (programs.recorded("a", (), lambda: _loads([1, 2], "large")) for _ in range(2))
    assert first is second  # Of the builder,
    PROGRAMS.forget()
    assert programs.recorded("a", (), lambda: _loads([1, 2], "large")) is not second


@pytest.mark.parametrize("kernel", ["flash", "dense", "pasa"])
def test_a_shared_program_costs_what_one_of_its_own_does(kernel):
    workload = load_workload("attention-2048")
    settings = [{"machine.hbm.bandwidth": f"{n} TB/s", "machine.cores": 4} for n in (1, 2, 1)]
    shared = [simulate("ascend-910b-no-l2", workload, kernel, each).to_dict() for each in settings]
    own = []
    for each in settings:
        PROGRAMS.forget()
        own.append(simulate("ascend-910b-no-l2", workload, kernel, each).to_dict())
    assert shared == own
    assert shared[0] == shared[2] != shared[1]
