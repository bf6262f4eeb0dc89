"""What kernels of a matrix product share: sizes of tiles, the way to a program, and A B."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from accelsim.kernels import language as al
from accelsim.kernels.linear.tiles import Choice, Tiles

_FIELDS = (
    ("tile_m", "m"),
    ("tile_n", "n"),
    ("tile_k", "k"),
    ("stages", "stages"),
    ("splits", "splits"),
    ("swizzle", "swizzle"),
)
"""Parameters that a tiling has a value for, and where."""
_Problem = TypeVar("_Problem")
_Parameters = TypeVar("_Parameters")


class TileParameters(al.Spec):
    """Sizes of tiles that may be left to the kernel."""

    tile_m: al.Size | None = None
    """Rows of a tile of the left operand and the result, in elements; absent: chosen."""
    tile_n: al.Size | None = None
    """Columns of a tile of the right operand and the result, in elements; absent: chosen."""
    tile_k: al.Size | None = None
    """Depth of one step, in elements; absent: chosen."""

    @property
    def tile(self) -> tuple[int | None, int | None, int | None]:
        """Sizes along m, n and k."""
        return self.tile_m, self.tile_n, self.tile_k


class Workspace(NamedTuple, Generic[_Problem, _Parameters]):
    """A product that is laid out with a tiling."""

    builder: al.ProgramBuilder
    machine: al.MachineSpec
    problem: _Problem
    parameters: _Parameters
    tiles: Tiles
    tensors: al.GemmTensors | None


class ProductKernel(al.Kernel):
    """A product that one loop computes, whose tiles are chosen by an estimate."""

    problem_kind = "gemm"
    output: ClassVar[str] = "c"
    """Name of the product in the program."""

    @classmethod
    @abstractmethod
    def choices(cls, problem: Any, machine: al.MachineSpec, parameters: Any) -> Sequence[Choice]:
        """Return the tilings that may be the fastest, the best estimate first.

        Raises DoesNotFitError if none fits.
        """

    @classmethod
    def choose(cls, problem: Any, machine: al.MachineSpec, parameters: Any) -> Choice:
        """Return the tiling of the lowest estimated time that fits; raises DoesNotFitError."""
        return cls.choices(problem, machine, parameters)[0]

    @classmethod
    def tiles_of(cls, problem: Any, machine: al.MachineSpec, parameters: Any) -> Tiles:
        """Return the tiling that is recorded; raises DoesNotFitError."""
        return cls.choose(problem, machine, parameters).tiles

    @classmethod
    @abstractmethod
    def loop(cls, at: Workspace[Any, Any]) -> tuple[Any, int, Any]:
        """Place the matrices, declare the tiles, and return the compiled loop over them, its work
        items and its layout."""

    @classmethod
    def check(cls, problem: Any) -> None:
        """Raise an AccelsimError for a problem that the kernel does not compute."""

    @classmethod
    def chosen(cls, at: Workspace[Any, Any]) -> dict[str, int | str]:
        """Return the values of the parameters that may be left to the kernel."""
        return {"tile_m": at.tiles.m, "tile_n": at.tiles.n, "tile_k": at.tiles.k}

    @classmethod
    def told(cls, _at: Workspace[Any, Any], _program: al.Program) -> dict[str, float]:
        """Return what a program says of its values."""
        return {}

    @classmethod
    def record(
        cls, problem: Any, machine: al.MachineSpec, parameters: Any, tensors: al.GemmTensors | None
    ) -> tuple[al.Program, al.Array | None]:
        """Return the program and, with tensors, the product [m, n]."""
        cls.check(problem)
        tiles = cls.tiles_of(problem, machine, parameters)
        builder = al.ProgramBuilder(
            f"{cls.name} on {problem.name}", with_numbers=tensors is not None
        )
        at = Workspace(builder, machine, problem, parameters, tiles, tensors)
        program = builder.record(*cls.loop(at)).with_parameters(**cls.chosen(at))
        program = replace(program, statistics=cls.told(at, program))
        return program, builder.data.get(cls.output)

    @classmethod
    def rivals(cls, problem: Any, machine: al.MachineSpec, parameters: Any) -> list[dict[str, int]]:
        """Return the tilings that may be the fastest, the one that `record` takes first."""
        return [
            {name: getattr(each.tiles, field) for name, field in _FIELDS if name in cls.leaves_open}
            for each in cls.choices(problem, machine, parameters)
        ]

    @classmethod
    def estimated_cycles(cls, problem: Any, machine: al.MachineSpec, parameters: Any) -> float:
        """Return the time that the chosen tiles should take; raises DoesNotFitError."""
        return cls.choose(problem, machine, parameters).cycles

    @classmethod
    def oracle(cls, problem: Any, tensors: al.GemmTensors) -> al.Array:
        """Return A B in float64."""
        return tensors.a.astype(np.float64) @ tensors.b.astype(np.float64)
