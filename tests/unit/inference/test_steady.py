"""Continuous batching at its steady state, against closed forms, and against a loop of requests."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.errors import WorkloadError
from accelsim.inference.cost import StepModel
from accelsim.inference.requests import Requests
from accelsim.inference.steady import ClosedLoop, Cost, SteadyState, cost_of
from accelsim.loading import LoadedSystem, load_machine, load_system
from accelsim.models.families.registry import read_architecture
from accelsim.models.step import Sequences, Step

STEP_S, TOKEN_S, KEY_S, WATTS = 5e-3, 2e-5, 3e-9, 400.0


def linear(step):
    """So much a step, a token, and a key that a token reads."""
    keys = sum(
        each.count * each.new * (each.cached + (each.new + 1) / 2) for each in step.sequences
    )
    time_s = STEP_S + TOKEN_S * step.tokens + KEY_S * keys
    return Cost(time_s, WATTS * time_s)


def followed(loop):
    """Return tokens a second of requests that are followed one by one.

    A request is what is left of its prompt and its tokens so far. Those that run first take their
    token; prompts take what is left of the step in the order in which they came.
    """
    asked = loop.requests
    running = [[0, 1 + number * (asked.output - 1) // asked.batch] for number in range(asked.batch)]
    waiting, time_s, ended, begun = [], 0.0, 0, None
    while ended < 6 * asked.batch:
        step = [Sequences(1, asked.prompt + so_far - 1) for _, so_far in running]
        room = loop.step_tokens - len(running)
        for request in running:
            request[1] += 1
        for request in list(waiting):
            new = min(request[0], room)
            if not new:
                break
            step.append(Sequences(new, asked.prompt - request[0]))
            request[0], room = request[0] - new, room - new
            if not request[0]:
                waiting.remove(request)
                running.append([0, 1])
        time_s += linear(Step(tuple(step))).time_s
        over = sum(so_far >= asked.output for _, so_far in running)
        running = [request for request in running if request[1] < asked.output]
        waiting += [[asked.prompt, 0] for _ in range(over)]
        ended += over
        if begun is None and ended >= 2 * asked.batch:
            begun = (time_s, ended)
    return (ended - begun[1]) * asked.output / (time_s - begun[0])


@pytest.mark.parametrize(
    "loop",
    [
        ClosedLoop(Requests(batch=16, prompt=300, output=400), 8192),
        ClosedLoop(Requests(batch=200, prompt=300, output=400), 8192),
        ClosedLoop(Requests(batch=256, prompt=2000, output=100), 2048),
        ClosedLoop(Requests(batch=8, prompt=32000, output=100), 2048),
        ClosedLoop(Requests(batch=64, prompt=128, output=4), 2048),
        ClosedLoop(Requests(batch=1, prompt=50, output=20), 64),
        ClosedLoop(Requests(batch=100, prompt=500, output=60), 256),
    ],
)
def test_mean_values_are_those_of_requests_that_are_followed(loop):
    found = SteadyState(loop, linear).output_tokens_per_s
    assert found == pytest.approx(followed(loop), rel=0.03)


def test_a_linear_cost_has_a_closed_form():
    """8 of 64 + 33 tokens with room for all: 33 steps, in each 8 * 32 / 33 decodes."""
    loop = ClosedLoop(Requests(batch=8, prompt=64, output=33), 10_000)
    assert (loop.pieces, loop.steps) == (1, 33)
    assert loop.pieces_a_step == pytest.approx(8 / 33)
    found = SteadyState(loop, lambda step: Cost(STEP_S, 2.0))
    assert found.output_tokens_per_s == pytest.approx(8 / STEP_S)
    assert found.energy_per_token_j == pytest.approx(2.0 / 8)
    assert found.power_w == pytest.approx(2.0 / STEP_S)
    assert found.median_inter_token_s == STEP_S


def test_where_tokens_of_a_step_are_short_all_steps_are_full():
    loop = ClosedLoop(Requests(batch=64, prompt=2000, output=100), 1024)
    assert loop.steps == pytest.approx(64 * 2099 / 1024)
    new = loop.pieces_a_step * loop.requests.prompt / loop.pieces + loop.decoding
    assert new == pytest.approx(1024)
    found = SteadyState(loop, lambda step: Cost(step.tokens * TOKEN_S, 1.0))
    assert found.output_tokens_per_s == pytest.approx(100 / 2099 / TOKEN_S, rel=0.02)


def test_the_usual_step_of_few_ends_has_no_prompt():
    few, many = (
        ClosedLoop(Requests(batch=batch, prompt=100, output=100), 8192) for batch in (60, 250)
    )
    decodes = linear(few.step(0)).time_s
    assert SteadyState(few, linear).median_inter_token_s == decodes
    assert SteadyState(many, linear).median_inter_token_s == linear(many.step(2)).time_s


def test_long_answers_are_in_flight_for_longer():
    """Exponential lengths have a variation of 1: what is behind them is a whole mean length."""
    fixed = ClosedLoop(Requests(batch=8, prompt=100, output=400), 8192)
    varied = ClosedLoop(Requests(batch=8, prompt=100, output=400), 8192, 1.0)
    contexts = [
        sum(each.cached * each.count for each in loop.step(0).sequences) / 8
        for loop in (fixed, varied)
    ]
    assert contexts == pytest.approx([100 + 200, 100 + 400], abs=1)


def test_a_prompt_with_one_answer_token_is_nothing_but_prefills():
    loop = ClosedLoop(Requests(batch=8, prompt=64, output=1), 256)
    assert loop.decoding == 0
    found = SteadyState(loop, linear)
    assert found.output_tokens_per_s == pytest.approx(4 / linear(Step.prefill(4, 64)).time_s)


@given(st.integers(1, 300), st.integers(1, 5000), st.integers(1, 500), st.integers(1, 9000))
def test_tokens_of_steps_are_those_of_requests(batch, prompt, output, step_tokens):
    loop = ClosedLoop(Requests(batch=batch, prompt=prompt, output=output), step_tokens)
    work = loop.requests.batch * (prompt + output - 1)
    pieces = loop.pieces_a_step * prompt / loop.pieces
    assert (loop.decoding + pieces) * loop.steps == pytest.approx(work)
    assert loop.decoding + pieces <= step_tokens * (1 + 1e-9)
    assert loop.decoding <= batch
    assert loop.step(1).tokens == loop.rows + ceil(prompt / loop.pieces)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, "batch: found 0, allowed: 1 or more"),
        ({"output": 0}, "output: found 0, allowed: 1 or more"),
        ({"step_tokens": 0}, "step_tokens: found 0, allowed: 1 or more"),
        ({"output_variation": -1.0}, "output_variation: found -1, allowed: 0 or more"),
    ],
)
def test_loops_that_cannot_be_are_refused(wrong, message):
    sizes = {name: wrong[name] for name in ("batch", "output") if name in wrong}
    own = {"step_tokens": 1} | {name: wrong[name] for name in wrong if name not in sizes}
    with pytest.raises(WorkloadError) as refusal:
        ClosedLoop(Requests(**({"prompt": 1} | sizes)), **own)
    assert str(refusal.value) == message


def test_a_device_that_waits_for_its_host_stands_by():
    small = {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "vocab_size": 128,
    }
    machine = load_machine("edge-npu")
    model = StepModel(read_architecture(small, ""), LoadedSystem(load_system("h200"), machine))
    step = model.cost(Step.decode(2, 10))
    found = cost_of(step)
    assert found.time_s == step.time_s
    static_j = step.measured.energy_by_component_j["static"]
    added = static_j * step.host_s / step.measured.time_s
    assert found.energy_j == pytest.approx(step.measured.energy_j + added)
    assert added > 0
