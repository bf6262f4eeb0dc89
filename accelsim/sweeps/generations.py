"""Sweeps over whole models: machines are systems, workloads are generations.

A system is a machine with its host, so `machine.<field>` is a field of its machine and
`machine.host.<field>` one of its host.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelsim.config.document import settings_below
from accelsim.config.loader import load_spec
from accelsim.config.shipped import locate
from accelsim.errors import AccelsimWarning, ConfigError
from accelsim.inference.request import infer
from accelsim.library.recipe import LIBRARY
from accelsim.models.expert_files import beside, expert_load, file_of
from accelsim.models.kv_format import with_kv_in
from accelsim.models.linear_format import with_linears_in
from accelsim.models.loading import load_architecture, located
from accelsim.models.parallel import parse_parallel
from accelsim.sweeps.contents import Contents, file_digest, read_contents
from accelsim.sweeps.resolve import Settings
from accelsim.workload.generation import GENERATION, GenerationSpec

Row = dict[str, Any]
_RECIPES = ("linear", "attention")
_NO_KERNEL = (
    "kernel: found '{}' with a generation, allowed: none; its kernels are workload.linear and "
    "workload.attention"
)


def asks_for_a_generation(workload: str | Path) -> bool:
    """Return whether a workload is a whole model at work; raises what reading it raises."""
    from accelsim.loading import workload_document

    value = workload_document(workload).value
    return isinstance(value, dict) and value.get("kind") == GENERATION


def read_generation(kind: str, name: str, settings: Mapping[str, Any]) -> Contents:
    """Return the contents of a system, of a generation, or of what they name.

    Raises an AccelsimError for an unknown name, an unknown key or a value that is not allowed.
    """
    if kind == "machine":
        return _read_system(name, settings)
    if kind == "workload":
        return _read_generation(name, settings)
    if kind == "kernel" and name != LIBRARY:
        raise ConfigError([_NO_KERNEL.format(name)])
    return read_contents(kind, name, settings)


def _read_system(name: str, settings: Mapping[str, Any]) -> Contents:
    from accelsim.loading import load_devices

    loaded = load_devices(name, settings, "machine.")
    system = loaded.spec.model_dump(mode="json")
    return {**loaded.machine.model_dump(mode="json"), **system, "machine": loaded.machine.name}


def _load(name: str, settings: Mapping[str, Any]) -> GenerationSpec:
    found = load_spec(GenerationSpec, name, kind="workload", overrides=settings, label="workload.")
    folder = locate(name, "workload").parent
    model, experts = folder / found.model, found.experts
    there = {"model": str(model)} if model.exists() else {}
    there |= {"experts": beside(experts, folder)} if experts else {}
    return found.model_copy(update=there)


def _files(asked: GenerationSpec) -> list[Path]:
    """Return the files whose contents a row depends on."""
    counted = file_of(asked.experts) if asked.experts else None
    return [located(asked.model), *([counted] if counted else [])]


def _read_generation(name: str, settings: Mapping[str, Any]) -> Contents:
    asked = _load(name, settings)
    architecture = load_architecture(asked.model)
    if asked.weights is not None:
        with_linears_in(architecture, asked.weights)
    if asked.kv is not None:
        with_kv_in(architecture, asked.kv)
    if asked.experts is not None:
        expert_load(asked.experts)
    if asked.plan is not None:
        parse_parallel(asked.plan)
    contents: Contents = asked.model_dump(mode="json")
    recipes = {each: getattr(asked, each) for each in _RECIPES}
    parameters = {
        each: read_contents("kernel", recipe, {}) for each, recipe in recipes.items() if recipe
    }
    return contents | {
        "parameters": parameters,
        "file_digests": [file_digest(path) for path in _files(asked)],
    }


def generation_point(machine: str, workload: str, kernel: str, settings: Settings) -> Row:
    """Return the row of one inference; what it would warn of is in its columns."""
    of_machine = {key: settings[key] for key in settings if key.startswith("machine.")}
    asked = _load(workload, settings_below("workload", settings))
    request = asked.model_dump(exclude={"kind", "name"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccelsimWarning)
        row = infer(system=machine, settings=of_machine, **request).to_row()
    del row["workload"]
    return row
