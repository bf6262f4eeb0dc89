"""How much longer a wave takes because its loads crowd on some of the channels: compiled code.

In a flat HBM a load is served like a run of bytes from its first address on. Where loads of many
cores begin on the same channels, these are busy while others wait. In a banked one the rows of
matrices lie where its mapping puts them.
"""

from typing import Any, NamedTuple

import numpy as np

from accelsim.kernels.estimate.banks import part_of
from accelsim.kernels.linear.estimate.facts import LEFT, RIGHT, K, M, N
from accelsim.runtime.jit import chosen_by_type, jit_inner

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


@jit_inner
def _on_channels(layout, wave, tilings, i, facts, room):
    """As many steps are under way as there are slots; each channel serves one after the other."""
    channels = int(layout.channels)
    # Lengths count in pieces of channels.
    length_a = tilings[LEFT, i] / layout.piece
    length_b = tilings[RIGHT, i] / layout.piece
    step_a = length_a / (tilings[M, i] * facts.filled)
    step_b = length_b / tilings[N, i]
    apart_a = length_a * facts.k / tilings[K, i]
    apart_b = length_b * facts.k / tilings[K, i]
    grain = 0.0
    if not layout.is_transposed:
        step_b *= facts.n
        apart_b = length_b / tilings[K, i]
        grain = layout.sector / layout.piece
    times_a = 1.0
    times_b = 1.0
    if facts.l2 == 0:
        times_a = wave.cores / (wave.rows * wave.ranges)
        times_b = wave.cores / (wave.cols * wave.ranges)
    begin = layout.b_begin / layout.piece
    far_a = wave.steps * step_a
    far_b = wave.steps * step_b
    a = _Runs(length_a, wave.rows, apart_a, wave.ranges, far_a, 0.0, times_a, 0.0, 1.0)
    b = _Runs(
        length_b, wave.cols, apart_b, wave.ranges, far_b, begin, times_b, grain, tilings[K, i]
    )
    first = 2 * channels + 2
    mean = _lay(a, channels, room, first) + _lay(b, channels, room, 2 * first)
    free = 3 * first
    done = free + channels
    stages = int(wave.stages)
    for j in range(free, done + stages):
        room[j] = 0.0
    steps = min(int(wave.steps), _STEPS)
    end = 0.0
    for step in range(steps):
        begun = room[done + step % stages]
        at_a = first + channels - int(step * step_a) % channels
        at_b = 2 * first + channels - int(step * step_b) % channels
        for j in range(channels):
            served = max(room[free + j], begun) + room[at_a + j] + room[at_b + j]
            room[free + j] = served
            end = max(end, served)
        room[done + step % stages] = end
    return end / (mean * steps)


class _Runs(NamedTuple):
    """What a step loads of an operand; lengths count in pieces of channels."""

    length: float
    """Of a tile."""
    tiles: float
    apart: float
    """From one tile to the next."""
    ranges: float
    far: float
    """From one range to the next."""
    begin: float
    times: float
    """How often each is loaded."""
    grain: float
    """What rows of tiles share of it is fetched with the first of them; 0: nothing."""
    rows: float
    """Of a tile, where there is a grain."""


@jit_inner
def _lay(runs, channels, room, first):
    """Fill in what each channel has of a step, twice over, from `first` on; return the mean."""
    for j in range(2 * channels + 2):
        room[j] = 0.0
    rounds = 0.0
    for split in range(int(runs.ranges)):
        for tile in range(int(runs.tiles)):
            begin = tile * runs.apart
            length = runs.length
            if runs.grain > 0:
                begin = np.ceil(begin / runs.grain) * runs.grain
                end = np.ceil((tile + 1) * runs.apart / runs.grain) * runs.grain
                length = (end - begin) * runs.rows
            begin += runs.begin + split * runs.far
            # Where it begins and ends on the channels, and how often it goes through all of them.
            own_rounds = np.floor(length / channels)
            begin -= np.floor(begin / channels) * channels
            end = begin + length - own_rounds * channels
            i = int(begin)
            j = int(end)
            room[i] += i + 1 - begin
            room[i + 1] += begin - i
            room[j] -= j + 1 - end
            room[j + 1] -= end - j
            rounds += own_rounds
    total = 0.0
    mean = 0.0
    for j in range(2 * channels):
        total += room[j]
        room[j] = total
    for j in range(channels):
        load = (rounds + room[j] + room[j + channels]) * runs.times
        room[first + j] = load
        room[first + channels + j] = load
        mean += load / channels
    return mean


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
    servers = layout.places.shape[2]
    for j in range(servers):
        room[j] = 0.0
    if layout.is_transposed:
        part_of(layout.places, cols, deepest * element, room, 1.0)
    else:
        part_of(layout.places, deepest, cols * element, room, 1.0)
    most = 0.0
    total = 0.0
    for j in range(servers):
        most = max(most, room[j])
        total += room[j]
    uneven = most * servers / total
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
