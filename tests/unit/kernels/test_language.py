"""The prelude of kernels has every call of the language, for those who read it and for mypy."""

import ast
from pathlib import Path

from accelsim import language as outside
from accelsim.kernels import language as inside
from accelsim.program import language as calls


def test_kernels_inside_and_outside_have_the_same_names_but_for_register():
    assert set(calls.__all__) < set(inside.__all__)
    assert set(outside.__all__) == {*inside.__all__, "register"}
    assert all(hasattr(outside, name) for name in outside.__all__)


def test_type_checkers_are_told_of_every_file_of_calls():
    tree = ast.parse(Path(inside.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    told = {each.module for block in blocks for each in block.body}
    files = {path.stem for path in Path(calls.__file__).parent.glob("*.py")} - {"__init__"}
    assert told == {f"{calls.__name__}.{name}" for name in files}
