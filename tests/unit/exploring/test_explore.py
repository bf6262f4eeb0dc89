"""Whole explorations with fake points: what is found, repeated, resumed, and refused."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from accelsim.errors import AccelsimError, ConfigError, ShortageError, UnknownNameError
from accelsim.exploring import packages
from accelsim.exploring.explore import ExploreResult, explore
from accelsim.exploring.findings import Judge, best_of, comparable, costs_of
from accelsim.exploring.hypervolume import share_of_front
from accelsim.exploring.spec import SAMPLERS, ExploreSpec
from accelsim.sweeps.run import sweep
from accelsim.sweeps.spec import SweepSpec
from tests.unit.exploring import fakes
from tests.unit.sweeps.fakes import read_fake

ENUMERABLE = [name for name in SAMPLERS if name != "gp"]  # which needs PyTorch


@pytest.fixture
def run_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Returns a number for every design that was run, in any process, in order."""
    path = tmp_path / "runs.log"
    path.touch()
    monkeypatch.setenv("RUN_LOG", str(path))
    return lambda: [int(line) for line in path.read_text().split()]


def run(
    folder: Path, spec: ExploreSpec, run_point: Any = fakes.run_trade, **more: Any
) -> ExploreResult:
    options = {"workers": 1, "run_point": run_point, "read": read_fake, **more}
    return explore(spec, folder, **options)


def designs(result: ExploreResult) -> list[tuple[int, int]]:
    return [(row["tile_q"], row["tile_k"]) for row in result.points]


def grid_front(folder: Path, spec: ExploreSpec) -> Any:
    grid = SweepSpec(**spec.model_dump(include=set(SweepSpec.model_fields)))
    done = sweep(grid, folder, workers=1, run_point=fakes.run_trade, read=read_fake)
    judge = Judge(spec)
    return costs_of(best_of(comparable(done.rows, judge), judge), judge), judge


@pytest.mark.parametrize("seed", range(4))
def test_a_tenth_of_the_grid_has_nearly_all_of_the_front(tmp_path: Path, seed: int) -> None:
    spec = fakes.space_of(budget={"points": 120}, seed=seed)
    found = run(tmp_path / "out", spec)
    assert (found.num_points, found.num_designs) == (120, 1200)
    judge, front = Judge(spec), np.array([[1 / tile_q, tile_q] for tile_q in range(1, 41)])
    assert share_of_front(costs_of(found.front, judge), front) >= 0.99


@pytest.mark.parametrize("sampler", ENUMERABLE)
def test_a_space_that_is_used_up_has_the_front_of_the_grid(tmp_path: Path, sampler: str) -> None:
    axes = {"tile_q": [1, 2, 3, 4], "tile_k": [5, 20, 25]}
    spec = fakes.space_of(axes=axes, budget={"points": 100}, sampler=sampler)
    found = run(tmp_path / "out", spec)
    front, judge = grid_front(tmp_path / "grid", spec)
    assert costs_of(found.front, judge).tolist() == front.tolist()
    assert (found.num_points, found.ended_because) == (12, "no other design is left")
    assert [row["tile_k"] for row in found.front] == [20] * 4
    assert found.hypervolume[-1] == {"points": 12, "front": 4, "hypervolume_share": 1.0}


@pytest.mark.parametrize("sampler", ENUMERABLE)
def test_workers_do_not_change_what_is_chosen(tmp_path: Path, sampler: str) -> None:
    spec = fakes.space_of(sampler=sampler, start=8)
    alone = run(tmp_path / "alone", spec)
    together = run(tmp_path / "together", spec, workers=2)
    assert together.points == alone.points
    assert len(set(designs(alone))) == 24
    assert designs(run(tmp_path / "other", spec.model_copy(update={"seed": 1}))) != designs(alone)


def test_a_second_exploration_runs_nothing_again(
    tmp_path: Path, run_log: Callable[[], list[int]]
) -> None:
    short = run(tmp_path / "out", fakes.space_of())
    again = run(tmp_path / "out", fakes.space_of())
    assert (short.num_run, again.num_run) == (24, 0)
    assert (again.points, again.front, again.hypervolume) == (
        *(short.points, short.front, short.hypervolume),
    )
    longer = run(tmp_path / "out", fakes.space_of(budget={"points": 40}))
    assert longer.points[:24] == short.points
    assert (longer.num_run, len(run_log())) == (16, 40)


def test_points_of_a_sweep_in_the_folder_are_not_run_again(tmp_path: Path) -> None:
    axes = {"tile_q": [1, 2, 3], "tile_k": [5, 20]}
    grid_front(tmp_path, fakes.space_of(axes=axes))
    assert run(tmp_path, fakes.space_of(axes=axes)).num_run == 0


PROGRAM = """
import sys
from accelsim.exploring.explore import explore
from tests.unit.exploring import fakes
from tests.unit.sweeps.fakes import read_fake
if __name__ == "__main__":
    explore(fakes.space_of(budget={"points": 40}), sys.argv[1], workers=int(sys.argv[2]),
            run_point=fakes.run_slow, read=read_fake)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_exploration_goes_on_as_if_it_had_not_been(
    tmp_path: Path, run_log: Callable[[], list[int]], workers: int
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(tmp_path / "out"), str(workers)]
    process = subprocess.Popen(command)
    until = time.monotonic() + 60
    while len(run_log()) < 12 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    spec = fakes.space_of(budget={"points": 40})
    went_on = run(tmp_path / "out", spec)
    assert 0 < went_on.num_run < 40
    assert went_on.points == run(tmp_path / "whole", spec).points


def test_what_was_found_is_in_the_folder(tmp_path: Path) -> None:
    found = run(tmp_path, fakes.space_of(maximize=["gain"], minimize=["energy_j"]))
    front = pd.read_csv(tmp_path / "front.csv")
    assert front["point"].tolist() == [row["point"] for row in found.front]
    assert front["energy_j"].is_monotonic_increasing
    assert front["gain"].is_monotonic_increasing
    history = pd.read_csv(tmp_path / "hypervolume.csv")
    assert history["points"].tolist() == [8, 16, 24]
    assert history["hypervolume_share"].is_monotonic_increasing
    assert history["hypervolume_share"].iloc[-1] == 1.0
    assert len(pd.read_csv(tmp_path / "results.csv")) == 24
    assert found.axes == ("tile_q", "tile_k")


def test_designs_that_cannot_run_are_on_no_front(tmp_path: Path) -> None:
    found = run(tmp_path, fakes.space_of(budget={"points": 60}, sampler="quasi_random"))
    assert found.num_by_status["infeasible"] > 0
    assert {row["status"] for row in found.front} == {"ok"}


def test_limits_keep_designs_off_the_front(tmp_path: Path) -> None:
    found = run(tmp_path, fakes.space_of(limits=["energy_j <= 10", "gain > 2"]))
    assert found.front
    assert all(row["energy_j"] <= 10 and row["gain"] > 2 for row in found.front)
    assert any(row["energy_j"] > 10 for row in found.points)


def test_what_is_not_finite_is_on_no_front(tmp_path: Path) -> None:
    axes = {"tile_q": [1, 2, 3, 4], "tile_k": [20]}
    spec = fakes.space_of(axes=axes, minimize=["accuracy.rmse", "energy_j"])
    assert [row["tile_q"] for row in run(tmp_path, spec, fakes.run_lost).front] == [4]


def test_a_front_that_stands_still_ends_it(tmp_path: Path) -> None:
    found = run(
        tmp_path, fakes.space_of(minimize=["energy_j"], stop_after=2, budget={"points": 900})
    )
    assert found.ended_because == "the front did not change in 2 batches"
    assert found.num_points < 900
    assert len({row["hypervolume_share"] for row in found.hypervolume[-3:]}) == 1


def test_time_ends_it_after_the_batch(tmp_path: Path) -> None:
    found = run(tmp_path, fakes.space_of(budget={"time": "1 ns"}))
    assert (found.num_points, found.ended_because) == (8, "the budget of 1e-09 s is used up")


def test_constraints_are_kept_and_excluded_designs_cost_nothing(tmp_path: Path) -> None:
    found = run(tmp_path, fakes.space_of(constraints=["tile_q <= 4", "tile_k != 20"]))
    assert found.num_points == 24
    assert found.num_excluded > 0
    assert all(q <= 4 and k != 20 for q, k in designs(found))


def test_axes_that_matter_are_told(tmp_path: Path) -> None:
    spec = fakes.space_of(minimize=["gain"], budget={"points": 200}, sampler="random")
    found = run(tmp_path, spec)
    assert list(found.importance) == ["tile_q", "tile_k"]
    assert sum(found.importance.values()) == pytest.approx(1)
    assert found.importance["tile_q"] > 0.9


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"minimize": ["time"]},
            UnknownNameError,
            "unknown objective 'time', did you mean 'time_s'?; "
            "known: energy_j, gain, tile_k, tile_q, time_s",
        ),
        ({"minimize": ["kernel"]}, UnknownNameError, "objective 'kernel' is no number: 'flash'"),
        (
            {"limits": ["gains > 1"]},
            UnknownNameError,
            "unknown column of a limit 'gains', did you mean 'gain'?; known: ",
        ),
        (
            {"constraints": ["tile_q < 3", "tile_q > 3"]},
            ConfigError,
            "exploration 'tiles': found no design that meets all constraints, allowed: some; "
            "of 1200 designs 1140 break 'tile_q < 3'",
        ),
        (
            {"axes": {"tile_q": [1]}},
            ConfigError,
            "exploration 'tiles': found one design, allowed: an axis of several values",
        ),
        (
            {"axes": {"tile": [1, 2]}},
            UnknownNameError,
            "unknown kernel parameter 'tile', did you mean 'tile_q'?; known: tile_k, tile_q",
        ),
        ({"settings": {"machine.core": 3}}, AccelsimError, "machine.core: unknown key"),
        (
            {"constraints": ["tile_m > 3"]},
            ConfigError,
            "constraint 'tile_m > 3': 'tile_m' has no value at any point",
        ),
    ],
)
def test_mistakes_are_one_error(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        run(tmp_path, fakes.space_of(**changes))
    assert str(caught.value).startswith(message)


def test_a_mistake_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: tiles\nmachine: big\nworkloads: [prefill]\nkernels: [flash]\n"
        "axes: {tile_q: [1]}\nminimize: [time_s]\nbudget: {points: 8}\n"
    )
    with pytest.raises(ConfigError) as caught:
        explore(file, tmp_path / "out", workers=1, run_point=fakes.run_trade, read=read_fake)
    assert str(caught.value).startswith(f"{file}: exploration 'tiles': found one design")


@pytest.mark.parametrize(
    ("sampler", "missing", "message"),
    [
        (
            *("tpe", "optuna"),
            "an exploration needs the package 'optuna': pip install 'accelsim[explore]'",
        ),
        (
            *("tpe", "scipy.stats"),
            "an exploration needs the package 'scipy': pip install 'accelsim[explore]'",
        ),
        ("gp", "torch", "the sampler gp needs the package 'torch': pip install torch"),
    ],
)
def test_a_missing_package_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str, missing: str, message: str
) -> None:
    real = packages.import_module

    def import_module(name: str) -> Any:
        if name == missing:
            raise ModuleNotFoundError(name)
        return real(name)

    monkeypatch.setattr(packages, "import_module", import_module)
    with pytest.raises(ShortageError) as caught:
        run(tmp_path, fakes.space_of(sampler=sampler))
    assert str(caught.value) == message
