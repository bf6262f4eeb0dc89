"""What the points of a sweep ask: a problem of a machine, or a whole model of a system."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from accelsim.errors import AccelsimError, ConfigError
from accelsim.sweeps.axis import axis_values
from accelsim.sweeps.contents import ReadContents, read_contents
from accelsim.sweeps.generations import asks_for_a_generation, generation_point, read_generation
from accelsim.sweeps.outcome import RunPoint, simulate_point
from accelsim.sweeps.spec import SweepSpec


@dataclass(frozen=True, slots=True)
class Question:
    """How the files of a sweep are read, and how a point of it is run."""

    read: ReadContents
    run_point: RunPoint


SIMULATION = Question(read_contents, simulate_point)
GENERATION = Question(read_generation, generation_point)


def question_of(spec: SweepSpec, file: Path | None) -> Question:
    """Return what the workloads of a sweep ask; file: of the sweep, None if it has none.

    Raises ConfigError where they ask for both; what is wrong with a workload is told later.
    """
    folder = file.parent if file else Path()
    generations = {_is_generation(each, folder) for each in _workloads(spec)}
    if len(generations) > 1:
        text = "workloads: found generations and other workloads, allowed: a sweep of either"
        raise ConfigError([f"{file}: {text}" if file else text])
    if True not in generations:
        return SIMULATION
    if spec.sample != "never":
        text = f"sample: found {spec.sample} with generations, allowed: never"
        raise ConfigError([f"{file}: {text}" if file else text])
    return GENERATION


def _workloads(spec: SweepSpec) -> Iterable[str]:
    axis = spec.axes.get("workload")
    swept = [each for group in spec.zip for each in group.get("workload", ())]
    return map(str, (*spec.workloads, *(axis_values(axis) if axis else ()), *swept))


def _is_generation(workload: str, folder: Path) -> bool:
    beside = folder / workload
    try:
        return asks_for_a_generation(beside if beside.is_file() else workload)
    except AccelsimError:
        return False
