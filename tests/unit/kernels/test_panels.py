"""How often groups of channels are drained, by the size of a panel."""

import numpy as np
import pytest

from accelsim.engine.compiled import schedule
from accelsim.kernels.integer.chunks import even_groups, ordered, products_of
from accelsim.kernels.registry import get_kernel
from accelsim.loading import load_machine
from accelsim.workload.problem import GemmProblem


def test_groups_in_a_row_are_cut_where_a_panel_ends_within_one():
    group = even_groups(4, 64, 2)
    assert products_of(group, [64, 32, 16, 8, 24]) == ((64, 4), (32, 4), (16, 4), (8, 8), (24, 5))


def test_groups_that_are_everywhere_are_products_of_every_panel():
    assert products_of(np.arange(64)[None] % 4, [64, 32, 16]) == ((64, 4), (32, 8), (16, 16))


def test_chunks_with_other_groups_count_in_the_mean():
    assert products_of(np.array([[0, 0, 1, 1], [0, 1, 0, 1]]), [4, 2]) == ((4, 2), (2, 3))


def test_products_are_those_whose_channels_a_program_reads():
    group = np.random.default_rng(3).integers(0, 8, (3, 200))
    for size, products in products_of(group, [200, 100, 64, 16]):
        starts = ordered(group, 8, size).starts.reshape(-1, 9)
        assert products == np.count_nonzero(np.diff(starts)) / 3


@pytest.mark.parametrize("k", [1024, 2048])
def test_panels_are_taken_where_no_group_is_drained_more_often(k):
    """The loads of the next panel hide behind the products of this one."""
    machine, own = load_machine("tender-asic", {"cores": 8}), get_kernel("requantized")
    problem = GemmProblem(kind="gemm", name="linear", m=64, n=64, k=k)

    def cycles(**tiles):
        program, _ = own.record(problem, machine, own.parameters(**tiles), None)
        return schedule(program, machine).cycles

    tried = [cycles(tile_k=k // panels) for panels in (1, 2, 4, 8)]
    assert cycles() <= 1.02 * min(tried)
    assert cycles() <= 0.85 * tried[0]
