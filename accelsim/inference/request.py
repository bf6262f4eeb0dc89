"""A model on a system: time to the first token and to each further one, joules, memory."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.config.document import plain_settings, settings_below
from accelsim.config.sample import Sample, checked_sample
from accelsim.errors import AccelsimError, ConfigError, WorkloadError
from accelsim.inference.cost import StepCost, StepModel, sustained, time_by_operation
from accelsim.inference.generation import Generation, StepChoice, generate
from accelsim.inference.memory import MemoryUse, check_fits, largest_batch, memory_use
from accelsim.library.recipe import LIBRARY, Recipe, asked_for
from accelsim.loading import load_devices
from accelsim.models.architecture import Architecture
from accelsim.models.expert_files import expert_load
from accelsim.models.expert_load import ExpertLoad
from accelsim.models.feed_forward import ExpertFeedForward
from accelsim.models.kv_format import with_kv_in
from accelsim.models.linear_format import with_linears_in
from accelsim.models.loading import load_architecture
from accelsim.models.parallel import ONE_DEVICE, Parallel, parse_parallel
from accelsim.models.step import Step
from accelsim.report.measured import UNSEEN_TRAFFIC
from accelsim.units import ceil_div

if TYPE_CHECKING:
    from rich.console import Group


_NOT_SHOWN = ("generation", "costs")


@dataclass(frozen=True, kw_only=True)
class PhaseReport:
    """The prefill, or the step in the middle of a generation."""

    time_s: float
    time_by_operation_s: Mapping[str, float]
    bound_by: str
    """What bounds the operation that takes most of the time."""
    mfu: float
    """MACs of the model over what the matrix units could do in the time (PaLM, appendix B)."""
    mbu: float
    """Bytes of weights, and of keys and values, over what the HBM could move in the time."""
    energy_j: float
    energy_by_component_j: Mapping[str, float]
    hbm_bytes: int
    """Of all devices, as the joules; times and shares are those of one."""
    recipes: Mapping[str, str]
    """Kernel of each operation as it ran."""

    def to_row(self, phase: str) -> dict[str, Any]:
        """Return columns whose names begin with the phase; parts of a sum are behind a point."""
        single = ("time_s", "bound_by", "mfu", "mbu", "energy_j", "hbm_bytes")
        row = {f"{phase}_{name}": getattr(self, name) for name in single}
        for name in ("time_by_operation_s", "energy_by_component_j"):
            row |= {f"{phase}_{name}.{part}": value for part, value in getattr(self, name).items()}
        return row


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A batch of equal requests from prompt to last token."""

    model: str
    system: str
    machine: str
    batch: int
    prompt: int
    output: int
    time_to_first_token_s: float
    time_per_token_s: float
    """Mean time of a step after the first token; 0 for one token."""
    time_s: float
    """From the begin of the prefill to the last token."""
    tokens_per_s: float
    """Output tokens of all requests over the time."""
    energy_j: float
    """Of all devices of the plan and their links; nothing is known of the host."""
    energy_per_token_j: float
    """Energy over output tokens, the prefill included."""
    interpolation_error: float
    """Largest error of an interpolated step that was measured; 0 where all are simulated."""
    sampling_error: float
    """Half of the 95 % interval of the time over the time, as if all that was sampled was off the
    same way; 0 where all ops were scheduled."""
    sampling_note: str
    """What a sample does not estimate; empty if nothing."""
    draw_spread: float
    """Largest share by which products of experts differ in time among the loads that stand for all
    layers; 0 without experts."""
    memory: MemoryUse
    largest_batch: int
    """Most sequences of this length that fit."""
    prefill: PhaseReport
    decode: PhaseReport
    asked: Mapping[str, str] = field(default_factory=dict)
    """What was asked for in the place of a default: kernels, formats, experts, a plan."""
    generation: Generation = field(repr=False, compare=False)
    costs: StepModel = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the steps as plain nested data for JSON."""
        named = {name: value for name, value in vars(self).items() if name not in _NOT_SHOWN}
        memory = {
            name: getattr(self.memory, name)
            for name in (*self.memory.__dataclass_fields__, "free_bytes")
        }
        plain = {name: dict(vars(named[name])) for name in ("prefill", "decode")}
        return {**named, "asked": dict(self.asked), "memory": memory, **plain}

    def to_row(self) -> dict[str, Any]:
        """Return one row of a table: figures of the requests, of their prefill and of a step.

        `machine` is the system, `device` its machine.
        """
        left_out = (*_NOT_SHOWN, "memory", "prefill", "decode", "machine", "asked")
        row = {name: value for name, value in vars(self).items() if name not in left_out}
        row |= {name: getattr(self.memory, name) for name in self.memory.__dataclass_fields__}
        names = {
            "machine": self.system,
            "device": self.machine,
            "workload": f"{self.model} {self.batch} x {self.prompt} + {self.output}",
            "kernel": " ".join(f"{kind}={recipe}" for kind, recipe in self.asked.items())
            or LIBRARY,
        }
        return names | row | self.prefill.to_row("prefill") | self.decode.to_row("step")

    def operation_rows(self) -> list[dict[str, Any]]:
        """Return one row an operation of the prefill and of the step in the middle."""
        phases = {"prefill": self.generation.prefill, "step": self.generation.middle}
        return [
            {**each.report.to_row(), "workload": phase, "kernel": each.name, "count": each.count}
            for phase, cost in phases.items()
            for each in cost.operations
        ]

    def __rich__(self) -> "Group":
        from accelsim.inference.display import inference_tables

        return inference_tables(self)


def infer(
    model: str | Path | Architecture,
    system: str | Path,
    *,
    batch: int = 1,
    prompt: int,
    output: int = 1,
    linear: Recipe | str | None = None,
    attention: Recipe | str | None = None,
    weights: str | None = None,
    kv: str | None = None,
    experts: ExpertLoad | str | Path | None = None,
    plan: Parallel | str | None = None,
    steps: StepChoice = "exact",
    sample: Sample | str = "never",
    settings: Mapping[str, Any] | None = None,
) -> Inference:
    """Return what a batch of equal requests costs on a system.

    model: a shipped name, a config.json or its folder; system: a shipped name or a file. linear and
    attention: kernels in the place of the library's. weights: format of the linear maps of layers
    in the place of the file's, with one scale for each. kv: format of the KV cache. experts:
    "uniform" (if absent), "zipf", "zipf(seed=3)", "balanced", "spread_16", a file of rows per
    expert (`expert_load`) or a value. plan: devices of the system over which the model is laid out,
    such as "tp=2"; one if absent.
    steps: "exact" simulates every step, "interpolated" some of them. sample: as for `simulate`,
    "auto" estimates very long programs from a sample of their items. The device runs step after
    step, so a power cap holds for the mean of a step. Keys of `settings` are `machine.<field>` of
    the machine of the system, or `machine.host.<field>`.

    Raises an AccelsimError for anything wrong with the input; DoesNotFitError says what is short.
    """
    for name, found in (("batch", batch), ("prompt", prompt), ("output", output)):
        if found < 1:
            raise WorkloadError(f"{name}: found {found}, allowed: 1 or more")
    architecture = model if isinstance(model, Architecture) else load_architecture(model)
    if weights is not None:
        architecture = with_linears_in(architecture, weights)
    if kv is not None:
        architecture = with_kv_in(architecture, kv)
    check_length(architecture, prompt + output)
    changed = machine_settings(settings or {})
    loaded = load_devices(system, changed, "--set machine.")
    spec, machine = loaded.spec, sustained(loaded.machine)
    load = _expert_load(architecture, experts)
    parallel = plan if isinstance(plan, Parallel) else parse_parallel(plan) if plan else ONE_DEVICE
    kernels = _recipe("linear", linear), _recipe("attention", attention)
    costs = StepModel(architecture, spec, machine, *kernels, load, parallel)
    costs.sample = checked_sample(sample)

    def steps_of(count: int) -> tuple[Step, Step]:
        return Step.prefill(count, prompt), Step.decode(count, prompt + output - 1)

    use_of = device_use(costs, steps_of, prompt + output)
    use, largest = use_of(batch), largest_batch(use_of)
    check_fits(use, largest, batch, spec.name)
    generation = generate(costs, batch, prompt, output, steps)
    time_s = generation.time_to_first_token_s + generation.decode_time_s
    energy_j = generation.prefill.energy_j + generation.decode_energy_j
    return Inference(
        model=architecture.name if isinstance(model, Architecture) else str(model),
        system=spec.name,
        machine=machine.name,
        batch=batch,
        prompt=prompt,
        output=output,
        time_to_first_token_s=generation.time_to_first_token_s,
        time_per_token_s=generation.time_per_token_s,
        time_s=time_s,
        tokens_per_s=batch * output / time_s,
        energy_j=energy_j,
        energy_per_token_j=energy_j / (batch * output),
        interpolation_error=generation.error,
        sampling_error=generation.off_s / time_s,
        sampling_note=UNSEEN_TRAFFIC if generation.has_unseen_traffic else "",
        memory=use,
        largest_batch=largest,
        draw_spread=max(generation.prefill.draw_spread, generation.middle.draw_spread),
        prefill=_phase(generation.prefill, costs),
        decode=_phase(generation.middle, costs),
        asked=_asked(costs, weights, kv, experts),
        generation=generation,
        costs=costs,
    )


def device_use(
    costs: StepModel, steps: Callable[[int], Sequence[Step]], tokens: int
) -> Callable[[int], MemoryUse]:
    """Return what so many sequences of `tokens` tokens take of the fullest device of a plan.

    steps: the steps of so many sequences that may need most.
    """
    data = costs.parallel.data
    # The same for any step. One of many sequences may not fit, which is to be told of that many.
    stages = costs.stages(Step.decode(data, tokens - 1))

    def use_of(sequences: int) -> MemoryUse:
        uses = (
            memory_use(
                share,
                costs.machine.hbm.capacity,
                weights_bytes,
                steps,
                ceil_div(sequences, data),
                tokens,
            )
            for share, weights_bytes in stages
        )
        return min(uses, key=lambda use: use.free_bytes)

    return use_of


def _recipe(option: str, text: Recipe | str | None) -> Recipe | None:
    try:
        return asked_for(text)
    except AccelsimError as error:
        raise error.at(option) from None


def _asked(
    costs: StepModel, weights: str | None, kv: str | None, experts: ExpertLoad | str | Path | None
) -> dict[str, str]:
    """Return the kernels, formats and loads of experts that were asked for."""
    chosen = {
        "linear": costs.linear,
        "attention": costs.attention,
        "weights": weights,
        "kv": kv,
        "experts": experts,
        "plan": costs.parallel if costs.parallel.devices > 1 else None,
    }
    return {kind: str(each) for kind, each in chosen.items() if each is not None}


def machine_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without `machine.`; raises ConfigError for others."""
    settings = plain_settings(settings, "--set ")
    for key in settings:
        if not key.startswith("machine."):
            raise ConfigError(
                [f"--set {key}: allowed: machine.<field> and machine.host.<field> of the system"]
            )
    return settings_below("machine", settings)


def check_length(architecture: Architecture, tokens: int) -> None:
    """Refuse requests of more tokens than the model knows; raises WorkloadError."""
    if architecture.max_tokens is not None and tokens > architecture.max_tokens:
        raise WorkloadError(
            f"prompt and output: found {tokens} tokens together, "
            f"allowed: {architecture.max_tokens}, the longest context of the model"
        )


def _expert_load(architecture: Architecture, asked: ExpertLoad | str | Path | None) -> ExpertLoad:
    """Return how tokens choose experts; refuses a choice that fits none of the layers."""
    has_some = False
    load = asked if isinstance(asked, ExpertLoad) else expert_load(asked or "uniform")
    for part in {layer.feed_forward for layer in architecture.layers}:
        if isinstance(part, ExpertFeedForward):
            has_some = True
            load.loads(1, part.experts, part.experts_per_token, 1)
    if asked is not None and not has_some:
        raise WorkloadError(
            f"experts: found {asked} for model {architecture.name}, which has none, "
            f"allowed: only for a model with experts"
        )
    return load


def _phase(cost: StepCost, costs: StepModel) -> PhaseReport:
    """Return what there is to say of a step."""
    architecture, weights_bytes = costs.share, costs.weight_bytes_read(cost.step)
    measured, longest = cost.measured, max(cost.operations, key=lambda each: each.time_s)
    peak_bytes_per_s = longest.report.peak_hbm_bytes_per_s
    fmt = architecture.cached_format
    own = costs.parallel.step_of(cost.step)
    cached_bytes = sum(
        each.count * architecture.kv_bytes(each.cached, fmt) for each in own.sequences
    )
    return PhaseReport(
        time_s=cost.time_s,
        time_by_operation_s=time_by_operation(cost),
        bound_by=longest.report.bound_by,
        mfu=cost.model_macs / measured.peak_macs_per_s / cost.time_s / costs.parallel.pipeline,
        mbu=(weights_bytes + cached_bytes)
        / peak_bytes_per_s
        / cost.time_s
        / costs.parallel.pipeline,
        energy_j=cost.energy_j,
        energy_by_component_j=cost.energy_by_component_j,
        hbm_bytes=cost.devices * (measured.hbm_read_bytes + measured.hbm_write_bytes),
        recipes={each.name: each.report.recipe for each in cost.operations},
    )
