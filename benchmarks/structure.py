"""Figures of the code's structure: how wide functions are, and how much of the kernels is loops."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Measurement

PACKAGE = Path(__file__).parents[1] / "accelsim"
_ESTIMATES = ("estimate", "tiles", "choice", "tiling")
"""Words in the names of files and folders that choose tiles by an estimate of time."""


@dataclass(frozen=True)
class Function:
    """One function of the package."""

    arguments: int
    """All but self and cls."""
    lines: int
    """From its decorators to its end."""
    is_jitted: bool
    in_kernels: bool


_KINDS = ("imports", "docstrings, comments, blank", "tuples and parameters", "loops", "layout")
"""What lines of kernels are, beside those that choose tiles; what is in several counts for the
first, and the rest is Python that lays out, declares and checks."""


def structure() -> list[Measurement]:
    """Widths of functions, and the lines of kernels."""
    functions = [each for path in sorted(PACKAGE.rglob("*.py")) for each in _functions(path)]
    widths = sorted(each.arguments for each in functions)
    kernels = {path: _lines(path) for path in (PACKAGE / "kernels").rglob("*.py")}
    of_algorithms = sum(n for path, n in kernels.items() if not _is_estimate(path))
    chosen = sum(kernels.values()) - of_algorithms
    looped = sum(each.lines for each in functions if each.is_jitted and each.in_kernels)
    share = 100 * looped / of_algorithms
    return [
        _figure("arguments of a function, p90", _p90(widths), "", "5"),
        _figure("arguments of a function, most", widths[-1], "", "9"),
        _figure("lines of kernels, thousands", of_algorithms / 1000, "", "< 6.5"),
        _figure("lines that choose tiles, thousands", chosen / 1000, ""),
        _figure("jitted loops, of the lines of kernels", share, "%", "35"),
        *(
            _figure(f"of these {kind}, thousands", number / 1000, "")
            for kind, number in _lines_by_kind(path for path in kernels if not _is_estimate(path))
        ),
    ]


def _figure(name: str, value: float, unit: str, target: str = "") -> Measurement:
    return Measurement(name=name, samples=[value], unit=unit, target=target)


def _p90(values: list[int]) -> int:
    return values[int(0.9 * (len(values) - 1))]


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _is_estimate(path: Path) -> bool:
    parts = path.relative_to(PACKAGE / "kernels").with_suffix("").parts
    return any(word in part.split("_") for part in parts for word in _ESTIMATES)


def _lines_by_kind(paths: Iterable[Path]) -> list[tuple[str, int]]:
    counts = Counter(kind for path in paths for kind in _kinds(path))
    return [(kind, counts[kind]) for kind in _KINDS]


def _kinds(path: Path) -> list[str]:
    """Return what each line of a file is, of _KINDS."""
    text = path.read_text()
    prose, layout = _KINDS[1], _KINDS[-1]
    kinds = [
        prose if not line.strip() or line.strip().startswith("#") else layout
        for line in text.splitlines()
    ]
    for node in ast.walk(ast.parse(text)):  # From the outside to the inside.
        kind = _kind(node)
        if kind:
            first = min(each.lineno for each in (node, *getattr(node, "decorator_list", ())))
            for line in range(first - 1, node.end_lineno):
                kinds[line] = kind if kinds[line] != prose else prose
    return kinds


def _kind(node: ast.AST) -> str | None:
    imports, prose, data, loops, layout = _KINDS
    match node:
        case ast.Import() | ast.ImportFrom():
            return imports
        case ast.Expr(value=ast.Constant(value=str())):
            return prose
        case ast.ClassDef() if any(_is_data(ast.unparse(each)) for each in node.bases):
            return data
        case ast.FunctionDef():
            return loops if _is_jitted(node) else layout
    return None


def _is_data(base: str) -> bool:
    return base.startswith("NamedTuple") or base.endswith(("Spec", "Parameters"))


def _is_jitted(node: ast.FunctionDef) -> bool:
    return any("jit" in ast.unparse(each) for each in node.decorator_list)


def _functions(path: Path) -> Iterator[Function]:
    in_kernels = "kernels" in path.relative_to(PACKAGE).parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            given = node.args
            names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            yield Function(
                arguments=len(names) - (names[:1] in (["self"], ["cls"])),
                lines=(node.end_lineno or first) - first + 1,
                is_jitted=_is_jitted(node),
                in_kernels=in_kernels,
            )
