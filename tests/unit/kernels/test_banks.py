"""Where the rows of a matrix lie in a banked HBM, against the engine's own places."""

import numpy as np
import pytest

from accelsim.engine.memory.hbm import places
from accelsim.engine.memory.hbm.places import new_places
from accelsim.kernels.estimate.banks import places_of_rows
from accelsim.loading import load_machine
from accelsim.runtime.jit import jit

HBM = load_machine("ascend-910b-banked").hbm
PIECE = 2048


@jit
def located(mapping, run):
    return places.located(mapping, run)


def loads_by_hand(rows, pitch, width):
    """Return the bytes of each pseudo-channel, in pieces that begin with a piece of a channel."""
    shape = HBM.dram.shape
    mapping = new_places(HBM.digits, shape, HBM.hashed)
    run = shape.burst << mapping.run_bits
    found = np.zeros(HBM.channels * shape.pseudo_channels)
    for row in range(rows):
        for byte in range(0, width, run):
            bank, _ = located(mapping, (row * pitch + byte) // run)
            found[bank // (shape.banks * shape.bank_groups * shape.ranks)] += run
    return found


@pytest.mark.parametrize(("pitch", "width"), [(8192, 2048), (8192, 6144), (4096, 4096)])
def test_loads_lie_where_the_engine_has_them(pitch, width):
    rows = places_of_rows(HBM, 64, pitch)
    found = rows.loads[width // PIECE] * rows.piece_bytes
    np.testing.assert_array_equal(found, loads_by_hand(64, pitch, width))


def test_parts_of_rows_a_power_of_two_apart_leave_channels_idle():
    rows = places_of_rows(HBM, 4096, 8192)
    expected = loads_by_hand(1024, 8192, 2048)
    assert rows.reach == (expected > 0).mean() == 0.5
    assert rows.evenness(2048.0) == expected.mean() / expected.max() == 0.5
    assert rows.evenness(8192.0) == 1
    assert places_of_rows(HBM, 4096, 22016).evenness(2048.0) > 0.5


def test_evenness_of_a_part_of_a_piece_lies_between_those_of_whole_pieces():
    rows = places_of_rows(HBM, 1024, 12288)
    whole = rows.evenness(np.array([2048.0, 4096.0]))
    assert whole.min() <= rows.evenness(3072.0) <= whole.max()
