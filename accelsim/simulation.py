"""Joins the parts: machine, workload and kernel to a report."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from accelsim.config.document import Document
from accelsim.config.loader import validate
from accelsim.engine import compiled, reference
from accelsim.errors import ConfigError, DoesNotFitError, UnknownNameError, WorkloadError
from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Kernel
from accelsim.kernels.registry import default_kernel, get_kernel
from accelsim.loading import LoadedWorkload, load_machine, load_technology, load_workload
from accelsim.numerics.metrics import compare
from accelsim.program.program import Program
from accelsim.program.verifier import verify
from accelsim.report.build import build_report, combine_reports
from accelsim.report.report import Report
from accelsim.workload.problem import AttentionProblem, GemmProblem, LayerProblem
from accelsim.workload.tensors import load_tensors

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
    with _lack_of_memory_explained(kernel):
        return _simulate(machine, workload, kernel, settings or {}, engine, timeline)


def _simulate(
    machine: MachineSpec | str | Path,
    workload: LoadedWorkload | str | Path,
    kernel: str,
    settings: Mapping[str, Any],
    engine: Engine,
    timeline: bool,
) -> Report:
    if engine not in _ENGINES:
        raise UnknownNameError(f"unknown engine '{engine}'; known: {', '.join(_ENGINES)}")
    run = _Run.prepare(machine, workload, kernel, settings)
    problem = run.workload.problem
    if not isinstance(problem, LayerProblem):
        return run.simulate(problem, run.kernel, engine, timeline)
    if timeline:
        raise WorkloadError(f"{problem.name}: a layer has no single timeline; run one of its parts")
    reports = [
        run.simulate(part, run.kernel_for(part), engine, with_timeline=False)
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
    run = _Run.prepare(machine, workload, kernel, settings or {})
    problem = run.workload.problem
    if isinstance(problem, LayerProblem):
        raise WorkloadError(f"{problem.name}: a layer has no single program; name one of its parts")
    with _lack_of_memory_explained(kernel):
        program, _ = run.record(problem, run.kernel, tensors=None)
        verify(program)
    return program


@contextmanager
def _lack_of_memory_explained(kernel: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise DoesNotFitError(
            f"kernel {kernel}: this computer has too little memory free ({error}); "
            f"choose a smaller problem, or one without tensors"
        ) from error


@dataclass(frozen=True)
class _Run:
    """The checked input of one call."""

    machine: MachineSpec
    workload: LoadedWorkload
    kernel: type[Kernel]
    parameters: Any
    settings: Mapping[str, Any]

    @classmethod
    def prepare(
        cls,
        machine: MachineSpec | str | Path,
        workload: LoadedWorkload | str | Path,
        kernel: str,
        settings: Mapping[str, Any],
    ) -> "_Run":
        chosen = get_kernel(kernel)
        parameters = {key: value for key, value in settings.items() if "." not in key}
        machine_settings = _below("machine", settings)
        workload_settings = _below("workload", settings)
        _check_keys(settings)
        if not isinstance(machine, MachineSpec):
            machine = load_machine(machine, machine_settings, "--set machine.")
        elif machine_settings:
            raise _already_loaded("machine", machine_settings)
        if not isinstance(workload, LoadedWorkload):
            workload = load_workload(workload, workload_settings, "--set workload.")
        elif workload_settings:
            raise _already_loaded("workload", workload_settings)
        document = Document({}, {(): "--set "}).with_overrides(parameters, "--set ")
        run = cls(machine, workload, chosen, validate(chosen.parameters, document), settings)
        run.check_kind()
        return run

    def check_kind(self) -> None:
        """Refuse a workload that has nothing for the kernel to do."""
        problem = self.workload.problem
        kinds = {part.kind for part in getattr(problem, "problems", (problem,))}
        if self.kernel.problem_kind not in kinds:
            raise WorkloadError(
                f"kernel {self.kernel.name} is for {self.kernel.problem_kind} problems, but "
                f"workload {problem.name} is {' and '.join(sorted(kinds))}"
            )

    def kernel_for(self, part: AttentionProblem | GemmProblem) -> type[Kernel]:
        """Return the kernel for one part of a layer."""
        is_own = part.kind == self.kernel.problem_kind
        return self.kernel if is_own else default_kernel(part.kind)

    def record(
        self, problem: AttentionProblem | GemmProblem, kernel: type[Kernel], tensors: Any
    ) -> tuple[Program, Any]:
        """Return the program and, with tensors, the output."""
        parameters = self.parameters if kernel is self.kernel else kernel.parameters()
        return kernel.record(problem, self.machine, parameters, tensors)

    def simulate(
        self,
        problem: AttentionProblem | GemmProblem,
        kernel: type[Kernel],
        engine: Engine,
        with_timeline: bool,
    ) -> Report:
        """Return the report of one kernel on one problem."""
        tensors = load_tensors(problem, self.workload.folder)
        program, output = self.record(problem, kernel, tensors)
        accuracy = None
        if tensors is not None:
            accuracy = compare(output, kernel.oracle(problem, tensors))
        return build_report(
            schedule=_ENGINES[engine](program, self.machine),
            machine=self.machine,
            technology=load_technology(self.machine.technology),
            problem=problem,
            kernel=kernel.name,
            is_exact=kernel.is_exact,
            engine=engine,
            settings=self.settings,
            accuracy=accuracy,
            with_timeline=with_timeline,
        )


def _below(root: str, settings: Mapping[str, Any]) -> dict[str, Any]:
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
