"""Streams of single accesses on one kind of DRAM, against DRAMsim3 and Ramulator 2.1.

Both issue requests as fast as they are accepted. Each row is simulated with the timing, mapping and
queues of its own simulator: DRAMsim3 (Li et al., IEEE CAL 2020) has a transaction queue of 32 in
front of queues of 8 for every bank; Ramulator 2.1 (Luo et al., IEEE CAL 2023) one buffer of 32
reads and one of 32 writes for a channel.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveFloat

from accelsim.config.loader import load_spec
from accelsim.engine.memory.hbm.stream import Accesses, stream_seconds
from accelsim.errors import ConfigError
from accelsim.hardware.dram import ControllerSpec, DramSpec
from accelsim.hardware.hbm import Detail
from accelsim.validation.reference import Reference, Row

Size = Annotated[int, Field(gt=0, le=2**50)]
Numbers = npt.NDArray[np.int64]

_MIX = re.compile(r"mix([1-9])r([1-9])w_(seq|rand)")
_CODES = {"ro": "row", "ra": "rank", "bg": "bank_group", "ba": "bank", "ch": "channel"}
_CODES |= {"co": "column"}


class DramRow(Row):
    """A stream of requests of equal size, and the bandwidth that a simulator says it gets."""

    reference: Literal["DRAMsim3", "Ramulator2.1"]
    standard: Literal["HBM2", "HBM3"]
    channels: Annotated[int, Field(gt=0, le=1024)]
    mapping: str
    pattern: str
    requests: Annotated[int, Field(gt=0, le=2**22)]
    request_bytes: Size
    transaction_bytes: Size
    address_space_bytes: Size
    row_stride_bytes: Size
    window_per_channel: Size
    peak_GBps: PositiveFloat  # noqa: N815 - a column of the file
    achieved_GBps: PositiveFloat  # noqa: N815 - a column of the file


@dataclass(frozen=True)
class _Simulator:
    """What a simulator is given."""

    device: DramSpec
    controller: ControllerSpec
    mapping: tuple[str, ...]
    most_waiting: int
    """Reads of all channels that can wait at once."""


def achieved_bytes_per_s(row: DramRow, detail: Detail = "bursts") -> float:
    """Return the bandwidth of a stream, in bytes per second.

    Raises ConfigError for a mapping, pattern or standard that is not known.
    """
    simulator = _simulator_of(row)
    addresses, is_write = _requests(row)
    if row.transaction_bytes != simulator.device.shape.burst:
        raise _refused(
            f"transaction_bytes = {row.transaction_bytes}",
            f"{simulator.device.shape.burst}, a burst of {row.standard} in {row.reference}",
        )
    steps = row.transaction_bytes * np.arange(row.request_bytes // row.transaction_bytes)
    accesses = Accesses(
        addresses=(addresses[:, None] + steps).ravel(),
        is_write=np.repeat(is_write, steps.size),
        channels=row.channels,
        mapping=simulator.mapping,
    )
    seconds = stream_seconds(
        accesses, simulator.device, simulator.controller, simulator.most_waiting, detail
    )
    return row.requests * row.request_bytes / seconds


def _refused(found: str, allowed: str) -> ConfigError:
    return ConfigError([f"found {found}, allowed: {allowed}"])


def _simulator_of(row: DramRow) -> _Simulator:
    if row.reference == "DRAMsim3":
        if row.standard != "HBM2":
            raise _refused(f"standard {row.standard} for DRAMsim3", "HBM2, whose file is known")
        return _dramsim3(row)
    device = load_spec(DramSpec, row.standard.lower(), kind="memory")
    controller = ControllerSpec(window=32, write_window=32, max_row_hits=0)
    mapping = _RAMULATOR_MAPPINGS[_known_mapping(row)]
    return _Simulator(device, controller, mapping, _most_waiting(row, device))


def _dramsim3(row: DramRow) -> _Simulator:
    device = load_spec(DramSpec, "hbm2-legacy", kind="memory")
    controller = ControllerSpec(
        window=32 + 8 * device.shape.bank_groups * device.shape.banks,
        write_window=32,
        drain_above=1,
        drain_below=0,
        max_row_hits=4,
    )
    parts = re.findall("..", row.mapping)
    if sorted(parts) != sorted(_CODES) or "".join(parts) != row.mapping:
        raise _refused(f"mapping '{row.mapping}' for DRAMsim3", f"{', '.join(_CODES)} in any order")
    return _Simulator(
        device, controller, tuple(_CODES[part] for part in parts), _most_waiting(row, device)
    )


def _most_waiting(row: DramRow, device: DramSpec) -> int:
    """Return the reads that can wait: those on their way back also hold a place in the window."""
    timing = device.timing
    returning = (timing.t_cl + timing.burst) // timing.burst * device.shape.pseudo_channels
    return row.channels * max(1, row.window_per_channel - returning)


_RAMULATOR_MAPPINGS = {
    "robaracoch": ("row", "bank", "bank_group", "rank", "pseudo_channel", "column", "channel"),
    "interleaved": ("row", "bank", "rank", "column", "bank_group", "pseudo_channel", "channel"),
}


def _known_mapping(row: DramRow) -> str:
    if row.mapping not in _RAMULATOR_MAPPINGS:
        raise _refused(f"mapping '{row.mapping}' for Ramulator2.1", ", ".join(_RAMULATOR_MAPPINGS))
    return row.mapping


def _requests(row: DramRow) -> tuple[Numbers, Numbers]:
    """Return address and direction of every request."""
    number = np.arange(row.requests, dtype=np.int64)
    reads = np.zeros(row.requests, np.int64)
    if row.pattern == "seq":
        return number * row.request_bytes % row.address_space_bytes, reads
    if row.pattern == "rowconf":
        far = number * row.row_stride_bytes
        rounds = far // row.address_space_bytes
        return far % row.address_space_bytes + rounds * row.request_bytes, reads
    if row.pattern == "random":
        return _uniform(row), reads
    match = _MIX.fullmatch(row.pattern)
    if match is None:
        raise _refused(
            f"pattern '{row.pattern}'",
            "seq, rowconf, random, mix2r1w_seq, mix2r1w_rand, and other digits in these",
        )
    num_reads, num_writes = int(match[1]), int(match[2])
    writes = (number % (num_reads + num_writes) >= num_reads).astype(np.int64)
    if match[3] == "rand":
        return _uniform(row), writes
    written, read = np.cumsum(writes) - 1, np.cumsum(1 - writes) - 1
    half = row.address_space_bytes // 2
    addresses = np.where(writes, half + row.request_bytes * written, row.request_bytes * read)
    return addresses, writes


def _uniform(row: DramRow) -> Numbers:
    lines = row.address_space_bytes // row.request_bytes
    return np.random.default_rng(0).integers(0, lines, row.requests) * row.request_bytes


_GIGA = 1e9
_KINDS = {"seq": "sequential", "rowconf": "row conflicts", "random": "random"}

REFERENCE = Reference(
    name="dram",
    summary="bandwidth of request streams on HBM2 and HBM3, DRAMsim3 and Ramulator 2.1",
    row=DramRow,
    file="dram.csv",
    quantity="bandwidth_bytes_per_s",
    kind_of=lambda row: _KINDS.get(row.pattern, "mixed"),
    label_of=lambda row: (
        f"{row.reference} {row.standard} {row.channels} ch {row.mapping} {row.pattern}"
    ),
    value_of=lambda row: row.achieved_GBps * _GIGA,
    predict=achieved_bytes_per_s,
)
