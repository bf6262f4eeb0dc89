"""The number format in which keys and values of earlier tokens are kept."""

from dataclasses import replace

from accelsim.errors import WorkloadError, did_you_mean
from accelsim.models.architecture import Architecture
from accelsim.numerics.formats import Format

KEPT = (Format.FP8_E4M3,)
"""Formats of cached keys and values, beside that of activations."""


def with_kv_in(architecture: Architecture, name: str) -> Architecture:
    """Return the model with its KV cache in a format, without scales.

    Raises WorkloadError for formats that are not known.
    """
    plain = architecture.weights.plain
    allowed = (plain, *KEPT)
    if name not in allowed:
        hint = did_you_mean(name, allowed)
        raise WorkloadError(f"kv: found '{name}'{hint or ','} allowed: {', '.join(allowed)}")
    return replace(architecture, kv_format=None if name == plain else Format(name))
