"""Caches in FP8 on the H200: what rows say, and steps that a run of the tests can afford."""

import pytest
from pydantic import ValidationError

from accelsim.kernels.attention.precision import formats_of
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.validation.h200_fp8kv import (
    REFERENCE,
    EnergyRow,
    Fp8KvRow,
    fastest_and_energy,
    kind_of,
    label_of,
    predict,
    problem_of,
)
from accelsim.validation.table import read_rows

ERROR_PERCENT = 12
MACHINE = load_machine("h200-sxm")
STEP = {"line": 2, "H": 32, "KVH": 8, "D": 128, "batch": 64, "context": 1024, "time_us": 70.0}


def rows():
    return read_rows(REFERENCE.shipped_file, Fp8KvRow)


def compared(kind, *, keys):
    """Rows of a kind over `keys` keys, batch included."""
    chosen = [row for row in fastest_and_energy(rows()) if kind_of(row) == kind]
    return [row for row in chosen if row.batch * row.context == keys]


@pytest.mark.parametrize("kind", ["bf16", "fp8, products in bf16", "fp8, products in fp16"])
def test_steps_over_as_many_keys_are_near(kind):
    chosen = compared(kind, keys=1 << 16)
    assert len(chosen) >= 6
    errors = [100 * abs(predict(row, MACHINE) / REFERENCE.value_of(row) - 1) for row in chosen]
    assert sum(errors) / len(errors) < ERROR_PERCENT


def test_conversion_and_not_the_memory_bounds_a_cache_in_fp8():
    """Half of the bytes are hardly faster with products in BF16, and a third with FP16."""
    times = {
        name: predict(Fp8KvRow(**STEP | own), MACHINE)
        for name, own in {
            "bf16": {"kv": "bf16"},
            "as bf16": {"kv": "fp8_e4m3"},
            "as fp16": {"kv": "fp8_e4m3", "compute": "fp16"},
        }.items()
    }
    assert 0.9 < times["as bf16"] / times["bf16"] < 1.2
    assert 0.7 < times["as fp16"] / times["bf16"] < 0.9


def test_the_vector_unit_widens_caches_in_fp8_alone():
    for own, widens in (({"kv": "bf16"}, False), ({"kv": "fp8_e4m3"}, True)):
        problem = problem_of(Fp8KvRow(**STEP | own))
        assert formats_of(problem, MACHINE, None).widens_kv == widens
    scaled = problem_of(Fp8KvRow(**STEP | {"kv": "fp8_e4m3", "compute": "fp16"}))
    assert (scaled.dtype, scaled.kv_format) == (Format.FP16, Format.FP8_E4M3)
    assert scaled.kv_scales == "peak"


def test_the_fastest_tiles_of_a_shape_and_board_are_compared():
    every = rows()
    chosen = [row for row in fastest_and_energy(every) if not isinstance(row, EnergyRow)]
    assert (len(every), len(chosen)) == (192, 160)
    assert len({row.shape for row in every}) == len(chosen)
    for row in chosen:
        assert row.time_us == min(other.time_us for other in every if other.shape == row.shape)


def test_energy_is_a_kind_of_its_own():
    energy = [row for row in fastest_and_energy(rows()) if isinstance(row, EnergyRow)]
    assert {kind_of(row) for row in energy} == {"energy"}
    assert all(REFERENCE.value_of(row) == row.microjoule * 1e-6 for row in energy)
    row = energy[0]
    assert 0.8 < predict(row, MACHINE) / REFERENCE.value_of(row) < 1.2


def test_labels_name_what_was_computed():
    row = Fp8KvRow(**STEP | {"kv": "fp8_e4m3", "compute": "fp16"})
    assert label_of(row) == "fp8_e4m3 as fp16, 64 x 1024 keys"
    other = Fp8KvRow(**STEP | {"kv": "bf16", "KVH": 4})
    assert label_of(other) == "bf16 as bf16, 64 x 1024 keys H32 KVH4 D128"


def test_a_cache_in_another_format_is_refused():
    with pytest.raises(ValidationError, match="Input should be 'bf16' or 'fp8_e4m3'"):
        Fp8KvRow(**STEP | {"kv": "int8"})
