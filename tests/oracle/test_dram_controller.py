"""The controller that skips from event to event gives what one gives that visits every tick."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from accelsim.engine.memory.hbm.commands.device import new_dram
from accelsim.engine.memory.hbm.parameters import parameters_of, ticks_per_clock
from accelsim.engine.memory.hbm.stream import Accesses, stream_seconds
from accelsim.hardware.dram import ControllerSpec
from accelsim.hardware.mapping import digits_of, field_sizes
from tests.oracle.dram_addresses import place_of
from tests.oracle.dram_controller import Burst, Controller
from tests.strategies.memories import MAPPINGS, device_of

ROOT = Path(__file__).parents[2]
POLICY = {"is_per_bank_refresh": 0, "is_closed_page": 0}
CONTROLLERS = [
    ControllerSpec(window=window, write_window=writes, max_row_hits=hits)
    for window, writes, hits in ((1, 1, 0), (4, 3, 0), (8, 8, 2), (16, 6, 16))
]
DEVICES = [
    device_of({"rows": 64, "channels": 1}),
    device_of(
        {"rows": 64, "channels": 1, "ranks": 3}, {"activate_width": 1.5, "precharge_width": 0.5}
    ),
]


def streams():
    """Yield bursts and directions: in order, at random, and few rows over and over."""
    rng = np.random.default_rng(0)
    for size, space in ((300, 2000), (250, 40), (200, 200)):
        writes = (rng.random(size) < 0.3).astype(np.int64)
        yield rng.integers(0, space, size), writes
        yield np.arange(size) % space, writes * (rng.random() < 0.5)


def differences():
    """Return every case in which the two do not agree, and how many agree."""
    found, agreed = [], 0
    for device in DEVICES:
        shape, timing = device.shape, device.timing
        for mapping in MAPPINGS[:2]:
            digits = digits_of(mapping, field_sizes(shape, 1))
            for controller in CONTROLLERS:
                for bursts, writes in streams():
                    accesses = Accesses(bursts * shape.burst, writes, 1, mapping)
                    seconds = stream_seconds(accesses, device, controller, 2**20, "commands")
                    ticks = round(seconds / timing.t_ck * ticks_per_clock(timing))
                    dram = new_dram(1, parameters_of(shape, timing, controller, POLICY), 1)
                    places = [place_of(int(burst), digits, shape)[1:] for burst in bursts]
                    stream = [
                        Burst(*place, bool(write))
                        for place, write in zip(places, writes, strict=True)
                    ]
                    expected = int(Controller(dram, stream).seconds())
                    agreed += ticks == expected
                    if ticks != expected:
                        found.append([mapping[-1], controller.window, len(bursts), ticks, expected])
    return {"differences": found, "agreed": agreed}


def test_no_stream_differs_by_a_tick():
    done = subprocess.run(
        [sys.executable, "-m", "tests.oracle.test_dram_controller"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"differences": [], "agreed": 96}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(differences()))
