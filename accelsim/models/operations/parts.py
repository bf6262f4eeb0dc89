"""What the operations of all parts of a layer are made of."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture
from accelsim.models.linear_format import linear_format, unknown
from accelsim.models.plan import DEFAULT_PLAN, Plan
from accelsim.models.step import Step
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import KvFormat
from accelsim.workload.collective import Collective, CollectiveKind
from accelsim.workload.problem import GemmProblem, Problem
from accelsim.workload.vector import VectorProblem


@dataclass(frozen=True, slots=True)
class Uneven:
    """A problem that differs from device to device; those of a group wait for the slowest."""

    problems: tuple[Problem, ...]
    """Of the devices that have one, of the most rows first."""
    idle: int = 0
    """Devices that have none."""


Work = Problem | Collective | Uneven
"""What a part of a layer has a device do."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A problem or a collective that a step has so many times on a device."""

    problem: Problem | Collective
    count: int = 1
    others: tuple[Problem, ...] = ()
    """What other devices of a group have in its place, where they differ."""
    idle: int = 0
    """Devices of the group that have nothing in its place."""

    @classmethod
    def of(cls, work: Work, count: int = 1) -> "Operation":
        """Return the operation of some work, of which the device with most rows has the first."""
        if not isinstance(work, Uneven):
            return cls(work, count)
        return cls(work.problems[0], count, work.problems[1:], work.idle)


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a part of a layer stands: a model, the step that it computes, and how."""

    architecture: Architecture
    step: Step
    plan: Plan = DEFAULT_PLAN

    @property
    def rows(self) -> int:
        """Rows of the products: new tokens of all sequences."""
        return self.step.tokens

    @property
    def hidden(self) -> int:
        """Elements of a row between parts."""
        return self.architecture.hidden

    @property
    def positions(self) -> int:
        """Rows of the table of rotary: all positions that the model knows.

        Serving engines make it once, so it is the same for every step (vLLM's `cos_sin_cache`).
        """
        behind = max(each.cached + each.new for each in self.step.sequences)
        return self.architecture.max_tokens or behind

    @property
    def fmt(self) -> Format:
        """Number format of activations between parts."""
        return self.architecture.weights.plain

    @property
    def kv_fmt(self) -> KvFormat | None:
        """How keys and values are kept, where that is another way than in `fmt`."""
        return self.architecture.kv_format

    @property
    def linear_fmt(self) -> Format:
        """Number format of the operands of the products of layers."""
        return linear_format(self.architecture)

    def product(self, name: str, n: int, k: int, m: int | None = None) -> GemmProblem:
        """Return a product of all rows, or of m of them, with a weight of k by n of a layer."""
        rows = self.rows if m is None else m
        return _product(name, rows, n, k, self.linear_fmt)

    def outer_product(self, name: str, m: int, n: int, k: int) -> GemmProblem:
        """Return a product of m rows with a weight of k by n that belongs to no layer."""
        return _product(name, m, n, k, self.fmt)

    def operand(
        self, function: str, cols: int, name: str, *, rows: int | None = None
    ) -> VectorProblem:
        """Return a function of all rows, or of some, whose result a product of the layer reads."""
        own = self.vector(function, self.rows if rows is None else rows, cols, name)
        if self.linear_fmt == self.fmt:
            return own
        return own.model_copy(update={"result_dtype": self.linear_fmt})

    def norm(self, name: str, *, adds: bool = False, rows: int | None = None) -> VectorProblem:
        """Return a norm of all rows or of some.

        adds: the residual is added before, in one pass, and products read the result.
        """
        function = "layernorm" if self.architecture.norm.has_mean else "rmsnorm"
        rows = self.rows if rows is None else rows
        if adds:
            return self.operand(f"add_{function}", self.hidden, name, rows=rows)
        return self.vector(function, rows, self.hidden, name=name)

    def vector(
        self, function: str, rows: int, cols: int, name: str | None = None, **more: float | str
    ) -> VectorProblem:
        """Return a function of the vector unit; name: what it is here, where that says more."""
        return _vector(
            name=name or function,
            function=function,
            rows=rows,
            cols=cols,
            dtype=self.fmt,
            **more,
        )

    def among_tensor(self, kind: CollectiveKind, name: str, rows: int, cols: int) -> Collective:
        """Return a collective of rows among the devices that share matrices."""
        size_bytes = rows * self.fmt.row_bytes(cols)
        return Collective(kind, name, size_bytes, self.plan.parallel.tensor)

    def among_experts(self, name: str, rows: int, cols: int) -> Collective:
        """Return the way of rows to the devices of their experts, or back."""
        parallel, size_bytes = self.plan.parallel, rows * self.fmt.row_bytes(cols)
        return Collective("all_to_all", name, size_bytes, parallel.expert)

    def unknown(self, what: str) -> WorkloadError:
        """Return the refusal of a part whose operations are not known."""
        return unknown(self.architecture, what)


# Most problems of a step are those of the step before.


@lru_cache(1024)
def _product(name: str, m: int, n: int, k: int, dtype: Format) -> GemmProblem:
    return GemmProblem(kind="gemm", name=name, m=m, n=n, k=k, dtype=dtype)


@lru_cache(1024)
def _vector(**fields: Any) -> VectorProblem:
    return VectorProblem.model_validate({"kind": "vector", **fields})
