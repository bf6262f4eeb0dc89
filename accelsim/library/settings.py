"""What a setting may name: fields of machine and workload; a parameter stands with its kernel."""

from collections.abc import Iterator, Mapping
from typing import Any

from accelsim.errors import ConfigError, did_you_mean
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.recipe import EXAMPLE, Recipe

_ROOTS = ("machine", "workload")
_LINEAR = "linear"
"""Root of what the parameters of a kernel for linears once began with."""


def check_settings(settings: Mapping[str, Any], *asked: Recipe | None) -> None:
    """Refuse keys that name no field; raises ConfigError with all of them.

    asked: the recipes of the caller, which the message completes with a parameter.
    """
    wrong = [
        _refusal(key, value, [recipe for recipe in asked if recipe])
        for key, value in settings.items()
        if key.partition(".")[0] not in _ROOTS or "." not in key
    ]
    if wrong:
        raise ConfigError(wrong)


def _refusal(key: str, value: Any, asked: list[Recipe]) -> str:
    root, _, parameter = key.rpartition(".")
    recipe = next(_owners(root, parameter, asked), None)
    hint = did_you_mean(root, _ROOTS) if recipe is None and root else ""
    advice = f", such as {EXAMPLE}" if recipe is None else f": {_told(recipe, parameter, value)}"
    return (
        f"--set {key}: found no field of machine or workload{hint or ','} allowed: "
        f"machine.<field>, workload.<field>; a parameter is written with its kernel{advice}"
    )


def _owners(root: str, parameter: str, asked: list[Recipe]) -> Iterator[Recipe]:
    """Yield the recipes that the parameter can be of, those that are asked for first."""
    for recipe in (*asked, *map(Recipe, kernel_names())):
        is_meant = root in ("", recipe.kernel)
        if root == _LINEAR:
            is_meant = get_kernel(recipe.kernel).problem_kind == "gemm"
        if is_meant and parameter in recipe.algorithm.parameters.model_fields:
            yield recipe


def _told(recipe: Recipe, parameter: str, value: Any) -> str:
    """Return the recipe with the parameter, as it is to be written."""
    own = f"{recipe.kernel}({parameter}={value})"
    try:
        return str(recipe.updated(Recipe.parse(own).settings))
    except ConfigError:
        return own
