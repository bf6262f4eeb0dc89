"""Which numbers of a machine or memory file a key of its `sources` speaks of."""

from collections.abc import Iterator
from typing import Any

from accelsim.config.document import dotted

WORDS = {"name", "description", "technology", "sources", "kind", "dataflow", "standard"}
WORDS |= {"formats", "overflow", "can_shift", "library", "duty"}


def numbers(node: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Key path of every value of a machine file that is a number or a quantity."""
    if not isinstance(node, dict):
        if node is not None:  # a part that is taken away has no number
            yield dotted(path)
        return
    for key, value in node.items():
        if key not in WORDS:
            yield from numbers(value, (*path, key))


def is_covered(path: str, sources: dict[str, str]) -> bool:
    """Whether a source speaks of the number at `path`, or of a part that holds it."""
    return any(path == key or path.startswith(f"{key}.") for key in sources)
