"""The timeline of a layer of an inference: its operations one after the other."""

from accelsim.bench import Bench
from accelsim.errors import WorkloadError
from accelsim.inference.cost import StepModel
from accelsim.inference.report import Inference
from accelsim.models.operations.layer import layer_of
from accelsim.report.timeline import Timeline, in_a_row
from accelsim.workload.problem import Problem


def layer_timeline(found: Inference) -> Timeline:
    """Return when everything happens in the first layer of the step in the middle.

    Each operation is simulated alone, at the clock of the step, as its cost is. So the timeline is
    as long as the operations of the layer together. Raises an AccelsimError for what the machine
    cannot run.
    """
    costs, middle = found.costs, found.generation.middle
    clock = middle.measured.clock_hz
    layer = layer_of(costs.architecture, middle.step, plan=costs.plan)
    problems = [part.problem for part in layer.problems]
    about = {"model": found.model, "system": found.system, "layer": 0}
    return in_a_row([(each.name, _timeline(costs, each, clock)) for each in problems], about)


def _timeline(costs: StepModel, problem: Problem, clock: float) -> Timeline:
    bench = Bench(costs.machine, costs.kernels.recipe_for(problem))
    timeline = bench.report_at(costs.record(problem), clock, with_timeline=True).timeline
    if timeline is None:
        raise WorkloadError(f"{problem.name}: found no timeline")
    return timeline
