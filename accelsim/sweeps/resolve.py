"""What a choice of settings describes: the documents behind it, its id and its values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.errors import AccelsimError
from accelsim.library.recipe import Recipe
from accelsim.sweeps.axis import Scalar
from accelsim.sweeps.contents import Contents, ReadContents
from accelsim.sweeps.spec import SUBJECTS

Settings = dict[str, Scalar]
"""Dotted key -> value; a choice is the settings of one point with its three subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One design to run."""

    id: str
    """Hash of the resolved machine, technology, workload and kernel, of the recipe, and of the
    version: two points with one id describe the same design, wherever their files are."""
    machine: str
    """Name or file."""
    workload: str
    """Name or file."""
    kernel: str
    """Recipe without the parameters among the settings; empty: the library picks it."""
    settings: Settings
    """What differs from the files: machine.<field>, workload.<field> and kernel parameters."""
    columns: dict[str, Any]
    """What the row of the point says before its results: names, and the value of each setting."""
    infeasible_because: str = ""
    """Why the settings contradict each other; empty for a point that can run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A point with the contents that constraints may ask for."""

    point: Point
    contents: dict[str, Contents] = field(default_factory=dict)
    """Contents of machine, workload and parameters; empty if the settings contradict each other."""
    error: AccelsimError | None = None
    """Why they do."""

    def look_up(self, name: str) -> Any:
        """Return the value of `machine.<field>`, `workload.<field>`, `kernel` or a parameter."""
        return _look_up(self.contents, name)


class _Part(NamedTuple):
    contents: Contents
    digest: str


class Resolver:
    """Turns choices into points; reads each distinct document once, however many share it."""

    def __init__(self, read: ReadContents, version: str, folder: Path) -> None:
        self._read, self._version, self._folder = read, version, folder
        self._parts: dict[str, _Part] = {}

    def contents(self, kind: str, name: Scalar, settings: Settings | None = None) -> Contents:
        """Return the contents of a document; raises what reading it raises."""
        return self._part(kind, name, settings or {}).contents

    def resolve(self, choice: Settings) -> Resolved:
        """Return the point of `choice`, infeasible if its settings contradict each other."""
        known = self.contents("kernel", choice["kernel"])
        settings = {key: value for key, value in choice.items() if "." in key or key in known}
        subjects: Settings = {subject: choice[subject] for subject in SUBJECTS}
        subjects["kernel"] = _recipe(subjects["kernel"], {})
        try:
            return self._feasible(subjects, settings)
        except AccelsimError as error:
            point_id = digest([subjects, settings, self._version])
            point = self._point(point_id, subjects, settings, subjects | settings, str(error))
            return Resolved(point=point, error=error)

    def _feasible(self, subjects: Settings, settings: Settings) -> Resolved:
        parameters = {key: value for key, value in settings.items() if "." not in key}
        machine = self._part("machine", subjects["machine"], _below(settings, "machine"))
        technology = self._part("technology", machine.contents["technology"], {})
        workload = self._part("workload", subjects["workload"], _below(settings, "workload"))
        kernel = self._part("kernel", subjects["kernel"], parameters)
        contents = {
            "machine": machine.contents,
            "workload": workload.contents,
            "parameters": {**kernel.contents, "kernel": str(subjects["kernel"]).partition("(")[0]},
        }
        digests = [part.digest for part in (machine, technology, workload, kernel)]
        # The library completes what is not asked, so what is asked is part of the design.
        point_id = digest([*digests, _recipe(subjects["kernel"], parameters), self._version])
        columns = {key: _look_up(contents, key) for key in (*subjects, *settings)}
        columns["kernel"] = subjects["kernel"]
        return Resolved(point=self._point(point_id, subjects, settings, columns), contents=contents)

    def _point(
        self, id_: str, subjects: Settings, settings: Settings, columns: Settings, reason: str = ""
    ) -> Point:
        return Point(
            id=id_,
            machine=self._source(subjects["machine"]),
            workload=self._source(subjects["workload"]),
            kernel=str(subjects["kernel"]),
            settings=settings,
            columns=columns,
            infeasible_because=reason,
        )

    def _part(self, kind: str, name: Scalar, settings: Settings) -> _Part:
        key = _canonical([kind, name, settings])
        if key not in self._parts:
            contents = self._read(kind, self._source(name), settings)
            self._parts[key] = _Part(contents, digest(contents))
        return self._parts[key]

    def _source(self, name: Scalar) -> str:
        """A file beside the sweep file, or the name as it is."""
        beside = self._folder / str(name)
        return str(beside) if beside.is_file() else str(name)


def _recipe(kernel: Scalar, parameters: Settings) -> str:
    """Return a recipe with parameters, in its one spelling; empty where the library picks it."""
    return str(Recipe.parse(str(kernel)).updated(parameters)) if kernel else ""


def _look_up(contents: Mapping[str, Contents], name: str) -> Any:
    root, *fields = name.split(".")
    if root in ("machine", "workload"):
        fields = fields or ["name"]
    else:
        root, fields = "parameters", [root, *fields]
    value: Any = contents.get(root)
    for each in fields:
        value = value.get(each) if isinstance(value, Mapping) else None
    return value


def _below(settings: Settings, root: str) -> Settings:
    prefix = f"{root}."
    return {key[len(prefix) :]: value for key, value in settings.items() if key.startswith(prefix)}


def digest(value: Any) -> str:
    """Return the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
