"""A layer, or a generation, as one program: those of its parts joined, scheduled at one clock."""

from collections.abc import Sequence
from typing import NamedTuple

from accelsim.accounts.power import Scheduler, schedule_under_cap
from accelsim.errors import WorkloadError
from accelsim.library.base import Hardware
from accelsim.library.coded import tensors_of_codes
from accelsim.library.recipe import Recipe
from accelsim.program.joining import Part, Stored, can_read, joined
from accelsim.program.program import Program
from accelsim.report.about import About
from accelsim.report.build import build_report
from accelsim.report.report import Report
from accelsim.workload.flow import Source
from accelsim.workload.problem import LayerProblem


class Flow(NamedTuple):
    """An input of a part of a layer that an earlier part is said to store."""

    part: int
    name: str
    """Of the input in the problem."""
    source: str
    """As the workload says it."""
    stored: dict[str, Stored]
    """What its tensors are in the program of the part; none where they are in another form."""


def flows_of(
    layer: LayerProblem, recipes: Sequence[Recipe], programs: Sequence[Program]
) -> list[Flow]:
    """Return what flows from part to part; recipes, programs: of the parts, in order."""
    flows = []
    for number, sources in enumerate(layer.sources):
        for name, source in sources.items():
            tensors = _stored_as(recipes[number], name, is_input=True)
            outputs = _stored_as(recipes[source.part], source.output, is_input=False)
            both = programs[source.part], programs[number]
            found = {}
            for tensor, output in zip(tensors, outputs, strict=False):
                if stored := _stored(source, output, *both, tensor):
                    found[tensor] = stored
            is_whole = len(found) == len(tensors) == len(outputs)
            text = layer.problems[number].reads[name]
            flows.append(Flow(number, name, text, found if is_whole else {}))
    return flows


def _stored_as(recipe: Recipe, name: str, *, is_input: bool) -> tuple[str, ...]:
    """Return the names in a program of what a tensor of its problem is there."""
    coded = tensors_of_codes(recipe, name, is_input=is_input)
    return coded or (recipe.algorithm.stored_as.get(name, name),)


def _stored(
    source: Source, output: str, program: Program, reader: Program, name: str
) -> Stored | None:
    """Return where a program has an output, or columns of it; None if `reader` cannot read it.

    Columns are taken to lie one after another, each with its rows: what is stored by a product
    is read by parts whose rows are others, such as those of heads.
    """
    for tensor in program.tensors:
        if (tensor.name, tensor.role) == (output, "output"):
            first_byte = tensor.size_bytes * source.start // source.columns
            size_bytes = tensor.size_bytes * source.stop // source.columns - first_byte
            if can_read(reader, name, tensor, size_bytes):
                return Stored(source.part, output, first_byte)
    return None


def one_program(layer: LayerProblem, programs: Sequence[Program], flows: Sequence[Flow]) -> Program:
    """Return the program of a layer; programs: of its parts, in order.

    Raises DoesNotFitError for more than a program may have.
    """
    reads: list[dict[str, Stored]] = [{} for _ in programs]
    for flow in flows:
        reads[flow.part].update(flow.stored)
    parts = zip(layer.problems, programs, reads, strict=True)
    named = [Part(part.problem.name, program, part.count, own) for part, program, own in parts]
    return joined(layer.name, named)


def reads_of(layer: LayerProblem, flows: Sequence[Flow]) -> dict[str, str]:
    """Return each input that is said to flow, and what it is; empty where it lies by itself."""
    names = [part.problem.name for part in layer.problems]
    return {
        f"{flow.part}.{names[flow.part]}.{flow.name}": flow.source if flow.stored else ""
        for flow in flows
    }


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
