"""How compiled code calls a function at an address, see `accelsim.runtime.callback`."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import lower_builtin, type_callable

from accelsim.runtime.closure import COMPILED_AS


def let_code_call(call_at: Callable[[int], None]) -> None:
    """Let compiled code call `call_at`, which takes an address."""

    @type_callable(call_at)  # type: ignore[untyped-decorator]
    def _type_call_at(_context: Any) -> Any:
        def typer(address: Any) -> Any:
            return types.void if isinstance(address, types.Integer) else None

        return typer

    lower_builtin(call_at, types.Integer)(_lower_call_at)
    setattr(call_at, COMPILED_AS, (_lower_call_at,))


def _lower_call_at(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    function = ir.FunctionType(ir.VoidType(), []).as_pointer()
    builder.call(builder.inttoptr(arguments[0], function), [])
    return context.get_dummy_value()
