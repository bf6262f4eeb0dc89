"""The use of the scratchpad, against a count of what every op needs, cycle by cycle."""

from collections import defaultdict

from hypothesis import given, settings

from accelsim.accounts.occupancy import scratchpad_use
from accelsim.engine import compiled
from tests.strategies.machines import machines
from tests.strategies.programs import programs


def lives_of(schedule):
    """(core, begin, end, bytes) of every value in the scratchpad, found op by op."""
    size = {
        buffer.first_slot + i: buffer.slot_bytes
        for buffer in schedule.program.buffers
        if buffer.memory == "scratchpad"
        for i in range(buffer.slots)
    }
    values = defaultdict(list)
    for op in schedule.program:
        core, start, end = (
            int(x[op.index]) for x in (schedule.op_core, schedule.start, schedule.end)
        )
        for slot in op.writes:
            if slot not in op.reads:
                values[core, slot].append([start, end])
        for slot in (*op.reads, *op.writes):
            if values[core, slot]:
                values[core, slot][-1][1] = max(values[core, slot][-1][1], end)
    return [
        (core, begin, end, size[slot])
        for (core, slot), spans in values.items()
        for begin, end in spans
        if slot in size
    ]


@settings(max_examples=150)
@given(programs(), machines())
def test_use_is_the_sum_of_the_tiles_that_are_still_needed(program, machine):
    schedule = compiled.schedule(program, machine)
    lives = lives_of(schedule)
    found = list(zip(*(column.tolist() for column in scratchpad_use(schedule)), strict=True))
    assert [cycle for _, cycle, _ in found] == sorted(cycle for _, cycle, _ in found)
    last = {(core, cycle): used for core, cycle, used in found}
    ends = {(core, cycle) for core, begin, end, _ in lives for cycle in (begin, end)}
    assert set(last) <= ends
    for core in range(schedule.cores):
        used = 0
        for cycle in sorted(cycle for where, cycle in ends if where == core):
            used = last.get((core, cycle), used)
            assert used == sum(
                size for where, begin, end, size in lives if where == core and begin <= cycle < end
            )
    assert schedule.scratchpad_held_peak_bytes == max(last.values(), default=0)
