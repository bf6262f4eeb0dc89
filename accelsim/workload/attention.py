"""Attention as it is asked of a machine: equal sequences, or a list of different ones."""

from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from accelsim.config.spec import PositiveValue, Size, SizeOrZero, Spec
from accelsim.errors import WorkloadError
from accelsim.numerics.formats import Format, common_format
from accelsim.numerics.kv_format import KvFormat
from accelsim.workload.base import FLOAT_FORMATS, FloatFormat, Shapes, TensorProblem
from accelsim.workload.coded_cache import cache_bytes
from accelsim.workload.sources import AttentionSource, ModelHeadsSource


class SequenceSpec(Spec):
    """Tokens of a sequence: those that are computed now, and those whose keys are there before."""

    new: Size
    """New tokens: query rows per head."""
    cached: SizeOrZero = 0
    """Tokens before them, whose keys and values are there."""
    count: Size = 1
    """How many equal sequences there are, one after the other."""


class Lengths(NamedTuple):
    """Equal sequences, one after the other."""

    batch: int
    q_len: int
    """Query rows per head."""
    kv_len: int
    """Key and value rows per head, those of the last step among them."""

    def score_pairs(self, steps: int, *, causal: bool, attended: int | None = None) -> int:
        """Return the query-key pairs of a head in all steps that the mask lets through.

        attended: the most keys of a query, as a window has them.
        """
        if attended is not None:
            row = np.arange(self.q_len * steps)
            seen = np.minimum(self.kv_len - self.q_len * steps + row + 1, attended)
            return self.batch * int(seen.sum())
        rows = self.q_len * steps
        later = self.q_len * rows * (steps - 1) // 2
        unseen = self.q_len * (self.q_len - 1) // 2 if causal else 0
        return self.batch * (rows * self.kv_len - later - steps * unseen)


class RowWidths(NamedTuple):
    """Elements of a row."""

    key: int
    """Of Q and K."""
    value: int
    """Of V and the output."""


def _codes(found: object) -> KvFormat:
    try:
        own = KvFormat.of(found if isinstance(found, KvFormat) else str(found))
    except WorkloadError as error:
        raise ValueError(str(error).removeprefix("kv: ")) from error
    if not own.is_coded:
        raise ValueError(f"found '{own}', allowed: int8, int4; floating-point formats are kv_dtype")
    return own


KvCodesFormat = Annotated[
    KvFormat, PlainValidator(_codes), PlainSerializer(str), WithJsonSchema({"type": "string"})
]
_BESIDE_CODES = {
    "dtype": (Format.FP32, Format.BF16, Format.FP16),
    "kv_dtype": None,
    "kv_scales": "one",
    "steps": 1,
    "window": None,
    "values_in_keys": False,
}
"""Field -> what it may be where K and V are codes."""


class AttentionProblem(TensorProblem):
    """softmax(Q K^T / sqrt(head_dim)) V for every query head; KV heads may be shared (GQA)."""

    kind: Literal["attention"]
    """What is asked."""
    sequences: tuple[SequenceSpec, ...] | None = Field(default=None, min_length=1)
    """Sequences of different lengths, in the place of batch, q_len and kv_len."""
    batch: Size = 1
    """Independent sequences."""
    q_heads: Size
    """Query heads per sequence."""
    kv_heads: Size
    """Key and value heads per sequence; divides q_heads."""
    head_dim: Size
    """Elements of one query or key row, and of a value row unless value_dim says otherwise."""
    value_dim: Size | None = None
    """Elements of one row of V and of the output; absent: head_dim."""
    q_len: Size = Field(default=None, validate_default=True)
    """Query rows per head: new tokens, which are computed at once. Required without sequences."""
    kv_len: Size = Field(default=None, validate_default=True)
    """Key and value rows per head, new tokens included. Required without sequences."""
    steps: Size = 1
    """Decode steps of a generation, one after the other: each has one new token of every sequence,
    and sees those before it. The last one sees all kv_len keys."""
    causal: bool = False
    """Whether query row i sees only the keys up to i + kv_len - q_len, or up to i + cached."""
    window: Size | None = None
    """Latest keys that a query sees, its own among them, under a causal mask or with one new token
    in a step; absent: all. Models call it `sliding_window`."""
    sink_tokens: SizeOrZero = 0
    """First keys of a sequence that every query sees besides its window: attention sinks."""
    softcap: PositiveValue | None = None
    """c, where scores are c tanh(Q K^T / sqrt(head_dim) / c); absent: they are not capped. Models
    call it `attn_logit_softcapping`."""
    sink_logits: bool = False
    """Whether each query head has a learned logit in its softmax, which has no key and no value
    (gpt-oss). It is not scaled or capped."""
    values_in_keys: bool = False
    """Whether a row of V is the first value_dim elements of the row of K and has no place of its
    own, as the latent rows of MLA in its absorbed form."""
    dtype: FloatFormat = Format.FP16
    """Number format of Q, K and V in HBM, and of the output, which is BF16 for FP8."""
    kv_dtype: FloatFormat | None = None
    """Number format of K and V in HBM, whose values dtype holds too; absent: dtype."""
    kv_scales: Literal["one", "peak"] = "one"
    """What K and V in FP8 were divided by before they were rounded: nothing, or each its largest
    magnitude over the largest number of the format."""
    kv_codes: KvCodesFormat | None = None
    """How K and V are kept as integers, such as `int4(group=32)`, the latest ones as they are;
    absent: as numbers of kv_dtype."""
    tensors: AttentionSource | None = None
    """Where the values come from; absent: cost only, no accuracy."""

    @field_validator("batch")
    @classmethod
    def _batch_is_said_once(cls, batch: int, info: ValidationInfo) -> int:
        _refuse_beside_sequences(batch, info)
        return batch

    @field_validator("q_len", "kv_len", mode="wrap")
    @classmethod
    def _lengths_are_said_once(
        cls, found: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> int:
        if found is not None:
            _refuse_beside_sequences(found, info)
            return int(check(found))
        if info.data.get("sequences", ()) is None:
            raise PydanticCustomError("missing", "Field required")
        return 0

    @field_validator("steps")
    @classmethod
    def _a_step_has_one_new_token(cls, steps: int, info: ValidationInfo) -> int:
        # Fields that are wrong themselves are not here, and have their own message.
        sequences, kv_len = info.data.get("sequences"), info.data.get("kv_len", 0)
        new = max((each.new for each in sequences or ()), default=info.data.get("q_len", 1))
        if steps > 1 and new > 1:
            name = "a sequence of" if sequences else "q_len ="
            raise ValueError(f"found {steps} with {name} {new} new tokens, allowed: one in a step")
        if steps > kv_len > 0:
            raise ValueError(f"found {steps} with kv_len = {kv_len}, allowed: up to kv_len")
        return steps

    @field_validator("kv_heads")
    @classmethod
    def _kv_heads_divide_q_heads(cls, kv_heads: int, info: ValidationInfo) -> int:
        q_heads = info.data.get("q_heads", kv_heads)
        if q_heads % kv_heads:
            raise ValueError(f"found {kv_heads}, allowed: a divisor of q_heads = {q_heads}")
        return kv_heads

    @field_validator("causal")
    @classmethod
    def _causal_rows_see_a_key(cls, causal: bool, info: ValidationInfo) -> bool:
        q_len, kv_len = info.data.get("q_len", 0), info.data.get("kv_len", 0)
        if causal and q_len > kv_len > 0:
            raise ValueError(
                f"found true with q_len = {q_len} and kv_len = {kv_len}, "
                "allowed: true only if kv_len >= q_len"
            )
        return causal

    @field_validator("window")
    @classmethod
    def _a_window_ends_at_the_query(cls, window: int | None, info: ValidationInfo) -> int | None:
        new = max((each.new for each in info.data.get("sequences") or ()), default=0)
        new = new or info.data.get("q_len", 1)
        if window is not None and new > 1 and not info.data.get("causal", True):
            raise ValueError(
                f"found {window} with causal = false and {new} new tokens, "
                "allowed: with causal = true, or one new token in a step"
            )
        return window

    @field_validator("sink_tokens")
    @classmethod
    def _sinks_are_beside_a_window(cls, sinks: int, info: ValidationInfo) -> int:
        if sinks and info.data.get("window", 0) is None:
            raise ValueError(f"found {sinks} without window, allowed: beside a window")
        return sinks

    @field_validator("values_in_keys")
    @classmethod
    def _keys_hold_values(cls, found: bool, info: ValidationInfo) -> bool:
        key, value = info.data.get("head_dim"), info.data.get("value_dim")
        if found and key and value and value > key:
            raise ValueError(
                f"found true with value_dim = {value} and head_dim = {key}, "
                "allowed: with value_dim up to head_dim"
            )
        return found

    @field_validator("kv_dtype")
    @classmethod
    def _queries_hold_keys(cls, found: Format | None, info: ValidationInfo) -> Format | None:
        if found is None or "dtype" not in info.data:
            return found
        dtype: Format = info.data["dtype"]
        if common_format(dtype, found) != dtype:
            allowed = [str(each) for each in FLOAT_FORMATS if common_format(dtype, each) == dtype]
            raise ValueError(f"found '{found}' with dtype = {dtype}, allowed: {', '.join(allowed)}")
        return found

    @field_validator("kv_scales")
    @classmethod
    def _scales_are_of_fp8(cls, found: str, info: ValidationInfo) -> str:
        own = info.data.get("kv_dtype") or info.data.get("dtype", Format.FP8_E4M3)
        if found == "peak" and not own.is_fp8:
            raise ValueError(f"found 'peak' with K and V in {own}, allowed: one, or K and V in FP8")
        return found

    @field_validator("kv_codes")
    @classmethod
    def _codes_stand_alone(cls, found: KvFormat | None, info: ValidationInfo) -> KvFormat | None:
        if found is None:
            return found
        data = info.data
        for name, allowed in _BESIDE_CODES.items():
            own = data.get(name, allowed)
            if own not in (allowed if isinstance(allowed, tuple) else (allowed,)):
                listed = ", ".join(map(str, allowed)) if isinstance(allowed, tuple) else allowed
                raise ValueError(f"found {found} with {name} = {own}, allowed: {name} = {listed}")
        return found

    @field_validator("tensors")
    @classmethod
    def _a_text_has_one_length(
        cls, source: AttentionSource | None, info: ValidationInfo
    ) -> AttentionSource | None:
        if isinstance(source, ModelHeadsSource) and info.data.get("sequences"):
            raise ValueError(
                "found source model with sequences, allowed with them: uniform, hybrid, file"
            )
        for name in ("sink_logits", "values_in_keys"):
            if isinstance(source, ModelHeadsSource) and info.data.get(name):
                raise ValueError(
                    f"found source model with {name}, allowed with it: uniform, hybrid, file"
                )
        return source

    @property
    def lengths(self) -> tuple[Lengths, ...]:
        """Lengths of all sequences in the last step, in order."""
        if self.sequences is None:
            return (Lengths(self.batch, self.q_len, self.kv_len),)
        return tuple(
            Lengths(each.count, each.new, each.cached + self.steps * each.new)
            for each in self.sequences
        )

    @property
    def parts(self) -> tuple["AttentionProblem", ...]:
        """Problems of equal sequences that it consists of, in order; itself where all are equal."""
        if self.sequences is None:
            return (self,)
        return tuple(self.of_equal(*each) for each in self.lengths)

    def of_equal(self, batch: int, q_len: int, kv_len: int) -> "AttentionProblem":
        """Return the problem with `batch` sequences of these lengths instead of its own."""
        changed = {"sequences": None, "batch": batch, "q_len": q_len, "kv_len": kv_len}
        return self.model_copy(update=changed)

    def at_step(self, step: int) -> "AttentionProblem":
        """Return the problem of one step alone, counted from 0, with the cache as it is then."""
        if self.steps == 1:
            return self
        if self.sequences is None:
            kv_len = self.kv_len - (self.steps - 1 - step)
            return self.model_copy(update={"steps": 1, "kv_len": kv_len})
        grown = tuple(
            each.model_copy(update={"cached": each.cached + step}) for each in self.sequences
        )
        return self.model_copy(update={"steps": 1, "sequences": grown})

    @property
    def attended(self) -> int | None:
        """Most keys that a query sees under a window; None without one."""
        return None if self.window is None else self.window + self.sink_tokens

    def attended_of(self, seen: Any) -> Any:
        """Return how many keys a query sees of those up to its own."""
        return seen if self.attended is None else np.minimum(seen, self.attended)

    @property
    def widths(self) -> RowWidths:
        """Elements of the rows of all tensors."""
        return RowWidths(self.head_dim, self.value_dim or self.head_dim)

    @property
    def kv_format(self) -> Format:
        """Number format of K and V in HBM."""
        return self.kv_dtype or self.dtype

    @property
    def has_plain_kv(self) -> bool:
        """Whether rows of V have the width of K, and both the format of Q and no scale."""
        same_width = self.widths.value == self.head_dim and not self.values_in_keys
        if self.kv_codes is not None:
            return False
        return same_width and self.kv_format == self.dtype and self.kv_scales == "one"

    @property
    def input_dtypes(self) -> dict[str, Format]:
        """Number formats of q, k, v and sinks in HBM; logits are FP32."""
        kv = self.kv_format
        return {"q": self.dtype, "k": kv, "v": kv, "sinks": Format.FP32}

    @property
    def tensor_bytes(self) -> dict[str, int]:
        """Bytes of every input and output in its format; of codes with what they share."""
        sizes = super().tensor_bytes
        if self.kv_codes is None:
            return sizes
        return sizes | {name: cache_bytes(self, name) for name in ("k", "v")}

    @property
    def num_sequences(self) -> int:
        """Sequences, equal ones counted."""
        return sum(each.batch for each in self.lengths)

    @property
    def most_queries(self) -> int:
        """Query rows per head, in a step, of the sequence that has the most."""
        return max(each.q_len for each in self.lengths)

    @property
    def fewest_queries(self) -> int:
        """Query rows per head, in a step, of the sequence that has the fewest."""
        return min(each.q_len for each in self.lengths)

    @property
    def most_keys(self) -> int:
        """Key rows per head, in the last step, of the sequence that has the most."""
        return max(each.kv_len for each in self.lengths)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of both matrix products in all steps, masked pairs left out."""
        pairs = sum(
            each.score_pairs(self.steps, causal=self.causal, attended=self.attended)
            for each in self.lengths
        )
        return self.q_heads * sum(self.widths) * pairs

    @property
    def input_shapes(self) -> Shapes:
        """Shapes of q, k and v: [sequences x heads, rows, head_dim], of v [.., value_dim]; a
        step has one row of q.

        With `sequences` [heads x rows of all, ..]: sequences one after the other, in each its
        heads, in each its rows. Of sinks [q_heads, 1], if there are; no v where it is a part of k.
        """
        kv_rows, widths = self._kv_rows, self.widths
        shapes = {"q": (*self._q_rows, widths.key), "k": (*kv_rows, widths.key)}
        if not self.values_in_keys:
            shapes["v"] = (*kv_rows, widths.value)
        return shapes | ({"sinks": (self.q_heads, 1)} if self.sink_logits else {})

    @property
    def output_shapes(self) -> Shapes:
        """Shape of the output o: rows of q, of the width of v."""
        return {"o": (*self._q_rows, self.widths.value)}

    @property
    def _q_rows(self) -> tuple[int, ...]:
        """Shape of q, but for its last axis."""
        if self.sequences is None:
            return self.batch * self.q_heads, self.steps * self.q_len
        new = sum(each.batch * each.q_len for each in self.lengths)
        return (self.q_heads * self.steps * new,)

    @property
    def _kv_rows(self) -> tuple[int, ...]:
        """Shape of k and v, but for their last axis."""
        if self.sequences is None:
            return self.batch * self.kv_heads, self.kv_len
        return (self.kv_heads * sum(each.batch * each.kv_len for each in self.lengths),)


def _refuse_beside_sequences(found: Any, info: ValidationInfo) -> None:
    if info.data.get("sequences"):
        raise ValueError(
            f"found {found} beside sequences, allowed: sequences, or batch, q_len and kv_len"
        )
