"""The references by name; each is imported when it is asked for."""

from importlib import import_module
from typing import Any

from accelsim.errors import unknown_name
from accelsim.validation.reference import Reference

_MODULES = {
    "scalesim": "scalesim",
    "dram": "dram",
    "dram-commands": "dram_commands",
    "roofline": "roofline",
    "ascend-910b": "ascend_910b",
    "published-steps": "published_steps",
    "h200": "h200",
    "h200-energy": "h200_energy",
    "h200-energy-boards": "h200_energy_boards",
    "h200-moe": "h200_moe",
    "h200-steps": "h200_steps",
    "h200-tp2": "h200_tp2",
    "nccl": "nccl",
    "h200-breakdown": "h200_breakdown",
    "h200-vector": "h200_vector",
    "h200-vector-held-out": "h200_vector_held_out",
    "h200-fp8kv": "h200_fp8kv",
    "h200-gather": "h200_gather",
    "h200-gather-replays": "h200_gather_replays",
    "h200-gather-energy": "h200_gather_energy",
}
"""Name -> module of this package that holds the REFERENCE."""

REFERENCE_NAMES = tuple(_MODULES)


def get_reference(name: str) -> Reference[Any]:
    """Return the reference called `name`; raises UnknownNameError."""
    if name not in _MODULES:
        raise unknown_name("reference", name, _MODULES)
    reference: Reference[Any] = import_module(f"accelsim.validation.{_MODULES[name]}").REFERENCE
    return reference
