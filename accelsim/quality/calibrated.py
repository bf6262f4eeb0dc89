"""What the kernels of an evaluation were calibrated on, and warnings of what that means for it."""

import warnings
from typing import NamedTuple

from accelsim.bench import Bench
from accelsim.errors import ClippingWarning, SamePagesWarning
from accelsim.kernels.attention.decode.sift import SiftParameters
from accelsim.kernels.attention.decode.thresholds import Origin, load_thresholds
from accelsim.kernels.linear.integer.parameters import QuantizedParameters, load_named
from accelsim.quantization.calibration import Provenance
from accelsim.report.report import Report
from accelsim.workload.model.texts import Text

_OFTEN = 2
"""Clipping that many times as often as in the calibration is told; less may be the text."""


_REMEDIES = {
    "static": "calibrate on more kinds of text, or take base=row, whose range follows the text",
    "row": "calibrate on more kinds of text, or let rows try more candidates",
}
"""Where the range of a row comes from -> what helps."""


class Calibrated(NamedTuple):
    """What linears and attention were calibrated on; None: one was not."""

    provenance: Provenance | None
    thresholds: Origin | None = None

    @classmethod
    def of(cls, linear: Bench | None, attention: Bench | None = None) -> "Calibrated":
        """Return what kernels were calibrated on; raises an AccelsimError."""
        of_linear, of_attention = (
            each and each.recipe and each.recipe.parameters() for each in (linear, attention)
        )
        provenance = origin = None
        if isinstance(of_linear, QuantizedParameters) and of_linear.calibration is not None:
            provenance = load_named(of_linear.calibration).provenance
        if isinstance(of_attention, SiftParameters) and of_attention.thresholds is not None:
            origin = load_thresholds(of_attention.thresholds).origin
        return cls(provenance, origin)

    def knows(self, text: Text) -> bool:
        """Return whether the text was calibrated on, be it on other pages."""
        return bool(self._firsts(text))

    def _firsts(self, text: Text) -> list[int]:
        """Return the first tokens of the text that each calibration on it has read."""
        return [
            each.sampling.first_token
            for each in self
            if each is not None and text.sha256 in {own.sha256 for own in each.texts}
        ]

    def warn_of_pages(self, text: Text, tokens: int) -> None:
        """Warn if some of the first tokens of a text were calibrated on."""
        first = min(self._firsts(text), default=tokens)
        if tokens > first:
            warnings.warn(
                f"text {text.name}: tokens from {first:,} on were calibrated on, and {tokens:,} "
                f"are evaluated; read fewer, or another text",
                SamePagesWarning,
                stacklevel=3,
            )

    def warn_of_clipping(self, linears: Report) -> None:
        """Warn if codes are clipped more than twice as often as in the calibration."""
        found = linears.statistics.get("codes_clipped")
        seen = linears.statistics.get("codes_clipped_in_calibration")
        if self.provenance is None or found is None or seen is None or found <= _OFTEN * seen:
            return
        warnings.warn(
            f"{linears.kernel}: {found:.3%} of the codes are clipped, {seen:.3%} in the "
            f"calibration: it has not seen such text; {_REMEDIES[self.provenance.options.base]}",
            ClippingWarning,
            stacklevel=3,
        )
