"""The spelling of a format of the cache, its bytes and its messages."""

import pytest

from accelsim.errors import WorkloadError
from accelsim.numerics.formats import Format
from accelsim.numerics.kv_format import ELEMENTS, KvFormat


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("bf16", KvFormat(Format.BF16), "bf16"),
        ("fp8_e4m3", KvFormat(Format.FP8_E4M3), "fp8_e4m3"),
        ("fp8_e4m3(scales=one)", KvFormat(Format.FP8_E4M3), "fp8_e4m3"),
        ("fp8_e4m3( scales = head )", KvFormat(Format.FP8_E4M3, "head"), "fp8_e4m3(scales=head)"),
        ("int4", KvFormat(Format.INT4, "group", 32, 128), "int4"),
        ("int8(residual=64)", KvFormat(Format.INT8, "group", 32, 64), "int8(residual=64)"),
        (
            "int4(scales=power_of_two, group=64)",
            KvFormat(Format.INT4, "power_of_two", 64, 128),
            "int4(scales=power_of_two, group=64)",
        ),
    ],
)
def test_a_text_is_a_format_and_back(text, expected, written):
    assert KvFormat.parse(text) == expected
    assert str(expected) == written
    assert KvFormat.of(expected) is expected


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_alone_is_a_format(element):
    assert str(KvFormat.parse(str(element))) == element


@pytest.mark.parametrize(
    ("text", "bits_per_element"),
    [
        ("fp16", 16),
        ("fp8_e5m2(scales=tensor)", 8),
        # KIVI: b + 32 / G bits.
        ("int8", 8 + 32 / 32),
        ("int4(group=64)", 4 + 32 / 64),
        # A base of 16 bits for a row of 128 elements, and 8 bits for each group.
        ("int4(scales=power_of_two)", 4 + 16 / 128 + 8 / 32),
    ],
)
def test_bits_of_a_row_are_elements_and_what_they_share(text, bits_per_element):
    fmt = KvFormat.parse(text)
    assert fmt.row_bits(8, 128) == 8 * 128 * bits_per_element
    assert fmt.token_bytes(8, 128) == 128 * bits_per_element


def test_keys_wait_for_a_whole_residual_and_values_leave_it_one_by_one():
    fmt = KvFormat.parse("int4(group=2, residual=4)")
    assert [fmt.plain_keys(n) for n in range(1, 10)] == [1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [fmt.plain_values(n) for n in range(1, 10)] == [1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert KvFormat.parse("fp8_e4m3").plain_keys(9) == KvFormat.parse("bf16").plain_values(9) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "int3",
            "kv: found 'int3', did you mean 'int8'? allowed: fp32, bf16, fp16, fp8_e4m3, "
            "fp8_e5m2, int8, int4",
        ),
        ("int4(", "kv: found 'int4(', allowed: a closing bracket at the end"),
        ("int4(32)", "kv: found '32' in 'int4(32)', allowed: option=value"),
        ("int4(group=2, group=4)", "kv: found 'group' twice in 'int4(group=2, group=4)', "
         "allowed: once"),
        ("int4(scales=heads)", "kv: int4: scales: found 'heads', allowed: group, power_of_two"),
        ("fp8_e4m3(scales=heads)", "kv: fp8_e4m3: scales: found 'heads', did you mean 'head'? "
         "allowed: one, tensor, head"),
        ("bf16(group=2)", "kv: bf16: found option 'group', it has none"),
        ("fp8_e4m3(group=2)", "kv: fp8_e4m3 with scales=one: found option 'group', "
         "allowed: scales"),
        ("int4(groups=2)", "kv: int4 with scales=group: found option 'groups', did you mean "
         "'group'? allowed: scales, group, residual"),
        ("int4(group=0)", "kv: int4: group: found '0', allowed: 1 to 1048576"),
        ("int4(residual=100)", "kv: int4: residual: found 100, allowed: a multiple of group = 32, "
         "since keys become codes a group of tokens at a time"),
    ],
)  # fmt: skip
def test_messages(text, expected):
    with pytest.raises(WorkloadError) as refusal:
        KvFormat.parse(text)
    assert str(refusal.value) == expected
