"""Grids, ids and Pareto fronts, over drawn inputs."""

import itertools
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from accelsim.sweeps.axis import AxisRange
from accelsim.sweeps.pareto import pareto_front
from accelsim.sweeps.points import expand
from accelsim.sweeps.resolve import digest
from accelsim.sweeps.spec import SweepSpec
from tests.unit.sweeps.fakes import read_fake

sizes = st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True)
names = st.lists(st.sampled_from(["prefill", "decode"]), min_size=1, unique=True)


def sweep_of(tile_q: list[int], tile_k: list[int], cores: list[int], **more: Any) -> SweepSpec:
    axes = {"tile_q": tuple(tile_q), "tile_k": tuple(tile_k), "machine.cores": tuple(cores)}
    base = {"name": "drawn", "machine": "big", "workloads": ("prefill",), "kernels": ("flash",)}
    return SweepSpec.model_validate({**base, "axes": axes, **more})


@given(sizes, sizes, sizes, names)
def test_the_grid_is_the_product_of_its_axes(
    tile_q: list[int], tile_k: list[int], cores: list[int], workloads: list[str]
) -> None:
    spec = sweep_of(tile_q, tile_k, cores, workloads=tuple(workloads))
    points = expand(spec, read_fake, "1.0").points
    found = [(point.workload, *point.settings.values()) for point in points]
    assert found == list(itertools.product(workloads, tile_q, tile_k, cores))
    assert len({point.id for point in points}) == len(points)


@given(sizes, sizes, sizes, st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_axes_and_values(
    tile_q: list[int], tile_k: list[int], cores: list[int], random: Any
) -> None:
    spec = sweep_of(tile_q, tile_k, cores)
    axes = [(key, tuple(random.sample(axis, len(axis)))) for key, axis in spec.axes.items()]
    random.shuffle(axes)
    shuffled = SweepSpec.model_validate({**spec.model_dump(), "axes": dict(axes)})
    ids = [{each.id for each in expand(one, read_fake, "1.0").points} for one in (spec, shuffled)]
    assert ids[0] == ids[1]


@given(sizes, sizes, st.integers(1, 99))
def test_constraints_split_the_grid(tile_q: list[int], cores: list[int], limit: int) -> None:
    def expanded(*constraints: str) -> set[str]:
        spec = sweep_of(tile_q, [8], cores, constraints=constraints)
        return {each.id for each in expand(spec, read_fake, "1.0").points}

    below = expanded(f"tile_q * machine.cores < {limit}")
    above = expanded(f"not tile_q * machine.cores < {limit}")
    assert below | above == expanded()
    assert not below & above


@given(st.dictionaries(st.text(), st.integers() | st.text(), min_size=2))
def test_a_digest_ignores_the_order_of_keys(contents: dict[str, Any]) -> None:
    assert digest(contents) == digest(dict(reversed(contents.items())))


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.integers(2, 50),
    st.sampled_from(["log", "linear"]),
)
def test_ranges_rise_from_end_to_end(start: int, length: int, points: int, scale: str) -> None:
    stop = start + length
    values = AxisRange.model_validate(
        {"from": start, "to": stop, "points": points, "scale": scale}
    ).values()
    assert values[0] == start
    assert values[-1] == stop
    assert values == sorted(set(values))
    assert len(values) <= points


costs = st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=30)


@given(costs)
def test_the_front_is_what_no_other_row_beats(rows: list[tuple[int, int, int]]) -> None:
    columns = dict(zip("abc", np.array(rows, dtype=int).reshape(-1, 3).T, strict=True))
    front = pareto_front(columns, minimize=["a", "b"], maximize=["c"])

    def beats(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        return one != other and one[0] <= other[0] and one[1] <= other[1] and one[2] >= other[2]

    assert front.tolist() == [not any(beats(other, row) for other in rows) for row in rows]
