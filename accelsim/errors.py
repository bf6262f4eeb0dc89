"""One exception family: everything a user can get wrong is an `AccelsimError`.

The command line prints the message of such an error and exits with its `exit_code`; any other
exception is a defect of accelsim and shows its traceback.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import category

_CONTROLS = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories of what is no text: controls, halves of characters, ends of lines."""
_TURNS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of those after them."""

FILE_ERRORS = (OSError, ValueError)
"""What the name of a file can lead to: too long, no such file, or not the name of any file."""


class AccelsimError(Exception):
    """Something the user can mend: the message says where, what was found and what is allowed."""

    exit_code = 2

    def at(self, place: object) -> "AccelsimError":
        """Return the same error with a message that begins with where it was found."""
        return type(self)(f"{place}: {self}")


class ConfigError(AccelsimError):
    """A YAML file or an override does not describe a valid object; lists every mistake of it."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("\n".join(self.mistakes))

    def at(self, place: object) -> "ConfigError":
        """Return the same mistakes, each beginning with where it was found."""
        return type(self)(f"{place}: {mistake}" for mistake in self.mistakes)

    def __reduce__(self) -> tuple[type["ConfigError"], tuple[list[str]]]:
        """Pickle by the mistakes, for errors that come from another process."""
        return type(self), (self.mistakes,)


class UnknownNameError(AccelsimError):
    """A machine, workload, kernel, parameter or column was named that nobody knows."""


class WorkloadError(AccelsimError):
    """A problem or its tensors are missing, damaged, or contradict each other."""


class DoesNotFitError(AccelsimError):
    """A design point that cannot run: a result with a reason in a sweep, an error elsewhere."""


class SampleError(AccelsimError):
    """A sample of a program that cannot be taken."""


class ShortageError(AccelsimError):
    """What the computer lacked at the time: memory, a package, access to a file that is there.

    It says nothing about the input, so it is never kept as a result.
    """


class ProgramError(AccelsimError):
    """A tile program that no machine could run; names the op and the rule it breaks."""


class QuantizationError(AccelsimError):
    """Values or options that cannot be quantized, or a calibration made for something else."""


class AccelsimWarning(UserWarning):
    """Something that a run goes on with; the command line shows the first of a kind as a line."""


class AccumulatorWarning(AccelsimWarning):
    """Sums of an integer product may exceed what an accumulator of the machine holds."""


class InputRangeWarning(AccelsimWarning):
    """Inputs lie beyond the largest number of the format in which they are stored."""


class SamePagesWarning(AccelsimWarning):
    """A text is evaluated on pages that the kernels were calibrated on."""


class ClippingWarning(AccelsimWarning):
    """Codes are clipped much more often than in the calibration."""


class NonfiniteWarning(AccelsimWarning):
    """Kernels in a model have outputs, or leave losses, that are infinite or NaN."""


class OutputError(AccelsimError):
    """An output folder, file or store cannot be written."""


class WorkersError(AccelsimError):
    """The workers of a sweep or a validation cannot be started or reached, or were lost."""


class LostWorkerError(WorkersError):
    """A worker process ended before its work was done."""


class SweepInterruptedError(AccelsimError):
    """A sweep was stopped by the user; the message says how to go on."""

    exit_code = 130


def reason_of(error: Exception) -> str:
    """Return what a file system, or the name of a file, is in the way of."""
    return getattr(error, "strerror", None) or str(error)


def printable(text: str) -> str:
    """Return `text` with an escape for every character that would control a terminal.

    Ends of lines stay.
    """
    return "".join(_escaped(each) if _is_control(each) else each for each in text)


def _is_control(character: str) -> bool:
    return character != "\n" and (category(character) in _CONTROLS or character in _TURNS)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def is_refusal(error: BaseException) -> bool:
    """Whether the operating system refused, which says nothing about what a file holds."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for `name`, with the nearest known one and the whole list."""
    names = sorted(known)
    hint = did_you_mean(name, names)
    return UnknownNameError(f"unknown {kind} '{name}'{hint}; known: {', '.join(names) or 'none'}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean 'x'?` for the nearest known name, or an empty string."""
    nearest = get_close_matches(name, list(known), n=1)
    return f", did you mean '{nearest[0]}'?" if nearest else ""
