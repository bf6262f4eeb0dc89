"""The libraries by name; a machine file names its own."""

from accelsim.errors import unknown_name
from accelsim.hardware.machine import MachineSpec
from accelsim.library.base import Library
from accelsim.library.hopper.library import Hopper
from accelsim.library.npu import Npu

_LIBRARIES: dict[str, Library] = {library.name: library for library in (Npu(), Hopper())}


def library_names() -> list[str]:
    """Return the names of all libraries."""
    return list(_LIBRARIES)


def library_of(machine: MachineSpec) -> Library:
    """Return the library of a machine; raises UnknownNameError."""
    if machine.library not in _LIBRARIES:
        raise unknown_name("library", machine.library, _LIBRARIES).at(f"machine {machine.name}")
    return _LIBRARIES[machine.library]


def register_library(library: Library) -> Library:
    """Make a library written outside accelsim known by its name.

    Raises ValueError if the name is taken.
    """
    if library.name in _LIBRARIES:
        raise ValueError(f"a library named '{library.name}' is registered already")
    _LIBRARIES[library.name] = library
    return library
