"""A hint to the processor that runs this, which changes no value."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, overload


def prefetch(_words: Any, _index: int) -> None:
    """Let the processor fetch a word of a contiguous array, counted through all dimensions."""


@intrinsic
def _prefetch(_typing_context: Any, words: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.gep(data, [arguments[1]])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        read, near, data_cache = (ir.Constant(word, value) for value in (0, 3, 1))
        builder.call(hint, [builder.bitcast(place, byte), read, near, data_cache])
        return context.get_dummy_value()

    return types.void(words, types.int64), generate


@overload(prefetch, inline="always")
def _prefetch_compiled(_words: Any, _index: Any) -> Any:
    def compiled(_words: Any, _index: Any) -> None:
        _prefetch(_words, _index)

    return compiled
