from typing import Any

import pytest

from accelsim.errors import ConfigError
from accelsim.sweeps.constraints import Constraint

VALUES = {"tile_q": 128, "machine.cube.tile_m": 16, "kernel": "flash", "capacity": 512 * 1024} | {
    "weight": float("nan")
}
ALLOWED = (
    "allowed: names such as tile_q or machine.cube.tile_m, numbers, quoted quantities and words, "
    "+ - * / // %, comparisons, and, or, not"
)


def holds(text: str) -> bool:
    return Constraint(text).holds(VALUES.get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tile_q <= machine.cube.tile_m * 8", True),
        ("tile_q < machine.cube.tile_m * 8", False),
        ("tile_q % 3 == 0 or tile_q // 3 == 42", True),
        ("not (tile_q == 128 and kernel == 'flash')", False),
        ("kernel != 'dense'", True),
        ("64 < tile_q <= 128 < 256", True),
        ("64 < tile_q < 128", False),
        ("capacity == '512 KiB'", True),
        ("capacity / 2 >= '0.25 MiB' - 1 + -tile_q", True),
        ("  tile_q > 1e2  ", True),
        ("absent > 3", True),
        ("not absent", True),
    ],
)
def test_a_condition_is_evaluated(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_the_names_of_a_condition() -> None:
    assert Constraint("a < machine.b.c and (d or 3 > a)").names == {"a", "machine.b.c", "d"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("__import__('os').system('true')", "__import__('os').system('true')"),
        ("tile_q ** 99 > 1", "tile_q ** 99"),
        ("[tile_q]", "[tile_q]"),
        ("tile_q in kernel", "tile_q in kernel"),
        ("(lambda: 1)()", "(lambda: 1)()"),
        ("tile_q if kernel else 3", "tile_q if kernel else 3"),
        ("'a'.b", "'a'.b"),
        ("tile_q > 1j", "1j"),
        ("~tile_q", "~tile_q"),
        ("f'{tile_q}'", "f'{tile_q}'"),
    ],
)
def test_other_python_is_refused(text: str, found: str) -> None:
    with pytest.raises(ValueError, match=r"^found ") as caught:
        Constraint(text)
    assert str(caught.value) == f"found '{found}' in '{text}'; {ALLOWED}"


@pytest.mark.parametrize("text", ["tile_q <=", "", "a = 3", "(" * 200, "a b"])
def test_text_that_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"^cannot read ") as caught:
        Constraint(text)
    assert str(caught.value) == f"cannot read '{text}'; {ALLOWED}"


def test_a_condition_has_a_bounded_length() -> None:
    with pytest.raises(ValueError, match=r"^found 501 characters, allowed: 500$"):
        Constraint("1" * 501)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tile_q / 0 > 1", "division by zero; at tile_q = 128"),
        ("1 / 0 > 1", "division by zero; at every point"),
        ("1e308 * 10 > 1", "found the number inf, which is not finite; at every point"),
        ("1e999 > 1", "found the number inf, which is not finite; at every point"),
        ("weight < 1 or weight >= 1", "found the number nan, which is not finite; at weight = nan"),
        (
            f"{'9' * 320} / 2.5 > 1",
            "int too large to convert to float; at every point",
        ),
        ("kernel * 9999 == 'a'", "cannot calculate with 'flash'; at kernel = 'flash'"),
        ("-kernel == 'a'", "cannot calculate with 'flash'; at kernel = 'flash'"),
        (
            "kernel < tile_q",
            "'<' not supported between instances of 'str' and 'int'; "
            "at kernel = 'flash', tile_q = 128",
        ),
    ],
)
def test_values_that_a_condition_cannot_use(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        holds(text)
    assert str(caught.value) == f"constraint '{text}': {problem}"


def test_the_first_false_part_decides() -> None:
    values: dict[str, Any] = {"divisor": 0}
    assert Constraint("divisor == 0 or 1 / divisor > 2").holds(values.get)
