"""What kernels did to a model: a frozen record that becomes JSON, a row, or a rich table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.formats import Format
from accelsim.report.report import Report

if TYPE_CHECKING:
    from rich.table import Table

Losses = NDArray[np.float64]

_OF_ONE_PROBLEM = ("workload", "seed", "accuracy")
"""Fields of a report that say nothing about a whole model."""
_LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """Kernels in the place of the attention, of the linears or of both in a model.

    NLL is the mean negative log likelihood of a token, in nats; perplexity is exp(NLL). What is
    not a finite number is None: both and their change when the loss of a token is infinite or NaN.
    """

    model: str
    dtype: Format
    """Number format of the kernels' inputs and outputs in HBM."""
    text: str
    text_sha256: str
    """Hash of the text in UTF-8."""
    tokens: int
    """Tokens that were read, and predictions that were made."""
    window: int
    """Tokens the model sees at once."""
    nll: float | None
    fp32_nll: float | None
    """NLL of the same network in FP32."""
    nll_change: float | None
    """Mean over tokens of the loss with the kernels minus the loss in FP32."""
    nll_change_se: float | None
    """Standard error of that mean, the tokens taken as independent."""
    nonfinite_losses: int
    """Tokens whose loss with the kernels is infinite or NaN."""
    nonfinite_outputs: int
    """Elements of the kernels' outputs, over all layers, that are infinite or NaN."""
    attention: Report | None
    """Cost of the attention of all layers and windows, one after the other; mean statistics."""
    linears: Report | None
    """The same of the linears, the output projection not among them."""

    @classmethod
    def of(cls, *, losses: Losses, fp32_losses: Losses, **others: Any) -> "QualityReport":
        """Return the report of the losses, in nats [tokens], with kernels and in FP32."""
        changes = losses - fp32_losses
        return cls(
            tokens=len(losses),
            nll=_mean(losses),
            fp32_nll=_mean(fp32_losses),
            nll_change=_mean(changes),
            nll_change_se=_standard_error(changes),
            nonfinite_losses=int(np.count_nonzero(~np.isfinite(losses))),
            **others,
        )

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the text with the kernels."""
        return _exp(self.nll)

    @property
    def fp32_perplexity(self) -> float | None:
        """Perplexity of the text in FP32."""
        return _exp(self.fp32_nll)

    @property
    def perplexity_change(self) -> float | None:
        """Relative change of the perplexity, 0.01 being one percent worse."""
        ratio = _exp(self.nll_change)
        return None if ratio is None else ratio - 1

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain nested data for JSON; costs have the keys of a report."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("perplexity", "fp32_perplexity", "perplexity_change"):
            own[name] = getattr(self, name)
        costs = {"attention": _cost(self.attention), "linears": _cost(self.linears)}
        return own | {"dtype": str(self.dtype)} | costs

    def __rich__(self) -> "Table":
        from accelsim.quality.display import quality_table

        return quality_table(self)


def _cost(report: Report | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {key: value for key, value in report.to_dict().items() if key not in _OF_ONE_PROBLEM}


def _mean(losses: Losses) -> float | None:
    return float(losses.mean()) if np.isfinite(losses).all() else None


def _standard_error(changes: Losses) -> float | None:
    """Return the standard error of the mean, or None where there is no mean."""
    if not np.isfinite(changes).all():
        return None
    return float(changes.std(ddof=1) / np.sqrt(len(changes)))


def _exp(nll: float | None) -> float | None:
    return None if nll is None or nll > _LARGEST_EXPONENT else float(np.exp(nll))
