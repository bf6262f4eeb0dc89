"""Steps of whole models on the H200, on rows that a run of the tests can afford."""

import pytest

from accelsim.errors import AccelsimError
from accelsim.loading import load_machine
from accelsim.models.step import Sequences, Step
from accelsim.validation.h200_steps import (
    REFERENCE,
    EnergyRow,
    StepRow,
    kind_of,
    label_of,
    model_of,
    predict,
    step_of,
    with_energy,
)
from accelsim.validation.outcome import Comparison, Outcome
from accelsim.validation.table import read_rows

DECODE_ERROR_PERCENT = 6
"""What a step of decoding may be off in the mean; two boards differ by 2.5 %."""
FP8_ERROR_PERCENT = 8
ENERGY_ERROR_PERCENT = 12
MACHINE = load_machine("h200-sxm")


def rows(weights="bf16"):
    found = read_rows(REFERENCE.shipped_file, StepRow)
    return [row for row in found if row.weights == weights]


def mean_error_percent(chosen):
    assert len(chosen) >= 3
    errors = [100 * abs(predict(row, MACHINE) / REFERENCE.value_of(row) - 1) for row in chosen]
    return sum(errors) / len(errors)


def test_decode_steps_of_short_contexts_are_near():
    chosen = [row for row in rows() if row.phase == "decode" and row.context <= 256]
    chosen = [row for row in chosen if row.model == "llama3_8b" and row.batch <= 2]
    assert mean_error_percent(chosen) < DECODE_ERROR_PERCENT


def test_decode_steps_with_weights_in_fp8_are_near():
    chosen = [row for row in rows("fp8") if row.phase == "decode" and row.batch == 1]
    assert mean_error_percent(chosen) < FP8_ERROR_PERCENT


def test_joules_of_decode_steps_are_near():
    chosen = [row for row in with_energy(rows("fp8")) if isinstance(row, EnergyRow)]
    chosen = [row for row in chosen if row.phase == "decode" and row.batch <= 8]
    assert mean_error_percent(chosen) < ENERGY_ERROR_PERCENT


def test_a_prefill_runs_at_one_clock_near_the_measured_one():
    """The board ran 128 tokens at 1,706 MHz and 1,024 at 1,496; this one is in between."""
    row = next(row for row in rows() if row.phase == "prefill" and row.prompt_tokens == 128)
    cost = model_of(row, MACHINE).cost(step_of(row))
    clocks = {round(each.report.clock_hz) for each in cost.operations}
    assert len(clocks) == 1
    assert 1.35e9 < clocks.pop() < 1.75e9
    power_w = cost.measured.energy_j / cost.measured.time_s
    assert power_w == pytest.approx(MACHINE.power.cap, rel=0.03)


def test_steps_are_the_sequences_that_were_measured():
    found = {row.phase: row for row in rows() if row.model == "llama3_8b"}
    prefill, decode, mixed = (found[phase] for phase in ("prefill", "decode", "mixed"))
    assert step_of(prefill) == Step((Sequences(prefill.prompt_tokens, count=prefill.batch),))
    assert step_of(decode) == Step((Sequences(1, decode.context - 1, decode.batch),))
    assert step_of(mixed).sequences[1] == Sequences(mixed.chunk_tokens, mixed.chunk_prior)
    assert step_of(mixed).tokens == mixed.batch + mixed.chunk_tokens


def test_kinds_are_phases_by_weights_and_energy():
    every = read_rows(REFERENCE.shipped_file, StepRow)
    compared = with_energy(every)
    metered = [row for row in every if row.joule_per_step is not None]
    assert (len(every), len(metered)) == (136, 67)
    assert len(compared) == len(every) + len(metered)
    phases = ("prefill", "decode", "mixed")
    assert {kind_of(row) for row in compared} == {
        *phases,
        *(f"{phase} fp8" for phase in phases),
        "energy",
    }
    energy = next(row for row in compared if isinstance(row, EnergyRow))
    assert REFERENCE.value_of(energy) == energy.joule_per_step
    assert REFERENCE.value_of(every[0]) == pytest.approx(every[0].time_us * 1e-6)


def test_labels_tell_steps_apart():
    every = read_rows(REFERENCE.shipped_file, StepRow)
    keys = {
        tuple(value for name, value in row if name in StepRow.model_fields and name in KEYS)
        for row in every
    }
    assert len({label_of(row) for row in every}) == len(keys)


KEYS = [
    "model",
    "phase",
    "batch",
    "prompt_tokens",
    "context",
    "chunk_tokens",
    "chunk_prior",
    "weights",
]


def test_joules_and_seconds_are_shown_as_what_they_are():
    row = Comparison(line=2, kind="energy", label="a", predicted=4.0, reference=5.0)
    outcome = Outcome(
        reference="h200-steps",
        summary="",
        file="",
        machine=None,
        quantity=REFERENCE.quantity,
        quantities=REFERENCE.quantities,
        is_lower_bound=False,
        rows=(row, Comparison(line=2, kind="decode", label="a", predicted=1, reference=2)),
    )
    kinds = outcome.to_dict(1)["kinds"]
    assert (kinds["energy"]["quantity"], kinds["decode"]["quantity"]) == ("energy_j", "time_s")


def test_a_model_that_nobody_knows_is_refused():
    row = rows()[0].model_copy(update={"model": "llama9_8b"})
    with pytest.raises(AccelsimError, match="unknown model 'llama9_8b'"):
        predict(row, MACHINE)
