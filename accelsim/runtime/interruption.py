"""Ctrl-C that raises, and work that it can leave at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_NAME = "interruptible work"


@contextmanager
def interrupts_raised() -> Iterator[Callable[[], bool]]:
    """Let Ctrl-C raise KeyboardInterrupt; yield what says whether it has.

    Libraries may catch it and raise something else, such as an ImportError.
    """
    heard = threading.Event()

    def handler(*_: object) -> NoReturn:
        heard.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread() or _is_ignored():
        yield heard.is_set
        return
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield heard.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _is_ignored() -> bool:
    """Whether Ctrl-C is not for this process, as for one in the background."""
    return signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None)


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
