"""Block-sparse attention in float64, stated twice, and what a recorded program kept."""

import numpy as np

from accelsim.kernels.attention.sparse.masks.grid import grid_of
from accelsim.kernels.attention.sparse.masks.parameters import MASKS_WITH, SparseParameters
from accelsim.program.ops import A, B, Unit
from accelsim.units import ceil_div


def parameters_of(mask, **settings):
    """The parameters of a mask, with those of the settings that it has."""
    own = {name: value for name, value in settings.items() if mask in MASKS_WITH.get(name, (mask,))}
    return SparseParameters(mask=mask, **own)


def masked_attention(problem, tensors, kept, block):
    """Softmax attention over the kept blocks, by masking a full matrix of scores.

    kept: [heads, q_blocks, k_blocks]. Returns [heads * q_len, head_dim].
    """
    row = np.arange(problem.q_len)[:, None]
    key = np.arange(problem.kv_len)[None, :]
    hidden = problem.causal & (key > row + problem.kv_len - problem.q_len)
    output = []
    for head, queries in enumerate(tensors.q.astype(np.float64)):
        keys, values = (x[head * len(x) // len(tensors.q)] for x in (tensors.k, tensors.v))
        scores = queries @ keys.astype(np.float64).T / np.sqrt(problem.head_dim)
        scores[hidden | ~kept[head][row // block, key // block]] = -np.inf
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        output.append(weights / weights.sum(axis=1, keepdims=True) @ values.astype(np.float64))
    return np.concatenate(output)


def online_attention(problem, tensors, kept, block):
    """The same as the kernel computes it: block by block, with a running maximum and sum."""
    offset, output = problem.kv_len - problem.q_len, []
    for head in range(len(tensors.q)):
        kv_head = head * len(tensors.k) // len(tensors.q)
        for i in range(kept.shape[1]):
            rows = np.arange(i * block, min((i + 1) * block, problem.q_len))
            largest = np.full((len(rows), 1), -np.inf)
            total, result = np.zeros((len(rows), 1)), np.zeros((len(rows), problem.head_dim))
            for j in np.flatnonzero(kept[head, i]):
                keys = np.arange(j * block, min((j + 1) * block, problem.kv_len))
                scores = tensors.q[head, rows].astype(np.float64)
                scores = scores @ tensors.k[kv_head, keys].astype(np.float64).T
                scores /= np.sqrt(problem.head_dim)
                if problem.causal:
                    scores[keys > rows[:, None] + offset] = -np.inf
                highest = np.maximum(largest, scores.max(axis=1, keepdims=True))
                rescale, weights = np.exp(largest - highest), np.exp(scores - highest)
                total = total * rescale + weights.sum(axis=1, keepdims=True)
                result = result * rescale + weights @ tensors.v[kv_head, keys].astype(np.float64)
                largest = highest
            output.append(result / total)
    return np.concatenate(output)


def kept_blocks(program, problem, block):
    """What the last phase of a program loads of K, [heads, q_blocks, k_blocks]."""
    grid = grid_of(problem, block)
    key = next(t for t, tensor in enumerate(program.tensors) if tensor.name == "k")
    info = program.tensors[key]
    kept = np.zeros((grid.heads, grid.q_blocks, grid.k_blocks), bool)
    items = np.flatnonzero(program.item_phase == program.item_phase.max())
    for place, item in enumerate(items):
        head, i = place % grid.heads, grid.q_blocks - 1 - place // grid.heads
        ops = np.arange(program.item_start[item], program.item_start[item + 1])
        is_key = (program.units[ops] == Unit.LOAD) & (program.tensor_indices[ops] == key)
        for op in program.ops[ops[is_key]]:
            row = (op[A] - info.address) // info.row_bytes - head // grid.group * grid.kv_len
            assert row % block == 0
            assert op[B] == min(block, grid.kv_len - row)
            kept[head, i, row // block] = True
    return kept


def bytes_of(program, name, unit, phase=None):
    """HBM bytes that `unit` moves of a tensor, of all phases or one."""
    index = [tensor.name for tensor in program.tensors].index(name)
    phases = np.repeat(program.item_phase, np.diff(program.item_start))
    mine = (program.tensor_indices == index) & (program.units == unit)
    return int(program.hbm_bytes[mine & ((phases == phase) | (phase is None))].sum())


def key_rows(kept, problem, block):
    """Rows of all kept key blocks, over heads and query blocks."""
    blocks = ceil_div(problem.kv_len, block)
    rows = np.minimum(np.arange(1, blocks + 1) * block, problem.kv_len) - np.arange(blocks) * block
    return int((kept * rows).sum())
