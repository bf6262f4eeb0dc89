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
from accelsim.inference.speculation import acceptance_of, draft_of, speculate
from accelsim.inference.system import System
from accelsim.library.kernels import Kernels
from accelsim.library.recipe import LIBRARY
from accelsim.models.expert_files import beside, file_of
from accelsim.models.loading import located
from accelsim.models.model import Model
from accelsim.models.parallel import parse_parallel
from accelsim.sweeps.contents import Contents, file_digest, read_contents
from accelsim.sweeps.resolve import Settings
from accelsim.workload.drafting import Drafting
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
    drafting = found.speculate and _beside(found.speculate, folder)
    return found.model_copy(update=there | {"speculate": drafting})


def _beside(drafting: Drafting, folder: Path) -> Drafting:
    """Return a draft whose files, if it has some in a folder, are named by their paths."""
    named = {"draft": drafting.draft, "acceptance": drafting.acceptance}
    texts = {name: folder / text for name, text in named.items() if isinstance(text, str)}
    found = {name: str(path) for name, path in texts.items() if path.exists()}
    return drafting.model_copy(update=found)


def _files(asked: GenerationSpec) -> list[Path]:
    """Return the files whose contents a row depends on."""
    counted = file_of(asked.experts) if asked.experts else None
    return [located(asked.model), *([counted] if counted else []), *_files_of_draft(asked)]


def _files_of_draft(asked: GenerationSpec) -> list[Path]:
    if asked.speculate is None:
        return []
    measured = asked.speculate.acceptance
    shares = [Path(measured)] if isinstance(measured, str) else []
    return [located(asked.speculate.draft), *shares]


def _read_generation(name: str, settings: Mapping[str, Any]) -> Contents:
    asked = _load(name, settings)
    _model(asked)
    if asked.speculate is not None:
        draft_of(asked.speculate)
        acceptance_of(asked.speculate)
    if asked.plan is not None:
        parse_parallel(asked.plan)
    contents: Contents = asked.model_dump(mode="json")
    parameters = _parameters(asked)
    if asked.speculate is not None:
        parameters["speculate"] = _parameters(asked.speculate)
    return contents | {
        "parameters": parameters,
        "file_digests": [file_digest(path) for path in _files(asked)],
    }


def _parameters(asked: GenerationSpec | Drafting) -> Contents:
    """Return the parameters of the kernels that are asked for."""
    recipes = {each: getattr(asked, each) for each in _RECIPES}
    return {each: read_contents("kernel", recipe, {}) for each, recipe in recipes.items() if recipe}


def _model(asked: GenerationSpec) -> Model:
    return Model(asked.model, asked.weights, asked.kv, asked.experts)


def generation_point(machine: str, workload: str, kernel: str, settings: Settings) -> Row:
    """Return the row of one inference; what it would warn of is in its columns."""
    of_machine = {key: settings[key] for key in settings if key.startswith("machine.")}
    asked = _load(workload, settings_below("workload", settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccelsimWarning)
        found = infer(
            _model(asked),
            System(machine, asked.plan, of_machine),
            Kernels.or_library(asked.attention, asked.linear),
            batch=asked.batch,
            prompt=asked.prompt,
            output=asked.output,
            steps=asked.steps,
        )
        drafted = speculate(found, asked.speculate).to_row() if asked.speculate else {}
    row = found.to_row() | drafted
    del row["workload"]
    return row
