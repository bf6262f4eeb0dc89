"""The one way accelsim compiles: strict floating point, cached on disk, never stale.

Numba is loaded when a function is first called. A process that calls none, because all that it asks
for is remembered, never loads it. See docs/decisions/0003-compiled-cache.md and 0071.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, update_wrapper
from typing import Any, Literal

Manner = Literal["jit", "inner", "inline"]
"""How a function is compiled."""


class Compiled:
    """A function that is compiled when it is first called, or met in code that is compiled.

    For Numba it is its dispatcher, whose attributes it has.
    """

    def __init__(self, function: Callable[..., Any], manner: Manner) -> None:
        self.py_func, self._manner = function, manner
        update_wrapper(self, function)

    @cached_property
    def dispatcher(self) -> Any:
        """Numba's side of the function; the function itself with NUMBA_DISABLE_JIT."""
        from accelsim.runtime.dispatching import dispatcher_of

        return dispatcher_of(self.py_func, self._manner)

    @property
    def _numba_type_(self) -> Any:
        """What Numba takes this for, where compiled code calls it."""
        return self.dispatcher._numba_type_

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled code."""
        return self.dispatcher(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks for such names of whatever it is given.
            raise AttributeError(name)
        return getattr(self.dispatcher, name)


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` on first call, without fast-math and without the interpreter."""
    return Compiled(function, "jit")


def jit_inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only compiled code calls.

    It cannot be called from Python once compiled, and takes a third of the time to compile, most of
    which would go into unpacking tuples of arguments.
    """
    return Compiled(function, "inner")


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile a function into the body of each of its callers, as `jit_inner` otherwise.

    A tuple of arrays costs a copy of all their fields for each call that is not inlined. Code grows
    with the number of calls, so this is for small functions and for large ones with one caller.
    """
    return Compiled(function, "inline")


class _Preparations:
    """What Numba is to be told of before anything is compiled."""

    def __init__(self) -> None:
        self._is_numba_there = False
        self._waiting: list[Callable[[], None]] = []

    def add(self, prepare: Callable[[], None]) -> Callable[[], None]:
        if self._is_numba_there:
            prepare()
        else:
            self._waiting.append(prepare)
        return prepare

    def run(self) -> None:
        self._is_numba_there = True
        while self._waiting:
            self._waiting.pop(0)()


_PREPARATIONS = _Preparations()
when_compiling = _PREPARATIONS.add
"""Calls a function, which tells Numba of something, once before anything is compiled."""
numba_is_there = _PREPARATIONS.run
"""Calls those that waited for Numba; for the one module that loads it."""


def borrow(value: Any) -> Any:
    """Return an array, or a tuple with arrays, as views that count no references; compiled code.

    Counting them costs an atomic instruction for each array argument of each call, which is most of
    the time of small functions. The caller must hold the array itself as long as the view is used.
    """
    return value


def chosen_by_type(choices: Mapping[type, Callable[..., Any]]) -> Callable[..., Any]:
    """Return a function that calls the choice for the type of its first argument, a named tuple.

    Compiled code holds only that choice: its caller is compiled anew for each type that it meets.
    """

    def chosen(value: Any, *others: Any) -> Any:
        return choices[type(value)](value, *others)

    @when_compiling
    def _register() -> None:
        from accelsim.runtime.dispatching import choose_by_type

        choose_by_type(chosen, choices)

    return chosen


_reports: list[Callable[[], None]] = []


@contextmanager
def compilation_reported(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` whenever a function is compiled here and not found in the cache."""
    _reports.append(report)
    try:
        yield
    finally:
        _reports.remove(report)


def report_compilation() -> None:
    """Tell whoever wants to know that a function is compiled."""
    for report in tuple(_reports):
        report()
