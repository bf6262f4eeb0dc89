"""A stream of bursts on banked channels alone, as DRAM simulators run one."""

from dataclasses import dataclass

import numpy as np

from accelsim.engine.banked.device import new_dram, ticks_per_clock
from accelsim.engine.banked.hbm import (
    BankedHbm,
    Words,
    add_run,
    borrowed_banked_hbm,
    digit_table,
    serve_all,
)
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.mapping import digits_of, field_sizes
from accelsim.jit import jit


@dataclass(frozen=True, eq=False)
class Accesses:
    """Bursts in the order of arrival, all there from the beginning."""

    addresses: Words
    """First byte of each burst."""
    is_write: Words
    channels: int
    mapping: tuple[str, ...]
    """Parts of an address from the top, as `BankedHbmSpec.mapping`."""


def stream_seconds(accesses: Accesses, device: DramSpec, controller: ControllerSpec) -> float:
    """Return the time until all reads have returned and all writes have been accepted.

    Each channel takes its own accesses in order, as fast as its queues allow.
    """
    shape, timing = device.shape, device.timing
    digits = digits_of(accesses.mapping, field_sizes(shape, accesses.channels))
    table, run_bursts = digit_table(digits, shape, ())
    policy = {"is_per_bank_refresh": 0, "is_closed_page": 0}
    dram = new_dram(accesses.channels, shape, timing, controller, accesses.addresses.size, policy)
    hbm = BankedHbm(1, 1, shape.burst, run_bursts, table, dram)
    ticks = _serve(hbm, accesses.addresses // shape.burst, accesses.is_write)
    seconds: float = ticks * timing.t_ck / ticks_per_clock(timing)
    return seconds


@jit
def _serve(hbm, bursts, is_write):
    hbm = borrowed_banked_hbm(hbm)
    num_runs = 0
    for i in range(len(bursts)):
        num_runs = add_run(hbm, num_runs, bursts[i], bursts[i] + 1, is_write[i])
    return serve_all(hbm.dram, np.int64(0))
