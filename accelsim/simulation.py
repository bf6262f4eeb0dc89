"""Joins the parts: machine, workload and kernel to a report."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from accelsim.code_cache import cache_folder
from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.engine import compiled, reference
from accelsim.errors import (
    ConfigError,
    DoesNotFitError,
    OutputError,
    UnknownNameError,
    WorkloadError,
)
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.kernels.base import Array, Kernel
from accelsim.kernels.registry import default_kernel, get_kernel
from accelsim.loading import LoadedWorkload, load_machine, load_technology, load_workload
from accelsim.numerics.metrics import compare
from accelsim.power import schedule_under_cap
from accelsim.program.program import Program
from accelsim.program.verifier import verify
from accelsim.report.build import build_report, combine_reports
from accelsim.report.report import Report
from accelsim.workload.problem import LayerProblem, Problem
from accelsim.workload.tensors import Tensors, load_tensors

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Engine = Literal["compiled", "reference"]
_ENGINES = {"compiled": compiled.schedule, "reference": reference.schedule}


def simulate(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    kernel: str,
    settings: Mapping[str, Any] | None = None,
    *,
    engine: Engine = "compiled",
    timeline: bool = False,
) -> Report:
    """Simulate a kernel on a workload: when everything happens, what it costs, what it computes.

    `machine` and `workload` are paths, shipped names, or what `load_machine` and `load_workload`
    return. Keys of `settings` are `machine.<field>`, `workload.<field>` or parameters of the
    kernel; values may be text as in a file. A layer runs its parts one after the other; parts that
    `kernel` is not for run the default kernel of their kind.

    Raises an AccelsimError for anything that is wrong with the input, DoesNotFitError among them.
    """
    if engine not in _ENGINES:
        raise UnknownNameError(f"unknown engine '{engine}'; known: {', '.join(_ENGINES)}")
    run, loaded = _prepare(machine, workload, kernel, settings or {})
    problem = loaded.problem
    if not isinstance(problem, LayerProblem):
        return _simulate(run, problem, loaded.folder, engine, timeline)
    if timeline:
        raise WorkloadError(f"{problem.name}: a layer has no single timeline; run one of its parts")
    reports = [
        _simulate(run.for_kind(part.kind), part, loaded.folder, engine, with_timeline=False)
        for part in problem.problems
    ]
    counts = [part.count for part in problem.problems]
    return combine_reports(reports, counts, run.machine, problem.name, kernel, run.settings)


def record(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    kernel: str,
    settings: Mapping[str, Any] | None = None,
) -> Program:
    """Return the verified tile program of a kernel; raises as `simulate` does."""
    run, loaded = _prepare(machine, workload, kernel, settings or {})
    problem = loaded.problem
    if isinstance(problem, LayerProblem):
        raise WorkloadError(f"{problem.name}: a layer has no single program; name one of its parts")
    with shortages_explained(kernel):
        program, _ = run.kernel.record(problem, run.machine, run.parameters, None)
        verify(program)
    return program


@contextmanager
def shortages_explained(kernel: str) -> Iterator[None]:
    """Turn a lack of memory, or of disk space for compiled code, into an error that says so."""
    try:
        yield
    except MemoryError as error:
        raise DoesNotFitError(
            f"kernel {kernel}: this computer has too little memory free ({error}); "
            f"choose a smaller problem, or one without tensors"
        ) from error
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise OutputError(
            f"{cache_folder()}: cannot keep compiled code: {error.strerror}; "
            f"make room, or set XDG_CACHE_HOME to another folder"
        ) from error


@dataclass(frozen=True)
class KernelRun:
    """A kernel with checked parameters on one machine, ready for any problem of its kind."""

    machine: MachineSpec
    kernel: type[Kernel]
    parameters: Any
    settings: Mapping[str, Any]
    """What the caller changed, as the report tells it."""

    @classmethod
    def prepare(
        cls,
        machine: MachineSpec | str | Path,
        kernel: str,
        settings: Mapping[str, Any],
        label: str = "--set ",
    ) -> "KernelRun":
        """Check `settings`: `machine.<field>` and kernel parameters; others are the caller's.

        A message about a parameter starts with `label`.
        """
        chosen = get_kernel(kernel)
        _check_keys(settings)
        machine_settings = settings_below("machine", settings)
        if not isinstance(machine, MachineSpec):
            machine = load_machine(machine, machine_settings, "--set machine.")
        elif machine_settings:
            raise _already_loaded("machine", machine_settings)
        own = {key: value for key, value in settings.items() if "." not in key}
        document = Document({}, {(): label}).with_overrides(own, label)
        return cls(machine, chosen, validate(chosen.parameters, document), settings)

    def for_kind(self, problem_kind: str) -> "KernelRun":
        """Return this run, or for another kind of problem one of the kind's default kernel."""
        if problem_kind == self.kernel.problem_kind:
            return self
        other = default_kernel(problem_kind)
        return replace(self, kernel=other, parameters=other.parameters())

    def execute(
        self,
        problem: Problem,
        tensors: Tensors | None,
        engine: Engine = "compiled",
        with_timeline: bool = False,
        technology: TechnologySpec | None = None,
    ) -> tuple[Report, Array | None]:
        """Return the report, its accuracy not judged, and with tensors the output.

        technology: costs of the actions; absent: those that the machine names.
        """
        program, output = self.kernel.record(problem, self.machine, self.parameters, tensors)
        technology = technology or load_technology(self.machine.technology)
        schedule, machine = schedule_under_cap(program, self.machine, technology, _ENGINES[engine])
        report = build_report(
            schedule=schedule,
            machine=machine,
            technology=technology,
            problem=problem,
            kernel=self.kernel.name,
            is_exact=self.kernel.is_exact,
            engine=engine,
            settings=self.settings,
            accuracy=None,
            with_timeline=with_timeline,
        )
        return report, output


def _prepare(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    kernel: str,
    settings: Mapping[str, Any],
) -> tuple[KernelRun, LoadedWorkload]:
    run = KernelRun.prepare(machine, kernel, settings)
    workload_settings = settings_below("workload", settings)
    if not isinstance(workload, LoadedWorkload):
        workload = load_workload(workload, workload_settings, "--set workload.")
    elif workload_settings:
        raise _already_loaded("workload", workload_settings)
    _check_kind(run.kernel, workload)
    return run, workload


def _check_kind(kernel: type[Kernel], workload: LoadedWorkload) -> None:
    """Refuse a workload that has nothing for the kernel to do."""
    problem = workload.problem
    kinds = {part.kind for part in getattr(problem, "problems", (problem,))}
    if kernel.problem_kind not in kinds:
        raise WorkloadError(
            f"kernel {kernel.name} is for {kernel.problem_kind} problems, but "
            f"workload {problem.name} is {' and '.join(sorted(kinds))}"
        )


def _simulate(
    run: KernelRun,
    problem: Problem,
    folder: Path,
    engine: Engine,
    with_timeline: bool,
) -> Report:
    """Return the report of one kernel on one problem, its output judged by the oracle."""
    with shortages_explained(run.kernel.name):
        tensors = load_tensors(problem, folder)
        report, output = run.execute(problem, tensors, engine, with_timeline)
        if output is None or tensors is None:
            return report
        return replace(report, accuracy=compare(output, run.kernel.oracle(problem, tensors)))


def settings_below(root: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings whose keys start with `root.`, without it."""
    prefix = f"{root}."
    return {k.removeprefix(prefix): v for k, v in settings.items() if k.startswith(prefix)}


def _check_keys(settings: Mapping[str, Any]) -> None:
    wrong = [
        f"--set {key}: found no such key; allowed: machine.<field>, workload.<field>, or a "
        f"parameter of the kernel without a dot"
        for key in settings
        if "." in key and key.partition(".")[0] not in ("machine", "workload")
    ]
    if wrong:
        raise ConfigError(wrong)


def _already_loaded(root: str, settings: Mapping[str, Any]) -> ConfigError:
    return ConfigError(
        f"{root}.{key}: the {root} is loaded already; override it when loading" for key in settings
    )
