"""Which kernel a library picks for attention, remembered as choices of tiles are.

A library asks the estimates of several kernels, for each step of a generation anew. That takes as
long as to simulate the step.
"""

from accelsim.choosing.asked import content_of
from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Library
from accelsim.library.recipe import Recipe
from accelsim.runtime.on_disk import keep, kept, name_of
from accelsim.runtime.sources import accelsim_digest, class_digest
from accelsim.workload.problem import AttentionProblem, Problem

_KIND = "picks"


def picked(library: Library, problem: Problem, machine: MachineSpec) -> Recipe:
    """Return the recipe of a library for a problem."""
    if not isinstance(problem, AttentionProblem):
        return library.recipe(problem, machine)
    digests = class_digest(type(library)), accelsim_digest()
    name = name_of(library.name, *content_of(problem, machine), *digests)
    text = kept(_KIND, name)
    if text is not None:
        return Recipe.parse(text)
    recipe = library.recipe(problem, machine)
    keep(_KIND, name, str(recipe))
    return recipe
