"""Problems whose K and V are codes: what a file may say of them."""

import pytest
from pydantic import ValidationError

from accelsim.workload.attention import AttentionProblem


def problem(**keys):
    own = {"kind": "attention", "name": "p", "q_heads": 4, "kv_heads": 2, "head_dim": 16}
    return AttentionProblem.model_validate(own | {"q_len": 1, "kv_len": 9, "dtype": "bf16"} | keys)


def test_a_file_says_it_as_it_is_written():
    own = problem(kv_codes="int4(scales=power_of_two, residual=32)")
    assert own.to_document()["kv_codes"] == "int4(scales=power_of_two, residual=32)"
    assert AttentionProblem.model_validate(own.to_document()) == own
    assert not own.has_plain_kv


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"kv_codes": "int3"}, "found 'int3', did you mean 'int8'? allowed: fp32, bf16, fp16, "
         "fp8_e4m3, fp8_e5m2, int8, int4"),
        ({"kv_codes": "fp8_e4m3"}, "found 'fp8_e4m3', allowed: int8, int4; floating-point formats "
         "are kv_dtype"),
        ({"dtype": "fp8_e4m3"}, "found int4 with dtype = fp8_e4m3, allowed: dtype = fp32, bf16, "
         "fp16"),
        ({"kv_dtype": "fp8_e4m3"}, "found int4 with kv_dtype = fp8_e4m3, allowed: kv_dtype = None"),
        ({"steps": 2}, "found int4 with steps = 2, allowed: steps = 1"),
        ({"window": 4}, "found int4 with window = 4, allowed: window = None"),
        ({"values_in_keys": True}, "found int4 with values_in_keys = True, allowed: "
         "values_in_keys = False"),
    ],
)  # fmt: skip
def test_messages(keys, expected):
    with pytest.raises(ValidationError) as refusal:
        problem(**{"kv_codes": "int4"} | keys)
    (mistake,) = refusal.value.errors()
    assert mistake["msg"] == f"Value error, {expected}"
