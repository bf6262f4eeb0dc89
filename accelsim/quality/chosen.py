"""Which kernels compute which part of a model, and what was set for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.config.document import Document, plain_settings
from accelsim.config.loader import validate
from accelsim.config.spec import Spec
from accelsim.errors import ConfigError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.registry import get_kernel, kernel_names
from accelsim.numerics.formats import Format
from accelsim.simulation import KernelRun, settings_below
from accelsim.workload.problem import FloatFormat

_PART_OF_KIND = {"attention": "the attention", "gemm": "the linears"}


class _Stored(Spec):
    """What may be chosen of the tensors of a model; their shapes are the model's."""

    dtype: FloatFormat = Format.FP16
    """Number format of inputs, weights and outputs in HBM."""


class ChosenKernels(NamedTuple):
    """The kernels of a pass; a part without one is computed in FP32 and costs nothing."""

    attention: KernelRun | None
    linear: KernelRun | None
    dtype: Format

    @property
    def names(self) -> str:
        """Names of the kernels."""
        runs = (self.attention, self.linear)
        return " and ".join(run.kernel.name for run in runs if run is not None)


def choose_kernels(
    attention: str | None,
    linear: str | None,
    settings: Mapping[str, Any],
    machine: MachineSpec | str | Path,
) -> ChosenKernels:
    """Return the kernels with checked parameters.

    Keys of `settings` are `machine.<field>`, `workload.dtype`, parameters of the kernel for the
    attention, and `linear.<parameter>` for the other. Raises an AccelsimError.
    """
    if attention is None and linear is None:
        raise WorkloadError(
            "found no kernel; allowed: --kernel for the attention, --linear for the linears, both"
        )
    settings = plain_settings(settings, "--set ")
    of_linear = settings_below("linear", settings)
    others = {key: value for key, value in settings.items() if not key.startswith("linear.")}
    shared = {key: value for key, value in others.items() if "." in key}
    _check_owners(attention, linear, settings)
    return ChosenKernels(
        None if attention is None else _run(machine, attention, "attention", others, "--set "),
        None
        if linear is None
        else _run(machine, linear, "gemm", shared | of_linear, "--set linear."),
        _dtype(others),
    )


def _check_owners(attention: str | None, linear: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse parameters of a part that no kernel computes."""
    for key in settings:
        if key.startswith("linear.") and linear is None:
            raise ConfigError([f"--set {key}: found no kernel for the linears; add --linear"])
        if "." not in key and attention is None:
            raise ConfigError(
                [
                    f"--set {key}: found no kernel for the attention; add --kernel, or "
                    f"set linear.{key}"
                ]
            )


def _run(
    machine: MachineSpec | str | Path,
    kernel: str,
    wanted_kind: str,
    settings: Mapping[str, Any],
    label: str,
) -> KernelRun:
    run = KernelRun.prepare(machine, kernel, settings, label)
    kind = run.kernel.problem_kind
    if kind != wanted_kind:
        allowed = [name for name in kernel_names() if get_kernel(name).problem_kind == wanted_kind]
        raise WorkloadError(
            f"kernel {kernel} is for {kind} problems, but it is to compute "
            f"{_PART_OF_KIND[wanted_kind]} of a model; allowed: {', '.join(allowed)}"
        )
    return run


def _dtype(settings: Mapping[str, Any]) -> Format:
    document = Document({}, {(): "--set workload."})
    chosen = document.with_overrides(settings_below("workload", settings), "--set workload.")
    return validate(_Stored, chosen).dtype
