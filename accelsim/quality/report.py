"""What kernels did to a model: a frozen record that becomes JSON, a row, or a rich table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import KvFormat
from accelsim.quality.layers import LayerCost
from accelsim.quality.summary import Quality, measured, spread
from accelsim.report.report import Report

if TYPE_CHECKING:
    from rich.console import Group

_OF_ONE_PROBLEM = ("workload", "seed", "accuracy")
"""Fields of a report that say nothing about a whole model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextQuality(Quality):
    """What kernels did to one text."""

    text: str
    """Kind of the text, or its file."""
    text_sha256: str
    """Hash of the text in UTF-8."""
    is_calibrated_on: bool
    """Whether the kernels were calibrated on the same text, be it on other pages."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        own = {name: getattr(self, name) for name in ("text", "text_sha256", "is_calibrated_on")}
        return own | measured(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport(Quality):
    """Kernels in the place of the attention, of the linears or of both in a model.

    Its own numbers are means over all texts, of which equally many tokens were read.
    """

    model: str
    dtype: Format
    """Number format of the kernels' inputs and outputs in HBM."""
    texts: tuple[TextQuality, ...]
    window: int
    """Tokens the model sees at once."""
    prompt: int = 0
    """Tokens at the start of a window that are read at once, before the others are decoded one by
    one; 0: all are read at once."""
    nonfinite_outputs: int
    """Elements of the kernels' outputs, over all layers, that are infinite or NaN."""
    attention: Report | None
    """Cost of the attention of all layers and windows, one after the other; mean statistics."""
    linears: Report | None
    """The same of the linears, the output projection not among them."""
    prefill: Report | None = None
    """The same of the attention of prompts."""
    kv: KvFormat | None = None
    """How keys and values are kept; None: as they are."""
    layers: tuple[LayerCost, ...] = ()
    """The attention of each layer; empty where it is computed in FP32."""

    @classmethod
    def of_texts(cls, texts: tuple[TextQuality, ...], **others: Any) -> "QualityReport":
        """Return the report of texts that were read with the same kernels."""
        return cls.together(texts, texts=texts, **others)

    @property
    def unseen(self) -> Quality | None:
        """The texts that were not calibrated on, together; None if there is none."""
        parts = self._unseen_texts
        return Quality.together(parts) if parts else None

    @property
    def spread(self) -> float | None:
        """Standard deviation of the change of the perplexity over the texts not calibrated on.

        Over all texts where all were calibrated on; None of a single one.
        """
        return spread(self._unseen_texts or self.texts)

    @property
    def _unseen_texts(self) -> list[TextQuality]:
        return [text for text in self.texts if not text.is_calibrated_on]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain nested data for JSON; costs have the keys of a report."""
        unseen = self.unseen
        return measured(self) | {
            "model": self.model,
            "dtype": str(self.dtype),
            "window": self.window,
            "prompt": self.prompt,
            "kv": None if self.kv is None else str(self.kv),
            "texts": [text.to_dict() for text in self.texts],
            "unseen": None if unseen is None else measured(unseen),
            "spread": self.spread,
            "nonfinite_outputs": self.nonfinite_outputs,
            "attention": plain_cost(self.attention),
            "linears": plain_cost(self.linears),
            "prefill": plain_cost(self.prefill),
            "layers": [each.to_dict() for each in self.layers],
        }

    def __rich__(self) -> "Group":
        from accelsim.quality.display import quality_tables

        return quality_tables(self)


def plain_cost(report: Report | None) -> dict[str, Any] | None:
    """Return the cost of a part of a model as plain data; None stays None."""
    if report is None:
        return None
    return {key: value for key, value in report.to_dict().items() if key not in _OF_ONE_PROBLEM}
