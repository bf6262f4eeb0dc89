"""The one way accelsim compiles: strict floating point, cached on disk, never stale.

Numba's own cache does not notice an edited callee in another module; `runtime.code_cache` does.
See docs/decisions/0003-compiled-cache.md.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import cgutils, event
from numba.core.types import Any as AnyType
from numba.core.types import Dispatcher as DispatcherType
from numba.core.types import Function as FunctionType
from numba.core.types import VarArg  # type: ignore[attr-defined]
from numba.core.types.containers import BaseTuple
from numba.core.types.misc import unliteral
from numba.core.types.npytypes import Array
from numba.core.typing.templates import AbstractTemplate, infer, infer_global
from numba.extending import lower_builtin, type_callable

from accelsim.runtime.closure import COMPILED_AS
from accelsim.runtime.code_cache import cached
from accelsim.runtime.compilers import InlineCompiler, InnerCompiler, JitCompiler


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` on first call, without fast-math and without the interpreter."""
    return _compiled(function, JitCompiler)


def jit_inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only compiled code calls.

    It cannot be called from Python once compiled, and takes a third of the time to compile, most of
    which would go into unpacking tuples of arguments.
    """
    return _compiled(function, InnerCompiler)


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile a function into the body of each of its callers, as `jit_inner` otherwise.

    A tuple of arrays costs a copy of all their fields for each call that is not inlined. Code grows
    with the number of calls, so this is for small functions and for large ones with one caller.
    """
    return _compiled(function, InlineCompiler)


_OPTIONS: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "no_cpython_wrapper": True,  # `JitCompiler` makes one all the same.
    "no_cfunc_wrapper": True,
}
"""The same for all: what Numba brings along is compiled anew for each choice of options."""


def _compiled(function: Callable[..., Any], compiler: type) -> Any:
    compiled = numba.njit(pipeline_class=compiler, **_OPTIONS)(function)
    # With NUMBA_DISABLE_JIT the function stays what it is.
    return compiled if compiled is function else _for_any_constant(cached(compiled))


def _for_any_constant(compiled: Any) -> Any:
    """Return the same function, which is not compiled anew for each constant that it is given."""
    of_types = compiled.get_call_template

    def template(arguments: Any, named: Any) -> Any:
        return of_types(
            tuple(map(unliteral, arguments)), {k: unliteral(v) for k, v in named.items()}
        )

    compiled.get_call_template = template
    return compiled


def borrow(value: Any) -> Any:
    """Return an array, or a tuple with arrays, as views that count no references; compiled code.

    Counting them costs an atomic instruction for each array argument of each call, which is most of
    the time of small functions. The caller must hold the array itself as long as the view is used.
    """
    return value


@type_callable(borrow)  # type: ignore[untyped-decorator]
def _type_borrow(_context: Any) -> Any:
    def typer(value: Any) -> Any:
        return value

    return typer


@lower_builtin(borrow, AnyType)  # type: ignore[untyped-decorator]
def _lower_borrow(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return _view(context, builder, signature.return_type, arguments[0])


def _view(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return a value of a type of Numba with the arrays in it as views."""
    if isinstance(kind, Array):
        view = context.make_array(kind)(context, builder, value)
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()
    for place, part in enumerate(kind) if isinstance(kind, BaseTuple) else ():
        own = _view(context, builder, part, builder.extract_value(value, place))
        value = builder.insert_value(value, own, place)
    return value


setattr(borrow, COMPILED_AS, (_lower_borrow,))


def chosen_by_type(choices: Mapping[type, Callable[..., Any]]) -> Callable[..., Any]:
    """Return a function that calls the choice for the type of its first argument, a named tuple.

    Compiled code holds only that choice: its caller is compiled anew for each type that it meets.
    """

    def chosen(value: Any, *others: Any) -> Any:
        return choices[type(value)](value, *others)

    class Chosen(AbstractTemplate):  # type: ignore[misc]
        key = chosen

        def generic(self, args: Any, kws: Any) -> Any:
            return self.context.resolve_function_type(_choice(args), args, kws)

    def _choice(arguments: Any) -> Any:
        return DispatcherType(choices[arguments[0].instance_class])

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_function(_choice(signature.args), signature)(builder, arguments)

    infer(Chosen)
    infer_global(chosen, FunctionType(Chosen))
    lower_builtin(chosen, VarArg(AnyType))(lower)
    functions = tuple(getattr(each, "py_func", each) for each in choices.values())
    setattr(chosen, COMPILED_AS, functions)
    return chosen


@contextmanager
def compilation_reported(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` whenever a function is compiled here and not found in the cache."""
    with event.install_listener("numba:compile", _Listener(report)):
        yield


class _Listener(event.Listener):  # type: ignore[misc]
    def __init__(self, report: Callable[[], None]) -> None:
        self._report = report

    def on_start(self, _event: Any) -> None:
        self._report()

    def on_end(self, _event: Any) -> None:
        """Nothing to say."""
