"""Programs that are joined: engines agree, and parts that share nothing take what they take."""

from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.program.joining import Part, joined
from accelsim.program.program import BufferInfo
from tests.handmade import SLOTS, int_matmul, machine_of, move, program_of
from tests.property.engine.test_agreement import assert_equal
from tests.strategies.machines import banked_machines, caches, machines
from tests.strategies.programs import programs


def parts(**options):
    part = st.builds(
        Part,
        name=st.just("p"),
        program=programs(max_ops=5, max_items=4, **options),
        runs=st.integers(1, 3),
        reads=st.just({}),
    )
    return st.lists(part, min_size=2, max_size=2)


@settings(max_examples=150)
@given(parts(), machines(l2=st.none() | caches))
def test_engines_agree_on_every_op(two, machine):
    program = joined("both", two)
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


@settings(max_examples=100)
@given(parts(), banked_machines())
def test_engines_agree_on_every_op_with_banked_memory(two, machine):
    program = joined("both", two)
    assert_equal(compiled.schedule(program, machine), reference.schedule(program, machine))


@settings(max_examples=150)
@given(parts(min_ops=1), machines(channels=st.just(1), placement=st.just("greedy")))
def test_parts_take_as_long_as_alone_where_nothing_carries_over(two, machine):
    """A phase opens when all before it has ended, and so do the queues and the one channel.

    A part then runs as it does from cycle 0, launch included: all waits are differences of times. A
    run alone may last longer than its last op, by less than a cycle of rounding, until the memory
    had the time for its bytes.
    """
    whole = compiled.schedule(joined("both", two), machine).cycles
    alone = sum(part.runs * compiled.schedule(part.program, machine).cycles for part in two)
    assert alone - sum(part.runs for part in two) <= whole <= alone


def test_the_largest_slots_may_stand_last_in_a_word():
    many = BufferInfo("s", "scratchpad", 65_535 - SLOTS, 1, 1, 16, 1)
    op = int_matmul(4, 1, 2, 2, 2, 2, order=3, accumulate=True)
    two = [
        Part("a", program_of([[op]], buffers=[many])),
        Part("b", program_of([[op, move(5, 4, 1, 1)]])),
    ]
    program = joined("both", two)
    assert program.decode(1).reads == tuple(65_535 - SLOTS + slot for slot in (1, 2, 3, 4))
    run = compiled.schedule(program, machine_of())
    assert_equal(run, reference.schedule(program, machine_of()))
    assert run.scratchpad_held_peak_bytes == 64 * 64 * 2
