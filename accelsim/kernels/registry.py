"""The kernels by name."""

from accelsim.errors import unknown_name
from accelsim.kernels.attention.decode.quest import Quest
from accelsim.kernels.attention.decode.sift import Sift
from accelsim.kernels.attention.decode.split_kv import SplitKv
from accelsim.kernels.attention.decode.topk import TopK
from accelsim.kernels.attention.decode.window import Window
from accelsim.kernels.attention.dense.dense import Dense
from accelsim.kernels.attention.flash.flash import Flash
from accelsim.kernels.attention.integer.int_flash import IntFlash
from accelsim.kernels.attention.sage.sage import Sage
from accelsim.kernels.attention.shifted.centered import Centered
from accelsim.kernels.attention.shifted.pasa import Pasa
from accelsim.kernels.attention.sparse.sparse import Sparse
from accelsim.kernels.base import Kernel
from accelsim.kernels.linear.gemm import Gemm
from accelsim.kernels.linear.grouped_gemm import GroupedGemm
from accelsim.kernels.linear.mx.mx import Mx
from accelsim.kernels.linear.quantized.outlier_split import OutlierSplit
from accelsim.kernels.linear.quantized.quantized import Quantized
from accelsim.kernels.linear.quantized.requantized import Requantized
from accelsim.kernels.linear.quantized.smoothquant import SmoothQuant
from accelsim.kernels.linear.quantized.tender import Tender
from accelsim.kernels.linear.weight_only import WeightOnly
from accelsim.kernels.outside import (
    complete,
    is_in_file,
    kernel_of_file,
    kernel_of_package,
    packaged_kernels,
)
from accelsim.kernels.vector.rows import Vector
from accelsim.runtime.sources import class_digest

_SHIPPED: tuple[type[Kernel], ...] = (
    Gemm,
    GroupedGemm,
    Tender,
    Requantized,
    Quantized,
    SmoothQuant,
    OutlierSplit,
    WeightOnly,
    Mx,
    Vector,
    Dense,
    Flash,
    IntFlash,
    Sage,
    Pasa,
    Centered,
    Sparse,
    SplitKv,
    Sift,
    TopK,
    Quest,
    Window,
)
_KERNELS = {kernel.name: kernel for kernel in _SHIPPED}


def kernel_names() -> list[str]:
    """Return the names of all kernels, those of installed packages included."""
    return list(dict.fromkeys([*_KERNELS, *packaged_kernels()]))


def get_kernel(name: str) -> type[Kernel]:
    """Return the kernel called `name`, or that of a file, `path/to/file.py:Class`.

    Raises UnknownNameError, and ConfigError for a file or a package without such a kernel.
    """
    if is_in_file(name):
        kernel = kernel_of_file(name)
        class_digest(kernel)
        return kernel
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
    return kernel in _SHIPPED


def register(kernel: type[Kernel]) -> type[Kernel]:
    """Make a kernel written outside accelsim known by its name; usable as a decorator.

    Raises ValueError if the name is taken, ConfigError for what is no whole kernel.
    """
    complete(f"kernel '{getattr(kernel, 'name', kernel.__name__)}'", kernel)
    if kernel.name in _KERNELS:
        raise ValueError(f"a kernel named '{kernel.name}' is registered already")
    _KERNELS[kernel.name] = kernel
    class_digest(kernel)  # of the source as it is now, which the process goes on with
    return kernel
