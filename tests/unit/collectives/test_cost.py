"""Times, choices and joules of collectives on the links of systems."""

import pytest

from accelsim.collectives.cost import collective_cost, ways_of
from accelsim.collectives.fabric import Fabric
from accelsim.errors import ConfigError, WorkloadError
from accelsim.hardware.links import LinkSpec, ProtocolSpec
from accelsim.hardware.sourced import Sourced
from accelsim.loading import load_system
from accelsim.workload.collective import Collective

EVERY = ("ring", "tree", "halving_doubling", "one_shot", "two_shot", "in_switch", "direct")


def sourced(value):
    return Sourced(value=value, source="test")


def level(topology="switch", joins=8, carries=EVERY, **more):
    protocol = ProtocolSpec(
        name="plain",
        carries=carries,
        start=sourced(1e-5),
        step=sourced(1e-6),
        share=sourced(0.5),
        **more,
    )
    return LinkSpec(
        topology=topology,
        joins=joins,
        bandwidth=sourced(2e9),
        energy=sourced(10.0),
        protocols=(protocol,),
    )


def ways(kind, size_bytes, *levels, devices=None, stride=1):
    count = 1
    for each in levels:
        count *= each.joins
    group = devices or count
    collective = Collective(kind, "test", size_bytes, group, stride)
    fabric = Fabric(levels, tuple(f"level {number}" for number in range(len(levels))))
    return {each.algorithm: each for each in ways_of(collective, fabric, count)}


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 16, 64])
def test_times_at_a_switch_are_start_and_steps_and_bytes_of_a_port(count):
    size, rate = 1000 * count, 1e9
    found = ways("all_reduce", size, level(joins=count))
    seconds = {
        "ring": 2 * (count - 1) * (1e-6 + 1000 / rate),
        "tree": 2 * (count.bit_length() - 1) * 1e-6
        + {2: 1.0, 3: 1.5}.get(count, 2.0) * size / rate,
        "one_shot": 1e-6 + (count - 1) * size / rate,
        "two_shot": 2e-6 + 2 * (count - 1) * 1000 / rate,
        "in_switch": 4e-6 + (size + 1000) / rate,
    }
    if count & (count - 1) == 0:
        seconds["halving_doubling"] = (
            2 * (count.bit_length() - 1) * 1e-6 + 2 * (count - 1) * 1000 / rate
        )
    assert {name: each.time_s for name, each in found.items()} == {
        name: pytest.approx(1e-5 + value, rel=1e-12) for name, value in seconds.items()
    }


def test_in_a_mesh_each_two_have_a_link_of_their_own():
    found = ways("all_reduce", 8000, level("mesh"))
    assert found["one_shot"].busiest_bytes == 8000
    assert found["two_shot"].busiest_bytes == 2000
    assert found["ring"].busiest_bytes == 14000
    assert "in_switch" not in found


@pytest.mark.parametrize("count", [4, 8, 16, 64])
def test_an_all_to_all_on_a_ring_loads_its_links_with_an_eighth_of_all(count):
    """n devices and m bytes: n * n pairs, n / 4 links each, over 2 n links: m n / 8."""
    size = count * 64
    (found,) = ways("all_to_all", size, level("ring", count)).values()
    assert found.busiest_bytes == size * count // 8
    assert found.link_bytes == 2 * count * size * count // 8


def test_a_ring_of_messages_needs_no_more_than_a_ring_of_links():
    switch, ring = (ways("all_reduce", 8000, level(each))["ring"] for each in ("switch", "ring"))
    assert ring.time_s == switch.time_s
    assert ring.energy_j == switch.energy_j


@pytest.mark.parametrize("count", [2, 8])
def test_joules_are_bytes_over_links(count):
    found = ways("all_reduce", 800, level(joins=count))
    assert found["ring"].energy_j == pytest.approx(2 * (count - 1) * 800 * 10e-12)
    assert found["in_switch"].energy_j == pytest.approx((count + 1) * 800 * 10e-12)


def test_a_message_has_a_rate_and_a_cost_of_its_own():
    slow = level(carries=("direct",), message=sourced(2e-6), message_bandwidth=sourced(1e6))
    (found,) = ways("all_to_all", 8000, slow).values()
    assert found.time_s == pytest.approx(1e-5 + 1e-6 + 7 * 2e-6 + 1e-3)


def test_a_gather_copies_the_own_part():
    copied = level().model_copy(update={"copy_bandwidth": sourced(1e8)})
    plain, slower = (ways("all_gather", 8000, each)["ring"] for each in (level(), copied))
    assert slower.time_s - plain.time_s == pytest.approx(1000 / 1e8)


def test_groups_side_by_side_are_as_fast_as_one_at_a_switch_and_cost_each_as_much():
    one = ways("all_reduce", 8000, level(joins=2))["ring"]
    four = ways("all_reduce", 8000, level(joins=8), devices=2)["ring"]
    apart = ways("all_reduce", 8000, level(joins=8), devices=2, stride=4)["ring"]
    assert one.time_s == four.time_s == apart.time_s
    assert one.energy_j == pytest.approx(four.energy_j) == pytest.approx(apart.energy_j)


def test_groups_that_do_not_fill_the_system_are_as_many_as_have_room():
    three = ways("all_reduce", 9000, level(joins=3))["ring"]
    for stride in (1, 2, 3):
        found = ways("all_reduce", 9000, level(joins=8), devices=3, stride=stride)["ring"]
        assert (found.time_s, found.energy_j) == (three.time_s, pytest.approx(three.energy_j))


def test_messages_of_several_groups_share_the_links_of_a_ring():
    """Of six devices each second one is in one group: messages of both pass the same links."""
    alone = ways("all_reduce", 9000, level("ring", joins=3))["ring"]
    both = ways("all_reduce", 9000, level("ring", joins=6), devices=3, stride=2)["ring"]
    assert both.busiest_bytes == 2 * alone.busiest_bytes


def test_between_nodes_the_slower_links_carry_a_part_of_each_device():
    inner, outer = level(joins=8), level(joins=4)
    found = ways("all_reduce", 32000, inner, outer)
    both = found["ring x ring"]
    assert both.rounds == 7 + 6 + 7
    assert both.time_s < found["ring"].time_s
    within = ways("all_reduce", 32000, inner, outer, devices=8)
    assert set(within) == {"ring", "tree", "halving_doubling", "one_shot", "two_shot", "in_switch"}
    across = ways("all_reduce", 32000, inner, outer, devices=4, stride=8)
    assert across["ring"].rounds == 6


def test_a_ring_waits_for_slow_links_as_often_as_a_message_passes_one():
    """NCCL: (steps - between) x step + between x step of the network (src/graph/tuning.cc)."""
    outer = level(joins=4)
    slow = outer.protocols[0].model_copy(update={"step": sourced(1e-4)})
    outer = outer.model_copy(update={"protocols": (slow,), "bandwidth": sourced(2e12)})
    inner = level(joins=8).model_copy(update={"bandwidth": sourced(2e12)})
    found = ways("all_gather", 32, inner, outer)["ring"]
    most, least = ((28 - more) * 1e-6 + (3 + more) * 1e-4 for more in (1, 0))
    assert least - 1e-9 <= found.time_s - 1e-5 <= most + 1e-9


def test_a_collective_over_two_levels_has_one_protocol():
    other = level(joins=4)
    renamed = other.protocols[0].model_copy(update={"name": "other"})
    other = other.model_copy(update={"protocols": (renamed,)})
    assert ways("all_reduce", 32, level(), other) == {}


def test_the_fastest_is_chosen_and_named():
    system = load_system("h200-x8")
    named = {
        size: collective_cost(Collective("all_reduce", "sum", size, 8), system).recipe
        for size in (16 << 10, 16 << 20, 1 << 30)
    }
    assert named == {
        16 << 10: "ring(protocol=ll)",
        16 << 20: "ring(protocol=simple)",
        1 << 30: "in_switch(protocol=nvls)",
    }


def test_no_time_falls_with_the_bytes():
    for name in ("h200-x8", "h200-x32", "ascend-910b-x2", "ascend-910b-x8"):
        system = load_system(name)
        for kind in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast"):
            times = [
                collective_cost(Collective(kind, kind, 1 << each, system.devices), system).time_s
                for each in range(0, 31, 6)
            ]
            assert times == sorted(times)


def test_one_device_has_nothing_to_send():
    cost = collective_cost(Collective("all_reduce", "sum", 100, 1), load_system("h200"))
    assert (cost.time_s, cost.link_bytes, cost.energy_j) == (0, 0, 0)


@pytest.mark.parametrize(
    ("system", "group", "message"),
    [
        ("h200", (2, 1), "sum: found 2 devices on system h200, which has no links, allowed: 1"),
        (
            "h200-x8",
            (16, 1),
            "sum: found groups of 16 devices, each 1 from the next, on system h200-x8, "
            "allowed: groups within its 8 devices",
        ),
        (
            "h200-x8",
            (3, 4),
            "sum: found groups of 3 devices, each 4 from the next, on system h200-x8, "
            "allowed: groups within its 8 devices",
        ),
    ],
)
def test_groups_that_no_link_joins_are_refused(system, group, message):
    with pytest.raises(WorkloadError) as caught:
        collective_cost(Collective("all_reduce", "sum", 64, *group), load_system(system))
    assert str(caught.value) == message


def test_a_collective_that_no_protocol_carries_is_refused():
    system = load_system("h200-x8")
    spec = system.links["NVLink"]
    only = tuple(each for each in spec.protocols if each.name == "nvls")
    links = {"NVLink": spec.model_copy(update={"protocols": only})}
    with pytest.raises(WorkloadError) as caught:
        collective_cost(
            Collective("all_gather", "parts", 64, 8), system.model_copy(update={"links": links})
        )
    assert str(caught.value) == (
        "parts: found no all_gather among 8 devices over NVLink, allowed: what an algorithm of its "
        "protocols can do"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size_bytes": -1, "devices": 2}, "x: size_bytes: found -1, allowed: 0 or more"),
        ({"size_bytes": 1, "devices": 0}, "x: devices: found 0, allowed: 1 or more"),
        (
            {"size_bytes": 1, "devices": 2, "stride": 0},
            "x: stride: found 0, allowed: 1 or more",
        ),
    ],
)
def test_collectives_that_cannot_be_are_refused(fields, message):
    with pytest.raises(WorkloadError) as caught:
        Collective("all_reduce", "x", **fields)
    assert str(caught.value) == message


def test_a_send_is_between_two():
    with pytest.raises(WorkloadError, match="x: found a send among 3 devices, allowed: 2"):
        Collective("send", "x", 8, 3)
    cost = collective_cost(Collective("send", "x", 1 << 20, 2, 8), load_system("h200-x32"))
    assert cost.algorithm == "direct"
    assert cost.busiest_bytes == 1 << 20


def test_as_many_devices_as_links_join():
    with pytest.raises(ConfigError) as caught:
        load_system("h200-x8", {"devices": 4})
    assert (
        "found devices = 4 with links that join 8 (8 by NVLink), allowed: as many devices as links "
        "join"
    ) in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_system("h200", {"devices": 2})
    assert (
        "found devices = 2 with links that join 1, allowed: as many devices as links join"
    ) in str(caught.value)


def test_protocols_of_a_link_have_names_of_their_own():
    one = level().protocols[0]
    with pytest.raises(ValueError, match="found several protocols plain, allowed: one of a name"):
        LinkSpec.model_validate({**dict(level()), "protocols": (one, one)})
