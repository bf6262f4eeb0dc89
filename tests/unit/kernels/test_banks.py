"""Where the rows of a matrix lie in a banked HBM, against the engine's own places."""

import numpy as np
import pytest

from accelsim.engine.memory.hbm import places
from accelsim.engine.memory.hbm.places import new_places
from accelsim.kernels.estimate.banks import crowding_in_view, places_of, view_bytes
from accelsim.loading import load_machine
from accelsim.runtime.jit import jit

HBM = load_machine("ascend-910b-banked").hbm


@jit
def located(mapping, run):
    return places.located(mapping, run)


def loads_by_hand(rows, pitch, width):
    """Return the bytes of each pseudo-channel, in runs that lie in one row of a bank."""
    shape = HBM.dram.shape
    mapping = new_places(HBM.digits, shape, HBM.hashed)
    run = shape.burst << mapping.run_bits
    found = np.zeros(HBM.channels * shape.pseudo_channels)
    for row in range(rows):
        for byte in range(row * pitch, row * pitch + width, run):
            bank, _ = located(mapping, byte // run)
            found[bank // (shape.banks * shape.bank_groups * shape.ranks)] += run
    return found


@pytest.mark.parametrize(
    ("pitch", "width"), [(8192, 2048), (8192, 6144), (4096, 4096), (5120, 3072), (3072, 1024)]
)
@pytest.mark.parametrize("rows", [16, 64])
def test_loads_lie_where_the_engine_has_them(pitch, width, rows):
    found = places_of(HBM, pitch)
    own = found.loads[rows // 16, width // found.column_bytes]
    np.testing.assert_array_equal(own, loads_by_hand(rows, pitch, width))


def test_all_bytes_of_rows_are_somewhere():
    """Rows of 6,000 bytes begin in the middle of a column."""
    found = places_of(HBM, 6000)
    assert found.loads[-1, -1].sum() == pytest.approx(512 * 6000)


def crowding(pitch, rows):
    widths = view_bytes(HBM) / np.array(rows)
    return crowding_in_view(HBM, places_of(HBM, pitch), np.array(rows), widths, is_swept=True)


def test_rows_a_power_of_two_apart_keep_a_controller_with_one_pseudo_channel():
    """It sees 128 bursts: of 32 rows a piece of 2 KiB for both of its pseudo-channels, of 512 rows
    parts of 16 pieces that lie in one."""
    few, many = crowding(8192, [32, 512])
    assert few == pytest.approx(1)
    assert 1.8 < many <= 2


def test_rows_of_another_length_lie_on_both_pseudo_channels():
    assert np.all(crowding(5120, [32, 128, 512]) < 1.2)


def test_a_channel_without_pseudo_channels_has_always_something_to_do():
    hbm = load_machine("ascend-910b-banked", {"hbm.standard": "hbm2-legacy"}).hbm
    rows = np.array([32, 512])
    widths = view_bytes(hbm) / rows
    found = crowding_in_view(hbm, places_of(hbm, 8192), rows, widths, is_swept=True)
    assert found == pytest.approx([1, 1])
