"""Bursts placed by bits of words are placed where sets of slots place them, to the tick."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.config.loader import load_spec
from accelsim.engine.memory.hbm.bursts.rules import rules_of, tick_seconds
from accelsim.engine.memory.hbm.parameters import parameters_of
from accelsim.engine.memory.hbm.stream import Accesses, stream_seconds
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.mapping import digits_of, field_sizes
from tests.oracle.dram_addresses import place_of
from tests.oracle.dram_placement import Channel
from tests.oracle.placed_transfers import placed_by_both, real_tick
from tests.strategies.memories import MAPPINGS, banked_hbm, banked_hbms, device_of

POLICY = {"is_per_bank_refresh": 0, "is_closed_page": 0}
CONTROLLERS = [
    ControllerSpec(window=window, write_window=writes, drain_above=above, drain_below=below)
    for window, writes, above, below in ((1, 1, 0, 0), (5, 9, 1, 1), (64, 64, 0.8, 0.2))
]
waits = st.sampled_from([0, 0, 1, 7, 60, 300, 5000, 10**6])
"""Cycles; a ring lasts 4096 bursts, 8192 cycles of most of these devices."""
transfers = st.tuples(
    waits,
    st.integers(0, 2**14),
    st.integers(1, 5),
    st.sampled_from([1, 16, 40, 300]),
    st.sampled_from([16, 64, 100, 1000]),
    st.booleans(),
)
"""As `placed_by_both` takes them."""


@settings(max_examples=400)
@given(
    banked_hbms(detail="bursts", hashed=()),
    st.lists(transfers, min_size=1, max_size=30),
    st.sampled_from([1e9, 0.7e9, 1.85e9]),
)
def test_no_transfer_differs_by_a_cycle(hbm, some, clock_hz):
    placed_by_both(hbm, some, clock_hz)


@pytest.mark.parametrize("page", ["open", "closed"])
@pytest.mark.parametrize("refresh", ["all_bank", "per_bank"])
@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda spec: f"window-{spec.window}")
def test_no_long_run_differs_by_a_cycle(page, refresh, controller):
    """Several times as many bursts as a calendar holds, on few banks that fall far behind."""
    rng = np.random.default_rng(0)
    device = device_of({"bank_groups": 4, "rows": 64}, {"t_faw": 40, "t_ccd_l": 7})
    hbm = banked_hbm(
        device=device, mapping=MAPPINGS[1], page=page, refresh=refresh, controller=controller
    )
    some = [
        (wait, address, rows, row_bytes, 272, is_write)
        for wait, address, rows, row_bytes, is_write in zip(
            rng.choice([0, 5, 200, 9000], 150, p=[0.5, 0.3, 0.15, 0.05]).tolist(),
            rng.integers(0, 2**16, 150).tolist(),
            rng.integers(1, 30, 150).tolist(),
            rng.choice([16, 64, 500], 150).tolist(),
            (rng.random(150) < 0.4).tolist(),
            strict=True,
        )
    ]
    placed_by_both(hbm, some)


def streams():
    """Yield numbers of bursts and directions: in order, at random, few rows over and over."""
    rng = np.random.default_rng(0)
    for size, space in ((1500, 10**6), (1500, 10**4), (600, 40)):
        writes = (np.arange(size) % 3 == 2).astype(np.int64)
        yield np.arange(size) % space, 0 * writes
        yield np.arange(size) % space, writes
        yield rng.integers(0, space, size), writes
        yield rng.integers(0, space, size), 1 + 0 * writes


@pytest.mark.parametrize("controller", CONTROLLERS, ids=lambda spec: f"window-{spec.window}")
@pytest.mark.parametrize("mapping", MAPPINGS[:2], ids=["columns-low", "groups-low"])
@pytest.mark.parametrize("name", ["hbm2", "hbm2-legacy", "hbm2e", "hbm3", "lpddr5"])
def test_no_stream_differs_by_a_tick(name, mapping, controller):
    device = load_spec(DramSpec, name, kind="memory")
    shape = device.shape
    parameters = parameters_of(shape, device.timing, controller, POLICY)
    rules = rules_of(parameters)
    digits = digits_of(mapping, field_sizes(shape, 1))
    for bursts, writes in streams():
        channel, now, last = Channel(rules), 0, 0
        for burst, is_write in zip(bursts.tolist(), writes.tolist(), strict=True):
            _, *place = place_of(burst, digits, shape)
            last = max(last, channel.serve(*place, is_write, now))
            now = max(now, (channel.writes if is_write else channel.reads).room_at)
        accesses = Accesses(bursts * shape.burst, writes, 1, mapping)
        seconds = stream_seconds(accesses, device, controller, 2**20)
        assert seconds == real_tick(rules, last) * tick_seconds(parameters, device.timing)
