"""What a choice of settings describes: the documents behind it, its id and its values."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from accelsim.errors import AccelsimError, ShortageError
from accelsim.kernels.outside import KERNEL_FILE
from accelsim.library.recipe import LIBRARY, asked_for
from accelsim.sweeps.axis import Scalar
from accelsim.sweeps.contents import SOURCE, Contents, ReadContents
from accelsim.sweeps.spec import SUBJECTS

_SHORT = 12
"""Digits of a digest in a table."""
_WORDS_FOR_PEOPLE = ("name", "description", "sources")

Settings = dict[str, Scalar]
"""Dotted key -> value; a choice is the settings of one point with its three subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One design to run."""

    id: str
    """Hash of the resolved machine, technology, workload and kernel, of the recipe, and of the
    code: two points with one id describe the same design, wherever their files are."""
    version: str
    """Digest of the code that runs it: accelsim's, and the kernel's own if it is from outside."""
    label: str
    """Hash of what the sweep says, whatever its files hold: a result whose label is the same and
    whose id is not was made from other files."""
    machine: str
    """Name or file."""
    workload: str
    """Name or file."""
    kernel: str
    """Recipe without the parameters among the settings, or `library`."""
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

    def with_columns(self, names: Sequence[str]) -> "Resolved":
        """Return the same with a column for each of `names` that has none."""
        known = self.point.columns
        more = {name: self.look_up(name) for name in names if name not in known}
        return replace(self, point=replace(self.point, columns=known | more)) if more else self


class _Part(NamedTuple):
    contents: Contents
    digest: str
    nameless: str
    """Digest of what it says, whatever it is called."""


class Resolver:
    """Turns choices into points; reads each distinct document once, however many share it."""

    def __init__(self, read: ReadContents, version: str, folder: Path) -> None:
        self._read, self._version, self._folder = read, version, folder
        self._parts: dict[str, _Part] = {}
        self._places: dict[str, str] = {}

    def contents(self, kind: str, name: Scalar, settings: Settings | None = None) -> Contents:
        """Return the contents of a document; raises what reading it raises."""
        return self._part(kind, name, settings or {}).contents

    def resolve(self, choice: Settings) -> Resolved:
        """Return the point of `choice`, infeasible if its settings contradict each other."""
        choice = {**choice, "kernel": self._source(choice["kernel"])}
        known = self.contents("kernel", choice["kernel"])
        settings = {key: value for key, value in choice.items() if "." in key or key in known}
        subjects: Settings = {subject: choice[subject] for subject in SUBJECTS}
        subjects["kernel"] = _recipe(subjects["kernel"], {})
        try:
            return self._feasible(subjects, settings)
        except ShortageError:
            raise
        except AccelsimError as error:
            version = self._version_of(known)
            point_id = digest([subjects, settings, str(error), version])
            columns = subjects | settings
            point = self._point(point_id, version, subjects, settings, columns, str(error))
            return Resolved(point=point, error=error)

    def _version_of(self, kernel: Contents) -> str:
        own = kernel.get(SOURCE)
        return digest([self._version, own]) if own else self._version

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
        version = self._version_of(kernel.contents)
        # The library completes what is not asked, so what is asked is part of the design.
        point_id = digest([*digests, _recipe(subjects["kernel"], parameters), version])
        columns = {key: _look_up(contents, key) for key in (*subjects, *settings)}
        columns["kernel"] = subjects["kernel"]
        columns["machine_digest"] = digest([machine.nameless, technology.nameless])[:_SHORT]
        columns["workload_digest"] = workload.nameless[:_SHORT]
        point = self._point(point_id, version, subjects, settings, columns)
        return Resolved(point=point, contents=contents)

    def _point(
        self,
        id_: str,
        version: str,
        subjects: Settings,
        settings: Settings,
        columns: Settings,
        reason: str = "",
    ) -> Point:
        machine, workload = (self._source(subjects[each]) for each in ("machine", "workload"))
        places = [self._place(machine), self._place(workload)]
        return Point(
            id=id_,
            version=version,
            label=digest([places, subjects["kernel"], settings]),
            machine=machine,
            workload=workload,
            kernel=str(subjects["kernel"]),
            settings=settings,
            columns=columns,
            infeasible_because=reason,
        )

    def _part(self, kind: str, name: Scalar, settings: Settings) -> _Part:
        key = _canonical([kind, name, settings])
        if key not in self._parts:
            contents = self._read(kind, self._source(name), settings)
            self._parts[key] = _Part(contents, digest(contents), digest(_nameless(contents)))
        return self._parts[key]

    def _place(self, source: str) -> str:
        """A file by its whole path, so that one file has one name; other names as they are."""
        if source not in self._places:
            path = Path(source)
            self._places[source] = str(path.resolve()) if path.is_file() else source
        return self._places[source]

    def _source(self, name: Scalar) -> str:
        """A file beside the sweep file, or the name as it is."""
        file, is_kernel, _ = str(name).partition(f"{KERNEL_FILE}:")
        beside = self._folder / (f"{file}{KERNEL_FILE}" if is_kernel else file)
        return str(self._folder / str(name)) if os.path.isfile(beside) else str(name)


def _recipe(kernel: Scalar, parameters: Settings) -> str:
    """Return a recipe with parameters, in its one spelling, or that the library picks it."""
    asked = asked_for(str(kernel))
    return str(asked.updated(parameters)) if asked else LIBRARY


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


def flat(contents: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Scalar | None]]:
    """Yield the dotted names of fields that hold a scalar or nothing, with their values."""
    for key, value in contents.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat(value, f"{name}.")
        elif not prefix and key in _WORDS_FOR_PEOPLE:
            continue
        elif value is None or isinstance(value, bool | int | float | str):
            yield name, value


def _below(settings: Settings, root: str) -> Settings:
    prefix = f"{root}."
    return {key[len(prefix) :]: value for key, value in settings.items() if key.startswith(prefix)}


def _nameless(contents: Contents) -> Contents:
    return {key: value for key, value in contents.items() if key not in _WORDS_FOR_PEOPLE}


def digest(value: Any) -> str:
    """Return the SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
