"""What a sweep file says: which machines, workloads and kernels, and what varies between points."""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from accelsim.config.sample import checked_sample
from accelsim.config.spec import Name, Spec
from accelsim.errors import SampleError, did_you_mean
from accelsim.sweeps.axis import Axis, Scalar, Values
from accelsim.sweeps.constraints import Constraint

SUBJECTS = ("machine", "workload", "kernel")
"""Axes that choose a whole file or kernel instead of one field."""

_FIELD = re.compile(r"(machine|workload)(\.\w+)+")
_KEY = re.compile(rf"{_FIELD.pattern}|[A-Za-z_]\w*")
_OF_ONE_KERNEL = 'a parameter is written with its kernel, such as kernels: ["flash(tile_q=128)"]'


def _checked_key(key: str) -> str:
    if _KEY.fullmatch(key):
        return key
    hint = did_you_mean(key.partition(".")[0], SUBJECTS)
    raise ValueError(
        f"found the key '{key}'{hint or ','} allowed: machine, workload, kernel, machine.<field>, "
        f"workload.<field> or the name of a kernel parameter; {_OF_ONE_KERNEL}"
    )


def _checked_setting(key: str) -> str:
    root = key.partition(".")[0]
    if root in SUBJECTS and key == root:
        raise ValueError(f"found '{key}', which has a key of its own at the top level")
    if _FIELD.fullmatch(key):
        return key
    hint = did_you_mean(root, SUBJECTS)
    raise ValueError(
        f"found the key '{key}'{hint or ','} allowed: machine.<field> or workload.<field>; "
        f"{_OF_ONE_KERNEL}"
    )


def _checked_sample(value: str | float) -> str | float:
    try:
        return checked_sample(value)
    except SampleError as error:
        raise ValueError(str(error).removeprefix("sample: ")) from None


def _checked_constraint(text: str) -> str:
    Constraint(text)
    return text


Key = Annotated[str, AfterValidator(_checked_key)]
SettingKey = Annotated[str, AfterValidator(_checked_setting)]
ZipGroup = dict[Key, Values]


class SweepSpec(Spec):
    """A design space: the grid over all axes and zipped groups, less what constraints exclude."""

    name: Name
    """Name of the sweep, shown while it runs."""
    description: str = ""
    """The question the sweep answers."""
    machine: str | None = None
    """Name or file of the machine; absent where an axis `machine` lists several."""
    workloads: tuple[str, ...] = ()
    """Names or files of the workloads; absent where there is an axis `workload`."""
    kernels: tuple[str, ...] = ()
    """Recipes: kernels, with parameters where they are given, such as `flash(tile_q=128)`. Absent
    where there is an axis `kernel`, or where the library of the machine is to pick."""
    sample: Annotated[str | float, AfterValidator(_checked_sample)] = "never"
    """How much of a program is scheduled, as for `simulate`: never a sample, auto, or a share of
    the ops."""
    axes: dict[Key, Axis] = Field(default_factory=dict)
    """Key -> values, either a list or {from, to, points}. A key is machine.<field>,
    workload.<field>, a kernel parameter, or machine, workload or kernel itself."""
    zip: tuple[ZipGroup, ...] = ()
    """Groups of axes that advance together: key -> list, all lists of a group equally long."""
    settings: dict[SettingKey, Scalar] = Field(default_factory=dict)
    """machine.<field> or workload.<field> -> value, the same at all points."""
    constraints: tuple[Annotated[str, AfterValidator(_checked_constraint)], ...] = ()
    """Conditions that points must meet, such as `tile_q <= 8 * machine.cube.tile_m`."""

    @field_validator("zip")
    @classmethod
    def _zipped_lists_are_equally_long(
        cls, groups: tuple[ZipGroup, ...], info: ValidationInfo
    ) -> tuple[ZipGroup, ...]:
        for group in groups:
            lengths = {key: len(values) for key, values in group.items()}
            if len(set(lengths.values())) != 1:
                found = ", ".join(f"'{key}' with {count}" for key, count in lengths.items())
                raise ValueError(
                    f"found {found or 'an empty group'}, allowed: lists of one length in a group"
                )
        _refuse_repeats([*info.data.get("axes", {}), *(key for group in groups for key in group)])
        return groups

    @field_validator("settings")
    @classmethod
    def _settings_are_not_swept(
        cls, settings: dict[str, Scalar], info: ValidationInfo
    ) -> dict[str, Scalar]:
        groups = info.data.get("zip", ())
        swept = {*info.data.get("axes", {}), *(key for group in groups for key in group)}
        _refuse_repeats([*swept, *settings])
        return settings

    @model_validator(mode="after")
    def _every_subject_is_given_once(self) -> "SweepSpec":
        swept = {*self.axes, *(key for group in self.zip for key in group)}
        listed = {"machine": self.machine, "workload": self.workloads, "kernel": self.kernels}
        names = {"machine": "machine", "workload": "workloads", "kernel": "kernels"}
        for subject, values in listed.items():
            is_optional = subject == "kernel" and not values
            if bool(values) == (subject in swept) and not is_optional:
                key, axis = f"the key '{names[subject]}'", f"an axis '{subject}'"
                found = f"both {key} and {axis}" if values else f"neither {key} nor {axis}"
                raise ValueError(f"found {found}, allowed: exactly one of them")
        return self


def _refuse_repeats(keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"found '{key}' twice, allowed: once among axes, zip and settings")
        seen.add(key)
