"""How keys and values of earlier tokens are kept in a model."""

from dataclasses import replace

from accelsim.errors import WorkloadError
from accelsim.models.architecture import Architecture
from accelsim.models.attention import LatentAttention
from accelsim.numerics.formats import Format, common_format
from accelsim.numerics.kv_format import KvFormat


def with_kv_in(architecture: Architecture, text: str) -> Architecture:
    """Return the model with its KV cache in a format, such as `int4(group=64)`.

    Raises WorkloadError for formats that are not known, that hold more than activations do, or that
    the attention of the model has no kernels for.
    """
    fmt, plain = KvFormat.parse(text), architecture.weights.plain
    if fmt.element == plain:
        return replace(architecture, kv_format=None)
    if not fmt.is_coded and common_format(plain, fmt.element) != plain:
        raise WorkloadError(
            f"kv: found '{fmt}' for model {architecture.name} with activations in {plain}, "
            f"allowed: {plain}, or a format of at most 8 bits"
        )
    if fmt.is_coded:
        _check_codes(architecture, fmt)
    return replace(architecture, kv_format=fmt)


def _check_codes(architecture: Architecture, fmt: KvFormat) -> None:
    """Refuse codes for layers whose attention no kernel reads as codes."""
    kinds = {layer.attention for layer in architecture.layers}
    what = None
    if any(isinstance(each, LatentAttention) for each in kinds):
        what = "latent attention"
    elif any(each.reach is not None for each in kinds):
        what = "attention with a window"
    if what is not None:
        raise WorkloadError(
            f"kv: found '{fmt}' for model {architecture.name}, which has {what}, that no kernel "
            f"computes over codes; allowed: {architecture.weights.plain}, "
            f"{Format.FP8_E4M3}, {Format.FP8_E5M2}"
        )
