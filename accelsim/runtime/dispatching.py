"""Numba's side of `accelsim.runtime.jit`: loaded when the first function is compiled or called.

Numba's own cache does not notice an edited callee in another module; `runtime.code_cache` does.
"""

from collections.abc import Callable, Mapping
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
from accelsim.runtime.jit import Manner, borrow, numba_is_there, report_compilation

_COMPILERS = {"jit": JitCompiler, "inner": InnerCompiler, "inline": InlineCompiler}
_OPTIONS: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "nogil": True,
    "no_cpython_wrapper": True,  # `JitCompiler` makes one all the same.
    "no_cfunc_wrapper": True,
}
"""The same for all: what Numba brings along is compiled anew for each choice of options."""


def dispatcher_of(function: Callable[..., Any], manner: Manner) -> Any:
    """Return the dispatcher of a function, or with NUMBA_DISABLE_JIT the function as it is."""
    compiled = numba.njit(pipeline_class=_COMPILERS[manner], **_OPTIONS)(function)
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


def choose_by_type(chosen: Callable[..., Any], choices: Mapping[type, Callable[..., Any]]) -> None:
    """Let compiled code that calls `chosen` call the choice for the type of its first argument."""

    class Chosen(AbstractTemplate):  # type: ignore[misc]
        key = chosen

        def generic(self, args: Any, kws: Any) -> Any:
            return self.context.resolve_function_type(_choice(args), args, kws)

    def _choice(arguments: Any) -> Any:
        own: Any = choices[arguments[0].instance_class]
        return DispatcherType(own.dispatcher)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_function(_choice(signature.args), signature)(builder, arguments)

    infer(Chosen)
    infer_global(chosen, FunctionType(Chosen))
    lower_builtin(chosen, VarArg(AnyType))(lower)
    functions = tuple(getattr(each, "py_func", each) for each in choices.values())
    setattr(chosen, COMPILED_AS, functions)


class _Listener(event.Listener):  # type: ignore[misc]
    def on_start(self, _event: Any) -> None:
        report_compilation()

    def on_end(self, _event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Listener())
numba_is_there()
