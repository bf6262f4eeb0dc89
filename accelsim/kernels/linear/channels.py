"""How much longer a wave takes because its loads crowd on some of the channels: compiled code.

In a flat HBM a load is served like a run of bytes from its first address on. Where loads of many
cores begin on the same channels, these are busy while others wait. In a banked one the rows of
matrices lie where its mapping puts them.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels.estimate.banks import part_of
from accelsim.kernels.linear.facts import LEFT, RIGHT, K, M, N
from accelsim.runtime.jit import chosen_by_type, jit_inline, jit_inner

_STEPS = 16
"""Steps that are looked at."""
LEAST_DEPTH = 16
DEPTHS = LEAST_DEPTH * 2.0 ** (np.arange(15) / 2)
_TOGETHER = 0.25
"""Of what loads on few channels of a banked HBM would cost if all cores asked for them at once:
they drift apart (found by simulating, as is the next one)."""
_LASTING = 0.2
"""Of the steps after the first ones, those that a core still asks for as at the start."""


class FlatLayout(NamedTuple):
    """Where operands lie in a flat HBM, in bytes; A is at address 0."""

    channels: float
    piece: float
    """In a row on one channel."""
    is_transposed: bool
    """Whether B lies as [n, k]."""
    sector: float
    """Of an L2, if each row of B is some whole ones; 0: loads fetch what they ask for."""
    b_begin: float


class BankedLayout(NamedTuple):
    """Where the rows of B lie in a banked HBM."""

    channels: float
    piece: float
    column: float
    is_transposed: bool
    places: Any
    """See `accelsim.kernels.estimate.banks`."""
    views: Any
    """How much longer loads take where cores ask for `DEPTHS` along k at a time."""


class _Loads(NamedTuple):
    """A step of one operand; lengths count in pieces."""

    length: float
    """Of a tile."""
    tiles: float
    apart: float
    """From one tile to the next."""
    step: float
    """From one step to the next."""
    begin: float = 0.0
    grain: float = 0.0
    """What rows of tiles share of it is fetched with the first of them."""
    rows: float = 0.0
    """Of a tile, where there is a grain."""


@jit_inner
def _on_channels(layout, wave, tilings, i, facts, room):
    """As many steps are under way as there are slots; each channel serves one after the other."""
    length = tilings[LEFT, i] / layout.piece
    step_a = length / tilings[M, i]
    left = _Loads(length, wave.rows, length * facts.k / tilings[K, i], step_a, 0.0, 0.0, 0.0)
    length = tilings[RIGHT, i] / layout.piece
    step_b = length / tilings[N, i]
    apart = length * facts.k / tilings[K, i]
    grain = 0.0
    if not layout.is_transposed:
        apart = length / tilings[K, i]
        step_b *= facts.n
        grain = layout.sector / layout.piece
    begin = layout.b_begin / layout.piece
    right = _Loads(length, wave.cols, apart, step_b, begin, grain, tilings[K, i])
    channels = int(layout.channels)
    a = room[2]
    b = room[3]
    free = room[4]
    done = room[5]
    mean = _lay(left, wave, facts.l2 > 0, channels, a, room[6])
    mean += _lay(right, wave, facts.l2 > 0, channels, b, room[6])
    for j in range(channels):
        free[j] = 0.0
    for j in range(int(wave.stages)):
        done[j] = 0.0
    steps = min(int(wave.steps), _STEPS)
    end = 0.0
    for step in range(steps):
        begun = done[step % int(wave.stages)]
        at_a = channels - int(step * step_a) % channels
        at_b = channels - int(step * step_b) % channels
        for j in range(channels):
            free[j] = max(free[j], begun) + a[at_a + j] + b[at_b + j]
        for j in range(channels):
            end = max(end, free[j])
        done[step % int(wave.stages)] = end
    return end / (mean * steps)


@jit_inner
def _lay(operand, wave, has_l2, channels, loads, edges):
    """Fill in what each channel has of a step, twice over; return the mean."""
    for j in range(2 * channels + 2):
        edges[j] = 0.0
    rounds = 0.0
    for split in range(int(wave.ranges)):
        for tile in range(int(operand.tiles)):
            begin = tile * operand.apart
            length = operand.length
            if operand.grain > 0:
                begin = np.ceil(begin / operand.grain) * operand.grain
                end = np.ceil((tile + 1) * operand.apart / operand.grain) * operand.grain
                length = (end - begin) * operand.rows
            begin += operand.begin + split * wave.steps * operand.step
            rounds += _note_ends(edges, begin, length, channels)
    times = 1.0 if has_l2 else wave.cores / (operand.tiles * wave.ranges)
    total = 0.0
    mean = 0.0
    for j in range(2 * channels):
        total += edges[j]
        edges[j] = total
    for j in range(channels):
        load = (rounds + edges[j] + edges[j + channels]) * times
        loads[j] = load
        loads[j + channels] = load
        mean += load / channels
    return mean


@jit_inline
def _note_ends(edges, begin, length, channels):
    """Note where a run begins and ends; return how often it goes through all channels."""
    rounds = np.floor(length / channels)
    begin -= np.floor(begin / channels) * channels
    end = begin + length - rounds * channels
    i = int(begin)
    j = int(end)
    edges[i] += i + 1 - begin
    edges[i + 1] += begin - i
    edges[j] -= j + 1 - end
    edges[j + 1] -= end - j
    return rounds


@jit_inner
def _on_banks(layout, wave, tilings, i, facts, room):
    """A core asks for a step at a time, but at the start for one after the other of those that have
    slots; what all ask for lies in a part of the rows."""
    begun = min(wave.stages, wave.steps)
    depth = min(facts.k, tilings[K, i] * wave.ranges)
    deepest = min(facts.k, depth * begun)
    one = _view(layout.views, depth)
    several = max(one, _view(layout.views, deepest))
    in_view = one + (several - one) * min(1.0, _LASTING + begun / wave.steps)
    cols = min(facts.n, tilings[N, i] * wave.cols)
    element = tilings[RIGHT, i] / (tilings[N, i] * tilings[K, i]) / layout.column
    loads = room[2]
    for j in range(layout.places.shape[2]):
        loads[j] = 0.0
    if layout.is_transposed:
        part_of(layout.places, cols, deepest * element, loads, 1.0)
    else:
        part_of(layout.places, deepest, cols * element, loads, 1.0)
    most = 0.0
    total = 0.0
    for j in range(layout.places.shape[2]):
        most = max(most, loads[j])
        total += loads[j]
    uneven = most * layout.places.shape[2] / total
    return max(in_view, 1 + _TOGETHER * (uneven - 1))


@jit_inner
def _view(views, depth):
    """How much longer loads take where cores ask for so many rows along k."""
    at = min(max(2 * np.log2(depth / LEAST_DEPTH), 0.0), len(views) - 1.001)
    left = int(at)
    return views[left] + (views[left + 1] - views[left]) * (at - left)


crowding = chosen_by_type({FlatLayout: _on_channels, BankedLayout: _on_banks})
"""How much longer the loads of a wave take than if each channel had as much of them: layout, wave,
tilings, number of the tiling, facts, room -> factor."""
