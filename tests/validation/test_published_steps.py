"""What was published of whole models: which rows there can be, and what the model says to some."""

import pytest

from accelsim.errors import ConfigError, DoesNotFitError
from accelsim.loading import load_system
from accelsim.validation.outcome import validate
from accelsim.validation.published_steps import (
    QUANTITIES,
    REFERENCE,
    PublishedStep,
    claims,
    kind_of,
    label_of,
    loop_of,
    predict,
)
from accelsim.validation.table import read_rows

ROWS = read_rows(REFERENCE.shipped_file, PublishedStep)
POWER_ERROR_PERCENT = 10
"""What joules may be off: two boards of one kind differ by as much (docs/h200.md)."""
GOOD = {
    "source": "ML.ENERGY",
    "engine": "vLLM",
    "system": "h100",
    "devices": "1",
    "model": "llama-3.1-8b",
    "weights": "bf16",
    "kv": "bf16",
    "batch": "16",
    "memory_share": "0.9",
    "step_tokens": "8192",
    "prompt": "300",
    "prompt_low": "",
    "prompt_high": "",
    "output": "400",
    "output_variation": "1",
    "tokens_per_s": "1954",
    "inter_token_ms": "",
    "unknown": "much",
}


def rows_of(tmp_path, **changes):
    path = tmp_path / "rows.csv"
    given = GOOD | changes
    path.write_text(f"{','.join(given)}\n{','.join(given.values())}\n")
    return path


def test_every_row_says_what_is_not_known_and_names_what_ships():
    assert len(ROWS) >= 40
    for row in ROWS:
        assert row.unknown
        assert load_system(row.system).devices == 1


def test_claims_are_the_published_values_and_rates_for_other_prompts():
    found = [each for each in claims(ROWS) if each.line == ROWS[0].line]
    assert [kind_of(each) for each in found] == [
        *(f"ML.ENERGY {what}" for what in QUANTITIES),
        *("ML.ENERGY output, short prompts", "ML.ENERGY output, long prompts"),
    ]
    first = ROWS[0]
    assert [each.prompt for each in found[-2:]] == [first.prompt_low, first.prompt_high]
    assert [REFERENCE.value_of(each) for each in found[:3]] == [
        first.tokens_per_s,
        pytest.approx(first.inter_token_ms / 1e3),
        first.power_w,
    ]
    named = REFERENCE.quantities | {kind: REFERENCE.quantity for kind in map(kind_of, found)}
    assert {kind_of(each) for each in claims(ROWS)} <= set(named)


def test_joules_of_ml_energy_are_watts_over_rates():
    """Of the published row itself: a joule a token is of the device, the prefill included."""
    for row in ROWS:
        if row.power_w:
            assert row.power_w / row.tokens_per_s == pytest.approx(row.joule_per_token, rel=0.01)


def test_four_requests_of_an_engine_take_longer_than_steps_of_its_device():
    """The host of the engine is slower than that of the system file, and the device waits."""
    row = next(row for row in ROWS if row.system == "ascend-910b" and row.batch == 4)
    rate, inter_token = claims([row])[:2]
    assert predict(rate) > rate.value
    assert predict(inter_token) < inter_token.value


def test_power_of_a_small_batch_on_the_h100_is_near():
    row = next(row for row in ROWS if row.power_w and row.batch == 16)
    power = next(each for each in claims([row]) if each.what == "power")
    assert 100 * abs(predict(power) / power.value - 1) < POWER_ERROR_PERCENT


def test_requests_in_flight_are_those_that_fit(tmp_path):
    """What 0.9 of the memory leave beside 16 GB of weights, at 2 bytes of 2 x 8 x 128 x 32."""
    (row,) = read_rows(rows_of(tmp_path, batch="9999", prompt="4000", output="1000"), PublishedStep)
    loop = loop_of(row)
    left = 0.9 * 81_559 * 2**20 - 16.06e9
    assert loop.requests.batch <= left / (5000 * 131_072)
    assert loop.requests.batch == pytest.approx(left / (5000 * 131_072), rel=0.05)
    assert "up to 9999 x 4000 + 1000" in label_of(claims([row])[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "vendor"}, "source: found 'vendor'; allowed: 'ML.ENERGY', 'TensorRT-LLM' or"),
        ({"devices": "4"}, "devices: found '4'; allowed: '1'"),
        ({"weights": "mxfp4"}, "weights: found 'mxfp4'; allowed: 'bf16' or 'fp8_e4m3'"),
        ({"kv": "int8"}, "kv: found 'int8'; allowed: 'bf16' or 'fp8_e4m3'"),
        ({"batch": "0"}, "batch: found '0', expected a value greater than 0"),
        (
            {"memory_share": "1.5"},
            "memory_share: found '1.5', expected a value less than or equal to 1",
        ),
        (
            {"output_variation": "-1"},
            "output_variation: found '-1', expected a value greater than or equal to 0",
        ),
        ({"tokens_per_s": ""}, "tokens_per_s: found no value"),
        ({"unknown": ""}, "unknown: found no value"),
        (
            {"prompt_low": "100"},
            "found one of prompt_low and prompt_high, allowed: both or none",
        ),
    ],
)
def test_rows_that_cannot_be_are_refused(tmp_path, changes, message):
    path = rows_of(tmp_path, **changes)
    with pytest.raises(ConfigError) as refusal:
        read_rows(path, PublishedStep)
    assert str(refusal.value).startswith(f"{path}:2: {message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "h10"}, "unknown system 'h10', did you mean 'h100'?"),
        ({"model": "llama-9"}, "unknown model 'llama-9'"),
        ({"model": "llama-3.1-70b"}, "system h100: needs "),
        ({"prompt": "140000"}, "prompt and output: found 140400 tokens together"),
    ],
)
def test_rows_that_the_model_cannot_do_are_told_with_their_line(tmp_path, changes, message):
    path = rows_of(tmp_path, **changes)
    with pytest.raises(ConfigError) as refusal:
        validate(REFERENCE, path)
    (first,) = str(refusal.value).splitlines()
    assert first.startswith(f"{path}:2: ")
    assert message in first


def test_what_does_not_fit_is_an_error_of_its_own(tmp_path):
    (row,) = read_rows(rows_of(tmp_path, model="llama-3.1-70b"), PublishedStep)
    with pytest.raises(DoesNotFitError, match="not even one sequence fits"):
        loop_of(row)


def test_each_row_describes_its_own_hardware():
    with pytest.raises(ConfigError, match="each row of the reference published-steps describes"):
        validate(REFERENCE, machine="h100-sxm")
