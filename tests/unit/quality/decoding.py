"""A model that reads one token after the other over a KV cache, written for the tests."""

import numpy as np

from accelsim.workload.model.forward import Hooks, hidden_states, layer_rotations
from accelsim.workload.model.rope import rotate


def decoded_states(weights, ids, attention):
    """Return the states [tokens, hidden] of single steps; `attention` is an attention hook.

    A step runs the network on one token, which it takes for the first; turning q and k on by the
    true position inside the hook puts them right.
    """
    rotations = layer_rotations(weights, len(ids))
    cache = {}
    position = 0

    def step(layer, q, k, v, window):
        turn = tuple(part[position : position + 1] for part in rotations[layer])
        keys, values = cache.get(layer, (k[:, :0], v[:, :0]))
        keys = np.concatenate((keys, rotate(k, turn)), axis=1)
        values = np.concatenate((values, v), axis=1)
        cache[layer] = keys, values
        return attention(layer, rotate(q, turn), keys, values, window)

    states = []
    for position, token in enumerate(ids):  # noqa: B007 (read by `step`)
        states.append(hidden_states(weights, [token], Hooks(attention=step)))
    return np.concatenate(states)
