"""Published times of the Ascend 910B class: what they can be, and what the model says."""

import pytest

from accelsim.errors import ConfigError
from accelsim.loading import load_machine
from accelsim.numerics.formats import Format
from accelsim.validation.ascend_910b import REFERENCE, PublishedRow, predict
from accelsim.validation.table import read_rows

ROWS = read_rows(REFERENCE.shipped_file, PublishedRow)
MACHINE = load_machine("ascend-910b")


def macs(row):
    if row.kind == "gemm":
        return row.M * row.N * row.K
    return 2 * row.H * row.Sq * row.Sk * row.D


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.kind != "decode layers"], ids=REFERENCE.label_of
)
def test_no_published_kernel_is_faster_than_the_peak_of_the_machine(row):
    """The cores and their cube are those of the machine file, or a row would beat it."""
    cube = MACHINE.cube_for("a product")
    macs_per_cycle = cube.macs_per_step * cube.rates[Format.FP16]
    peak_macs_per_s = MACHINE.cores * macs_per_cycle * MACHINE.clock
    assert REFERENCE.value_of(row) > macs(row) / peak_macs_per_s


def test_layers_alone_take_less_than_a_step_of_an_engine():
    """Host, norms, activations, head and sampling are missing."""
    for row in ROWS:
        if row.kind == "decode layers":
            assert predict(row, MACHINE) < REFERENCE.value_of(row)


def test_every_row_says_what_is_not_known():
    assert all(row.unknown and row.of for row in ROWS)


def test_a_row_without_its_shape_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("kind,of,M,N,time_us,unknown\ngemm,somebody,64,64,4,all\n")
    with pytest.raises(
        ConfigError, match=r"rows\.csv:2: found no K, which a row of kind gemm needs"
    ):
        read_rows(path, PublishedRow)
