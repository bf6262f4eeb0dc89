"""Numbers with units whose dimension is known only from the unit."""

from accelsim.units import FACTORS, parse_quantity


def parse_any_quantity(text: str) -> tuple[float, str] | None:
    """Return the value of `text` in its base unit and that unit, or None if it is no quantity.

    `512 KiB` gives (524288.0, "B").
    """
    for dimension, factors in FACTORS.items():
        try:
            value = parse_quantity(text, dimension)
        except ValueError:
            continue
        return value, next(unit for unit, factor in factors.items() if factor == 1.0)
    return None
