"""What a library is: it picks the recipe of an operation on a machine, as cuBLAS picks a kernel."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from accelsim.errors import UnknownNameError
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.library.recipe import CODE, Recipe
from accelsim.workload.problem import Problem


class Hardware(NamedTuple):
    """A machine and the costs of its actions, as one kind of code sees them."""

    machine: MachineSpec
    technology: TechnologySpec


class Library(ABC):
    """The kernels that experts have written for a family of machines.

    Contract: pure functions of their arguments. `recipe` never fails for a problem that some
    recipe can compute on the machine.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    tries: ClassVar[bool] = True
    """Whether candidates that an estimate does not tell apart are simulated; else it decides."""
    gathers_rows: ClassVar[bool] = False
    """Whether products of experts load rows of tokens from wherever they lie; else they are copied
    into the order of experts before."""
    codes: ClassVar[tuple[str, ...]] = ()
    """What a recipe may say of the code of a kernel, beside nothing."""

    @abstractmethod
    def recipe(self, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return the kernel that computes a problem, with what the kernel does not choose."""

    def hardware(self, problem: Problem, recipe: Recipe, hardware: Hardware) -> Hardware:
        """Return the hardware as the code of a recipe uses it; raises UnknownNameError."""
        if recipe.code and recipe.code not in self.codes:
            allowed = ", ".join(self.codes) or "none"
            raise UnknownNameError(
                f"recipe '{recipe}': {CODE}: found '{recipe.code}', "
                f"allowed by library {self.name}: {allowed}"
            )
        return hardware

    def completed(self, asked: Recipe, problem: Problem, machine: MachineSpec) -> Recipe:
        """Return what is asked with what the library says of the rest.

        Nothing, where kernels choose by themselves.
        """
        return asked
