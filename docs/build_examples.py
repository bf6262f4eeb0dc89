"""Fill the generated parts of the documentation: real output of commands, tables of keys.

A part stands between `<!-- generated: WHAT -->` and `<!-- end -->`, where WHAT is

    run COMMAND     the command and what it prints, as a user sees it (`accelsim ...`)
    long COMMAND    the same of a command that takes minutes; made anew with `--long` only
    keys KIND       keys of a file of this kind (machine, workload, sweep, ...), or of kernels
    calls PATH      the public functions of a module of the kernel language
    file PATH       a file of the repository, Python without its first docstring

Run `python docs/build_examples.py` after a change; a test fails when a part is out of date.
"""

import argparse
import ast
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_PART = re.compile(r"(<!-- generated: (\w+) (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)
_VISIBLE = ("experiments", "benchmarks", "docs")
"""Folders of the repository that a command may name."""

Schema = dict[str, Any]


def filled(page: str, with_long: bool = False) -> str:
    """Return the text of a page with its generated parts made anew, or all but the long ones."""

    def fill(match: re.Match[str]) -> str:
        head, what, argument, end = match.groups()
        if what == "long" and not with_long:
            return match[0]
        return f"{head}{_MAKERS[what](argument)}\n{end}"

    return _PART.sub(fill, page)


def output_of(command: str) -> str:
    """Return the block of a command and its output, run in an empty folder."""
    words = shlex.split(command)
    python = [sys.executable, "-m"] if words[0] == "accelsim" else [sys.executable]
    arguments = words if words[0] == "accelsim" else words[1:]
    with tempfile.TemporaryDirectory() as folder:
        for name in _VISIBLE:
            (Path(folder) / name).symlink_to(ROOT / name)
        done = subprocess.run(
            [*python, *arguments],
            cwd=folder,
            env={**_environment(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    printed = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
    return f"```text\n$ {command}\n{printed}\n```"


def _environment() -> dict[str, str]:
    # The width of a table must not depend on the terminal of whoever builds the pages.
    return {name: value for name, value in os.environ.items() if name != "COLUMNS"}


def keys_of(kind: str) -> str:
    """Return the table of the keys of a kind of file, or of the parameters of all kernels."""
    from pydantic import TypeAdapter

    from accelsim.config.schema import json_schema
    from accelsim.exploring.spec import ExploreSpec
    from accelsim.hardware.machine import MachineSpec
    from accelsim.kernels.registry import get_kernel, kernel_names
    from accelsim.sweeps.spec import SweepSpec
    from accelsim.workload.generation import GenerationSpec
    from accelsim.workload.problem import Workload

    if kind == "generation":
        return _table(json_schema(GenerationSpec))
    if kind == "machine":
        return _table(json_schema(MachineSpec))
    if kind == "workload":
        root = json_schema(TypeAdapter(Workload))
        return "\n\n".join(_named_table(name, root) for name in _WORKLOAD_PARTS)
    if kind == "exploration":
        return _table(_further_keys(json_schema(ExploreSpec), json_schema(SweepSpec)))
    if kind == "sweep":
        root = json_schema(SweepSpec)
        return f"{_table(root)}\n\n{_named_table('AxisRange', root)}"
    tables = {name: json_schema(get_kernel(name).parameters) for name in kernel_names()}
    return "\n\n".join(f"**`{name}`**\n\n{_table(schema)}" for name, schema in tables.items())


def _further_keys(root: Schema, base: Schema) -> Schema:
    """Return the schema without the keys that `base` has too."""
    further = root["properties"].keys() - base["properties"]
    own = {key: field for key, field in root["properties"].items() if key in further}
    return {**root, "properties": own}


_WORKLOAD_PARTS = {
    "AttentionProblem": "`kind: attention`",
    "SequenceSpec": "An entry of `sequences`",
    "GemmProblem": "`kind: gemm`",
    "GroupedGemmProblem": "`kind: grouped_gemm`",
    "VectorProblem": "`kind: vector`",
    "LayerProblem": "`kind: layer`",
    "UniformSource": "`source: uniform`",
    "HybridSource": "`source: hybrid`",
    "FileSource": "`source: file`",
    "ModelHeadsSource": "`source: model`, attention",
    "ModelLinearSource": "`source: model`, gemm",
}
_TITLES = {**_WORKLOAD_PARTS, "AxisRange": "A range"}


def _named_table(name: str, root: Schema) -> str:
    schema = {**root["$defs"][name], "$defs": root["$defs"]}
    return f"**{_TITLES[name]}**: {schema['description']}\n\n{_table(schema)}"


def _table(root: Schema) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    lines += [" | ".join(("", *row, "")).strip() for row in _rows(root, root, "")]
    return "\n".join(lines)


def _rows(schema: Schema, root: Schema, prefix: str) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        models = _models(field, root)
        if not models or "anyOf" in field:
            default = field.get("default")
            shown = "required" if name in required else "" if default in (None, [], {}) else default
            meaning = " ".join(field.get("description", "").split())
            value = "mapping" if models else _value(field, root)
            yield f"`{prefix}{name}`", value, str(shown), meaning.replace("|", "\\|")
        if len(models) == 1:
            yield from _rows(models[0], root, f"{prefix}{name}.")
        elif models:
            yield from _union_rows(models, root, f"{prefix}{name}.")


def _models(field: Schema, root: Schema) -> list[Schema]:
    """Return the models behind a key, several for a union; none where it has a value or a table."""
    branches = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    if len(branches) != 1:
        return []
    names = [each.get("$ref", "").rpartition("/")[2] for each in branches[0].get("oneOf", branches)]
    models = [root.get("$defs", {}).get(name, {}) for name in names]
    has_table = bool(_TITLES.keys() & set(names))
    return models if all("properties" in model for model in models) and not has_table else []


def _union_rows(branches: list[Schema], root: Schema, prefix: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys of all branches; those that not all have say with which kind they go."""
    shown = set()
    for branch in branches:
        kind = branch["properties"]["kind"]["const"]
        for key, *rest in _rows(branch, root, prefix):
            name = key.strip("`").removeprefix(prefix)
            is_common = all(name.split(".")[0] in each["properties"] for each in branches)
            if not is_common:
                yield f"{key}, `kind: {kind}`", *rest
            elif key not in shown:
                shown.add(key)
                kinds = ", ".join(f"`{each['properties']['kind']['const']}`" for each in branches)
                yield (key, kinds, *rest[1:]) if name == "kind" else (key, *rest)


def _value(field: Schema, root: Schema) -> str:
    """Return what may stand behind a key, in words."""
    if "$ref" in field:
        return _value(root["$defs"][field["$ref"].rpartition("/")[2]], root)
    if "const" in field or "enum" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "examples" in field:
        return f"quantity, `{field['examples'][0]}`"
    branches = [each for each in field.get("anyOf", ()) if each.get("type") != "null"]
    if branches:
        return " or ".join(dict.fromkeys(_value(each, root) for each in branches))
    if "oneOf" in field:
        return "mapping, see below"
    words = {"object": "mapping", "array": "list", "integer": "integer", "string": "text"}
    return words.get(field.get("type", ""), field.get("type", ""))


_LANGUAGES = {".yaml": "yaml", ".patch": "diff", ".out": "text"}
"""Languages of the blocks of files, but for Python."""


def file_of(path: str) -> str:
    """Return a file as a block; that of a Python file without its first docstring."""
    suffix = Path(path).suffix
    if suffix in _LANGUAGES:
        return f"```{_LANGUAGES[suffix]}\n{(ROOT / path).read_text().strip()}\n```"
    source = (ROOT / path).read_text()
    first = ast.parse(source).body[0]
    lines = source.splitlines()[first.end_lineno or 0 :]
    return "```python\n" + "\n".join(lines).strip("\n") + "\n```"


def calls_of(path: str) -> str:
    """Return the table of the functions of the kernel language, from their source."""
    from accelsim.program.ops import UNIT_NAMES, UNIT_OF_OP, Op

    lines = ["| call (after `p`) | unit | cost key | meaning |", "|---|---|---|---|"]
    for node in ast.parse((ROOT / path).read_text()).body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        used = [each.id[1:] for each in ast.walk(node) if isinstance(each, ast.Name)]
        op = next((Op[name] for name in used if name in Op.__members__), None)
        if node.name.startswith("matmul"):
            op = Op.MATMUL
        unit = UNIT_NAMES[UNIT_OF_OP[op]] if op is not None else ""
        cost = op.name.lower() if unit == "vector" and op is not None else ""
        arguments = ", ".join(each.arg for each in node.args.args if each.arg != "p")
        meaning = " ".join((ast.get_docstring(node) or "").split()).replace("|", "\\|")
        lines.append(f"| `{node.name}({arguments})` | {unit} | {cost} | {meaning} |")
    return "\n".join(lines)


_MAKERS = {
    "calls": calls_of,
    "run": output_of,
    "long": output_of,
    "keys": keys_of,
    "file": file_of,
}


def main() -> None:
    """Bring every page up to date and say which ones changed."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--long", action="store_true", help="also run commands that take minutes")
    with_long = parser.parse_args().long
    for page in PAGES:
        before = page.read_text()
        after = filled(before, with_long)
        if after != before:
            page.write_text(after)
            print(f"updated {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
