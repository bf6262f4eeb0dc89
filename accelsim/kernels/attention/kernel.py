"""What every attention kernel is: it records a task, and softmax attention judges the output."""

from abc import abstractmethod
from typing import Any, Generic, NamedTuple, TypeVar

from accelsim.kernels import language as al
from accelsim.kernels.attention.oracle import softmax_attention

Parameters = TypeVar("Parameters")
Recording = tuple[al.Program, al.Array | None]
"""A program and, with tensors, its output [rows of Q, value_dim]."""


class Task(NamedTuple, Generic[Parameters]):
    """What a kernel is to record: a problem on a machine, with parameters and, maybe, tensors."""

    kernel: str
    problem: al.AttentionProblem
    machine: al.MachineSpec
    parameters: Parameters
    tensors: al.AttentionTensors | None

    @property
    def name(self) -> str:
        """Name of the program."""
        return f"{self.kernel} on {self.problem.name}"

    @property
    def scales(self) -> tuple[float, float]:
        """What K and V were divided by when they were stored; 1 where nothing is known."""
        return (1.0, 1.0) if self.tensors is None else (self.tensors.k_scale, self.tensors.v_scale)

    def builder(self) -> al.ProgramBuilder:
        """Return what declares and records the program, nothing declared yet."""
        return al.ProgramBuilder(self.name, with_numbers=self.tensors is not None)


class AttentionKernel(al.Kernel):
    """A kernel that computes softmax attention, or what stands for it."""

    problem_kind = "attention"

    @classmethod
    @abstractmethod
    def recorded(cls, task: Task[Any]) -> Recording:
        """Return the program and, with tensors, the output [rows of Q, value_dim].

        Raises DoesNotFitError when the tiles do not fit the machine.
        """

    @classmethod
    def record(
        cls,
        problem: al.AttentionProblem,
        machine: al.MachineSpec,
        parameters: Any,
        tensors: al.AttentionTensors | None,
    ) -> Recording:
        """Return the program and, with tensors, the output [rows of Q, value_dim]."""
        return cls.recorded(Task(cls.name, problem, machine, parameters, tensors))

    @classmethod
    def oracle(cls, problem: al.AttentionProblem, tensors: al.AttentionTensors) -> al.Array:
        """Return softmax attention over all keys in float64."""
        return softmax_attention(problem, tensors)
