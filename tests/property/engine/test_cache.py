"""The L2 against a cache of dictionaries, and laws that every cache obeys."""

from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.engine import compiled, reference
from accelsim.engine.memory.door import new_memory, request, traffic_of
from accelsim.engine.memory.sets import set_of
from accelsim.loading import load_machine
from accelsim.program.transfer import Transfer
from tests.handmade import cache_of, changed, gather, load, machine_of, program_of
from tests.strategies.machines import caches, machines
from tests.strategies.programs import programs

LONGEST_BYTES = 200 * 32
runs = st.lists(
    st.tuples(st.integers(0, 900), st.integers(1, 200), st.booleans()), min_size=1, max_size=40
)
"""Address, bytes, and whether they are written."""


class DictionaryCache:
    """Sets of lines in the order of their use; a line is its sectors that are there and dirty."""

    def __init__(self, l2):
        self.l2 = l2
        self.sets = [OrderedDict() for _ in range(l2.sets)]
        self.fetched = self.written_back = self.hits = 0

    def access(self, address, num_bytes, is_write):
        for byte in range(address, address + num_bytes):
            line, sector = byte // self.l2.line, byte % self.l2.line // self.l2.sector
            valid, dirty = self._line(line)
            if is_write:
                valid.add(sector)
                if self.l2.writes == "back":
                    dirty.add(sector)
                else:
                    self.written_back += 1
            elif sector in valid:
                self.hits += 1
            else:
                self.fetched += self.l2.sector
                valid.add(sector)

    def _line(self, line):
        own = self.sets[set_of.py_func(line, self.l2.sets)]
        if line not in own:
            if len(own) == self.l2.ways:
                _, (_, dirty) = own.popitem(last=False)
                self.written_back += len(dirty) * self.l2.sector
            own[line] = set(), set()
        own.move_to_end(line)
        return own[line]


def idle_memory(machine):
    """Memory with room for any of the runs."""
    return new_memory(machine, program_of([[load(1, 0, LONGEST_BYTES)]]))


def served(machine, accesses):
    """Memory after these runs of bytes, one after the other, and the cycles in which they end."""
    memory = idle_memory(machine)
    ends = [
        request(memory, time, Transfer(address, 1, num_bytes, 0, -1, is_write))
        for time, (address, num_bytes, is_write) in enumerate(accesses)
    ]
    return memory, ends


def counted(machine, accesses):
    return traffic_of(served(machine, accesses)[0], program_of([]))


@settings(max_examples=200)
@given(caches, runs)
def test_fetches_and_write_backs_are_those_of_a_cache_of_dictionaries(l2, accesses):
    machine = machine_of(l2=l2)
    oracle = DictionaryCache(machine.l2)
    for access in accesses:
        oracle.access(*access)
    left = sum(len(dirty) for own in oracle.sets for _, dirty in own.values())
    traffic = counted(machine, accesses)
    assert traffic.hbm_read_bytes == oracle.fetched
    assert traffic.hbm_write_bytes == oracle.written_back + left * machine.l2.sector
    assert traffic.l2_read_bytes == sum(n for _, n, is_write in accesses if not is_write)
    assert traffic.l2_write_bytes == sum(n for _, n, is_write in accesses if is_write)


@settings(max_examples=200)
@given(programs(), machines(l2=caches))
def test_engines_agree_behind_a_cache(program, machine):
    fast, slow = compiled.schedule(program, machine), reference.schedule(program, machine)
    assert fast.start.tolist() == slow.start.tolist()
    assert fast.end.tolist() == slow.end.tolist()
    assert fast.traffic == slow.traffic


def in_sectors(accesses, sector_bytes):
    return [
        (address * sector_bytes, num_bytes * sector_bytes, is_write)
        for address, num_bytes, is_write in accesses
    ]


@settings(max_examples=200)
@given(caches, runs)
def test_whole_sectors_never_move_more_bytes_than_without_a_cache(l2, accesses):
    accesses = in_sectors(accesses, l2["sector"])
    with_cache, without = counted(machine_of(l2=l2), accesses), sum(n for _, n, _ in accesses)
    assert with_cache.hbm_read_bytes + with_cache.hbm_write_bytes <= without


@settings(max_examples=200)
@given(runs, st.integers(1, 4), st.sampled_from([1, 2, 3]))
def test_more_ways_never_miss_more(accesses, ways, sets):
    """LRU with the same sets: what is in the smaller cache is in the larger one."""
    small, large = (cache_of(sets=sets, ways=n) for n in (ways, ways + 1))
    before, after = (counted(machine_of(l2=l2), accesses) for l2 in (small, large))
    assert after.hbm_read_bytes <= before.hbm_read_bytes
    assert after.hbm_write_bytes <= before.hbm_write_bytes


@settings(max_examples=200)
@given(caches, runs, st.sampled_from([0.25, 2.5, 64]))
def test_a_hit_takes_the_latency_of_the_cache_and_a_miss_that_of_the_hbm(l2, accesses, rate):
    machine = machine_of(l2=l2, latency_cycles=50, hbm_bytes_per_cycle=rate)
    before = idle_memory(machine)
    for time, (address, num_bytes, is_write) in enumerate(accesses):
        fetched = traffic_of(before, program_of([])).hbm_read_bytes
        end = request(before, time, Transfer(address, 1, num_bytes, 0, -1, is_write))
        missed = traffic_of(before, program_of([])).hbm_read_bytes > fetched
        assert end >= time + machine.l2_latency_cycles
        assert not missed or end >= time + 50


def test_whoever_hits_a_line_on_its_way_waits_for_it():
    machine = machine_of(l2=cache_of(), latency_cycles=50)
    _, ends = served(machine, [(0, 64, False), (0, 64, False)])
    assert ends == [64 + 50, 64 + 50]


def test_a_line_that_is_there_is_served_by_the_cache():
    machine = machine_of(l2=cache_of(bytes_per_cycle=16, latency_cycles=3), latency_cycles=50)
    memory, _ = served(machine, [(0, 64, False)])
    assert request(memory, 1000, Transfer(0, 1, 64, 0, -1, False)) == 1000 + 4 + 3


@pytest.mark.parametrize(("writes", "written"), [("back", 64), ("through", 640)])
def test_what_is_written_again_reaches_the_memory_once_or_each_time(writes, written):
    machine = machine_of(l2=cache_of(writes=writes))
    assert counted(machine, [(0, 64, True)] * 10).hbm_write_bytes == written


def test_a_store_that_passes_through_waits_for_the_bandwidth_of_the_memory_but_not_its_latency():
    l2 = cache_of(writes="through", bytes_per_cycle=16, latency_cycles=3)
    machine = machine_of(l2=l2, latency_cycles=500, hbm_bytes_per_cycle=2)
    _, ends = served(machine, [(0, 64, True)])
    assert ends == [64 // 2]


@pytest.mark.parametrize("kind", ["flat", "banked"])
def test_nobody_waits_for_what_a_store_evicts(kind):
    """The third line of a set of two ways sends the first one to the memory."""
    machine = machine_of(l2=cache_of(sets=1, ways=2, latency_cycles=3), latency_cycles=500)
    if kind == "banked":
        banked = load_machine("ascend-910b-banked").hbm
        slow = {"hbm": banked.model_copy(update={"latency": 500 / machine.clock})}
        machine = machine.model_copy(update=slow)
    line_bytes = machine.l2.line
    memory, _ = served(machine, [(n * line_bytes, line_bytes, True) for n in range(2)])
    end = request(memory, 10_000, Transfer(2 * line_bytes, 1, line_bytes, 0, -1, True))
    assert traffic_of(memory, program_of([])).hbm_write_bytes == 3 * line_bytes
    assert end < 10_000 + 500


def test_rows_of_a_gather_are_looked_up_one_by_one():
    machine = machine_of(l2=cache_of(sets=64))
    memory = new_memory(machine, program_of([[gather(1, 0, 32, rows=3)]], gathered_rows=[5, 3, 5]))
    request(memory, 0, Transfer(0, 3, 32, 64, 0, False))
    traffic = traffic_of(memory, program_of([]))
    assert (traffic.l2_read_bytes, traffic.l2_hit_bytes, traffic.hbm_read_bytes) == (96, 32, 64)


def test_a_strided_matrix_stays_in_a_cache_that_holds_it():
    """A column of tiles of a wide matrix does not press on a few sets."""
    l2 = cache_of(sets=512, ways=16, sectors=4)
    columns = [(row * 8192, 128, False) for row in range(512)]
    traffic = counted(machine_of(l2=l2), columns * 2)
    assert traffic.hbm_read_bytes == 512 * 128


@pytest.mark.parametrize("larger", [2, 8])
def test_a_larger_cache_is_not_slower_for_the_matrix_product(larger):
    from accelsim import load_machine, simulate

    machine = load_machine("ascend-910b-no-l2")
    l2 = cache_of(sets=128, ways=16, sectors=4, slices=8) | {"bandwidth": 4e12, "latency": 200e-9}
    small = machine.model_copy(update={"l2": machine_of(l2=l2).l2})
    large = changed(small, "l2.ways", lambda ways: ways * larger)
    large = changed(large, "l2.capacity", lambda capacity: capacity * larger)
    before, after = (simulate(each, "gemm-1024", "gemm") for each in (small, large))
    assert after.hbm_read_bytes < before.hbm_read_bytes
    assert after.cycles <= before.cycles
