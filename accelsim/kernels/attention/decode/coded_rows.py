"""Keys and values that are codes in HBM, the latest ones as they came: how a step reads them.

The vector unit makes a tile of codes what the matrix unit multiplies: it converts each element, and
multiplies it with what its group shares. Steps with a smallest value (KIVI, arXiv 2402.02750) take
one more subtraction. A base of a row leaves the scores, one product for each of them; for values it
joins the powers of two of its groups first. Matrices are those of `workload.coded_cache`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels import language as al
from accelsim.numerics.kv_format import KvFormat
from accelsim.runtime.jit import chosen_by_type
from accelsim.workload.coded_cache import cache_matrices, head_rows


class PlainCache(NamedTuple):
    """Rows of K and V are as the problem says."""

    num_parts: int = 1


class GroupScales(NamedTuple):
    """An element is code x step - zero."""

    step: al.Buffer
    zero: al.Buffer
    hbm_step: al.Tensor
    hbm_zero: al.Tensor


class RowScales(NamedTuple):
    """An element is code x base of its row x power of two of its group."""

    shift: al.Buffer
    base: al.Buffer
    factor: al.Buffer
    """Base times power of two, of values; of keys nothing that is used."""
    hbm_shift: al.Tensor
    hbm_base: al.Tensor


class Part(NamedTuple):
    """K or V of all heads."""

    rows: Any
    """int64 [heads, 4], see `workload.coded_cache.head_rows`."""
    codes: al.Tensor
    plain: al.Tensor
    scales: Any
    """GroupScales or RowScales."""


class CodedCache(NamedTuple):
    """K and V as codes."""

    group: int
    keys: Part
    values: Part


class CodedKeys(NamedTuple):
    """Tokens of a head that follow each other, whose keys are codes."""

    first: int
    """Row in codes."""
    size: int
    place: int
    """Number of the first among the tokens of its head."""
    groups: int
    """First row of the head in groups."""


class PlainKeys(NamedTuple):
    """Tokens whose keys are as they came."""

    first: int
    size: int


class CodedValues(NamedTuple):
    """Tokens whose values are codes."""

    first: int
    size: int


class PlainValues(NamedTuple):
    """Tokens whose values are as they came."""

    first: int
    size: int


@al.jit_inner
def coded_keys_of(start, size, at, k):
    """Return the tokens from number `start` on whose keys are codes, and the others."""
    rows = k.own.cache.keys.rows
    coded, head = rows[at.head, 1], at.head
    inside = max(0, min(start + size, coded) - start)
    later = rows[head, 2] + start + inside - coded
    return (
        CodedKeys(rows[head, 0] + start, inside, start, rows[head, 3]),
        PlainKeys(later, size - inside),
    )


@al.jit_inner
def coded_values_of(start, size, at, k):
    """Return the tokens from number `start` on whose values are codes, and the others."""
    rows = k.own.cache.values.rows
    coded, head = rows[at.head, 1], at.head
    inside = max(0, min(start + size, coded) - start)
    later = rows[head, 2] + start + inside - coded
    return CodedValues(rows[head, 0] + start, inside), PlainValues(later, size - inside)


@al.jit_inner
def plain_keys(rows, p, turn, start, count, k):
    """Load keys to where the matrix unit takes them from."""
    keys = al.tile(k.key_operands, turn, count, k.dim)
    al.load(p, keys, k.own.cache.keys.plain, rows.first + start, 0)
    return keys


@al.jit_inner
def plain_values(rows, p, turn, start, count, k):
    """Load values to where the matrix unit takes them from."""
    values = al.tile(k.value_operands, turn, count, k.value_dim)
    al.load(p, values, k.own.cache.values.plain, rows.first + start, 0)
    return values


@al.jit_inner
def coded_keys(rows, p, turn, start, count, k):
    """Load codes of keys and make them keys; a group may begin before the tile, or end behind."""
    cache = k.own.cache
    codes, keys = al.tile(k.keys, turn, count, k.dim), al.tile(k.key_operands, turn, count, k.dim)
    al.load(p, codes, cache.keys.codes, rows.first + start, 0)
    place = rows.place + start
    first = place // cache.group
    groups = (place + count - 1) // cache.group + 1 - first
    _load_of_groups(cache.keys.scales, p, turn, rows.groups + first, groups, k)
    al.convert(p, keys, codes)
    done = 0
    while done < count:
        group = (place + done) // cache.group
        own = min(count - done, (group + 1) * cache.group - place - done)
        tile = al.rows_from(keys, done, own)
        _scale_group(cache.keys.scales, p, tile, turn, group - first, groups, k)
        done += own
    return keys


@al.jit_inner
def _load_steps(scales, p, turn, first, groups, k):
    al.load(p, al.tile(scales.step, turn, groups, k.dim), scales.hbm_step, first, 0)
    al.load(p, al.tile(scales.zero, turn, groups, k.dim), scales.hbm_zero, first, 0)


@al.jit_inner
def _load_shifts(scales, p, turn, first, groups, k):
    al.load(p, al.tile(scales.shift, turn, groups, k.dim), scales.hbm_shift, first, 0)


_load_of_groups = chosen_by_type({GroupScales: _load_steps, RowScales: _load_shifts})


@al.jit_inner
def _scale_by_steps(scales, p, keys, turn, group, groups, k):
    step, zero = (
        al.tile(scales.step, turn, groups, k.dim),
        al.tile(scales.zero, turn, groups, k.dim),
    )
    al.multiply_row(p, keys, keys, al.rows_from(step, group, 1))
    al.subtract_row(p, keys, keys, al.rows_from(zero, group, 1))


@al.jit_inner
def _scale_by_shifts(scales, p, keys, turn, group, groups, k):
    shift = al.tile(scales.shift, turn, groups, k.dim)
    al.multiply_row(p, keys, keys, al.rows_from(shift, group, 1))


_scale_group = chosen_by_type({GroupScales: _scale_by_steps, RowScales: _scale_by_shifts})


@al.jit_inner
def finish_coded_scores(rows, p, x, turn, start, k):
    """Multiply the scores of keys that are codes by what their rows share."""
    _finish(k.own.cache.keys.scales, p, x, turn, rows.first + start)


@al.jit_inner
def _finish_nothing(scales, p, x, turn, first):
    pass


@al.jit_inner
def _multiply_by_bases(scales, p, x, turn, first):
    base = al.tile(scales.base, turn, 1, x.cols)
    al.load(p, base, scales.hbm_base, 0, first)
    al.multiply_row(p, x, x, base)


_finish = chosen_by_type({GroupScales: _finish_nothing, RowScales: _multiply_by_bases})


@al.jit_inner
def coded_values(rows, p, turn, start, count, k):
    """Load codes of values and make them values."""
    cache, width = k.own.cache, k.value_dim
    codes, values = (
        al.tile(k.values, turn, count, width),
        al.tile(k.value_operands, turn, count, width),
    )
    al.load(p, codes, cache.values.codes, rows.first + start, 0)
    groups = -(-width // cache.group)
    _load_of_rows(cache.values.scales, p, turn, rows.first + start, count, groups)
    al.convert(p, values, codes)
    for group in range(groups):
        first = group * cache.group
        tile = al.columns(values, first, min(cache.group, width - first))
        _scale_columns(cache.values.scales, p, tile, turn, group, groups)
    return values


@al.jit_inner
def _load_steps_of_rows(scales, p, turn, first, count, groups):
    al.load(p, al.tile(scales.step, turn, count, groups), scales.hbm_step, first, 0)
    al.load(p, al.tile(scales.zero, turn, count, groups), scales.hbm_zero, first, 0)


@al.jit_inner
def _load_shifts_of_rows(scales, p, turn, first, count, groups):
    shift, base = al.tile(scales.shift, turn, count, groups), al.tile(scales.base, turn, count, 1)
    al.load(p, shift, scales.hbm_shift, first, 0)
    al.load(p, base, scales.hbm_base, first, 0)
    al.multiply_column(p, al.tile(scales.factor, turn, count, groups), shift, base)


_load_of_rows = chosen_by_type({GroupScales: _load_steps_of_rows, RowScales: _load_shifts_of_rows})


@al.jit_inner
def _scale_columns_by_steps(scales, p, values, turn, group, groups):
    count = values.rows
    step, zero = (
        al.tile(scales.step, turn, count, groups),
        al.tile(scales.zero, turn, count, groups),
    )
    al.multiply_column(p, values, values, al.columns(step, group, 1))
    al.subtract_column(p, values, values, al.columns(zero, group, 1))


@al.jit_inner
def _scale_columns_by_factors(scales, p, values, turn, group, groups):
    factor = al.tile(scales.factor, turn, values.rows, groups)
    al.multiply_column(p, values, values, al.columns(factor, group, 1))


_scale_columns = chosen_by_type(
    {GroupScales: _scale_columns_by_steps, RowScales: _scale_columns_by_factors}
)


def declare_cache(
    builder: al.ProgramBuilder,
    problem: al.AttentionProblem,
    tensors: al.AttentionTensors | None,
    tile_k: int,
    slots: int,
) -> PlainCache | CodedCache:
    """Place K and V as codes in HBM and declare the tiles of what they share."""
    if problem.kv_codes is None:
        return PlainCache()
    codes = {} if tensors is None or tensors.codes is None else tensors.codes
    keys, values = (
        _Placing(builder, problem, problem.kv_codes, codes, part, tile_k, slots).part()
        for part in ("k", "v")
    )
    return CodedCache(problem.kv_codes.group, keys, values)


def for_blocks(cache: PlainCache | CodedCache, blocks: int) -> PlainCache | CodedCache:
    """Return the cache as if each block of query heads had a KV head of its own."""
    if isinstance(cache, PlainCache):
        return cache
    keys, values = (
        part._replace(rows=np.repeat(part.rows, blocks, axis=0))
        for part in (cache.keys, cache.values)
    )
    return cache._replace(keys=keys, values=values)


class _Placing(NamedTuple):
    """Where K or V go in HBM and on chip."""

    builder: al.ProgramBuilder
    problem: al.AttentionProblem
    fmt: KvFormat
    codes: Mapping[str, al.Array]
    name: str
    """k or v."""
    tile_k: int
    slots: int

    def part(self) -> Part:
        """Declare everything."""
        keys, group = self.name == "k", self.fmt.group
        width = self.problem.widths.key if keys else self.problem.widths.value
        shape = (self.tile_k // group + 2, width) if keys else (self.tile_k, -(-width // group))
        base = (1, self.tile_k) if keys else (self.tile_k, 1)
        names = ("step", "zero") if self.fmt.scales == "group" else ("shift", "base")
        codes, plain, first, second = (self._in_hbm(name) for name in ("codes", "plain", *names))
        scales: GroupScales | RowScales
        if self.fmt.scales == "group":
            step, zero = (self._tiles(name, shape, al.Format.FP16) for name in names)
            scales = GroupScales(step, zero, first, second)
        else:
            shift = self._tiles("shift", shape, al.Format.E8M0)
            bases = self._tiles("base", base, al.Format.FP16)
            factor = shift if keys else self._tiles("factor", shape, al.Format.FP32)
            scales = RowScales(shift, bases, factor, first, second)
        return Part(head_rows(self.problem, self.name), codes, plain, scales)

    def _in_hbm(self, name: str) -> al.Tensor:
        matrix = cache_matrices(self.problem, self.name).get(name)
        if matrix is None or not matrix.rows * matrix.cols:
            return self.builder.no_tensor()
        own = f"{self.name}_{name}"
        return self.builder.tensor(own, "input", *matrix, self.codes.get(own))

    def _tiles(self, name: str, shape: tuple[int, int], fmt: al.Format) -> al.Buffer:
        return self.builder.buffer(f"{self.name}_{name}", *shape, fmt, slots=self.slots)
