"""Steps of whole models on the H200, on rows that a run of the tests can afford."""

import pytest

from accelsim.errors import AccelsimError
from accelsim.loading import load_machine
from accelsim.models.step import Sequences, Step
from accelsim.validation.h200_steps import REFERENCE, StepRow, in_bf16, predict, step_of
from accelsim.validation.table import read_rows

DECODE_ERROR_PERCENT = 6
"""What a step of decoding may be off in the mean; two boards differ by 2.5 %."""


def rows():
    return in_bf16(read_rows(REFERENCE.shipped_file, StepRow))


def test_decode_steps_of_short_contexts_are_near():
    chosen = [row for row in rows() if row.phase == "decode" and row.context <= 256]
    chosen = [row for row in chosen if row.model == "llama3_8b" and row.batch <= 2]
    machine = load_machine("h200-sxm")
    errors = [100 * abs(predict(row, machine) / REFERENCE.value_of(row) - 1) for row in chosen]
    assert len(chosen) >= 3
    assert sum(errors) / len(errors) < DECODE_ERROR_PERCENT


def test_steps_are_the_sequences_that_were_measured():
    found = {row.phase: row for row in rows() if row.model == "llama3_8b"}
    prefill, decode, mixed = (found[phase] for phase in ("prefill", "decode", "mixed"))
    assert step_of(prefill) == Step((Sequences(prefill.prompt_tokens, count=prefill.batch),))
    assert step_of(decode) == Step((Sequences(1, decode.context - 1, decode.batch),))
    assert step_of(mixed).sequences[1] == Sequences(mixed.chunk_tokens, mixed.chunk_prior)
    assert step_of(mixed).tokens == mixed.batch + mixed.chunk_tokens


def test_rows_with_other_weights_are_left_out():
    every = read_rows(REFERENCE.shipped_file, StepRow)
    assert len(every) == 136
    assert {row.weights for row in every} == {"bf16", "fp8"}
    assert {row.weights for row in rows()} == {"bf16"}


def test_a_model_that_nobody_knows_is_refused():
    row = rows()[0].model_copy(update={"model": "llama9_8b"})
    with pytest.raises(AccelsimError, match="unknown model 'llama9_8b'"):
        predict(row, load_machine("h200-sxm"))
