"""What a kernel is: one algorithm, its parameters, and how it becomes a recorded program."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt

from accelsim.config.spec import Spec
from accelsim.hardware.machine import MachineSpec
from accelsim.numerics.formats import Format

if TYPE_CHECKING:
    from accelsim.program.long import AnyProgram

Array = npt.NDArray[Any]


class Kernel(ABC):
    """One algorithm.

    Contract: `record` runs the dataflow loop once and returns its program and, when tensors are
    given, its output; it is deterministic and knows nothing about time. `oracle` is the float64
    result that the output is judged by. Kernels never import the engine.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    problem_kind: ClassVar[str]
    is_exact: ClassVar[bool] = True
    """Whether the algorithm computes the oracle's function up to rounding."""
    takes_sequences: ClassVar[bool] = False
    """Whether sequences of attention may differ in length."""
    query_rows: ClassVar[Literal["any", "equal", "one"]] = "any"
    """Query rows that a sequence of attention may have: any, as many as all others, or one."""
    takes_steps: ClassVar[bool] = False
    """Whether one program runs all steps of a generation; for others each step is a program."""
    stored_as: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Tensor of the problem -> its name in the program, where that is another one."""
    windows: ClassVar[Literal["none", "one", "any"]] = "none"
    """With how many new tokens in a step attention may have a window: with none, one or any."""
    caps_scores: ClassVar[bool] = False
    """Whether scores of attention may be capped."""
    takes_any_kv: ClassVar[bool] = False
    """Whether K and V of attention may differ from Q in format and in width, and have scales."""
    takes_coded_kv: ClassVar[bool] = False
    """Whether K and V of attention may be codes with shared scales."""
    takes_sink_logits: ClassVar[bool] = False
    """Whether heads of attention may have logits without a key."""
    takes_values_in_keys: ClassVar[bool] = False
    """Whether rows of V may be parts of rows of K."""
    leaves_open: ClassVar[tuple[str, ...]] = ()
    """Parameters that are chosen by an estimate where they are not given, see `rivals`."""
    parameters: ClassVar[type[Spec]]

    @classmethod
    def selects_by_values(cls, parameters: Any) -> bool:
        """Whether values of the tensors say what is left out; without tensors it is assumed."""
        return False

    @classmethod
    def stored_dtypes(cls, problem: Any, parameters: Any) -> dict[str, Format]:
        """Return the formats of those tensors of the problem that the program has in another one.

        With these, and the formats of the problem for the others, they must fit the HBM of the
        machine before a program is recorded.
        """
        return {}

    @classmethod
    def rivals(
        cls, problem: Any, machine: MachineSpec, parameters: Any
    ) -> Sequence[Mapping[str, Any]]:
        """Return what may be the fastest of all that `parameters` leave open, the best guess first.

        Each has a value for all of `leaves_open`; `record` takes the first one by itself. Raises as
        `record` does.
        """
        return ()

    @classmethod
    @abstractmethod
    def record(
        cls, problem: Any, machine: MachineSpec, parameters: Any, tensors: Any | None
    ) -> "tuple[AnyProgram, Array | None]":
        """Return the program for a problem on a machine and, with tensors, the output.

        Raises DoesNotFitError when the tiles do not fit the machine.
        """

    @classmethod
    @abstractmethod
    def oracle(cls, problem: Any, tensors: Any) -> Array:
        """Return the result in float64."""
