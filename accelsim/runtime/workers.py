"""Where work runs: in this process, in processes of this machine, or on a Dask cluster."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
)
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from accelsim.errors import LostWorkerError, WorkersError, unknown_name
from accelsim.runtime.interruption import interruptible

_CONNECT_TIMEOUT_S = 10
LOST_WORKER = (BrokenExecutor, CancelledError)
"""What submitting, or asking for a result, raises when a worker was lost. Let them pass: the
context of the workers says what they mean."""
_LOST = (
    "a worker process ended abruptly: for lack of memory, which fewer workers need less of, or "
    "because a script that every worker reads starts them outside `if __name__ == '__main__':`"
)


class Workers(NamedTuple):
    """Something to submit calls to."""

    executor: Executor
    queue_length: int
    """Calls to submit ahead, so that no worker waits for the next one."""


def open_workers(
    executor: str, workers: int | None, address: str | None
) -> AbstractContextManager[Workers]:
    """Return the workers of the executor called `local` or `dask`, as a context.

    `workers` is the number of processes, all cores if None. `address` is that of a Dask scheduler;
    without it Dask starts a cluster on this machine. Raises UnknownNameError, WorkersError,
    and for a process that is lost LostWorkerError.
    """
    if executor not in ("local", "dask"):
        raise unknown_name("executor", executor, ["local", "dask"])
    if executor == "dask":
        return _dask(_checked(workers), address)
    if address is not None:
        raise WorkersError("an address is for the executor 'dask'; 'local' has none")
    return local_workers(number_of_workers(workers))


def begin_to_start(executor: str, workers: int | None) -> None:
    """Let what local workers are forked from load the simulator, while this process does.

    Without it, that begins with `open_workers`.
    """
    if executor == "local" and number_of_workers(workers) > 1:
        context = _start_method()
        if context.get_start_method() == "forkserver":
            with _interrupts_held():
                forkserver.ensure_running()


def number_of_workers(workers: int | None) -> int:
    """Return how many processes `workers` asks for: all cores if None. Raises WorkersError."""
    return _checked(workers) or _usable_cores()


def _checked(workers: int | None) -> int | None:
    if workers is not None and workers < 1:
        raise WorkersError(f"found {workers} workers, allowed: 1 or more")
    return workers


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _losses_told() -> Iterator[None]:
    """Raise LostWorkerError, which says why workers are lost, for what executors raise."""
    try:
        yield
    except LOST_WORKER as error:
        raise LostWorkerError(_LOST) from error


@contextmanager
def local_workers(workers: int) -> Iterator[Workers]:
    """Yield this many processes of this machine, or for one worker this process itself.

    Where the context is left by an exception, Ctrl-C among them, they are stopped at once. Raises
    LostWorkerError for a process that is lost.
    """
    if workers == 1:
        yield Workers(_ThisProcess(), 1)
        return
    context = _start_method()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_worker)
    try:
        with _losses_told():
            with _interrupts_held():
                for _ in range(workers):
                    pool.submit(int)  # starts one worker, as none is idle yet
            yield Workers(pool, 2 * workers)
    except BaseException:
        _stop_now(pool)
        raise
    pool.shutdown()


def _start_method() -> Any:
    """Return how workers start: forked from a server that has loaded the simulator once.

    The server holds neither the threads nor the open store of this process, which a fork of it
    would copy. Where there are no fork servers, every worker starts afresh.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["accelsim.simulation"])
    return context


class _ThisProcess(Executor):
    """Runs each call at once, where it is submitted."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(interruptible(fn, *args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started here never see Ctrl-C, which this process gets afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare_worker() -> None:
    """Let the worker end with the process that started it, even if that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _stop_now(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


@contextmanager
def _dask(workers: int | None, address: str | None) -> Iterator[Workers]:
    with _losses_told(), contextlib.ExitStack() as stack:
        with _interrupts_held():
            client = stack.enter_context(_dask_client(stack, workers, address))
        threads = sum(client.nthreads().values())
        if not threads:
            raise WorkersError(f"the Dask scheduler at '{address}' has no workers")
        yield Workers(client.get_executor(pure=False), 8 * threads)


def _dask_client(stack: contextlib.ExitStack, workers: int | None, address: str | None) -> Any:
    from distributed import Client, LocalCluster

    if address is None:
        cluster = LocalCluster(
            n_workers=workers or _usable_cores(),
            threads_per_worker=1,
            dashboard_address=None,
        )
        return Client(stack.enter_context(cluster))
    _check_address(address)
    return Client(address, timeout=_CONNECT_TIMEOUT_S)


def _check_address(address: str) -> None:
    """Connect once before a Client does: one that fails in its constructor cannot be closed."""
    from distributed.comm import connect
    from distributed.utils import LoopRunner

    async def reach() -> None:
        (await connect(address, timeout=_CONNECT_TIMEOUT_S)).abort()

    try:
        LoopRunner().run_sync(reach)
    except (OSError, ValueError) as error:
        raise WorkersError(f"cannot reach a Dask scheduler at '{address}' ({error})") from error
