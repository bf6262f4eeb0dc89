"""A new unit, added to a copy of the package by the patch that the documentation shows."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs/examples/extending"
PATCH = EXAMPLE / "unit.patch"

OF_THE_UNIT = {
    "accelsim/hardware/units/table.py",
    "accelsim/hardware/machine.py",
    "accelsim/hardware/technology.py",
    "accelsim/program/ops.py",
}
OF_ITS_CALL = {"accelsim/program/language/table.py", "accelsim/program/language/__init__.py"}
OF_ITS_COSTS = {"configs/technology/28nm.yaml"}


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A folder with a copy of the package and its machines, to which the patch was applied."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("accelsim", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    # In a folder of a repository git would take the paths from the top of that one.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    command = ["git", "apply", "--verbose", str(PATCH)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"make docs/examples/extending/unit.patch anew: {done.stderr}"
    return folder


@pytest.fixture(scope="module")
def printed(extended):
    """What the example prints with the unit there."""
    environment = os.environ | {"PYTHONPATH": str(extended), "XDG_CACHE_HOME": str(extended)}
    command = [sys.executable, str(EXAMPLE / "use_unit.py")]
    done = subprocess.run(
        command, cwd=extended, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_unit_with_an_op_touches_four_files():
    touched = re.findall(r"^\+\+\+ b/(.*)$", PATCH.read_text(), re.MULTILINE)
    assert len(OF_THE_UNIT) == 4
    assert sorted(touched) == sorted(OF_THE_UNIT | OF_ITS_CALL | OF_ITS_COSTS)


def test_the_patch_changes_what_it_names(extended):
    changed = {
        str(path.relative_to(extended))
        for name in ("accelsim", "configs")
        for path in (extended / name).rglob("*")
        if path.suffix in (".py", ".yaml") and not _is_same(path, ROOT / path.relative_to(extended))
    }
    assert changed == OF_THE_UNIT | OF_ITS_CALL | OF_ITS_COSTS


def _is_same(path, other):
    return other.exists() and path.read_bytes() == other.read_bytes()


def test_both_engines_keep_the_unit_busy_for_its_elements(printed):
    # Two tiles of 32 x 64 elements on 16 lanes. To move one, 2 x 4096 B at 256 B a cycle, takes 32.
    tile_cycles = 32 * 64 // 16
    # The queues move a tile at 32 B a cycle, 120 cycles after it was asked for. The second tile
    # arrives when the first leaves the unit, and the store waits for the pipeline of 4 cycles.
    queue_cycles, latency_cycles = 4096 // 32, 120
    cycles = 2 * (latency_cycles + queue_cycles) + 2 * tile_cycles + 4
    for engine in ("compiled", "reference"):
        line = f"accelsim.engine.{engine}: {cycles} cycles, table busy for {2 * tile_cycles}\n"
        assert line in printed


def test_energy_and_area_are_those_of_look_ups_and_entries(printed):
    look_ups = 64 * 64
    line = f"{{'table_look_ups': {look_ups}}}, {look_ups * 0.5e-12:.4g} J\n"
    assert printed.count(line) == 2
    assert f"\n{16 * 256 * 8e-6:.4g} mm2\n" in printed


def test_numbers_are_off_by_half_a_step_of_the_table(printed):
    # 255 steps from -4 to 4; GELU is steepest at sqrt(2), with a slope of 1.129.
    assert printed.startswith(f"largest error {8 / 255 / 2 * 1.129:.3f}\n")


def test_a_machine_without_the_unit_is_refused(printed):
    assert printed.endswith(
        "machine edge-npu has no table, which activation uses; give machine.table to add one\n"
    )


def test_the_output_that_is_shown_is_what_is_printed(printed):
    assert (EXAMPLE / "use_unit.out").read_text() == printed
