"""What a collective costs on a system: the fastest of the ways that its library has."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from accelsim.collectives.algorithms import ring
from accelsim.collectives.fabric import Fabric, Link, Route
from accelsim.collectives.hierarchical import rounds_in_two_levels
from accelsim.collectives.messages import SWITCH, Message, Round, Rounds
from accelsim.collectives.registry import ALGORITHMS
from accelsim.errors import WorkloadError
from accelsim.hardware.links import ProtocolSpec
from accelsim.hardware.system import SystemSpec
from accelsim.units import PICO
from accelsim.workload.collective import Collective


@dataclass(frozen=True, slots=True)
class CollectiveCost:
    """What a collective costs; all groups of the system have theirs at once."""

    algorithm: str
    protocol: str
    time_s: float
    rounds: int
    busiest_bytes: int
    """Bytes over the link that carries most, of one direction."""
    link_bytes: float
    """Bytes over all links that are of one group."""
    energy_j: float
    """Of these links."""
    read_bytes: int
    """Bytes that the busiest device reads from its memory."""
    written_bytes: int
    """Bytes that it writes there."""

    @property
    def recipe(self) -> str:
        """The algorithm and the protocol, as recipes are written."""
        return f"{self.algorithm}(protocol={self.protocol})"


def collective_cost(collective: Collective, system: SystemSpec) -> CollectiveCost:
    """Return the cost of the fastest way; raises WorkloadError where there is none.

    A group of one device has nothing to do.
    """
    if collective.devices == 1:
        return CollectiveCost("none", "none", 0.0, 0, 0, 0.0, 0.0, 0, 0)
    _check(collective, system)
    return _fastest(
        collective,
        Fabric(tuple(system.links.values()), tuple(system.links)),
        system.devices,
    )


def _check(collective: Collective, system: SystemSpec) -> None:
    needed = (collective.devices - 1) * collective.stride + 1
    if not system.links:
        raise WorkloadError(
            f"{collective.name}: found {collective.devices} devices on system {system.name}, which "
            f"has no links, allowed: 1"
        )
    if needed > system.devices:
        raise WorkloadError(
            f"{collective.name}: found groups of {collective.devices} devices, each "
            f"{collective.stride} from the next, on system {system.name}, allowed: groups within "
            f"its {system.devices} devices"
        )


@lru_cache(maxsize=4096)
def _fastest(collective: Collective, fabric: Fabric, devices: int) -> CollectiveCost:
    """Return the cost of the fastest way; what was asked before is kept."""
    found = list(ways_of(collective, fabric, devices))
    if not found:
        raise WorkloadError(
            f"{collective.name}: found no {collective.kind} among {collective.devices} devices "
            f"over {' and '.join(fabric.names)}, allowed: what an algorithm of its protocols can do"
        )
    return min(found, key=lambda each: each.time_s)


def ways_of(collective: Collective, fabric: Fabric, devices: int) -> Iterator[CollectiveCost]:
    """Yield the cost of each algorithm with each protocol that carries it."""
    used = [fabric.levels[each] for each in _levels_of(collective, fabric)]
    for name in (each.name for each in used[0].protocols):
        if not all(each.protocol(name) for each in used):
            continue
        protocols = [each.protocol(name) for each in fabric.levels]
        for label, rounds in _rounds_of(collective, fabric, protocols):
            yield _Traffic(collective, fabric, devices, rounds, protocols).cost(label, name)


def _levels_of(collective: Collective, fabric: Fabric) -> list[int]:
    """Return the levels whose links a group needs."""
    members = [each * collective.stride for each in range(collective.devices)]
    return sorted({fabric.route(0, each).level for each in members[1:]})


Protocols = list[ProtocolSpec | None]
"""Of each level, where it knows the protocol."""


def _rounds_of(
    collective: Collective, fabric: Fabric, protocols: Protocols
) -> Iterator[tuple[str, Rounds]]:
    count, size_bytes = collective.devices, collective.size_bytes
    levels = _levels_of(collective, fabric)
    carried = [set(each.carries) if each else set() for each in protocols]
    flat = set.intersection(*(carried[each] for each in levels))
    for name, algorithm in ALGORITHMS.items():
        has_switch = levels == [0] and fabric.levels[0].topology == "switch"
        is_able = algorithm.takes(count) and (has_switch or not algorithm.needs_switch)
        if name in flat and is_able and collective.kind in algorithm.collectives:
            yield name, algorithm.collectives[collective.kind](count, size_bytes)
    within = fabric.members_of_a_node(collective.stride, count)
    if levels != [0, 1] or not 1 < within < count:
        return
    if ring.ALGORITHM.name in flat and collective.kind in ring.BY_ALL_PORTS:
        yield "rings", ring.BY_ALL_PORTS[collective.kind](count, size_bytes, within)
    if collective.kind == "all_reduce":
        for inner in (each for each in ALGORITHMS.values() if each.name in carried[0]):
            for outer in (each for each in ALGORITHMS.values() if each.name in carried[1]):
                rounds = rounds_in_two_levels(inner, outer, count, within, size_bytes)
                if rounds:
                    yield f"{inner.name} x {outer.name}", rounds


@dataclass(frozen=True, slots=True)
class _Traffic:
    """What the messages of all groups do to the links."""

    collective: Collective
    fabric: Fabric
    devices: int
    rounds: Rounds
    protocols: Protocols
    _routes: dict[tuple[int, int], Route] = field(default_factory=dict)
    """Ways that were found."""

    def cost(self, algorithm: str, protocol: str) -> CollectiveCost:
        routed = [self._routed(one) for one in self.rounds.rounds]
        loads = [_loads(one) for one in routed]
        messages = [pair for one in routed for pair in one]
        total = _loads(messages)
        hop_bytes = [each.num_bytes * way.hops for each, way in messages]
        energies = (
            size * self.fabric.levels[way.level].energy.value
            for size, (_, way) in zip(hop_bytes, messages, strict=True)
        )
        read_bytes, written_bytes = self._moved(messages)
        groups = len(self._firsts)
        return CollectiveCost(
            algorithm=algorithm,
            protocol=protocol,
            time_s=self._time_s(routed, loads, total),
            rounds=len(routed),
            busiest_bytes=max(total.values(), default=0),
            link_bytes=sum(hop_bytes) / groups,
            energy_j=sum(energies) * PICO / groups,
            read_bytes=read_bytes,
            written_bytes=written_bytes,
        )

    @property
    def _firsts(self) -> list[int]:
        """First devices of all groups that the system has room for."""
        stride, members = self.collective.stride, self.collective.devices
        beyond = (members - 1) * stride
        return [
            first + offset
            for first in range(0, self.devices, stride * members)
            for offset in range(stride)
            if first + offset + beyond < self.devices
        ]

    def _routed(self, one: Round) -> list[tuple[Message, Route]]:
        """Return the messages of all groups with their ways, from device to device."""
        stride, routes = self.collective.stride, self._routes

        def device(first: int, member: int) -> int:
            return SWITCH if member == SWITCH else first + member * stride

        found = list[tuple[Message, Route]]()
        for first in self._firsts:
            for each in one:
                ends = device(first, each.source), device(first, each.target)
                if ends not in routes:
                    routes[ends] = self.fabric.route(*ends)
                moved = Message(*ends, each.begin, each.end, each.adds, each.into)
                found.append((moved, routes[ends]))
        return found

    def _time_s(
        self,
        routed: list[list[tuple[Message, Route]]],
        loads: list[Counter[Link]],
        total: Counter[Link],
    ) -> float:
        starts = [self._protocol(way.level).start.value for one in routed for _, way in one]
        latency_s = self._latency_s(routed)
        if self.rounds.is_pipelined:
            moving_s = self._moving_s(total, [pair for one in routed for pair in one])
        else:
            moving_s = sum(map(self._moving_s, loads, routed))
        rate = self.fabric.levels[0].copy_bandwidth
        copying_s = self.rounds.copied_bytes / rate.value if rate else 0.0
        return max(starts, default=self._start_s()) + latency_s + moving_s + copying_s

    def _start_s(self) -> float:
        """Return the start where there is nothing to send."""
        return max(each.start.value for each in self.protocols if each)

    def _latency_s(self, routed: list[list[tuple[Message, Route]]]) -> float:
        """Return the latency of the longest chain of messages that wait for each other.

        What a device sends in a round waits for what it got in those before. So a ring with few
        slow links waits for them as often as a message passes one, not in each round.
        """
        ready_s: dict[int, float] = {}
        for one in routed:
            sent_s = self._sending_s(one)
            after_s = dict(ready_s)
            for each, way in one:
                step_s = self._protocol(way.level).step.value * max(1.0, way.hops)
                there_s = ready_s.get(each.source, 0.0) + sent_s.get(each.source, 0.0) + step_s
                after_s[each.target] = max(after_s.get(each.target, 0.0), there_s)
            ready_s = after_s
        return max(ready_s.values(), default=0.0)

    def _sending_s(self, one: list[tuple[Message, Route]]) -> dict[int, float]:
        """Return what all messages of a round take each device that sends some."""
        sent_s: dict[int, float] = {}
        for each, way in one:
            cost = self._protocol(way.level).message
            if cost and each.source != SWITCH:
                sent_s[each.source] = sent_s.get(each.source, 0.0) + cost.value
        return sent_s

    def _moving_s(self, load: Counter[Link], messages: list[tuple[Message, Route]]) -> float:
        """Return the time of the link that takes longest, or of the message that does."""
        links_s = (size / self._rate(level) for (level, _), size in load.items())
        bounds = (
            each.num_bytes / limit.value
            for each, way in messages
            if (limit := self._protocol(way.level).message_bandwidth)
        )
        return max(max(links_s, default=0.0), max(bounds, default=0.0))

    def _rate(self, level: int) -> float:
        return self.fabric.levels[level].bandwidth.value * self._protocol(level).share.value

    def _protocol(self, level: int) -> ProtocolSpec:
        found = self.protocols[level]
        if found is None:
            raise ValueError(f"found no protocol for {self.fabric.names[level]}")
        return found

    def _moved(self, messages: list[tuple[Message, Route]]) -> tuple[int, int]:
        """Return what the busiest device reads and writes; what it adds to is read, too."""
        read: Counter[int] = Counter()
        written: Counter[int] = Counter()
        for each, _ in messages:
            read[each.source] += each.num_bytes
            written[each.target] += each.num_bytes
            if each.adds:
                read[each.target] += each.num_bytes
        copied = self.rounds.copied_bytes
        return _most(read) + copied, _most(written) + copied


def _most(by_device: Mapping[int, int]) -> int:
    return max((size for device, size in by_device.items() if device != SWITCH), default=0)


def _loads(one: list[tuple[Message, Route]]) -> Counter[Link]:
    """Return the bytes of each link."""
    loads: Counter[Link] = Counter()
    for each, way in one:
        for link in way.links:
            loads[link] += each.num_bytes
    return loads
