"""A tile program as text: one op a line, stable, to be read and compared."""

from accelsim.numerics.formats import Format
from accelsim.program.ops import (
    ACCUMULATES_SHIFT,
    ACROSS_SHIFT,
    BITS_B_SHIFT,
    BLOCK_A_SHIFT,
    BLOCK_B_SHIFT,
    BLOCK_MASK,
    FIELD_MASK,
    SCALE_A_SHIFT,
    SCALE_B_SHIFT,
    SCALE_MASK,
    SHIFTS_SHIFT,
    Op,
)
from accelsim.program.program import OpRecord, Program


def format_program(program: Program, limit: int | None = None) -> str:
    """Return the tensors, buffers and ops of a program; at most `limit` ops."""
    lines = [f"program {program.name}"]
    lines += [
        f"  tensor {t.name} {t.role} {t.rows}x{t.cols} x {t.bits} bit at {t.address}"
        for t in program.tensors
    ]
    lines += [
        f"  buffer {b.name} {b.memory} {b.slots} x {b.rows}x{b.cols} x {b.bits} bit"
        f" = {b.size_bytes} B"
        for b in program.buffers
    ]
    shown = program.num_ops if limit is None else min(limit, program.num_ops)
    for item in range(program.num_items):
        first, end = program.item_start[item : item + 2]
        if first >= shown and shown < program.num_ops:
            break
        lines.append(f"item {item} phase {program.item_phase[item]}")
        lines += [
            "  " + format_op(program, program.decode(index))
            for index in range(first, min(end, shown))
        ]
    if shown < program.num_ops:
        lines.append(f"... and {program.num_ops - shown} more ops")
    return "\n".join(lines)


def format_op(program: Program, op: OpRecord) -> str:
    """Return one op as `index unit op result <- operands: size`."""
    return f"{format_operands(program, op)}: {_size(op)}"


def format_operands(program: Program, op: OpRecord) -> str:
    """Return one op as `index unit op result <- operands`."""
    target = ", ".join(program.slot_name(slot) for slot in op.writes)
    source = ", ".join(program.slot_name(slot) for slot in op.reads)
    if op.unit.name in ("LOAD", "STORE"):
        tensor = program.tensor_name(op.tensor)
        # What a gather reads on chip are the numbers of the rows.
        source = f"{tensor}[{source}]" if op.op == Op.GATHER else source or tensor
        target = target or tensor
    arrow = f"{target} <- {source}" if source else target
    return f"{op.index:>4} {op.unit.name.lower():<6} {op.op.name.lower():<8} {arrow}"


def _size(op: OpRecord) -> str:
    if op.op in (Op.LOAD, Op.STORE):
        return f"{op.b} rows x {op.c} B at {op.a} step {op.d}"
    if op.op == Op.GATHER:
        return f"{op.b} rows x {op.c} B from {op.a}, indices {op.d}.."
    if op.op == Op.MATMUL:
        formats = f"{op.operand_format} -> {op.accumulator_format}"
        bits = f"{op.d & FIELD_MASK} x {op.d >> BITS_B_SHIFT} bit"
        return f"{op.a}x{op.b}x{op.c} {formats} ({bits})"
    if op.op == Op.INT_MATMUL:
        formats = f"{op.operand_format} x {op.output_format} -> {op.accumulator_format}"
        return f"{op.a}x{op.b}x{op.c} {formats}, {op.d >> SHIFTS_SHIFT} shifts"
    if op.op in (Op.SCALED_MATMUL, Op.ALIGNED_MATMUL):
        formats = f"{op.operand_format} x {op.output_format} -> {op.accumulator_format}"
        return f"{op.a}x{op.b}x{op.c} {formats}, {_scales(op.d)}"
    if op.op == Op.MOVE:
        return f"{op.a}x{op.b} {op.accumulator_format} -> {op.output_format}"
    return f"{op.a}x{op.b} {Format(op.operand_format)}"


def _scales(d: int) -> str:
    formats = list(Format)
    left, right = (formats[d >> shift & SCALE_MASK] for shift in (SCALE_A_SHIFT, SCALE_B_SHIFT))
    of_a, of_b, across = (
        d >> shift & BLOCK_MASK for shift in (BLOCK_A_SHIFT, BLOCK_B_SHIFT, ACROSS_SHIFT)
    )
    added = " added" if d >> ACCUMULATES_SHIFT else ""
    return f"scales {left} 1x{of_a}, {right} {of_b}x{across}{added}"
