"""What a kernel is asked for, and what is left to be chosen."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from accelsim.hardware.machine import MachineSpec
from accelsim.kernels.base import Kernel
from accelsim.program.long import AnyProgram
from accelsim.runtime.kept import once_for_each
from accelsim.runtime.sources import accelsim_digest, class_digest
from accelsim.workload.problem import Problem

Settings = Mapping[str, Any]
"""What is chosen: parameters by their names."""


class Asked(NamedTuple):
    """What a kernel is asked for."""

    kernel: type[Kernel]
    problem: Problem
    machine: MachineSpec
    parameters: Any

    @property
    def is_open(self) -> bool:
        """Whether something is left to be chosen."""
        names = self.kernel.leaves_open
        return any(getattr(self.parameters, name) is None for name in names)

    def with_settings(self, settings: Settings) -> "Asked":
        """Return the same with what was chosen."""
        return self._replace(parameters=self.parameters.model_copy(update=dict(settings)))

    @property
    def content(self) -> tuple[str, ...]:
        """Texts that all follows from, those of problem and machine without their names."""
        return (
            self.kernel.name,
            *content_of(self.problem, self.machine),
            self.parameters.model_dump_json(),
            class_digest(self.kernel),
            accelsim_digest(),
        )

    def record(self) -> AnyProgram:
        """Return the program, without numbers; raises DoesNotFitError."""
        return self.kernel.record(self.problem, self.machine, self.parameters, None)[0]


def content_of(problem: Problem, machine: MachineSpec) -> tuple[str, str]:
    """Return texts of a problem and a machine, without their names."""
    return problem.model_dump_json(exclude={"name"}), _text_of(machine)


@once_for_each
def _text_of(machine: MachineSpec) -> str:
    return machine.model_dump_json(exclude={"name"})
