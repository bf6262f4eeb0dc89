"""Placed bursts keep the rules of the DRAM, on devices and controllers at the ends of their ranges.

What is looked at are the slots and ticks of the placement that is written with sets, which finds
itself equal to the compiled one in every example (`tests/oracle/placed_transfers.py`).
"""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.hardware.dram import ControllerSpec
from tests.oracle.placed_transfers import placed_by_both, places_of, rules_of_hbm
from tests.strategies.memories import MAPPINGS, banked_hbm, device_of

EXAMPLES = 200
shapes = st.fixed_dictionaries(
    {
        "channels": st.just(1),
        "pseudo_channels": st.sampled_from([1, 2]),
        "bank_groups": st.sampled_from([1, 4]),
        "banks": st.sampled_from([1, 2]),
        "columns": st.sampled_from([1, 8]),
    }
)
timings = st.fixed_dictionaries(
    {},
    optional={
        "t_ccd_l": st.sampled_from([2, 5, 64]),  # at most 32 bursts
        "t_faw": st.sampled_from([0, 1000]),
        "t_rrd_s": st.sampled_from([0, 50]),
        "t_rtw": st.sampled_from([0, 100]),
        "t_wtr_s": st.sampled_from([0, 100]),
        "t_wr": st.sampled_from([0, 100]),
        "t_rfc": st.sampled_from([0, 275]),  # with a row in between, t_refi is 300
        "t_rfc_bank": st.sampled_from([0, 150, 400]),
        "t_ck": st.sampled_from([0.7e-9, 3e-9]),
    },
)
controllers = st.builds(
    lambda window, write_window, marks: ControllerSpec(
        window=window, write_window=write_window, drain_below=marks[0], drain_above=marks[1]
    ),
    st.sampled_from([1, 2, 1024]),
    st.sampled_from([1, 2, 30, 1024]),
    st.sampled_from([(0, 0), (0, 1), (1, 1), (0.2, 0.8)]),
)
hbms = st.builds(
    lambda shape, timing, **fields: banked_hbm(device=device_of(shape, timing), **fields),
    shapes,
    timings,
    mapping=st.sampled_from(MAPPINGS[:2]),
    page=st.sampled_from(["open", "closed"]),
    refresh=st.sampled_from(["all_bank", "per_bank"]),
    controller=controllers,
)
transfers = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 90, 10**4, 10**7]),  # a ring lasts 8192 cycles
        st.integers(0, 2**12),
        st.sampled_from([1, 2, 40]),
        st.sampled_from([1, 16, 200]),
        st.sampled_from([0, 16, 2**10]),  # 0: one row again and again
        st.booleans(),
    ),
    min_size=1,
    max_size=15,
)


def channels_of(hbm, some):
    return rules_of_hbm(hbm), placed_by_both(hbm, some)


def by(key, history):
    """Return what was placed, grouped by the key of its bank, in the order of placing."""
    groups = {}
    for placed in history:
        groups.setdefault(placed.bank >> key, []).append(placed)
    return groups.values()


def columns_of(channel):
    return [placed for placed in channel.history if placed.is_write is not None]


def activations_of(channel):
    return [placed for placed in channel.history if placed.is_write is None]


@settings(max_examples=EXAMPLES)
@given(hbms, transfers)
def test_pins_move_one_burst_in_a_slot_and_groups_keep_their_distance(hbm, some):
    rules, channels = channels_of(hbm, some)
    for channel in channels:
        for key, distance in ((rules.pseudo_bits, 1), (rules.group_bits, rules.group_slots)):
            for columns in by(key, columns_of(channel)):
                slots = sorted(column.slot for column in columns)
                assert all(after - before >= distance for before, after in pairwise(slots))


@settings(max_examples=EXAMPLES)
@given(hbms, transfers)
def test_no_more_rows_are_opened_in_a_time_than_the_rule_allows(hbm, some):
    """A slot has one activation, anywhere in it: n of them last longer than n - 2 slots."""
    rules, channels = channels_of(hbm, some)
    for channel in channels:
        for activations in by(rules.pseudo_bits, activations_of(channel)):
            slots = [activation.slot for activation in activations]
            assert len(set(slots)) == len(slots)
            ticks = sorted(activation.tick for activation in activations)
            for number in (4, 5, 20):
                for first, last in zip(ticks, ticks[number - 1 :], strict=False):
                    assert last - first > (number - 2) * rules.activation


def rows_of(history):
    """Return lists of an activation and the columns of its row, of one bank."""
    rows = []
    for placed in history:
        if placed.is_write is None:
            rows.append([])
        rows[-1].append(placed)
    return rows


def refreshes_before(rules, placed):
    of_pseudo = 1 << rules.pseudo_bits
    turn = placed.bank % of_pseudo + 1 if rules.bank_stop else of_pseudo
    return (placed.tick - rules.interval * turn // of_pseudo) // rules.interval


@settings(max_examples=EXAMPLES)
@given(hbms, transfers)
def test_a_bank_opens_and_closes_its_rows_in_time(hbm, some):
    """A row that a refresh has closed is left out: what a refresh takes is no time of the bank."""
    rules, channels = channels_of(hbm, some)
    act_to_column = {False: rules.act_to_read, True: rules.act_to_write}
    column_to_pre = {False: rules.read_to_pre, True: rules.write_to_pre}
    for history in (each for channel in channels for each in by(0, channel.history)):
        rows = rows_of(history)
        for opened, *columns in rows:
            assert all(
                column.tick >= opened.tick + act_to_column[column.is_write] for column in columns
            )
        for (before, *columns), (after, *_) in pairwise(rows):
            if refreshes_before(rules, before) == refreshes_before(rules, after):
                closed = [column.tick + column_to_pre[column.is_write] for column in columns]
                closed_at = max([before.tick + rules.act_to_pre, *closed])
                assert after.tick >= closed_at + rules.pre_to_act
                assert after.tick >= before.tick + rules.act_to_act


@settings(max_examples=EXAMPLES)
@given(hbms, transfers)
def test_every_burst_opens_a_row_or_finds_it_open_and_all_are_written(hbm, some):
    _, channels = channels_of(hbm, some)
    bursts = {False: 0, True: 0}
    for _, address, rows, row_bytes, step, is_write in some:
        for row in range(rows):
            begin = address + row * step
            bursts[is_write] += len(list(places_of(hbm, begin, begin + row_bytes)))
    columns = [column.is_write for channel in channels for column in columns_of(channel)]
    assert {is_write: columns.count(is_write) for is_write in bursts} == bursts
    opened = sum(len(activations_of(channel)) for channel in channels)
    assert opened + sum(channel.row_hits for channel in channels) == len(columns)
