"""The Ascend files: one chip, with parts taken away or told in more detail."""

import pytest

from accelsim.loading import load_machine


def without(machine, *fields):
    return machine.model_dump(exclude={"name", "description", "sources", *fields})


def test_the_variant_without_an_l2_differs_in_nothing_else():
    chip, bare = load_machine("ascend-910b"), load_machine("ascend-910b-no-l2")
    assert bare.l2 is None
    assert without(chip, "l2") == without(bare, "l2")


def test_the_l2_serves_every_core_at_the_rate_of_its_load_queue():
    """l2_read_rate of the platform file: 110 bytes a cycle for each of 24 cores at 1.8 GHz."""
    chip = load_machine("ascend-910b")
    assert chip.l2.bandwidth == pytest.approx(chip.cores * chip.load.bandwidth * chip.clock)
