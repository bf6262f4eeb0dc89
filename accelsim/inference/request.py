"""A model on a system: time to the first token and to each further one, joules, memory."""

from pathlib import Path

from accelsim.config.sample import Sample, checked_sample
from accelsim.inference.cost import StepModel
from accelsim.inference.generation import StepChoice, generate
from accelsim.inference.memory import check_fits, device_use, largest_batch
from accelsim.inference.report import Inference, phase_report
from accelsim.inference.requests import Requests, check_length
from accelsim.inference.system import System
from accelsim.library.kernels import NONE_ASKED, Kernels
from accelsim.models.architecture import Architecture
from accelsim.models.model import Model
from accelsim.models.plan import Plan
from accelsim.report.measured import UNSEEN_TRAFFIC


def infer(
    model: Model | Architecture | str | Path,
    system: System | str | Path,
    kernels: Kernels = NONE_ASKED,
    *,
    batch: int = 1,
    prompt: int,
    output: int = 1,
    steps: StepChoice = "exact",
    sample: Sample | str = "never",
) -> Inference:
    """Return what a batch of equal requests costs on a system.

    model: a shipped name, a config.json or its folder, or a `Model` with formats and experts.
    system: a shipped name or a file, or a `System` with a plan and settings. kernels: in the place
    of the library's. batch, prompt and output: requests at a time, tokens of each prompt, tokens
    that each asks for. steps: "exact" simulates every step, "interpolated" some of them. sample: as
    for `simulate`, "auto" estimates very long programs from a sample of their items. The device
    runs step after step, so a power cap holds for the mean of a step.

    Raises an AccelsimError for anything wrong with the input; DoesNotFitError says what is short.
    """
    requests = Requests(batch=batch, prompt=prompt, output=output)
    model = model if isinstance(model, Model) else Model(model)
    system = system if isinstance(system, System) else System(system)
    check_length(model.architecture, requests.tokens)
    devices, plan = system.devices, Plan(model.expert_load, parallel=system.parallel)
    costs = StepModel(model.architecture, devices, kernels, plan, checked_sample(sample))
    use_of = device_use(costs, requests.largest_steps, requests.tokens)
    use, largest = use_of(batch), largest_batch(use_of)
    check_fits(use, largest, batch, devices.spec.name)
    generation = generate(costs, requests, steps)
    time_s = generation.time_to_first_token_s + generation.decode_time_s
    energy_j = generation.prefill.energy_j + generation.decode_energy_j
    return Inference(
        model=model.name,
        system=devices.spec.name,
        machine=devices.machine.name,
        requests=requests,
        time_to_first_token_s=generation.time_to_first_token_s,
        time_per_token_s=generation.time_per_token_s,
        time_s=time_s,
        tokens_per_s=requests.output_tokens / time_s,
        energy_j=energy_j,
        energy_per_token_j=energy_j / requests.output_tokens,
        interpolation_error=generation.error,
        sampling_error=generation.off_s / time_s,
        sampling_note=UNSEEN_TRAFFIC if generation.has_unseen_traffic else "",
        memory=use,
        largest_batch=largest,
        draw_spread=max(generation.prefill.draw_spread, generation.middle.draw_spread),
        prefill=phase_report(generation.prefill, costs),
        decode=phase_report(generation.middle, costs),
        asked=_asked(model, kernels, plan),
        generation=generation,
        costs=costs,
    )


def _asked(model: Model, kernels: Kernels, plan: Plan) -> dict[str, str]:
    """Return what was asked for in the place of a default."""
    chosen = {
        "linear": kernels.linear,
        "attention": kernels.attention,
        "weights": model.weights,
        "kv": model.kv,
        "experts": model.experts,
        "plan": plan.parallel if plan.parallel.devices > 1 else None,
    }
    return {kind: str(each) for kind, each in chosen.items() if each is not None}
