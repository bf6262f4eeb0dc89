"""What a compiled function depends on: its code, what it calls, and the constants it reads.

Machine code bakes in the code of every function that it calls and the value of every global that it
reads, in whatever module. `closure_digest` is a hash of just these, so it changes when one of them
does and at no other time: comments, docstrings and the rest of a module do not matter, and neither
does the folder that a module lies in. As Triton's `DependenciesFinder` (runtime/jit.py) does.
"""

import enum
import hashlib
import sys
from collections.abc import Iterator
from dis import EXTENDED_ARG, opmap
from functools import cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.core.types import Type

from accelsim.runtime.jit import Compiled

_VERSIONED = frozenset({"numpy", "numba", "llvmlite"}) | sys.stdlib_module_names
"""Packages that are told apart by their version, not by their code."""


COMPILED_AS = "compiled_as"
"""Attribute of a Python function: the functions that Numba compiles in its place."""
_LOAD_GLOBAL = opmap["LOAD_GLOBAL"]


class UnknownDependencyError(TypeError):
    """A compiled function reads something whose value has no hash."""


@cache
def closure_digest(function: FunctionType) -> str:
    """Return a hash of the function, of all that it calls and of all constants they read.

    Raises UnknownDependencyError for a constant of a kind that has no hash.
    """
    parts = sorted(_own_digest(each) for each in _reached_from(function))
    return hashlib.sha256("\n".join([_own_digest(function), *parts]).encode()).hexdigest()


def _reached_from(function: FunctionType) -> set[FunctionType]:
    """Return the function with all that it calls, directly or not."""
    reached, waiting = set(), [function]
    while waiting:
        each = waiting.pop()
        if each not in reached:
            reached.add(each)
            waiting += _Dependencies.of(each).functions
    return reached


@cache
def _own_digest(function: FunctionType) -> str:
    text = f"{_name(function)}: {_Dependencies.of(function).text}"
    return hashlib.sha256(text.encode()).hexdigest()


class _Dependencies:
    """What the code of one function names: other functions, and constants as text."""

    def __init__(self, function: FunctionType) -> None:
        self.functions: list[FunctionType] = []
        self._attributes = _attributes_of(function.__code__)
        described = self._describe_code(function.__code__, function.__doc__)
        values = [function.__defaults__, function.__kwdefaults__, *_captured(function)]
        constants = [self._describe(value) for value in values]
        constants += [
            f"{name}={self._describe(function.__globals__[name])}"
            for name in sorted(_globals_of(function.__code__))
            if name in function.__globals__
        ]
        self.text = "\n".join([described, *constants])

    @staticmethod
    @cache
    def of(function: FunctionType) -> "_Dependencies":
        """Return what a function names, found once."""
        return _Dependencies(function)

    def _describe(self, value: Any) -> str:
        """Return a value as text; what is a function is noted."""
        function = _python_function(value)
        if function is not None and not _is_versioned(function.__module__):
            self.functions += [function, *getattr(function, COMPILED_AS, ())]
            return f"function {_name(function)}"
        if isinstance(value, ModuleType):
            return self._describe_module(value)
        if isinstance(value, CodeType):
            return self._describe_code(value, None)
        if isinstance(value, tuple | list):
            return f"{type(value).__name__}({', '.join(map(self._describe, value))})"
        if isinstance(value, dict):
            pairs = sorted(f"{key!r}: {self._describe(each)}" for key, each in value.items())
            return f"{{{', '.join(pairs)}}}"
        return _describe_constant(value)

    def _describe_module(self, module: ModuleType) -> str:
        """Return the members of a module that the code may take, by the names of attributes."""
        if _is_versioned(module.__name__):
            return f"module {module.__name__}"
        members = [name for name in sorted(self._attributes) if hasattr(module, name)]
        described = (f"{name}={self._describe(getattr(module, name))}" for name in members)
        return f"module {module.__name__}({', '.join(described)})"

    def _describe_code(self, code: CodeType, docstring: str | None) -> str:
        """Return instructions, constants and names of a function, without docstring and lines."""
        constants = [self._describe(None if each is docstring else each) for each in code.co_consts]
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_kwonlyargcount, code.co_posonlyargcount, code.co_flags)
        steps = code.co_code.hex() + code.co_exceptiontable.hex()
        return f"{steps} {constants} {names} {counts}"


def _python_function(value: Any) -> FunctionType | None:
    """Return the Python function behind a compiled one, an intrinsic, or itself."""
    if isinstance(value, Dispatcher | Compiled):
        value = value.py_func
    value = getattr(value, "_defn", value)  # of an intrinsic
    return value if isinstance(value, FunctionType) else None


def _describe_constant(value: Any) -> str:
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, np.ndarray):
        content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"array {value.dtype} {value.shape} {content}"
    if isinstance(value, frozenset | set):
        return f"set {sorted(map(_describe_constant, value))}"
    if isinstance(value, type):
        return describe_class(value)
    if isinstance(value, BuiltinFunctionType | FunctionType | np.ufunc | Type):
        text = f"{type(value).__name__} {getattr(value, '__module__', '')}.{value!s}"
        return text.partition(" at ")[0]
    raise UnknownDependencyError(f"{value!r} of type {type(value).__name__}")


def describe_class(value: type) -> str:
    """Return what compiled code knows of a class: the fields of a tuple, the members of an enum."""
    text = f"class {value.__module__}.{value.__qualname__}"
    if issubclass(value, enum.Enum):
        return f"{text} {[(member.name, member.value) for member in value]}"
    return f"{text} {getattr(value, '_fields', '')}"


def _inner_codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of those inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _inner_codes(each)


def _attributes_of(code: CodeType) -> set[str]:
    """Return the names of attributes, and of globals."""
    return {name for each in _inner_codes(code) for name in each.co_names}


def _globals_of(code: CodeType) -> set[str]:
    """Return the names of globals that are loaded."""
    return {name for each in _inner_codes(code) for name in _loaded_globals(each)}


def _loaded_globals(code: CodeType) -> Iterator[str]:
    # `dis` does the same, twenty times slower.
    higher, steps = 0, code.co_code
    for operation, argument in zip(steps[::2], steps[1::2], strict=True):
        if operation == EXTENDED_ARG:
            higher = (higher | argument) << 8
            continue
        if operation == _LOAD_GLOBAL:
            yield code.co_names[(higher | argument) >> 1]
        higher = 0


def _captured(function: FunctionType) -> Iterator[Any]:
    """Yield the values of the variables of outer functions that it uses."""
    for cell in function.__closure__ or ():
        yield cell.cell_contents


def _is_versioned(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _VERSIONED


def _name(function: FunctionType) -> str:
    return f"{function.__module__}.{function.__qualname__}"
