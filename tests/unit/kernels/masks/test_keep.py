"""Which blocks fixed masks keep, what is always kept, and how good a choice is."""

import numpy as np
import pytest

from accelsim.errors import WorkloadError
from accelsim.kernels.attention.sparse.masks.grid import grid_of, local_blocks, visible_blocks
from accelsim.kernels.attention.sparse.masks.keep import (
    assumed_blocks,
    chosen_blocks,
    density,
    fixed_blocks,
    mass_kept,
)
from accelsim.kernels.attention.sparse.masks.parameters import SparseParameters
from accelsim.workload.problem import AttentionProblem
from accelsim.workload.tensors import AttentionTensors


def grid(q_len, kv_len, *, block=4, causal=True, heads=1):
    problem = AttentionProblem(
        kind="attention",
        name="g",
        q_heads=heads,
        kv_heads=heads,
        head_dim=2,
        q_len=q_len,
        kv_len=kv_len,
        causal=causal,
    )
    return grid_of(problem, block)


def drawn(blocks):
    """One line for each query block, # for a kept one."""
    return [
        "".join("#" if cell else "." for cell in row)
        for row in blocks.reshape(-1, blocks.shape[-1])
    ]


@pytest.mark.parametrize(
    ("mask", "settings", "expected"),
    [
        ("window", {"window": 1}, ["#....", "##...", ".##..", "..##.", "...##"]),
        ("window", {"window": 5}, ["#....", "##...", "###..", ".###.", "..###"]),
        ("sinks_window", {"window": 1, "sinks": 4}, ["#....", "##...", "###..", "#.##.", "#..##"]),
        ("sinks_window", {"window": 1, "sinks": 5}, ["#....", "##...", "###..", "####.", "##.##"]),
        ("dilated", {"window": 1, "dilation": 3}, ["#....", "##...", ".##..", "#.##.", ".#.##"]),
    ],
)
def test_fixed_masks_of_a_square_causal_grid(mask, settings, expected):
    assert drawn(fixed_blocks(grid(20, 20), SparseParameters(mask=mask, **settings))) == expected


def test_a_window_without_a_causal_mask_lies_on_both_sides():
    blocks = fixed_blocks(grid(16, 16, causal=False), SparseParameters(mask="window", window=1))
    assert drawn(blocks) == ["##..", "###.", ".###", "..##"]


def test_queries_that_stand_between_blocks_have_two_local_ones():
    assert drawn(local_blocks(grid(8, 14))) == [".##.", "..##"]
    assert drawn(visible_blocks(grid(8, 14))) == ["###.", "####"]
    assert drawn(local_blocks(grid(6, 14, block=4))) == ["..#.", "...#"]


def test_scored_masks_always_keep_the_first_and_the_local_blocks():
    nothing, everything = np.zeros((2, 4, 4), bool), np.ones((2, 4, 4), bool)
    square = grid(16, 16, heads=2)
    assert drawn(chosen_blocks(square, nothing)) == 2 * ["#...", "##..", "#.#.", "#..#"]
    assert drawn(chosen_blocks(square, everything)) == 2 * ["#...", "##..", "###.", "####"]


def test_an_assumed_mask_spreads_its_blocks_and_has_its_density():
    blocks = assumed_blocks(grid(64, 64), 0.5)
    assert drawn(blocks)[8] == "##..#...#......."
    assert drawn(blocks)[-1][0] == drawn(blocks)[-1][-1] == "#"
    assert blocks[0, -1].sum() == 8
    assert density(grid(64, 64), blocks) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(
        assumed_blocks(grid(64, 64), 1.0)[0], visible_blocks(grid(64, 64))
    )
    assert drawn(assumed_blocks(grid(12, 12), 0.0)) == ["#..", "##.", "#.#"]


def test_a_mask_from_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mask.npz", blocks=np.array([[[0, 1, 1], [1, 0, 0], [0, 0, 1]]]))
    parameters = SparseParameters(mask="file", path="mask.npz")
    blocks = fixed_blocks(grid(12, 12, heads=2), parameters)
    assert drawn(blocks) == 2 * ["#..", "##.", "..#"]
    with pytest.raises(WorkloadError) as raised:
        fixed_blocks(grid(16, 16, heads=2), parameters)
    assert str(raised.value) == (
        f"{tmp_path}/mask.npz: array 'blocks' has shape [1, 3, 3], "
        "the workload says [2, 4, 4] or [1, 4, 4]"
    )
    with pytest.raises(WorkloadError) as raised:
        fixed_blocks(grid(12, 12), SparseParameters(mask="file"))
    assert str(raised.value) == (
        "mask file needs path: sparse(mask=file, path=FILE), with the array 'blocks'"
    )


def test_mass_and_recall_of_a_known_softmax():
    """Keys 0 to 3 have the weights 1, 2, 3, 4 of 10 for every row."""
    four = grid(2, 4, block=1, causal=False)
    keys = np.stack([np.log([1.0, 2, 3, 4]) * np.sqrt(2), np.zeros(4)], axis=1)[None]
    tensors = AttentionTensors(np.tile([1.0, 0.0], (1, 2, 1)), keys, keys)
    kept = np.array([[[True, False, False, True], [False, False, True, False]]])
    found = mass_kept(four, tensors, kept)
    assert found == pytest.approx({"kept_mass": (0.5 + 0.3) / 2, "recall": 0.8 / (0.7 + 0.4)})


def test_no_mass_is_claimed_where_scores_are_not_finite():
    square = grid(8, 8)
    ones = np.ones((1, 8, 2))
    keys = ones.copy()
    keys[0, 0, 0] = np.inf
    everything = visible_blocks(square)[None]
    assert mass_kept(square, AttentionTensors(ones, keys, ones), everything) == {}
