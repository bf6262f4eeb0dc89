"""A function of the rows or the elements of a matrix, which the vector unit computes alone."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator

from accelsim.config.spec import PositiveValue, Seed, Size, SizeOrZero
from accelsim.numerics.formats import Format
from accelsim.units import ceil_div
from accelsim.workload.base import FloatFormat, Shapes, TensorProblem
from accelsim.workload.sources import VectorSource

Numbers = npt.NDArray[np.int32]

_OWNERS = {
    "head_dim": ("rotary", "norm_rotary", "join_heads"),
    "table_rows": ("rotary", "norm_rotary", "embedding", "kv_write"),
    "page": ("kv_write",),
    "top_k": ("router", "permute", "combine"),
    "softcap": ("softcap",),
    "y_cols": ("join_heads", "kv_write"),
}
"""Key -> functions that need it; no other function takes it."""
_WITH_RESULT_DTYPE = (
    *("copy", "softmax", "rmsnorm", "layernorm", "add_rmsnorm", "add_layernorm"),
    *("gelu", "silu", "silu_mul", "gelu_mul", "relu", "relu_squared", "softcap"),
)
"""Functions whose result may have another format than their operands."""
_MAY_LACK = {("y_cols", "kv_write")}
"""Key and function that takes it, but does not need it."""
_TWO_OPERANDS = ("silu_mul", "gelu_mul", "add_rmsnorm", "add_layernorm", "kv_write", "join_heads")
_ROTARY = ("rotary", "norm_rotary")
_TABLES = {
    "embedding": ("x",),
    **dict.fromkeys(_ROTARY, ("y",)),
    "kv_write": ("keys", "values"),
}
"""Function -> tensors of which it touches some rows."""
NUMBER_BYTES = 4
"""Bytes of the number of a row, a token or an expert."""
_EXACT_COLUMNS = 2**24
"""Numbers of columns up to here are exact in FP32, in which the vector unit finds them."""


class VectorProblem(TensorProblem):
    """A function of each row, or of each element, of a matrix [rows, cols]."""

    kind: Literal["vector"]
    """What is asked."""
    function: Literal[
        "copy",
        "softmax",
        "rmsnorm",
        "layernorm",
        "gelu",
        "silu",
        "silu_mul",
        "gelu_mul",
        "relu",
        "relu_squared",
        "softcap",
        "add_rmsnorm",
        "add_layernorm",
        "rotary",
        "norm_rotary",
        "join_heads",
        "embedding",
        "kv_write",
        "argmax",
        "router",
        "permute",
        "combine",
    ]
    """softmax and norms work along rows, norms without learned weights; gelu is its tanh form;
    silu_mul is silu(x) y and gelu_mul gelu(x) y, activations of gated feed-forwards; softcap is
    c tanh(x / c); add_rmsnorm and add_layernorm are a residual added and the norm; rotary turns
    heads of Q and K, norm_rotary after the rmsnorm of each; join_heads puts the columns of y
    behind each head of x; embedding reads rows of a table, kv_write writes rows to a cache;
    argmax is greedy sampling; router picks experts, permute finds the places of tokens in their
    order, combine adds up what they return."""
    rows: Size
    """Rows of the matrix; tokens."""
    cols: Size
    """Columns of the matrix; features. Of rotary those of all heads of Q and K side by side, of
    argmax the vocabulary, of router and permute the experts."""
    epsilon: PositiveValue = 1e-5
    """What norms add to the mean square before its root."""
    head_dim: Size | None = Field(default=None, validate_default=True)
    """Columns of one head, for rotary and join_heads; divides cols, and is even for rotary."""
    table_rows: Size | None = Field(default=None, validate_default=True)
    """Rows of the table: the vocabulary of embedding, the positions of rotary, the rows of the
    cache that kv_write writes to."""
    page: Size | None = Field(default=None, validate_default=True)
    """Rows that follow each other in the cache, for kv_write; 1 for a decode step, whose tokens
    belong to sequences of their own."""
    top_k: Size | None = Field(default=None, validate_default=True)
    """Experts of a token, for router, permute and combine."""
    softcap: PositiveValue | None = Field(default=None, validate_default=True)
    """c of softcap."""
    y_cols: SizeOrZero | None = Field(default=None, validate_default=True)
    """Columns of y: what join_heads puts behind each head; of kv_write those of V, absent: cols,
    0: there is no V, as a token that leaves a latent row has none."""
    order: Literal["random", "sequential"] = "random"
    """Which rows of a table the tokens name: random ones, or from the first on, one after the
    other, again and again."""
    seed: Seed = 0
    """Seed of random rows of a table."""
    dtype: FloatFormat = Format.FP16
    """Number format of inputs and output in HBM; numbers of tokens and experts are INT32."""
    result_dtype: FloatFormat | None = Field(default=None, validate_default=True)
    """Number format of the result in HBM, such as that of the product that reads it; absent: dtype.
    The sum of add_rmsnorm keeps dtype. Of norms, activations and copies only."""
    tensors: VectorSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @field_validator("cols")
    @classmethod
    def _columns_have_exact_numbers(cls, cols: int, info: ValidationInfo) -> int:
        function = info.data.get("function")
        if function in ("argmax", "router", "permute") and cols > _EXACT_COLUMNS:
            raise ValueError(
                f"found {cols} with function = {function}, allowed: at most {_EXACT_COLUMNS}, "
                "whose numbers FP32 tells apart"
            )
        return cols

    @field_validator(*_OWNERS)
    @classmethod
    def _belongs_to_the_function(cls, size: float | None, info: ValidationInfo) -> float | None:
        function, owners = info.data.get("function"), _OWNERS[str(info.field_name)]
        is_needed = function in owners and (info.field_name, function) not in _MAY_LACK
        if is_needed and size is None:
            raise ValueError(
                f"found no {info.field_name}, allowed: a size, which function = {function} needs"
            )
        if function and function not in owners and size is not None:
            raise ValueError(
                f"found {size} with function = {function}, allowed: only with {', '.join(owners)}"
            )
        return size

    @field_validator("result_dtype")
    @classmethod
    def _result_is_of_rows(cls, found: Format | None, info: ValidationInfo) -> Format | None:
        function = info.data.get("function")
        if found and function and function not in _WITH_RESULT_DTYPE:
            raise ValueError(
                f"found {found} with function = {function}, "
                f"allowed: only with {', '.join(_WITH_RESULT_DTYPE)}"
            )
        return found

    @field_validator("head_dim")
    @classmethod
    def _heads_are_whole_and_have_halves(
        cls, head_dim: int | None, info: ValidationInfo
    ) -> int | None:
        cols, has_halves = info.data.get("cols"), info.data.get("function") in _ROTARY
        if head_dim and cols and (cols % head_dim or (has_halves and head_dim % 2)):
            kind = "an even divisor" if has_halves else "a divisor"
            raise ValueError(f"found {head_dim}, allowed: {kind} of cols = {cols}")
        return head_dim

    @field_validator("y_cols")
    @classmethod
    def _something_is_put_behind_heads(cls, found: int | None, info: ValidationInfo) -> int | None:
        if found == 0 and info.data.get("function") == "join_heads":
            raise ValueError("found 0 with function = join_heads, allowed: 1 or more")
        return found

    @field_validator("page")
    @classmethod
    def _pages_hold_the_rows(cls, page: int | None, info: ValidationInfo) -> int | None:
        rows, table_rows = info.data.get("rows"), info.data.get("table_rows")
        if page and rows and table_rows and table_rows // page < ceil_div(rows, page):
            raise ValueError(
                f"found {page} with table_rows = {table_rows}, "
                f"allowed: pages of which the cache has {ceil_div(rows, page)}, for rows = {rows}"
            )
        return page

    @field_validator("top_k")
    @classmethod
    def _experts_are_there(cls, top_k: int | None, info: ValidationInfo) -> int | None:
        cols = info.data.get("cols")
        if info.data.get("function") == "combine":
            return top_k
        if top_k and cols and top_k > cols:
            raise ValueError(f"found {top_k}, allowed: at most cols = {cols}, the experts")
        return top_k

    @property
    def output_dtype(self) -> Format:
        """Number format of the result in HBM."""
        whole = self.function in ("argmax", "permute")
        return Format.INT32 if whole else self.result_dtype or self.dtype

    @property
    def macs(self) -> int:
        """The matrix unit has nothing to do."""
        return 0

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of x and, for functions of two matrices, y.

        y is the residual of norms that add one, V beside K of kv_write, and the table of rotary,
        cosines left of sines. x is the table of embedding. permute has numbers only; of combine, x
        are the rows of all experts and y the weights.
        """
        if self.function == "permute":
            return {}
        if self.function == "combine":
            top_k = self.top_k or 1
            return {"x": (self.rows * top_k, self.cols), "y": (self.rows, top_k)}
        shapes: Shapes = {"x": (self.rows, self.cols)}
        if self.function == "embedding":
            shapes = {"x": (self.table_rows or 1, self.cols)}
        if self.function in _TWO_OPERANDS and self.second_cols:
            shapes["y"] = (self.rows, self.second_cols)
        if self.function in _ROTARY:
            shapes["y"] = (self.table_rows or 1, self.head_dim or 2)
        return shapes

    @property
    def output_shapes(self) -> Shapes:
        """Shapes of the results."""
        match self.function:
            case "add_rmsnorm" | "add_layernorm":
                return dict.fromkeys(("sum", "result"), (self.rows, self.cols))
            case "kv_write":
                widths = {"keys": self.cols, "values": self.second_cols}
                return {name: (self.table_rows or 1, cols) for name, cols in widths.items() if cols}
            case "join_heads":
                return {"result": (self.rows, self.cols + self.heads * self.second_cols)}
            case "argmax":
                return {"result": (self.rows, 1)}
            case "router":
                return dict.fromkeys(("result", "experts"), (self.rows, self.top_k or 1))
            case "permute":
                return {"result": (self.rows, self.top_k or 1), "firsts": (1, self.cols)}
        return {"result": (self.rows, self.cols)}

    @property
    def second_cols(self) -> int:
        """Columns of y, where it is an operand with the rows of x."""
        return self.cols if self.y_cols is None else self.y_cols

    @property
    def heads(self) -> int:
        """Heads of `head_dim` columns."""
        return self.cols // (self.head_dim or self.cols)

    @property
    def tensor_bytes(self) -> dict[str, int]:
        """Bytes of every input and output; of a table those of the rows that are named."""
        sizes = self._bytes_of_matrices
        for name in set(_TABLES.get(self.function, ())) & set(sizes):
            sizes[name] = sizes[name] // (self.table_rows or 1) * self.needed_rows
        return sizes | self._bytes_of_numbers

    @property
    def moved_bytes(self) -> dict[str, int]:
        """Bytes of every input and output that is no table: without a look at the rows named."""
        tables = _TABLES.get(self.function, ())
        sizes = {name: n for name, n in self._bytes_of_matrices.items() if name not in tables}
        return sizes | self._bytes_of_numbers

    @property
    def _bytes_of_matrices(self) -> dict[str, int]:
        sizes = super().tensor_bytes
        if "sum" in sizes:
            sizes["sum"] = sizes["x"]
        return sizes

    @property
    def _bytes_of_numbers(self) -> dict[str, int]:
        if self.function in ("embedding", *_ROTARY):
            return {"numbers": self.rows * NUMBER_BYTES}
        if self.function == "router":
            return {"experts": self.rows * (self.top_k or 1) * NUMBER_BYTES}
        if self.function in ("permute", "combine"):
            return {"numbers": self.rows * (self.top_k or 1) * NUMBER_BYTES}
        return {}

    @property
    def needed_rows(self) -> int:
        """Rows of the table that are named, each once."""
        return self.rows if self.function == "kv_write" else len(np.unique(self.row_numbers))

    @property
    def row_numbers(self) -> Numbers:
        """Row of the table for each token, int32 [rows]; for kv_write the page of each `page` rows.

        Pages are all different; they begin where the rows of the cache do. For permute the experts
        of each token, all different, [rows x top_k]; for combine the places of its choices, those
        of all tokens' first ones before the second ones, [top_k x rows].
        """
        table_rows, page = self.table_rows or 1, self.page or 1
        if self.function == "permute":
            return self._experts_of_tokens()
        if self.function == "combine":
            choices = np.arange(self.rows * (self.top_k or 1), dtype=np.int32)
            is_drawn = self.order == "random"
            return np.random.default_rng(self.seed).permutation(choices) if is_drawn else choices
        if self.function == "kv_write":
            filled = ceil_div(self.rows, page)
            if self.order == "sequential":
                return np.arange(filled, dtype=np.int32)
            # Without a list of all pages, of which a large cache has very many.
            rng = np.random.default_rng(self.seed)
            return rng.choice(table_rows // page, filled, replace=False).astype(np.int32)
        if self.order == "sequential":
            return (np.arange(self.rows) % table_rows).astype(np.int32)
        return np.random.default_rng(self.seed).integers(table_rows, size=self.rows, dtype=np.int32)

    def _experts_of_tokens(self) -> Numbers:
        """Return experts of each token: drawn, or those that follow the token before's."""
        shape = self.rows, self.top_k or 1
        if self.order == "sequential":
            return (np.arange(shape[0] * shape[1]) % self.cols).astype(np.int32)
        scores = np.random.default_rng(self.seed).random((self.rows, self.cols))
        return np.argsort(scores, axis=1)[:, : shape[1]].astype(np.int32).ravel()


def rotary_table(positions: int, head_dim: int) -> npt.NDArray[np.float64]:
    """Return cosines, right of them sines, of the angles of positions 0.. [positions, head_dim].

    Angle i of position t is t 10000^(-2 i / head_dim) (Su et al., "RoFormer", 2021, equation 15).
    """
    angles = np.outer(np.arange(positions), 10000.0 ** (-np.arange(0, head_dim, 2) / head_dim))
    return np.hstack([np.cos(angles), np.sin(angles)])
