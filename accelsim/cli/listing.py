"""What there is to choose from: kernels, machines, workloads, formats, and schemas of files."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from accelsim.cli.console import print_json, results
from accelsim.errors import printable
from accelsim.report.quantity import quantity_of

if TYPE_CHECKING:
    from accelsim.hardware.machine import MachineSpec
    from accelsim.numerics.block_formats import BlockLayout
    from accelsim.numerics.formats import Format


_PHASES = {"any": "prefill, decode", "equal": "decode", "one": "decode"}
"""Query rows that a kernel takes -> what it is for, in a table."""


_LARGEST_DIGITS = 5
"""Enough for the largest numbers of 16 bits and fewer."""


class SchemaKind(StrEnum):
    """Kinds of files a user writes."""

    MACHINE = "machine"
    WORKLOAD = "workload"
    SWEEP = "sweep"
    EXPLORATION = "exploration"
    SYSTEM = "system"


def kernels() -> None:
    """List the kernels and their parameters."""
    from accelsim.kernels.registry import get_kernel, kernel_names

    table = Table(
        *(_named("kernel"), "for", "phase", "exact", "what it does"),
        *(_named("parameter"), "default", "meaning"),
    )
    for name in kernel_names():
        kernel = get_kernel(name)
        lines = _parameters(kernel.parameters) or [("", "", "")]
        table.add_section()
        is_exact = "yes" if kernel.is_exact else "no"
        about = (kernel.problem_kind, _PHASES[kernel.query_rows], is_exact, kernel.summary)
        table.add_row(name, *about, *lines[0])
        for line in lines[1:]:
            table.add_row("", *("" for _ in about), *line)
    results.print(table)


def _named(title: str) -> Column:
    """Return a column of names, which are never cut: they are typed into other commands."""
    return Column(title, no_wrap=True, overflow="ignore")


def _parameters(model: Any) -> list[tuple[str, str, str]]:
    from accelsim.config.described import description_of

    return [
        (
            name,
            "absent" if field.default is None else str(field.default),
            " ".join(escape(description_of(model, name)).split()),
        )
        for name, field in model.model_fields.items()
    ]


def machines() -> None:
    """List the machines that ship with accelsim."""
    from accelsim.config.shipped import known_names
    from accelsim.loading import load_machine

    table = Table(_named("machine"), "cores", "clock", "scratchpad", "HBM", "description")
    for name in known_names("machine"):
        table.add_row(name, *_machine_cells(load_machine(name)))
    results.print(table)


def _machine_cells(machine: "MachineSpec") -> list[str]:
    return [
        str(machine.cores),
        quantity_of("clock_hz").show(machine.clock),
        quantity_of("scratchpad_bytes").show(machine.scratchpad.capacity),
        quantity_of("hbm_bytes_per_s").show(machine.hbm.bandwidth),
        escape(printable(machine.description)),
    ]


def workloads() -> None:
    """List the workloads that ship with accelsim."""
    from accelsim.config.shipped import known_names
    from accelsim.loading import load_workload
    from accelsim.models.layer_names import FORMS

    table = Table(_named("workload"), "kind", "shape", "MACs", "tensors")
    for name in known_names("workload"):
        workload = load_workload(name).problem
        tensors = getattr(workload, "tensors", None)
        source = tensors.source if tensors else "none"
        macs = quantity_of("macs").show(workload.macs)
        table.add_row(name, workload.kind, shape_of(workload), macs, source)
    layers = f"Layers of every model that `accelsim models` lists: {FORMS}."
    results.print(table, layers)


def shape_of(workload: Any) -> str:
    """Return the sizes of a workload as one short text."""
    if workload.kind == "layer":
        return f"{sum(part.count for part in workload.problems)} problems"
    if workload.kind == "gemm":
        return f"{workload.m} x {workload.n} x {workload.k}, {workload.dtype}"
    if workload.kind == "grouped_gemm":
        sizes = f"{workload.m} x {workload.n} x {workload.k}"
        return f"{sizes} of {len(workload.rows)} experts, {workload.dtype}"
    if workload.kind == "vector":
        return f"{workload.function} of {workload.rows} x {workload.cols}, {workload.dtype}"
    heads = f"{workload.num_sequences} x {workload.q_heads}/{workload.kv_heads} heads"
    mask = ", causal" if workload.causal else ""
    up_to = "up to " if workload.sequences else ""
    widths = "/".join(str(each) for each in dict.fromkeys(workload.widths))
    lengths = f"{up_to}{workload.most_queries} x {workload.most_keys} x {widths}"
    formats = " over ".join(dict.fromkeys((workload.dtype, workload.kv_format)))
    return f"{heads}, {lengths}, {formats}{mask}"


def formats() -> None:
    """List the number formats, and those whose elements share scales."""
    from accelsim.numerics.block_formats import BlockFormat
    from accelsim.numerics.formats import Format

    elements = Table(_named("format"), "bits", "exponent", "mantissa", "largest", "beyond", "NaN")
    for fmt in Format:
        elements.add_row(fmt, *_element_cells(fmt))
    titles = ("element", "scale", "block", "bits an element", "largest", "scale of the tensor")
    blocks = Table(_named("format with scales"), *titles)
    for block_format in BlockFormat:
        blocks.add_row(block_format, *_block_cells(block_format.layout))
    results.print(elements, blocks)


def _element_cells(fmt: "Format") -> list[str]:
    layout = fmt.layout
    of_nan = "NaN" if layout.has_nan else "largest"
    return [
        str(layout.bits),
        str(layout.exponent_bits or ""),
        str(layout.mantissa_bits),
        f"{layout.largest:.{_LARGEST_DIGITS}g}",
        "largest" if layout.saturates else "infinity",
        "0" if fmt.is_integer else of_nan,
    ]


def _block_cells(layout: "BlockLayout") -> list[str]:
    return [
        layout.element,
        layout.scale,
        str(layout.block * layout.across),
        f"{layout.bits:g}",
        f"{layout.largest:.{_LARGEST_DIGITS}g}",
        "fp32" if layout.has_tensor_scale else "",
    ]


def schema(
    kind: Annotated[SchemaKind, typer.Argument(help="Kind of the file.")],
) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    from accelsim.config.schema import file_schema

    print_json(file_schema(_model(kind)))


def _model(kind: SchemaKind) -> Any:
    if kind is SchemaKind.MACHINE:
        from accelsim.hardware.machine import MachineSpec

        return MachineSpec
    if kind is SchemaKind.WORKLOAD:
        from pydantic import TypeAdapter

        from accelsim.workload.problem import Workload

        return TypeAdapter(Workload)
    if kind is SchemaKind.SYSTEM:
        from accelsim.hardware.system import SystemSpec

        return SystemSpec
    if kind is SchemaKind.EXPLORATION:
        from accelsim.exploring.spec import ExploreSpec

        return ExploreSpec
    from accelsim.sweeps.spec import SweepSpec

    return SweepSpec
