"""`quantization_config`: in which format a checkpoint has which matrix."""

import re
from dataclasses import dataclass
from fnmatch import translate
from functools import cache

from accelsim.models.config import Config
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.formats import Format

StoredFormat = Format | BlockFormat

_METHODS = ("fp8", "mxfp4", "modelopt", "compressed-tensors")
_BLOCK = 128
"""Rows and columns of a matrix that share an FP32 scale (DeepSeek-V3, 2024, section 3.3.2)."""
_OUTER = ("lm_head", "model.project_in", "model.project_out")
"""Linear maps outside of layers."""
_ALGORITHMS: dict[str, StoredFormat] = {"FP8": Format.FP8_E4M3, "NVFP4": BlockFormat.NVFP4}
_NOT_WEIGHTS = (
    *("producer", "format", "quantization_status", "global_compression_ratio", "version"),
    *("kv_cache_scheme", "kv_cache_quant_algo", "activation_scheme", "scale_fmt"),
    *("sparsity_config", "transform_config", "is_static"),
)
"""About activations, the KV cache and the tool that wrote the file: not about what is stored."""


@dataclass(frozen=True, slots=True)
class WeightFormats:
    """Formats of the matrices of a checkpoint."""

    plain: Format = Format.BF16
    """Of what is not quantized."""
    quantized: StoredFormat | None = None
    """Of the other matrices; None: nothing is quantized."""
    scale_bits: float = 0.0
    """Bits of scales that an element takes beside its format."""
    kept: tuple[str, ...] = ()
    """Regular expressions of the modules that are not quantized."""

    def format_of(self, module: str) -> StoredFormat:
        """Return the format of the elements of a module; `*` stands for an expert."""
        is_plain = self.quantized is None or self._is_kept(module)
        return self.plain if is_plain or self.quantized is None else self.quantized

    def bits_of(self, module: str) -> float:
        """Return the bits that an element of a module takes, with its share of the scales."""
        fmt = self.format_of(module)
        if isinstance(fmt, BlockFormat):
            return fmt.layout.bits
        return fmt.bits if fmt == self.plain else fmt.bits + self.scale_bits

    def with_linears_in(self, fmt: Format) -> "WeightFormats":
        """Return the same with the linear maps of layers in a format, with one scale each."""
        if fmt == self.plain:
            return WeightFormats(self.plain)
        return WeightFormats(self.plain, fmt, kept=tuple(map(_expression, _OUTER)))

    def _is_kept(self, module: str) -> bool:
        pattern = _any_of(self.kept)
        return pattern is not None and pattern.match(module.replace("*", "0")) is not None


@cache
def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(patterns)) if patterns else None


def read_weight_formats(config: Config, plain: Format, also_kept: tuple[str, ...]) -> WeightFormats:
    """Return what a `quantization_config` says; an absent one quantizes nothing.

    also_kept: modules that the engines of such checkpoints never quantize. What is not understood
    is noted in `config`.
    """
    if not config.has("quant_method") and not config.has("quant_algo"):
        return WeightFormats(plain)
    config.ignore(*_NOT_WEIGHTS)
    method = config.text("quant_method", _METHODS, "modelopt")
    reader = {"fp8": _fp8, "mxfp4": _mxfp4, "modelopt": _modelopt}.get(method, _compressed)
    quantized, scale_bits = reader(config)
    return WeightFormats(plain, quantized, scale_bits, (*_kept(config), *also_kept))


def _kept(config: Config) -> tuple[str, ...]:
    lists = (config.raw(key) for key in ("modules_to_not_convert", "ignore", "exclude_modules"))
    names = [str(name) for each in lists if isinstance(each, list) for name in each]
    return tuple(dict.fromkeys(_expression(name) for name in names))


def _expression(name: str) -> str:
    """Return the regular expression of a name, which may be a glob or say `re:` itself.

    A name stands for all modules below it, and for those whose last parts it gives.
    """
    if name.startswith("re:"):
        return f"(?:{name[3:]})"
    name = name.removeprefix("language_model.").replace("block_sparse_moe", "mlp")
    body = translate(name).removeprefix("(?s:").removesuffix(")\\Z").removesuffix(r")\z")
    return rf"(?:(?:.*\.)?{body}(?:\..*)?$)"


def _fp8(config: Config) -> tuple[StoredFormat, float]:
    config.expect("fmt", "e4m3", "float8_e4m3fn")
    config.expect("weight_block_size", [_BLOCK, _BLOCK])
    has_blocks = config.has("weight_block_size")
    return Format.FP8_E4M3, Format.FP32.bits / _BLOCK**2 if has_blocks else 0.0


def _mxfp4(config: Config) -> tuple[StoredFormat, float]:
    return BlockFormat.MXFP4, 0.0


def _modelopt(config: Config) -> tuple[StoredFormat, float]:
    algorithm = config.text("quant_algo", tuple(_ALGORITHMS))
    config.ignore("config_groups", "group_size")
    return _ALGORITHMS[algorithm], 0.0


def _compressed(config: Config) -> tuple[StoredFormat, float]:
    group = config.section("config_groups").section("group_0")
    group.ignore("input_activations", "output_activations", "format")
    group.expect("targets", ["Linear"])
    weights = group.section("weights")
    weights.ignore("actorder", "block_structure", "dynamic", "observer", "observer_kwargs")
    weights.ignore("scale_dtype", "zp_dtype")
    weights.expect("symmetric", True)
    bits, kind = weights.integer("num_bits", 8), weights.text("type", ("float", "int"))
    strategy = weights.text("strategy", ("tensor", "channel", "group"))
    size = weights.optional_integer("group_size")
    formats = {(8, "float"): Format.FP8_E4M3, (8, "int"): Format.INT8, (4, "int"): Format.INT4}
    if (bits, kind) not in formats:
        weights.refuse(
            "num_bits", f"found {bits} bits of type {kind}; understood: 8 of float or int, 4 of int"
        )
    scale = Format.BF16.bits / size if strategy == "group" and size else 0.0
    return formats.get((bits, kind), Format.INT8), scale
