"""The architecture: who may import whom, and which package owns which library."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import accelsim

PACKAGE = Path(accelsim.__file__).parent

GROUND = {"errors", "units", "version", "runtime"}
SPECS = GROUND | {"config", "numerics"}
MODELS = SPECS | {"hardware", "program"}
LAYERS = {
    "errors": set(),
    "units": {"errors"},
    "version": set(),
    "runtime": {"errors", "units", "version"},
    "config": GROUND,
    "numerics": GROUND,
    "workload": SPECS,
    "quantization": SPECS | {"workload"},
    "program": SPECS,
    "hardware": SPECS | {"program"},
    "collectives": SPECS | {"workload", "hardware"},
    "kernels": MODELS | {"workload", "quantization"},
    "language": MODELS | {"kernels"},
    "library": MODELS | {"workload", "kernels"},
    "engine": MODELS,
    "accounts": MODELS | {"engine"},
    "report": MODELS | {"workload", "engine", "accounts"},
    "models": SPECS | {"workload"},
    "inference": MODELS
    | {"workload", "models", "library", "accounts", "report", "loading", "bench", "simulation"}
    | {"collectives"},
    "loading": SPECS | {"workload", "hardware", "models"},
    "choosing": MODELS | {"workload", "kernels", "library", "engine"},
    "layer": MODELS | {"workload", "library", "accounts", "report"},
    "bench": MODELS
    | {"workload", "kernels", "library", "engine", "accounts", "report", "loading"}
    | {"choosing"},
    "simulation": MODELS
    | {"workload", "kernels", "library", "report", "loading", "layer", "bench"},
    "sweeps": MODELS
    | {"workload", "kernels", "library", "accounts", "report", "loading", "simulation"}
    | {"models", "inference", "bench"},
    "exploring": GROUND | {"config", "sweeps"},
    "quality": MODELS
    | {"workload", "quantization", "kernels", "library", "report", "bench", "simulation"},
    "validation": MODELS
    | {
        "models",
        "inference",
        "workload",
        "kernels",
        "library",
        "engine",
        "accounts",
        "report",
        "loading",
        "bench",
        "collectives",
    }
    | {"simulation"},
    "plotting": GROUND | {"report"},
    "cli": MODELS
    | {"workload", "quantization", "kernels", "library", "report", "loading", "simulation"}
    | {"models", "inference", "sweeps", "exploring", "quality", "plotting", "validation"},
    "__main__": {"cli", "runtime"},
    "__init__": {"version", "library", "loading", "report", "simulation", "sweeps", "quality"}
    | {"inference", "models", "exploring"},
}
"""Layer -> the layers it may import; `kernels` and `engine` meet only in `program`."""

COMPILED = {"runtime", "numerics", "hardware", "program", "kernels", "engine", "accounts"}
DOORS = {
    "simpy": {"engine"},
    "matplotlib": {"plotting"},
    "yaml": {"config"},
    "dask": {"runtime"},
    "distributed": {"runtime"},
    "sqlite3": {"sweeps"},
    "numba": COMPILED,
    "llvmlite": COMPILED,
    "gguf": {"workload"},
    "safetensors": {"workload"},
    "tokenizers": {"workload"},
    "typer": {"cli"},
    "rich": {"cli", "inference", "report", "sweeps", "quality", "validation"},
    "pandas": {"report", "sweeps", "exploring", "plotting", "cli"},
    "optuna": {"exploring"},
    "scipy": {"exploring"},
}
"""Library -> the only layers that may import it."""

COMPILERS = {"njit", "jit", "vectorize", "guvectorize", "stencil", "cfunc"}
HEAVY = (
    "numba",
    "pandas",
    "matplotlib",
    "dask",
    "distributed",
    "simpy",
    "pyarrow",
    "optuna",
    "scipy",
)


def layer_of(path: Path, package: Path) -> str:
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that `path` imports, `from` imports with the imported name at the end."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(package: Path) -> list[str]:
    """Imports that the tables do not allow, as `file imports name` lines."""
    return [
        f"{path.relative_to(package)} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for name in imports_of(path)
        if not is_allowed(layer_of(path, package), name)
    ]


def is_allowed(layer: str, name: str) -> bool:
    library, *inside = name.split(".")
    if library == "accelsim":
        return bool(inside) and inside[0] in LAYERS[layer] | {layer}
    return library != "" and layer in DOORS.get(library, {layer})


def bare_compilers(path: Path) -> list[str]:
    """Uses of Numba's own decorators in `path`."""
    tree = ast.parse(path.read_text())
    imported = [name for name in imports_of(path) if name.rpartition(".")[2] in COMPILERS]
    used = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return [name for name in imported + used if name.startswith("numba.") and is_compiler(name)]


def is_compiler(name: str) -> bool:
    return name.rpartition(".")[2] in COMPILERS


def test_every_module_imports_downwards_and_uses_only_its_own_libraries():
    assert violations(PACKAGE) == []


def test_every_layer_is_listed():
    found = {layer_of(path, PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert found <= set(LAYERS)


def test_the_table_of_layers_has_no_cycle():
    placed: set[str] = set()
    while ready := {layer for layer, below in LAYERS.items() if below <= placed} - placed:
        placed |= ready
    assert placed == set(LAYERS)


@pytest.mark.parametrize(
    ("line", "reported"),
    [
        (
            "from accelsim.kernels.registry import get_kernel",
            "accelsim.kernels.registry.get_kernel",
        ),
        ("import accelsim", "accelsim"),
        ("from accelsim import simulate", "accelsim.simulate"),
        ("from ..kernels import registry", "..kernels.registry"),
        ("import matplotlib.pyplot", "matplotlib.pyplot"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, line, reported):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "compiled.py").write_text(f"import simpy\ndef run():\n    {line}\n")
    assert violations(tmp_path) == [f"engine/compiled.py imports {reported}"]


def test_everything_is_compiled_through_the_one_decorator():
    found = {
        str(path): bare_compilers(path)
        for path in PACKAGE.rglob("*.py")
        if layer_of(path, PACKAGE) != "runtime"
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("text", ["from numba import njit", "import numba\nf = numba.njit(len)"])
def test_a_bare_compiler_is_found(tmp_path, text):
    (tmp_path / "kernel.py").write_text(text)
    assert bare_compilers(tmp_path / "kernel.py") == ["numba.njit"]


@pytest.mark.parametrize(
    "program",
    [
        "import accelsim",
        "import accelsim.cli.main",
        "from typer.testing import CliRunner; from accelsim.cli.main import app; "
        "assert 'compare' in CliRunner().invoke(app, ['--help']).stdout",
    ],
)
def test_no_heavy_library_is_imported_before_it_is_needed(program):
    report = f"; import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program + report], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
