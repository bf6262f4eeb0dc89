"""What the kernels of an evaluation were calibrated on, and warnings of what that means for it."""

import warnings
from typing import NamedTuple

from accelsim.bench import Bench
from accelsim.errors import ClippingWarning, SamePagesWarning
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
    """The calibration of the linears; None: there is none."""

    provenance: Provenance | None

    @classmethod
    def of(cls, linear: Bench | None) -> "Calibrated":
        """Return what the linears were calibrated on; raises an AccelsimError."""
        parameters = linear and linear.recipe and linear.recipe.parameters()
        if not isinstance(parameters, QuantizedParameters) or parameters.calibration is None:
            return cls(None)
        return cls(load_named(parameters.calibration).provenance)

    def knows(self, text: Text) -> bool:
        """Return whether the text was calibrated on, be it on other pages."""
        if self.provenance is None:
            return False
        return text.sha256 in {each.sha256 for each in self.provenance.texts}

    def warn_of_pages(self, text: Text, tokens: int) -> None:
        """Warn if some of the first tokens of a text were calibrated on."""
        if self.provenance is None or not self.knows(text):
            return
        first = self.provenance.sampling.first_token
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
