"""The streams of `accelsim.validation.dram`, with every command of the DRAM followed."""

from dataclasses import replace

from accelsim.validation.dram import REFERENCE as PLACED
from accelsim.validation.dram import achieved_bytes_per_s

REFERENCE = replace(
    PLACED,
    name="dram-commands",
    predict=lambda row: achieved_bytes_per_s(row, "commands"),
)
