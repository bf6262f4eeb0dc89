"""The kernels by name; each is imported when it is first asked for."""

from importlib import import_module
from typing import cast

from accelsim.errors import unknown_name
from accelsim.kernels.base import Kernel
from accelsim.kernels.outside import (
    complete,
    is_in_file,
    kernel_of_file,
    kernel_of_package,
    packaged_kernels,
)
from accelsim.runtime.sources import class_digest

_SHIPPED = {
    "gemm": "linear.gemm:Gemm",
    "grouped_gemm": "linear.grouped_gemm:GroupedGemm",
    "tender": "linear.quantized.tender:Tender",
    "requantized": "linear.quantized.requantized:Requantized",
    "quantized": "linear.quantized.quantized:Quantized",
    "smoothquant": "linear.quantized.smoothquant:SmoothQuant",
    "outlier_split": "linear.quantized.outlier_split:OutlierSplit",
    "weight_only": "linear.weight_only:WeightOnly",
    "mx": "linear.mx.mx:Mx",
    "vector": "vector.rows:Vector",
    "dense": "attention.dense.dense:Dense",
    "flash": "attention.flash.flash:Flash",
    "int_flash": "attention.integer.int_flash:IntFlash",
    "sage": "attention.sage.sage:Sage",
    "pasa": "attention.shifted.pasa:Pasa",
    "centered": "attention.shifted.centered:Centered",
    "sparse": "attention.sparse.sparse:Sparse",
    "split_kv": "attention.decode.split_kv:SplitKv",
    "sift": "attention.decode.sift:Sift",
    "topk": "attention.decode.topk:TopK",
    "quest": "attention.decode.quest:Quest",
    "window": "attention.decode.window:Window",
}
"""Name of each kernel of accelsim, and the class in a module of this package."""
_PACKAGE = __name__.rpartition(".")[0]
_KERNELS: dict[str, type[Kernel]] = {}
"""Those that were asked for, and those that were registered."""


def kernel_names() -> list[str]:
    """Return the names of all kernels, those of installed packages included."""
    return list(dict.fromkeys([*_SHIPPED, *_KERNELS, *packaged_kernels()]))


def get_kernel(name: str) -> type[Kernel]:
    """Return the kernel called `name`, or that of a file, `path/to/file.py:Class`.

    Raises UnknownNameError, and ConfigError for a file or a package without such a kernel.
    """
    if is_in_file(name):
        kernel = kernel_of_file(name)
        class_digest(kernel)
        return kernel
    if name in _SHIPPED and name not in _KERNELS:
        _KERNELS[name] = _shipped(name)
    if name not in _KERNELS:
        packaged = packaged_kernels()
        if name not in packaged:
            raise unknown_name("kernel", name, kernel_names())
        kernel = kernel_of_package(packaged[name])
        if name not in _KERNELS:  # Importing it may have registered it.
            register(kernel)
    return _KERNELS[name]


def is_shipped(kernel: type[Kernel]) -> bool:
    """Return whether a kernel is one of accelsim's own, whose programs the tests verify."""
    return kernel.name in _SHIPPED and kernel is get_kernel(kernel.name)


def register(kernel: type[Kernel]) -> type[Kernel]:
    """Make a kernel written outside accelsim known by its name; usable as a decorator.

    Raises ValueError if the name is taken, ConfigError for what is no whole kernel.
    """
    complete(f"kernel '{getattr(kernel, 'name', kernel.__name__)}'", kernel)
    if kernel.name in _KERNELS or kernel.name in _SHIPPED:
        raise ValueError(f"a kernel named '{kernel.name}' is registered already")
    _KERNELS[kernel.name] = kernel
    class_digest(kernel)  # of the source as it is now, which the process goes on with
    return kernel


def _shipped(name: str) -> type[Kernel]:
    module, _, kernel = _SHIPPED[name].partition(":")
    return cast(type[Kernel], getattr(import_module(f"{_PACKAGE}.{module}"), kernel))
