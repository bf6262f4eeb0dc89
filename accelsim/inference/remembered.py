"""Operations that were simulated before, in this process or in another one, are remembered.

What is kept is known by all that it follows from, and by a digest of the sources that can move it,
as choices of tiles are. So it is never stale. See docs/decisions/0071-costs-that-are-remembered.md.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from accelsim.config.sample import Sample
from accelsim.errors import ConfigError
from accelsim.hardware.machine import MachineSpec
from accelsim.library.recipe import Recipe
from accelsim.library.registry import library_of
from accelsim.loading import load_technology
from accelsim.report.report import Report
from accelsim.report.written import UnwritableError, read, written
from accelsim.runtime.on_disk import keep, kept, name_of
from accelsim.runtime.sources import accelsim_digest, class_digest, is_as_digested
from accelsim.workload.problem import Problem

VARIABLE = "ACCELSIM_REMEMBER"
"""Environment variable that says whether costs are remembered."""
_SAID = {"": True, "yes": True, "no": False}
_KIND = "costs"


def is_wanted() -> bool:
    """Return whether costs are to be remembered; raises ConfigError."""
    said = os.environ.get(VARIABLE, "")
    if said not in _SAID:
        raise ConfigError([f"{VARIABLE}: found '{said}', allowed: yes or no"])
    return _SAID[said]


@dataclass
class RememberedCosts:
    """What operations cost on a machine, in whatever process they were simulated."""

    machine: MachineSpec
    remembered: int = 0
    """Reports that need not be simulated."""
    simulated: int = 0
    _is_wanted: bool = field(default_factory=is_wanted)

    def report(
        self,
        problem: Problem,
        asked: Recipe | None,
        clock: float,
        sample: Sample,
        simulate: Callable[[], Report],
    ) -> Report:
        """Return the report of an operation, simulated if it is not known.

        asked: the kernel that was asked for; None: the library picks it.
        """
        name = self._name(problem, asked, "report", repr(clock), str(sample))
        text = kept(_KIND, name) if name else None
        with suppress(ValueError, TypeError, KeyError):
            if text is not None:
                found = read(text)
                self.remembered += 1
                return found
        self.simulated += 1
        report = simulate()
        with suppress(UnwritableError):
            if name and Recipe(report.kernel).is_shipped:
                self._keep(name, written(report))
        return report

    def weight_bytes(self, problem: Problem, asked: Recipe | None, count: Callable[[], int]) -> int:
        """Return the bytes of the weights of a product as its kernel stores them."""
        name = self._name(problem, asked, "weight bytes")
        text = kept(_KIND, name) if name else None
        if text is not None and text.isdecimal():
            return int(text)
        found = count()
        if name:
            self._keep(name, str(found))
        return found

    def _keep(self, name: str, text: str) -> None:
        """Keep a text that is of the sources whose digest is in its name."""
        if is_as_digested():
            keep(_KIND, name, text)

    def _name(self, problem: Problem, asked: Recipe | None, *more: str) -> str:
        """Return the name of what is kept of an operation; empty if nothing is to be kept."""
        if not self._begin or (asked is not None and not _is_known_by_text(asked)):
            return ""
        return name_of(self._begin, problem.model_dump_json(), str(asked), *more)

    @cached_property
    def _begin(self) -> str:
        """Name of all that operations on the machine follow from beside themselves."""
        if not (self._is_wanted and is_as_digested()):
            return ""
        machine, library = self.machine, library_of(self.machine)
        return name_of(
            machine.model_dump_json(serialize_as_any=True),
            load_technology(machine.technology).model_dump_json(serialize_as_any=True),
            library.name,
            class_digest(type(library)),
            accelsim_digest(),
        )


def _is_known_by_text(asked: Recipe) -> bool:
    """Whether the text of a recipe says all: its code is accelsim's, and it names no file."""
    values = dict(asked.parameters()).values()
    return asked.is_shipped and not any(isinstance(each, Path) for each in values)
