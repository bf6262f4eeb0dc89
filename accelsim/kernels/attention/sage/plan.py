"""One problem for SageAttention on a machine: buffers, matrices in HBM and phases."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.attention.kernel import Task
from accelsim.kernels.attention.operands import Operands, TilesOf, declare_operands
from accelsim.kernels.attention.sage import coding
from accelsim.kernels.attention.sage.making import (
    Making,
    allocate_making,
    code_keys,
    code_values,
    peaks_of_values,
    sum_keys,
)
from accelsim.kernels.attention.sage.parameters import SageParameters
from accelsim.kernels.integer.accumulator import accumulator_of, check_cube_sums, warn_of_sums
from accelsim.kernels.integer.known import in_rows, input_tensor
from accelsim.kernels.integer.phases import Loop, Phase, record_phases
from accelsim.quantization.codes import check_finite, largest_code

Parts = dict[str, Any]
Attention = Callable[[Parts, Parts], Loop]
"""Returns the loop of the attention of what was made and the buffers."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One problem, its parameters and what the machine says of them."""

    task: Task[SageParameters]
    uses_array: bool
    """Whether scores are of the integer array: where a machine has one, else of its cube."""
    accumulator: al.Accumulator

    @classmethod
    def of(cls, task: Task[SageParameters]) -> "Plan":
        """Return the plan; raises QuantizationError for values that are not finite."""
        if task.tensors is not None:
            for each in ("q", "k", "v"):
                check_finite(getattr(task.tensors, each), each)
        code = task.parameters.code_format
        if task.machine.int_mac is None:
            check_cube_sums(task.name, task.problem.head_dim, code)
            return cls(task, False, al.Accumulator(32, False))
        accumulator = accumulator_of(task.name, task.machine)
        largest = float(task.problem.head_dim * largest_code(code.bits) ** 2)
        warn_of_sums(task.name, task.machine, (code, code), largest, "fewer bits")
        return cls(task, True, accumulator)

    @property
    def problem(self) -> al.AttentionProblem:
        """The problem of the task."""
        return self.task.problem

    @property
    def parameters(self) -> SageParameters:
        """The parameters of the task."""
        return self.task.parameters

    @property
    def kv_heads(self) -> int:
        """KV heads of all sequences."""
        return self.problem.batch * self.problem.kv_heads

    @property
    def has_fp8(self) -> bool:
        """Whether weights and values are FP8."""
        return self.parameters.pv == "fp8"

    @property
    def tile_scales(self) -> int:
        """Scales of a key tile; 0: one for each key."""
        return {"block": 1, "thread": coding.THREAD_SCALES, "token": 0}[self.parameters.granularity]

    def parts(self, tile_k: Any) -> Any:
        """Return into how many work items sums over the keys of a head are cut, at most."""
        machine = self.task.machine
        items_at_once = machine.cores * machine.items_in_flight
        tiles_k = al.ceil_div(self.problem.kv_len, tile_k)
        return np.minimum(tiles_k, max(1, items_at_once // self.kv_heads))

    def allocate(self, builder: al.ProgramBuilder, sizes: tuple[int, ...]) -> Parts:
        """Declare the buffers for tiles of some query and key rows."""
        tile_q, tile_k = sizes
        problem, dim = self.problem, self.problem.head_dim
        buffers: Parts = {"making": {}}
        if self.parameters.shift == "once":
            own = (tile_k, dim, int(self.parts(tile_k)))
            code = self.parameters.code_format
            buffers["making"]["k"] = allocate_making(builder, "k", own, problem.dtype, code)
            if self.has_fp8:
                fp8 = al.Format.FP8_E4M3
                buffers["making"]["v"] = allocate_making(builder, "v", own, problem.dtype, fp8)
        buffers["shared"], buffers["own"] = self._allocate_attention(builder, tile_q, tile_k)
        return buffers

    def _allocate_attention(
        self, builder: al.ProgramBuilder, tile_q: int, tile_k: int
    ) -> tuple[Parts, Parts]:
        """Declare the buffers of the layout of `online_softmax`, and of what sage has beside it."""
        dim, stored, parameters = self.problem.head_dim, self.problem.dtype, self.parameters
        fp32, int32, code = al.Format.FP32, al.Format.INT32, parameters.code_format

        rows, keys = TilesOf(builder, tile_q, fp32), TilesOf(builder, tile_k, code)
        queries, output = rows("q_codes", dim, code, 2), rows("output", dim)
        weight = parameters.weight_format
        values = keys("v", dim, weight if self.has_fp8 else stored, 2)
        result = self.problem.output_dtype
        is_row = self.tile_scales == 0
        shared = {
            "queries": queries,
            "keys": keys("k", dim, slots=2),
            "values": values,
            "value_operands": keys.shared(values, "v_operand", dim, weight, 2),
            "scores_acc": rows.sums("scores_acc", tile_k, int32),
            "output_acc": rows.sums("output_acc", dim),
            "scores": rows("scores", tile_k, int32, 2),
            "x": rows("x", tile_k),
            "weights": rows("weights", tile_k, weight, 2),
            "product": rows("product", dim, parameters.product_format),
            "output": output,
            "stored": rows.shared(output, "stored", dim, result),
            "row_max": rows("row_max", 1, slots=2),
            "row_sum": rows("row_sum", 1),
            "tile_sum": rows("tile_sum", 1),
            "rescale": rows("rescale", 1),
        }
        kept = (1, tile_k) if is_row else (self.tile_scales, 1)
        own = {
            "coder": self._coder(coding.allocate_coder(builder, "q", (tile_q, dim), queries)),
            "raw": rows("q", dim, stored, 2),
            "kept": builder.buffer("k_scales", *kept, fp32, slots=2),
            "k_row": builder.buffer("k_row", 1, tile_k, fp32),
            "v_row": builder.buffer("v_row", 1, dim, fp32, slots=2),
            "shifted_max": rows("shifted_max", 1),
        }
        return shared, own

    def _coder(self, buffers: Parts) -> coding.Coder:
        shared_by = coding.SHARED_BY[self.parameters.granularity]
        return coding.Coder(
            shared_by, float(largest_code(self.parameters.code_format.bits)), **buffers
        )

    def laid_out(
        self, builder: al.ProgramBuilder, sizes: tuple[int, ...], attention: Attention
    ) -> tuple[list[Phase], al.Tensor]:
        """Place all matrices in HBM; returns the phases and the output."""
        buffers = self.allocate(builder, sizes)
        hbm = declare_operands(builder, self.problem, self.task.tensors)
        made, phases = self._made(builder, buffers["making"], sizes, hbm)
        return [*phases, [attention(made, buffers)]], hbm.o

    def _made(
        self, builder: al.ProgramBuilder, buffers: Parts, sizes: tuple[int, ...], hbm: Operands
    ) -> tuple[Parts, list[Phase]]:
        """Place codes and scales in HBM, and return them with the phases that make them."""
        heads, rows = self.kv_heads, self.kv_heads * self.problem.kv_len
        place = self._placing(builder, sizes)
        count = heads * al.ceil_div(self.problem.kv_len, sizes[1]) * self.tile_scales or rows
        dim, code = self.problem.head_dim, self.parameters.code_format
        k, k_scales = place("k_codes", rows, dim, code), place("k_scales", count, 1, al.Format.FP32)
        v, v_scales = hbm.v, builder.no_tensor(al.Format.FP32)
        if self.has_fp8:
            v = place("v_codes", rows, dim, al.Format.FP8_E4M3)
            v_scales = place("v_scales", heads, dim, al.Format.FP32)
        first: Phase = []
        second: Phase = []
        if "k" in buffers:
            making = self._making(builder, "k", (hbm.k, k, k_scales), buffers["k"])
            if making.is_smoothed:
                first.append(Loop(sum_keys, heads * making.parts, (making,)))
            second.append(Loop(code_keys, heads * making.tiles_k, (making,)))
        if "v" in buffers:
            making = self._making(builder, "v", (hbm.v, v, v_scales), buffers["v"])
            first.append(Loop(peaks_of_values, heads * making.parts, (making,)))
            second.append(Loop(code_values, heads * making.tiles_k, (making,)))
        if self.tile_scales == 0:
            k_scales = in_rows(k_scales, heads, self.problem.kv_len)
        made = {"hbm": hbm._replace(k=k, v=v), "k_scales": k_scales, "v_scales": v_scales}
        return made, [first, second]

    def _placing(
        self, builder: al.ProgramBuilder, sizes: tuple[int, ...]
    ) -> Callable[[str, int, int, al.Format], al.Tensor]:
        """Return what places a matrix that is made in the run, or that the cache holds."""
        if self.parameters.shift == "once":
            return lambda name, *matrix: builder.tensor(name, "intermediate", *matrix)
        known = self._cached(sizes) if self.task.tensors is not None else {}
        return partial(input_tensor, builder, known)

    def _cached(self, sizes: tuple[int, ...]) -> dict[str, al.Array]:
        """Return what the cache holds, by tensor: what making it in the run stores."""
        own = self.parameters.model_copy(update={"shift": "once"})
        plan, builder = replace(self, task=self.task._replace(parameters=own)), self.task.builder()
        buffers = plan.allocate(builder, sizes)
        hbm = declare_operands(builder, self.problem, self.task.tensors)
        record_phases(builder, plan._made(builder, buffers["making"], sizes, hbm)[1])
        return builder.data

    def _making(
        self,
        builder: al.ProgramBuilder,
        name: str,
        matrices: tuple[al.Tensor, al.Tensor, al.Tensor],
        buffers: Parts,
    ) -> Making:
        """Return the layout of the phases that make codes; matrices: of values, codes and scales.

        Sums and peaks are only stored where a phase makes them.
        """
        problem, (x, made, scales) = self.problem, matrices
        tile_k, dim = buffers["raw"].rows, problem.head_dim
        tiles_k, parts = al.ceil_div(problem.kv_len, tile_k), int(self.parts(tile_k))
        part_tiles = al.ceil_div(tiles_k, parts)
        parts = al.ceil_div(tiles_k, part_tiles)
        is_smoothed = name == "k" and self.parameters.smoothing == "k"
        totals = builder.no_tensor(al.Format.FP32)
        if is_smoothed or name == "v":
            rows = self.kv_heads * parts
            totals = builder.tensor(f"{name}_totals", "intermediate", rows, dim, al.Format.FP32)
        return Making(
            heads=self.kv_heads,
            kv_len=problem.kv_len,
            dim=dim,
            tile_k=tile_k,
            tiles_k=tiles_k,
            parts=parts,
            part_tiles=part_tiles,
            is_smoothed=is_smoothed,
            x=x,
            totals=totals,
            made=made,
            scales=scales,
            **(buffers | {"coder": self._coder(buffers["coder"])}),
        )
