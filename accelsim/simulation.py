"""Joins the parts: machine, workload and recipe to a report."""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.bench import ENGINES, Bench, Engine, already_loaded
from accelsim.config.document import settings_below
from accelsim.config.sample import Sample
from accelsim.errors import (
    OutputError,
    ShortageError,
    UnknownNameError,
    WorkloadError,
)
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Array, Kernel
from accelsim.layer import (
    common_hardware,
    flows_of,
    one_program,
    program_of_steps,
    reads_of,
    run_as_one,
)
from accelsim.library.base import Hardware
from accelsim.library.capacity import check_layer_fits
from accelsim.library.coded import Part, completions
from accelsim.library.recipe import Recipe
from accelsim.library.sequences import has_one_program
from accelsim.loading import LoadedWorkload, load_workload
from accelsim.numerics.metrics import compare
from accelsim.program.long import held
from accelsim.program.program import Program
from accelsim.program.verifier import verify
from accelsim.report.about import about_all
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.runtime.folders import code_folder
from accelsim.workload.problem import LayerProblem, Problem
from accelsim.workload.tensors import Tensors, load_counted_tensors

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def simulate(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipe: Recipe | str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    engine: Engine = "compiled",
    sample: Sample | str = "never",
    timeline: bool = False,
    one_program: bool = False,
    with_parts: bool = False,
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
    one before left them. Its report has `parts`, which say what each takes alone and how accurate
    it is, only `with_parts`, because they are recorded and scheduled for that.

    Kernels without a program for all steps of a generation run a program for each of them, and the
    report is the sum, or that of one program in the same cases as of a layer.

    `sample` says how much of a program is scheduled: all of it, unless another value is asked for.
    `auto` estimates very long programs from a sample, and their reports have `sampling`, which says
    how much that was and how far off it may be; a share of the ops, above 0 and at most 1, takes
    such a sample of any program. One program of several, and the reference engine, schedule all
    ops. Behind an L2 a sample estimates the time alone, not traffic and energy.

    Raises an AccelsimError for anything that is wrong with the input, DoesNotFitError among them;
    ShortageError for what this computer lacks.
    """
    if engine not in ENGINES:
        raise UnknownNameError(f"unknown engine '{engine}'; known: {', '.join(ENGINES)}")
    run, loaded = _prepare(machine, workload, recipe, settings or {})
    problem, as_one = loaded.problem, timeline or one_program
    run = run.sampling(sample, engine, needs_all="one program" if as_one else "")
    if not isinstance(problem, LayerProblem):
        return _simulate_problem(run, problem, loaded.folder, engine, as_one, timeline)
    if not as_one:
        return _simulate_layer(run, problem, loaded.folder, engine)
    report = _simulate_as_one(run, problem, loaded.folder, engine, timeline)
    if not with_parts:
        return report
    return replace(report, parts=_simulate_layer(run, problem, loaded.folder, engine).parts)


def record(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    recipe: Recipe | str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Program:
    """Return the verified tile program of a recipe, of a layer the one program of all its parts.

    So it is of a generation whose steps are programs of their own.

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
    """Refuse what any of the recipes refuses, before one of them runs; raises as `simulate` does.

    Whatever computes a workload does the same work: what is new, and how many steps there are, has
    one meaning for all kernels.
    """
    for recipe in recipes:
        run, loaded = _prepare(machine, workload, recipe, settings or {})
        for own, problem in _parts_for(run, loaded.problem):
            own.recipe_for(problem)


def _parts_for(run: "Bench", problem: Problem | LayerProblem) -> list[tuple["Bench", Problem]]:
    """Return the problems of a workload, each with what is asked for it."""
    if not isinstance(problem, LayerProblem):
        return [(run, problem)]
    benches = [run.for_part(part) for part in problem.problems]
    asked = zip(benches, problem.problems, problem.sources, strict=True)
    parts = [Part(own.problem, bench.recipe_for(own.problem), reads) for bench, own, reads in asked]
    told = completions(parts)
    whole = [part.recipe.updated(own) for part, own in zip(parts, told, strict=True)]
    check_layer_fits(problem, whole, run.machine)
    return [
        (replace(bench, beside=own), part.problem)
        for bench, own, part in zip(benches, told, parts, strict=True)
    ]


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
            f"{code_folder()}: cannot keep compiled code: {error.strerror}; "
            f"make room, or set XDG_CACHE_HOME to another folder"
        ) from error


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
        steps = [
            held(recorded.program, "a printed program")
            for recorded in run.record(problem, needs_costs=False)
        ]
        program = program_of_steps(problem.name, steps)
        verify(program)
    return program


def _record_layer(run: Bench, layer: LayerProblem) -> Program:
    """Return the verified program of all parts of a layer."""
    recipes, _ = _recipes_of(run, layer)
    parts = [_record(*part) for part in _parts_for(run, layer)]
    with shortages_explained(layer.name):
        program = one_program(layer, parts, flows_of(layer, recipes, parts))
        verify(program)
    return program


def _recipes_of(run: Bench, layer: LayerProblem) -> tuple[list[Recipe], Hardware]:
    """Return the recipes of the parts and the hardware as all use it; raises WorkloadError."""
    problems = [part.problem for part in layer.problems]
    recipes = [own.recipe_for(problem) for own, problem in _parts_for(run, layer)]
    hardware = [run.hardware_for(*each) for each in zip(problems, recipes, strict=True)]
    return recipes, common_hardware(layer, recipes, hardware)


def _simulate_problem(
    run: Bench, problem: Problem, folder: Path, engine: Engine, as_one: bool, with_timeline: bool
) -> Report:
    """Return the report of one problem; as_one: also where its steps are programs of their own."""
    recipe = run.recipe_for(problem)
    if not as_one or has_one_program(recipe.algorithm, problem):
        return _simulate(run, problem, folder, engine, with_timeline)
    with shortages_explained(recipe.kernel):
        tensors, beyond = load_counted_tensors(problem, folder)
        programs, about, output = run.record_whole(problem, tensors, engine)
        program, hardware = (
            program_of_steps(problem.name, programs),
            run.hardware_for(problem, recipe),
        )
        report = run_as_one(about, program, hardware, ENGINES[engine], with_timeline)
        return _judged(report, problem, recipe, tensors, output, beyond)


def _simulate(
    run: Bench, problem: Problem, folder: Path, engine: Engine, with_timeline: bool = False
) -> Report:
    """Return the report of one problem, its output judged by the oracle of the kernel."""
    recipe = run.recipe_for(problem)
    with shortages_explained(recipe.kernel):
        tensors, beyond = load_counted_tensors(problem, folder)
        report, output = run.execute(problem, tensors, engine, with_timeline)
        return _judged(report, problem, recipe, tensors, output, beyond)


def _judged(
    report: Report,
    problem: Problem,
    recipe: Recipe,
    tensors: Tensors | None,
    output: Array | None,
    beyond: int,
) -> Report:
    """Return the report with the accuracy of the output; beyond: inputs out of range."""
    if output is None or tensors is None:
        return report
    accuracy = compare(output, recipe.algorithm.oracle(problem, tensors))
    return replace(report, accuracy=accuracy, inputs_out_of_range=beyond)


def _simulate_layer(run: Bench, layer: LayerProblem, folder: Path, engine: Engine) -> Report:
    """Return the report of the parts one after the other, each of them `count` times."""
    parts = [_simulate(own, problem, folder, engine) for own, problem in _parts_for(run, layer)]
    runs = [report.repeated(part.count) for report, part in zip(parts, layer.problems, strict=True)]
    return replace(in_sequence(runs, layer.name, run.settings), parts=tuple(parts))


def _simulate_as_one(
    run: Bench, layer: LayerProblem, folder: Path, engine: Engine, with_timeline: bool
) -> Report:
    """Return the report of a layer as one program: each part recorded, all scheduled once."""
    recipes, hardware = _recipes_of(run, layer)
    programs, abouts, beyond = [], [], 0
    for part, (own, problem) in zip(layer.problems, _parts_for(run, layer), strict=True):
        with shortages_explained(own.recipe_for(problem).kernel):
            tensors, own_beyond = load_counted_tensors(problem, folder)
            recorded = own.record_whole(problem, tensors, engine)
            programs.append(program_of_steps(problem.name, recorded.programs))
        abouts.append(recorded.about)
        beyond += part.count * own_beyond
    about, flows = about_all(abouts, layer.name, run.settings), flows_of(layer, recipes, programs)
    with shortages_explained(about.kernel):
        program = one_program(layer, programs, flows)
        report = run_as_one(about, program, hardware, ENGINES[engine], with_timeline)
    return replace(report, inputs_out_of_range=beyond, reads=reads_of(layer, flows))
