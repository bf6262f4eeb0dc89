"""Python functions that compiled code calls by their address, which it is given as a number.

An address that compiled code held as a constant would be of one process, and nothing could be kept
on disk.
"""

import ctypes
from collections.abc import Callable

from accelsim.runtime.jit import when_compiling

_PROTOTYPE = ctypes.CFUNCTYPE(None)


class Callback:
    """A function that can be called at an address, while this object lives.

    An exception cannot pass through compiled code. The first one is kept, and `failure` is what
    the caller has to raise.
    """

    def __init__(self, function: Callable[[], None], stop: Callable[[], None]) -> None:
        """stop: what tells compiled code to come to an end, after an exception."""
        self.failure: BaseException | None = None
        self._function, self._stop = function, stop
        self._entry = _PROTOTYPE(self._run)

    @property
    def address(self) -> int:
        """What `call_at` is given."""
        return ctypes.cast(self._entry, ctypes.c_void_p).value or 0

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self.failure = error
            self._stop()


def call_at(address: int) -> None:
    """Call the function of a `Callback`; for compiled code, and for kernels that are not."""
    _PROTOTYPE(int(address))()


@when_compiling
def _register() -> None:
    from accelsim.runtime.calling import let_code_call

    let_code_call(call_at)
