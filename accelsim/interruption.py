"""Work that Ctrl-C can leave at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NAME = "interruptible work"


def interruptible(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `work(...)`, run in a thread of its own so that Ctrl-C is heard at once.

    In the main thread compiled code would first run to its end, and the compiler would swallow the
    interruption and fail later. On Ctrl-C the thread is abandoned with what it was doing.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=_NAME, daemon=True).start()
    return future.result()


def is_work_abandoned() -> bool:
    """Return whether a thread that was left still works; nothing can stop compiled code."""
    return any(thread.name == _NAME for thread in threading.enumerate())
