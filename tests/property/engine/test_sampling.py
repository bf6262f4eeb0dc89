"""What a sample says of a program: all of it where all is taken, an interval where not."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import window
from accelsim.engine.sampling.items import ranges_of
from accelsim.engine.sampling.plan import Kind, Segment, plan_of
from accelsim.engine.sampling.schedule import schedule_by_plan
from tests.handmade import load, machine_of, matmul, program_of, store, vector
from tests.property.engine.test_windows import assert_same_sums, in_pieces, ops, with_own_tiles
from tests.strategies.machines import banked_machines, machines
from tests.strategies.programs import programs


def cut(program, places):
    """Return a plan that takes every item, in segments that end at some places."""
    plan = []
    for phase, (first, after) in enumerate(ranges_of(program.item_phase)):
        ends = [first, *(each for each in sorted(places) if first < each < after), after]
        plan += [Segment(Kind.WHOLE, phase, *pair) for pair in itertools.pairwise(ends)]
    return plan


def lengths(program):
    return np.diff(program.item_start).astype(float)


@settings(max_examples=60)
@given(
    programs(ops, max_items=12).map(with_own_tiles).filter(lambda each: each.num_items),
    machines() | banked_machines(),
    st.sets(st.integers(1, 11)),
    st.booleans(),
)
def test_a_sample_of_everything_is_the_whole_schedule(program, machine, places, is_held):
    plan, own = cut(program, places), program if is_held else in_pieces(program)
    found = schedule_by_plan(own, machine, plan, lengths(program))
    assert_same_sums(found, window.schedule(program, machine), holds=False)
    assert found.cycles_margin == found.hbm_bytes_margin == 0
    assert found.scheduled_ops == program.num_ops


def steps(keys):
    """Return an item that meets so many tiles of keys."""
    step = [load(2, 1024, 512), matmul(3, 1, 2, 1, 4, 4), vector(4, 64, reads=(3,))]
    return [load(1, 0, 512), *(op for _ in range(keys) for op in step), store(4, 4096, 512)]


def triangle(heads, blocks):
    """Return a program like causal attention: each head has items that grow."""
    return program_of([steps(1 + block // 4) for _ in range(heads) for block in range(blocks)])


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 6), st.integers(60, 160), st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.3]))
def test_the_sample_of_growing_items_is_near_the_whole(heads, blocks, cores, share):
    program, machine = triangle(heads, blocks), machine_of(cores=cores)
    plan = plan_of(lengths(program), program.item_phase, cores, share)
    found = schedule_by_plan(in_pieces(program), machine, plan, lengths(program))
    whole = window.schedule(program, machine)
    assert found.num_ops == whole.num_ops
    assert 0 < found.scheduled_ops <= whole.num_ops
    assert np.isfinite(found.cycles_margin)
    assert (found.cycles_margin == 0) == (found.scheduled_ops == whole.num_ops)
    assert abs(found.cycles - whole.cycles) <= found.cycles_margin + 0.02 * whole.cycles
    np.testing.assert_allclose(found.actions, whole.actions, rtol=1e-9, atol=1)
    assert found.requested.read_bytes == whole.requested.read_bytes


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=600),
    st.integers(1, 5),
    st.floats(0.01, 1),
    st.integers(1, 3),
)
def test_segments_follow_each_other_within_phases(num_ops, cores, share, phases):
    own = np.sort(np.arange(len(num_ops)) % phases)
    plan = plan_of(np.array(num_ops, float), own, cores, share)
    ends = 0
    for each in plan:
        assert ends <= each.first < each.after
        assert own[each.first] == own[each.after - 1]
        ends = each.after
    for phase, (first, after) in enumerate(ranges_of(own)):
        segments = [each for each in plan if each.phase == phase]
        assert segments[0].first == first
        assert segments[-1].after == after
        kinds = {each.kind for each in segments}
        assert kinds in ({Kind.WHOLE}, set(Kind))


def test_a_sample_takes_no_end_from_memory_that_was_used_before(monkeypatch):
    program, machine = triangle(4, 110), machine_of(cores=3)
    plan = plan_of(lengths(program), program.item_phase, 3, 0.1)
    make = window.with_room_for

    def used(rows, used_rows, needed):
        longer = make(rows, used_rows, needed)
        if "end" in (longer.dtype.names or ()):
            longer["end"][used_rows:] = 1
        return longer

    before = schedule_by_plan(in_pieces(program), machine, plan, lengths(program))
    monkeypatch.setattr(window, "with_room_for", used)
    after = schedule_by_plan(in_pieces(program), machine, plan, lengths(program))
    assert (after.cycles, after.cycles_margin) == (before.cycles, before.cycles_margin)
