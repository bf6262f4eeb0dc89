"""Choices are remembered: by content, never stale, and a torn file is made again."""

import os
import time

import pytest

from accelsim.choosing import asked as asking
from accelsim.choosing import memory
from accelsim.choosing.asked import Asked
from accelsim.choosing.trial import settled
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.loading import load_machine
from accelsim.runtime import on_disk
from accelsim.workload.problem import AttentionProblem

PROMPT = AttentionProblem(
    kind="attention", name="prompt", q_heads=2, kv_heads=2, head_dim=64, q_len=100, kv_len=100
)
FIELDS = {"cores": "4"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(on_disk, "kept_folder", lambda: tmp_path)
    on_disk._kept.clear()
    memory.forget()
    yield tmp_path / "choices"
    memory.forget()


def asked_for(problem=PROMPT, fields=FIELDS, **parameters):
    machine = load_machine("ascend-910b-no-l2", fields)
    return Asked(Flash, problem, machine, Flash.parameters(**parameters))


@pytest.fixture
def rankings(monkeypatch):
    """Return a list with an entry for each time that candidates are ranked."""
    made, rivals = [], Flash.rivals

    def counted(*arguments):
        made.append(arguments)
        return rivals(*arguments)

    monkeypatch.setattr(Flash, "rivals", counted)
    return made


@pytest.mark.parametrize("is_another_process", [False, True])
def test_a_choice_is_made_once(rankings, is_another_process):
    first = settled(asked_for()).parameters
    if is_another_process:
        memory.forget()
    assert settled(asked_for()).parameters == first
    assert len(rankings) == 1


def test_names_are_no_part_of_a_choice(rankings):
    settled(asked_for())
    machine = load_machine("ascend-910b-no-l2", FIELDS).model_copy(update={"name": "other"})
    problem = PROMPT.model_copy(update={"name": "other"})
    settled(Asked(Flash, problem, machine, Flash.parameters()))
    assert len(rankings) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"problem": PROMPT.model_copy(update={"kv_len": 101})},
        {"fields": {"cores": "5"}},
        {"fields": {"cores": "4", "hbm.bandwidth": "400 GB/s"}},
        {"order": "by_head"},
    ],
)
def test_another_content_is_another_choice(rankings, other):
    settled(asked_for())
    settled(asked_for(**other))
    assert len(rankings) == 2


@pytest.mark.parametrize("digest", ["accelsim_digest", "class_digest"])
def test_a_choice_of_other_sources_is_not_found(rankings, digest, monkeypatch):
    settled(asked_for())
    monkeypatch.setattr(asking, digest, lambda *_: "another one")
    settled(asked_for())
    assert len(rankings) == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", None])
def test_a_torn_file_is_made_again(rankings, folder, damage):
    first = settled(asked_for()).parameters
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] if damage is None else damage)
    memory.forget()
    assert settled(asked_for()).parameters == first
    assert len(rankings) == 2
    assert path.read_bytes() == whole


def test_where_nothing_can_be_written_choices_are_made_all_the_same(tmp_path, monkeypatch):
    first = settled(asked_for()).parameters
    (tmp_path / "file").touch()
    monkeypatch.setattr(on_disk, "kept_folder", lambda: tmp_path / "file")
    memory.forget()
    assert settled(asked_for()).parameters == first


def test_what_nobody_has_read_for_long_is_removed(folder):
    settled(asked_for())
    (old,) = folder.iterdir()
    long_ago = time.time() - 100 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    on_disk._kept.clear()
    settled(asked_for(fields={"cores": "5"}))
    assert old not in list(folder.iterdir())


def test_what_is_read_is_as_good_as_new(folder):
    settled(asked_for())
    (path,) = folder.iterdir()
    long_ago = time.time() - 30 * 24 * 3600
    os.utime(path, (long_ago, long_ago))
    memory.forget()
    settled(asked_for())
    assert path.stat().st_mtime > long_ago + 24 * 3600


def test_a_process_holds_so_many_choices(monkeypatch, rankings):
    monkeypatch.setattr(memory, "_MOST", 1)
    for cores in ("4", "5", "4"):
        settled(asked_for(fields={"cores": cores}))
    assert len(memory._held) == 1
    assert len(rankings) == 2


def test_parts_of_a_name_do_not_run_together():
    assert on_disk.name_of("a", "b") != on_disk.name_of("ab", "")
    assert on_disk.name_of("a\nb") != on_disk.name_of("a", "b")
