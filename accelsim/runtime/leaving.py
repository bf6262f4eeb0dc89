"""Ctrl-C while there is nothing to finish: the process ends at once.

The first thing that a command imports, so it imports next to nothing itself.
"""

import os
import signal
import sys

INTERRUPTED = 130
"""Exit code of a shell command that Ctrl-C ended."""
MESSAGE = "\ninterrupted\n"


def leave(*_: object) -> None:
    """End the process as Ctrl-C ends it, whatever it is doing."""
    try:
        os.write(2, MESSAGE.encode())
    finally:
        os._exit(INTERRUPTED)


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process, unless it is not for this one, as for one in the background."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
        sys.unraisablehook = _leave_if_swallowed


def _leave_if_swallowed(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python drops what is raised in a callback; Ctrl-C may be heard in any."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        leave()
    sys.__unraisablehook__(unraisable)
