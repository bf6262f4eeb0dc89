"""What a run has done up to some moment: differences between moments are what a segment took."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accelsim.engine.memory.door import Cached, Memory
from accelsim.engine.memory.hbm.banked import BankedHbm, counted
from accelsim.engine.memory.l2 import dirty_lines
from accelsim.hardware.hbm import BankedHbmSpec
from accelsim.hardware.machine import MachineSpec
from accelsim.program.activity import DramCommands, MemoryTraffic
from accelsim.program.long import AnyProgram

Amounts = npt.NDArray[np.float64]
_DRAM = ("activates", "read_bursts", "write_bursts", "row_hits")
_CACHE = ("fetched_bytes", "written_back_bytes", "read_bytes", "write_bytes", "hit_bytes")


class Done(NamedTuple):
    """Work that is done at some moment, and what it took."""

    items: float
    """An item counts by the share of its ops that have ended."""
    ops: float
    amounts: Amounts
    """Cycles, then what `memory_amounts` has."""


def memory_amounts(memory: Memory, machine: MachineSpec, *, is_over: bool = False) -> Amounts:
    """Return what a memory has moved: bytes of a cache, bytes by tensor, DRAM commands.

    What is dirty in the cache counts as written: it will be, once. is_over: whether what waits in
    the controllers of a banked memory is written now.
    """
    amounts: list[Any] = []
    device, dirty = memory.hbm.device, 0
    if isinstance(memory, Cached):
        addresses, sizes = dirty_lines(memory.cache)
        counts = memory.cache.state[0]
        amounts += [float(counts[name]) for name in _CACHE]
        dirty = int(sizes.sum())
        amounts[1] += float(dirty)
        tensors = np.searchsorted(memory.tensor_begins, addresses, side="right") - 1
        moved = memory.tensor_bytes.astype(np.float64)
        np.add.at(moved, np.maximum(tensors, 0), sizes)
        amounts += moved.tolist()
    if isinstance(device, BankedHbm) and isinstance(machine.hbm, BankedHbmSpec):
        channels = counted(device) if is_over else device.state.channels
        amounts += [float(channels[name].sum()) for name in _DRAM]
        amounts[_DRAM.index("write_bursts") - len(_DRAM)] += dirty // machine.hbm.dram.shape.burst
    return np.array(amounts)


def traffic_from(amounts: Amounts, num_tensors: int) -> MemoryTraffic:
    """Return the traffic that amounts of a memory with a cache stand for."""
    fetched, written, read, write, hit = (round(each) for each in amounts[: len(_CACHE)].tolist())
    by_tensor = amounts[len(_CACHE) : len(_CACHE) + num_tensors]
    return MemoryTraffic(
        hbm_read_bytes=fetched,
        hbm_write_bytes=written,
        hbm_bytes_by_tensor=tuple(round(each) for each in by_tensor.tolist()),
        l2_read_bytes=read,
        l2_write_bytes=write,
        l2_hit_bytes=min(hit, read),
    )


def at_least_compulsory(traffic: MemoryTraffic, program: AnyProgram) -> MemoryTraffic:
    """Return the traffic with at least what no run can do without, tensor by tensor.

    A sample may have missed the few moments in which data come on chip for a long time.
    """
    by_tensor, read, written = list(traffic.hbm_bytes_by_tensor), 0, 0
    for number, tensor in enumerate(program.tensors):
        lacking = tensor.needed_bytes - by_tensor[number]
        if lacking > 0 and tensor.role != "intermediate":
            by_tensor[number] += lacking
            read += lacking * (tensor.role == "input")
            written += lacking * (tensor.role == "output")
    return replace(
        traffic,
        hbm_read_bytes=traffic.hbm_read_bytes + read,
        hbm_write_bytes=traffic.hbm_write_bytes + written,
        hbm_bytes_by_tensor=tuple(by_tensor),
    )


def scaled_traffic(traffic: MemoryTraffic, factor: float) -> MemoryTraffic:
    """Return the traffic with so many times the bytes over the HBM."""
    return replace(
        traffic,
        hbm_read_bytes=round(factor * traffic.hbm_read_bytes),
        hbm_write_bytes=round(factor * traffic.hbm_write_bytes),
    )


def scaled_commands(commands: DramCommands, factor: float) -> DramCommands:
    """Return so many times the commands that move bytes."""
    return replace(
        commands,
        activations=round(factor * commands.activations),
        read_bursts=round(factor * commands.read_bursts),
        write_bursts=round(factor * commands.write_bursts),
        row_hits=round(factor * commands.row_hits),
    )


def commands_from(amounts: Amounts, refreshes: int) -> DramCommands:
    """Return the commands that amounts of a banked memory stand for."""
    activations, reads, writes, hits = (round(each) for each in amounts[-len(_DRAM) :].tolist())
    return DramCommands(
        activations=activations,
        read_bursts=reads,
        write_bursts=writes,
        row_hits=hits,
        refreshes=refreshes,
    )
