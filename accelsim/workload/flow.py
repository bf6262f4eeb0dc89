"""What a part of a layer reads of an earlier one: `part`, `part.output`, or columns of either."""

import re
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from accelsim.workload.base import TensorProblem

_COLUMNS = re.compile(r"\[(\d+):(\d+)\]$", re.ASCII)


class Source(NamedTuple):
    """An output of an earlier part, or some of its columns."""

    part: int
    """Number of the part."""
    output: str
    start: int
    """First of the columns."""
    stop: int
    """Column behind the last one."""
    columns: int
    """Of the whole output."""


def source_of(name: str, text: str, own: TensorProblem, earlier: Sequence[TensorProblem]) -> Source:
    """Return what the input `name` of a problem is; text: `part[.output][start:stop]`.

    Of parts with one name the latest counts. Raises ValueError, which says what is allowed, for
    what is not there or has another number of elements.
    """
    found = _COLUMNS.search(text)
    whole = text[: found.start()] if found else text
    part, output = _output_of(whole, f"{own.name} that reads {name} from {text}", earlier)
    shapes = own.input_shapes
    if name not in shapes:
        raise ValueError(
            f"found {own.name} that reads {name} from {text}, allowed: inputs {', '.join(shapes)}"
        )
    stored = earlier[part].output_shapes[output]
    start, stop = (int(each) for each in found.groups()) if found else (0, stored[-1])
    if not start < stop <= stored[-1]:
        raise ValueError(
            f"found {own.name} that reads {name} from {text}, "
            f"allowed: columns within 0:{stored[-1]}, one or more"
        )
    taken = (*stored[:-1], stop - start)
    if prod(taken) != prod(shapes[name]):
        raise ValueError(
            f"found {own.name} that reads {name} of {_times(shapes[name])} elements from {text} "
            f"of {_times(taken)}, allowed: equally many elements; "
            f"{earlier[part].name}[0:n] are the first n columns"
        )
    return Source(part, output, start, stop, stored[-1])


def _output_of(text: str, start: str, earlier: Sequence[TensorProblem]) -> tuple[int, str]:
    """Return the number of a part and its output; raises ValueError."""
    latest = {problem.name: number for number, problem in enumerate(earlier)}
    name, _, output = (text, "", "") if text in latest else text.rpartition(".")
    if name not in latest:
        allowed = ", ".join(latest) or "none, it is first"
        raise ValueError(f"found {start}, allowed: an earlier part: {allowed}")
    outputs = list(earlier[latest[name]].output_shapes)
    if output in outputs:
        return latest[name], output
    if not output and len(outputs) == 1:
        return latest[name], outputs[0]
    allowed = ", ".join(f"{name}.{each}" for each in outputs)
    raise ValueError(f"found {start}, allowed: {allowed}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
