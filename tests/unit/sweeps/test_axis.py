import pytest
from pydantic import TypeAdapter, ValidationError

from accelsim.sweeps.axis import Axis, AxisRange, axis_values

AXIS: TypeAdapter[object] = TypeAdapter(Axis)


def axis_range(start: object, stop: object, points: int, **more: object) -> AxisRange:
    return AxisRange.model_validate({"from": start, "to": stop, "points": points, **more})


def test_a_list_is_its_values() -> None:
    assert axis_values(AXIS.validate_json('[1, 2.5, "64 KiB", true]', strict=True)) == [
        *(1, 2.5, "64 KiB", True)
    ]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        (axis_range("64 KiB", "1 MiB", 5), [f"{2**power} B" for power in range(16, 21)]),
        (axis_range(16, 256, 5), [16, 32, 64, 128, 256]),
        (axis_range(1, 10, 4, scale="linear"), [1, 4, 7, 10]),
        (axis_range(0.5, 2.0, 3), [0.5, 1.0, 2.0]),
        (
            axis_range("1 GHz", "2 GHz", 3, scale="linear"),
            ["1000000000.0 Hz", "1500000000.0 Hz", "2000000000.0 Hz"],
        ),
        (axis_range(10, 100, 4, multiple_of=16), [16, 48, 96]),
        (axis_range("10 kB", "40 kB", 3, multiple_of="1 KiB"), ["10240 B", "20480 B", "39936 B"]),
        (axis_range(1, 3, 9), [1, 2, 3]),
    ],
)
def test_a_range_stands_for_its_values(axis: AxisRange, values: list[object]) -> None:
    assert axis_values(axis) == values


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (
            ("64 KiB", "2 GHz", 3, {}),
            "from, to and multiple_of must have units of one kind",
        ),
        ((4, 8, 3, {"multiple_of": "2 B"}), "from, to and multiple_of must have units of one kind"),
        ((8, 4, 3, {}), "found from 8 to 4, allowed: from below to"),
        ((0, 4, 3, {}), "found from 0, allowed on a log scale: above 0"),
        ((1, 4, 3, {"multiple_of": 0}), "found multiple_of 0, allowed: above 0"),
        (("big", 4, 3, {}), "found 'big', expected a number or a quantity such as '64 KiB'"),
    ],
)
def test_ends_that_make_no_range(axis: tuple, message: str) -> None:
    start, stop, points, more = axis
    with pytest.raises(ValidationError) as caught:
        axis_range(start, stop, points, **more)
    assert [str(error["ctx"]["error"]) for error in caught.value.errors()] == [message]


@pytest.mark.parametrize("points", [1, 10_001])
def test_a_range_has_a_bounded_number_of_points(points: int) -> None:
    with pytest.raises(ValidationError, match=r"points\n"):
        axis_range(1, 10, points)
