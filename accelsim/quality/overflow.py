"""A warning of kernels whose outputs in a model are infinite or NaN, and of what may help."""

import warnings
from collections.abc import Sequence

from accelsim.errors import NonfiniteWarning
from accelsim.numerics.formats import Format
from accelsim.quality.hook import KernelHook
from accelsim.quality.passes import KernelNetwork
from accelsim.quality.report import TextQuality

_PRODUCTS = {
    "attention": "a query times a key",
    "attention of prompts": "a query times a key",
    "linears": "an output",
}
_REMEDIES = {
    "attention": "scale_at=query or precision=fp32_scores if the kernel has them, or pasa",
    "linears": "--set workload.dtype=fp32",
}
_REMEDIES["attention of prompts"] = _REMEDIES["attention"]


def warn_of_overflow(kernels: KernelNetwork, texts: Sequence[TextQuality] = ()) -> None:
    """Warn of outputs that are not finite: where they begin, and which texts have no perplexity."""
    for part, hook in kernels.parts:
        if hook.overflow is not None:
            warnings.warn(_message(part, hook, texts), NonfiniteWarning, stacklevel=3)


def _message(part: str, hook: KernelHook, texts: Sequence[TextQuality]) -> str:
    place, reached = hook.overflow or ("", 0.0)
    end = Format.FP16.layout.largest
    beyond = f" and fp16 ends at {end:,.0f}" if reached > end else ""
    lost = ", ".join(
        f"{text.nonfinite_losses:,} of {text.tokens:,} tokens of text {text.text}"
        for text in texts
        if text.nonfinite_losses
    )
    no_perplexity = f"; no finite loss, so no perplexity: {lost}" if lost else ""
    return (
        f"{hook.reports[0].recipe}: {hook.nonfinite_outputs:,} outputs of the {part} are infinite "
        f"or NaN, first in {place}, where {_PRODUCTS[part]} reaches {reached:,.0f}{beyond}"
        f"{no_perplexity}; try {_REMEDIES[part]}"
    )
