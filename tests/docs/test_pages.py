"""The documentation shows what accelsim really prints and takes."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from accelsim.config.loader import load_spec, read_document
from accelsim.hardware.dram import DramSpec
from accelsim.hardware.machine import MachineSpec
from tests.sourced import is_covered, numbers

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def load_builder():
    spec = importlib.util.spec_from_file_location("build_examples", ROOT / "docs/build_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


builder = load_builder()
GENERATED = [page for page in builder.PAGES if "<!-- generated:" in page.read_text()]


def name_of(page):
    return str(page.relative_to(ROOT))


def structure(text):
    """A page without its rounding errors: those are the one thing another CPU may change."""
    lines = [
        re.sub(r"\d[\d.e-]*", "#", line) if re.search("RMSE|error", line) else line
        for line in text.splitlines()
    ]
    return [re.sub(r" +", " ", line) for line in lines]


@pytest.mark.parametrize("page", GENERATED, ids=name_of)
def test_generated_parts_are_up_to_date(page):
    text = page.read_text()
    assert structure(builder.filled(text)) == structure(text), "run docs/build_examples.py"


def test_a_stale_part_is_made_anew():
    page = "<!-- generated: file docs/examples/gemm_relu.py -->\nold\n<!-- end -->\nrest\n"
    made = builder.filled(page)
    assert "old" not in made
    assert "def gemm_relu(p, k):" in made
    assert made.endswith("```\n<!-- end -->\nrest\n")


def test_the_help_runs_nothing():
    """Pages took minutes and were written when somebody asked for help."""
    script = str(ROOT / "docs/build_examples.py")
    asked = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--long" in asked.stdout
    assert "<!-- generated: WHAT -->" in asked.stdout
    wrong = subprocess.run(
        [sys.executable, script, "--lng"], capture_output=True, text=True, check=False, timeout=60
    )
    assert wrong.returncode == 2


def test_a_part_that_takes_minutes_is_made_only_when_it_is_asked_for():
    page = "<!-- generated: long accelsim --version -->\nold\n<!-- end -->\n"
    assert builder.filled(page) == page
    assert "old" not in builder.filled(page, with_long=True)


@pytest.mark.parametrize("page", GENERATED, ids=name_of)
def test_parts_that_take_minutes_have_been_made(page):
    """They show the output of their command; whether it is still the same takes minutes too."""
    parts = re.findall(r"<!-- generated: long (.*?) -->\n(.*?)<!-- end -->", page.read_text(), re.S)
    missing = [command for command, made in parts if not made.startswith(f"```text\n$ {command}\n")]
    assert missing == [], "run docs/build_examples.py --long"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    targets = [page.parent / target for target in LINK.findall(page.read_text())]
    assert [str(target) for target in targets if not target.exists()] == []


def pasted_variant(page, folder):
    """Write the file of a page that extends another, and return its path."""
    blocks = (ROOT / f"docs/{page}.md").read_text().split("```yaml\n")[1:]
    (shown,) = [each.partition("```")[0] for each in blocks if each.startswith("extends:")]
    path = folder / "variant.yaml"
    path.write_text(shown)
    return path


@pytest.mark.parametrize(("page", "kind"), [("machines", "machine"), ("memory", "memory")])
def test_a_variant_that_is_shown_can_be_pasted(page, kind, tmp_path):
    path = pasted_variant(page, tmp_path)
    load_spec(MachineSpec if kind == "machine" else DramSpec, path, kind=kind)
    contents = read_document(path, kind=kind).value
    unsourced = [key for key in numbers(contents) if not is_covered(key, contents["sources"])]
    assert unsourced == []


def test_the_faster_memory_that_is_shown_has_no_faster_cells(tmp_path):
    path = pasted_variant("memory", tmp_path)
    slow, fast = (load_spec(DramSpec, each, kind="memory").timing for each in ("hbm3", path))
    of_interface = {"t_ck", "burst", "t_ccd_s", "t_ccd_l", "t_ccd_r", "t_ppd", "t_refi"}
    of_interface |= {"activate_width", "precharge_width"}
    for name in set(type(slow).model_fields) - of_interface:
        wanted_s = getattr(slow, name) * slow.t_ck
        assert wanted_s <= getattr(fast, name) * fast.t_ck < wanted_s + fast.t_ck, name
    assert 0 <= slow.t_refi * slow.t_ck - fast.t_refi * fast.t_ck < fast.t_ck


@pytest.mark.parametrize("saved", sorted((ROOT / "docs/examples").glob("*.out")), ids=name_of)
def test_examples_print_what_was_saved(saved):
    done = subprocess.run(
        [sys.executable, saved.with_suffix(".py")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert structure(done.stdout) == structure(saved.read_text())


def test_the_readme_shows_the_whole_loop_of_the_example():
    def code(text):
        return [line.partition("  #")[0].strip() for line in text.splitlines() if line.strip()]

    loop = (ROOT / "docs/examples/gemm_relu.py").read_text()
    start = loop.index("from accelsim"), loop.index("class Parameters")
    loop = loop[slice(*start)] + loop[loop.index("@al.jit") : loop.index("@al.register")]
    shown = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert code(shown) == code(loop)


def test_the_first_page_leads_to_every_other():
    index = (ROOT / "docs/index.md").read_text()
    linked = {(ROOT / "docs" / target).resolve() for target in LINK.findall(index)}
    others = {page for page in PAGES if page.parent.name != "examples"}
    assert others - {ROOT / "README.md", ROOT / "docs/index.md"} - linked == set()
