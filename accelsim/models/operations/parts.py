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
from accelsim.workload.problem import GemmProblem, Problem
from accelsim.workload.vector import VectorProblem


@dataclass(frozen=True, slots=True)
class Operation:
    """A problem that a step has so many times."""

    problem: Problem
    count: int = 1


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

    def operand(self, function: str, cols: int, name: str, **more: int) -> VectorProblem:
        """Return a function of all rows whose result a product of the layer reads."""
        own = self.vector(function, self.rows, cols, name, **more)
        if self.linear_fmt == self.fmt:
            return own
        return own.model_copy(update={"result_dtype": self.linear_fmt})

    def norm(self, name: str, *, adds: bool = False, rows: int | None = None) -> VectorProblem:
        """Return a norm of all rows or of some.

        adds: the residual is added before, in one pass, and products read the result.
        """
        function = "layernorm" if self.architecture.norm.has_mean else "rmsnorm"
        if adds:
            return self.operand(f"add_{function}", self.hidden, name)
        rows = self.rows if rows is None else rows
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
