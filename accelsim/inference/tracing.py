"""The timeline of a layer of an inference: its operations as one program."""

from pathlib import Path

from accelsim.errors import WorkloadError
from accelsim.inference.request import Inference
from accelsim.loading import LoadedWorkload
from accelsim.models.operations.layer import layer_of
from accelsim.report.timeline import Timeline
from accelsim.simulation import simulate


def layer_timeline(found: Inference) -> Timeline:
    """Return when everything happens in the first layer of the step in the middle.

    Raises what the machine cannot run as one program.
    """
    costs = found.costs
    layer = layer_of(costs.architecture, found.generation.middle.step)
    parts = tuple(
        part.model_copy(update={"recipe": str(recipe) if recipe else None})
        for part in layer.problems
        for recipe in [costs.recipe_for(part.problem)]
    )
    workload = LoadedWorkload(layer.model_copy(update={"problems": parts}), Path())
    timeline = simulate(costs.machine, workload, timeline=True).timeline
    if timeline is None:
        raise WorkloadError(f"{layer.name}: found no timeline")
    return timeline
