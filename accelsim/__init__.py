"""The public names of accelsim; each is imported when it is first used."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from accelsim.version import VERSION

if TYPE_CHECKING:
    from accelsim.loading import load_machine, load_workload
    from accelsim.report.report import Report
    from accelsim.simulate import simulate
    from accelsim.sweep.run import sweep

__version__ = VERSION

__all__ = ["Report", "__version__", "load_machine", "load_workload", "simulate", "sweep"]

_HOMES = {
    "Report": "accelsim.report.report",
    "load_machine": "accelsim.loading",
    "load_workload": "accelsim.loading",
    "simulate": "accelsim.simulate",
    "sweep": "accelsim.sweep.run",
}


class _CallableModule(ModuleType):
    """A module that is called as the function it is named after."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        name = self.__name__.removeprefix("accelsim.")
        return getattr(import_module(_HOMES[name]), name)(*args, **kwargs)


class _Package(ModuleType):
    """Keeps `accelsim.simulate(...)` and `accelsim.sweep(...)` callable.

    Both are modules too, and importing one binds it here in the place of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOMES and type(value) is ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'accelsim' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    return globals().setdefault(name, value)


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
