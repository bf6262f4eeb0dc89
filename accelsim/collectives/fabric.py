"""Which links a message takes: routes between the devices of a system."""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from accelsim.collectives.messages import SWITCH
from accelsim.hardware.links import LinkSpec

Link = tuple[int, Hashable]
"""The level of a link, and which one of the level."""


class Route(NamedTuple):
    """The way from one device to another."""

    level: int
    """Of the links."""
    links: tuple[Link, ...]
    """Each carries the whole message."""
    hops: float
    """Links that count for latency and energy; a port to a switch and one from it are one."""


@dataclass(frozen=True, slots=True)
class Fabric:
    """The links of a system, level by level."""

    levels: tuple[LinkSpec, ...]
    names: tuple[str, ...]
    """Of the levels."""

    def route(self, source: int, target: int) -> Route:
        """Return the way between two devices, of which one may be the switch of the other."""
        if SWITCH in (source, target):
            port = ("out", source) if target == SWITCH else ("in", target)
            return Route(0, ((0, port),), 0.5)
        level, low, high = self._between(source, target)
        links, hops = _ROUTES[self.levels[level].topology](
            low, high, self.levels[level].joins, (source, target)
        )
        return Route(level, tuple((level, each) for each in links), hops)

    def members_of_a_node(self, stride: int, count: int) -> int:
        """Return how many of a group lie within the first level; all, or as many in each node."""
        within = max(1, self.levels[0].joins // stride)
        return count if within >= count or count % within else within

    def _between(self, source: int, target: int) -> tuple[int, int, int]:
        """Return the level at which two devices meet, and the places there of their groups."""
        for level, spec in enumerate(self.levels):
            size = prod(each.joins for each in self.levels[:level])
            low, high = source // size, target // size
            if low // spec.joins == high // spec.joins:
                return level, low, high
        raise ValueError(f"found devices {source} and {target}, which no link joins")


def _of_switch(
    low: int, high: int, joins: int, devices: tuple[int, int]
) -> tuple[list[Hashable], int]:
    """Return the ports of both devices: each has its own, at every level."""
    source, target = devices
    return [("out", source), ("in", target)], 1


def _of_mesh(
    low: int, high: int, joins: int, devices: tuple[int, int]
) -> tuple[list[Hashable], int]:
    """Return the link between two."""
    return [(low, high)], 1


def _of_ring(
    low: int, high: int, joins: int, devices: tuple[int, int]
) -> tuple[list[Hashable], int]:
    """Return the links of the shorter way round; of two equal ones even devices go up."""
    base, up = low - low % joins, (high - low) % joins
    is_up = up < joins - up or (2 * up == joins and low % 2 == 0)
    step = 1 if is_up else -1
    return list(_walk(low - base, step, up if is_up else joins - up, joins, base)), min(
        up, joins - up
    )


def _walk(at: int, step: int, hops: int, joins: int, base: int) -> Iterator[Hashable]:
    for _ in range(hops):
        yield (base + at, step)
        at = (at + step) % joins


_ROUTES = {"switch": _of_switch, "mesh": _of_mesh, "ring": _of_ring}
