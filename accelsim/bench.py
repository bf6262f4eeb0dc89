"""A machine with its library, ready to record a problem and to report on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from accelsim.accounts.power import Capped, Scheduler, schedule_under_cap
from accelsim.choosing.asked import Asked
from accelsim.choosing.picked import picked
from accelsim.choosing.trial import Settled, Trial, settled
from accelsim.config.document import plain_settings, settings_below
from accelsim.config.sample import Sample, checked_sample
from accelsim.engine import looped, reference
from accelsim.engine.sampling import choice
from accelsim.engine.sampling.schedule import check_known_traffic
from accelsim.errors import AccelsimError, ConfigError, SampleError, WorkloadError
from accelsim.hardware.costs import missing_costs
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.kernels.base import Array
from accelsim.kernels.registry import is_shipped
from accelsim.library.base import Hardware
from accelsim.library.capacity import check_problem_fits, check_program_fits
from accelsim.library.recipe import Recipe, asked_for
from accelsim.library.registry import library_of
from accelsim.library.sequences import (
    check_kv,
    check_parts,
    check_scores,
    check_sequences,
    one_after_another,
)
from accelsim.library.settings import check_settings
from accelsim.loading import load_machine, load_technology
from accelsim.program.long import AnyProgram, held
from accelsim.program.program import Program
from accelsim.program.verifier import verify
from accelsim.report.about import About, about_all
from accelsim.report.build import build_report
from accelsim.report.report import Report
from accelsim.report.sequence import in_sequence
from accelsim.runtime.kept import once_for_each
from accelsim.workload.problem import LayerPart, Problem
from accelsim.workload.tensors import Tensors

Engine = Literal["compiled", "reference"]
ENGINES: dict[Engine, Scheduler] = {
    "compiled": looped.schedule,
    "reference": reference.schedule,
}


@dataclass(frozen=True)
class Bench:
    """A machine with its library, and what is asked of the kernels: ready for any problem."""

    machine: MachineSpec
    recipe: Recipe | None = None
    """What is asked; None: the library picks the kernel of each problem."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the caller changed of machine and workload, as the report tells it."""
    sample: Sample = "never"
    """How much of a program the compiled engine schedules."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What any recipe says besides, because of other parts of a layer or a model."""

    @classmethod
    def prepare(
        cls,
        machine: MachineSpec | str | Path,
        recipe: Recipe | str | None = None,
        settings: Mapping[str, Any] | None = None,
        *,
        needs_costs: bool = True,
    ) -> "Bench":
        """Check recipe and `settings`: `machine.<field>`; others are the caller's.

        needs_costs: see `load_machine`. Raises ConfigError, UnknownNameError.
        """
        settings = plain_settings(settings or {}, "--set ")
        asked = asked_for(recipe)
        if asked is not None:
            asked.parameters()
        check_settings(settings, asked)
        machine_settings = settings_below("machine", settings)
        if not isinstance(machine, MachineSpec):
            machine = load_machine(
                machine, machine_settings, "--set machine.", needs_costs=needs_costs
            )
        elif machine_settings:
            raise already_loaded("machine", machine_settings)
        return cls(machine, asked, settings)

    def sampling(self, sample: Sample | str, engine: Engine, needs_all: str = "") -> "Bench":
        """Return the same with so much of programs scheduled, which may be text as in a file.

        needs_all: what needs the schedule of all ops, if anything does. Raises SampleError.
        """
        share = checked_sample(sample)
        needs_all = needs_all or ("the reference engine" if engine == "reference" else "")
        if needs_all and not isinstance(share, str):
            raise SampleError(
                f"sample: found {share} with {needs_all}, which schedules all ops; "
                f"allowed: auto or never"
            )
        return replace(self, sample="never" if needs_all else share)

    def for_part(self, part: LayerPart) -> "Bench":
        """Return what is asked for a part of a layer: the recipe, or that of the part, or the
        choice of the library.

        Raises an AccelsimError for a recipe of the part that is none, or is for other problems.
        """
        kind = part.problem.kind
        if self.recipe is not None and self.recipe.algorithm.problem_kind == kind:
            return self
        try:
            own = asked_for(part.recipe)
            if own is not None:
                own.parameters()
        except AccelsimError as error:
            raise error.at(f"part {part.problem.name}") from error
        if own is not None and own.algorithm.problem_kind != kind:
            raise WorkloadError(
                f"part {part.problem.name}: found recipe {own}, whose kernel is for "
                f"{own.algorithm.problem_kind} problems, allowed: kernels for {kind} problems"
            )
        return replace(self, recipe=own)

    def recipe_for(self, problem: Problem) -> Recipe:
        """Return the whole recipe of a problem: what is asked, and the library's for the rest.

        Raises WorkloadError where its kernel cannot take the sequences, DoesNotFitError where its
        tensors do not fit the HBM.
        """
        return _whole_recipe(self, problem)

    def hardware_for(
        self, problem: Problem, recipe: Recipe, clock: float | None = None
    ) -> Hardware:
        """Return the machine, under the power limit in force, as the code of a recipe uses it.

        clock: another one than the machine's.
        """
        machine = self.machine
        if machine.power:
            machine = machine.model_copy(update={"power": machine.power.in_force})
        if clock is not None:
            machine = machine.at_clock(clock)
        own = Hardware(machine, load_technology(machine.technology))
        return library_of(machine).hardware(problem, recipe, own)

    def execute(
        self,
        problem: Problem,
        tensors: Tensors | None = None,
        engine: Engine = "compiled",
        with_timeline: bool = False,
    ) -> tuple[Report, Array | None]:
        """Return the report, its accuracy not judged, and with tensors the output.

        Steps of a generation that are programs of their own run one after the other, and their
        reports add up. A program of a kernel written outside accelsim is verified, which takes less
        time than to record it; raises ProgramError.
        """
        reports, outputs = [], []
        # One by one: the programs of a long generation are large.
        for recorded in self.record(problem, tensors):
            reports.append(self._report(recorded, engine, with_timeline))
            outputs.append(recorded.output)
        if len(reports) == 1:
            return reports[0], outputs[0]
        total = in_sequence(reports, problem.name, self.settings)
        return replace(total, seed=reports[0].seed), _stacked(outputs)

    def record_whole(
        self, problem: Problem, tensors: Tensors | None = None, engine: Engine = "compiled"
    ) -> "Whole":
        """Return what `record` yields together, and what its report will say without a schedule."""
        steps = list(self.record(problem, tensors))
        programs = [held(step.program, "one program of all parts") for step in steps]
        about = self._about(steps[0], engine)
        if len(steps) == 1:
            return Whole(programs, about, steps[0].output)
        abouts = [self._about(step, engine) for step in steps]
        whole = replace(about_all(abouts, problem.name, self.settings), seed=about.seed)
        return Whole(programs, whole, _stacked([step.output for step in steps]))

    def record(
        self, problem: Problem, tensors: Tensors | None = None, *, needs_costs: bool = True
    ) -> Iterator["Recorded"]:
        """Yield the program of a problem with its output, or those of each step of a generation.

        Steps have the recipe of the whole generation.

        needs_costs: whether the technology must have costs for the machine; raises ConfigError if
        it has not, and ProgramError.
        """
        recipe = self.recipe_for(problem)
        for step, values in one_after_another(recipe.algorithm, problem, tensors):
            yield self._recorded(step, recipe, values, needs_costs)

    def report_at(
        self, recorded: "Recorded", clock: float, *, with_timeline: bool = False
    ) -> Report:
        """Return the report of a recorded problem at a clock that something else has found.

        So it is where a cap holds for many kernels together: what this one draws does not count,
        and its report says that it has no cap.
        """
        hardware = self.hardware_for(recorded.problem, recorded.recipe, clock)
        program = held(recorded.program, "a timeline") if with_timeline else recorded.program
        schedule = self._scheduler(recorded, "compiled")
        run = Capped(schedule(program, hardware.machine), hardware.machine, "none")
        about = self._about(recorded, "compiled")
        return build_report(run, hardware.technology, about, with_timeline=with_timeline)

    def _recorded(
        self, problem: Problem, recipe: Recipe, tensors: Tensors | None, needs_costs: bool
    ) -> "Recorded":
        hardware = self.hardware_for(problem, recipe)
        if needs_costs:
            _check_costs(*hardware)
        own = self._settled(problem, recipe, hardware.machine)
        trial = own.trial if tensors is None else None
        program, output = (
            (trial.program, None)
            if trial is not None
            else recipe.algorithm.record(problem, hardware.machine, own.parameters, tensors)
        )
        if not is_shipped(recipe.algorithm):
            program = held(program, "the check of a kernel written elsewhere")
            verify(program)
        check_program_fits(program, self.machine)
        return Recorded(problem, recipe, hardware, program, output, trial)

    def _settled(self, problem: Problem, recipe: Recipe, machine: MachineSpec) -> Settled:
        """Return the parameters with which a recipe is recorded."""
        if not library_of(machine).tries:
            return Settled(recipe.parameters())
        return settled(Asked(recipe.algorithm, problem, machine, recipe.parameters()))

    def _report(self, recorded: "Recorded", engine: Engine, with_timeline: bool) -> Report:
        """Return the report of a recorded problem, its accuracy not judged."""
        machine, technology = recorded.hardware
        program = held(recorded.program, "a timeline") if with_timeline else recorded.program
        schedule = self._scheduler(recorded, engine)
        run = schedule_under_cap(program, machine, technology, schedule)
        if run.machine.clock != machine.clock or run.power_cap == "not met":
            check_known_traffic(run.schedule, machine)
        about = self._about(recorded, engine)
        return build_report(run, technology, about, with_timeline=with_timeline)

    def _scheduler(self, recorded: "Recorded", engine: Engine) -> Scheduler:
        """Return what schedules a recorded problem."""
        if self.sample != "never":
            return partial(choice.schedule, sample=self.sample)
        if recorded.trial is not None and engine == "compiled":
            return recorded.trial.schedule
        return ENGINES[engine]

    def _about(self, recorded: "Recorded", engine: Engine) -> About:
        problem, recipe, _, program, output, _ = recorded
        parameters = recipe.parameters()
        return About(
            workload=problem.name,
            kernel=recipe.kernel,
            recipe=str(recipe),
            library="" if self.recipe else self.machine.library,
            is_exact=recipe.algorithm.is_exact,
            selection_assumed=output is None and recipe.algorithm.selects_by_values(parameters),
            engine=engine,
            seed=getattr(problem.tensors, "seed", None),
            settings=dict(self.settings),
            parameters=_resolved(parameters, program),
        )


@once_for_each
def _whole_recipe(bench: Bench, problem: Problem) -> Recipe:
    """Return the whole recipe of a problem, which its report and its recording ask for."""
    library = library_of(bench.machine)
    if bench.recipe is None:
        recipe = picked(library, problem, bench.machine)
    else:
        recipe = library.completed(bench.recipe, problem, bench.machine)
    recipe = recipe.updated(bench.beside)
    check_sequences(recipe.algorithm, problem)
    check_kv(recipe.algorithm, problem)
    check_scores(recipe.algorithm, problem)
    check_parts(recipe.algorithm, problem)
    check_problem_fits(problem, recipe, bench.machine)
    return recipe


class Recorded(NamedTuple):
    """What became of a problem on a machine."""

    problem: Problem
    recipe: Recipe
    """Whole."""
    hardware: Hardware
    """As the code of the recipe uses it."""
    program: AnyProgram
    output: Array | None
    """None without tensors."""
    trial: Trial | None = None
    """In which the program has been scheduled."""


class Whole(NamedTuple):
    """A problem that was recorded and not scheduled."""

    programs: Sequence[Program]
    """Of the steps of a generation that are programs of their own, else one."""
    about: About
    output: Array | None
    """None without tensors."""


def _stacked(outputs: Sequence[Array | None]) -> Array | None:
    """Return the output of steps, in each of which a head has one row; None without tensors.

    outputs: [heads, head_dim] of each.
    """
    found = [each for each in outputs if each is not None]
    if not found:
        return None
    stacked = np.stack(found, axis=1)
    return stacked.reshape(-1, stacked.shape[-1])


def _resolved(parameters: Any, program: AnyProgram) -> dict[str, Any]:
    """Return what a program was recorded with: what was given, the defaults, the chosen."""
    given: dict[str, Any] = parameters.model_dump(mode="json", exclude_none=True)
    return given | dict(program.parameters)


def _check_costs(machine: MachineSpec, technology: TechnologySpec) -> None:
    """Refuse a machine, however it was made, that the technology has no costs for."""
    missing = missing_costs(machine, technology)
    if missing:
        start = f"machine {machine.name}: "
        raise ConfigError([f"{start}{'.'.join(path)}: {text}" for path, text in missing])


def already_loaded(root: str, settings: Mapping[str, Any]) -> ConfigError:
    """Return the error of settings of what was loaded before."""
    return ConfigError(
        f"{root}.{key}: the {root} is loaded already; override it when loading" for key in settings
    )
