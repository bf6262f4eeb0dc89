"""`python -m benchmarks [name ...]`: measure, each benchmark in a process of its own, and print."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import commands, core, formats, products, repeats
from benchmarks.measure import Measurement
from benchmarks.structure import structure

BENCHMARKS = {
    each.__name__: each
    for each in (
        core.recording,
        core.scheduling,
        core.accounting,
        core.head,
        core.product,
        core.choosing,
        core.layer,
        core.cached_layer,
        core.large_product,
        core.bursts,
        repeats.repeats,
        repeats.turns,
        core.numbers,
        formats.formats,
        products.products,
        commands.starting,
        commands.sweeping,
        commands.generating,
        commands.compiling,
        structure,
    )
}
IN_THIS_PROCESS = "--in-this-process"
console = Console(width=None if sys.stdout.isatty() else 110)


def main(arguments: list[str]) -> None:
    """Print the table of the benchmarks named, or of all."""
    if arguments[:1] == [IN_THIS_PROCESS]:
        print(json.dumps([each.to_dict() for each in BENCHMARKS[arguments[1]]()]))
        return
    unknown = set(arguments) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"unknown benchmark '{min(unknown)}'; known: {', '.join(BENCHMARKS)}")
    console.print(machine_line(), highlight=False)
    table = Table("benchmark", title="Speed and memory", title_justify="left")
    for title in ("median", "range", "target"):
        table.add_column(title, justify="right", no_wrap=True)
    for name in arguments or BENCHMARKS:
        with Console(stderr=True).status(f"measuring {name}"):
            measured = in_own_process(name)
        table.add_section()
        for each in measured:
            middle, spread = each.shown
            many = len(each.samples) > 1
            table.add_row(each.name, f"{middle} {each.unit}", spread if many else "", each.target)
    console.print(table)


def in_own_process(name: str) -> list[Measurement]:
    """Return what a benchmark measures where nothing else has used memory or warmed up."""
    command = [sys.executable, "-m", "benchmarks", IN_THIS_PROCESS, name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Measurement(**each) for each in json.loads(done.stdout)]


def machine_line() -> str:
    """Return what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        model = next(names, model)
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "simpy"))
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {model}; Python {platform.python_version()}, {libraries}; "
        f"accelsim {version_of_accelsim()}; load {load:.1f}"
    )


def version_of_accelsim() -> str:
    """Return the version that is measured."""
    from accelsim import __version__

    return __version__


main(sys.argv[1:])
