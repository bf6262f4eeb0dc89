"""Which kernels of a layer store codes for which: recipes that are completed, and those refused.

A linear that reads codes says in its recipe how they are made, `input=quantized` and the rest. What
makes its input is told the same, in its own words: `codes=int8, code_groups=8`. Attention tells the
linear in turn how many channels share a scale.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from accelsim.errors import WorkloadError
from accelsim.kernels.integer.code_form import CodedOutput, CodeForm
from accelsim.kernels.integer.coded_output import coded_names
from accelsim.kernels.linear.integer.parameters import CodedInput
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import Recipe
from accelsim.workload.flow import Source
from accelsim.workload.problem import AttentionProblem, GemmProblem, Problem

_INPUT = "a"
"""Input of a linear that can be coded, by its name in the problem."""
_CODED_INPUT = ("x_codes", "x_scale")
"""The same in a program: codes, and scales of rows."""


class Part(NamedTuple):
    """A part of a layer, and what it reads of earlier ones."""

    problem: Problem
    recipe: Recipe
    sources: Mapping[str, Source]


def completions(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what the recipe of each part is to say besides, so that codes flow between them.

    Raises an AccelsimError for parts of which one stores what another does not read.
    """
    told: list[dict[str, Any]] = [{} for _ in parts]

    def parameters_of(number: int) -> Any:
        return parts[number].recipe.updated(told[number]).parameters()

    for number, (problem, _, sources) in enumerate(parts):
        source, reader = sources.get(_INPUT), parameters_of(number)
        if source is None or not isinstance(problem, GemmProblem):
            continue
        if not isinstance(reader, CodedInput) or not reader.reads_rows:
            continue
        maker = parts[source.part]
        _check_maker(parts[number], maker, source)
        told[number] = reader.completed(problem, _run_of(maker.problem))
        form = parameters_of(number).read_form(problem)
        if not parameters_of(source.part).codes:
            told[source.part] = form.settings
    for reader, maker, stored, read in _coded_flows(parts, parameters_of):
        if read != stored:
            raise WorkloadError(
                f"{reader.problem.name} ({reader.recipe}) reads {read or 'values'}, but "
                f"{maker.problem.name} stores {stored}; allowed: the same; what its recipe leaves "
                f"out of codes follows from a linear with input = quantized"
            )
    return told


def tensors_of_codes(recipe: Recipe, name: str, *, is_input: bool) -> tuple[str, ...]:
    """Return the names in a program of a tensor of its problem that is coded; none if it is not."""
    parameters = recipe.parameters()
    if is_input:
        reads = isinstance(parameters, CodedInput) and parameters.reads_rows
        return _CODED_INPUT if reads and name == _INPUT else ()
    stores = isinstance(parameters, CodedOutput) and parameters.form is not None
    return coded_names(name) if stores and name == parameters.coded_name else ()


def _run_of(problem: Problem) -> int:
    """Return the channels of a row that one work item of a producer has; 0: all of them."""
    return problem.widths.value if isinstance(problem, AttentionProblem) else 0


def _check_maker(reader: Part, maker: Part, source: Source) -> None:
    """Refuse a producer that cannot store all that is read as codes; raises WorkloadError."""
    kind, start = maker.recipe.algorithm.parameters, f"{reader.problem.name} ({reader.recipe}) "
    if not issubclass(kind, CodedOutput):
        able = [name for name in kernel_names() if _stores_codes(name)]
        raise WorkloadError(
            f"{start}reads codes of {maker.problem.name}, but kernel {maker.recipe.kernel} stores "
            f"none; kernels that do: {', '.join(able)}; or input = float for "
            f"{reader.problem.name}, in a recipe of its own"
        )
    is_whole = source.stop - source.start == source.columns
    if source.output != kind.coded_name or not is_whole:
        raise WorkloadError(
            f"{start}reads codes of {maker.problem.name}.{source.output}[{source.start}:"
            f"{source.stop}], allowed: all columns of {maker.problem.name}.{kind.coded_name}, "
            f"which is what it can store as codes"
        )


def _stores_codes(name: str) -> bool:
    return issubclass(get_kernel(name).parameters, CodedOutput)


def _coded_flows(
    parts: Sequence[Part], parameters_of: Callable[[int], Any]
) -> Iterator[tuple[Part, Part, CodeForm, CodeForm | None]]:
    """Yield who reads an output that is coded, who makes it, how it is stored, and how read."""
    for number, part in enumerate(parts):
        for name, source in part.sources.items():
            maker, reader = parameters_of(source.part), parameters_of(number)
            if not isinstance(maker, CodedOutput) or source.output != maker.coded_name:
                continue
            stored = maker.stored_form(parts[source.part].problem)
            if stored is not None:
                reads = isinstance(reader, CodedInput) and reader.reads_rows and name == _INPUT
                read = reader.read_form(part.problem) if reads else None
                yield part, parts[source.part], stored, read
