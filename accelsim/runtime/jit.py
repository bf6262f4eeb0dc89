"""The one way accelsim compiles: strict floating point, cached on disk, never stale.

Numba's own cache does not notice an edited callee in another module; `runtime.code_cache` does.
See docs/decisions/0003-compiled-cache.md.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import cgutils, event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.typed_passes import IRLegalization
from numba.core.types.containers import BaseTuple
from numba.core.types.misc import unliteral
from numba.core.types.npytypes import Array
from numba.extending import intrinsic, overload

from accelsim.runtime.closure import COMPILED_AS
from accelsim.runtime.code_cache import cached


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` on first call, without fast-math and without the interpreter."""
    return _compiled(function)


def jit_inner(function: Callable[..., Any]) -> Any:
    """Compile a function that only compiled code calls.

    It cannot be called from Python once compiled, and takes a third of the time to compile, most of
    which would go into unpacking tuples of arguments.
    """
    return _compiled(function, **_INNER)


def jit_inline(function: Callable[..., Any]) -> Any:
    """Compile a function into the body of each of its callers, as `jit_inner` otherwise.

    A tuple of arrays costs a copy of all their fields for each call that is not inlined. Code grows
    with the number of calls, so this is for small functions and for large ones with one caller.
    """
    return _compiled(function, **_INNER, forceinline=True)


class _LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that only its callers run. They optimize it, with their own, where it is linked in.

    Numba would optimize a function once more at each level of the calls above it.
    """

    def _optimize_final_module(self) -> None:
        """Leave the code as the passes over each of its functions have made it."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _ChooseLibrary(AnalysisPass):  # type: ignore[misc]
    _name = "choose_library"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


class _InnerCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's own compiler, with another library for the code."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_ChooseLibrary, IRLegalization)
        passes.finalize()
        return [passes]


_INNER: dict[str, Any] = {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _InnerCompiler,
}


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    compiled = numba.njit(fastmath=False, error_model="numpy", nogil=True, **options)(function)
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


@intrinsic  # type: ignore[untyped-decorator]
def _without_owner(typing_context: Any, kind: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _view(context, builder, kind, arguments[0])

    return kind(kind), generate


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


@overload(borrow)  # type: ignore[untyped-decorator]
def _borrow_compiled(value: Any) -> Any:
    def borrowed(value: Any) -> Any:
        return _without_owner(value)

    return borrowed


setattr(borrow, COMPILED_AS, (_borrow_compiled,))


def chosen_by_type(choices: Mapping[type, Callable[..., Any]]) -> Callable[..., Any]:
    """Return a function that calls the choice for the type of its first argument, a named tuple.

    Compiled code holds only that choice: its caller is compiled anew for each type that it meets.
    """

    def chosen(value: Any, *others: Any) -> Any:
        return choices[type(value)](value, *others)

    def compiled(value: Any, *others: Any) -> Any:
        choice = choices[value.instance_class]

        def call(value: Any, *others: Any) -> Any:
            return choice(value, *others)

        return call

    overload(chosen, jit_options={"forceinline": True, "error_model": "numpy"})(compiled)
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
