"""What must lie in the HBM of a machine, and the refusal of what does not fit there.

Before anything is recorded: the tensors of a problem, or of a layer, each as its kernel stores it.
After it: all tensors of the program, with what the kernel keeps there in between.
"""

from collections.abc import Mapping, Sequence

from accelsim.errors import DoesNotFitError
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.library.recipe import Recipe
from accelsim.program.long import AnyProgram
from accelsim.units import GIB
from accelsim.workload.base import bytes_of
from accelsim.workload.problem import LayerProblem, Problem

_MOST_LISTED = 4
"""Tensors that a refusal names, the largest first."""


def check_problem_fits(problem: Problem, recipe: Recipe, machine: MachineSpec) -> None:
    """Refuse a problem whose tensors do not fit the HBM; raises DoesNotFitError."""
    _check(f"workload {problem.name}", stored_bytes(problem, recipe), machine)


def check_program_fits(program: AnyProgram, machine: MachineSpec) -> None:
    """Refuse a program whose tensors do not fit the HBM; raises DoesNotFitError.

    Tables count whole, whichever of their rows are named.
    """
    _check(program.name, {each.name: each.size_bytes for each in program.tensors}, machine)


def check_layer_fits(layer: LayerProblem, recipes: Sequence[Recipe], machine: MachineSpec) -> None:
    """Refuse a layer that does not fit the HBM; raises DoesNotFitError. recipes: of its parts.

    There are at once: what no part of it makes, such as weights, K and V, the input of the layer;
    and what the part that runs reads of others and stores. Equal runs of a part have one input.
    """
    lasting: dict[str, int] = {}
    passing: list[dict[str, int]] = []
    for part, recipe, sources in zip(layer.problems, recipes, layer.sources, strict=True):
        sizes, inputs = stored_bytes(part.problem, recipe), part.problem.input_shapes
        named = {f"{part.problem.name}.{name}": (name, size) for name, size in sizes.items()}
        own = {each: size for each, (name, size) in named.items() if _lasts(name, inputs, sources)}
        lasting = _together(lasting, own)
        passing.append({each: size for each, (_, size) in named.items() if each not in own})
    most = max(passing, key=lambda sizes: sum(sizes.values()))
    _check(f"workload {layer.name}", _together(lasting, most), machine)


def stored_bytes(problem: Problem, recipe: Recipe) -> dict[str, int]:
    """Return the bytes of every tensor of a problem, as its kernel stores it.

    Scales beside codes, and what a kernel keeps in between, are not counted.
    """
    dtypes = recipe.algorithm.stored_dtypes(problem, recipe.parameters())
    shapes = problem.input_shapes | problem.output_shapes
    own = bytes_of({name: shapes[name] for name in dtypes}, dtypes)
    return problem.tensor_bytes | own


def _lasts(name: str, inputs: Mapping[str, object], sources: Mapping[str, object]) -> bool:
    """Whether a tensor of a part is there before the layer runs; what is no output is an input."""
    return name in inputs and name not in sources


def _together(sizes: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """Return both; parts of one name have tensors of one name, each of its own."""
    return {**sizes, **{name: sizes.get(name, 0) + size for name, size in more.items()}}


def _check(what: str, sizes: Mapping[str, int], machine: MachineSpec) -> None:
    needed, capacity = sum(sizes.values()), machine.hbm.capacity
    if needed <= capacity:
        return
    largest = sorted(sizes.items(), key=lambda each: -each[1])[:_MOST_LISTED]
    listed = ", ".join(f"{name} {size} B" for name, size in largest)
    is_banked = isinstance(machine.hbm, BankedHbmSpec)
    larger = "more hbm.stacks or a larger hbm.standard" if is_banked else "a larger hbm.capacity"
    raise DoesNotFitError(
        f"{what} does not fit the HBM of machine {machine.name}: its tensors take {needed} B, "
        f"{needed - capacity} B more than the {capacity} B ({capacity / GIB:.4g} GiB) that are "
        f"there; largest: {listed}; choose a smaller problem, narrower formats or {larger}"
    )
