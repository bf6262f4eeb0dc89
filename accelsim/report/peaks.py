"""The most that was held at once, in a run or in any number of runs."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Maxima of runs that follow one another: `a | b` is the larger of each."""

    scratchpad_peak_bytes: int = 0
    """Bytes of all buffers of the scratchpad."""
    scratchpad_held_peak_bytes: int = 0
    """Most bytes of tiles in use at once on a core, each from its write to its last read."""
    accumulator_peak_bytes: int = 0
    """Bytes of all buffers of the accumulator."""

    def __or__(self, other: "Peaks") -> "Peaks":
        """Return the peaks of both; of reports, without their names."""
        if not isinstance(other, Peaks):
            return NotImplemented
        names = [each.name for each in fields(Peaks)]
        return Peaks(**{name: max(getattr(self, name), getattr(other, name)) for name in names})
