"""One compiled function out of one for each unit."""

from collections.abc import Callable, Sequence
from typing import Any

from accelsim.runtime.jit import jit_inline


def by_unit(functions: Sequence[Callable[..., Any]], *more: str) -> Any:
    """Return compiled code that asks unit by unit which one an op is for, and calls its function.

    functions: in the order of `Unit`, of the words of an op, the shape of the unit and what `more`
    names. What is returned takes the number of the unit before them, and the shapes of all units.
    It is written out, as named tuples are: compiled code calls through no table of functions for
    free, and a chain of functions takes a second more to compile.
    """
    names = "".join(f", {name}" for name in more)
    rows = "".join(f", {name}[{{0}}]" for name in more)
    calls = [f"return of_{i}(op, shapes[{i}]{rows.format(i)})" for i in range(len(functions))]
    asked = [f"    if unit == {i}: {call}" for i, call in enumerate(calls[:-1])]
    lines = [f"def call(unit, op, shapes{names}):", *asked, f"    {calls[-1]}"]
    scope: dict[str, Any] = {f"of_{i}": each for i, each in enumerate(functions)}
    scope["__name__"] = __name__  # Code from the cache asks for the module of its function.
    exec("\n".join(lines), scope)
    return jit_inline(scope["call"])
