"""What the model says to the rows of a file, by as many processes as are worth their start."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import partial
from math import inf, isfinite
from time import perf_counter
from typing import Any

from accelsim.errors import AccelsimError, WorkersError
from accelsim.hardware.machine import MachineSpec
from accelsim.runtime.workers import local_workers
from accelsim.validation.reference import Reference, Row
from accelsim.validation.registry import get_reference

Progress = Callable[[int, int], None]
"""(rows with a prediction, all rows), called at the start and after every row."""

_START_S = 2.0
"""About what workers take to start and to load compiled code; what is done by then needs none."""


class RowError(AccelsimError):
    """A row that the model cannot do."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index
        """Place of the row among all."""


def predictions(
    reference: Reference[Any],
    rows: Sequence[Row],
    machine: tuple[MachineSpec, ...],
    workers: int,
    progress: Progress,
) -> list[float]:
    """Return what the model says to each row; nothing in it depends on the number of workers.

    Short rows run first, in this process. What is left after the time that starting workers takes
    goes to `workers` processes, the longest row first. Raises RowError for the first row that the
    model cannot do, WorkersError for workers that cannot find the reference by name,
    LostWorkerError for those that are lost.
    """
    predict: Callable[..., float] = reference.predict
    if workers > 1:
        if get_reference(reference.name) is not reference:
            raise WorkersError(
                f"found {workers} workers for a reference {reference.name} of your own, which only "
                f"this process knows, allowed: 1"
            )
        predict = partial(_predict, reference.name)
    run = _Run(predict, rows, machine, progress)
    # What takes long mostly takes long to simulate; where the value is a rate, any order will do.
    run.waiting.sort(key=lambda index: reference.value_of(rows[index]))
    until = inf if workers == 1 else perf_counter() + _START_S
    run.work(1, partial(run.waiting.pop, 0), until)
    if run.waiting:
        run.work(min(workers, len(run.waiting)), run.waiting.pop)
    return [run.predicted[index] for index in range(len(rows))]


def _predict(name: str, row: Row, *machine: MachineSpec) -> float:
    """Return what the model says, in a process that knows the reference by name only."""
    return get_reference(name).predict(row, *machine)


def _finite(value: float) -> float:
    """Return a prediction; a mean with one that is not finite would say nothing."""
    if not isfinite(value):
        raise AccelsimError(f"the model says {value}, expected a finite number")
    return value


class _Run:
    """Brings rows to workers, and predictions back."""

    def __init__(
        self,
        predict: Callable[..., float],
        rows: Sequence[Row],
        machine: tuple[MachineSpec, ...],
        progress: Progress,
    ) -> None:
        self._predict, self._rows, self._machine = predict, rows, machine
        self._progress = progress
        self._running: dict[Future[float], int] = {}
        self._refused: RowError | None = None
        self.waiting = list(range(len(rows)))
        self.predicted: dict[int, float] = {}
        progress(0, len(rows))

    def work(self, workers: int, take: Callable[[], int], until: float = inf) -> None:
        """Run rows that wait, in the order of `take`, and begin none when the time is up."""
        with local_workers(workers) as pool:
            while self._running or (self.waiting and perf_counter() < until):
                while self.waiting and len(self._running) < pool.queue_length:
                    index = take()
                    row = self._rows[index]
                    future = pool.executor.submit(self._predict, row, *self._machine)
                    self._running[future] = index
                self._collect()

    def _collect(self) -> None:
        """Take what is there, waiting for one row at least."""
        for future in wait(self._running, return_when=FIRST_COMPLETED).done:
            index = self._running.pop(future)
            try:
                self.predicted[index] = _finite(float(future.result()))
            except AccelsimError as error:
                self._refuse(index, error)
        self._progress(len(self.predicted), len(self._rows))
        refused = self._refused
        if refused and all(
            index > refused.index for index in (*self.waiting, *self._running.values())
        ):
            raise refused

    def _refuse(self, index: int, error: AccelsimError) -> None:
        """Note a row that the model cannot do; only those before it matter from now on."""
        if self._refused is None or index < self._refused.index:
            self._refused = RowError(index, str(error))
            self._refused.__cause__ = error
            self.waiting[:] = [each for each in self.waiting if each < index]
