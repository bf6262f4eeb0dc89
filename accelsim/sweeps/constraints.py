"""Conditions on the points of a sweep: a small, safe part of Python's expressions."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any, cast

from accelsim.errors import ConfigError
from accelsim.sweeps.quantities import parse_any_quantity

MAX_LENGTH = 500

_ALLOWED = (
    "names such as tile_q or machine.cube.tile_m, numbers, quoted quantities and words, "
    "+ - * / // %, comparisons, and, or, not"
)
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}

_ALLOWED_NODES = (
    *(ast.Name, ast.BoolOp),
    *(ast.expr_context, ast.operator, ast.cmpop, ast.boolop, ast.unaryop),
)

LookUp = Callable[[str], Any]
"""Dotted name -> value at one point, or None where the point has no such value."""


class Constraint:
    """One condition, parsed and checked; holds at points where one of its names has no value."""

    def __init__(self, text: str) -> None:
        """Raises ValueError if `text` is not an expression of the allowed kind."""
        self.text = text
        self._root = _parsed(text)
        self.names = frozenset(_names(self._root))

    def holds(self, look_up: LookUp) -> bool:
        """Whether the condition is true for the values that `look_up` returns.

        Raises ConfigError for a division by zero, for a number that is not finite and for text
        where a number is needed.
        """
        if any(look_up(name) is None for name in self.names):
            return True
        try:
            return bool(_value(self._root, look_up))
        except (ArithmeticError, TypeError) as error:
            values = ", ".join(f"{name} = {look_up(name)!r}" for name in sorted(self.names))
            message = f"constraint '{self.text}': {error}; at {values or 'every point'}"
            raise ConfigError([message]) from None


def _parsed(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ValueError(f"found {len(text)} characters, allowed: {MAX_LENGTH}")
    try:
        root = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"cannot read '{text}'; allowed: {_ALLOWED}") from None
    for node in ast.walk(root):
        if not _is_allowed(node):
            found = ast.get_source_segment(text.strip(), node) or type(node).__name__
            raise ValueError(f"found '{found}' in '{text}'; allowed: {_ALLOWED}")
    return root


def _is_allowed(node: ast.AST) -> bool:
    match node:
        case ast.Constant():
            return isinstance(node.value, bool | int | float | str)
        case ast.Attribute():
            return isinstance(node.value, ast.Name | ast.Attribute)
        case ast.BinOp():
            return type(node.op) in _ARITHMETIC
        case ast.Compare():
            return all(type(comparison) in _COMPARISONS for comparison in node.ops)
        case ast.UnaryOp():
            return isinstance(node.op, ast.Not | ast.USub)
    return isinstance(node, _ALLOWED_NODES)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        return [ast.unparse(node)]
    return [name for child in ast.iter_child_nodes(node) for name in _names(child)]


def _value(node: ast.expr, look_up: LookUp) -> Any:
    match node:
        case ast.Constant():
            return _finite(_constant(node.value))
        case ast.Name() | ast.Attribute():
            return _finite(look_up(ast.unparse(node)))
        case ast.UnaryOp():
            operand = _value(node.operand, look_up)
            return not operand if isinstance(node.op, ast.Not) else -_numeric(operand)
        case ast.BoolOp():
            combine = all if isinstance(node.op, ast.And) else any
            return combine(_value(operand, look_up) for operand in node.values)
        case ast.BinOp():
            left, right = _value(node.left, look_up), _value(node.right, look_up)
            return _finite(_ARITHMETIC[type(node.op)](_numeric(left), _numeric(right)))
    comparison = cast(ast.Compare, node)
    values = [_value(each, look_up) for each in (comparison.left, *comparison.comparators)]
    return _chain_holds(comparison.ops, values)


def _chain_holds(comparisons: list[ast.cmpop], values: list[Any]) -> bool:
    pairs = zip(comparisons, values[:-1], values[1:], strict=True)
    return all(_COMPARISONS[type(compare)](left, right) for compare, left, right in pairs)


def _constant(value: Any) -> Any:
    quantity = parse_any_quantity(value) if isinstance(value, str) else None
    return value if quantity is None else quantity[0]


def _numeric(value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError(f"cannot calculate with '{value}'")
    return value


def _finite(value: Any) -> Any:
    """Return a number; raise ArithmeticError for one that no comparison says anything about."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ArithmeticError(f"found the number {value}, which is not finite")
    return value
