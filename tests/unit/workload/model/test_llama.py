import numpy as np

from accelsim.workload.model.llama import unpermute_rope


def test_rotary_rows_go_back_to_halves():
    # Two heads of six rows; llama.cpp stores row i of each half next to the other half's row i.
    stored = np.array([0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11], dtype=np.float32)
    assert unpermute_rope(stored[:, None], heads=2)[:, 0].tolist() == list(range(12))
    assert unpermute_rope(stored, heads=2).tolist() == list(range(12))
