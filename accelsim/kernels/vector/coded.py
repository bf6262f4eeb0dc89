"""Functions whose results are stored as codes, for the integer linear that reads them.

Norms, activations and copies of whole rows: a work item is a tile of rows, because a row is coded
with what is found in all of it. Ops are those of `matrix`, the last step is that of a coder.
"""

from typing import Any, ClassVar

from accelsim.errors import WorkloadError
from accelsim.kernels.base import Array
from accelsim.kernels.vector.functions import FUNCTIONS, PRODUCTS, Layout
from accelsim.kernels.vector.matrix import vector
from accelsim.kernels.vector.operands import Operand
from accelsim.kernels.vector.oracle import exact_result
from accelsim.kernels.vector.parameters import VectorParameters
from accelsim.kernels.vector.row_tiles import RowCost, RowFunction, row_bytes
from accelsim.kernels.vector.tiles import COLUMN_OPS, OPS, ROW_FUNCTIONS
from accelsim.kernels.vector.workspace import Workspace
from accelsim.numerics.formats import Format
from accelsim.quantization.rotation import hadamard_rotation
from accelsim.workload.problem import VectorProblem
from accelsim.workload.tensors import VectorTensors

CODED = (*FUNCTIONS, "add_rmsnorm", "add_layernorm")
"""Functions whose result can be coded."""


def check_coded(problem: VectorProblem, asked: VectorParameters) -> None:
    """Refuse codes of a function that has none, or of a part of a row; raises WorkloadError.

    Raises QuantizationError for a rotation that does not divide the row.
    """
    if asked.form is None:
        return
    name = f"vector on {problem.name}"
    if problem.function not in CODED:
        raise WorkloadError(
            f"{name}: found codes = {asked.codes} with function = {problem.function}, "
            f"allowed: with {', '.join(CODED)}"
        )
    if asked.code_rotation:
        hadamard_rotation(problem.cols, asked.code_rotation)
    if problem.result_dtype:
        raise WorkloadError(
            f"{name}: found result_dtype = {problem.result_dtype} beside codes = {asked.codes}, "
            f"allowed: one of both"
        )
    for key in ("tile_cols", "tile_elements"):
        if (found := getattr(asked, key)) is not None:
            raise WorkloadError(
                f"{name}: found {key} = {found} beside codes = {asked.codes}, allowed: tile_rows; "
                f"a row is coded with what is found in all of it"
            )


class CodedMatrix(RowFunction):
    """A function of FUNCTIONS."""

    entry: ClassVar[Any] = staticmethod(vector)

    @classmethod
    def cost(cls, problem: VectorProblem) -> RowCost:
        """Return what one row takes, its result not coded yet."""
        names, matrix_bytes = _operands(problem), row_bytes(problem, problem.cols)
        in_place = problem.dtype == Format.FP32
        ops = [*OPS[problem.function], *([] if in_place else (len(names) + 1) * ["convert"])]
        of_column = COLUMN_OPS.get(problem.function, (0, 0))[0] * (("add", 1),)
        costs = (*((op, problem.cols) for op in ops), *of_column)
        return RowCost(len(names) * matrix_bytes, matrix_bytes, costs, in_place)

    @classmethod
    def layout(cls, at: Workspace) -> Layout:
        """Place the operands, the codes and their scales, and declare their tiles."""
        function, none = at.problem.function, at.builder.no_buffer()
        shape = (at.problem.rows, at.problem.cols)
        operands = {name: at.loaded(name, at.given(name, shape)) for name in _operands(at.problem)}
        absent = Operand(at.builder.no_tensor(at.problem.dtype), none, none)
        needs_column = function in ROW_FUNCTIONS
        work = at.buffer("work", at.tile.cols)
        return Layout(
            function=FUNCTIONS.index(function),
            has_factor=function in PRODUCTS,
            epsilon=at.problem.epsilon,
            softcap=at.problem.softcap or 0.0,
            tile_rows=at.tile.rows,
            tile_cols=at.tile.cols,
            x=operands["x"],
            y=operands.get("y", absent),
            result=at.coded("result", operands["x"].computed, work),
            column=at.buffer("column", 1) if needs_column else none,
            work=work,
        )

    @classmethod
    def exact(cls, problem: VectorProblem, tensors: VectorTensors) -> Array:
        """Return the function in float64."""
        return exact_result(problem, tensors)


def _operands(problem: VectorProblem) -> tuple[str, ...]:
    return ("x", "y") if problem.function in PRODUCTS else ("x",)
