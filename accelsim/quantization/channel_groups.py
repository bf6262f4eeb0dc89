"""Channels in groups whose scales are powers of two apart, calibrated before the run.

Within a row chunk every feature channel c is shifted by its bias, (max + min) / 2 of what was seen
of it, and belongs to a group by the range that is left, CMax_c. With TMax, the largest of them,
group g = 0, 1, ... takes the channels with TMax / 2^(g + 1) < CMax_c <= TMax / 2^g, the last group
all that are smaller, and codes of group g are worth TMax / 2^g / (2^(bits - 1) - 1). So the sums of
one group become those of the next by a shift of one bit.

Source: Lee, Lee and Sim, "Tender: Accelerating Large Language Models via Tensor Decomposition and
Runtime Requantization", ISCA 2024, arXiv 2406.12930, section III.

That is `base: static`. With `base: row`, which is not in the paper, groups stay static and TMax
does not: every row r finds its own, max_c |x_rc - bias_c| 2^g_c, as a scale per token is found
(ZeroQuant, arXiv 2206.01861, section 4.1). How much larger one channel is than another is a
property of the model, how large all of them are one of the token; so the groups hold for text of
another kind, where a static range clips. Sums of one group still become those of the next by a
shift.

With few levels the largest value of a row should be clipped. So a row may try several bases,
TMax_r / 2^(i/4) for i = 0, 1, ..., and take the one of the smallest squared error. For the same
reason the range of a channel may leave out its rarest values: a quantile of their magnitudes.

Only ratios count where rows find their base, and the largest value that a channel ever had says
little of them: that is a few rows, often of one channel each. `ranges: typical` takes the
fourth-power mean over the rows of |x_rc - bias_c| / RMS_r instead. What is grouped may be rotated
first (`quantization.rotation`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import QuantizationError
from accelsim.quantization.codes import (
    SMALLEST_SCALE,
    Codes,
    Quantized,
    Scales,
    Values,
    check_finite,
    clipped_share,
    encode,
    largest_code,
)
from accelsim.quantization.rotation import Rotation, hadamard_rotation, usual_block
from accelsim.quantization.row_bases import best_rows

GroupRounding = Literal["up", "down", "best"]
"""Which scale a channel gets: the next larger power of two, the next smaller one, which clips its
ends, or for every channel that of the two with the smaller squared error."""
GroupBase = Literal["row", "static"]
"""Where the scale of group 0 comes from: every row finds it in the run, or it is calibrated."""
GroupRanges = Literal["largest", "typical"]
"""Range of a channel: its largest magnitude, or a quantile; the fourth-power mean of what it is of
the root mean square of its row."""
GroupRotation = Literal["none", "hadamard"]
"""What is done to the channels before they are grouped."""
LARGEST_CANDIDATES = 8
_POWER = 4
"""Of the mean of a typical range: the larger, the more the rare values count."""
LARGEST_GROUPS = 32
"""A 32-bit accumulator holds nothing that was shifted further."""

Indices = NDArray[np.uint8]


class Span(NamedTuple):
    """Rows of an input that one chunk of the calibration is for."""

    chunk: int
    start: int
    stop: int


_WORDS: dict[str, Any] = {
    "rounding": GroupRounding,
    "base": GroupBase,
    "ranges": GroupRanges,
    "rotation": GroupRotation,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """How activations become groups of channels. Raises QuantizationError if they cannot."""

    bits: int = 8
    """Bits of a code: 4 or 8."""
    base: GroupBase = "row"
    """Where the scale of group 0 comes from."""
    groups: int = 8
    """Groups of channels."""
    chunk_rows: int = 1024
    """Rows that share bias, groups and, if it is static, the scale."""
    first_rows: int = 0
    """Rows at the start of a text that are a chunk of their own; 0: none."""
    use_bias: bool = False
    """Whether every channel is shifted by the middle of its range."""
    rounding: GroupRounding = "up"
    """How the range of a channel becomes a scale."""
    ranges: GroupRanges = "largest"
    """What the range of a channel is."""
    quantile: float = 1.0
    """Share of the values of a channel that its largest range holds."""
    candidates: int = 1
    """Bases that a row tries, if it finds its own."""
    rotation: GroupRotation = "none"
    """Whether blocks of channels are multiplied by a Hadamard matrix before they are grouped."""
    rotation_block: int | None = None
    """Channels of a block; None: 128, or fewer if need be."""

    def __post_init__(self) -> None:
        largest_code(self.bits)
        self._check_base()
        if not 0 < self.quantile <= 1:
            raise QuantizationError(
                f"quantile: found {self.quantile}, allowed: above 0, and 1 at most"
            )
        if not 1 <= self.groups <= LARGEST_GROUPS:
            raise QuantizationError(f"groups: found {self.groups}, allowed: 1 to {LARGEST_GROUPS}")
        if self.chunk_rows < 1:
            raise QuantizationError(f"chunk_rows: found {self.chunk_rows}, allowed: 1 or more")
        if not 0 <= self.first_rows < self.chunk_rows:
            raise QuantizationError(
                f"first_rows: found {self.first_rows}, "
                f"allowed: 0 to {self.chunk_rows - 1}, fewer than chunk_rows"
            )
        for name, words in _WORDS.items():
            if (found := getattr(self, name)) not in get_args(words):
                allowed = ", ".join(get_args(words))
                raise QuantizationError(f"{name}: found '{found}', allowed: {allowed}")
        self._check_ranges()

    def _check_base(self) -> None:
        if not 1 <= self.candidates <= LARGEST_CANDIDATES:
            raise QuantizationError(
                f"candidates: found {self.candidates}, allowed: 1 to {LARGEST_CANDIDATES}"
            )
        if self.base == "static" and self.candidates > 1:
            raise QuantizationError(
                f"candidates: found {self.candidates} with base = static, allowed: 1; "
                f"with base = row every row takes the best of them"
            )
        if self.base == "row" and self.rounding == "best":
            raise QuantizationError(
                "rounding: found best with base = row, allowed: up, down; what a channel loses is "
                "judged with a scale that is known before"
            )

    def _check_ranges(self) -> None:
        if self.ranges == "typical" and (self.base == "static" or self.quantile < 1):
            beside = "base = static" if self.base == "static" else f"quantile = {self.quantile}"
            raise QuantizationError(
                f"ranges: found typical with {beside}, allowed: largest; a typical range is none "
                f"that values stay in"
            )

    def rotation_of(self, k: int) -> Rotation | None:
        """Return how k channels are rotated, if they are; raises QuantizationError."""
        if self.rotation == "none":
            return None
        return hadamard_rotation(k, self.rotation_block or usual_block(k))

    def chunk_starts(self, rows: int) -> list[int]:
        """Return the first row of every chunk of so many rows."""
        return sorted({*range(0, rows, self.chunk_rows), min(self.first_rows, rows - 1)})


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ChannelGroups:
    """The static quantization of the input [rows, k] of one linear.

    A chunk is options.chunk_rows rows; if the first rows are a chunk of their own, the next one
    ends where it would without. Rows beyond the calibrated chunks belong to the last.
    """

    options: GroupOptions
    bias: Values
    """Subtracted from every row of a chunk [chunks, k]."""
    group: Indices
    """Group of every channel [chunks, k]; 0 has the largest scale."""
    scale: Scales
    """Value of one step in group 0 [chunks], FP32 numbers; that of group g is scale / 2^g. If every
    row finds its own, that of the row with the largest."""
    channel_peaks: Values
    """Largest magnitude of every channel before the bias [k], which other schemes go by."""
    clipped: NDArray[np.float64]
    """Share of the codes that the calibration saw clipped [chunks]."""

    @property
    def chunks(self) -> int:
        """Number of calibrated chunks."""
        return len(self.scale)

    @property
    def k(self) -> int:
        """Number of feature channels."""
        return int(self.bias.shape[1])

    def spans(self, rows: int) -> Iterator[Span]:
        """Yield the chunks that cover rows 0 to `rows`, in order."""
        starts = self.options.chunk_starts(rows)[: self.chunks]
        for chunk, (start, stop) in enumerate(zip(starts, [*starts[1:], rows], strict=True)):
            yield Span(chunk, start, stop)

    def order(self, chunk: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the channels [k] by group, and where each group starts among them [groups + 1]."""
        group = self.group[chunk]
        starts = np.searchsorted(np.sort(group), np.arange(self.options.groups + 1))
        return np.argsort(group, kind="stable").astype(np.int32), starts.astype(np.int64)

    def channel_scales(self, chunk: int) -> Scales:
        """Return the calibrated value of one step of every channel [k]."""
        return _steps(float(self.scale[chunk]), self.group[chunk])

    def channel_factors(self, chunk: int) -> Values:
        """Return 2^group of every channel [k], by which groups become as large as group 0."""
        factors: Values = np.exp2(self.group[chunk].astype(np.float32))
        return factors

    def quantize(self, x: Values, span: Span) -> Quantized:
        """Return the codes of the rows of a span of x [rows, k], less their bias.

        The scale is [1, k], or [rows, k] if every row has its own.
        """
        check_finite(x[span.start : span.stop])
        rows = x[span.start : span.stop] - self.bias[span.chunk]
        bits = self.options.bits
        if self.options.base == "static":
            scale = self.channel_scales(span.chunk)[None]
            return Quantized(encode(rows, scale, bits), scale)
        factors = self.channel_factors(span.chunk)
        codes, scale = best_rows(rows * factors, factors, bits, self.options.candidates)
        return Quantized(codes, scale / factors)

    def encode(self, x: Values, span: Span) -> Codes:
        """Return the codes of the rows of a span of x [rows, k]."""
        return self.quantize(x, span).codes


def channel_groups(samples: Values, options: GroupOptions) -> ChannelGroups:
    """Return the groups of what a linear was seen to take in, rotated if the options say so.

    samples [samples, rows, k]: the position of a row counts, for a chunk is made of the same rows
    of every sample. Raises QuantizationError for samples that are not finite or not there.
    """
    if samples.ndim != 3 or not samples.size:
        raise QuantizationError(
            f"samples: found the shape {list(samples.shape)}, "
            f"allowed: [samples, rows, k], not empty"
        )
    starts = options.chunk_starts(samples.shape[1])
    parts = np.split(samples, starts[1:], axis=1)
    low, high = ([reduce(part, (0, 1)) for part in parts] for reduce in (np.min, np.max))
    peaks = np.maximum(-np.min(low, 0), np.max(high, 0))
    if not np.isfinite(peaks).all():
        check_finite(samples, "activations")
    chunks = [_chunk(*each, options) for each in zip(parts, low, high, strict=True)]
    bias, group, scale = zip(*chunks, strict=True)
    clipped = [_clipped(part, *own, options) for part, own in zip(parts, chunks, strict=True)]
    return ChannelGroups(
        options=options,
        bias=np.stack(bias),
        group=np.stack(group),
        scale=np.array(scale),
        channel_peaks=peaks.astype(np.float32),
        clipped=np.array(clipped),
    )


def _clipped(
    samples: Values, bias: Values, group: Indices, scale: float, options: GroupOptions
) -> float:
    """Return the share of codes of a chunk that are clipped: none if the range is the row's."""
    bits, factors = options.bits, np.exp2(group.astype(np.float32))

    def share(rows: Values) -> float:
        if options.base == "static":
            return clipped_share(rows, _steps(scale, group), bits)
        scaled = rows * factors
        return clipped_share(scaled, best_rows(scaled, factors, bits, options.candidates)[1], bits)

    if options.base == "row" and options.candidates == 1:
        return 0.0
    # One sample after the other: the numbers in between are larger than the samples.
    return float(np.mean([share(each - bias) for each in samples]))


def _chunk(
    samples: Values, lowest: Values, highest: Values, options: GroupOptions
) -> tuple[Values, Indices, float]:
    """Return bias [k], groups [k] and the scale of group 0 of one chunk.

    samples [samples, rows, k], and the ends of every channel [k].
    """
    low, high = lowest.astype(np.float64), highest.astype(np.float64)
    bias = ((low + high) / 2 * options.use_bias).astype(np.float32)
    largest = np.maximum(high - bias, bias - low)
    ranges = _ranges(samples, bias, largest, options)
    thresholds = ranges.max() * 2.0 ** -np.arange(1, options.groups)
    up = np.count_nonzero(ranges <= thresholds[:, None], axis=0).astype(np.uint8)
    down = np.minimum(up + 1, options.groups - 1).astype(np.uint8)
    match options.rounding:
        case "up":
            group = up
        case "down":
            group = down
        case "best":
            choices, scale = (up, down), _largest_scale(ranges, options)
            # One sample after the other: the numbers in between are larger than the samples.
            parts = [_squared_errors(each - bias, choices, scale, options) for each in samples]
            errors = np.sum(parts, axis=0)
            group = np.where(errors[1] < errors[0], down, up)
    of_groups = largest * 2.0**group if options.base == "row" else ranges
    return bias, group, _largest_scale(of_groups, options)


def _ranges(
    samples: Values, bias: Values, largest: Scales, options: GroupOptions
) -> NDArray[np.float64]:
    """Return the range of every channel [k]; largest: its largest magnitude."""
    if options.ranges == "typical":
        # One sample after the other: the numbers in between are larger than the samples.
        powers: Scales = np.mean([_fourth_powers(each - bias) for each in samples], axis=0)
        return powers ** (1 / _POWER)
    if options.quantile == 1:
        return largest
    flat = np.abs(samples - bias).reshape(-1, samples.shape[-1])
    quantiles: Scales = np.quantile(flat, options.quantile, axis=0).astype(np.float64)
    return quantiles


def _fourth_powers(centered: Values) -> NDArray[np.float64]:
    """Return the mean over rows of what the channels [k] are of the RMS of their row, to the 4."""
    rms = np.sqrt(np.mean(np.square(centered, dtype=np.float64), axis=1, keepdims=True))
    relative = centered / np.maximum(rms, SMALLEST_SCALE)
    powers: NDArray[np.float64] = np.mean(relative**_POWER, axis=0)
    return powers


def _largest_scale(ranges: Scales, options: GroupOptions) -> float:
    """Return the scale of group 0 of these ranges; that of the last is still a normal number."""
    floor = SMALLEST_SCALE * 2.0 ** (options.groups - 1)
    return float(np.float32(max(ranges.max() / largest_code(options.bits), floor)))


def _squared_errors(
    centered: Values, choices: tuple[Indices, ...], scale: float, options: GroupOptions
) -> NDArray[np.float64]:
    """Return the sum of squared errors of one sample, for each choice of groups [choices, k]."""
    errors = np.empty((len(choices), centered.shape[1]))
    for index, group in enumerate(choices):
        steps = _steps(scale, group)
        change = encode(centered, steps, options.bits) * steps - centered
        errors[index] = np.square(change).sum(0)
    return errors


def _steps(scale: float, group: Indices) -> Scales:
    """Return the value of one step of every channel."""
    return scale * 2.0 ** -group.astype(np.float64)
