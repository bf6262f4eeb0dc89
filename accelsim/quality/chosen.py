"""Which kernels compute which part of a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.bench import Bench
from accelsim.config.document import Document, plain_settings, settings_below
from accelsim.config.loader import validate
from accelsim.config.spec import Spec
from accelsim.errors import WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.library.kernels import NONE_ASKED, Kernels, check_kernel
from accelsim.library.recipe import Recipe
from accelsim.library.settings import check_settings
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import KvFormat
from accelsim.workload.problem import FloatFormat


class _Stored(Spec):
    """What may be chosen of the tensors of a model; their shapes are the model's."""

    dtype: FloatFormat = Format.FP16
    """Number format of inputs, weights and outputs in HBM."""


class ChosenKernels(NamedTuple):
    """The kernels of a pass; a part without one is computed in FP32 and costs nothing."""

    attention: Bench | None
    linear: Bench | None
    dtype: Format
    prefill: Bench | None = None
    """The attention of prompts, before tokens are decoded."""
    kv: KvFormat | None = None
    """How keys and values are kept; None: as they are."""

    @property
    def names(self) -> str:
        """The recipes, and the format of the cache."""
        runs = (self.attention, self.linear, self.prefill)
        names = [str(run.recipe) for run in runs if run is not None]
        return " and ".join(names + ([] if self.kv is None else [f"a cache in {self.kv}"]))


def choose_kernels(
    kernels: Kernels | Recipe | str,
    settings: Mapping[str, Any],
    machine: MachineSpec | str | Path,
    prefill: Recipe | str | None = None,
    kv: KvFormat | str | None = None,
) -> ChosenKernels:
    """Return what computes the parts of a model, with checked parameters.

    A recipe alone is that of the attention; `prefill` is that of the attention of prompts, `kv` the
    format of the cache. Keys of `settings` are `machine.<field>` and `workload.dtype`. Raises an
    AccelsimError.
    """
    asked = Kernels.of(kernels)
    if asked == NONE_ASKED and kv is None:
        raise WorkloadError(
            "found no kernel; allowed: --kernel for the attention, --linear for the linears, both"
        )
    if asked.attention is not None and kv is not None:
        raise WorkloadError(
            f"kv: found {kv} beside kernel {asked.attention}, allowed: a format of the cache "
            f"without a kernel for the attention, which then is FP32 over what the cache stands for"
        )
    settings = plain_settings(settings, "--set ")
    of_prompts = None if prefill is None else Recipe.of(prefill)
    check_settings(settings, asked.attention, asked.linear, of_prompts)
    _check_prefill(of_prompts)
    return ChosenKernels(
        _run(machine, asked.attention, settings),
        _run(machine, asked.linear, settings),
        _dtype(settings),
        _run(machine, of_prompts, settings),
        None if kv is None else KvFormat.of(kv),
    )


def _check_prefill(recipe: Recipe | None) -> None:
    """Refuse a kernel of decode for prompts, whose tokens are computed at once."""
    check_kernel(recipe, "attention")
    if recipe is None or not recipe.algorithm.takes_steps:
        return
    kernels = {name: get_kernel(name) for name in kernel_names()}
    able = [
        name
        for name, kernel in kernels.items()
        if kernel.problem_kind == "attention" and not kernel.takes_steps
    ]
    raise WorkloadError(
        f"prefill: found kernel {recipe.kernel}, which computes one token after the other; "
        f"allowed for a prompt: {', '.join(able)}"
    )


def _run(
    machine: MachineSpec | str | Path, recipe: Recipe | None, settings: Mapping[str, Any]
) -> Bench | None:
    return None if recipe is None else Bench.prepare(machine, recipe, settings)


def _dtype(settings: Mapping[str, Any]) -> Format:
    document = Document({}, {(): "--set workload."})
    chosen = document.with_overrides(settings_below("workload", settings), "--set workload.")
    return validate(_Stored, chosen).dtype
