"""Joins the parts: machine, workload and recipe to a report."""

import errno
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.bench import ENGINES, Bench, Engine, already_loaded, settings_below
from accelsim.errors import (
    GenerationWarning,
    OutputError,
    ShortageError,
    UnknownNameError,
    WorkloadError,
)
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Kernel
from accelsim.layer import common_hardware, one_program, run_as_one
from accelsim.library.base import Hardware
from accelsim.library.recipe import Recipe
from accelsim.library.sequences import check_equal_work
from accelsim.loading import LoadedWorkload, load_workload
from accelsim.numerics.metrics import compare
from accelsim.program.program import Program
from accelsim.program.verifier import verify
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.runtime.code_cache import cache_folder
from accelsim.workload.problem import LayerProblem, Problem
from accelsim.workload.tensors import load_counted_tensors

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def simulate(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipe: Recipe | str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    engine: Engine = "compiled",
    timeline: bool = False,
    one_program: bool = False,
) -> Report:
    """Simulate a kernel on a workload: when everything happens, what it costs, what it computes.

    `machine` and `workload` are paths, shipped names, or what `load_machine` and `load_workload`
    return. `recipe` is a kernel with parameters, such as `flash(tile_q=128)`; without one, or with
    `library`, the library of the machine picks it. The library completes the recipe of a kernel
    of its own. Keys of `settings` are `machine.<field>` or `workload.<field>`; values may be text
    as in a file.

    A layer runs its parts one after the other; the library picks the kernels of parts that `recipe`
    is not for. Its report is the sum of theirs. With `one_program`, and with `timeline`, the layer
    runs as one program: one schedule at one clock, in which a part finds the L2 and the DRAM as the
    one before left them. `parts` then says what each takes alone.

    Raises an AccelsimError for anything that is wrong with the input, DoesNotFitError among them;
    ShortageError for what this computer lacks.
    """
    if engine not in ENGINES:
        raise UnknownNameError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    run, loaded = _prepare(machine, workload, recipe, settings or {})
    problem = loaded.problem
    if not isinstance(problem, LayerProblem):
        return _simulate(run, problem, loaded.folder, engine, timeline).report
    if timeline or one_program:
        return _simulate_as_one(run, problem, loaded.folder, engine, timeline)
    return _simulate_layer(run, problem, loaded.folder, engine)


def record(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipe: Recipe | str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Program:
    """Return the verified tile program of a recipe, of a layer the one program of all its parts.

    Raises as `simulate` does.
    """
    run, loaded = _prepare(machine, workload, recipe, settings or {}, needs_costs=False)
    if isinstance(loaded.problem, LayerProblem):
        return _record_layer(run, loaded.problem)
    return _record(run, loaded.problem)


def check_comparison(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipes: Sequence[Recipe | str | None],
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Refuse recipes that compute other work than each other; raises as `simulate` does.

    One is WorkloadError: steps of a generation beside one pass over the same query rows.
    """
    ready = [_prepare(machine, workload, recipe, settings or {}) for recipe in recipes]
    for each in zip(*(_parts_for(run, loaded.problem) for run, loaded in ready), strict=True):
        kernels = [run.recipe_for(problem).algorithm for run, problem in each]
        check_equal_work(kernels, each[0][1])


def _parts_for(run: "Bench", problem: Problem | LayerProblem) -> list[tuple["Bench", Problem]]:
    """Return the problems of a workload, each with what is asked for it."""
    if not isinstance(problem, LayerProblem):
        return [(run, problem)]
    return [(run.for_kind(part.problem.kind), part.problem) for part in problem.problems]


@contextmanager
def shortages_explained(kernel: str) -> Iterator[None]:
    """Turn a lack of memory, or of disk space for compiled code, into an error that says so."""
    try:
        yield
    except MemoryError as error:
        raise ShortageError(
            f"kernel {kernel}: this computer has too little memory free ({error}); "
            f"choose a smaller problem, or one without tensors"
        ) from error
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise OutputError(
            f"{cache_folder()}: cannot keep compiled code: {error.strerror}; "
            f"make room, or set XDG_CACHE_HOME to another folder"
        ) from error


class _Run(NamedTuple):
    """A problem that was run."""

    report: Report
    program: Program


def _prepare(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipe: Recipe | str | None,
    settings: Mapping[str, Any],
    *,
    needs_costs: bool = True,
) -> tuple[Bench, LoadedWorkload]:
    run = Bench.prepare(machine, recipe, settings, needs_costs=needs_costs)
    workload_settings = settings_below("workload", settings)
    if not isinstance(workload, LoadedWorkload):
        workload = load_workload(workload, workload_settings, "--set workload.")
    elif workload_settings:
        raise already_loaded("workload", workload_settings)
    if run.recipe is not None:
        _check_kind(run.recipe.algorithm, workload)
    return run, workload


def _check_kind(kernel: type[Kernel], workload: LoadedWorkload) -> None:
    """Refuse a workload that has nothing for the kernel to do."""
    problem = workload.problem
    parts = problem.problems if isinstance(problem, LayerProblem) else ()
    kinds: set[str] = {part.problem.kind for part in parts} or {problem.kind}
    if kernel.problem_kind not in kinds:
        raise WorkloadError(
            f"kernel {kernel.name} is for {kernel.problem_kind} problems, but "
            f"workload {problem.name} is {' and '.join(sorted(kinds))}"
        )


def _record(run: Bench, problem: Problem) -> Program:
    """Return the verified program of a problem, without numbers."""
    with shortages_explained(run.recipe_for(problem).kernel):
        program = run.record(problem, needs_costs=False).program
        verify(program)
    return program


def _record_layer(run: Bench, layer: LayerProblem) -> Program:
    """Return the verified program of all parts of a layer."""
    _hardware_of(run, layer)
    parts = [_record(run.for_kind(part.problem.kind), part.problem) for part in layer.problems]
    with shortages_explained(layer.name):
        program = one_program(layer, parts)
        verify(program)
    return program


def _hardware_of(run: Bench, layer: LayerProblem) -> Hardware:
    """Return the hardware as all parts of a layer use it; raises WorkloadError."""
    problems = [part.problem for part in layer.problems]
    recipes = [run.for_kind(problem.kind).recipe_for(problem) for problem in problems]
    own = [run.hardware_for(*each) for each in zip(problems, recipes, strict=True)]
    return common_hardware(layer, recipes, own)


def _simulate(
    run: Bench,
    problem: Problem,
    folder: Path,
    engine: Engine,
    with_timeline: bool,
) -> _Run:
    """Return the run of one problem, its output judged by the oracle of the kernel."""
    kernel = run.recipe_for(problem).algorithm
    _warn_of_prompts(kernel, problem)
    with shortages_explained(kernel.name):
        tensors, beyond = load_counted_tensors(problem, folder)
        recorded = run.record(problem, tensors)
        report = run.report(problem, recorded, engine, with_timeline)
        if recorded.output is not None and tensors is not None:
            accuracy = compare(recorded.output, kernel.oracle(problem, tensors))
            report = replace(report, accuracy=accuracy, inputs_out_of_range=beyond)
        return _Run(report, recorded.program)


def _simulate_layer(run: Bench, layer: LayerProblem, folder: Path, engine: Engine) -> Report:
    """Return the report of the parts one after the other, each of them `count` times."""
    parts = [
        _simulate(own, problem, folder, engine, False).report
        for own, problem in _parts_for(run, layer)
    ]
    return _sum_of(run, layer, parts)


def _sum_of(run: Bench, layer: LayerProblem, parts: Sequence[Report]) -> Report:
    runs = [report.repeated(part.count) for report, part in zip(parts, layer.problems, strict=True)]
    return replace(in_sequence(runs, layer.name, run.settings), parts=tuple(parts))


def _simulate_as_one(
    run: Bench, layer: LayerProblem, folder: Path, engine: Engine, with_timeline: bool
) -> Report:
    """Return the report of a layer as one program, and of its parts alone."""
    hardware = _hardware_of(run, layer)
    parts = [
        _simulate(own, problem, folder, engine, False) for own, problem in _parts_for(run, layer)
    ]
    total = _sum_of(run, layer, [part.report for part in parts])
    with shortages_explained(total.kernel):
        program = one_program(layer, [part.program for part in parts])
        return run_as_one(total, program, hardware, ENGINES[engine], with_timeline)


def _warn_of_prompts(kernel: type[Kernel], problem: Problem) -> None:
    """Say so where a kernel of decode steps gets a prompt that is nobody's generation."""
    q_len = getattr(problem, "q_len", 1)
    if kernel.phase == "decode" and q_len > 1 and q_len == getattr(problem, "kv_len", 0):
        text = (
            f"{kernel.name} on {problem.name} computes {q_len} decode steps, one after the other; "
            f"kernels of prefill compute all rows in one pass"
        )
        warnings.warn(text, GenerationWarning, stacklevel=2)
