"""The kernel language in one place, for kernels written outside accelsim.

    from accelsim import language as al

Ops, formats, what a kernel declares, and how it is made known; see docs/kernel-language.md.
"""

from accelsim.kernels.language import *
from accelsim.kernels.language import __all__ as _ALL
from accelsim.kernels.registry import register

__all__ = [*_ALL, "register"]
