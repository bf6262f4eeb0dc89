"""A machine with a banked memory: what transfers cost there, and what is counted."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings

from accelsim.accounts.activity import count_activity
from accelsim.accounts.energy import energy_by_component
from accelsim.engine import compiled, reference
from accelsim.hardware.hbm import Detail
from accelsim.loading import load_technology
from accelsim.program.transfer import row_pitches
from accelsim.units import PICO
from tests.handmade import gather, load, machine_of, program_of, store
from tests.strategies.machines import banked_machines
from tests.strategies.memories import MAPPINGS, banked_hbm, device_of
from tests.strategies.programs import programs

SHAPE = {"rows": 2**14, "columns": 32, "burst": 32, "pseudo_channels": 1}
DEVICE = device_of(SHAPE)
CALM = device_of(SHAPE, {"t_refi": 2**20})
"""Without a refresh in the time of these tests, which would open rows again."""
ROW_BYTES = 32 * 32
ONE_BANK = ("channel", "bank_group", "rank", "bank", "pseudo_channel", "row", "column")
TECHNOLOGY = load_technology("7nm")
of_both_details = pytest.mark.parametrize("detail", get_args(Detail))


def machine_with(**hbm):
    """Return a machine of one core at 1 GHz, with rows of 1 KiB in two groups of two banks."""
    machine = machine_of(load_in_flight=8, store_in_flight=8)
    fields = {"device": DEVICE, "mapping": ONE_BANK} | hbm
    return machine.model_copy(update={"clock": 1e9, "hbm": banked_hbm(**fields)})


def run_of(items, machine, rows=()):
    return compiled.schedule(program_of([items], gathered_rows=rows), machine)


@of_both_details
@pytest.mark.parametrize("row_bytes", [32, 64, 256, 1024])
def test_a_gathered_row_costs_one_activation(row_bytes, detail):
    """A tensor of 1 KiB a row lies row by row in the DRAM: one activation for each."""
    machine = machine_with(device=CALM, detail=detail)
    near = run_of([load(1, 0, row_bytes, rows=1)] * 8, machine)
    far = run_of([gather(1, 0, row_bytes, rows=8)], machine, rows=[7, 900, 3, 40, 555, 1, 80, 31])
    assert near.dram.activations == 1
    assert far.dram.activations == 8
    assert near.dram.read_bursts == far.dram.read_bursts == 8 * row_bytes // 32
    assert far.cycles >= 7 * DEVICE.timing.t_rc


@of_both_details
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_conflicts_in_turn_over_ranks_take_a_cycle_of_a_bank_each(detail, ranks):
    """Rows of one bank of each rank: t_rc for a row of every rank, however many ranks there are."""
    calm = device_of({**SHAPE, "ranks": ranks}, {"t_refi": 2**20})
    mapping = ("bank_group", "bank", "pseudo_channel", "row", "rank", "column", "channel")
    machine, turns = machine_with(device=calm, mapping=mapping, detail=detail), 40
    step = ROW_BYTES * calm.shape.channels
    run = run_of([load(1, 0, 32, rows=turns * ranks, step=step)], machine)
    assert run.dram.activations == turns * ranks
    last = calm.timing.t_rcd_read + calm.timing.t_cl + calm.timing.burst
    expected = (turns - 1) * calm.timing.t_rc + last
    assert expected <= run.cycles <= expected + ranks * calm.timing.t_rrd_l + 20


@of_both_details
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_stream_over_ranks_fills_the_pins(detail, ranks):
    calm = device_of({**SHAPE, "ranks": ranks, "bank_groups": 4}, {"t_refi": 2**20, "t_ccd_r": 2})
    mapping = ("row", "bank", "rank", "channel", "pseudo_channel", "column", "bank_group")
    machine = machine_with(device=calm, mapping=mapping, detail=detail)
    num_bytes = 2**18
    run = run_of([load(1, 0, num_bytes)], machine)
    pins = num_bytes / calm.shape.burst / calm.shape.channels * calm.timing.burst
    assert pins <= run.cycles <= 1.05 * pins


@of_both_details
@pytest.mark.parametrize("row_bytes", [32, 64, 96, 256, 1024])
def test_energy_per_bit_follows_the_useful_bytes_of_a_row(row_bytes, detail):
    machine = machine_with(device=CALM, detail=detail)
    run = run_of([gather(1, 0, row_bytes, rows=4)], machine, rows=[9, 2, 5, 7])
    joules = energy_by_component(count_activity(run, machine), machine, TECHNOLOGY)
    bits = 8 * 4 * row_bytes
    per_bit = (joules["hbm"] + joules["hbm_activation"]) / PICO / bits
    cost = DEVICE.energy
    assert per_bit == pytest.approx(cost.read / 8 + cost.activate / (8 * row_bytes), rel=1e-12)


@of_both_details
def test_bytes_beside_those_asked_for_come_along_in_bursts(detail):
    run = run_of([load(1, 31, 2), load(2, 40, 3, rows=2, step=10)], machine_with(detail=detail))
    assert run.dram.read_bursts == 2 + 1 + 1


@of_both_details
def test_writes_wait_until_there_are_enough_of_them(detail):
    """The store is done at once; what it wrote is counted although nothing else follows."""
    machine = machine_with(detail=detail)
    run = run_of([store(1, 0, 64)], machine)
    assert run.cycles <= 1 + machine.hbm_latency_cycles + 1
    assert run.dram.write_bursts == 2


@of_both_details
def test_a_long_store_moves_at_the_rate_of_the_pins(detail):
    machine = machine_with(mapping=MAPPINGS[1], detail=detail)
    num_bytes = 2**20
    run = run_of([store(1, 0, num_bytes)], machine)
    share = num_bytes / run.cycles / machine.hbm_bytes_per_cycle
    queue_bytes = machine.hbm.channels * machine.hbm.controller.write_window * 32
    t = DEVICE.timing
    assert num_bytes - queue_bytes <= machine.hbm_bytes_per_cycle * run.cycles
    assert share > 1 - (t.t_rfc + 3 * t.t_rc) / t.t_refi


@of_both_details
def test_refreshes_are_those_of_the_time(detail):
    machine = machine_with(detail=detail)
    run = run_of([load(1, 0, 2**16)], machine)
    t = DEVICE.timing
    assert run.dram.refreshes == run.cycles // t.t_refi * machine.hbm.channels
    assert run.dram.refreshes > 0


@of_both_details
def test_row_hits_are_the_bursts_after_the_first_of_a_row(detail):
    run = run_of([load(1, 0, ROW_BYTES)], machine_with(device=CALM, detail=detail))
    assert (run.dram.activations, run.dram.row_hits) == (1, 31)


@settings(max_examples=150)
@given(programs(), banked_machines())
def test_both_engines_count_the_same_commands_and_every_burst(program, machine):
    run = compiled.schedule(program, machine)
    assert run.dram == reference.schedule(program, machine).dram
    burst, pitches = machine.hbm.dram.shape.burst, row_pitches(program)
    bursts = 0
    for op in program:
        if op.unit.name in ("LOAD", "STORE"):
            numbers = np.arange(op.b)
            step = op.d
            if op.op.name == "GATHER":
                numbers, step = program.gathered_rows[op.d : op.d + op.b], pitches[op.tensor]
            first, last = op.a + numbers * step, op.a + numbers * step + op.c - 1
            if op.op.name != "GATHER" and step == op.c:  # Rows without a gap are one run.
                first, last = first[:1], last[-1:]
            bursts += int((last // burst - first // burst + 1).sum())
    assert run.dram.read_bursts + run.dram.write_bursts == bursts
    found = run.dram.row_hits + run.dram.activations
    # Commands of a controller also open a row a second time, for a refresh in between.
    assert found == bursts if machine.hbm.detail == "bursts" else found >= bursts


@settings(max_examples=150)
@given(programs(), banked_machines())
def test_the_pins_are_never_faster_than_they_are(program, machine):
    """Writes that are done while they wait fill the queues at most."""
    run = compiled.schedule(program, machine)
    hbm = machine.hbm
    moved_bytes = hbm.dram.shape.burst * (run.dram.read_bursts + run.dram.write_bursts)
    opened = hbm.dram.shape.pseudo_channels * hbm.dram.shape.ranks * hbm.dram.shape.bank_groups * 4
    waiting = hbm.channels * (hbm.controller.write_window + opened) * hbm.dram.shape.burst
    # Ticks are a ratio of whole numbers to cycles, exact for the clocks drawn here.
    most = machine.hbm_bytes_per_cycle * run.cycles + waiting
    assert moved_bytes <= most * (1 + 2**-40)


@of_both_details
def test_flat_and_banked_agree_on_long_streams(detail):
    """Within what refreshes, with closing and opening the rows around them, and misses cost."""
    banked = machine_with(mapping=MAPPINGS[1], detail=detail)
    flat = machine_of(
        hbm_bytes_per_cycle=banked.hbm_bytes_per_cycle,
        channels=banked.hbm.channels,
        interleave_bytes=32,
    )
    item = [load(1 + i % 8, i * 2**14, 2**14) for i in range(64)]
    t = DEVICE.timing
    ratio = run_of(item, banked).cycles / run_of(item, flat).cycles
    assert 1 / (1 - t.t_rfc / t.t_refi) * 0.99 <= ratio
    assert ratio <= 1 / (1 - (t.t_rfc + 3 * t.t_rc) / t.t_refi)
