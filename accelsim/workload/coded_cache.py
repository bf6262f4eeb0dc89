"""K and V of attention as codes in HBM: which matrices there are, and where each head is in them.

Of a head with n tokens the first ones are codes and the others as they came
(`numerics.kv_format`). Matrices have the heads of all sequences one after the other:

    codes   a row for each token that is coded
    plain   a row for each that is not
    step    FP16; of K a row for each group of tokens, of V a row for each token and a column for
    zero    each group of channels; an element is code x step - zero (scales of groups)
    shift   of the same shape, E8M0: powers of two (power_of_two)
    base    FP16, an element for each token that is coded: of K in a row, of V in a column
            (power_of_two)
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.formats import Format
from accelsim.numerics.kv_codes import GroupCodes, KvCodes, RowCodes, kv_codes
from accelsim.numerics.kv_format import KvFormat
from accelsim.units import ceil_div

if TYPE_CHECKING:
    from accelsim.workload.attention import AttentionProblem

Arrays = dict[str, NDArray[Any]]
Rows = NDArray[np.int64]


class Matrix(NamedTuple):
    """A matrix in HBM."""

    rows: int
    cols: int
    fmt: Format

    @property
    def size_bytes(self) -> int:
        """Its bytes, rows at whole bytes."""
        return self.rows * self.fmt.row_bytes(self.cols)


def coded_tokens(problem: "AttentionProblem", part: str) -> Rows:
    """Return of how many tokens each KV head of all sequences has codes; part: k or v."""
    tokens, fmt = _tokens(problem), _format(problem)
    return tokens - (tokens % fmt.residual if part == "k" else np.minimum(tokens, fmt.residual))


def head_rows(problem: "AttentionProblem", part: str) -> Rows:
    """Return [KV heads, 4]: first row in codes, tokens coded, first row in plain and in groups."""
    coded = coded_tokens(problem, part)
    plain, groups = _tokens(problem) - coded, coded // _format(problem).group
    before = [np.cumsum(each) - each for each in (coded, plain, groups)]
    return np.stack([before[0], coded, before[1], before[2]], axis=1)


def cache_matrices(problem: "AttentionProblem", part: str) -> dict[str, Matrix]:
    """Return the matrices of K or of V."""
    fmt = _format(problem)
    width = problem.widths.key if part == "k" else problem.widths.value
    coded = int(coded_tokens(problem, part).sum())
    plain = int(_tokens(problem).sum()) - coded
    shared = coded // fmt.group, width
    if part == "v":
        shared = coded, ceil_div(width, fmt.group)
    own = {
        "codes": Matrix(coded, width, fmt.element),
        "plain": Matrix(plain, width, problem.dtype),
    }
    if fmt.scales == "group":
        scales = {name: Matrix(*shared, Format.FP16) for name in ("step", "zero")}
    else:
        base = Matrix(*((1, coded) if part == "k" else (coded, 1)), Format.FP16)
        scales = {"shift": Matrix(*shared, Format.E8M0), "base": base}
    return own | {name: each for name, each in scales.items() if coded}


def cache_bytes(problem: "AttentionProblem", part: str) -> int:
    """Return the bytes of K or of V."""
    return sum(each.size_bytes for each in cache_matrices(problem, part).values())


def coded_cache(
    problem: "AttentionProblem", part: str, heads: list[NDArray[np.float32]]
) -> tuple[list[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]:
    """Return what K or V stands for, and the matrices that keep it.

    heads: [tokens, width] of each KV head of all sequences, in the problem's format. Raises
    QuantizationError.
    """
    fmt, matrices, values = _format(problem), cache_matrices(problem, part), []
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in matrices}
    for x, coded in zip(heads, coded_tokens(problem, part), strict=True):
        own = x.copy()
        parts["plain"].append(x[coded:])
        if coded:
            stored = kv_codes(x[None, :coded], fmt, "keys" if part == "k" else "values")
            own[:coded] = stored.values[0]
            for name, each in _stored(stored).items():
                parts[name].append(each[0].astype(np.float32))
        values.append(own)
    joined = {name: np.concatenate(found) for name, found in parts.items() if found}
    shapes = {name: (each.rows, each.cols) for name, each in matrices.items()}
    return values, {name: each.reshape(shapes[name]) for name, each in joined.items()}


def _stored(codes: KvCodes) -> Arrays:
    if isinstance(codes, GroupCodes):
        # Codes from 0 on: the bits of the format without a sign.
        return {"codes": codes.codes, "step": codes.step, "zero": -codes.lowest}
    if isinstance(codes, RowCodes):
        shift = np.ldexp(np.float32(1), -codes.shift)
        return {"codes": codes.codes, "shift": shift, "base": codes.base}
    return {"codes": codes.elements}


def _tokens(problem: "AttentionProblem") -> Rows:
    lengths = [np.full(each.batch * problem.kv_heads, each.kv_len) for each in problem.lengths]
    return np.concatenate(lengths).astype(np.int64)


def _format(problem: "AttentionProblem") -> KvFormat:
    if problem.kv_codes is None:
        raise ValueError(f"K and V of {problem.name} are no codes")
    return problem.kv_codes
