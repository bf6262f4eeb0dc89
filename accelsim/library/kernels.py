"""Which kernels compute the parts of a model, where someone asks for one."""

from dataclasses import dataclass

from accelsim.errors import AccelsimError, WorkloadError
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import LIBRARY, Recipe
from accelsim.workload.problem import AttentionProblem, Problem

_PARTS = {"attention": ("attention", "the attention"), "linear": ("gemm", "the linears")}
"""Field -> kind of the problems of its kernel, and what they are of a model."""


@dataclass(frozen=True, init=False)
class Kernels:
    """The kernels that are asked for: of the products of layers, of attention, or of both."""

    attention: Recipe | None
    """None: nothing is asked."""
    linear: Recipe | None
    """None: nothing is asked."""

    def __init__(
        self, attention: Recipe | str | None = None, linear: Recipe | str | None = None
    ) -> None:
        """Check the recipes; raises an AccelsimError that begins with the part."""
        for part, text in (("attention", attention), ("linear", linear)):
            try:
                recipe = None if text is None else Recipe.of(text)
                check_kernel(recipe, part)
            except AccelsimError as error:
                raise error.at(part) from None
            object.__setattr__(self, part, recipe)

    @classmethod
    def or_library(cls, attention: str | None, linear: str | None) -> "Kernels":
        """Return the kernels of texts of which `library` asks for nothing."""
        return cls(*(None if text == LIBRARY else text for text in (attention, linear)))

    @classmethod
    def of(cls, kernels: "Kernels | Recipe | str") -> "Kernels":
        """Return kernels as they are, or the one of attention that a recipe stands for."""
        return kernels if isinstance(kernels, Kernels) else cls(kernels)

    def recipe_for(self, problem: Problem) -> Recipe | None:
        """Return what is asked for a problem of a step; None: the library picks it."""
        if problem.kind == "gemm":
            return self.linear
        if isinstance(problem, AttentionProblem) and self.attention is not None:
            takes = self.attention.algorithm.query_rows
            return self.attention if takes == "any" or problem.most_queries == 1 else None
        return None


def check_kernel(recipe: Recipe | None, part: str) -> None:
    """Refuse a kernel that is not known, is not for a part of a model, or has other parameters.

    Raises UnknownNameError, WorkloadError, ConfigError.
    """
    if recipe is None:
        return
    wanted, of_model = _PARTS[part]
    kind = recipe.algorithm.problem_kind
    if kind != wanted:
        allowed = [name for name in kernel_names() if get_kernel(name).problem_kind == wanted]
        raise WorkloadError(
            f"kernel {recipe.kernel} is for {kind} problems, but it is to compute {of_model} of a "
            f"model; allowed: {', '.join(allowed)}"
        )
    recipe.parameters()


NONE_ASKED = Kernels()
"""The library picks all of them; in a real model, FP32 computes."""
