"""The energy account obeys its laws: each action adds its cost, larger memories cost more."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.accounts.energy import energy_by_component
from accelsim.config.loader import load_spec
from accelsim.hardware.machine import MachineSpec
from accelsim.hardware.technology import TechnologySpec
from accelsim.numerics.formats import Format
from accelsim.program.activity import Activity
from accelsim.units import KIB

INT_MAC = load_spec(MachineSpec, "tender-asic", kind="machine").int_mac
MACHINE = load_spec(MachineSpec, "ascend-910b-no-l2", kind="machine").model_copy(
    update={"int_mac": INT_MAC}
)
"""Has every unit, so that every count has a component to go to."""

TECHNOLOGIES = {
    name: load_spec(TechnologySpec, name, kind="technology") for name in ("7nm", "28nm")
}
ABSENT = ("l2_", "index_")
"""Memories that the machine does not have."""
BYTE_COUNTS = [
    name
    for name in Activity.__dataclass_fields__
    if name.endswith("_bytes") and not name.startswith(ABSENT)
]
COMPONENT = {name: name.rsplit("_", 2)[0] for name in BYTE_COUNTS}

counts = st.integers(min_value=0, max_value=10**12)
activities = st.builds(
    Activity,
    macs=st.dictionaries(st.sampled_from(list(TECHNOLOGIES["7nm"].cube)), counts),
    vector_elements=st.dictionaries(
        st.tuples(
            st.sampled_from(["add", "multiply", "exp", "reduce"]),
            st.sampled_from(list(TECHNOLOGIES["7nm"].vector)),
        ),
        counts,
    ),
    seconds=st.floats(min_value=0, max_value=10),
    **dict.fromkeys(BYTE_COUNTS, counts),
)
capacities = st.integers(min_value=4 * KIB, max_value=192 * KIB * KIB)


def energy_j(activity: Activity) -> dict[str, float]:
    return energy_by_component(activity, MACHINE, TECHNOLOGIES["7nm"])


@given(activities, st.sampled_from(BYTE_COUNTS))
def test_doubling_one_byte_count_adds_exactly_its_energy_to_its_component(activity, name):
    count = getattr(activity, name)
    alone = energy_j(
        replace(
            activity,
            macs={},
            vector_elements={},
            seconds=0.0,
            **{other: 0 for other in BYTE_COUNTS if other != name},
        )
    )
    before, after = energy_j(activity), energy_j(replace(activity, **{name: 2 * count}))
    added = {component: after[component] - before[component] for component in before}
    tolerance_j = 1e-12 * sum(after.values())
    expected = dict.fromkeys(before, 0.0) | {COMPONENT[name]: sum(alone.values())}
    assert added == pytest.approx(expected, rel=1e-9, abs=tolerance_j)


@given(activities, activities)
def test_two_runs_use_what_they_use_apart(first, second):
    both = Activity(
        macs={
            f: first.macs.get(f, 0) + second.macs.get(f, 0)
            for f in Format
            if f in first.macs or f in second.macs
        },
        vector_elements={
            key: first.vector_elements.get(key, 0) + second.vector_elements.get(key, 0)
            for key in {**first.vector_elements, **second.vector_elements}
        },
        seconds=first.seconds + second.seconds,
        **{name: getattr(first, name) + getattr(second, name) for name in BYTE_COUNTS},
    )
    apart = [energy_j(first), energy_j(second)]
    expected = {component: sum(run[component] for run in apart) for component in apart[0]}
    assert energy_j(both) == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(list(TECHNOLOGIES.values())), capacities, capacities)
def test_a_larger_sram_costs_more_per_byte_and_more_area_and_leakage(technology, one, other):
    small, large = (technology.sram.at(size) for size in sorted((one, other)))
    for cost in ("read", "write", "area", "leakage"):
        assert getattr(small, cost) <= getattr(large, cost) * (1 + 1e-12)
        assert (
            (getattr(small, cost) < getattr(large, cost))
            or one == other
            or (large.capacity / small.capacity < 1 + 1e-9)
        )


@given(capacities)
def test_the_newer_node_is_cheaper_at_every_capacity(capacity_bytes):
    new, old = (TECHNOLOGIES[name].sram.at(capacity_bytes) for name in ("7nm", "28nm"))
    assert new.read < old.read
    assert new.write < old.write
    assert new.area < old.area
