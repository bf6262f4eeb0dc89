"""A layer, or a generation, as one program: those of its parts joined, scheduled at one clock."""

from collections.abc import Sequence

from accelsim.accounts.power import Scheduler, schedule_under_cap
from accelsim.errors import WorkloadError
from accelsim.library.base import Hardware
from accelsim.library.recipe import Recipe
from accelsim.program.joining import Part, joined
from accelsim.program.program import Program
from accelsim.report.about import About
from accelsim.report.build import build_report
from accelsim.report.report import Report
from accelsim.workload.problem import LayerProblem


def one_program(layer: LayerProblem, programs: Sequence[Program]) -> Program:
    """Return the program of a layer; programs: of its parts, in order.

    Raises DoesNotFitError for more than a program may have, and WorkloadError for an input that is
    not the output that it is said to be.
    """
    parts = zip(layer.problems, programs, strict=True)
    named = [Part(part.problem.name, program, part.count, part.reads) for part, program in parts]
    return joined(layer.name, named)


def program_of_steps(name: str, programs: Sequence[Program]) -> Program:
    """Return the program of a problem; programs: of it, or of each step of a generation, in order.

    Raises DoesNotFitError for more than a program may have.
    """
    if len(programs) == 1:
        return programs[0]
    return joined(name, [Part("step", program) for program in programs])


def common_hardware(
    layer: LayerProblem, recipes: Sequence[Recipe], hardware: Sequence[Hardware]
) -> Hardware:
    """Return the hardware that all parts of a layer see; raises WorkloadError where they differ.

    recipes, hardware: of its parts, in order. One schedule has one machine: code that uses it in
    another way has other rates, depths and latencies at the same time.
    """
    first, *others = hardware
    for part, recipe, own in zip(layer.problems[1:], recipes[1:], others, strict=True):
        if own != first:
            raise WorkloadError(
                f"{layer.name}: its parts {layer.problems[0].problem.name} ({recipes[0]}) and "
                f"{part.problem.name} ({recipe}) use machine {first.machine.name} in different "
                f"ways, so they cannot be one program; run the layer as the sum of its parts"
            )
    return first


def run_as_one(
    about: About, program: Program, hardware: Hardware, schedule: Scheduler, with_timeline: bool
) -> Report:
    """Return the report of programs that were joined to one; about: what they are together."""
    run = schedule_under_cap(program, *hardware, schedule)
    return build_report(
        run, hardware.technology, about, one_program=True, with_timeline=with_timeline
    )
